"""A broken journal is set aside, what can be read of it is moved into a new one, and the agent runs."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rigs.journals import at_ledger, change_file, closing, opened, opening
from rigs.moments import HandClock, ids

from edge_agent import journal_salvage
from edge_agent.journal import FILE, Journal
from edge_agent.journal_caps import Given
from edge_agent.ledger import Ledger
from edge_agent.wire import MAX_ROWS, Row

# `make disk-full` takes more of both.
CORRUPTIONS = int(os.environ.get("CORRUPTIONS", "30"))
SALVAGE_KILLS = int(os.environ.get("SALVAGE_KILLS", "9"))
PAGE = 4096
BELTS = 8


def a_journal(folder: Path, occurrences: int = 60, *, killed: bool = False) -> dict[str, str]:
    """Bodies by uid. ``killed``: what was committed last lies in the write-ahead log."""
    clock, rng = HandClock(), random.Random(4)
    folder.mkdir(parents=True, exist_ok=True)

    async def run() -> dict[str, str]:
        async with opened(folder, clock) as journal:
            await journal.start("gw-1")
            jammed: set[str] = set()
            for _ in range(2 * occurrences):
                clock.go(1)
                belt = f"belt-{rng.randrange(BELTS)}"
                evidence = {"seen": "x" * rng.randrange(900)}
                change: Any = (
                    closing(clock, belt) if belt in jammed else opening(clock, belt, evidence=evidence)
                )
                jammed ^= {belt}
                await journal.commit([change])
            if killed:
                for suffix in ("", "-wal"):
                    shutil.copy(folder / f"{FILE}{suffix}", folder / f"kept{suffix}")
            return await at_ledger(journal, lambda ledger: bodies(ledger._sql))

    found = asyncio.run(run())
    if killed:
        for suffix in ("", "-wal"):
            (folder / f"kept{suffix}").rename(folder / f"{FILE}{suffix}")
    return found


def bodies(sql: sqlite3.Connection) -> dict[str, str]:
    return dict(sql.execute("SELECT uid, body FROM occurrence").fetchall())


def start(folder: Path) -> tuple[dict[str, str], list[dict[str, Any]], dict[str, Any]]:
    """What the journal holds of the belts after a start, what it tells of itself, and what it sends along."""
    clock = HandClock()
    clock.go(86_400)

    async def run() -> tuple[dict[str, str], list[dict[str, Any]], dict[str, Any]]:
        async with opened(folder, clock, another_ids()) as journal:
            await journal.start("gw-1")
            # Whoever reads a row finds out whether it is damaged.
            await journal.batch(max_rows=100_000, max_bytes=1 << 30)
            batch = await journal.batch(max_rows=100_000, max_bytes=1 << 30)
            found = await at_ledger(journal, lambda ledger: bodies(ledger._sql))
            # It works: what is open can be ended, what is not can be raised.
            for number in range(BELTS):
                await journal.commit([closing(clock, f"belt-{number}")])
                assert len(await journal.commit([opening(clock, f"belt-{number}")])) == 1
            damaged = await at_ledger(journal, lambda ledger: ledger.economy.counted(Given.ROWS_DAMAGED))
        own = [json.loads(body) for body in found.values() if '"gw-1"' in body]
        sent = {"pruned_through": batch.pruned_through, "lost": batch.lost, "to": batch.to[0]}
        belts = {uid: body for uid, body in found.items() if '"gw-1"' not in body}
        return belts, own, sent | {"damaged": damaged, "stream": batch.stream}

    return asyncio.run(run())


def another_ids() -> Callable[[], str]:
    rng = random.Random()
    return lambda: f"{rng.getrandbits(128):032x}"


def reports(own: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in own if row["fault"] == "journal"]


@pytest.mark.parametrize("damage", ["not a database", "cut off", "pages overwritten"])
def test_a_broken_file_is_set_aside_salvaged_and_reported(tmp_path: Path, damage: str) -> None:
    written = a_journal(tmp_path)
    file = tmp_path / FILE
    whole = file.read_bytes()
    broken = {
        "not a database": b"hello" * 2_000,
        "cut off": whole[: len(whole) // 2],
        "pages overwritten": whole[: 8 * PAGE] + b"\xa5" * (2 * PAGE) + whole[10 * PAGE :],
    }[damage]
    file.write_bytes(broken)
    belts, own, sent = start(tmp_path)
    assert belts.items() <= written.items()
    assert (len(belts) > len(written) // 8) is (damage != "not a database")
    (aside,) = tmp_path.glob(f"{FILE}.broken-*")
    assert aside.read_bytes() == broken
    (report,) = reports(own)
    assert (report["device"], report["component"], report["state"]) == ("gw-1", "agent", "closed")
    assert report["evidence"]["file"] == aside.name
    assert report["evidence"]["rows_salvaged"] == len(belts)
    # A gap: nobody knows what else was there.
    assert 0 < sent["pruned_through"] < sent["to"]
    # Once.
    assert len(reports(start(tmp_path)[1])) == 1


@pytest.mark.parametrize(
    ("place", "bit"),
    [
        pytest.param(18, 0, id="for writing"),
        pytest.param(47, 0, id="format of the definitions"),
        pytest.param(60, 0, id="format of a newer agent"),
        pytest.param(63, 1, id="another format of a newer agent"),
        pytest.param(63, 2, id="format of an older agent"),
        pytest.param(63, 0, id="format of the agent before"),
        pytest.param(b"key TEXT NOT", 0, id="name of a column"),
        pytest.param(b"mono_ns INTEGER", 3, id="name of a column elsewhere"),
        pytest.param(b"occurrence_open", 7, id="no text"),
        pytest.param(b"INTEGER NOT NULL UNIQUE", 7, id="no text elsewhere"),
    ],
)
def test_one_flipped_bit_in_the_first_page_stops_no_agent(
    made: tuple[Path, dict[str, str]], tmp_path: Path, place: int | bytes, bit: int
) -> None:
    """SQLite's own check looks at none of these."""
    file, written = made
    whole = bytearray(file.read_bytes())
    whole[place if isinstance(place, int) else whole.index(place)] ^= 1 << bit
    (tmp_path / FILE).write_bytes(whole)
    belts, own, sent = start(tmp_path)
    assert belts.items() <= written.items()
    assert (len(belts) == len(written)) is (place != 47)
    assert len(reports(own)) == 1
    assert sent["pruned_through"] > 0
    assert len(reports(start(tmp_path)[1])) == 1


