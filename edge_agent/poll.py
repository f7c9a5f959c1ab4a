"""What to ask next on a bus: which reads share a request, when each is due, how a silent unit is kept apart.

Requests start on a grid: a late one does not shift the next, a missed one is skipped and never queued. Of
several that are due, the one due longest goes first, among equals the one asked longest ago: none starves.

A unit that gives no answer to a request is not asked again in that round. After SILENT_ROUNDS such rounds it
counts as silent and is *quarantined*: one request each 30-60 s, all quarantined units together at most
PROBE_SHARE of the bus. A unit that is alone on its bus has no neighbours to slow down and keeps its own rate,
so that its return is seen at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import floor
from typing import Generic, Protocol, TypeVar

from edge_agent.backoff import Dice
from edge_agent.device import Device
from edge_agent.profile import Answer, IppRead, ListenRead, ModbusRead, RequestRead, TopicRead

# Modbus Application Protocol 1.1b3, 6.1-6.4: what one answer may carry.
MAX_REGISTERS = 125
MAX_BITS = 2_000
# A hole costs its bytes on the wire; a request of its own costs 16 bytes and the device's time to answer.
MAX_HOLE_REGISTERS = 8
MAX_HOLE_BITS = 64

SILENT_ROUNDS = 3
PROBE_MIN_S = 30.0
PROBE_SHARE = 0.1

NEARLY_FULL = 0.7
# For the prediction alone: how long a text frame is when nothing better is known.
ASSUMED_FRAME_BYTES = 80

BIT_FUNCTIONS = (1, 2)
FUNCTIONS = {1: "coils", 2: "discrete inputs", 3: "holding registers", 4: "input registers"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request of a text protocol; ``frames`` frames answer it."""

    device: str
    read: str
    send: bytes
    frames: int
    every_s: float
    timeout_s: float
    answer: Answer | None = None

    def is_answered_by(self, frame: bytes) -> bool:
        """Whether an answer may begin with this frame."""
        return self.answer is None or self.answer.fits(frame)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Where one read lies in the answer to a block."""

    read: str
    offset: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One Modbus request; its answer is cut into the parts."""

    device: str
    unit: int
    function: int
    address: int
    count: int
    every_s: float
    timeout_s: float
    parts: tuple[Part, ...]


class Poll(Protocol):
    @property
    def device(self) -> str: ...
    @property
    def every_s(self) -> float: ...
    @property
    def timeout_s(self) -> float: ...


P = TypeVar("P", bound=Poll)


def asks(device: Device) -> tuple[Ask, ...]:
    """The requests of a device that speaks text."""
    return tuple(
        Ask(
            device=device.id,
            read=name,
            send=read.request,
            frames=read.frames,
            every_s=read.every_s,
            timeout_s=read.timeout_s,
            answer=read.answer,
        )
        for name, read in device.profile.reads.items()
        if isinstance(read, RequestRead) and read.enabled
    )


def blocks(device: Device) -> tuple[Block, ...]:
    """A device's Modbus requests: reads of one function and interval share one when little lies between."""
    reads = [(name, read) for name, read in device.profile.reads.items() if isinstance(read, ModbusRead)]
    reads.sort(key=lambda item: (item[1].function, item[1].every_s, item[1].address))
    found: list[list[tuple[str, ModbusRead]]] = []
    for name, read in reads:
        if found and _fits(found[-1], read):
            found[-1].append((name, read))
        else:
            found.append([(name, read)])
    return tuple(_block(device, group) for group in found)


def apart(block: Block) -> tuple[Block, ...]:
    """One block per read of a shared one: what lies between them may be what the device refused."""
    return tuple(
        Block(
            device=block.device,
            unit=block.unit,
            function=block.function,
            address=block.address + part.offset,
            count=part.count,
            every_s=block.every_s,
            timeout_s=block.timeout_s,
            parts=(Part(read=part.read, offset=0, count=part.count),),
        )
        for part in block.parts
    )


@dataclass(slots=True, kw_only=True)
class _Row(Generic[P]):
    poll: P
    start: float
    due: float
    # Order of asking; 0 is never.
    asked: int = 0


@dataclass(slots=True, kw_only=True)
class _Unit:
    silent_rounds: int = 0
    # The moment of the next probe while quarantined.
    probe: float | None = None


