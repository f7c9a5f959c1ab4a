"""What a trace is: lines of JSON that say what devices said and when, how they are configured and read.

The first line is the header, each other one a reading, a change of the wall clock, or a note that readings
are missing. It holds all that a replay needs: the ``[[bus]]`` and ``[[device]]`` tables and the text of each
profile. Frames are written with the escapes of profiles, so that a person can read them (docs/traces.md).
Payloads are redacted as the profile says before they become a line.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError

from edge_agent import decode
from edge_agent.device import Device
from edge_agent.grammar import to_bytes, to_text
from edge_agent.sample import Payload, Quality, Reading, Trouble, Value
from edge_agent.wire import NS_PER_MS, Stamp

VERSION = 1
# ``mono_ns`` of the header's moment in a replay.
START_NS = 1_000_000_000
# The longest that can be: 64 profiles of 64 KiB, or a message of 64 KiB in which each byte is an escape.
MAX_LINE_BYTES = 8 << 20
NS_PER_US = 1_000
# The wall clock is told anew when it has moved against the monotonic one by more than this.
WALL_MOVED_MS = 100

# Up to the year 9999.
WallMs = Annotated[int, Strict(), Field(ge=0, le=253_402_300_799_999)]
Seconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class TraceError(ValueError):
    """It is no trace, or one that cannot be replayed here; the text says where and what was expected."""


class _Line(BaseModel):
    # A line of a later agent may say more.
    model_config = ConfigDict(frozen=True, extra="ignore")


class Header(_Line):
    """The first line. ``bus``, ``device``, ``condition`` are tables of agent.toml, without passwords."""

    andon_trace: Annotated[int, Strict(), Field(ge=1)]
    # Version of the agent that recorded it.
    agent: Annotated[str, Field(max_length=64)]
    # The moment that ``t_us`` counts from.
    boot: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    wall_ms: WallMs
    source: Annotated[str, Field(max_length=16)]
    # Its id, for what is told of the gateway itself.
    gateway: Annotated[str, Field(max_length=64)] = ""
    unreachable_after_s: Annotated[float, Field(ge=1, le=3600)] = 30.0
    bus: tuple[dict[str, Any], ...]
    device: tuple[dict[str, Any], ...]
    condition: tuple[dict[str, Any], ...] = ()
    profiles: dict[str, str]


class ReadingLine(_Line):
    """One reading, ``t`` seconds after the header's moment. Neither frames nor numbers: the link is up."""

    t: Seconds
    device: Annotated[str, Field(max_length=64)]
    read: Annotated[str, Field(max_length=64)]
    frames: tuple[str, ...] = ()
    # None: the device refuses this register.
    numbers: tuple[Annotated[int, Strict()] | None, ...] = ()
    trouble: Trouble | None = None
    detail: Annotated[str, Field(max_length=1_000)] = ""
    retained: bool = False
    # What is hidden is what a signal looks at: it may have another value in a replay.
    changed: bool = False


class ClockLine(_Line):
    """From here on the wall clock reads so. The last line of a recording that ended in order is one."""

    t: Seconds
    wall_ms: WallMs
    source: Annotated[str, Field(max_length=16)]


class MissingLine(_Line):
    """Before this line so many readings are missing: whoever wrote it was too slow."""

    t: Seconds
    missing: Annotated[int, Strict(), Field(ge=1)]


class StillLine(_Line):
    """Whoever listens stood still from ``still_since`` to ``t`` (suspended, starved)."""

    t: Seconds
    still_since: Seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class StoodStill:
    """Nobody listened in this time."""

    since: Stamp
    until: Stamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """So many readings are not in the trace."""

    count: int


Happening = Reading | Missing | StoodStill | Stamp


class Scribe:
    """Readings of one recording to lines, in the order in which they came. Lines end with LF."""

    def __init__(self, header: Header, start: Stamp, devices: Iterable[Device]) -> None:
        self.header = header
        self._start = start
        self._devices = {device.id: device for device in devices}
        self._wall_ahead_ms = start.wall_ms - start.mono_ns // NS_PER_MS
        self._source = start.source

    def lines(self, reading: Reading) -> bytes:
        """Empty for a device that is not recorded."""
        device = self._devices.get(reading.device)
        return b"" if device is None else self._clock(reading.at) + self._reading(device, reading)

    def end(self, at: Stamp) -> bytes:
        """Nothing more came until then."""
        return _dumped({"t": self._t(at), "wall_ms": at.wall_ms, "source": at.source})

    def missing(self, count: int, at: Stamp) -> bytes:
        return _dumped({"t": self._t(at), "missing": count})

    def stood_still(self, since: Stamp, until: Stamp) -> bytes:
        return self._clock(until) + _dumped({"t": self._t(until), "still_since": self._t(since)})

    def _t(self, at: Stamp) -> float:
        return max(0, at.mono_ns - self._start.mono_ns) // NS_PER_US / 1_000_000

    def _clock(self, at: Stamp) -> bytes:
        ahead_ms = at.wall_ms - at.mono_ns // NS_PER_MS
        if abs(ahead_ms - self._wall_ahead_ms) <= WALL_MOVED_MS and at.source == self._source:
            return b""
        self._wall_ahead_ms, self._source = ahead_ms, at.source
        return self.end(at)

    def _reading(self, device: Device, reading: Reading) -> bytes:
        shown = decode.redacted(device, reading)
        line: dict[str, object] = {"t": self._t(reading.at), "device": reading.device, "read": reading.read}
        if frames := [to_text(part) for part in shown.payload if isinstance(part, bytes)]:
            line["frames"] = frames
        elif shown.payload:
            line["numbers"] = shown.payload
        if reading.trouble is not None:
            line["trouble"] = str(reading.trouble)
        if reading.detail:
            line["detail"] = reading.detail[:1_000]
        if reading.retained:
            line["retained"] = True
        if shown is not reading and _values(device, shown) != _values(device, reading):
            line["changed"] = True
        return _dumped(line)


