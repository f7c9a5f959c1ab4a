"""PostgreSQL: a few threads with a connection each for those who write and a few for those who read, so that
no sync waits behind a report; READ COMMITTED with row locks. What the database asks to try again, and what
met a connection that died, is tried again for some seconds.

Only a commit whose answer never came is not tried again: whether it happened nobody knows here, and whoever
asked for it does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from threading import BoundedSemaphore
from time import sleep
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from collector.store.bulk import RacedError
from collector.store.listener import Listener
from collector.store.migrate import migrate

T = TypeVar("T")

WRITERS, READERS = 4, 4
# Units that wait for a writer or have one, and as many for a reader. More would wait longer than who asked
# for them.
MAX_WAITING = 128
# 4.3 s in all: a server that restarts is back by then, and a gateway still waits for its answer.
TRIES = 11
FIRST_PAUSE_S = 0.01
MOST_PAUSE_S = 1.0
# PostgreSQL manual, appendix A. It has undone the transaction: serialization_failure, deadlock_detected.
UNDONE = frozenset({"40001", "40P01"})
# The connection or its server went: admin_shutdown, crash_shutdown, cannot_connect_now, too_many_connections,
# idle_in_transaction_session_timeout, read_only_sql_transaction (a server that became a standby).
GONE = frozenset({"57P01", "57P02", "57P03", "53300", "25P03", "25006"})
CONNECTION_EXCEPTION = "08"
# Without the first a crash of the server loses commits, without the second a power cut does.
DEMANDED = ("synchronous_commit", "fsync")
# A server, or a way to it, that has died without a word is noticed; libpq's names, seconds and milliseconds.
NETWORK = {
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
    # Of several addresses the one that can be written to.
    "target_session_attrs": "read-write",
}
# And the other way round: what a collector held that has died so is let go by the server.
SESSION = (
    "SET lock_timeout = '10s'",
    "SET statement_timeout = '30s'",
    "SET idle_in_transaction_session_timeout = '30s'",
    "SET tcp_keepalives_idle = 10",
    "SET tcp_keepalives_interval = 5",
    "SET tcp_keepalives_count = 3",
    # What is asked here is some rows by an index. As if from a disk that turns, the planner would rather read
    # a table of some thousand rows whole, with each message.
    "SET random_page_cost = 1.1",
)
# Who writes looks for some rows by an index, and only a plain scan of one marks in it what is dead, so that
# the next need not look at it again.
WRITING = ("SET enable_bitmapscan = off",)


class Postgres:
    """Raises sqlalchemy's OperationalError or TimeoutError when it is away or has too much to do."""

    shared = True

    def __init__(self, url: str, *, upgrade: bool = True) -> None:
        address = make_url(url).set(drivername="postgresql+psycopg")
        self._address = address.update_query_dict(
            {name: value for name, value in NETWORK.items() if name not in address.query}
        )
        self._writing = _Side(self._address, "store-writer", WRITERS)
        with self._writing.engine.connect() as connection:
            migrate(connection, upgrade=upgrade)
        self._reading = _Side(self._address, "store-reader", READERS)
        for side, settings in ((self._writing, SESSION + WRITING), (self._reading, SESSION)):
            # A migration may take its time; nothing else may.
            event.listen(side.engine, "connect", partial(_set, settings))
        self._writing.engine.dispose()

    def close(self) -> None:
        self._writing.close()
        self._reading.close()

    def write(self, unit: Callable[[Connection], T]) -> Future[T]:
        return self._writing.submit(lambda: self._write(unit))

    def read(self, query: Callable[[Connection], T]) -> Future[T]:
        return self._reading.submit(lambda: self._read(query))

    def listen(self, hear: Callable[[str], None], missed: Callable[[], None]) -> Listener:
        """What every collector tells, this one too; from a thread of its own. ``missed``: something may have
        been told that was not heard.
        """
        return Listener(lambda: _connected(self._address), hear, missed)

    def _write(self, unit: Callable[[Connection], T]) -> T:
        with self._writing.engine.connect() as connection, connection.begin() as transaction:
            result = unit(connection)
            try:
                transaction.commit()
            except DBAPIError as error:
                if _sqlstate(error) in UNDONE:
                    raise
                raise _UnknownError(error) from None
            return result

    def _read(self, query: Callable[[Connection], T]) -> T:
        with self._reading.engine.connect() as connection:
            connection = connection.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
            with connection.begin():
                return query(connection)


class _Side:
    """Threads with a connection each, and places for those who wait for one."""

    def __init__(self, address: URL, name: str, connections: int) -> None:
        self.engine = create_engine(
            address,
            isolation_level="READ COMMITTED",
            pool_size=connections,
            max_overflow=0,
            pool_pre_ping=True,
        )
        event.listen(self.engine, "connect", _demand_durability)
        self._threads = ThreadPoolExecutor(connections, thread_name_prefix=name)
        self._room = BoundedSemaphore(MAX_WAITING)

    def close(self) -> None:
        self._threads.shutdown()
        self.engine.dispose()

    def submit(self, work: Callable[[], T]) -> Future[T]:
        if not self._room.acquire(blocking=False):
            raise PoolTimeoutError(f"{MAX_WAITING} units wait for the database")
        try:
            future = self._threads.submit(_again, work)
        except RuntimeError:
            self._room.release()
            raise
        future.add_done_callback(lambda _: self._room.release())
        return future


class _UnknownError(Exception):
    """A commit was not answered."""

    def __init__(self, error: DBAPIError) -> None:
        super().__init__(str(error))
        self.error = error


def _again(work: Callable[[], T]) -> T:
    pause_s = FIRST_PAUSE_S
    for left in reversed(range(TRIES)):
        try:
            return work()
        except _UnknownError as unknown:
            raise unknown.error from None
        except DBAPIError as error:
            if left == 0 or not _may_pass(error):
                raise
        except RacedError:
            if left == 0:
                raise
        sleep(pause_s)
        pause_s = min(2 * pause_s, MOST_PAUSE_S)
    raise AssertionError("the last try returns or raises")


def _may_pass(error: DBAPIError) -> bool:
    state = _sqlstate(error)
    if state is None:
        # libpq's own words: there was no connection, or it broke.
        return error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)
    return state in UNDONE or state in GONE or state.startswith(CONNECTION_EXCEPTION)


def _sqlstate(error: DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None)


def _connected(address: URL) -> Any:
    """psycopg's connection, which commits each statement by itself."""
    dialect = address.get_dialect()()
    words, settings = dialect.create_connect_args(address)
    return dialect.import_dbapi().connect(*words, autocommit=True, **settings)


def _set(settings: Sequence[str], raw: Any, _record: object) -> None:
    with raw.cursor() as cursor:
        for setting in settings:
            cursor.execute(setting)
    raw.commit()


def _demand_durability(raw: Any, _record: object) -> None:
    """A commit that a crash can undo would be acknowledged to an edge, which then need not send it again."""
    with raw.cursor() as cursor:
        found = {name: cursor.execute(f"SHOW {name}").fetchone()[0] for name in DEMANDED}
    raw.rollback()
    for name, setting in found.items():
        if setting == "off":
            raise ValueError(f"PostgreSQL runs with {name}=off: what is acknowledged could be lost")
