"""What a journal gives up when it is nearly full, that it is counted, and that it gives up nothing else."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rigs.journals import InMemory, at_ledger, closing, opened, opening
from rigs.moments import HandClock, ids

from edge_agent import journal_caps, losses, stored
from edge_agent.journal import FILE, Journal
from edge_agent.journal_caps import MIB, Caps, Given, Relief
from edge_agent.ledger import Batch, Ledger
from edge_agent.wire import MAX_ROWS, ORIGIN, Row, SyncAnswer, read_row, unpacked

T = TypeVar("T")
KIB = 1 << 10
BELTS = 6
SMALL = Caps(journal_bytes=256 * KIB, evidence_bytes=64 * KIB)


@dataclass
class Floor:
    """Belts that jam, a journal that writes it down, and whoever takes it from there."""

    journal: Journal
    clock: HandClock
    rng: random.Random
    # The newest form of all that was ever written.
    produced: dict[str, Row] = field(default_factory=dict)
    # What somebody else has, by uid.
    delivered: dict[str, Row] = field(default_factory=dict)
    jammed: set[str] = field(default_factory=set)
    told_lost: int = 0
    backups: list[tuple[tuple[int, str], dict[str, Row]]] = field(default_factory=list)

    async def turn(self, changes: int, evidence_bytes: int = 0) -> None:
        for _ in range(changes):
            belt = f"belt-{self.rng.randrange(BELTS)}"
            self.clock.go(1)
            if belt in self.jammed:
                change: Any = closing(self.clock, belt)
            else:
                evidence = {"seen": "x" * evidence_bytes} if evidence_bytes else None
                change = opening(self.clock, belt, evidence=evidence)
            self.jammed ^= {belt}
            for row in await self.journal.commit([change]):
                self.produced[row.uid] = row

    async def sync(self, *, answer_lost: bool = False, rows: int = MAX_ROWS) -> Batch:
        batch = await self.journal.batch(max_rows=rows, max_bytes=256 * KIB)
        for raw in batch.rows:
            for row in unpacked(read_row(raw)):
                held = self.delivered.get(row.uid)
                if held is None or held.rev <= row.rev:
                    self.delivered[row.uid] = row
        if not answer_lost:
            await self.answer(batch.stream, batch.to)
        return batch

    async def answer(self, stream: str, hwm: tuple[int, str]) -> None:
        told = SyncAnswer(verdict="ok", stream=stream, hwm=hwm, server_ms=0)
        await self.journal.take_answer(told, may_renew=True)

    async def sync_all(self) -> None:
        while not (await self.sync()).at_head:
            pass

    async def kept(self) -> list[Row]:
        """All that the journal holds, each occurrence by itself."""

        def rows(ledger: Ledger) -> list[Row]:
            found = ledger._sql.execute("SELECT body FROM occurrence ORDER BY mod_seq").fetchall()
            return [Row.model_validate_json(body) for (body,) in found]

        return [one for row in await at_ledger(self.journal, rows) for one in unpacked(row)]

    async def counted(self, what: Given) -> int:
        return await at_ledger(self.journal, lambda ledger: ledger.economy.counted(what))

    async def check(self) -> None:
        """Conservation: produced is what is kept and what was given up, to the last one."""
        kept = {row.uid: row for row in await self.kept()}
        gone = self.produced.keys() - kept.keys()
        dropped = await self.counted(Given.OCCURRENCES_DROPPED)
        assert len(gone) == dropped + await self.counted(Given.PRUNED_EARLY)
        assert kept.keys() <= self.produced.keys()
        for uid, row in kept.items():
            assert facts(row) == facts(self.produced[uid])
        # An open row is never given up, nor is the last state of a condition.
        newest = {row.key: row for row in sorted(self.produced.values(), key=lambda row: row.mod_seq)}
        assert {row.uid for row in newest.values()} <= kept.keys()
        assert {row.device for row in kept.values() if row.state == "open"} == self.jammed
        for uid, row in self.delivered.items():
            if row.rev == self.produced[uid].rev:
                assert facts(row) == facts(self.produced[uid])

        def totals(ledger: Ledger) -> tuple[int, int, int, int]:
            ask = ledger._sql.execute
            told = ask("SELECT evidence_bytes FROM stream").fetchone()[0]
            true = ask("SELECT coalesce(sum(evidence_bytes), 0) FROM occurrence").fetchone()[0]
            return told, true, ask("PRAGMA page_count").fetchone()[0], ledger.economy.room().limit

        told, true, pages, limit = await at_ledger(self.journal, totals)
        assert told == true
        assert pages <= limit


def facts(row: Row) -> dict[str, Any]:
    return row.model_dump(exclude={"evidence", "mod_seq"})


def on_a_floor(caps: Caps, work: Callable[[Floor], Any], seed: int = 1) -> None:
    async def run() -> None:
        clock = HandClock()
        journal = Journal(InMemory(ids(), caps), stamp=clock.stamp)
        floor = Floor(journal=journal, clock=clock, rng=random.Random(seed))
        try:
            await work(floor)
            await floor.check()
        finally:
            await journal.close()

    asyncio.run(run())


def test_evidence_goes_first_and_nothing_else_with_it() -> None:
    async def day(floor: Floor) -> None:
        await floor.turn(200, evidence_bytes=2_000)
        kept = await floor.kept()
        assert len(kept) == len(floor.produced)
        thinned = [row.is_thinned for row in kept if row.state == "closed"]
        assert 0 < sum(thinned) < len(thinned)
        # The oldest.
        assert thinned == sorted(thinned, reverse=True)
        assert await floor.counted(Given.EVIDENCE_THINNED) == sum(thinned)
        for other in set(Given) - {Given.EVIDENCE_THINNED}:
            assert await floor.counted(other) == 0

    on_a_floor(Caps(journal_bytes=4 * MIB, evidence_bytes=100 * KIB), day)


def test_evidence_that_the_collector_has_goes_before_other_and_moves_nothing() -> None:
    async def day(floor: Floor) -> None:
        await floor.turn(40, evidence_bytes=2_000)
        await floor.sync()
        head = (await floor.sync()).head_seq
        await floor.turn(50, evidence_bytes=2_000)
        kept = await floor.kept()
        thinned = [row for row in kept if row.is_thinned]
        assert thinned
        assert all(row.mod_seq <= head for row in thinned)
        # Nothing is sent again because less is known of it.
        batch = await floor.sync()
        assert len(batch.rows) < 50 + BELTS
        assert all(raw["evidence"] for raw in batch.rows)  # type: ignore[index]

    on_a_floor(Caps(journal_bytes=4 * MIB, evidence_bytes=60 * KIB), day)


def test_what_the_collector_has_is_pruned_before_anything_is_rolled_up() -> None:
    async def day(floor: Floor) -> None:
        while not await floor.counted(Given.PRUNED_EARLY):
            await floor.turn(20)
            await floor.sync_all()
        assert await floor.counted(Given.ROWS_ROLLED_UP) == 0
        assert await floor.counted(Given.OCCURRENCES_DROPPED) == 0
        assert (await floor.sync()).pruned_through > 0
        assert floor.delivered.keys() == floor.produced.keys()

    on_a_floor(SMALL, day)


def test_rows_that_nobody_has_are_rolled_up_and_every_one_of_them_arrives() -> None:
    async def day(floor: Floor) -> None:
        while await floor.counted(Given.ROWS_ROLLED_UP) < 300:
            await floor.turn(20)
        assert await floor.counted(Given.OCCURRENCES_DROPPED) == 0
        await floor.sync_all()
        assert {uid: facts(row) for uid, row in floor.delivered.items()} == {
            uid: facts(row) for uid, row in floor.produced.items()
        }

    on_a_floor(SMALL, day)


def test_rows_that_can_never_become_one_keep_no_others_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest are of another boot each; what comes after them would be dropped without need."""
    monkeypatch.setattr(journal_caps, "ROLLED_AT_ONCE", 4)

    async def day(floor: Floor) -> None:
        async def jams(belt: str, times: int, *, reboots: bool) -> None:
            for _ in range(times):
                if reboots:
                    floor.clock.reboot()
                floor.clock.go(1)
                for change in (opening(floor.clock, belt), closing(floor.clock, belt)):
                    for row in await floor.journal.commit([change]):
                        floor.produced[row.uid] = row

        await jams("belt-0", 9, reboots=True)
        await jams("belt-1", 9, reboots=False)
        await at_ledger(floor.journal, lambda ledger: ledger.economy._look_for_newest())
        while await at_ledger(floor.journal, lambda ledger: ledger.economy._roll_up(0)) is not Relief.NOTHING:
            pass
        # All but the newest, which stays as it is.
        assert await floor.counted(Given.ROWS_ROLLED_UP) == 8

    on_a_floor(SMALL, day)


