from __future__ import annotations

import asyncio
import random
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from rigs import journal_writer
from rigs.journals import at_ledger, change_file, closing, limit_pages, opened, opening
from rigs.moments import HandClock, ids
from rigs.small_disk import SmallDisk, with_a_disk_of

from edge_agent import journal_file, ledger
from edge_agent.journal import FILE, LOCK, Journal, JournalError, Moved, Present
from edge_agent.ledger import Batch, Ledger
from edge_agent.wire import LINEAGE_MAX, MAX_ROWS, ORIGIN, SyncAnswer

T = TypeVar("T")
KILLS = 24


async def whole_batch(journal: Journal) -> Batch:
    return await journal.batch(max_rows=MAX_ROWS, max_bytes=1 << 20)


# --- occurrences
# -------------------------------------------------------------------------------------------------


async def test_a_jam_is_one_row_that_is_raised_and_closed(tmp_path: Path) -> None:
    clock = HandClock()
    async with opened(tmp_path, clock) as journal:
        (raised,) = await journal.commit([opening(clock, evidence={"samples": []})])
        assert (raised.rev, raised.state, raised.mod_seq) == (1, "open", 1)
        assert await journal.open_occurrences() == [raised]
        good = clock.go(5)
        (cleared,) = await journal.commit([closing(clock)])
        assert (cleared.uid, cleared.rev, cleared.state, cleared.mod_seq) == (raised.uid, 2, "closed", 2)
        assert (cleared.cleared, cleared.reason, cleared.evidence) == (good, "cleared", {"samples": []})
        assert await journal.open_occurrences() == []


async def test_a_jam_that_returns_is_another_occurrence(tmp_path: Path) -> None:
    clock = HandClock()
    async with opened(tmp_path, clock) as journal:
        rows = await journal.commit([opening(clock), closing(clock), opening(clock)])
        assert [row.rev for row in rows] == [1, 2, 1]
        assert rows[0].uid == rows[1].uid != rows[2].uid


async def test_uids_lie_in_the_order_of_the_gateways_own_clock(tmp_path: Path) -> None:
    clock = HandClock()
    dice = random.Random(1)
    async with opened(tmp_path, clock, lambda: f"{dice.getrandbits(128):032x}") as journal:
        uids = []
        for number in range(20):
            (row,) = await journal.commit([opening(clock, f"belt-{number}")])
            assert int(row.uid[:12], 16) == clock.stamp().wall_ms
            uids.append(row.uid)
            clock.go(1)
    assert uids == sorted(uids)


async def test_what_is_repeated_changes_nothing(tmp_path: Path) -> None:
    clock = HandClock()
    async with opened(tmp_path, clock) as journal:
        assert await journal.commit([closing(clock)]) == []
        (row,) = await journal.commit([opening(clock)])
        assert await journal.commit([opening(clock)]) == []
        assert await journal.commit([closing(clock, uid="f" * 32)]) == []
        assert await journal.open_occurrences() == [row]


async def test_after_a_restart_open_occurrences_and_positions_go_on(tmp_path: Path) -> None:
    clock, new_id = HandClock(), ids()
    async with opened(tmp_path, clock, new_id) as journal:
        before = await journal.commit([opening(clock, "belt-1"), opening(clock, "belt-2")])
        stream = (await whole_batch(journal)).stream
    async with opened(tmp_path, clock, new_id) as journal:
        assert await journal.open_occurrences() == before
        (row,) = await journal.commit([closing(clock, "belt-1")])
        assert row.mod_seq == 3
        assert (await whole_batch(journal)).stream == stream


async def test_nothing_is_written_when_nothing_changes(tmp_path: Path) -> None:
    clock = HandClock()
    async with opened(tmp_path, clock) as journal:
        await journal.commit([opening(clock)])
        await whole_batch(journal)
        wal = tmp_path / f"{FILE}-wal"
        size = wal.stat().st_size
        for _ in range(20):
            batch = await whole_batch(journal)
            await journal.open_occurrences()
            assert await journal.take_answer(answer(batch, hwm=batch.from_), may_renew=True) is Moved.STAYED
        assert wal.stat().st_size == size


async def test_every_commit_is_synced_and_one_file_holds_all(tmp_path: Path) -> None:
    async with opened(tmp_path, HandClock()) as journal:

        def pragmas(ledger: Ledger) -> tuple[object, object]:
            ask = ledger._sql.execute
            return ask("PRAGMA journal_mode").fetchone()[0], ask("PRAGMA synchronous").fetchone()[0]

        # 2 is FULL.
        assert await at_ledger(journal, pragmas) == ("wal", 2)
        assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


# --- the time in which no agent ran
# --------------------------------------------------------------------------


async def test_the_first_start_has_nothing_to_tell(tmp_path: Path) -> None:
    async with opened(tmp_path, HandClock()) as journal:
        assert await journal.start("gw-1") is None
        assert (await whole_batch(journal)).rows == []


async def test_each_later_start_tells_from_when_to_when_no_agent_ran(tmp_path: Path) -> None:
    clock, new_id = HandClock(), ids()
    async with opened(tmp_path, clock, new_id) as journal:
        await journal.start("gw-1")
        clock.go(90)
        stopped = clock.stamp()
    clock.reboot(600)
    async with opened(tmp_path, clock, new_id) as journal:
        assert await journal.start("gw-1") == stopped
        (row,) = (await whole_batch(journal)).rows
        assert isinstance(row, dict)
        assert (row["device"], row["component"], row["fault"]) == ("gw-1", "agent", "not-running")
        assert (row["state"], row["reason"], row["severity"]) == ("closed", "restarted", 10)
        assert row["first_bad"]["wall_ms"] == stopped.wall_ms
        assert row["cleared"]["wall_ms"] == stopped.wall_ms + 600_000
        assert row["first_bad"]["boot"] != row["cleared"]["boot"]


