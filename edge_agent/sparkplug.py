"""What the messages of one Sparkplug edge node mean: who is online, what each metric is, what was lost.

A *birth* names all metrics, with data type and alias; after it *data* may say the alias alone. A *death* of
the node (its will) makes everything stale, that of a device what is the device's. Messages of a node are
numbered through, 0 to 255 (``seq``); a birth and the death that belongs to it have the same ``bdSeq``.

Only what was heard counts: nothing is ever asked for (a *rebirth* would be a command). So what was born
before we listened is unknown until it is born again, but for metrics that data say by name. Rules: Sparkplug
specification 3.0.0, chapters 4 to 6.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from edge_agent import sparkplug_payload
from edge_agent.profile import Scalar
from edge_agent.sparkplug_payload import Metric, Payload, PayloadError

NAMESPACE = "spBv1.0"
BD_SEQ = "bdSeq"
_COUNT = 256


class Kind(StrEnum):
    NBIRTH = "NBIRTH"
    NDATA = "NDATA"
    NDEATH = "NDEATH"
    DBIRTH = "DBIRTH"
    DDATA = "DDATA"
    DDEATH = "DDEATH"

    @property
    def is_of_node(self) -> bool:
        return self in (Kind.NBIRTH, Kind.NDATA, Kind.NDEATH)


_BIRTHS = (Kind.NBIRTH, Kind.DBIRTH)
_DATA = (Kind.NDATA, Kind.DDATA)


class Life(StrEnum):
    UNKNOWN = "unknown"
    ONLINE = "online"
    OFFLINE = "offline"
    # A device whose node was born and which was not born itself yet.
    UNBORN = "unborn"


class Birth(StrEnum):
    SEEN = "seen"
    # It was before we listened.
    MISSING = "missing"
    # Data came with an alias that it does not have.
    OUTDATED = "outdated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What a message tells of one node or device, as far as its profile reads it."""

    # Or only of the node that it is of, or of another device.
    is_about: bool
    message: Kind
    node: Life
    device: Life
    birth: Birth
    # Messages of the node that did not reach us since its birth.
    lost: int
    # Metrics with a value; others that have none now, and why.
    metrics: dict[str, Scalar]
    bad: dict[str, str]


@dataclass(slots=True, kw_only=True)
class _Source:
    """The node itself, or one of its devices."""

    life: Life = Life.UNKNOWN
    birth: Birth = Birth.MISSING
    datatypes: dict[str, int | None] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    # By name, in data, while the birth was missing.
    by_name: set[str] = field(default_factory=set)


class EdgeNode:
    """All that is known of one node and of those of its ``devices`` that are watched.

    Messages are taken in the order in which they came.
    """

    def __init__(self, devices: Collection[str]) -> None:
        # None: the node itself.
        self._sources: dict[str | None, _Source] = {None: _Source()} | {name: _Source() for name in devices}
        self._bd_seq: int | None = None
        self._next_seq: int | None = None
        self.lost = 0

    def take(self, kind: Kind, device: str | None, data: bytes) -> Payload | None:
        """None for a message that means nothing: the will of a session before this. Raises PayloadError, of a
        birth of the node too: then it has begun a session of which nothing else is known.
        """
        try:
            payload = sparkplug_payload.decoded(data)
        except PayloadError:
            if kind is Kind.NBIRTH:
                self._begin(None)
            raise
        if kind is Kind.NDEATH:
            if _is_before(_bd_seq(payload), self._bd_seq):
                return None
            self._forget(Life.OFFLINE)
            return payload
        if kind is Kind.NBIRTH:
            self._begin(_bd_seq(payload))
        self._count(payload.seq)
        self._sources[None].life = Life.ONLINE
        source = self._sources.get(device)
        if source is None:
            return payload
        if kind is Kind.DDEATH:
            self._sources[device] = _Source(life=Life.OFFLINE)
            return payload
        source.life = Life.ONLINE
        if kind in _BIRTHS:
            source.birth = Birth.SEEN
            source.datatypes = {one.name: one.datatype for one in payload.metrics if one.name}
            source.names = {
                one.alias: one.name for one in payload.metrics if one.name and one.alias is not None
            }
        return payload

    def heard(
        self, kind: Kind, payload: Payload, *, of: str | None, device: str | None, wanted: Collection[str]
    ) -> Heard:
        """What the message that was just taken tells of ``device``; ``of``: the device that it came from."""
        source = self._sources[device]
        about = of == device
        metrics: dict[str, Scalar] = {}
        bad: dict[str, str] = {}
        if about and kind in (*_BIRTHS, *_DATA):
            self._read(source, payload.metrics, wanted, metrics, bad)
        if kind in (Kind.NDEATH, Kind.DDEATH) and (about or kind is Kind.NDEATH):
            who = "the node" if kind is Kind.NDEATH else "the device"
            bad = dict.fromkeys(wanted, f"stale: {who} is offline")
        elif kind is Kind.NBIRTH and device is not None:
            bad = dict.fromkeys(wanted, "stale: the device is not born yet")
        elif about and kind in _BIRTHS:
            bad |= {name: "not in the birth" for name in wanted if name not in source.datatypes}
        elif about and source.birth is Birth.MISSING:
            why = "its birth was not seen"
            bad |= {name: why for name in wanted if name not in source.by_name and name not in bad}
        return Heard(
            is_about=about,
            message=kind,
            node=self._sources[None].life,
            device=source.life,
            birth=source.birth,
            lost=self.lost,
            metrics=metrics,
            bad=bad,
        )

    def missed_some(self) -> None:
        """Our own connection was away; which numbers are missing says nothing of the node's."""
        self._next_seq = None

    def _read(
        self,
        source: _Source,
        said: Iterable[Metric],
        wanted: Collection[str],
        metrics: dict[str, Scalar],
        bad: dict[str, str],
    ) -> None:
        for one in said:
            name = one.name or (source.names.get(one.alias) if one.alias is not None else None)
            if name is None and one.alias is not None and source.birth is Birth.SEEN:
                source.birth = Birth.OUTDATED
            if name is None or name not in wanted or one.is_historical:
                continue
            value, why = sparkplug_payload.value_of(one, source.datatypes.get(name))
            metrics.pop(name, None)
            bad.pop(name, None)
            if value is None:
                bad[name] = why
            else:
                metrics[name] = value
                source.by_name.add(name)

    def _count(self, seq: int | None) -> None:
        if seq is None:
            return
        if self._next_seq is not None:
            self.lost += (seq - self._next_seq) % _COUNT
        self._next_seq = (seq + 1) % _COUNT

    def _begin(self, bd_seq: int | None) -> None:
        self._forget(Life.UNBORN)
        self._sources[None].life = Life.ONLINE
        self._bd_seq = bd_seq
        self.lost = 0

    def _forget(self, life: Life) -> None:
        """The end of a session: of the node, and so of all its devices."""
        self._sources = {name: _Source(life=life) for name in self._sources}
        self._bd_seq = self._next_seq = None


def _bd_seq(payload: Payload) -> int | None:
    found = [one.raw for one in payload.metrics if one.name == BD_SEQ]
    # In wills it has been seen without a data type; it is a count from 0 to 255.
    return found[-1] if found and isinstance(found[-1], int) else None


def _is_before(said: int | None, known: int | None) -> bool:
    """A count that goes round is behind if it is so by no more than half; one ahead is of a lost birth."""
    return said is not None and known is not None and (said - known) % _COUNT >= _COUNT // 2
