"""Keeps parts of evidence in a file of its own, which may be lost at any moment and then hurts nobody.

What goes wrong with the file costs evidence and is counted; nothing here raises for it. Room is made in a
fixed order: what the collector has goes first, then what belongs to closed occurrences, what came after a
raise before what was before it, the oldest first. Of what the collector lacks a mark stays, so that it hears
of it.
"""

from __future__ import annotations

import json
import os
import sqlite3
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import structlog

from edge_agent.sound import BrokenFileError, parted

FILE = "evidence.db"
FORMAT = 1
# Evidence is packed to a tenth; more costs time and saves little.
LEVEL = 6
PAGE_BYTES = 4096
# Of the cap: from where on something is given up, and until when.
GIVE_WAY_ABOVE, GIVE_WAY_UNTIL = 0.9, 0.8
# The log moves into the file after so many pages.
LOG_PAGES = 128
# Marks of what was given up, at most; the oldest go.
MAX_MARKS = 5_000
GIVEN_UP_AT_ONCE = 64
TRIES = 3

_SCHEMA = """
    CREATE TABLE part (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        uid TEXT NOT NULL,
        part TEXT NOT NULL,
        open INTEGER NOT NULL,
        sent INTEGER NOT NULL,
        body BLOB NOT NULL,
        UNIQUE (uid, part));
    CREATE INDEX part_waiting ON part (sent, seq);
    CREATE TABLE mark (seq INTEGER PRIMARY KEY, uid TEXT NOT NULL, part TEXT NOT NULL);
    CREATE TABLE counter (name TEXT PRIMARY KEY, count INTEGER NOT NULL);
"""
_NEXT_TO_GO = "SELECT seq, sent FROM part ORDER BY sent DESC, open, part = 'before', seq LIMIT ?"
_WAITING = """
    SELECT seq, uid, part, body FROM part WHERE sent = 0
    UNION ALL SELECT seq, uid, part, NULL FROM mark
    ORDER BY seq LIMIT ?"""
# Of a file that is damaged: an index may not tell the truth.
_LEFT = """
    SELECT seq, uid, part FROM part NOT INDEXED WHERE sent = 0 UNION ALL SELECT seq, uid, part FROM mark
    ORDER BY seq DESC LIMIT ?"""
_WAITING_LEFT = "SELECT count(*) FROM part NOT INDEXED WHERE sent = 0"

log = structlog.get_logger()
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPart:
    """``evidence`` is None when there was no room for it from the start."""

    uid: str
    part: str
    evidence: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What the collector lacks; ``evidence`` is None when it was given up."""

    seq: int
    uid: str
    part: str
    evidence: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Parts that wait for the collector, parts that were given up before it had them, bytes in use."""

    waiting: int = 0
    given_up: int = 0
    used_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Left:
    """What is to be told of a file that is given up: parts that the collector has neither got nor heard of as
    marks (seq, uid, part), and how many were given up in all.
    """

    marks: Sequence[tuple[int, str, str]] = ()
    given_up: int = 0


def read(path: Path) -> Figures:
    """What the file holds, while its agent runs or not, writing nothing. Raises FileNotFoundError,
    sqlite3.Error.
    """
    if not path.exists():
        raise FileNotFoundError(path)
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as sql:
        sql.execute("BEGIN")
        (version,) = sql.execute("PRAGMA user_version").fetchone()
        # 0: it is just being made.
        return _figures(sql) if version else Figures()


