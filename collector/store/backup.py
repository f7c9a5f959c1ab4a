"""Copies the collector's SQLite database while it is in use, and puts such a copy back.

A backup is one moment: everything is read in one transaction of a connection that can only read, so that the
server's stays the only one that writes or checkpoints. It is one file, synced and checked before it has its
name. After a restore agents notice what is missing, and send it again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from sqlalchemy.exc import SQLAlchemyError

from collector.owner import hand_over
from collector.store import tables
from collector.store.migrate import known_versions
from collector.store.sqlite import Sqlite

# Copied between two signs of progress.
PAGES = 1024
UNFINISHED = ".unfinished"
BUSY_TIMEOUT_S = 10.0
# SQLite's, beside the database.
COMPANIONS = ("-wal", "-shm", "-journal")
# What is no database, or broken where it begins.
UNREADABLE = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}


class BackupError(Exception):
    """It was not done, and nothing has changed; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """``rows`` by table."""

    rows: dict[str, int]
    size_bytes: int

    def __str__(self) -> str:
        told = ", ".join(f"{self.rows[name]} {words}" for name, words in SAID.items())
        return f"{told}; {self.size_bytes / 1e6:.1f} MB"


SAID = {"ticket": "tickets", "occurrence": "occurrences", "gateway": "gateways"}

# Pages that are done, and of how many.
Progress = Callable[[int, int], None]


def _unseen(_done: int, _total: int) -> None:
    """Nobody looks."""


def back_up(database: Path, target: Path, progress: Progress = _unseen) -> Copied:
    """Raises BackupError."""
    try:
        if target.exists():
            raise BackupError(f"{target} is there already; a backup overwrites nothing")
    except OSError as error:
        raise BackupError(f"{target} cannot be written: {error.strerror}") from error
    with _unfinished(target) as part:
        with _reading(database) as source:
            source.execute("BEGIN")
            version, rows = _version(source, database), _rows(source)
            _copy(source, part, progress)
        _sync(part)
        with _reading(part) as copy:
            if _check(copy) != "ok" or _version(copy, part) != version or _rows(copy) != rows:
                raise BackupError(f"{part} is not what was read; the disk cannot be trusted")
        size_bytes = part.stat().st_size
        _name(part, target)
    return Copied(rows=rows, size_bytes=size_bytes)


def restore(
    source: Path, database: Path, stamp: str, progress: Progress = _unseen
) -> tuple[Copied, Path | None]:
    """Nobody may have ``database`` open: the caller holds the lock. Also says where what was there before is
    kept; ``stamp`` is part of that name. Raises BackupError.

    One that is broken off at any point has replaced nothing or all, and may be done again: what is replaced
    is one file by then, which has a second name, and the copy takes the first from it in one step.
    """
    # Nobody else restores: it was broken off.
    left = _part_of(database)
    try:
        _remove(left)
    except OSError as error:
        raise BackupError(f"{left} cannot be removed: {error.strerror}") from error
    with _unfinished(database) as part:
        hand_over(part, database.parent)
        with _reading(source) as read:
            read.execute("BEGIN")
            if (verdict := _check(read)) != "ok":
                raise BackupError(f"{source} is damaged: {verdict}")
            _version(read, source)
            _copy(read, part, progress)
        _migrate(part)
        with _reading(part) as copy:
            rows = _rows(copy)
        _sync(part)
        kept = _keep(database, stamp)
        part.replace(database)
        _sync(database.parent)
    return Copied(rows=rows, size_bytes=database.stat().st_size), kept


@contextlib.contextmanager
def _unfinished(target: Path) -> Iterator[Path]:
    """A file of its own beside ``target``; gone at the end unless it was given its name."""
    part = _part_of(target)
    try:
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        raise BackupError(
            f"{part} is there: another one is under way, or was broken off; remove it then"
        ) from None
    except OSError as error:
        raise BackupError(f"{part} cannot be written: {error.strerror}") from error
    try:
        yield part
    except OSError as error:
        raise BackupError(f"{part} cannot be written: {error.strerror}") from error
    finally:
        _remove(part)


