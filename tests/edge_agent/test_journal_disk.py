"""Another program fills the disk: what happens is still written down, and all is well afterwards."""

from __future__ import annotations

import asyncio
import os
import random
import re
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextlib import closing as closing_connection
from pathlib import Path
from typing import Any

import pytest
from rigs import journal_writer
from rigs.journals import at_ledger, closing, opened, opening
from rigs.moments import HandClock
from rigs.small_disk import SmallDisk, with_a_disk_of
from structlog.testing import capture_logs

from edge_agent.journal import FILE, Journal, JournalError
from edge_agent.journal_caps import MIB, Caps, Given
from edge_agent.journal_disk import LONG_LOG_BYTES, Ballast, Disk
from edge_agent.wire import MAX_ROWS, Row

# `make disk-full` takes 10,000.
FURTHER = int(os.environ.get("FURTHER", "1500"))
BELTS = 20


class Site:
    def __init__(self, journal: Journal, clock: HandClock) -> None:
        self.journal, self.clock, self.rng = journal, clock, random.Random(7)
        self.jammed: set[str] = set()
        self.refused = 0
        self.written = 0

    async def turn(self, transitions: int, evidence_bytes: int = 0) -> None:
        for _ in range(transitions):
            self.clock.go(1)
            belt = f"belt-{self.rng.randrange(BELTS)}"
            evidence = {"seen": "x" * evidence_bytes} if evidence_bytes else None
            change: Any = (
                closing(self.clock, belt)
                if belt in self.jammed
                else opening(self.clock, belt, evidence=evidence)
            )
            try:
                await self.journal.commit([change])
            except JournalError:
                self.refused += 1
            else:
                self.jammed ^= {belt}
                self.written += 1

    async def open_rows(self) -> list[Row]:
        return await self.journal.open_occurrences()

    async def is_told(self) -> bool:
        return any(row.key == "gw-1|agent|disk" for row in await self.open_rows())

    async def check(self) -> None:
        """What is open is what is jammed, and not one occurrence is missing without being counted."""
        assert {row.device for row in await self.open_rows()} - {"gw-1"} == self.jammed

        def occurrences(ledger: Any) -> int:
            (count,) = ledger._sql.execute(
                "SELECT coalesce(sum(count), 0) FROM occurrence WHERE key LIKE 'belt%'"
            ).fetchone()
            return int(count) + int(ledger.economy.counted(Given.OCCURRENCES_DROPPED))

        raised = (self.written + len(self.jammed)) // 2
        assert await at_ledger(self.journal, occurrences) == raised


@asynccontextmanager
async def site(disk: SmallDisk, *, ballast_bytes: int = 16 * MIB) -> AsyncIterator[Site]:
    clock, rng = HandClock(), random.Random()
    total = os.statvfs(disk.folder)
    journal = await Journal.open(
        disk.folder,
        new_id=lambda: f"{rng.getrandbits(128):032x}",
        stamp=clock.stamp,
        caps=Caps().on_a_disk_of(total.f_blocks * total.f_frsize),
        disk=Disk(disk.folder, ballast_bytes=ballast_bytes),
    )
    try:
        await journal.start("gw-1")
        await journal.tend()
        yield Site(journal, clock)
    finally:
        await journal.close()


def ballast(disk: SmallDisk) -> Path:
    return disk.folder / "ballast"


async def a_full_disk(disk: SmallDisk) -> None:
    async with site(disk) as floor:
        assert ballast(disk).stat().st_blocks * 512 >= ballast(disk).stat().st_size > 100_000
        await floor.turn(400, evidence_bytes=300)
        disk.fill()
        assert not await floor.is_told()
        await floor.turn(FURTHER)
        assert floor.refused == 0
        await floor.journal.tend()
        assert floor.journal.space is not None
        assert floor.journal.space.is_short
        assert await floor.is_told()
        await floor.check()
        disk.empty()
        await floor.journal.tend()
        assert not await floor.is_told()
        await floor.journal.tend()
        assert floor.journal.space.ballast is Ballast.FULL
        assert ballast(disk).exists()
        await floor.turn(2_000, evidence_bytes=300)
        assert floor.refused == 0
        await floor.check()
    # Nothing of it is wrong.
    async with site(disk) as again:
        again.jammed, again.written = floor.jammed, floor.written
        await again.check()


