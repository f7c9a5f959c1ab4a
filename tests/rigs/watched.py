"""A simulated device read by the real transport, and what its shipped profile makes of that."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from rigs import proven
from rigs.ports import wait_until
from rigs.readings import running, stamp

from edge_agent import transports
from edge_agent.device import Device
from edge_agent.profile import RequestRead, parse
from edge_agent.proof import Trial
from edge_agent.sample import Reading

PROFILES = Path(__file__).parents[2] / "device_profiles"
# Longer than any delay in a shipped profile.
LONG_S = 300.0
# What a read has brought that has brought nothing.
NOTHING = Reading(device="", read="", at=stamp())


class Watched:
    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.seen: Counter[str] = Counter()
        self.newest: Reading | None = None
        # The newest of each read.
        self.latest: defaultdict[str, Reading] = defaultdict(lambda: NOTHING)
        self.proof = proven.Seen()

    async def deliver(self, reading: Reading) -> None:
        self.newest = self.latest[reading.read] = reading
        self.trial.take(reading)
        self.seen[reading.read] += 1

    def active(self) -> frozenset[str]:
        """Keys of the conditions that are raised; what a test has looked at is what it has proven."""
        self.proof.active(self.trial.active())
        return self.trial.active()

    async def settled(self) -> frozenset[str]:
        """What is active once everything was read anew and every delay is over."""
        before = self.seen.copy()
        # The first of the two may have been on its way already.
        known = self.trial.device.profile.reads.items()
        reads = [name for name, read in known if not isinstance(read, RequestRead) or read.enabled]
        await wait_until(
            lambda: all(self.seen[read] >= before[read] + 2 for read in reads), what=f"{self.seen}"
        )
        self.trial.wait(LONG_S)
        return self.active()

    async def becomes(self, active: Collection[str]) -> None:
        """Sooner or later exactly these are active, whatever each delay; for what speaks by itself."""
        looked = 0

        def is_so() -> bool:
            nonlocal looked
            if self.seen.total() != looked:
                looked = self.seen.total()
                self.trial.wait(LONG_S)
            return self.trial.active() == set(active)

        await wait_until(is_so, what=f"{active}, newest {self.newest}")
        self.active()


W = TypeVar("W", bound=Watched)


@asynccontextmanager
async def watched(
    profile: str,
    bus: Mapping[str, object],
    *,
    preset: str | None = None,
    overlay: Mapping[str, object] | None = None,
    unit: int = 1,
    topic: str = "",
    by: str = "",
    kind: type[W] = Watched,  # type: ignore[assignment]
) -> AsyncIterator[W]:
    """``by``: the program of another maker that is the device; empty for one of our simulators."""
    text = (PROFILES / f"{profile}.yaml").read_text(encoding="utf-8")
    known = parse(text, name=profile, preset=preset, overlay=overlay)
    device = Device(id="device-1", place="", bus="bus", profile=known, unit=unit, topic=topic)
    module = transports.load(str(bus["transport"]))
    assert module is not None
    watched = kind(Trial(known))
    settings = module.Settings.model_validate({"name": "bus", **bus})
    async with running(module.Transport(settings, [device], watched.deliver, stamp).run()):
        await asyncio.sleep(0)
        yield watched
    proven.add(profile, bus, by, watched.proof)
