"""The journal of an edge: transitions a second against a bare loop of the same durability, and what they
write to flash.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing as closed
from pathlib import Path

from bench.table import Figure, show
from rigs.journals import closing, opened, opening
from rigs.moments import HandClock

from edge_agent.journal import Journal

ANCHORS_AN_HOUR = 60


def figures(*, transitions: int = 2_000) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="andon-bench-") as folder:
        bare = _bare(Path(folder) / "bare.db", transitions)
        yield Figure("transactions/s of a bare SQLite loop, FULL", bare)
        for writers, aim in ((1, "0.25"), (10, "0.5")):
            (place := Path(folder) / str(writers)).mkdir()
            rate = asyncio.run(_transitions(place, writers, transitions))
            yield Figure(f"transitions/s of the journal, {writers} at once", rate, "", rate / bare, aim)
        (place := Path(folder) / "written").mkdir()
        per_transition, per_hour = asyncio.run(_written(place, transitions // 4))
        yield Figure("bytes written per transition, one at a time", per_transition)
        yield Figure("bytes written per idle hour (the minute's anchor)", per_hour)


def _bare(path: Path, transactions: int) -> float:
    with closed(sqlite3.connect(path, isolation_level=None)) as sql:
        sql.execute("PRAGMA journal_mode = WAL")
        sql.execute("PRAGMA synchronous = FULL")
        sql.execute("CREATE TABLE told (seq INTEGER PRIMARY KEY, row TEXT)")
        row = "x" * 800
        started_s = time.perf_counter()
        for _ in range(transactions):
            sql.execute("BEGIN IMMEDIATE")
            sql.execute("INSERT INTO told (row) VALUES (?)", (row,))
            sql.execute("COMMIT")
        return transactions / (time.perf_counter() - started_s)


async def _transitions(folder: Path, writers: int, transitions: int) -> float:
    clock = HandClock()
    async with opened(folder, clock) as journal:
        started_s = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for n in range(writers):
                group.create_task(_raise_and_clear(journal, clock, f"belt-{n}", transitions // writers))
        return transitions / (time.perf_counter() - started_s)


async def _raise_and_clear(journal: Journal, clock: HandClock, device: str, transitions: int) -> None:
    for _ in range(transitions // 2):
        await journal.commit([opening(clock, device)])
        await journal.commit([closing(clock, device)])


async def _written(folder: Path, transitions: int) -> tuple[float, float]:
    """Counted by the kernel, checkpoints and the closing of the file included."""
    clock = HandClock()
    async with opened(folder, clock):
        pass
    before = _bytes_written()
    async with opened(folder, clock) as journal:
        await _raise_and_clear(journal, clock, "belt-1", transitions)
    per_transition = (_bytes_written() - before) / transitions
    before = _bytes_written()
    async with opened(folder, clock) as journal:
        for _ in range(ANCHORS_AN_HOUR):
            await journal.anchor()
    return per_transition, _bytes_written() - before


def _bytes_written() -> int:
    """Handed to the kernel by this process; everything here is synced, so it reaches the disk."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("wchar:"))


if __name__ == "__main__":
    show(figures())
