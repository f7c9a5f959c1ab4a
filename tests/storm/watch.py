"""Watches a collector from outside while it has much to do: its pages, its memory, its time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import time
from collections.abc import AsyncIterator, Coroutine, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from rigs.collector_program import CollectorProgram

LOOK_EVERY_S = 0.5
TICKETS = "/api/v1/tickets?state=open&limit=200"
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(kw_only=True)
class Watcher:
    """What somebody at the desk feels, and what the collector's process takes."""

    tickets_s: list[float] = field(default_factory=list)
    healthz_s: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    # When a ticket was first seen in the list.
    seen: dict[str, float] = field(default_factory=dict)
    mib: list[float] = field(default_factory=list)

    async def look(self, collector: CollectorProgram, token: str) -> None:
        """Again and again at the newest open tickets."""
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=collector.url, trust_env=False, headers=headers) as desk:
            while True:
                await self._ask(desk, "/healthz", self.healthz_s)
                answer = await self._ask(desk, TICKETS, self.tickets_s)
                now_s = time.monotonic()
                if answer is not None:
                    for item in answer.json()["items"]:
                        self.seen.setdefault(item["id"], now_s)
                await asyncio.sleep(LOOK_EVERY_S)

    async def _ask(self, desk: httpx.AsyncClient, path: str, seconds: list[float]) -> httpx.Response | None:
        begun_s = time.monotonic()
        answer = await desk.get(path, timeout=60)
        seconds.append(time.monotonic() - begun_s)
        if answer.status_code == 200:
            return answer
        self.errors.append(f"{path}: {answer.status_code}")
        return None

    async def weigh(self, pid: int) -> None:
        while True:
            self.mib.append(rss_mib(pid))
            await asyncio.sleep(1)


def rss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"process {pid} has ended")


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def own_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@contextlib.asynccontextmanager
async def background(*work: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """While inside, these run; one that fails is an error here."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome


def quantile(values: Iterable[float], share: float) -> float:
    """0 when there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
