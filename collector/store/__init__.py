"""Where facts are kept: one database, one way to write, one way to read. All SQL of the collector lies in
this package.

``write`` and ``read`` take a function of a connection and block; ``write_soon`` and ``read_soon`` do the same
from the event loop. A unit of writing is all or nothing, and durable when its result is handed back. A unit
that raises takes nothing with it. A caller that is cancelled does not cancel its unit: the outcome is then
unknown, and every unit may be tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from collector.store.outage import DATABASE_AWAY, Outage, is_full

T = TypeVar("T")

__all__ = ["DATABASE_AWAY", "Database", "Store", "UnusableError", "is_full"]


class UnusableError(Exception):
    """Not there, not a database, of a later version, or not durable; the text says which."""


class Listening(Protocol):
    """Until it is closed."""

    def close(self) -> None: ...


class Database(Protocol):
    """What a kind of database has to offer."""

    # Whether several collectors may use it at once; then each hears by ``listen`` what all of them tell.
    shared: bool

    def listen(self, hear: Callable[[str], None], missed: Callable[[], None]) -> Listening | None: ...

    def write(self, unit: Callable[[Connection], T]) -> Future[T]: ...

    def read(self, query: Callable[[Connection], T]) -> Future[T]: ...

    def close(self) -> None: ...


class Store:
    """``sqlite:///PATH`` or ``postgresql://...``; opening it makes its tables, and brings those of an earlier
    version to the newest.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._writing = Outage(
            "the database takes nothing; whoever sends is told to come back", "the database takes all again"
        )
        self._reading = Outage("the database cannot be read", "the database can be read again")

    @classmethod
    def open(cls, url: str, *, upgrade: bool = True) -> Store:
        """Without ``upgrade`` tables of an earlier version are refused. Raises UnusableError."""
        try:
            return cls(_kind(url)(url, upgrade=upgrade))
        except (SQLAlchemyError, OSError, ValueError) as error:
            said = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
            raise UnusableError(f"this database cannot be used: {said}") from error

    def close(self) -> None:
        """What was handed in before is written first."""
        self._database.close()

    @property
    def shared(self) -> bool:
        """Whether other collectors may use it too."""
        return self._database.shared

    def listen(self, hear: Callable[[str], None], missed: Callable[[], None]) -> Listening | None:
        """Payloads of ``news.tell`` of every collector, this one too; ``missed`` when some may not have been
        heard. Both are called from another thread. ``None`` when it is not shared.
        """
        return self._database.listen(hear, missed)

    def write(self, unit: Callable[[Connection], T]) -> T:
        with self._writing.noticed():
            return self._database.write(unit).result()

    async def write_soon(self, unit: Callable[[Connection], T]) -> T:
        with self._writing.noticed():
            return await asyncio.wrap_future(self._database.write(unit))

    def read(self, query: Callable[[Connection], T]) -> T:
        with self._reading.noticed():
            return self._database.read(query).result()

    async def read_soon(self, query: Callable[[Connection], T]) -> T:
        with self._reading.noticed():
            return await asyncio.wrap_future(self._database.read(query))


def _kind(url: str) -> Callable[..., Database]:
    """What the other kind needs is not loaded: some MB."""
    if url.startswith("sqlite:"):
        from collector.store.sqlite import Sqlite

        return Sqlite
    from collector.store.postgres import Postgres

    return Postgres
