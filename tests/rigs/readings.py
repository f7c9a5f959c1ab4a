"""What a transport delivers, kept for looking at; devices that have reads and nothing else."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress

from rigs.ports import wait_until

from edge_agent.device import Device
from edge_agent.profile import Profile, Read
from edge_agent.sample import Reading, Trouble
from edge_agent.wire import Stamp

_ticks = itertools.count(1)


def stamp() -> Stamp:
    """Each is one millisecond after the last."""
    tick = next(_ticks)
    return Stamp(boot="0" * 32, mono_ns=tick * 1_000_000, wall_ms=1_700_000_000_000 + tick, source="ntp")


def device(
    name: str,
    reads: dict[str, Read],
    *,
    framing: str | None = None,
    unit: int = 1,
    topic: str = "",
    max_registers: int | None = None,
) -> Device:
    """A device of a profile that has only reads: all that a transport looks at."""
    profile = Profile.model_construct(name=name, reads=reads, framing=framing)
    return Device(
        id=name, place="", bus="bus", profile=profile, unit=unit, topic=topic, max_registers=max_registers
    )


class Readings(list[Reading]):
    """``deliver`` of a transport under test."""

    async def deliver(self, reading: Reading) -> None:
        self.append(reading)

    def payloads(self, read: str | None = None, of: str | None = None) -> list[object]:
        return [r.payload for r in self.of(read, of) if r.trouble is None and not _link_up(r)]

    def troubles(self, read: str | None = None, of: str | None = None) -> list[Trouble]:
        return [r.trouble for r in self.of(read, of) if r.trouble is not None]

    def of(self, read: str | None = None, device: str | None = None) -> list[Reading]:
        return [r for r in self if read in (None, r.read) and device in (None, r.device)]

    async def until(self, count: int, read: str | None = None, of: str | None = None) -> None:
        """Wait for so many payloads."""
        await wait_until(lambda: len(self.payloads(read, of)) >= count, what=f"{count} payloads, have {self}")

    async def until_trouble(self, trouble: Trouble, count: int = 1, of: str | None = None) -> Reading:
        await wait_until(
            lambda: self.troubles(of=of).count(trouble) >= count, what=f"{trouble}, have {self[-5:]}"
        )
        return [r for r in self.of(device=of) if r.trouble is trouble][count - 1]


def _link_up(reading: Reading) -> bool:
    return reading.payload == () and reading.trouble is None


@asynccontextmanager
async def running(work: Awaitable[None]) -> AsyncIterator[asyncio.Task[None]]:
    """Run a transport; cancelled at the end, and what it raised is raised."""
    task = asyncio.ensure_future(work)
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class LoopTicks:
    """Counts how often the loop comes round, to see that nothing holds it up."""

    def __init__(self) -> None:
        self.count = 0

    async def run(self) -> None:
        while True:
            self.count += 1
            await asyncio.sleep(0)


class TickedReadings(Readings):
    """Readings, and where the loop's count stood at each."""

    def __init__(self) -> None:
        self.loop = LoopTicks()
        self._counts: list[int] = []

    async def deliver(self, reading: Reading) -> None:
        self._counts.append(self.loop.count)
        await super().deliver(reading)

    def rounds_between(self) -> int:
        """How often the loop came round between two readings at the least."""
        return min(later - sooner for sooner, later in itertools.pairwise(self._counts))
