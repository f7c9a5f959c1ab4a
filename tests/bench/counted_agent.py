"""``python -m bench.counted_agent FILE EVERY_S``: the real agent, beside a task that prints what it holds."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import uvloop

from edge_agent import agent, config, log


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    rss_mb: float
    descriptors: int
    tasks: int


async def run(settings: Path, every_s: float) -> None:
    log.configure(json=True)
    async with asyncio.TaskGroup() as group:
        counting = group.create_task(_count(every_s))
        await agent.run(config.load(settings))
        counting.cancel()


async def _count(every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        print(json.dumps(asdict(_held(len(asyncio.all_tasks())))), flush=True)


def _held(tasks: int) -> Count:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Count(
        rss_mb=pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
        descriptors=sum(1 for _ in Path("/proc/self/fd").iterdir()),
        tasks=tasks,
    )


if __name__ == "__main__":
    uvloop.run(run(Path(sys.argv[1]), float(sys.argv[2])))