async def test_a_pulled_plug_is_dated_from_the_last_anchor(tmp_path: Path) -> None:
    clock, new_id = HandClock(), ids()
    async with opened(tmp_path, clock, new_id) as journal:
        await journal.start("gw-1")
        anchored = clock.go(60)
        await journal.anchor()
        clock.go(42)
        # The plug is pulled: what was committed is there, the last anchor of a close is not.
        with sqlite3.connect(tmp_path / FILE) as source, sqlite3.connect(tmp_path / "copy") as copy:
            source.backup(copy)
    folder = tmp_path / "after"
    folder.mkdir()
    (tmp_path / "copy").rename(folder / FILE)
    async with opened(folder, clock, new_id) as journal:
        assert await journal.start("gw-1") == anchored


# --- many callers, and callers that go away
# ------------------------------------------------------------------


class CountingWriter:
    """Stands between the journal and its thread; can fail."""

    def __init__(self, inner: object) -> None:
        self.inner = inner
        self.transactions = 0
        self.failure: sqlite3.Error | None = None

    async def run(self, work: Callable[[Ledger], T]) -> T:
        self.transactions += 1
        if self.failure is not None:
            raise self.failure
        found: T = await self.inner.run(work)  # type: ignore[attr-defined]
        return found

    async def close(self) -> None:
        await self.inner.close()  # type: ignore[attr-defined]


def counted(journal: Journal) -> CountingWriter:
    writer = CountingWriter(journal._writer)
    journal._writer = writer
    return writer


async def test_changes_of_many_devices_share_a_transaction(tmp_path: Path) -> None:
    clock = HandClock()
    async with opened(tmp_path, clock) as journal:
        writer = counted(journal)
        rows = await asyncio.gather(*(journal.commit([opening(clock, f"belt-{n}")]) for n in range(200)))
        assert sorted(row.mod_seq for (row,) in rows) == list(range(1, 201))
        assert writer.transactions < 10


async def test_callers_that_are_cancelled_leave_the_journal_well(tmp_path: Path) -> None:
    clock, rng = HandClock(), random.Random(7)
    async with opened(tmp_path, clock) as journal:
        calls = []
        for number in range(300):
            calls.append(asyncio.create_task(journal.commit([opening(clock, f"belt-{number}")])))
            if rng.random() < 0.5:
                await asyncio.sleep(0)
            if rng.random() < 0.5:
                rng.choice(calls).cancel()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        done = [rows[0].device for rows in outcomes if isinstance(rows, list)]
        assert 0 < len(done) < 300
        # Cancelled means unknown, never half: what was confirmed is there, and whoever repeats is told
        # the truth.
        assert set(done) <= {row.device for row in await journal.open_occurrences()}
        await asyncio.gather(*(journal.commit([opening(clock, f"belt-{number}")]) for number in range(300)))
        assert len(await journal.open_occurrences()) == 300


async def test_a_unit_that_fails_leaves_the_others_alone(tmp_path: Path) -> None:
    clock = HandClock()

    def wrong(ledger: Ledger) -> None:
        ledger.write([opening(clock, "belt-9")], now=clock.stamp())
        raise ValueError("a bug")

    async with opened(tmp_path, clock) as journal:
        outcomes = await asyncio.gather(
            journal.commit([opening(clock, "belt-1")]),
            at_ledger(journal, wrong),
            journal.commit([opening(clock, "belt-2")]),
            return_exceptions=True,
        )
        assert isinstance(outcomes[1], ValueError)
        assert [row.device for row in await journal.open_occurrences()] == ["belt-1", "belt-2"]


async def test_a_full_disk_refuses_and_recovers(tmp_path: Path) -> None:
    clock = HandClock()
    async with opened(tmp_path, clock) as journal:
        await at_ledger(journal, lambda ledger: None)
        pages = await at_ledger(journal, lambda ledger: limit_pages(ledger, 0))
        await at_ledger(journal, lambda ledger: limit_pages(ledger, pages + 1))
        with pytest.raises(JournalError, match="full"):
            await _commit_one_by_one(journal, clock, 1_000)
        kept = len(await journal.open_occurrences())
        assert 0 < kept < 1_000
        await at_ledger(journal, lambda ledger: limit_pages(ledger, pages + 100))
        await journal.commit([opening(clock, "belt-last")])
        assert len(await journal.open_occurrences()) == kept + 1


async def _commit_one_by_one(journal: Journal, clock: HandClock, count: int) -> None:
    for number in range(count):
        await journal.commit([opening(clock, f"belt-{number}", evidence={"a": "x" * 2_000})])


async def test_after_an_error_of_the_disk_the_file_is_used_no_more(tmp_path: Path) -> None:
    clock = HandClock()
    async with opened(tmp_path, clock) as journal:
        writer = counted(journal)
        writer.failure = sqlite3.OperationalError("disk I/O error")
        with pytest.raises(JournalError, match="disk I/O error"):
            await journal.commit([opening(clock)])
        writer.failure = None
        with pytest.raises(JournalError, match="disk I/O error"):
            await journal.commit([opening(clock)])