class Trace:
    """A trace that is read: its header, then what happened, once and in order.

    A line that is cut off at the end is passed over. ``cut_off`` says so afterwards, ``changed`` counts the
    readings in which redaction hides what a signal looks at. Raises TraceError.
    """

    def __init__(self, name: str, lines: Iterable[bytes]) -> None:
        self.name = name
        self._lines = enumerate(lines, 1)
        self.header = self._header()
        self.start = Stamp(
            boot=self.header.boot,
            mono_ns=START_NS,
            wall_ms=self.header.wall_ms,
            source=self.header.source,
        )
        self.cut_off = False
        self.changed = 0

    def happened(self) -> Iterator[Happening]:
        """A stamp is a moment at which nothing else happened than that time had gone on to it."""
        clock = self.start
        for number, raw in self._lines:
            if not raw.endswith(b"\n"):
                self.cut_off = True
                return
            line = self._line(number, raw)
            if isinstance(line, ClockLine):
                clock = Stamp(
                    boot=clock.boot, mono_ns=_mono_ns(line.t), wall_ms=line.wall_ms, source=line.source
                )
                yield clock
            elif isinstance(line, MissingLine):
                yield Missing(count=line.missing)
            elif isinstance(line, StillLine):
                since, until = (moved(clock, _mono_ns(t)) for t in (line.still_since, line.t))
                yield StoodStill(since=since, until=until)
            else:
                self.changed += line.changed
                yield self._reading(number, line, moved(clock, _mono_ns(line.t)))

    def _header(self) -> Header:
        _, raw = next(self._lines, (1, b""))
        try:
            found = json.loads(raw)
            version = found["andon_trace"]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise TraceError(f"{self.name}: no trace: its first line is not the header of one") from error
        if version != VERSION:
            raise TraceError(
                f"{self.name}: a trace of version {version!r:.20}; this agent knows {VERSION}. "
                "Replay it with the agent that recorded it, or a newer one"
            )
        try:
            return Header.model_validate(found)
        except ValidationError as error:
            raise TraceError(f"{self.name}: line 1: {_explained(error)}") from error

    def _line(self, number: int, raw: bytes) -> ReadingLine | ClockLine | MissingLine | StillLine:
        try:
            found = json.loads(raw)
            model = next((model for key, model in _BY_KEY.items() if key in found), ReadingLine)
            return model.model_validate(found)
        except ValidationError as error:
            raise TraceError(f"{self.name}: line {number}: {_explained(error)}") from error
        except (ValueError, TypeError, RecursionError) as error:
            raise TraceError(f"{self.name}: line {number}: not a line of a trace") from error

    def _reading(self, number: int, line: ReadingLine, at: Stamp) -> Reading:
        try:
            payload: Payload = tuple(map(to_bytes, line.frames)) or line.numbers
        except ValueError as error:
            raise TraceError(f"{self.name}: line {number}: frames: {error}") from error
        return Reading(
            device=line.device,
            read=line.read,
            at=at,
            payload=payload,
            trouble=line.trouble,
            detail=line.detail,
            retained=line.retained,
        )


_BY_KEY: dict[str, type[ClockLine] | type[MissingLine] | type[StillLine]] = {
    "wall_ms": ClockLine,
    "missing": MissingLine,
    "still_since": StillLine,
}


def _values(device: Device, reading: Reading) -> list[tuple[str, Value, Quality]]:
    return [(one.signal, one.value, one.quality) for one in decode.samples(device, reading)]


def _mono_ns(t: float) -> int:
    return START_NS + round(t * 1_000_000) * NS_PER_US


def moved(clock: Stamp, mono_ns: int) -> Stamp:
    """The moment ``mono_ns`` as far as the wall clock of ``clock`` tells."""
    wall_ms = max(0, clock.wall_ms + (mono_ns - clock.mono_ns) // NS_PER_MS)
    return Stamp(boot=clock.boot, mono_ns=mono_ns, wall_ms=wall_ms, source=clock.source)


def _dumped(line: Mapping[str, object]) -> bytes:
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def t_s(at: Stamp) -> float:
    """Seconds since the header's moment, of a stamp that a ``Trace`` gave."""
    return (at.mono_ns - START_NS) // NS_PER_US / 1_000_000


def dumped(header: Header) -> bytes:
    """The first line."""
    return _dumped(header.model_dump(mode="json", exclude_defaults=True))


def _explained(error: ValidationError) -> str:
    found = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, found['loc']))}: {found['msg']}"
