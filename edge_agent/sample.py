"""One value of a signal with its quality and time (OPC: value, quality, timestamp), and what a transport
delivers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from edge_agent.wire import Stamp

Value = bool | int | float | str | None
# What one read brought: the frames of a text protocol, the registers or bits of a block (None: the device
# refuses this one), or one MQTT payload.
Payload = tuple[bytes, ...] | tuple[int | None, ...]


class Quality(StrEnum):
    GOOD = "good"
    UNCERTAIN = "uncertain"
    BAD = "bad"


class Trouble(StrEnum):
    """Why a reading has no payload."""

    NO_LINK = "no link"  # the port, connection or broker is not there
    NO_ANSWER = "no answer"  # the link is up and the device stayed silent
    WRONG_ANSWER = "wrong answer"  # a refusal, a bad checksum, another unit, function or length
    OFFLINE = (
        "offline"  # a peer that speaks for the device says that it is gone (MQTT will, gateway exception)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a transport brought for one read of one device: a payload, or the trouble that kept it away."""

    device: str
    read: str
    at: Stamp
    payload: Payload = ()
    trouble: Trouble | None = None
    # For people: what exactly went wrong ("exception 2: illegal data address").
    detail: str = ""
    # MQTT: the broker kept this from before we subscribed.
    retained: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    device: str
    signal: str
    value: Value
    quality: Quality
    at: Stamp
    detail: str = ""


# Takes a reading. To a transport that acknowledges it returns once everything that the reading changed is
# durable: only then may a broker be told so.
Deliver = Callable[[Reading], Awaitable[None]]
# Takes readings of one device that were delivered before and came once more, just the same, at that moment:
# whether that is all there is to say of them. If not, they are to be delivered anew.
Again = Callable[[Sequence[Reading], Stamp], bool]