def test_what_can_never_become_one_is_read_a_little_at_a_time_and_not_for_ever_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A journal of 256 MiB whose rows pause held up its writer for 9 s, after every 64 KiB that came."""
    monkeypatch.setattr(journal_caps, "ROLLED_AT_ONCE", 8)
    monkeypatch.setattr(journal_caps, "LOOKED_AT_ONCE", 50)
    monkeypatch.setattr(journal_caps, "LOOKED_BACK_AT", 50)
    read = []
    real = stored.row

    def counted(found: stored.Stored) -> Row | None:
        read.append(found[3])
        return real(found)

    monkeypatch.setattr(stored, "row", counted)

    async def day(floor: Floor) -> None:
        async def jams(times: int) -> None:
            for _ in range(times):
                floor.clock.reboot()
                floor.clock.go(1)
                for change in (opening(floor.clock, "belt-0"), closing(floor.clock, "belt-0")):
                    for row in await floor.journal.commit([change]):
                        floor.produced[row.uid] = row

        async def look_at_all() -> int:
            before = len(read)
            while True:
                so_far = len(read)
                outcome = await at_ledger(floor.journal, look)
                assert len(read) - so_far <= 8
                if outcome is Relief.NOTHING:
                    await at_ledger(floor.journal, lambda ledger: ledger.economy._rest())
                    return len(read) - before

        def look(ledger: Ledger) -> Relief:
            if ledger.economy._look_for_newest() is Relief.NOTHING:
                return ledger.economy._roll_up(0)
            return Relief.LOOKED

        await jams(140)
        assert 139 <= await look_at_all() < 200
        for _ in range(3):
            await jams(5)
            assert await look_at_all() < 70

    on_a_floor(Caps(journal_bytes=4 * MIB, evidence_bytes=MIB), day)


def test_only_when_nothing_else_is_left_the_oldest_are_dropped_counted_and_declared() -> None:
    async def month(floor: Floor) -> None:
        await floor.turn(6_000)
        dropped = await floor.counted(Given.OCCURRENCES_DROPPED)
        assert dropped > 0
        batch = await floor.sync()
        assert batch.lost == dropped
        assert batch.pruned_through > 0
        await floor.sync_all()
        assert len(floor.produced) - len(floor.delivered) == dropped
        # A row takes 0.9 KB with its indices: roll-ups make room for twice as many, even in so small a file.
        assert len(floor.delivered) > 2 * SMALL.journal_bytes // 900
        gone = [row.mod_seq for uid, row in floor.produced.items() if uid not in floor.delivered]
        # The oldest, but for those that a roll-up of younger ones has saved.
        assert max(gone) < sorted(row.mod_seq for row in floor.delivered.values())[len(floor.delivered) // 2]
        assert sum(loss.count for loss in batch.losses) == dropped
        # A collector that counts by stream is told of it in one.
        await floor.journal.new_stream()
        assert (await floor.sync()).lost == 0

    on_a_floor(SMALL, month)


def test_what_was_lost_is_told_again_to_whoever_holds_less_and_in_every_new_stream() -> None:
    async def month(floor: Floor) -> None:
        await floor.turn(6_000)
        told = (await floor.sync()).losses
        await floor.sync_all()
        batch = await floor.sync()
        assert batch.losses == []
        # The collector was restored from a backup of before all this.
        await floor.answer(batch.stream, ORIGIN)
        assert (await floor.sync()).losses == told
        for _ in range(2):
            await floor.journal.new_stream()
            assert (await floor.sync()).losses == told
            await floor.sync_all()

    on_a_floor(SMALL, month)


def test_a_loss_that_nobody_has_confirmed_grows_and_else_another_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(losses, "LOSSES_MAX", 2)

    async def month(floor: Floor) -> None:
        async def lose(mod_seq: int) -> list[tuple[str, int, int]]:
            await at_ledger(floor.journal, lambda ledger: ledger.economy.lose(mod_seq, 1))
            batch = await floor.journal.batch(max_rows=MAX_ROWS, max_bytes=MIB)
            return [(loss.id, loss.through, loss.count) for loss in batch.losses]

        async def confirmed() -> None:
            await floor.turn(4)
            await floor.sync_all()

        await floor.turn(9)
        ((first, *_),) = await lose(3)
        assert await lose(2) == [(first, 3, 2)]
        assert await lose(5) == [(first, 5, 3)]
        await confirmed()
        ((second, *_),) = await lose(14)
        assert await lose(15) == [(second, 15, 2)]
        assert second != first
        await confirmed()
        ((third, *_),) = await lose(18)
        await floor.journal.new_stream()
        # No more than can be told: the oldest two are one, and none is forgotten.
        assert await lose(1) == [(second, 15, 5), (third, 18, 2)]

    on_a_floor(SMALL, month)


def test_what_was_lost_and_not_yet_declared_is_declared_in_a_new_stream() -> None:
    async def month(floor: Floor) -> None:
        await floor.turn(6_000)
        dropped = await floor.counted(Given.OCCURRENCES_DROPPED)
        await floor.journal.new_stream()
        batch = await floor.sync()
        assert batch.lost == dropped > 0
        assert batch.pruned_through > 0

    on_a_floor(SMALL, month)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    acts=st.lists(
        st.sampled_from(["turn", "turn", "fill", "sync", "lost answer", "backup", "restore", "new stream"]),
        min_size=4,
        max_size=20,
    ),
)
def test_produced_is_kept_and_given_up_to_the_last_one(seed: int, acts: list[str]) -> None:
    async def work(floor: Floor) -> None:
        floor.backups.append((ORIGIN, {}))
        for act in acts:
            if act == "turn":
                await floor.turn(floor.rng.randrange(40), evidence_bytes=floor.rng.choice([0, 200, 3_000]))
            elif act == "fill":
                await floor.turn(floor.rng.randrange(400, 1_500), evidence_bytes=floor.rng.choice([0, 100]))
            elif act == "sync":
                await floor.sync(rows=floor.rng.choice([3, 500]))
            elif act == "lost answer":
                await floor.sync(answer_lost=True, rows=floor.rng.choice([3, 500]))
            elif act == "backup":
                batch = await floor.sync(rows=floor.rng.choice([3, 500]))
                floor.backups.append((batch.to, dict(floor.delivered)))
            elif act == "restore":
                hwm, floor.delivered = floor.rng.choice(floor.backups)
                floor.delivered = dict(floor.delivered)
                await floor.answer((await floor.journal.batch(max_rows=1, max_bytes=1)).stream, hwm)
            else:
                await floor.journal.new_stream()
                floor.backups = [(ORIGIN, {})]
            await floor.check()

    on_a_floor(SMALL, work, seed)


async def test_the_file_stays_under_its_cap_whatever_comes(tmp_path: Path) -> None:
    """Its write-ahead log comes on top, and is bounded too."""
    clock, rng = HandClock(), random.Random(3)
    caps = Caps(journal_bytes=MIB, evidence_bytes=256 * KIB)
    async with opened(tmp_path, clock, caps=caps) as journal:
        floor = Floor(journal=journal, clock=clock, rng=rng)
        for _ in range(15):
            await floor.turn(100, evidence_bytes=rng.choice([500, 6_000]))
            assert (tmp_path / FILE).stat().st_size <= caps.journal_bytes
            assert (tmp_path / f"{FILE}-wal").stat().st_size < 6 * MIB
        await floor.check()


@pytest.mark.parametrize(
    ("disk_bytes", "journal_bytes", "wal_pages"),
    [(64 << 30, 256 * MIB, 1_000), (100 * MIB, 50 * MIB, 1_000), (2 * MIB, MIB, 64)],
)
def test_the_caps_fit_the_disk(disk_bytes: int, journal_bytes: int, wal_pages: int) -> None:
    caps = Caps().on_a_disk_of(disk_bytes)
    assert (caps.journal_bytes, caps.wal_pages) == (journal_bytes, wal_pages)
    assert caps.evidence_bytes == journal_bytes // 4