async def test_nobody_waits_for_a_journal_whose_task_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = HandClock()

    async def fails(*_: object) -> None:
        raise OSError("no room for a line of log")

    async with opened(tmp_path, clock) as journal:
        await journal.start("gw-1")
        monkeypatch.setattr(Journal, "_commit", fails)
        async with asyncio.timeout(5):
            outcomes = await asyncio.gather(
                *(journal.commit([opening(clock, f"belt-{number}")]) for number in range(ledger.FEW_ROWS)),
                return_exceptions=True,
            )
            assert {type(outcome) for outcome in outcomes} == {JournalError}
            with pytest.raises(JournalError, match="no room for a line"):
                await journal.commit([opening(clock)])
        # What systemd's watchdog looks at.
        assert journal.broken


async def test_a_closed_journal_says_so(tmp_path: Path) -> None:
    clock = HandClock()
    async with opened(tmp_path, clock) as journal:
        pass
    with pytest.raises(JournalError):
        await journal.commit([opening(clock)])


async def test_news_wake_whoever_sends_them(tmp_path: Path) -> None:
    clock = HandClock()
    async with opened(tmp_path, clock) as journal:
        await journal.open_occurrences()
        await journal.anchor()
        assert not journal.changed.is_set()
        await journal.commit([opening(clock)])
        assert journal.changed.is_set()


# --- what goes to the collector
# ------------------------------------------------------------------------------


def answer(
    batch: Batch, *, hwm: tuple[int, str], verdict: str = "ok", want: tuple[str, ...] = ()
) -> SyncAnswer:
    return SyncAnswer(verdict=verdict, stream=batch.stream, hwm=hwm, want=list(want), server_ms=0)


async def test_a_row_that_changed_twice_is_sent_once_in_its_newest_form(tmp_path: Path) -> None:
    clock = HandClock()
    async with opened(tmp_path, clock) as journal:
        await journal.commit([opening(clock, "belt-1"), opening(clock, "belt-2"), closing(clock, "belt-1")])
        batch = await whole_batch(journal)
        assert [(row["device"], row["rev"], row["mod_seq"]) for row in _rows(batch)] == [
            ("belt-2", 1, 2),
            ("belt-1", 2, 3),
        ]
        assert batch.at_head
        assert batch.open_uids == [_rows(batch)[0]["uid"]]
        assert (batch.from_, batch.to[0], batch.waiting) == (ORIGIN, 3, 2)


def _rows(batch: Batch | Present) -> list[dict[str, object]]:
    return [row for row in batch.rows if isinstance(row, dict)]


async def test_a_backlog_goes_in_order_and_in_pieces(tmp_path: Path) -> None:
    clock = HandClock()
    async with opened(tmp_path, clock) as journal:
        await journal.commit([opening(clock, f"belt-{n}") for n in range(10)])
        sent = []
        for _ in range(4):
            batch = await journal.batch(max_rows=3, max_bytes=1 << 20)
            sent.append([row["mod_seq"] for row in _rows(batch)])
            assert batch.lineage == [batch.from_, batch.to]
            await journal.take_answer(answer(batch, hwm=batch.to), may_renew=True)
        assert sent == [[1, 2, 3], [4, 5, 6], [7, 8, 9], [10]]
        one = await journal.batch(max_rows=3, max_bytes=1)
        assert one.lineage == [one.from_] == [one.to]
        assert one.at_head


async def test_a_piece_holds_as_many_bytes_as_fit_and_at_least_one_row(tmp_path: Path) -> None:
    clock = HandClock()
    async with opened(tmp_path, clock) as journal:
        await journal.commit([opening(clock, f"belt-{n}", evidence={"a": "x" * 1000}) for n in range(5)])
        assert len((await journal.batch(max_rows=500, max_bytes=4_000)).rows) == 2
        assert len((await journal.batch(max_rows=500, max_bytes=10)).rows) == 1


async def test_a_boundary_is_announced_again_and_later_ones_are_in_the_lineage(tmp_path: Path) -> None:
    clock = HandClock()
    async with opened(tmp_path, clock) as journal:
        await journal.commit([opening(clock, "belt-1")])
        first = await whole_batch(journal)
        await journal.commit([opening(clock, "belt-2")])
        again = await journal.batch(max_rows=500, max_bytes=1 << 20, through=first.to[0])
        assert again.to == first.to
        assert not again.at_head
        later = await whole_batch(journal)
        assert later.lineage == [ORIGIN, first.to, later.to]


async def test_the_lineage_names_the_newest_boundaries_alone(tmp_path: Path) -> None:
    clock = HandClock()
    async with opened(tmp_path, clock) as journal:
        for number in range(80):
            await journal.commit([opening(clock, f"belt-{number}")])
            batch = await whole_batch(journal)
        assert len(batch.lineage) == LINEAGE_MAX
        assert [seq for seq, _ in batch.lineage] == [0, *range(16, 81)]


async def test_only_so_many_boundaries_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "BOUNDARIES_KEPT", 5)
    clock = HandClock()
    async with opened(tmp_path, clock) as journal:
        for number in range(9):
            await journal.commit([opening(clock, f"belt-{number}")])
            batch = await whole_batch(journal)
        assert [seq for seq, _ in batch.lineage] == [0, *range(5, 10)]