def _part_of(target: Path) -> Path:
    return target.with_name(target.name + UNFINISHED)


def _remove(database: Path) -> None:
    for end in COMPANIONS:
        database.with_name(database.name + end).unlink(missing_ok=True)
    database.unlink(missing_ok=True)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Raises BackupError when it is not a database."""
    try:
        connection = sqlite3.connect(
            f"file:{quote(str(path.absolute()))}?mode=ro", BUSY_TIMEOUT_S, isolation_level=None, uri=True
        )
    except sqlite3.Error as error:
        raise BackupError(f"{path} cannot be read: {error}") from error
    with contextlib.closing(connection):
        try:
            connection.execute("PRAGMA query_only = ON")
            yield connection
        except sqlite3.Error as error:
            raise BackupError(f"{path} cannot be read: {error}") from error


def _version(connection: sqlite3.Connection, path: Path) -> str:
    try:
        (version,) = connection.execute("SELECT version_num FROM alembic_version").fetchone() or (None,)
    except sqlite3.Error as error:
        raise BackupError(f"{path} is not a database of a collector: {error}") from error
    if version not in known_versions():
        raise BackupError(f"{path} is of another version of the collector ({version})")
    return str(version)


def _rows(connection: sqlite3.Connection) -> dict[str, int]:
    """In each table that this file has; an older one has fewer."""
    there = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    return {
        name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]  # noqa: S608  our own names
        for name in tables.metadata.tables
        if name in there
    }


def _check(connection: sqlite3.Connection) -> str:
    verdict: str = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    return verdict


def _copy(source: sqlite3.Connection, part: Path, progress: Progress) -> None:
    """``source`` is in a transaction, so all steps see one moment and none begins anew."""
    try:
        with contextlib.closing(sqlite3.connect(part, isolation_level=None)) as target:
            # What is synced is the finished file.
            target.execute("PRAGMA synchronous = OFF")
            source.backup(target, pages=PAGES, progress=lambda _, left, total: progress(total - left, total))
            # One file, whatever becomes of it.
            target.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        raise BackupError(f"{part} cannot be written: {error}") from error


def _migrate(part: Path) -> None:
    """It opens, it is of this version, and nothing of it is left beside it."""
    try:
        Sqlite(f"sqlite:///{part.absolute()}").close()
        _merge_log(part)
    except (SQLAlchemyError, sqlite3.Error, ValueError) as error:
        raise BackupError(f"it cannot be used: {error}") from error


def _keep(database: Path, stamp: str) -> Path | None:
    """A second name for it, after its log has gone into it: beside another database the log would be taken
    for that one's.
    """
    kept = database.with_name(f"{database.name}.replaced-{stamp}")
    if kept.exists():
        raise BackupError(f"{kept} is there already")
    there = database.exists()
    try:
        if there:
            _merge_log(database)
    except sqlite3.Error as error:
        if error.sqlite_errorcode & 0xFF not in UNREADABLE:
            raise BackupError(f"{database} cannot be replaced: {error}") from error
    # Of what is there no more, or is no database any more: no collector starts with that either.
    for end in COMPANIONS:
        beside = database.with_name(database.name + end)
        if beside.exists():
            beside.rename(kept.with_name(kept.name + end))
            there = True
    if database.exists():
        _link(database, kept)
    _sync(database.parent)
    return kept if there else None


def _merge_log(database: Path) -> None:
    """It is one file then. Refused by SQLite while anybody else has it open, a backup too."""
    with contextlib.closing(sqlite3.connect(database, BUSY_TIMEOUT_S, isolation_level=None)) as last:
        last.execute("PRAGMA journal_mode = DELETE")


def _link(database: Path, kept: Path) -> None:
    try:
        kept.hardlink_to(database)
    except OSError:
        # Not every file system has a second name for a file.
        shutil.copyfile(database, kept)
        shutil.copymode(database, kept)
        hand_over(kept, kept.parent)
        _sync(kept)


def _name(part: Path, target: Path) -> None:
    if target.exists():
        raise BackupError(f"{target} is there meanwhile; a backup overwrites nothing")
    part.rename(target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
