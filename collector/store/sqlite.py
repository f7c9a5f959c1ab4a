"""SQLite: one thread writes and checkpoints, and commits what has piled up as one group; a few threads read.

Exactly one connection may write or checkpoint: SQLite before 3.51.3 has a race between two of them that
corrupts the file (sqlite.org/wal.html, "The WAL Reset Bug"). Readers open the file read-only, so that they
cannot.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any, TypeVar
from urllib.parse import quote

import structlog
from sqlalchemy import Connection, Engine, QueuePool, StaticPool, create_engine, event, make_url

from collector.owner import hand_over
from collector.store.migrate import migrate

T = TypeVar("T")
log = structlog.get_logger()

# Units that share one fsync.
MAX_GROUP = 64
READERS = 4
BUSY_TIMEOUT_S = 10.0
# Uids are random, and so are the places of their index: with SQLite's own 2 MiB each of them is read again.
WRITER_CACHE_KIB = 4 << 10
# 16 MiB: a page that changes in many commits is written back once.
CHECKPOINT_PAGES = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    work: Callable[[Connection], Any]
    future: Future[Any]


class Sqlite:
    shared = False

    def __init__(self, url: str, *, upgrade: bool = True) -> None:
        name = make_url(url).database
        if not name or name == ":memory:":
            raise ValueError(f"{url}: a file is needed, as in sqlite:////var/lib/andon/collector.db")
        path = Path(name).absolute()
        self._writing = _engine(lambda: _open_writer(path), "BEGIN IMMEDIATE", writers=1)
        with self._writing.connect() as connection:
            migrate(connection, upgrade=upgrade)
        # By now each of its files is there under its name, and nothing was confirmed yet.
        _sync_folder(path.parent)
        self._reading = _engine(lambda: _open_reader(path), "BEGIN", writers=0)
        self._queue: SimpleQueue[Unit | None] = SimpleQueue()
        self._door = Lock()
        self._closed = False
        self._thread = Thread(target=self._run, name="store-writer", daemon=True)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")
        self._thread.start()

    def close(self) -> None:
        with self._door:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        self._thread.join()
        self._readers.shutdown()
        self._reading.dispose()
        self._writing.dispose()

    def write(self, unit: Callable[[Connection], T]) -> Future[T]:
        future: Future[T] = Future()
        with self._door:
            if self._closed:
                raise RuntimeError("the store is closed")
            self._queue.put(Unit(work=unit, future=future))
        return future

    def read(self, query: Callable[[Connection], T]) -> Future[T]:
        return self._readers.submit(self._read, query)

    def listen(self, hear: Callable[[str], None], missed: Callable[[], None]) -> None:
        """There is nobody else."""

    def _read(self, query: Callable[[Connection], T]) -> T:
        with self._reading.connect() as connection, connection.begin():
            return query(connection)

    def _run(self) -> None:
        with self._writing.connect() as connection:
            while (unit := self._queue.get()) is not None:
                group, last = self._piled_up(unit)
                _commit(connection, group)
                if last:
                    return
                # Not kept until somebody else writes: a message of 500 rows is some MB.
                del unit, group

    def _piled_up(self, first: Unit) -> tuple[list[Unit], bool]:
        group = [first]
        try:
            while len(group) < MAX_GROUP:
                unit = self._queue.get_nowait()
                if unit is None:
                    return group, True
                group.append(unit)
        except Empty:
            pass
        return group, False


def _commit(connection: Connection, group: list[Unit]) -> None:
    """All of the group in one transaction, each behind its own savepoint. One that is alone has none: with
    foreign keys, SQLite keeps a copy of what each row changes while there is one, and an insert costs thrice.
    """
    written: list[tuple[Future[Any], Any]] = []
    refused: list[tuple[Future[Any], Exception]] = []
    running = [unit for unit in group if unit.future.set_running_or_notify_cancel()]
    try:
        with connection.begin():
            for unit in running:
                try:
                    with connection.begin_nested() if len(running) > 1 else nullcontext():
                        result = unit.work(connection)
                except Exception as error:
                    refused.append((unit.future, error))
                    if len(running) == 1 or not _in_transaction(connection):
                        # There is nobody else, or SQLite has rolled back everything by itself (disk full, I/O
                        # error): nobody was written.
                        raise
                else:
                    written.append((unit.future, result))
    except Exception as error:  # noqa: BLE001  the callers get it, the writer goes on
        for unit in running:
            unit.future.set_exception(error)
        return
    for future, refusal in refused:
        future.set_exception(refusal)
    for future, result in written:
        future.set_result(result)


def _in_transaction(connection: Connection) -> bool:
    raw = connection.connection.dbapi_connection
    return isinstance(raw, sqlite3.Connection) and raw.in_transaction


def _engine(opened: Callable[[], sqlite3.Connection], begin: str, *, writers: int) -> Engine:
    engine = (
        create_engine("sqlite://", creator=opened, poolclass=StaticPool)
        if writers
        else create_engine(
            "sqlite://", creator=opened, poolclass=QueuePool, pool_size=READERS, max_overflow=0
        )
    )

    # The driver begins nothing by itself (isolation_level=None), so that a read is one snapshot and a write
    # locks at once.
    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _open_writer(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    _make(path)
    fresh = path.stat().st_size == 0
    connection = sqlite3.connect(path, BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    # Made under EXTRA, so that the directory entry survives a power cut too; FULL syncs every commit after
    # that.
    connection.execute("PRAGMA synchronous=EXTRA")
    if connection.execute("PRAGMA journal_mode=WAL").fetchone() != ("wal",):
        raise ValueError(f"{path}: this file system cannot carry SQLite's write-ahead log")
    if not fresh:
        connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute(f"PRAGMA cache_size=-{WRITER_CACHE_KIB}")
    connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
    connection.execute("PRAGMA journal_size_limit=16777216")
    return connection


def _make(path: Path) -> None:
    """For its owner alone, as SQLite's files beside it will be."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    try:
        hand_over(descriptor, path.parent)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open_reader(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode=ro",
        BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
        uri=True,
    )
    connection.execute("PRAGMA query_only=ON")
    # SQLite's own knows ASCII alone: nobody would find what stands in a title as ÖL.
    connection.create_function("lower", 1, str.lower, deterministic=True)
    return connection