async def test_a_collector_that_stands_at_an_old_boundary_of_this_journal_gets_the_rest(
    tmp_path: Path,
) -> None:
    clock = HandClock()
    async with opened(tmp_path, clock) as journal:
        await journal.commit([opening(clock, "belt-0")])
        old = (await whole_batch(journal)).to
        for number in range(1, 200):
            await journal.commit([opening(clock, f"belt-{number}")])
            batch = await whole_batch(journal)
        await journal.take_answer(answer(batch, hwm=batch.to), may_renew=True)
        assert await journal.take_answer(answer(batch, hwm=old), may_renew=True) is Moved.BACKWARDS
        again = await whole_batch(journal)
        assert (again.stream, again.from_, len(again.rows)) == (batch.stream, old, 199)


async def test_a_position_that_this_journal_made_is_no_fork_whatever_the_collector_calls_it(
    tmp_path: Path,
) -> None:
    """The lineage names the newest boundaries alone, and the collector stands at an older one."""
    clock = HandClock()
    async with opened(tmp_path, clock) as journal:
        await journal.commit([opening(clock, "belt-1")])
        old = (await whole_batch(journal)).to
        await journal.commit([opening(clock, "belt-2")])
        batch = await whole_batch(journal)
        told = answer(batch, hwm=old, verdict="fork")
        assert await journal.take_answer(told, may_renew=True) is Moved.FORWARDS
        assert (await whole_batch(journal)).from_ == old


async def test_the_cursor_goes_where_the_collector_stands(tmp_path: Path) -> None:
    clock = HandClock()
    async with opened(tmp_path, clock) as journal:
        tos = []
        for number in range(3):
            await journal.commit([opening(clock, f"belt-{number}")])
            tos.append((await whole_batch(journal)).to)
        batch = await whole_batch(journal)

        async def move(hwm: tuple[int, str]) -> tuple[Moved, tuple[int, str]]:
            moved = await journal.take_answer(answer(batch, hwm=hwm), may_renew=True)
            return moved, (await whole_batch(journal)).from_

        assert await move(tos[1]) == (Moved.FORWARDS, tos[1])
        assert await move(tos[1]) == (Moved.STAYED, tos[1])
        assert await move(tos[2]) == (Moved.FORWARDS, tos[2])
        assert await move(tos[0]) == (Moved.BACKWARDS, tos[0])
        assert await move(tos[2]) == (Moved.FORWARDS, tos[2])
        assert await move(ORIGIN) == (Moved.BACKWARDS, ORIGIN)
        assert len((await whole_batch(journal)).rows) == 3
        # What it asks a stream that it does not know yet.
        assert await move((0, "e" * 32)) == (Moved.BACKWARDS, (0, "e" * 32))


@pytest.mark.parametrize(
    ("hwm", "verdict"),
    [
        ((9, "e" * 32), "ok"),
        # A backup of the collector from before this disk was rolled back: up to 2 it has other rows.
        ((2, "e" * 32), "ok"),
        ((1, "e" * 32), "behind"),
        ((2, "e" * 32), "fork"),
        (ORIGIN, "superseded"),
    ],
)
async def test_another_history_begins_a_new_stream_and_all_is_sent_again(
    tmp_path: Path, hwm: tuple[int, str], verdict: str
) -> None:
    clock = HandClock()
    async with opened(tmp_path, clock) as journal:
        await journal.commit([opening(clock, "belt-1"), opening(clock, "belt-2")])
        batch = await whole_batch(journal)
        await journal.take_answer(answer(batch, hwm=batch.to), may_renew=True)
        told = answer(batch, hwm=hwm, verdict=verdict)
        assert await journal.take_answer(told, may_renew=False) is Moved.NEW_STREAM_LATER
        assert (await whole_batch(journal)).stream == batch.stream
        assert await journal.take_answer(told, may_renew=True) is Moved.NEW_STREAM
        anew = await whole_batch(journal)
        assert anew.stream != batch.stream
        assert (anew.from_, len(anew.rows), anew.lineage) == (ORIGIN, 2, [ORIGIN, anew.to])
        # Whoever answers to the old name is too late.
        assert await journal.take_answer(told, may_renew=True) is Moved.IGNORED


async def test_a_disk_that_was_rolled_back_behind_what_it_told_ahead_begins_a_new_stream(
    tmp_path: Path,
) -> None:
    clock = HandClock()
    async with opened(tmp_path, clock) as journal:
        await journal.commit([opening(clock, "belt-1"), opening(clock, "belt-2")])
        batch = await whole_batch(journal)

        async def move(ahead: int) -> Moved:
            told = answer(batch, hwm=ORIGIN).model_copy(update={"ahead": ahead})
            return await journal.take_answer(told, may_renew=True)

        assert await move(2) is Moved.STAYED
        assert await move(3) is Moved.NEW_STREAM


async def test_open_rows_after_a_position_as_far_as_they_fit(tmp_path: Path) -> None:
    clock = HandClock()
    async with opened(tmp_path, clock) as journal:
        await journal.commit([opening(clock, f"belt-{number}") for number in range(5)])
        await journal.commit([closing(clock, "belt-3")])

        async def ahead(after: int, rows: int) -> tuple[list[object], int, bool]:
            found = await journal.present(after=after, max_rows=rows, max_bytes=1 << 20)
            assert (found.head_seq, len(found.open_uids)) == (6, 4)
            return [row["device"] for row in _rows(found)], found.through, found.complete

        assert await ahead(1, 2) == (["belt-1", "belt-2"], 3, False)
        assert await ahead(3, 2) == (["belt-4"], 5, True)
        assert await ahead(5, 2) == ([], 5, True)
        assert len((await journal.present(after=0, max_rows=9, max_bytes=1)).rows) == 1