def test_what_lies_in_the_log_of_a_broken_file_is_salvaged_too(tmp_path: Path) -> None:
    written = a_journal(tmp_path, killed=True)
    assert (tmp_path / f"{FILE}-wal").stat().st_size > 50 * PAGE
    sql = sqlite3.connect(f"file:{tmp_path / FILE}?mode=ro", uri=True)
    sql.execute("SELECT count(*) FROM occurrence").fetchone()
    in_the_log = bodies(sql)
    sql.close()
    assert in_the_log == written
    # A page that is in the file alone: the root of an index as the schema made it, never written again.
    file, unused = tmp_path / FILE, bytearray((tmp_path / FILE).read_bytes())
    damage_an_index(file, unused)
    belts, _, _ = start(tmp_path)
    assert belts == written


def test_a_row_that_is_not_what_was_written_is_not_moved(tmp_path: Path) -> None:
    written = a_journal(tmp_path)
    change_file(
        tmp_path, "UPDATE occurrence SET body = replace(body, 'Clear it', 'Clear ut') WHERE rowid = 3"
    )
    whole = bytearray((tmp_path / FILE).read_bytes())
    # A page of an index: every row can still be read, SQLite's check fails.
    damage_an_index(tmp_path / FILE, whole)
    belts, own, sent = start(tmp_path)
    assert len(belts) == len(written) - 1
    (report,) = reports(own)
    assert report["evidence"]["rows_damaged"] == sent["damaged"] == 1


def damage_an_index(file: Path, whole: bytearray) -> None:
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    root = connection.execute(
        "SELECT rootpage FROM sqlite_schema WHERE name = 'occurrence_in_order'"
    ).fetchone()[0]
    connection.close()
    whole[(root - 1) * PAGE : root * PAGE] = b"\xa5" * PAGE
    file.write_bytes(whole)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("made")
    return folder / FILE, a_journal(folder, occurrences=120)


