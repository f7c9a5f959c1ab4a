"""PostgreSQL: a few threads over a small pool, READ COMMITTED with row locks; what the database asks to retry
is retried.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from time import sleep
from typing import Any, TypeVar

import structlog
from sqlalchemy import Connection, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError

from collector.store.migrate import migrate

T = TypeVar("T")
log = structlog.get_logger()

CONNECTIONS = 8
TRIES = 8
FIRST_PAUSE_S = 0.01
# serialization_failure and deadlock_detected (PostgreSQL manual, appendix A).
RETRIED = frozenset({"40001", "40P01"})
# Without the first a crash of the server loses commits, without the second a power cut does.
DEMANDED = ("synchronous_commit", "fsync")


class Postgres:
    def __init__(self, url: str) -> None:
        address = make_url(url).set(drivername="postgresql+psycopg")
        self._engine = create_engine(
            address,
            isolation_level="READ COMMITTED",
            pool_size=CONNECTIONS,
            max_overflow=0,
            pool_pre_ping=True,
        )
        event.listen(self._engine, "connect", _demand_durability)
        with self._engine.connect() as connection:
            migrate(connection)
        self._threads = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="store")

    def close(self) -> None:
        self._threads.shutdown()
        self._engine.dispose()

    def write(self, unit: Callable[[Connection], T]) -> Future[T]:
        return self._threads.submit(self._write, unit)

    def read(self, query: Callable[[Connection], T]) -> Future[T]:
        return self._threads.submit(self._read, query)

    def _write(self, unit: Callable[[Connection], T]) -> T:
        pause_s = FIRST_PAUSE_S
        for left in reversed(range(TRIES)):
            try:
                with self._engine.begin() as connection:
                    return unit(connection)
            except DBAPIError as error:
                if left == 0 or getattr(error.orig, "sqlstate", None) not in RETRIED:
                    raise
            sleep(pause_s)
            pause_s *= 2
        raise AssertionError("the last try returns or raises")

    def _read(self, query: Callable[[Connection], T]) -> T:
        with self._engine.connect() as connection:
            connection = connection.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
            with connection.begin():
                return query(connection)


def _demand_durability(raw: Any, _record: object) -> None:
    """A commit that a crash can undo would be acknowledged to an edge, which then need not send it again."""
    with raw.cursor() as cursor:
        found = {name: cursor.execute(f"SHOW {name}").fetchone()[0] for name in DEMANDED}
    raw.rollback()
    for name, setting in found.items():
        if setting == "off":
            raise ValueError(f"PostgreSQL runs with {name}=off: what is acknowledged could be lost")