async def test_a_row_that_the_collector_wants_gets_a_new_position(tmp_path: Path) -> None:
    clock = HandClock()
    async with opened(tmp_path, clock) as journal:
        first, second = await journal.commit([opening(clock, "belt-1"), opening(clock, "belt-2")])
        batch = await whole_batch(journal)
        journal.changed.clear()
        await journal.take_answer(answer(batch, hwm=batch.to, want=(first.uid, "f" * 32)), may_renew=True)
        assert journal.changed.is_set()
        batch = await whole_batch(journal)
        assert [(row["uid"], row["rev"], row["mod_seq"]) for row in _rows(batch)] == [(first.uid, 1, 3)]
        assert batch.open_uids == [second.uid, first.uid]
        # It is on its way already.
        await journal.take_answer(answer(batch, hwm=batch.from_, want=(first.uid,)), may_renew=True)
        assert (await whole_batch(journal)).head_seq == 3


# --- pruning
# -------------------------------------------------------------------------------------------------


async def test_only_what_is_closed_acknowledged_and_old_is_pruned(tmp_path: Path) -> None:
    clock = HandClock()
    async with opened(tmp_path, clock) as journal:
        await journal.start("gw-1")
        old = [change(clock, f"belt-{n}") for n in range(3) for change in (opening, closing)]
        await journal.commit([*old, opening(clock, "belt-open")])
        clock.go(31 * 86_400)
        await journal.commit([opening(clock, "belt-new"), closing(clock, "belt-new")])
        assert await journal.prune() == 0
        batch = await journal.batch(max_rows=2, max_bytes=1 << 20)
        await journal.take_answer(answer(batch, hwm=batch.to), may_renew=True)
        assert await journal.prune() == 2
        assert (await whole_batch(journal)).pruned_through == 4
        batch = await whole_batch(journal)
        await journal.take_answer(answer(batch, hwm=batch.to), may_renew=True)
        assert await journal.prune() == 1
        await journal.take_answer(answer(batch, hwm=ORIGIN), may_renew=True)
        assert [row["device"] for row in _rows(await whole_batch(journal))] == ["belt-open", "belt-new"]


