"""An agent for a long time among devices that fault, vanish and come back, and a real collector: its memory,
descriptors and tasks have to stay what they are.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import cost
from bench.counted_agent import Count
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice
from rigs.ports import free_port
from rigs.warehouse import Agent, warehouse

DEVICES, EVERY_S, COUNT_EVERY_S = 50, 0.5, 5.0
# How often something happens to a device, and for how long one that vanishes stays away.
CHURN_S, AWAY_S = 0.2, (1.0, 8.0)
# Until then caches fill and the journal grows into its pages.
WARM_SHARE = 1 / 3
# What the last third may have more than the one before it.
MAY_GROW = {"rss_mb": 3.0, "descriptors": 2.0, "tasks": 2.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Of one thing that is counted: its mean in the second and the last third of the time, and the most."""

    name: str
    before: float
    after: float
    most: float

    @property
    def leaks(self) -> bool:
        return self.after - self.before > MAY_GROW[self.name]


def judge(counts: Sequence[Count]) -> list[Judged]:
    warm = counts[int(len(counts) * WARM_SHARE) :]
    half = len(warm) // 2
    found = []
    for name in MAY_GROW:
        told = [float(getattr(one, name)) for one in warm]
        before, after = told[:half], told[half:]
        found.append(
            Judged(
                name=name,
                before=sum(before) / len(before),
                after=sum(after) / len(after),
                most=max(told),
            )
        )
    return found


async def soak(
    seconds: float, *, devices: int, every_s: float, tell: Callable[[Count, float], None]
) -> list[Count]:
    """What was counted every ``every_s``. ``tell`` hears of each, and how much time is left."""
    counts: list[Count] = []
    with tempfile.TemporaryDirectory(prefix="andon-soak-") as name:
        folder = Path(name)
        async with warehouse(folder) as site, _churning(devices) as ports:
            cost.write_profile(folder)
            agent = Agent(folder / "gw-1", "gw-1")
            agent.configure(f'profiles_dir = "{folder}"\n{cost.buses(ports, EVERY_S)}')
            agent.enroll(site.collector.url, site.gateway_token("gw-1"))
            with _program(agent.config, every_s) as lines:
                began_s = time.monotonic()
                while (left_s := began_s + seconds - time.monotonic()) > 0:
                    line = await asyncio.to_thread(lines)
                    assert line, "the agent has ended"
                    counts.append(Count(**json.loads(line)))
                    tell(counts[-1], left_s)
    return counts


@asynccontextmanager
async def _churning(devices: int) -> AsyncIterator[list[int]]:
    """Devices of which every ``CHURN_S`` one faults, recovers, or is gone for a while. Their ports."""
    ports = [free_port() for _ in range(devices)]
    memories = [SimData(0, values=[0] * cost.BLOCK, datatype=DataType.REGISTERS) for _ in ports]
    words = [0] * devices
    servers: dict[int, ModbusTcpServer] = {}

    async def plug(number: int) -> None:
        async def answer(
            _function: int, start: int, _address: int, _count: int, registers: list[int], _written: object
        ) -> None:
            registers[0 - start] = words[number]

        device = SimDevice(1, simdata=memories[number], action=answer)
        servers[number] = ModbusTcpServer(device, address=("127.0.0.1", ports[number]))
        await servers[number].serve_forever(background=True)

    async def unplug(number: int, away_s: float) -> None:
        await servers.pop(number).shutdown()
        await asyncio.sleep(away_s)
        await plug(number)

    async def churn(group: asyncio.TaskGroup) -> None:
        chance = random.Random(1)
        while True:
            await asyncio.sleep(CHURN_S)
            number = chance.randrange(devices)
            if number not in servers:
                continue
            if chance.random() < 0.25:
                group.create_task(unplug(number, chance.uniform(*AWAY_S)))
            else:
                words[number] ^= chance.choice([1, 2])

    for number in range(devices):
        await plug(number)
    async with asyncio.TaskGroup() as group:
        churning = group.create_task(churn(group))
        try:
            yield ports
        finally:
            churning.cancel()
    for server in servers.values():
        await server.shutdown()


@contextmanager
def _program(settings: Path, every_s: float) -> Iterator[Callable[[], str]]:
    """Its next line, each time."""
    words = [sys.executable, "-m", "bench.counted_agent", str(settings), str(every_s)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with (
        settings.with_suffix(".log").open("wb") as log,
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True, env=environment) as process,
    ):
        assert process.stdout is not None
        try:
            yield process.stdout.readline
        finally:
            process.terminate()


def _show(count: Count, left_s: float) -> None:
    said = f"{count.rss_mb:.1f} MB, {count.descriptors} descriptors, {count.tasks} tasks"
    print(f"\r{said}; {left_s:.0f} s left   ", end="", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    asked = parser.parse_args()
    # Of connections that we break on purpose.
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    counts = asyncio.run(soak(asked.minutes * 60, devices=DEVICES, every_s=COUNT_EVERY_S, tell=_show))
    print(f"\n{'':14} {'2nd third':>10} {'last third':>10} {'at most':>10}")
    judged = judge(counts)
    for one in judged:
        print(f"{one.name:14} {one.before:>10.1f} {one.after:>10.1f} {one.most:>10.1f}")
    leaks = [one.name for one in judged if one.leaks]
    print(f"it leaks: {', '.join(leaks)}" if leaks else "nothing grows")
    return 1 if leaks else 0


if __name__ == "__main__":
    sys.exit(main())
