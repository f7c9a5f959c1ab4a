"""A watch over a small real profile with a real journal, on a clock that the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from rigs.journals import opened
from rigs.moments import HandClock, ids
from rigs.ports import wait_until
from rigs.readings import running

from edge_agent import profile
from edge_agent.device import Device
from edge_agent.journal import Journal
from edge_agent.recorder import Recorder
from edge_agent.sample import Payload, Reading, Trouble
from edge_agent.watch import Watch

CONVEYOR = r"""
schema: 1
name: conveyor
title: A conveyor that says one line about itself
maker: Nobody
models: [C1]
evidence: simulated
source: made for a test
transports: [tcp]
framing: line
reads:
  status: {send: "S?\r", every_s: 1}
  voice: {listen: true, redact: [{}]}
signals:
  jam: {read: status, field: 0, type: bool, source: made for a test}
  current: {read: status, field: 1, type: float, source: made for a test}
  heard: {read: voice, type: seen, source: made for a test}
conditions:
  - {component: belt, fault: jam, title: Jam, severity: stop, when: {is: {signal: jam, value: true}}}
  - component: motor
    fault: overload
    title: Motor draws too much
    severity: degraded
    when: {above: {signal: current, limit: 10, deadband: 2}}
    on_delay_s: 5
    off_delay_s: 10
  - {component: belt, fault: quiet, title: Says nothing, severity: notice, when: {no_data_s: {signal:
  heard, s: 60}}}
"""


def conveyor(name: str = "belt-1", text: str = CONVEYOR) -> Device:
    parsed = profile.parse(text, name="conveyor", overlay=None)
    return Device(id=name, place="hall/line-1/infeed", bus="bus", profile=parsed)


class Floor:
    """What a transport would deliver."""

    def __init__(self, watch: Watch, journal: Journal, clock: HandClock) -> None:
        self.watch, self.journal, self.clock = watch, journal, clock

    async def status(self, *, jam: bool = False, current: float = 1.0, device: str = "belt-1") -> None:
        await self.reading("status", device, payload=(f"{int(jam)},{current}".encode(),))

    async def voice(self, *frames: bytes, device: str = "belt-1") -> None:
        await self.reading("voice", device, payload=frames)

    async def trouble(self, trouble: Trouble, *reads: str, device: str = "belt-1") -> None:
        for read in reads or ("status", "voice"):
            await self.reading(read, device, trouble=trouble)

    async def reading(
        self, read: str, device: str, *, payload: Payload = (), trouble: Trouble | None = None
    ) -> None:
        at = self.clock.stamp()
        await self.watch.take(
            Reading(device=device, read=read, at=at, payload=payload, trouble=trouble, detail="")
        )

    def late(self) -> bool:
        """Something is due that nobody has looked at."""
        due_ns = self.watch.deadline_ns()
        return due_ns is not None and due_ns <= self.clock.stamp().mono_ns

    async def look(self) -> list[str]:
        """What is open once all that is due was looked at."""
        async with running(self.watch.run()):
            await wait_until(lambda: not self.late(), what="all that was due")
        return await self.open()

    async def open(self) -> list[str]:
        """What is open, but for what pauses."""
        rows = await self.journal.open_occurrences()
        return sorted(f"{row.device} {row.fault}" for row in rows if not row.is_paused)


@asynccontextmanager
async def watching(
    folder: Path,
    clock: HandClock,
    devices: Sequence[Device] | None = None,
    new_id: Callable[[], str] | None = None,
    recorder: Recorder | None = None,
) -> AsyncIterator[Floor]:
    devices = [conveyor()] if devices is None else devices
    async with opened(folder, clock, new_id or ids()) as journal:
        watch = await Watch.start(devices, journal, recorder or Recorder(devices), clock.stamp)
        yield Floor(watch, journal, clock)