async def test_pruning_looks_at_all_that_was_sent_a_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also past rows that are younger, and never at all of them in one transaction."""
    monkeypatch.setattr(ledger, "PRUNED_AT_ONCE", 3)
    clock = HandClock()
    async with opened(tmp_path, clock) as journal:
        await journal.start("gw-1")
        await journal.commit([change(clock, f"belt-{n}") for n in range(10) for change in (opening, closing)])
        batch = await whole_batch(journal)
        await journal.take_answer(answer(batch, hwm=batch.to), may_renew=True)
        clock.go(31 * 86_400)
        await at_ledger(journal, make_the_first_four_young)
        assert await journal.prune() == 6
        assert len(_rows(await everything_sent(journal, batch))) == 4


def make_the_first_four_young(ledger: Ledger) -> None:
    ledger._sql.execute("UPDATE occurrence SET changed_ms = 1 << 40 WHERE mod_seq <= 8")


async def everything_sent(journal: Journal, batch: Batch) -> Batch:
    await journal.take_answer(answer(batch, hwm=ORIGIN), may_renew=True)
    return await whole_batch(journal)


async def test_no_statement_of_an_exchange_or_a_transition_goes_through_all_rows(tmp_path: Path) -> None:
    """A journal holds hundreds of thousands of rows, of which a handful is open."""
    clock = HandClock()
    async with opened(tmp_path, clock) as journal:
        await journal.start("gw-1")
        said: list[str] = []
        await at_ledger(journal, lambda ledger: ledger._sql.set_trace_callback(said.append))
        await journal.commit([opening(clock), opening(clock, "belt-2"), closing(clock)])
        await journal.open_occurrences()
        batch = await journal.batch(max_rows=2, max_bytes=1 << 20)
        await journal.present(after=0, max_rows=2, max_bytes=1 << 20)
        uid = _rows(batch)[0]["uid"]
        await journal.take_answer(answer(batch, hwm=batch.to, want=[uid]), may_renew=True)
        await journal.anchor()
        await at_ledger(journal, Ledger.given_up)
        await journal.prune()
        await at_ledger(journal, lambda ledger: ledger._sql.set_trace_callback(None))

        def plans(ledger: Ledger) -> dict[str, list[str]]:
            asked = [one for one in said if one.lstrip().startswith(("SELECT", "INSERT", "UPDATE", "DELETE"))]
            explain = ledger._sql.execute
            return {one: [step for *_, step in explain(f"EXPLAIN QUERY PLAN {one}")] for one in asked}

        found = await at_ledger(journal, plans)
    assert len(found) > 15
    few = "occurrence_open"
    assert not {
        statement: steps
        for statement, steps in found.items()
        if any(re.match("SCAN (occurrence|boundary)", step) and few not in step for step in steps)
    }


@pytest.mark.parametrize("source", ["none", "rtc", "ntp"])
@pytest.mark.parametrize("jump_s", [0, 40 * 86_400, -40 * 86_400])
async def test_a_row_ages_while_the_agent_runs_whatever_the_wall_clock_shows(
    tmp_path: Path, source: str, jump_s: int
) -> None:
    clock, new_id = HandClock(source=source), ids()
    async with opened(tmp_path, clock, new_id) as journal:
        await journal.start("gw-1")
        await journal.commit([opening(clock), closing(clock)])
        batch = await whole_batch(journal)
        await journal.take_answer(answer(batch, hwm=batch.to), may_renew=True)
        clock.jump(jump_s)
        clock.go(29 * 86_400)
        assert await journal.prune() == 0
    # Nothing ran for a month: nothing has grown older.
    clock.reboot(40 * 86_400)
    async with opened(tmp_path, clock, new_id) as journal:
        await journal.start("gw-1")
        assert await journal.prune() == 0
        clock.go(2 * 86_400)
        assert await journal.prune() == 1


async def test_no_row_ages_while_the_agent_is_stopped(tmp_path: Path) -> None:
    clock, new_id = HandClock(), ids()
    async with opened(tmp_path, clock, new_id) as journal:
        await journal.start("gw-1")
        await journal.commit([opening(clock), closing(clock)])
        batch = await whole_batch(journal)
        await journal.take_answer(answer(batch, hwm=batch.to), may_renew=True)
        clock.go(86_400)
    # The gateway goes on.
    clock.go(40 * 86_400)
    async with opened(tmp_path, clock, new_id) as journal:
        await journal.start("gw-1")
        clock.go(28 * 86_400)
        assert await journal.prune() == 0
        clock.go(2 * 86_400)
        assert await journal.prune() == 1


# --- files that are not well
# ---------------------------------------------------------------------------------


async def test_a_second_agent_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    clock = HandClock()
    async with opened(tmp_path, clock):
        with pytest.raises(JournalError, match="another edge-agent"):
            await Journal.open(tmp_path, new_id=ids(), stamp=clock.stamp)
    async with opened(tmp_path, clock):
        pass


@pytest.mark.parametrize("file", [LOCK, FILE])
async def test_a_file_that_the_agent_may_not_open_is_named(tmp_path: Path, file: str) -> None:
    """In the folder of another user, or on a disk that has become read-only; here a folder, root may all."""
    (tmp_path / file).mkdir()
    clock = HandClock()
    for _ in range(2):
        with pytest.raises(JournalError, match=f"{file}: cannot be opened: Is a directory; the folder"):
            await Journal.open(tmp_path, new_id=ids(), stamp=clock.stamp)


@with_a_disk_of(2)
def test_a_folder_on_a_disk_that_is_read_only_is_named(disk: SmallDisk) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk.folder)], check=True)
    clock = HandClock()
    with pytest.raises(
        JournalError, match=r"journal\.lock: cannot be opened: Read-only file system; the folder"
    ):
        asyncio.run(Journal.open(disk.folder, new_id=ids(), stamp=clock.stamp))


async def test_a_damaged_row_is_left_out_and_its_condition_can_be_raised_anew(tmp_path: Path) -> None:
    clock, new_id = HandClock(), ids()
    async with opened(tmp_path, clock, new_id) as journal:
        await journal.commit([opening(clock, "belt-1"), opening(clock, "belt-2")])
    change_file(
        tmp_path, "UPDATE occurrence SET body = replace(body, 'Clear it', 'Clear ut') WHERE mod_seq = 1"
    )
    async with opened(tmp_path, clock, new_id) as journal:
        assert [row.device for row in await journal.open_occurrences()] == ["belt-2"]
        batch = await whole_batch(journal)
        assert [row["device"] for row in _rows(batch)] == ["belt-2"]
        assert len(batch.open_uids) == 1
        (row,) = await journal.commit([opening(clock, "belt-1")])
        assert row.mod_seq == 3


async def test_an_index_that_has_parted_from_its_table_is_made_anew(tmp_path: Path) -> None:
    """Else the jam is open, and can neither be found to be ended nor raised again."""
    clock, new_id = HandClock(), ids()
    async with opened(tmp_path, clock, new_id) as journal:
        rows = await journal.commit([opening(clock, "belt-1"), opening(clock, "belt-2")])
    flip_in_index(tmp_path, b"belt-1|belt|jam")
    async with opened(tmp_path, clock, new_id) as journal:
        assert await journal.open_occurrences() == rows
        assert [row.uid for row in await journal.commit([closing(clock, "belt-1")])] == [rows[0].uid]
    assert not set_aside(tmp_path)


async def test_a_journal_that_is_too_large_to_be_mended_in_memory_is_salvaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent that is killed for its memory at each start would never come up again."""
    monkeypatch.setattr(journal_file, "MENDED_AT_MOST_BYTES", 4096)
    clock, new_id = HandClock(), ids()
    async with opened(tmp_path, clock, new_id) as journal:
        rows = await journal.commit([opening(clock, "belt-1"), opening(clock, "belt-2")])
    flip_in_index(tmp_path, b"belt-1|belt|jam")
    async with opened(tmp_path, clock, new_id) as journal:
        assert await journal.open_occurrences() == rows
    assert set_aside(tmp_path)


async def test_a_row_that_was_moved_past_the_end_is_put_back(tmp_path: Path) -> None:
    """Else nobody would read it: it seems to be newer than the newest."""
    clock, new_id = HandClock(), ids()
    async with opened(tmp_path, clock, new_id) as journal:
        await journal.commit([opening(clock, "belt-1"), closing(clock, "belt-1"), opening(clock, "belt-2")])
        before = await whole_batch(journal)
    change_behind_index(
        tmp_path, "occurrence_in_order", "UPDATE occurrence SET mod_seq = mod_seq + 1024 WHERE mod_seq = 2"
    )
    async with opened(tmp_path, clock, new_id) as journal:
        assert (await whole_batch(journal)).rows == before.rows
        assert await at_ledger(journal, lambda ledger: ledger.damaged_rows) == 0