@with_a_disk_of(2)
def test_further_changes_are_written_after_a_disk_of_2_mb_was_filled(disk: SmallDisk) -> None:
    asyncio.run(a_full_disk(disk))


@with_a_disk_of(40)
def test_further_changes_are_written_after_a_disk_of_40_mb_was_filled(disk: SmallDisk) -> None:
    asyncio.run(a_full_disk(disk))


@with_a_disk_of(8)
def test_who_takes_the_room_of_the_ballast_too_stops_nothing(disk: SmallDisk) -> None:
    async def run() -> None:
        async with site(disk) as floor:
            # A log of its usual length, and pages in reserve: what a journal has after its first hours.
            await floor.turn(1_500, evidence_bytes=300)
            await floor.journal.tend()
            disk.fill()
            await floor.turn(500)
            for _ in range(max(2, FURTHER // 2_000)):
                disk.fill()
                await floor.turn(1_000)
                await floor.journal.tend()
            assert not ballast(disk).exists()
            assert floor.refused == 0
            assert await floor.is_told()
            await floor.check()
            disk.empty()
            await floor.journal.tend()
            await floor.turn(500)
            assert floor.refused == 0
            assert not await floor.is_told()

    asyncio.run(run())


@with_a_disk_of(8)
def test_who_takes_the_room_of_the_ballast_at_once_finds_what_the_journal_needs_taken(
    disk: SmallDisk,
) -> None:
    """The journal has not yet grown when the other program comes back."""

    async def run() -> None:
        async with site(disk) as floor:
            await floor.turn(1_500, evidence_bytes=300)
            await floor.journal.tend()
            disk.fill()
            for _ in range(6):
                await floor.turn(200)
                disk.fill()
            assert not ballast(disk).exists()
            await floor.turn(FURTHER)
            assert floor.refused == 0
            await floor.check()

    asyncio.run(run())


@with_a_disk_of(4)
def test_an_agent_starts_on_a_full_disk(disk: SmallDisk) -> None:
    async def run() -> None:
        async with site(disk) as before:
            await before.turn(300, evidence_bytes=300)
        disk.fill()
        async with site(disk) as floor:
            floor.jammed, floor.written = before.jammed, before.written
            assert await floor.is_told()
            await floor.turn(3_000)
            assert floor.refused == 0
            await floor.check()
        # The occurrence of the disk is not closed by a start: nobody watches a device for it.
        disk.empty()
        async with site(disk) as floor:
            assert not await floor.is_told()

    asyncio.run(run())


@with_a_disk_of(8)
def test_an_agent_that_stops_on_a_full_disk_keeps_the_room_that_it_lives_in(disk: SmallDisk) -> None:
    async def run() -> None:
        async with site(disk) as floor:
            await floor.turn(400, evidence_bytes=300)
            for _ in range(2):
                disk.fill()
                await floor.turn(500)
                await floor.journal.tend()
            assert not ballast(disk).exists()
        for _ in range(3):
            # Whatever it gives back another program takes.
            disk.fill()
            async with site(disk) as again:
                again.jammed, again.written = floor.jammed, floor.written
                await again.turn(100)
                assert again.refused == 0
                await again.check()
                floor = again
        disk.empty()
        async with site(disk) as again:
            again.jammed, again.written = floor.jammed, floor.written
            await again.check()
        # With room the file is whole by itself.
        assert not (disk.folder / f"{FILE}-wal").exists()

    asyncio.run(run())


@with_a_disk_of(2)
def test_where_a_full_disk_has_no_room_to_open_a_journal_that_is_said(disk: SmallDisk) -> None:
    async def run() -> None:
        async with site(disk, ballast_bytes=0) as floor:
            await floor.turn(20)
        disk.fill()
        with pytest.raises(JournalError, match="the disk is full and nothing is kept"):
            async with site(disk, ballast_bytes=0):
                pass
        disk.empty()
        async with site(disk, ballast_bytes=0) as again:
            again.jammed, again.written = floor.jammed, floor.written
            await again.check()

    asyncio.run(run())


@with_a_disk_of(8)
def test_on_a_full_disk_what_equipment_said_is_left_out_first(disk: SmallDisk) -> None:
    async def run() -> None:
        async with site(disk) as floor:
            await floor.turn(200, evidence_bytes=2_000)
            disk.fill()
            await floor.turn(2_000, evidence_bytes=4_000)
            assert floor.refused == 0
            await floor.journal.tend()
            assert floor.journal.given_up["evidence_thinned"] > 500
            assert floor.journal.given_up["occurrences_dropped"] == 0
            batch = await floor.journal.batch(max_rows=MAX_ROWS, max_bytes=1 << 20)
            assert batch.lost == 0

    asyncio.run(run())


@with_a_disk_of(2)
def test_a_disk_that_was_always_full_refuses_and_says_so_and_recovers(disk: SmallDisk) -> None:
    async def run() -> None:
        disk.fill(leave=160 << 10)
        async with site(disk) as floor:
            await floor.turn(2_000)
            assert floor.refused
            disk.empty()
            await floor.journal.tend()
            refused = floor.refused
            await floor.turn(500)
            assert floor.refused == refused
            await floor.journal.tend()
            assert ballast(disk).exists()
            await floor.check()

    asyncio.run(run())


async def a_large_journal(disk: SmallDisk, evidence_bytes: int = 0) -> Site:
    """As large as it may be, nothing of it sent, and its oldest row open."""
    async with site(disk) as floor:
        floor.jammed.add("belt-0")
        await floor.journal.commit([opening(floor.clock, "belt-0")])
        floor.written += 1
        while (disk.folder / FILE).stat().st_size < 6.4 * MIB:
            for _ in range(100):
                floor.clock.go(1)
                belt = f"belt-{floor.written}"
                evidence = {"seen": "x" * evidence_bytes} if evidence_bytes else None
                changes = [opening(floor.clock, belt, evidence=evidence), closing(floor.clock, belt)]
                await floor.journal.commit(changes)
                floor.written += 2
        return floor


def break_a_page(disk: SmallDisk) -> None:
    with (disk.folder / FILE).open("r+b") as file:
        file.seek(200 * 4096)
        file.write(bytes(4096))


async def after_a_salvage(disk: SmallDisk) -> tuple[dict[str, int], list[str], Any]:
    """What was given up, the devices in order, and what the agent tells of it."""
    async with site(disk) as floor:
        await floor.journal.tend()
        batch = await floor.journal.batch(max_rows=1_000_000, max_bytes=1 << 40)
        rows = [Row.model_validate(row) for row in batch.rows]
        (report,) = [row for row in rows if row.fault == "journal"]
        assert batch.pruned_through
        return floor.journal.given_up, [row.device for row in rows if row.fault == "jam"], report.evidence


@with_a_disk_of(16)
def test_a_broken_journal_that_does_not_fit_on_its_disk_twice_stops_no_agent(disk: SmallDisk) -> None:
    before = asyncio.run(a_large_journal(disk))
    disk.fill(leave=2 * MIB)
    break_a_page(disk)
    given_up, devices, report = asyncio.run(after_a_salvage(disk))
    # What was open from the start, and the newest.
    assert devices[0] == "belt-0"
    assert devices[-1] == f"belt-{before.written - 2}"
    assert report["rows_given_up"] == given_up["rows_dropped"] == given_up["occurrences_dropped"] > 100
    lost = before.written // 2 + 1 - len(devices)
    # Some may lie in the page that cannot be read.
    assert 0 <= lost - report["rows_given_up"] < 40
    assert len(devices) > 1_000
    # It is room for others, now that all that could be had of it is in the new one.
    assert not list(disk.folder.glob("*.broken-*"))
    assert ballast(disk).exists()


@with_a_disk_of(16)
def test_of_a_broken_journal_evidence_stays_behind_before_any_row_does(disk: SmallDisk) -> None:
    before = asyncio.run(a_large_journal(disk, evidence_bytes=350))
    disk.fill(leave=5 * MIB)
    break_a_page(disk)
    given_up, devices, report = asyncio.run(after_a_salvage(disk))
    assert report["rows_given_up"] == given_up["rows_dropped"] == 0
    assert given_up["evidence_thinned"] > 100
    assert len(devices) > before.written // 2 - 40


@with_a_disk_of(40)
def test_a_broken_journal_that_was_set_aside_goes_before_the_ballast_does(disk: SmallDisk) -> None:
    async def run() -> None:
        await a_large_journal(disk)
        break_a_page(disk)
        async with site(disk) as floor:
            (aside,) = disk.folder.glob("*.broken-*")
            await floor.turn(50)
            disk.fill()
            await floor.turn(FURTHER)
            assert floor.refused == 0
            await floor.journal.tend()
            assert not aside.exists()
            assert ballast(disk).exists()

    asyncio.run(run())


@with_a_disk_of(8)
def test_a_broken_journal_on_a_disk_with_hardly_any_room_stops_no_agent(disk: SmallDisk) -> None:
    async def run() -> None:
        async with site(disk, ballast_bytes=0) as floor:
            await floor.turn(2_000, evidence_bytes=300)
        break_a_page(disk)
        disk.fill(leave=400 << 10)
        async with site(disk, ballast_bytes=0) as again:
            assert floor.jammed <= {row.device for row in await again.open_rows()}

    asyncio.run(run())


def test_no_ballast_larger_than_an_eighth_of_the_disk(tmp_path: Path) -> None:
    disk = Disk(tmp_path, ballast_bytes=1 << 60)
    total = os.statvfs(tmp_path)
    assert disk._ballast_bytes == total.f_blocks * total.f_frsize // 8
    none = Disk(tmp_path, ballast_bytes=0)
    assert none.look().ballast is Ballast.NONE


async def test_a_log_that_a_reader_keeps_long_is_told_once_and_cut_off_when_it_can_be(tmp_path: Path) -> None:
    clock, log_file = HandClock(), tmp_path / f"{FILE}-wal"
    with capture_logs() as said:
        async with opened(tmp_path, clock, disk=Disk(tmp_path, ballast_bytes=0)) as journal:
            await journal.start("gw-1")
            with closing_connection(sqlite3.connect(f"file:{tmp_path / FILE}?mode=ro", uri=True)) as reader:
                reader.execute("BEGIN")
                reader.execute("SELECT count(*) FROM occurrence").fetchone()
                for belt in range(20):
                    evidence = {"seen": "x" * MIB}
                    await journal.commit([opening(clock, f"belt-{belt}", evidence=evidence)])
                assert log_file.stat().st_size > LONG_LOG_BYTES
                for _ in range(3):
                    await journal.tend()
                reader.execute("COMMIT")
            assert log_file.stat().st_size > LONG_LOG_BYTES
            for _ in range(3):
                await journal.tend()
            assert log_file.stat().st_size < MIB
            assert len(await journal.open_occurrences()) == 20
    told = [(one["log_level"], one["event"]) for one in said if "'s log" in one["event"]]
    assert [level for level, _ in told] == ["warning", "info"]
    assert "cannot be cut off" in told[0][1]


# --- a disk that answers with errors --------------------------------------------------------------------


@pytest.mark.parametrize("after", [5, 40, 300])
def test_nothing_is_confirmed_after_a_sync_that_failed(tmp_path: Path, after: int) -> None:
    """fsync is never tried again: the agent ends, and the file is opened and looked at anew."""
    trace = tmp_path / "trace"
    said = subprocess.run(
        [
            *(
                "strace",
                "-f",
                "-q",
                "-o",
                str(trace),
                "-e",
                "trace=fdatasync,write",
                "-s",
                "80",
                "-e",
                "signal=none",
            ),
            *("-e", f"inject=fdatasync:error=EIO:when={after}+", sys.executable),
            *(str(journal_writer.__file__), str(tmp_path)),
        ],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert said.returncode == 1
    assert "disk I/O error" in said.stderr
    lines = trace.read_text().splitlines()
    failed = next(number for number, line in enumerate(lines) if "EIO" in line)
    confirmed = [n for n, line in enumerate(lines) if re.search(r'write\(1, "[0-9a-f]{32}"', line)]
    rows = [line for line in said.stdout.splitlines() if re.match("[0-9a-f]{32} ", line)]
    assert len(confirmed) == len(rows)
    assert bool(rows) is (after > 5)
    # Told on the loop's thread while the other one was syncing already: what was synced before.
    late = [line for line in lines[failed + 1 :] if re.search(r'write\(1, "[0-9a-f]{32}"', line)]
    assert len(late) <= journal_writer.WRITERS
    found = asyncio.run(_rows(tmp_path))
    for line in rows:
        uid, rev, _ = line.split()
        assert found[uid] >= int(rev)


async def _rows(folder: Path) -> dict[str, int]:
    clock = HandClock()
    journal = await Journal.open(folder, new_id=lambda: "f" * 32, stamp=clock.stamp)
    try:
        batch = await journal.batch(max_rows=1_000_000, max_bytes=1 << 40)
        return {row["uid"]: row["rev"] for row in batch.rows if isinstance(row, dict)}
    finally:
        await journal.close()
