"""What a bus will be asked and what that costs, in words for an installer: whether the line carries it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Protocol

from edge_agent.device import Device
from edge_agent.poll import READ_BYTES, Ask, Block, Line, asks, blocks, topic
from edge_agent.profile import IppRead, ListenRead, TopicRead
from edge_agent.schedule import SILENT_ROUNDS, least_pause_s

NEARLY_FULL = 0.7
# For the prediction alone: how long a text frame is when nothing better is known.
ASSUMED_FRAME_BYTES = 80
FUNCTIONS = {1: "coils", 2: "discrete inputs", 3: "holding registers", 4: "input registers"}


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
    device: str
    # For how long an answer is waited for while others wait for their turn; 0: nobody does.
    others_wait_s: float = 0.0


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

    @property
    def dead_s(self) -> float | None:
        """What a device that does not answer costs its neighbours each time it is asked; None without any."""
        waits = {poll.device: poll.others_wait_s for poll in self.polls if poll.others_wait_s}
        return max(poll.others_wait_s for poll in self.polls) if len(waits) > 1 else None

    @property
    def load_with_one_dead(self) -> float:
        """At the worst: what the dead one is not asked any more may be next to nothing."""
        return self.load + (self.dead_s / least_pause_s(self.dead_s) if self.dead_s else 0.0)

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
        if self.dead_s:
            found.append(
                f"a device that does not answer costs the others up to {_about(SILENT_ROUNDS * self.dead_s)}"
                f" once, then {_about(self.dead_s)} in {_about(least_pause_s(self.dead_s))} or more:"
                f" {self.load_with_one_dead:.0%} of the line is used with one of them"
            )
        if self.load > 1:
            found.append(
                f"this line cannot carry it: each second would take it {self.load:.1f} s, so reads will be"
                " skipped; read less often, raise the baud rate, or spread the devices over more lines"
            )
        elif self.load_with_one_dead > 1:
            found.append(
                "this line is full: when a device does not answer, reads of its neighbours are skipped"
            )
        elif self.load > NEARLY_FULL:
            found.append("this line is nearly full: a device that does not answer will delay its neighbours")
        return found


def plan(bus: Bus, devices: Sequence[Device]) -> Plan:
    """What will be asked on that bus, how often, and what it costs."""
    line = bus.line
    if not line.asks:
        return Plan(line=line, polls=(), heard=tuple(f"{device.id}: as recorded" for device in devices))
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
                cost_s = line.request_s
                polls.append(Planned(words=words, cost_s=cost_s, every_s=read.every_s, device=device.id))
            elif isinstance(read, TopicRead):
                heard.append(f"{device.id}: {topic(device, read)} ({name}), QoS {read.qos}")
    return Plan(line=line, polls=tuple(polls), heard=tuple(heard))


def _planned_block(line: Line, block: Block) -> Planned:
    names = ", ".join(part.read for part in block.parts)
    shared = " in one request" if len(block.parts) > 1 else ""
    last = block.address + block.count - 1
    requests = ceil(block.count / block.at_most) if block.in_pieces else 1
    pieces = f" in {requests} requests" if requests > 1 else ""
    framed_bytes = requests * (line.framing_bytes + READ_BYTES) + block.answer_bytes
    return Planned(
        cost_s=requests * line.request_s + framed_bytes * line.byte_s,
        every_s=block.every_s,
        device=block.device,
        others_wait_s=block.timeout_s,
        words=f"{block.device} unit {block.unit}: {FUNCTIONS[block.function]} {block.address}-{last}"
        f" ({names}{shared}{pieces})",
    )


def _planned_ask(line: Line, ask: Ask) -> Planned:
    return Planned(
        words=f"{ask.device}: asks ({ask.read})",
        cost_s=line.request_s + (len(ask.send) + ask.frames * ASSUMED_FRAME_BYTES) * line.byte_s,
        every_s=ask.every_s,
        device=ask.device,
    )


def _s(seconds: float) -> str:
    """As it was configured: 50 ms, 2.25 s."""
    return f"{seconds * 1000:g} ms" if seconds < 1 else f"{seconds:g} s"


def _about(seconds: float) -> str:
    """As a person would say it: 303 ms, 1.2 s, 90 s."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f}".removesuffix(".0") + " s" if seconds < 10 else f"{seconds:.0f} s"
