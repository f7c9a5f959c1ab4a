"""The collectors: the real ingest, sweep and commands on one real SQLite, killed where it hurts.

The database lives in memory; what was committed survives a kill, nothing else does. Its image can be kept
and put back (a restored backup), and its disk can be full. Each collector is a process of its own: what it
keeps in memory, when it began to listen, a clock that is off.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

from simulation.skew import Version
from simulation.virtual import Killed
from sqlalchemy import Connection, Engine, StaticPool, create_engine, event, insert, select

from collector import ingest
from collector.exchange import GatewayIdentity, Sync
from collector.store import moment, tables
from collector.store import sqlite as store_sqlite
from collector.store.migrate import migrate
from collector.sweep import Change, sweep
from edge_agent import wire

T = TypeVar("T")
EPOCH_MS = 1_767_592_800_000  # 2026-01-05T06:00:00Z, the start of every simulated world
SITE = "north"
# As many as SQLite's own limit.
PAGES = (1 << 32) - 2


class _Kept(sqlite3.Connection):
    """SQLAlchemy closes the connection on which somebody died; its memory is the disk here."""

    def close(self) -> None:
        if self.in_transaction:
            self.rollback()


def _in_memory() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False, factory=_Kept)


class Database:
    """One engine for all worlds of a process, so that statements are compiled once; its image is changed."""

    def __init__(self) -> None:
        self.raw = _in_memory()
        self.engine: Engine = create_engine("sqlite://", creator=lambda: self.raw, poolclass=StaticPool)
        # Statements until the next kill; none while it is negative.
        self.fuse = -1
        event.listen(self.engine, "begin", lambda c: c.exec_driver_sql("BEGIN IMMEDIATE"))
        event.listen(self.engine, "before_cursor_execute", self._burn)
        event.listen(self.engine, "commit", self._burn)

    def _burn(self, *_: Any) -> None:
        if self.fuse > 0:
            self.fuse -= 1
        elif self.fuse == 0:
            self.fuse = -1
            raise Killed

    @contextmanager
    def spared(self) -> Iterator[None]:
        """The laws look at it, and nobody is killed by that."""
        fuse, self.fuse = self.fuse, -1
        try:
            yield
        finally:
            self.fuse = fuse

    def load(self, image: bytes) -> None:
        # On a connection of its own: SQLite 3.40 crashes when json_each was used before.
        self.engine.dispose()
        sqlite3.Connection.close(self.raw)
        self.raw = _in_memory()
        self.raw.deserialize(image)
        self.raw.execute("PRAGMA foreign_keys=ON")
        self.has_room(True)

    def has_room(self, room: bool) -> None:
        """Whether its disk takes more than is on it already."""
        pages = PAGES if room else self.raw.execute("PRAGMA page_count").fetchone()[0]
        self.raw.execute(f"PRAGMA max_page_count={pages}")

    def image(self) -> bytes:
        return self.raw.serialize()

    def write(self, unit: Callable[[Connection], T]) -> T:
        """As the store's writer does it; raises Killed, and then it did not happen."""
        future: Future[T] = Future()
        try:
            with self.engine.connect() as connection:
                store_sqlite._commit(connection, [store_sqlite.Unit(work=unit, future=future)])
        except Killed:
            with suppress(sqlite3.Error):
                self.raw.execute("ROLLBACK")
            raise
        return future.result()


@cache
def empty_image() -> bytes:
    database = Database()
    with database.engine.connect() as connection:
        migrate(connection)
    return database.image()


@cache
def database(name: str) -> Database:
    return Database()


@dataclass(slots=True, kw_only=True)
class Held:
    """One occurrence as it is in the database."""

    uid: str
    rev: int
    open: bool
    unknown: bool
    estimated: bool
    minted: bool
    gateway_id: str
    dedupe_key: str
    ticket_id: str

    @property
    def rank(self) -> tuple[bool, bool, int]:
        """C3: what ended stays so, what was told stays told, and then the revision counts."""
        return (not self.open, not self.estimated, self.rev)