class EvidenceFile:
    """Belongs to one thread."""

    def __init__(self, path: Path, *, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._sql: sqlite3.Connection | None = None
        # What could not even be counted in the file, and what it held as of the last look.
        self._uncounted = 0
        self._held = Figures()
        # Of what was handed out. No other part gets one of these: an answer may be under way.
        self._highest_seq = 0
        self._told_away = False

    def write(self, parts: Sequence[NewPart], closed: Collection[str] = ()) -> None:
        """``closed``: uids of occurrences that have ended."""
        packed = [(one, _packed(one.evidence)) for one in parts]
        if not self._try(lambda sql: _write(sql, packed, closed)):
            marks = [(one, None) for one, _ in packed]
            if not self._try(lambda sql: _write(sql, marks, closed)):
                self._uncounted += len(parts)
        self._thin_if_tight()

    def waiting(self, *, max_bytes: int, at_most: int, without: Collection[int] = ()) -> list[Waiting]:
        """The oldest first: as many as have so many bytes as JSON, but at least one."""
        nothing: list[tuple[int, str, str, bytes | None]] = []
        most = at_most + len(without)
        found = self._ask(lambda sql: sql.execute(_WAITING, (most,)).fetchall(), nothing)
        chosen: list[Waiting] = []
        room = max_bytes
        for seq, uid, part, body in found:
            if seq in without or len(chosen) == at_most:
                continue
            try:
                text = None if body is None else zlib.decompress(body)
                evidence = None if text is None else json.loads(text)
            except (zlib.error, TypeError, ValueError):
                self._try(lambda sql, seq=seq: _give_up(sql, [(seq, 0)]))  # type: ignore[misc]
                continue
            self._highest_seq = max(self._highest_seq, seq)
            room -= len(text or b"")
            if room < 0 and chosen:
                break
            chosen.append(Waiting(seq=seq, uid=uid, part=part, evidence=evidence))
        return chosen

    def sent(self, seqs: Iterable[int]) -> None:
        told = list(seqs)
        self._try(lambda sql: _sent(sql, told))

    def drop(self, seqs: Iterable[int]) -> None:
        """They are damaged: not even that they were given up can be told."""
        damaged = list(seqs)
        self._try(lambda sql: _drop(sql, damaged))

    def send_again(self) -> None:
        """The collector holds less than it did."""
        self._try(lambda sql: sql.execute("UPDATE part SET sent = 0 WHERE sent = 1"))

    def make_room_on_the_disk(self) -> None:
        """The disk is short: a quarter of what is here goes, and where there is no room even for that all."""
        used = self.figures().used_bytes
        if not used:
            return
        try:
            sql = self._connection()
            if sql is not None:
                self._thin(sql, until_bytes=used * 3 // 4)
                sql.execute("PRAGMA incremental_vacuum").fetchall()
                sql.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as error:
            self._begin_anew(error)

    def figures(self) -> Figures:
        found = self._held = self._ask(_figures, Figures())
        return Figures(
            waiting=found.waiting,
            given_up=found.given_up + self._uncounted,
            used_bytes=found.used_bytes,
        )

    def close(self) -> None:
        if self._sql is not None:
            with suppress(sqlite3.Error):
                self._sql.close()
            self._sql = None

    # --- inside -------------------------------------------------------------------------------------------

    def _try(self, work: Callable[[sqlite3.Connection], object]) -> bool:
        """One transaction; whether it happened. Where there is no room some is made."""
        for _ in range(TRIES):
            sql = self._connection()
            if sql is None:
                return False
            try:
                _together(sql, work)
            except sqlite3.Error as error:
                if not _is_full(error):
                    self._begin_anew(error)
                elif not self._make_room(sql):
                    return False
            else:
                return True
        return False

    def _ask(self, question: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        sql = self._connection()
        if sql is None:
            return otherwise
        try:
            return question(sql)
        except sqlite3.Error as error:
            self._begin_anew(error)
            return otherwise

    def _thin_if_tight(self) -> None:
        sql = self._sql
        try:
            if sql is not None and _used_bytes(sql) > self._max_bytes * GIVE_WAY_ABOVE:
                self._thin(sql, until_bytes=int(self._max_bytes * GIVE_WAY_UNTIL))
        except sqlite3.Error as error:
            if not _is_full(error):
                self._begin_anew(error)

    def _make_room(self, sql: sqlite3.Connection) -> bool:
        try:
            return self._thin(sql, until_bytes=int(_used_bytes(sql) * GIVE_WAY_UNTIL))
        except sqlite3.Error:
            # A full disk: to give something up takes room, too.
            return False

    def _thin(self, sql: sqlite3.Connection, *, until_bytes: int) -> bool:
        """Whether anything was given up."""
        some = False
        while _used_bytes(sql) > until_bytes:
            found = sql.execute(_NEXT_TO_GO, (GIVEN_UP_AT_ONCE,)).fetchall()
            if not found:
                break
            _together(sql, lambda sql, found=found: _give_up(sql, found))  # type: ignore[misc]
            some = True
        return some

    def _connection(self) -> sqlite3.Connection | None:
        if self._sql is not None:
            return self._sql
        try:
            self._sql = _open(self._path, self._max_bytes)
        except (sqlite3.Error, OSError) as error:
            self._begin_anew(error)
        return self._sql

    def _begin_anew(self, error: Exception) -> None:
        """What was in the file is lost; of what can still be read of it marks stay."""
        left = _left(self._path) or _Left(given_up=self._held.given_up + self._held.waiting)
        self._held = Figures()
        self.close()
        for end in ("", "-wal", "-shm"):
            with suppress(OSError):
                Path(f"{self._path}{end}").unlink()
        try:
            self._sql = _open(self._path, self._max_bytes)
            _together(self._sql, lambda sql: _go_on(sql, left, self._highest_seq))
        except (sqlite3.Error, OSError) as again:
            self._uncounted += left.given_up
            if not self._told_away:
                log.error("evidence cannot be kept; faults are recorded as before", why=str(again))
            self._told_away = True
        else:
            log.error("the file of evidence could not be used; a new one begins", why=str(error))
            self._told_away = False


def _open(path: Path, max_bytes: int) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    sql = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        # Without it a deleted part gives nothing back to the disk.
        sql.execute("PRAGMA auto_vacuum = INCREMENTAL")
        sql.execute("PRAGMA journal_mode = WAL")
        # A power cut may take the last parts, and breaks nothing.
        sql.execute("PRAGMA synchronous = NORMAL")
        sql.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
        sql.execute(f"PRAGMA max_page_count = {max(16, max_bytes // PAGE_BYTES)}")
        (version,) = sql.execute("PRAGMA user_version").fetchone()
        if version == 0:
            sql.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT")
        elif version != FORMAT:
            raise sqlite3.DatabaseError(f"it has format {version}, this agent knows {FORMAT}")
        else:
            _check(path, sql)
            _together(sql, _number_above_what_is_here)
    except BaseException:
        sql.close()
        raise
    return sql


def _check(path: Path, sql: sqlite3.Connection) -> None:
    """Raises sqlite3.Error unless the file is consistent; an index that has parted from its table is made
    anew. A part that it lacks would wait for ever, or be told twice.
    """
    found = parted(sql)
    if found is None:
        return
    sql.execute("REINDEX")
    if (still := parted(sql)) is not None:
        raise BrokenFileError(still)
    log.warning(
        "the file of evidence had parted from an index, which was made anew", file=str(path), why=found
    )


def _number_above_what_is_here(sql: sqlite3.Connection) -> None:
    """A power cut may leave parts and marks that SQLite does not know to have numbered: the answer to a
    mark of such a number would be taken for that of a later part.
    """
    (highest,) = sql.execute(
        "SELECT max(seq) FROM (SELECT max(seq) AS seq FROM part UNION ALL SELECT max(seq) FROM mark)"
    ).fetchone()
    (numbered,) = sql.execute("SELECT max(seq) FROM sqlite_sequence").fetchone()
    if (highest or 0) > (numbered or 0):
        _number_above(sql, highest)


def _number_above(sql: sqlite3.Connection, seq: int) -> None:
    sql.execute("DELETE FROM sqlite_sequence")
    sql.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('part', ?)", (seq,))


def _left(path: Path) -> _Left | None:
    """None: nothing of it can be read."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as sql:
            if sql.execute("PRAGMA user_version").fetchone() != (FORMAT,):
                return None
            given_up = _given_up(sql)
            (waiting,) = sql.execute(_WAITING_LEFT).fetchone()
            marks = sql.execute(_LEFT, (MAX_MARKS,)).fetchall()
    except (sqlite3.Error, UnicodeDecodeError):
        return None
    sound = [one for one in marks if list(map(type, one)) == [int, str, str]]
    return _Left(marks=sound, given_up=given_up + int(waiting))


def _go_on(sql: sqlite3.Connection, left: _Left, highest_seq: int) -> None:
    """In the place of another file."""
    highest = max((highest_seq, *(seq for seq, _, _ in left.marks)))
    _number_above(sql, highest)
    sql.executemany("INSERT OR IGNORE INTO mark VALUES (?, ?, ?)", left.marks)
    _count(sql, left.given_up)


def _together(sql: sqlite3.Connection, work: Callable[[sqlite3.Connection], object]) -> None:
    sql.execute("BEGIN IMMEDIATE")
    try:
        work(sql)
        sql.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            sql.execute("ROLLBACK")
        raise


def _write(
    sql: sqlite3.Connection, parts: Iterable[tuple[NewPart, bytes | None]], closed: Collection[str]
) -> None:
    for one, body in parts:
        written = sql.execute(
            "INSERT OR IGNORE INTO part (uid, part, open, sent, body) VALUES (?, ?, 1, 0, ?)",
            (one.uid, one.part, body or b""),
        )
        if body is None and written.rowcount:
            _give_up(sql, [(written.lastrowid or 0, 0)])
    sql.executemany("UPDATE part SET open = 0 WHERE uid = ?", [(uid,) for uid in closed])


def _sent(sql: sqlite3.Connection, seqs: Iterable[int]) -> None:
    told = [(seq,) for seq in seqs]
    sql.executemany("DELETE FROM mark WHERE seq = ?", told)
    sql.executemany("UPDATE part SET sent = 1 WHERE seq = ?", told)


def _drop(sql: sqlite3.Connection, seqs: Iterable[int]) -> None:
    for seq in seqs:
        _count(sql, sql.execute("DELETE FROM part WHERE seq = ?", (seq,)).rowcount)
        sql.execute("DELETE FROM mark WHERE seq = ?", (seq,))


def _give_up(sql: sqlite3.Connection, found: Iterable[tuple[int, int]]) -> None:
    """(seq, sent): what the collector has goes for good; of the rest a mark stays."""
    gone = [(seq,) for seq, _ in found]
    marked = [(seq,) for seq, sent in found if not sent]
    sql.executemany("INSERT INTO mark SELECT seq, uid, part FROM part WHERE seq = ?", marked)
    # Not only emptied: a row that shrinks gives no page back.
    sql.executemany("DELETE FROM part WHERE seq = ?", gone)
    _count(sql, len(marked))
    sql.execute(
        "DELETE FROM mark WHERE seq IN (SELECT seq FROM mark ORDER BY seq DESC LIMIT -1 OFFSET ?)",
        (MAX_MARKS,),
    )


def _count(sql: sqlite3.Connection, by: int) -> None:
    if by:
        sql.execute(
            "INSERT INTO counter VALUES ('given_up', ?) ON CONFLICT (name) DO UPDATE SET count = count + ?",
            (by, by),
        )


def _figures(sql: sqlite3.Connection) -> Figures:
    (waiting,) = sql.execute("SELECT count(*) FROM part WHERE sent = 0").fetchone()
    return Figures(waiting=int(waiting), given_up=_given_up(sql), used_bytes=_used_bytes(sql))


def _given_up(sql: sqlite3.Connection) -> int:
    counted = sql.execute("SELECT count FROM counter WHERE name = 'given_up'").fetchone()
    return int(counted[0]) if counted else 0


def _used_bytes(sql: sqlite3.Connection) -> int:
    with closing(sql.cursor()) as cursor:
        (pages,) = cursor.execute("PRAGMA page_count").fetchone()
        (free,) = cursor.execute("PRAGMA freelist_count").fetchone()
    return (int(pages) - int(free)) * PAGE_BYTES


def _packed(evidence: Mapping[str, Any] | None) -> bytes | None:
    if evidence is None:
        return None
    return zlib.compress(json.dumps(evidence, separators=(",", ":")).encode(), LEVEL)


def _is_full(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL
