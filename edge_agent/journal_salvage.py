"""Moves what can still be read of a broken journal into a new one: row by row, the checksum of each decides.

A broken file is renamed to ``.salvage-…``, and to ``.broken-…`` once all of it that can be read is durable in
the new one. Whoever is killed in between begins again: a row that is there already is not moved twice. What
finds no room beside the broken file stays behind (``journal_mover``).
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import structlog

from edge_agent import mend, stored
from edge_agent.journal_mover import Mover

# In one transaction: what a kill in the middle costs.
ROWS_AT_ONCE = 500
# Of these, until the log hears of it.
TOLD_EVERY = 20
# No journal has as many rows; past it nothing is looked for.
LAST_ROWID = 1 << 40
# A file in which so many places cannot be read is no journal any more.
MAX_PLACES = 10_000
SIDE_FILES = ("", "-wal", "-shm")
# SQLite's error quotes a broken definition, and may be no text itself.
UNREADABLE = (sqlite3.Error, UnicodeDecodeError)
# Not the file's fault: to read one with a log SQLite makes an index of that beside it.
WANT_OF_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)
PENDING, DONE = ".salvage-", ".broken-"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Salvaged:
    """``rows_damaged`` were seen and are not what was written; what lay in a place that cannot be read is not
    known. What was given up found no room.
    """

    file: str
    head_seq: int = 0
    rows_salvaged: int = 0
    rows_damaged: int = 0
    places_unreadable: int = 0
    evidence_given_up: int = 0
    rows_given_up: int = 0
    occurrences_given_up: int = 0


_NAMES = tuple(field.name for field in fields(Salvaged))
_COLUMNS = ", ".join(_NAMES)


def set_aside(path: Path, now_ms: int) -> None:
    """The main file first: as long as it is there under its name, nothing was moved."""
    _rename(path, path.with_name(f"{path.name}{PENDING}{now_ms}"), SIDE_FILES)


def complete_moves(path: Path) -> None:
    """Whoever was killed while a file was set aside has left a part of it behind."""
    waiting = pending(path)
    if waiting and not path.exists():
        for suffix in SIDE_FILES[1:]:
            with suppress(FileNotFoundError):
                path.with_name(path.name + suffix).rename(waiting[-1].with_name(waiting[-1].name + suffix))


def pending(path: Path) -> list[Path]:
    """Oldest first."""
    return _aside(path, PENDING)


def set_aside_files(path: Path) -> list[Path]:
    """Those that are still to be salvaged, and those of which all that can be read is in the journal."""
    return [*pending(path), *_aside(path, DONE)]


def file_bytes(path: Path) -> int:
    """With its log."""
    files = (path.with_name(path.name + suffix) for suffix in SIDE_FILES)
    return sum(file.stat().st_size for file in files if file.exists())


def salvage(aside: Path, into: sqlite3.Connection, most_bytes: int | None) -> Salvaged:
    """``most_bytes``: see ``Mover``. Raises sqlite3.Error when it cannot write; ``done`` has to follow."""
    reader, mover = _Reader(), Mover(into, most_bytes)
    damaged = 0
    with closing(sqlite3.connect(f"{aside.resolve().as_uri()}?mode=ro", uri=True)) as source:
        source.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        # Else a file that was cut off is not read at all.
        source.execute("PRAGMA writable_schema = ON")
        anchor, head_seq = _anchor(source), _head_seq(source)
        age_ms = anchor[-1] if anchor else 0
        for turn, some in enumerate(_in_groups(reader.rows(source)), 1):
            whole = [told for body, crc in some if (told := _as_told(body, crc, age_ms)) is not None]
            damaged += len(some) - len(whole)
            mover.move(whole)
            if turn % TOLD_EVERY == 0:
                log.info("moving what can be read of the broken journal", rows=turn * ROWS_AT_ONCE)

    def found() -> Salvaged:
        return Salvaged(
            file=aside.name.replace(PENDING, DONE),
            head_seq=head_seq,
            rows_salvaged=int(into.execute("SELECT count(*) FROM occurrence").fetchone()[0]),
            rows_damaged=damaged,
            places_unreadable=reader.unreadable,
            evidence_given_up=mover.evidence_given_up,
            rows_given_up=mover.rows_given_up,
            occurrences_given_up=mover.occurrences_given_up,
        )

    mover.end(lambda: _conclude(into, found(), anchor))
    return found()


def _conclude(
    into: sqlite3.Connection, found: Salvaged, anchor: tuple[str, int, int, str, int] | None
) -> None:
    if anchor:
        into.execute(
            "INSERT OR IGNORE INTO anchor (only, boot, mono_ns, wall_ms, source, age_ms, crc)"
            " VALUES (1, ?, ?, ?, ?, ?, ?)",
            (*anchor, stored.checksum(*anchor)),
        )
    record(into, found)


def record(into: sqlite3.Connection, found: Salvaged) -> None:
    """So that the agent reports it once it runs."""
    places = ", ".join("?" for _ in _NAMES)
    into.execute(f"INSERT OR REPLACE INTO salvage ({_COLUMNS}) VALUES ({places})", astuple(found))  # noqa: S608  # constants


def recorded(connection: sqlite3.Connection) -> list[Salvaged]:
    found = connection.execute(f"SELECT {_COLUMNS} FROM salvage ORDER BY file").fetchall()  # noqa: S608
    return [Salvaged(**dict(zip(_NAMES, row, strict=True))) for row in found]


def done(aside: Path) -> None:
    """It is kept for whoever wants to look into it, until the next one comes or the disk is short."""
    forget_done(aside.with_name(aside.name.partition(PENDING)[0]))
    # What only the reading of it has made.
    aside.with_name(f"{aside.name}-shm").unlink(missing_ok=True)
    log_of_it = aside.with_name(f"{aside.name}-wal")
    if log_of_it.exists() and not log_of_it.stat().st_size:
        log_of_it.unlink()
    # The main file last: as long as it is there under its name, nothing is done.
    _rename(aside, aside.with_name(aside.name.replace(PENDING, DONE)), SIDE_FILES[::-1])


def forget_done(path: Path) -> bool:
    """Whether there was a broken one that was kept only for whoever wants to look into it; it is gone."""
    kept = _aside(path, DONE)
    for one in kept:
        for suffix in SIDE_FILES:
            one.with_name(one.name + suffix).unlink(missing_ok=True)
    return bool(kept)


class _Reader:
    """All rows of a table in which some pages may be unreadable, and how many such places there are."""

    def __init__(self) -> None:
        self.unreadable = 0

    def rows(self, source: sqlite3.Connection) -> Iterator[tuple[object, object]]:
        """Body and checksum of each, as they are."""
        after, at_once = 0, ROWS_AT_ONCE
        while self.unreadable < MAX_PLACES:
            try:
                found = source.execute(
                    "SELECT rowid, body, crc FROM occurrence NOT INDEXED"
                    " WHERE rowid > ? ORDER BY rowid LIMIT ?",
                    (after, at_once),
                ).fetchall()
            except UNREADABLE as error:
                if getattr(error, "sqlite_errorcode", 0) in WANT_OF_ROOM:
                    raise
                if at_once > 1:
                    # What comes before the place that cannot be read, one by one.
                    at_once = 1
                    continue
                if (beyond := self._past_a_place(source, after)) is None:
                    return
                after = beyond
                continue
            if not found:
                return
            for rowid, body, crc in found:
                # A page that stands where another should is not in order.
                if isinstance(rowid, int) and rowid > after:
                    after = rowid
                    yield body, crc
                    continue
                if (beyond := self._past_a_place(source, after)) is None:
                    return
                after = beyond
                break
            else:
                at_once = ROWS_AT_ONCE

    def _past_a_place(self, source: sqlite3.Connection, after: int) -> int | None:
        """The rowid after which reading goes on past the place behind ``after``; None when it never does."""
        self.unreadable += 1
        readable = _first_readable(source, after + 1)
        return None if readable is None else readable - 1


def _first_readable(source: sqlite3.Connection, unreadable: int) -> int | None:
    """The first rowid past ``unreadable`` from where on reading goes on; None when it never does."""
    low, step = unreadable, 1
    while not _is_readable(source, low + step):
        low, step = low + step, step * 2
        if low > LAST_ROWID:
            return None
    high = low + step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _is_readable(source, middle) else (middle, high)
    return high


def _is_readable(source: sqlite3.Connection, rowid: int) -> bool:
    try:
        found = source.execute(
            "SELECT rowid, body, crc FROM occurrence NOT INDEXED WHERE rowid >= ? ORDER BY rowid LIMIT 1",
            (rowid,),
        ).fetchone()
    except UNREADABLE:
        return False
    return found is None or found[0] >= rowid


def _in_groups(rows: Iterator[tuple[object, object]]) -> Iterator[list[tuple[object, object]]]:
    while some := list(itertools.islice(rows, ROWS_AT_ONCE)):
        yield some


def _as_told(body: object, crc: object, age_ms: int) -> mend.Columns | None:
    """Aged by the clock of the new journal."""
    if not isinstance(body, str) or not isinstance(crc, int):
        return None
    return mend.as_told(body, crc, age_ms)


def _anchor(source: sqlite3.Connection) -> tuple[str, int, int, str, int] | None:
    """boot, mono_ns, wall_ms, source, age_ms."""
    with suppress(*UNREADABLE):
        found = source.execute("SELECT boot, mono_ns, wall_ms, source, age_ms, crc FROM anchor").fetchone()
        if found is not None and stored.checksum(*found[:-1]) == found[-1]:
            boot, mono_ns, wall_ms, told_by, age_ms, _ = found
            return (boot, mono_ns, wall_ms, told_by, age_ms)
    return None


def _head_seq(source: sqlite3.Connection) -> int:
    """As far as its checksum says that it is true; else the rows have to tell."""
    with suppress(*UNREADABLE):
        names = "id, head_seq, cursor_seq, cursor_nonce, pruned_through, evidence_bytes"
        found = source.execute(f"SELECT {names}, crc FROM stream").fetchone()  # noqa: S608  # a constant
        if found is not None and stored.checksum(*found[:-1]) == found[-1]:
            return int(found[1])
    return 0


def _aside(path: Path, kind: str) -> list[Path]:
    found = [one for one in path.parent.glob(f"{path.name}{kind}*") if one.name.rpartition("-")[2].isdigit()]
    return sorted(found, key=lambda one: (len(one.name), one.name))


def _rename(path: Path, to: Path, suffixes: Sequence[str]) -> None:
    for suffix in suffixes:
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(to.with_name(to.name + suffix))
