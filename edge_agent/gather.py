"""Several topics that are one read: what each message makes of the whole, as JSON for the profile to read.

``Map``: ``texts``, the last of each topic by what the wildcard stands for. ``Node``: a Sparkplug edge node.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

from edge_agent.sparkplug import NAMESPACE, EdgeNode, Heard, Kind
from edge_agent.sparkplug_payload import PayloadError

# Device and read.
Taker = tuple[str, str]

WILDCARD = "+"
# No longer than what is read as JSON.
MAX_MAP_BYTES = 60 << 10
MAX_TEXT_BYTES = 4 << 10


class GatherError(ValueError):
    """The message is none of its kind; the text says why."""


class Gatherer(Protocol):
    """All reads of one topic filter. ``max_bytes``: no longer message is given to it."""

    max_bytes: int

    def take(self, topic: str, payload: bytes, *, retained: bool) -> Sequence[tuple[Taker, bytes]]:
        """Who hears what of this message. Raises GatherError."""

    def reconnected(self, *, kept: bool) -> None:
        """The connection was away; ``kept``: the broker has kept for us what has QoS 1."""

    def settled(self) -> Sequence[tuple[Taker, bytes]]:
        """All that was retained has come again since: who hears what of what has not."""


class Map:
    """``topic`` has one level that is ``+``; an empty message takes its key away.

    Of what is emptied while nobody listens nothing is left to hear: it is what does not come again.
    """

    max_bytes = MAX_TEXT_BYTES

    def __init__(self, topic: str, takers: Sequence[Taker]) -> None:
        self._level = topic.split("/").index(WILDCARD)
        self._takers = takers
        self._texts: dict[str, str] = {}
        # Keys that came over this connection.
        self._heard: set[str] = set()

    def take(self, topic: str, payload: bytes, *, retained: bool) -> Sequence[tuple[Taker, bytes]]:
        key = topic.split("/")[self._level]
        texts = {name: text for name, text in self._texts.items() if name != key}
        if payload:
            texts[key] = payload.decode("utf-8", "replace")
        said = self._say(texts)
        self._heard.add(key)
        return said

    def reconnected(self, *, kept: bool) -> None:
        """What is known stands until all that is retained has come: no alert ends for a moment."""
        self._heard.clear()

    def settled(self) -> Sequence[tuple[Taker, bytes]]:
        return self._say({key: text for key, text in self._texts.items() if key in self._heard})

    def _say(self, texts: dict[str, str]) -> Sequence[tuple[Taker, bytes]]:
        frame = json.dumps({"texts": texts}, ensure_ascii=False).encode()
        if len(frame) > MAX_MAP_BYTES:
            raise GatherError(f"all topics together are more than {MAX_MAP_BYTES >> 10} KiB")
        self._texts = texts
        return [(taker, frame) for taker in self._takers]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What one read of a node wants: the node's own metrics (``device`` None) or those of a device."""

    device: str | None
    wanted: frozenset[str]


class Node:
    """Everybody hears the lives of a node and what is his own; the rest only counts."""

    # As much as MQTT carries: a birth that is too long to be read has to be known of.
    max_bytes = 256 << 20

    def __init__(self, views: Mapping[Taker, View]) -> None:
        self._views = views
        self._told: dict[Taker, tuple[object, ...]] = {}
        self._fresh()

    def take(self, topic: str, payload: bytes, *, retained: bool) -> Sequence[tuple[Taker, bytes]]:
        kind, device = _addressed(topic)
        # The specification has nothing of this retained: it would be old, and may be of a session long ago.
        if kind is None or retained:
            return []
        try:
            said = self._node.take(kind, device, payload)
        except PayloadError as error:
            raise GatherError(f"{kind} is no payload of Sparkplug B: {error}") from error
        if said is None:
            return []
        heard = {
            taker: self._node.heard(kind, said, of=device, device=view.device, wanted=view.wanted)
            for taker, view in self._views.items()
        }
        return [(taker, _frame(one)) for taker, one in heard.items() if self._is_news(taker, one)]

    def reconnected(self, *, kept: bool) -> None:
        """A death would have been kept for us; births are not, and without them aliases mean nothing."""
        if kept:
            self._node.missed_some()
        else:
            self._fresh()

    def settled(self) -> Sequence[tuple[Taker, bytes]]:
        """Nothing of Sparkplug is retained."""
        return ()

    def _fresh(self) -> None:
        self._node = EdgeNode({view.device for view in self._views.values() if view.device is not None})
        self._told.clear()

    def _is_news(self, taker: Taker, heard: Heard) -> bool:
        state = (heard.node, heard.device, heard.birth, heard.lost)
        changed = self._told.get(taker) != state
        self._told[taker] = state
        return changed or heard.is_about or bool(heard.bad)


def node_topic(topic: str) -> str:
    """All messages of the node in ``group/node`` or ``group/node/device``; ValueError for another text."""
    levels = topic.split("/")
    if len(levels) not in (2, 3) or not all(levels) or any(sign in topic for sign in "+#\0"):
        raise ValueError(f"{topic!r}: expected group/node, or group/node/device")
    return f"{NAMESPACE}/{levels[0]}/+/{levels[1]}/#"


def device_in(topic: str) -> str | None:
    """The device in ``group/node/device``."""
    return topic.split("/")[2] if topic.count("/") == 2 else None


def _addressed(topic: str) -> tuple[Kind | None, str | None]:
    """The kind of message and the device; None for one that is no word of a node or device."""
    levels = topic.split("/")
    if len(levels) not in (4, 5) or levels[2] not in Kind.__members__:
        return None, None
    kind, device = Kind(levels[2]), levels[4] if len(levels) == 5 else None
    return (kind, device) if (device is None) is kind.is_of_node else (None, None)


def _frame(heard: Heard) -> bytes:
    said = asdict(heard)
    del said["is_about"]
    return json.dumps(said, ensure_ascii=False).encode()