async def test_a_row_that_stands_under_another_condition_is_damaged(tmp_path: Path) -> None:
    clock, new_id = HandClock(), ids()
    async with opened(tmp_path, clock, new_id) as journal:
        await journal.commit([opening(clock, "belt-1"), opening(clock, "belt-2")])
    change_file(tmp_path, "UPDATE occurrence SET key = 'belt-3|belt|jam' WHERE mod_seq = 1")
    async with opened(tmp_path, clock, new_id) as journal:
        assert [row.device for row in await journal.open_occurrences()] == ["belt-2"]
        assert await at_ledger(journal, lambda ledger: ledger.damaged_rows) == 1


async def test_a_damaged_stream_begins_anew_and_nothing_of_it_is_lost(tmp_path: Path) -> None:
    """Else the collector would refuse its name for ever."""
    clock, new_id = HandClock(), ids()
    async with opened(tmp_path, clock, new_id) as journal:
        await journal.commit([opening(clock, "belt-1"), opening(clock, "belt-2")])
        before = await whole_batch(journal)
        await journal.take_answer(answer(before, hwm=before.to), may_renew=True)
    change_file(tmp_path, "UPDATE stream SET id = 'p' || substr(id, 2), head_seq = 0")
    async with opened(tmp_path, clock, new_id) as journal:
        batch = await whole_batch(journal)
        assert (batch.from_, batch.to[0], len(batch.rows)) == (ORIGIN, 2, 2)
        assert batch.stream not in (before.stream, "p" + before.stream[1:])
        (row,) = await journal.commit([closing(clock, "belt-1")])
        assert row.mod_seq == 3


async def test_a_damaged_sum_of_the_evidence_costs_no_evidence(tmp_path: Path) -> None:
    """One flipped bit in it, and all evidence of closed rows would be given up, for ever."""
    clock, new_id = HandClock(), ids()

    async def jams(journal: Journal) -> dict[str, int]:
        for _ in range(20):
            await journal.commit([opening(clock, evidence={"seen": "x" * 300}), closing(clock)])
        await journal.tend()
        return await at_ledger(journal, Ledger.given_up)

    async with opened(tmp_path, clock, new_id) as journal:
        await jams(journal)
    change_file(tmp_path, "UPDATE stream SET evidence_bytes = evidence_bytes | (1 << 40)")
    for _ in range(2):
        async with opened(tmp_path, clock, new_id) as journal:
            assert not any((await jams(journal)).values())
            told, true = await at_ledger(journal, evidence_sums)
            assert told == true > 0


async def test_rows_that_are_stored_anew_bring_the_sum_of_their_evidence(tmp_path: Path) -> None:
    clock, new_id = HandClock(), ids()
    async with opened(tmp_path, clock, new_id) as journal:
        await journal.commit([opening(clock, "belt-1", evidence={"seen": "x" * 300})])
        await journal.commit([opening(clock, "belt-2", evidence={"seen": "x" * 300})])
        before = await whole_batch(journal)
    change_file(
        tmp_path, "UPDATE occurrence SET body = replace(body, 'Clear it', 'Clear ut') WHERE mod_seq = 1"
    )
    flip_in_index(tmp_path, b"belt-2|belt|jam")
    async with opened(tmp_path, clock, new_id) as journal:
        assert (await whole_batch(journal)).stream == before.stream
        told, true = await at_ledger(journal, evidence_sums)
        assert told == true > 0


def evidence_sums(ledger: Ledger) -> tuple[int, int]:
    """As the stream and as the rows have it."""
    found: tuple[int, int] = ledger._sql.execute(
        "SELECT evidence_bytes, (SELECT sum(evidence_bytes) FROM occurrence) FROM stream"
    ).fetchone()
    return found


async def test_a_damaged_anchor_is_none(tmp_path: Path) -> None:
    """Else the agent would not start, or would believe no clock."""
    clock, new_id = HandClock(), ids()
    async with opened(tmp_path, clock, new_id) as journal:
        await journal.start("gw-1")
    change_file(tmp_path, "UPDATE anchor SET boot = 'p' || substr(boot, 2)")
    async with opened(tmp_path, clock, new_id) as journal:
        assert await journal.start("gw-1") is None


async def test_a_damaged_boundary_is_forgotten(tmp_path: Path) -> None:
    clock, new_id = HandClock(), ids()
    async with opened(tmp_path, clock, new_id) as journal:
        await journal.commit([opening(clock)])
        before = await whole_batch(journal)
    change_file(tmp_path, "UPDATE boundary SET nonce = 'p' || substr(nonce, 2)")
    async with opened(tmp_path, clock, new_id) as journal:
        again = await whole_batch(journal)
        assert (again.stream, again.from_, again.to[0]) == (before.stream, before.from_, before.to[0])
        assert again.to[1] not in (before.to[1], "p" + before.to[1][1:])


async def test_a_file_of_the_first_format_goes_on(tmp_path: Path) -> None:
    first = (Path(journal_file.__file__).parent / "schema" / "0001.sql").read_text(encoding="utf-8")
    connection = sqlite3.connect(tmp_path / FILE)
    connection.executescript(first)
    connection.execute("INSERT INTO stream VALUES (1, ?, 7, 7, ?, 0)", ("a" * 32, "b" * 32))
    connection.execute("INSERT INTO boundary VALUES (1, 7, ?)", ("b" * 32,))
    connection.execute("INSERT INTO anchor VALUES (1, ?, 5, 6, 'ntp')", ("c" * 32,))
    connection.execute("PRAGMA user_version = 1")
    connection.commit()
    connection.close()
    clock = HandClock()
    for _ in range(2):
        async with opened(tmp_path, clock) as journal:
            anchor = await journal.start("gw-1")
            assert anchor is not None
            batch = await whole_batch(journal)
            assert (batch.stream, batch.from_) == ("a" * 32, (7, "b" * 32))
            assert await at_ledger(journal, lambda ledger: ledger.damaged_rows) == 0
    assert anchor.boot == clock.stamp().boot