class Schedule(Generic[P]):
    """When each poll of one bus is due. Times are seconds of one monotonic clock.

    ``timeouts_lost`` is for how many timeouts an unanswered request takes the bus: 2 where silence follows.
    """

    def __init__(self, polls: Iterable[P], *, now: float, random: Dice, timeouts_lost: float = 1.0) -> None:
        self._rows = [_Row(poll=poll, start=now, due=now) for poll in polls]
        self._units = {row.poll.device: _Unit() for row in self._rows}
        self._random = random
        self._timeouts_lost = timeouts_lost
        self._asked = 0

    def next(self) -> tuple[float, P] | None:
        """The poll to ask next and the moment when it is due; None when this bus has nothing to ask."""
        if not self._rows:
            return None
        row = min(self._rows, key=lambda row: (self._due(row), row.asked))
        return self._due(row), row.poll

    def asked(self, poll: P, now: float) -> None:
        """The poll goes out now; it is due again at the next point of its grid."""
        row = self._row(poll)
        self._asked += 1
        row.asked = self._asked
        self._forward(row, now)

    def answered(self, poll: P, now: float) -> bool:
        """The unit lives. True when it was quarantined: all its polls are due at once."""
        unit = self._units[poll.device]
        back = unit.probe is not None
        unit.silent_rounds = 0
        unit.probe = None
        if back:
            for row in self._rows_of(poll.device):
                if row.poll is not poll:
                    row.due = now
        return back

    def silent(self, poll: P, now: float) -> bool:
        """Nothing came. True when the whole unit counts as silent, not only this poll."""
        unit = self._units[poll.device]
        unit.silent_rounds += 1
        for row in self._rows_of(poll.device):
            if row.due <= now:
                self._forward(row, now)
        if unit.silent_rounds < SILENT_ROUNDS:
            return False
        if len(self._units) == 1:
            return True
        unit.probe = now
        lost_s = sum(self._lost_s(device) for device, one in self._units.items() if one.probe is not None)
        unit.probe = now + max(PROBE_MIN_S, lost_s / PROBE_SHARE) * (1 + self._random.random())
        return True

    def quarantined(self, device: str) -> bool:
        return self._units[device].probe is not None

    def replace(self, poll: P, by: Sequence[P], now: float) -> None:
        """Ask these instead, from now on."""
        old = self._row(poll)
        place = self._rows.index(old)
        self._rows[place : place + 1] = [_Row(poll=new, start=old.start, due=now) for new in by]

    def _due(self, row: _Row[P]) -> float:
        probe = self._units[row.poll.device].probe
        return row.due if probe is None else probe

    def _forward(self, row: _Row[P], now: float) -> None:
        every = row.poll.every_s
        row.due = row.start + (floor((now - row.start) / every) + 1) * every
        if row.due <= now:  # rounding
            row.due += every

    def _lost_s(self, device: str) -> float:
        return max(row.poll.timeout_s for row in self._rows_of(device)) * self._timeouts_lost

    def _row(self, poll: P) -> _Row[P]:
        return next(row for row in self._rows if row.poll is poll)

    def _rows_of(self, device: str) -> list[_Row[P]]:
        return [row for row in self._rows if row.poll.device == device]


# --- the plan for people ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What the plan may assume of a bus. ``request_s`` is what every request costs beside its bytes."""

    words: str
    byte_s: float = 0.0
    request_s: float = 0.010
    # Bytes that the framing adds to request and answer together.
    framing_bytes: int = 0