@settings(max_examples=CORRUPTIONS, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    how=st.sampled_from(["bits", "zeroed", "garbage", "cut off", "swapped"]),
    times=st.integers(1, 6),
)
def test_whatever_is_broken_the_agent_starts_and_invents_nothing(
    made: tuple[Path, dict[str, str]], seed: int, how: str, times: int
) -> None:
    rng = random.Random(seed)
    file, written = made
    with tempfile.TemporaryDirectory() as kept:
        folder = Path(kept)
        whole = bytearray(file.read_bytes())
        pages = len(whole) // PAGE
        for _ in range(times):
            at = rng.randrange(pages) * PAGE
            if how == "bits":
                whole[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
            elif how == "zeroed":
                whole[at : at + PAGE] = bytes(PAGE)
            elif how == "garbage":
                whole[at : at + PAGE] = rng.randbytes(PAGE)
            elif how == "cut off":
                del whole[rng.randrange(1, len(whole)) :]
                break
            else:
                other = rng.randrange(pages) * PAGE
                whole[at : at + PAGE], whole[other : other + PAGE] = (
                    whole[other : other + PAGE],
                    whole[at : at + PAGE],
                )
        (folder / FILE).write_bytes(whole)
        belts, own, sent = start(folder)
        assert belts.items() <= written.items()
        if len(belts) < len(written):
            assert reports(own), "rows are missing and nobody says so"
            assert sent["pruned_through"] > 0


# --- killed while it is being salvaged ------------------------------------------------------------------

KILLED_AT = """
import os, signal, sys, sqlite3
from pathlib import Path
from edge_agent import journal_file
left = int(sys.argv[2])
def die(*_):
    global left
    left -= 1
    if left <= 0:
        os.kill(os.getpid(), signal.SIGKILL)
CALLS = ("os.rename", "sqlite3.connect", "os.remove", "open")
sys.addaudithook(lambda name, args: die() if name in CALLS else None)
real = sqlite3.connect
class Killing(sqlite3.Connection):
    def execute(self, *given):
        die()
        return super().execute(*given)
sqlite3.connect = lambda *given, **more: real(*given, factory=Killing, **more)
journal_file.open_file(Path(sys.argv[1]), now_ms=7).close()
print("opened")
"""


def test_a_salvage_that_is_killed_at_any_step_comes_out_right_at_the_next_start(tmp_path: Path) -> None:
    made = tmp_path / "made"
    written = a_journal(made, occurrences=700)
    whole = bytearray((made / FILE).read_bytes())
    damage_an_index(made / FILE, whole)
    rng = random.Random(5)
    opened_in_time = 0
    steps = [*range(1, 30, 2), *rng.sample(range(30, 2_400), 12)]
    for step in steps[:: max(1, len(steps) // SALVAGE_KILLS)]:
        folder = tmp_path / f"at-{step}"
        shutil.copytree(made, folder)
        done = subprocess.run(
            [sys.executable, "-c", KILLED_AT, str(folder / FILE), str(step)],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        opened_in_time += done.stdout == "opened\n"
        assert done.returncode in (0, -9), done.stderr
        belts, own, _ = start(folder)
        assert belts == written, f"killed at step {step}"
        assert len(reports(own)) == 1, f"killed at step {step}"
        assert len(list(folder.glob(f"{FILE}.broken-*[0-9]"))) == 1
        assert not journal_salvage.pending(folder / FILE)
    assert opened_in_time < SALVAGE_KILLS // 2


def test_only_the_newest_broken_file_is_kept(tmp_path: Path) -> None:
    for day in range(3):
        a_journal(tmp_path / "made", occurrences=5)
        shutil.move(tmp_path / "made" / FILE, tmp_path / FILE)
        (tmp_path / FILE).write_bytes(b"no database at all" * 1_000)
        clock = HandClock()
        clock.go(day * 86_400)

        async def run(clock: HandClock = clock) -> None:
            async with opened(tmp_path, clock):
                pass

        asyncio.run(run())
        assert [file.name for file in tmp_path.glob(f"{FILE}.broken-*")] == [f"{FILE}.broken-{clock.wall_ms}"]


# --- damage that is found while the agent runs ----------------------------------------------------------


async def test_a_row_that_is_found_damaged_while_the_agent_runs_is_reported_and_declared(
    tmp_path: Path,
) -> None:
    clock, new_id = HandClock(), ids()
    async with opened(tmp_path, clock, new_id) as journal:
        await journal.start("gw-1")
        await journal.commit([opening(clock, "belt-1"), closing(clock, "belt-1"), opening(clock, "belt-2")])
    change_file(
        tmp_path, "UPDATE occurrence SET body = replace(body, 'Clear it', 'Clear ut') WHERE mod_seq = 2"
    )
    async with opened(tmp_path, clock, new_id) as journal:
        await journal.start("gw-1")
        first = await journal.batch(max_rows=MAX_ROWS, max_bytes=1 << 20)
        assert (first.pruned_through, first.lost) == (2, 1)
        for _ in range(3):
            batch = await journal.batch(max_rows=MAX_ROWS, max_bytes=1 << 20)
        rows = [Row.model_validate(row) for row in batch.rows]
        (report,) = [row for row in rows if row.fault == "journal"]
        assert (report.key, report.state, report.evidence) == (
            "gw-1|agent|journal",
            "closed",
            {"rows_damaged": 1},
        )
        assert [row.device for row in rows if row.fault == "jam"] == ["belt-2"]
        assert isinstance(journal, Journal)


async def test_damage_is_reported_until_the_report_is_written_and_then_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, new_id = HandClock(), ids()
    async with opened(tmp_path, clock, new_id) as journal:
        await journal.start("gw-1")
        await journal.commit([opening(clock, "belt-1"), closing(clock, "belt-1"), opening(clock, "belt-2")])
    change_file(
        tmp_path, "UPDATE occurrence SET body = replace(body, 'Clear it', 'Clear ut') WHERE mod_seq = 2"
    )
    report, tries = Ledger.report_damage, []

    def fails_at_first(ledger: Ledger, *told: Any, **more: Any) -> None:
        tries.append(told)
        report(ledger, *told, **more)
        if len(tries) < 3:
            raise OSError("not written")

    monkeypatch.setattr(Ledger, "report_damage", fails_at_first)
    async with opened(tmp_path, clock, new_id) as journal:
        await journal.start("gw-1")
        for _ in range(9):
            batch = await journal.batch(max_rows=MAX_ROWS, max_bytes=1 << 20)
        found = [Row.model_validate(row) for row in batch.rows]
    assert tries == [("gw-1", 1)] * 3
    assert [row.evidence for row in found if row.fault == "journal"] == [{"rows_damaged": 1}]
