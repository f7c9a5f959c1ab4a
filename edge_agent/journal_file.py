"""Opens the journal's file so that a pulled plug at any step leaves it whole; one agent at a time."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import structlog

from edge_agent import journal_salvage, mend
from edge_agent.journal_salvage import Salvaged
from edge_agent.sound import BrokenFileError, parted

# All rows of a file that is mended are in memory at once; systemd gives the agent 256 MiB. A larger one is
# salvaged, a few rows at a time.
MENDED_AT_MOST_BYTES = 32 << 20
FILE = "journal.db"
SCHEMA = Path(__file__).parent / "schema"

log = structlog.get_logger()


class JournalError(Exception):
    """The journal cannot be used; the text says which file and why."""


# Makes room for so many bytes on the disk, as far as it can; how many may be taken, None for any.
MakeWay = Callable[[int], int | None]


def open_file(path: Path, *, now_ms: int, make_way: MakeWay = lambda _: None) -> sqlite3.Connection:
    """That file, made if there is none. One that is broken is set aside, and what of it can be read is moved
    into a new one, as far as there is room for it.

    Raises JournalError.
    """
    try:
        journal_salvage.complete_moves(path)
        connection = _open_or_begin_anew(path, now_ms, make_way)
        for aside in journal_salvage.pending(path):
            most_bytes = make_way(journal_salvage.file_bytes(aside))
            found = journal_salvage.salvage(aside, connection, most_bytes)
            journal_salvage.done(aside)
            _sync_folder(path.parent)
            log.error(
                "what could be read of the broken journal is in the new one",
                file=found.file,
                rows=found.rows_salvaged,
                rows_damaged=found.rows_damaged,
                places_unreadable=found.places_unreadable,
                rows_given_up=found.rows_given_up,
            )
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) in journal_salvage.WANT_OF_ROOM:
            raise JournalError(
                f"{path}: cannot be opened: the disk is full and nothing is kept for that "
                "(journal.ballast_mib); make room"
            ) from error
        raise JournalError(f"{path}: cannot be opened: {error}") from error
    except OSError as error:
        raise JournalError(_refused(path, error)) from error
    return connection


def in_memory() -> sqlite3.Connection:
    """An empty one that nothing survives."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    _migrate(Path(":memory:"), connection)
    return connection


def _open_or_begin_anew(path: Path, now_ms: int, make_way: MakeWay) -> sqlite3.Connection:
    try:
        return _open(path, make_way)
    except journal_salvage.UNREADABLE as error:
        if not _is_broken(error):
            raise
        make_way(journal_salvage.file_bytes(path))
        journal_salvage.set_aside(path, now_ms)
        _sync_folder(path.parent)
        log.error(
            "the journal is broken; it was set aside and a new one begins", file=str(path), why=str(error)
        )
    return _open(path, make_way)


def lock_file(path: Path) -> int:
    """Held until the process ends, however it ends. Raises JournalError."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise JournalError(_refused(path, error)) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise JournalError(f"{path.parent}: another edge-agent uses this data folder") from error
    return descriptor


def _refused(path: Path, error: OSError) -> str:
    return (
        f"{path}: cannot be opened: {error.strerror or error}; the folder and what is in it have to belong "
        "to the agent's user, and may not be read-only"
    )


def _open(path: Path, make_way: MakeWay) -> sqlite3.Connection:
    # Readable by its owner only; SQLite gives its other files the same mode.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = sqlite3.connect(path, isolation_level=None)
    # A damaged text must reach its checksum instead of breaking the statement that reads it.
    connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    try:
        # EXTRA while the file becomes WAL: else the rollback journal of that very step may come back from a
        # power cut and empty the file. From then on FULL syncs the WAL at each commit.
        connection.execute("PRAGMA synchronous = EXTRA")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        _migrate(path, connection)
        _check(path, connection, make_way)
        # Last, for by now each of its files is there under its name; nothing was confirmed yet.
        _sync_folder(path.parent)
    except BaseException:
        connection.close()
        raise
    return connection


def _check(path: Path, connection: sqlite3.Connection, make_way: MakeWay) -> None:
    """Raises BrokenFileError unless the file is consistent; rows and indices that have parted are mended."""
    found = parted(connection)
    if found is None:
        return
    if path.stat().st_size > MENDED_AT_MOST_BYTES:
        raise BrokenFileError(found)
    # All of it goes through the log once more.
    make_way(path.stat().st_size)
    try:
        given_up = mend.rows(connection)
    except sqlite3.Error as error:
        if isinstance(error, sqlite3.IntegrityError) or error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            raise BrokenFileError(f"{found}; {error}") from error
        raise
    if (still := parted(connection)) is not None:
        raise BrokenFileError(still)
    if given_up:
        journal_salvage.record(connection, Salvaged(file=path.name, rows_damaged=given_up))
    log.error(
        "the journal had parted from an index; its rows were stored anew",
        file=str(path),
        why=found,
        rows_given_up=given_up,
    )


def _migrate(path: Path, connection: sqlite3.Connection) -> None:
    """Raises BrokenFileError when the file's tables are not those of its format: one flipped bit in its first
    page would else be taken for the format of a newer agent, or stop every later start.
    """
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    found, known = _tables(connection), _tables_by_format()
    if version > max(known) and found not in known.values():
        raise JournalError(
            f"{path}: written by a newer agent (format {version}, this one knows {max(known)})"
        )
    if known.get(version) != found:
        raise BrokenFileError(f"its tables are not those of format {version}")
    if version:
        # A file whose header calls it read-only is that to SQLite, which says so to whoever means to write.
        connection.execute("DELETE FROM stream WHERE 0")
    for number, script in _scripts().items():
        if number > version:
            _apply(connection, number, script)


def _scripts() -> dict[int, str]:
    return {int(file.stem): file.read_text(encoding="utf-8") for file in sorted(SCHEMA.glob("*.sql"))}


def _apply(connection: sqlite3.Connection, number: int, script: str) -> None:
    connection.executescript(f"BEGIN; {script}; PRAGMA user_version = {number}; COMMIT;")


def _tables_by_format() -> dict[int, frozenset[str]]:
    """0: a new file."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as empty:
        found = {0: _tables(empty)}
        for number, script in _scripts().items():
            _apply(empty, number, script)
            found[number] = _tables(empty)
    return found


def _tables(connection: sqlite3.Connection) -> frozenset[str]:
    """All that is defined, as words; but for what comes and goes (``Economy.reserve``)."""
    try:
        found = connection.execute(
            "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name != 'reserve'"
        ).fetchall()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_ERROR:
            raise BrokenFileError(str(error)) from error
        raise
    return frozenset(" ".join(" ".join(map(str, one)).split()) for one in found)


def _is_broken(error: Exception) -> bool:
    if isinstance(error, UnicodeDecodeError):
        return True
    code = getattr(error, "sqlite_errorcode", 0)
    if code == sqlite3.SQLITE_ERROR and str(error) == "unsupported file format":
        return True
    # The operating system has let us open it for writing, so that it is the file that says otherwise.
    if code == sqlite3.SQLITE_READONLY:
        return True
    if code in (sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ):
        return True
    broken = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
    return isinstance(error, BrokenFileError) or code & 0xFF in broken


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