@dataclass(slots=True, kw_only=True)
class Collector:
    """One process, behind a balancer that sends each request to any of them."""

    number: int
    clock_error_ms: int = 0
    # By how much it was behind before it was put right.
    behind_ms: tuple[int, ...] = ()
    down_until: float = 0.0
    version: Version = Version.SAME
    # Messages that wait for the writer.
    waiting: list[Any] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Hub:
    """The database, and what the laws want to hear of it."""

    gateways: Sequence[GatewayIdentity]
    name: str = "hub"
    # Called when something was committed, with the tickets that pages were told of.
    after_commit: Callable[[set[str]], None] = lambda _: None
    answered: Callable[[GatewayIdentity, wire.SyncRequest, ingest.Applied, bool], None] = lambda *_: None
    incarnation: int = 0
    database: Database = field(init=False)
    # Verdicts given, for the figures.
    verdicts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.database = database(self.name)
        self.database.fuse = -1
        self.database.load(empty_image())
        self.database.write(
            lambda c: c.execute(
                insert(tables.gateway),
                [{"id": g.id, "site": g.site, "name": g.name, "created_ms": EPOCH_MS} for g in self.gateways],
            )
        )

    def sync(self, gateway: GatewayIdentity, body: bytes, now_ms: int) -> wire.SyncAnswer:
        """Durable when it returns. Raises Killed, WireError, StreamRefusedError, OperationalError."""
        (answer,) = self.syncs([(gateway, body)], now_ms)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def syncs(
        self,
        group: Sequence[tuple[GatewayIdentity, bytes]],
        now_ms: int,
        behind_ms: tuple[int, ...] = (),
    ) -> list[wire.SyncAnswer | BaseException]:
        """Several messages in one transaction. Raises Killed."""
        messages = [wire.decode_sync(body) for _, body in group]
        syncs = [
            Sync(gateway=gateway, message=message, now_ms=now_ms, behind_ms=behind_ms)
            for (gateway, _), message in zip(group, messages, strict=True)
        ]
        before = self.database.raw.total_changes
        outcomes: Sequence[ingest.Applied | BaseException]
        try:
            outcomes = self.database.write(lambda c: ingest.apply_all(c, syncs))
        except Exception as error:  # noqa: BLE001  # as the route does: nobody's message was taken
            outcomes = [error] * len(syncs)
        done = [one for one in outcomes if isinstance(one, ingest.Applied)]
        if self.database.raw.total_changes != before:
            self.after_commit({change.ticket_id for one in done for change in one.changed})
        taken = [
            (gateway, message, one)
            for (gateway, _), message, one in zip(group, messages, outcomes, strict=True)
            if isinstance(one, ingest.Applied)
        ]
        newest = {message.stream: message for _, message, _ in taken}
        for gateway, message, one in taken:
            verdict = str(one.answer.verdict)
            self.verdicts[verdict] = self.verdicts.get(verdict, 0) + 1
            self.answered(gateway, message, one, newest[message.stream] is message)
        return [one.answer if isinstance(one, ingest.Applied) else one for one in outcomes]

    def sweep(self, now_ms: int) -> int:
        """Since when gateways could be heard. Raises Killed, OperationalError."""

        def unit(connection: Connection) -> tuple[tuple[Change, ...], int]:
            since_ms = moment.listening_since(connection, now_ms)
            return sweep(connection, now_ms, started_ms=since_ms), since_ms

        before = self.database.raw.total_changes
        changed, since_ms = self.database.write(unit)
        if self.database.raw.total_changes != before:
            self.after_commit({change.ticket_id for change in changed})
        return since_ms

    def restore(self, image: bytes) -> None:
        self.database.load(image)
        self.incarnation += 1

    def occurrences(self) -> dict[str, Held]:
        rows = self.database.raw.execute(
            "SELECT uid, rev, open, unknown, estimated, minted, gateway_id, dedupe_key, ticket_id"
            " FROM occurrence"
        )
        return {
            row[0]: Held(
                uid=row[0],
                rev=row[1],
                open=bool(row[2]),
                unknown=bool(row[3]),
                estimated=bool(row[4]),
                minted=bool(row[5]),
                gateway_id=row[6],
                dedupe_key=row[7],
                ticket_id=row[8],
            )
            for row in rows
        }

    def positions(self) -> dict[str, tuple[int, str]]:
        rows = self.database.raw.execute("SELECT id, hwm_seq, hwm_nonce FROM stream")
        return {row[0]: (row[1], row[2]) for row in rows}

    def read(self, statement: Any) -> list[Any]:
        with self.database.spared(), self.database.engine.connect() as connection, connection.begin():
            return list(connection.execute(statement).mappings())

    def all_of(self, table: Any) -> list[Any]:
        return self.read(select(table))
