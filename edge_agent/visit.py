"""Reads one device for a while and tells what it said, what that means, and which conditions it would raise.

Everything goes the agent's way: the real transport, decoding, watch and a journal in memory. Nothing is sent
but what the profile asks.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from edge_agent import decode, transports
from edge_agent.clock import Clock
from edge_agent.device import Device
from edge_agent.journal import Journal
from edge_agent.journal_memory import InMemory
from edge_agent.recorder import Recorder
from edge_agent.sample import Reading, Sample
from edge_agent.transports import BusSettings, Transport
from edge_agent.watch import Watch
from edge_agent.wire import Row

LOOK_EVERY_S = 0.5


@dataclass(slots=True, kw_only=True)
class Seen:
    """What came so far."""

    device: Device
    readings: Counter[str] = field(default_factory=Counter)
    # The newest of each read and of each signal.
    latest: dict[str, Reading] = field(default_factory=dict)
    samples: dict[str, Sample] = field(default_factory=dict)
    raised: tuple[Row, ...] = ()
    # Keys (device|component|fault) of the conditions of which nothing is known yet.
    unknown: frozenset[str] = frozenset()

    @property
    def answered(self) -> bool:
        return any(reading.payload for reading in self.latest.values())


async def visit(bus: BusSettings, device: Device, *, seconds: float, tell: Callable[[Seen], None]) -> Seen:
    """For so many seconds; ``tell`` hears each half of one how it stands."""
    clock, numbers = Clock(), itertools.count(1)
    seen = Seen(device=device)
    journal = Journal(InMemory(lambda: f"{next(numbers):032x}"), stamp=clock.stamp)
    try:
        watch = await Watch.start([device], journal, Recorder([device]), clock.stamp)

        async def deliver(reading: Reading) -> None:
            await watch.take(reading)
            _note(seen, reading)

        module = transports.load(bus.transport)
        assert module is not None, "config checked it"
        transport: Transport = module.Transport(bus.as_a_guest(), [device], deliver, clock.stamp)
        async with _working(transport.run(), watch.run()):
            end = asyncio.get_running_loop().time() + seconds
            while (left := end - asyncio.get_running_loop().time()) > 0:
                await asyncio.sleep(min(LOOK_EVERY_S, left))
                seen.raised = tuple(await journal.open_occurrences())
                seen.unknown = frozenset(watch.unsettled())
                tell(seen)
    finally:
        await journal.close()
    return seen


def _note(seen: Seen, reading: Reading) -> None:
    seen.readings[reading.read] += 1
    seen.latest[reading.read] = reading
    seen.samples |= {one.signal: one for one in decode.samples(seen.device, reading)}


@asynccontextmanager
async def _working(*work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