async def test_a_text_that_is_not_text_any_more_is_found_too(tmp_path: Path) -> None:
    clock, new_id = HandClock(), ids()
    async with opened(tmp_path, clock, new_id) as journal:
        await journal.commit([opening(clock, "belt-1"), opening(clock, "belt-2")])
    change_file(tmp_path, "UPDATE occurrence SET body = CAST(x'ff80' AS TEXT) WHERE mod_seq = 2")
    async with opened(tmp_path, clock, new_id) as journal:
        assert [row.device for row in await journal.open_occurrences()] == ["belt-1"]
        assert await at_ledger(journal, lambda ledger: ledger.damaged_rows) == 1


def test_the_tables_of_each_format_are_others() -> None:
    """By them the format is known when the header is wrong about it."""
    known = journal_file._tables_by_format()
    assert len(set(known.values())) == len(known) == max(known) + 1


async def test_a_file_of_a_newer_agent_is_left_alone(tmp_path: Path) -> None:
    async with opened(tmp_path, HandClock()):
        pass
    connection = sqlite3.connect(tmp_path / FILE)
    connection.execute("CREATE TABLE of_the_future (some TEXT)")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(JournalError, match="newer agent"):
        await Journal.open(tmp_path, new_id=ids(), stamp=HandClock().stamp)
    assert (tmp_path / FILE).read_bytes() == before
    connection = sqlite3.connect(tmp_path / FILE)
    connection.execute("PRAGMA user_version = 5")
    connection.close()
    async with opened(tmp_path, HandClock()):
        pass


async def test_a_journal_that_is_refused_leaves_no_thread_that_would_tell_an_event_loop_that_is_gone(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path, HandClock()):
        pass
    change_file(tmp_path, "PRAGMA user_version = 99")
    change_file(tmp_path, "CREATE TABLE of_the_future (some TEXT)")
    before = threading.enumerate()
    # One that is about to end would sometimes have ended by itself.
    for _ in range(20):
        with pytest.raises(JournalError, match="newer agent"):
            await Journal.open(tmp_path, new_id=ids(), stamp=HandClock().stamp)
        left = [thread.name for thread in threading.enumerate() if thread not in before]
        assert not [name for name in left if "asyncio_" not in name]


def set_aside(folder: Path) -> list[Path]:
    return list(folder.glob(f"{FILE}.broken-*"))


def change_behind_index(folder: Path, index: str, statement: str) -> None:
    """What one flipped bit of the table would do: the index does not follow."""
    for now in (
        f"CREATE TABLE hidden AS SELECT * FROM sqlite_schema WHERE name = '{index}';"
        f"DELETE FROM sqlite_schema WHERE name = '{index}'",
        statement,
        "INSERT INTO sqlite_schema SELECT * FROM hidden; DROP TABLE hidden",
    ):
        # Each time anew, so that the schema is read again.
        connection = sqlite3.connect(folder / FILE)
        connection.executescript(f"PRAGMA writable_schema = ON; {now};")
        connection.close()


def flip_in_index(folder: Path, text: bytes) -> None:
    """One bit of ``text`` where it stands alone; in a row of the table a uid comes before it."""
    file = folder / FILE
    whole = bytearray(file.read_bytes())
    at = whole.index(text)
    while whole[at - 1 : at].isalnum():
        at = whole.index(text, at + 1)
    whole[at] ^= 1
    file.write_bytes(whole)


# --- kill -9
# -------------------------------------------------------------------------------------------------


async def test_what_was_confirmed_survives_kill_9_at_any_moment(tmp_path: Path) -> None:
    """Each kill comes after another number of confirmed changes; the same journal goes on each time."""
    rng, confirmed = random.Random(20260105), dict[str, tuple[int, int]]()
    for _ in range(KILLS):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            journal_writer.__file__,
            str(tmp_path),
            stdout=asyncio.subprocess.PIPE,
            env={"PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert process.stdout is not None
        for _ in range(rng.randrange(1, 60)):
            _note(confirmed, await process.stdout.readline())
        await asyncio.sleep(rng.random() * 0.003)
        process.kill()
        for line in (await process.stdout.read()).splitlines():
            _note(confirmed, line)
        await process.wait()
    clock = HandClock()
    async with opened(tmp_path, clock) as journal:
        found = {row["uid"]: (row["rev"], row["mod_seq"]) for row in _rows(await _everything(journal))}
        assert await at_ledger(journal, lambda ledger: ledger.damaged_rows) == 0
    for uid, (rev, mod_seq) in confirmed.items():
        assert found[uid] >= (rev, mod_seq)
    # At most one change of each writer was on its way at each kill.
    assert len(found) - len(confirmed) <= KILLS * journal_writer.WRITERS
    assert len(confirmed) > KILLS


def _note(confirmed: dict[str, tuple[int, int]], line: bytes) -> None:
    uid, rev, mod_seq = line.decode().split()
    confirmed[uid] = (int(rev), int(mod_seq))


async def _everything(journal: Journal) -> Batch:
    return await journal.batch(max_rows=1_000_000, max_bytes=1 << 40)
