"""Says what the real collector's store makes of an image of its SQLite database after a power cut."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from powercut import collector_writer, cuts, writer
from powercut.cuts import Figures, Outcome, Sayings
from powercut.recording import Step
from sqlalchemy import Connection, select
from sqlalchemy.exc import DatabaseError

from collector.store import Store, UnusableError
from collector.store.tables import occurrence, stream

DATABASE = collector_writer.DATABASE
# Row by uid: rev and state; position by stream.
Found = tuple[dict[str, tuple[int, str]], dict[str, int], str]


def record(
    folder: Path,
    *,
    seed: int,
    exchanges: int,
    way: str = writer.AS_BUILT,
    endings: Sequence[str] = cuts.SHORT,
) -> list[Step]:
    return cuts.record(
        folder,
        seed=seed,
        transitions=exchanges,
        way=way,
        endings=endings,
        program=collector_writer.__file__,
        database=DATABASE,
    )


async def cut(
    steps: Sequence[Step],
    folder: Path,
    *,
    images: int,
    seed: int,
    progress: Callable[[Figures], None] = lambda figures: None,
    figures: Figures | None = None,
) -> Figures:
    return await cuts.cut(
        steps,
        folder,
        images=images,
        seed=seed,
        database=DATABASE,
        judge=of_store,
        progress=progress,
        figures=figures,
    )


async def of_store(folder: Path, said: Sayings) -> Outcome:
    try:
        store = Store.open(f"sqlite:///{folder / DATABASE}")
        try:
            found = store.read(_read)
        finally:
            store.close()
    except (DatabaseError, UnusableError) as error:
        return Outcome(corrupt=(f"cannot be used: {error}",))
    corrupt = () if found[2] == "ok" else (f"integrity_check: {found[2]}",)
    return Outcome(lost=tuple(_lost(said, found)), corrupt=corrupt)


def _read(connection: Connection) -> Found:
    rows = connection.execute(select(occurrence.c.uid, occurrence.c.rev, occurrence.c.open))
    held = {row.uid: (row.rev, "open" if row.open else "closed") for row in rows}
    positions = {row.id: row.hwm_seq for row in connection.execute(select(stream))}
    verdict = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar_one()
    return held, positions, verdict


def _lost(said: Sayings, found: Found) -> Iterable[str]:
    rows, positions, _ = found
    promised: dict[str, int] = {}
    reached: dict[str, int] = {}
    for what, *words in said:
        if what == "row":
            promised[words[0]] = int(words[1])
        else:
            reached[words[0]] = int(words[1])
    for uid, rev in promised.items():
        if uid not in rows or rows[uid][0] < rev:
            yield f"row {uid} rev {rev}, found {rows.get(uid)}"
    for name, seq in reached.items():
        if positions.get(name, 0) < seq:
            yield f"stream {name} at {seq}, found {positions.get(name)}"