class Bus(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def line(self) -> Line: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    words: str
    cost_s: float
    every_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is read from one bus; ``load`` over 1 means that the line cannot carry it."""

    line: Line
    polls: tuple[Planned, ...]
    heard: tuple[str, ...] = field(default=())

    @property
    def load(self) -> float:
        return sum(poll.cost_s / poll.every_s for poll in self.polls)

    @property
    def cycle_s(self) -> float:
        """How long it takes to ask everything once."""
        return sum(poll.cost_s for poll in self.polls)

    def lines(self) -> list[str]:
        """For a person, one line per request and a judgement."""
        found = [self.line.words]
        found += [
            f"{poll.words} every {_s(poll.every_s)}, about {_about(poll.cost_s)}" for poll in self.polls
        ]
        found += self.heard
        if self.polls:
            found.append(
                f"everything once takes about {_about(self.cycle_s)} (assumed: {_about(self.line.request_s)}"
                f" for the device to answer); {self.load:.0%} of the line is used"
            )
        if self.load > 1:
            found.append(
                f"this line cannot carry it: each second would take it {self.load:.1f} s, so reads will be"
                " skipped; read less often, raise the baud rate, or spread the devices over more lines"
            )
        elif self.load > NEARLY_FULL:
            found.append("this line is nearly full: a device that does not answer will delay its neighbours")
        return found


def plan(bus: Bus, devices: Sequence[Device]) -> Plan:
    """What will be asked on that bus, how often, and what it costs."""
    line = bus.line
    polls: list[Planned] = []
    heard: list[str] = []
    for device in devices:
        polls += [_planned_block(line, block) for block in blocks(device)]
        polls += [_planned_ask(line, ask) for ask in asks(device)]
        for name, read in device.profile.reads.items():
            if isinstance(read, ListenRead):
                heard.append(f"{device.id}: listens ({name})")
            elif isinstance(read, IppRead):
                words = f"{device.id}: asks for {len(read.attributes)} attributes ({name})"
                polls.append(Planned(words=words, cost_s=line.request_s, every_s=read.every_s))
            elif isinstance(read, TopicRead):
                heard.append(f"{device.id}: {topic(device, read)} ({name}), QoS {read.qos}")
    return Plan(line=line, polls=tuple(polls), heard=tuple(heard))


def topic(device: Device, read: TopicRead) -> str:
    """The topic of a read with the device's own part filled in."""
    return read.topic.replace("{topic}", device.topic)


def _planned_block(line: Line, block: Block) -> Planned:
    answer = (block.count + 7) // 8 if block.function in BIT_FUNCTIONS else block.count * 2
    names = ", ".join(part.read for part in block.parts)
    shared = " in one request" if len(block.parts) > 1 else ""
    last = block.address + block.count - 1
    return Planned(
        # 5 bytes ask for a block, 2 precede its contents (Modbus Application Protocol 1.1b3, 6.1-6.4).
        cost_s=line.request_s + (line.framing_bytes + 5 + 2 + answer) * line.byte_s,
        every_s=block.every_s,
        words=f"{block.device} unit {block.unit}: {FUNCTIONS[block.function]} {block.address}-{last}"
        f" ({names}{shared})",
    )


def _planned_ask(line: Line, ask: Ask) -> Planned:
    return Planned(
        words=f"{ask.device}: asks ({ask.read})",
        cost_s=line.request_s + (len(ask.send) + ask.frames * ASSUMED_FRAME_BYTES) * line.byte_s,
        every_s=ask.every_s,
    )


def _fits(group: list[tuple[str, ModbusRead]], read: ModbusRead) -> bool:
    first = group[0][1]
    end = max(one.address + one.count for _, one in group)
    of_bits = read.function in BIT_FUNCTIONS
    return (
        not first.whole
        and not read.whole
        and (first.function, first.every_s) == (read.function, read.every_s)
        and read.address - end <= (MAX_HOLE_BITS if of_bits else MAX_HOLE_REGISTERS)
        and max(end, read.address + read.count) - first.address <= (MAX_BITS if of_bits else MAX_REGISTERS)
    )


def _block(device: Device, group: list[tuple[str, ModbusRead]]) -> Block:
    first = group[0][1]
    return Block(
        device=device.id,
        unit=device.unit,
        function=first.function,
        address=first.address,
        count=max(read.address + read.count for _, read in group) - first.address,
        every_s=first.every_s,
        timeout_s=max(read.timeout_s for _, read in group),
        parts=tuple(
            Part(read=name, offset=read.address - first.address, count=read.count) for name, read in group
        ),
    )


def _s(seconds: float) -> str:
    """As it was configured: 50 ms, 2.25 s."""
    return f"{seconds * 1000:g} ms" if seconds < 1 else f"{seconds:g} s"


def _about(seconds: float) -> str:
    """As a person would say it: 303 ms, 1.2 s, 90 s."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f}".removesuffix(".0") + " s" if seconds < 10 else f"{seconds:.0f} s"
