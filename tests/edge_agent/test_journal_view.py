"""`edge-agent journal`: what a person sees of a journal, and that looking at it changes nothing."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import Any

import pytest
from rigs.journals import change_file, closing, opened, opening
from rigs.moments import HandClock
from typer.testing import CliRunner

from edge_agent import evidence_file, journal_view
from edge_agent.cli import app
from edge_agent.evidence_file import EvidenceFile, NewPart
from edge_agent.journal import FILE, Journal, JournalError
from edge_agent.journal_caps import MIB
from edge_agent.journal_disk import Disk
from edge_agent.wire import SyncAnswer

NOBODY = 65_534


def configured(folder: Path) -> Path:
    file = folder / "agent.toml"
    file.write_text(
        f'[agent]\nsite = "hamburg"\ngateway = "gw-1"\ndata_dir = "{folder}"\n'
        "[journal]\nmax_mib = 64\nballast_mib = 1\n[evidence]\nmax_mib = 4\n"
    )
    return file


def shown(folder: Path) -> str:
    done = CliRunner().invoke(app, ["journal", "--config", str(configured(folder))])
    assert done.exit_code == 0, done.output
    return re.sub(" +", " ", done.output)


async def some_hours(journal: Journal, clock: HandClock) -> None:
    """Two rows that the collector has, one of them open; and four that wait, two of them open."""
    await journal.start("gw-1")
    await journal.commit([opening(clock, "belt-1", evidence={"seen": "x" * 900}), opening(clock, "belt-2")])
    await journal.commit([closing(clock, "belt-1")])
    batch = await journal.batch(max_rows=9, max_bytes=1 << 20)
    taken = SyncAnswer(verdict="ok", stream=batch.stream, hwm=batch.to, server_ms=0)
    await journal.take_answer(taken, may_renew=False)
    for number in range(3, 7):
        await journal.commit([opening(clock, f"belt-{number}")])
    await journal.commit([closing(clock, "belt-3"), closing(clock, "belt-4")])
    await journal.tend()


def test_what_a_journal_holds_is_shown_while_its_agent_runs_and_when_it_does_not(tmp_path: Path) -> None:
    clock = HandClock()

    async def run() -> None:
        async with opened(tmp_path, clock, disk=Disk(tmp_path, ballast_bytes=MIB)) as journal:
            await some_hours(journal, clock)
            log = tmp_path / f"{FILE}-wal"
            length = log.stat().st_size
            text = await asyncio.to_thread(shown, tmp_path)
            seen(text)
            assert f"its log {length / MIB:.1f} MiB" in text
            # It was not checkpointed, and the agent goes on.
            assert log.stat().st_size == length
            assert len(await journal.commit([closing(clock, "belt-2")])) == 1

    asyncio.run(run())
    assert "open, sent 0 rows" in shown(tmp_path)
    assert "closed, waiting 3 rows" in shown(tmp_path)

    async def again() -> None:
        async with opened(tmp_path, clock) as journal:
            assert len(await journal.open_occurrences()) == 2

    asyncio.run(again())


def seen(text: str) -> None:
    for line in (
        "open, not sent 2 rows",
        "open, sent 1 rows",
        "closed, waiting 2 rows",
        "closed, sent 1 rows",
        "positions newest 9, collector holds 3, pruned through 0",
        "evidence 0.0 MiB of 16.0 MiB",
        "ballast 1.0 MiB of 1.0 MiB",
        "rows dropped 0",
        "rows damaged 0",
        "ran until 2026-01-05",
    ):
        assert line in text, text


def test_what_was_given_up_and_set_aside_is_shown(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database" * 1_000)
    clock = HandClock()

    async def run() -> None:
        async with opened(tmp_path, clock) as journal:
            await journal.start("gw-1")

    asyncio.run(run())
    change_file(tmp_path, "INSERT INTO counter (name, count) VALUES ('rows_rolled_up', 1234)")
    change_file(tmp_path, "UPDATE occurrence SET count = 7")
    text = shown(tmp_path)
    assert "rows rolled up 1234" in text
    assert "closed, waiting 1 rows (7 occurrences)" in text
    assert f"set aside: {FILE}.broken-{clock.wall_ms}" in text
    assert "ballast 0.0 MiB of 1.0 MiB" in text


def a_journal(folder: Path) -> None:
    async def run() -> None:
        async with opened(folder, HandClock()) as journal:
            await journal.start("gw-1")

    asyncio.run(run())


def test_the_file_of_evidence_is_shown_while_it_is_written_and_when_nobody_has_it_open(
    tmp_path: Path,
) -> None:
    a_journal(tmp_path)
    assert "evidence.db not there; the agent makes it when it starts" in shown(tmp_path)
    assert not (tmp_path / evidence_file.FILE).exists()
    file = EvidenceFile(tmp_path / evidence_file.FILE, max_bytes=4 * MIB)
    file.write([NewPart(uid=f"{n}", part="before", evidence={"x": "y" * 900}) for n in range(3)])
    file.write([NewPart(uid="3", part="before", evidence=None)])
    file.sent([file.waiting(max_bytes=MIB, at_most=1)[0].seq])
    line = "evidence.db 0.0 MiB of 4.0 MiB, 2 parts waiting, 1 given up"
    assert line in shown(tmp_path)
    # It was only looked at.
    file.write([NewPart(uid="4", part="before", evidence={})])
    assert "3 parts waiting" in shown(tmp_path)
    file.close()
    assert "3 parts waiting, 1 given up" in shown(tmp_path)


def test_a_file_of_evidence_that_is_none_hides_nothing_of_the_journal(tmp_path: Path) -> None:
    a_journal(tmp_path)
    (tmp_path / evidence_file.FILE).write_bytes(b"no database" * 1_000)
    text = shown(tmp_path)
    assert "closed, waiting 0 rows" in text
    assert "evidence.db cannot be read: file is not a database; the agent begins a new one" in text
    assert (tmp_path / evidence_file.FILE).read_bytes() == b"no database" * 1_000


def test_a_folder_without_a_journal_and_a_file_that_is_none_are_said_plainly(tmp_path: Path) -> None:
    def refused() -> Any:
        return CliRunner().invoke(app, ["journal", "--config", str(configured(tmp_path))])

    none = refused()
    assert (none.exit_code, none.output) == (
        2,
        f"{tmp_path / FILE}: there is no journal; the agent makes it at its first start\n",
    )
    assert not (tmp_path / FILE).exists()
    (tmp_path / FILE).write_bytes(b"no database" * 1_000)
    broken = refused()
    assert broken.exit_code == 2
    assert "cannot be read: file is not a database" in broken.output


@pytest.mark.parametrize("wall_ms", [1 << 62, -(1 << 62), 1 << 50])
def test_a_damaged_moment_is_called_that(tmp_path: Path, wall_ms: int) -> None:
    clock = HandClock()

    async def run() -> None:
        async with opened(tmp_path, clock) as journal:
            await some_hours(journal, clock)

    asyncio.run(run())
    change_file(tmp_path, "UPDATE anchor SET wall_ms = ?", wall_ms)
    assert "ran until damaged; the agent forgets it" in shown(tmp_path)


def test_somebody_else_is_told_who_may_look(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    reader, writer = os.pipe()
    if not os.fork():
        try:
            if os.geteuid() == 0:
                os.setuid(NOBODY)
            else:
                folder.chmod(0)
            journal_view.read(folder)
        except JournalError as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as said:
        assert said.read() == f"{folder / FILE}: may not be read; run this as root or as the agent's user"
