"""The journal of an edge: transitions a second against a bare loop of the same durability, and what they
write to flash.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing as closed
from pathlib import Path

from bench.table import Figure, show
from rigs.journals import closing, opened, opening
from rigs.moments import HandClock

from collector.gathering import Gathering
from edge_agent.journal import Journal

ANCHORS_AN_HOUR = 60
MANY = 10


def figures(*, transitions: int = 2_000) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="andon-bench-") as folder:
        bare = _bare(Path(folder) / "bare.db", transitions)
        yield Figure("transactions/s of a bare SQLite loop, FULL", bare)
        together = asyncio.run(_bare_together(Path(folder) / "together.db", MANY, transitions * 4))
        yield Figure(f"the same, what {MANY} ask for at once in one transaction", together)
        for writers, loop, against, aim in (
            (1, bare, "it", "0.25"),
            (MANY, together, "the loop of groups", "0.5"),
            (MANY, bare, "the loop of one by one", ""),
        ):
            (place := Path(folder) / f"{writers} {against}").mkdir()
            rate = asyncio.run(_transitions(place, writers, transitions))
            yield Figure(f"transitions/s, {writers} at once, against {against}", rate, "", rate / loop, aim)
        (place := Path(folder) / "written").mkdir()
        per_transition, per_hour = asyncio.run(_written(place, transitions // 4))
        yield Figure("bytes written per transition, one at a time", per_transition)
        yield Figure("bytes written per idle hour (the minute's anchor)", per_hour)
        for writers in (1, MANY):
            (place := Path(folder) / f"traced {writers}").mkdir()
            synced = (_syncs(place, writers, transitions // 4) - _syncs(place, writers, 0)) / (
                transitions // 4
            )
            yield Figure(f"syncs of the disk per transition, {writers} at once", synced)


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


async def _bare_together(path: Path, writers: int, transactions: int) -> float:
    """As ``_bare``, but what waits while the disk is synced is one transaction."""
    with (
        closed(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as sql,
        ThreadPoolExecutor(1) as thread,
    ):
        sql.execute("PRAGMA journal_mode = WAL")
        sql.execute("PRAGMA synchronous = FULL")
        sql.execute("CREATE TABLE told (seq INTEGER PRIMARY KEY, row TEXT)")

        def commit(rows: Sequence[str]) -> list[None]:
            sql.execute("BEGIN IMMEDIATE")
            sql.executemany("INSERT INTO told (row) VALUES (?)", [(row,) for row in rows])
            sql.execute("COMMIT")
            return [None] * len(rows)

        async def work(rows: Sequence[str]) -> list[None]:
            return await asyncio.get_running_loop().run_in_executor(thread, commit, rows)

        gathering: Gathering[str, None] = Gathering(work, at_most=writers)

        async def write() -> None:
            for _ in range(transactions // writers):
                await gathering("x" * 800)

        started_s = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(writers):
                group.create_task(write())
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


def _syncs(folder: Path, writers: int, transitions: int) -> int:
    """Of a program of its own, counted by strace."""
    program = (
        "import asyncio, sys; from pathlib import Path; from bench.journal import _transitions; "
        "asyncio.run(_transitions(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))"
    )
    said = folder / "strace"
    strace = ["strace", "-f", "-q", "--seccomp-bpf", "-e", "trace=fsync,fdatasync", "-o", str(said)]
    words = [sys.executable, "-c", program, str(folder), str(writers), str(transitions)]
    subprocess.run([*strace, *words], check=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    return sum("sync(" in line for line in said.read_text().splitlines())


def _bytes_written() -> int:
    """Handed to the kernel by this process; everything here is synced, so it reaches the disk."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("wchar:"))


if __name__ == "__main__":
    show(figures())
