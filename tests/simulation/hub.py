"""The collector: the real ingest and sweep on a real SQLite, one transaction a message, killed where it
hurts.

The database lives in memory; what was committed survives a kill, nothing else does. Its image can be kept and
put back (a restored backup).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

from simulation.virtual import Killed
from sqlalchemy import Connection, Engine, StaticPool, create_engine, event, insert, select

from collector import ingest
from collector.exchange import GatewayIdentity
from collector.store import sqlite as store_sqlite
from collector.store import tables
from collector.store.migrate import migrate
from collector.sweep import sweep
from edge_agent import wire

T = TypeVar("T")
EPOCH_MS = 1_767_592_800_000  # 2026-01-05T06:00:00Z, the start of every simulated world
SITE = "north"


class _Kept(sqlite3.Connection):
    """SQLAlchemy closes the connection on which somebody died; its memory is the disk here."""

    def close(self) -> None:
        if self.in_transaction:
            self.rollback()


class Database:
    """One engine for all worlds of a process, so that statements are compiled once; its image is changed."""

    def __init__(self) -> None:
        self.raw = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False, factory=_Kept)
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

    def load(self, image: bytes) -> None:
        if self.raw.in_transaction:
            self.raw.rollback()
        self.raw.deserialize(image)
        self.raw.execute("PRAGMA foreign_keys=ON")

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


@dataclass(slots=True, kw_only=True)
class Hub:
    gateways: Sequence[GatewayIdentity]
    name: str = "hub"
    # Called when something was committed, and when the past has changed (a restored backup).
    after_commit: Callable[[], None] = lambda: None
    answered: Callable[[GatewayIdentity, wire.SyncRequest, ingest.Applied], None] = lambda *_: None
    started_ms: int = EPOCH_MS
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
        """Durable when it returns. Raises Killed, WireError, StreamRefusedError."""
        message = wire.decode_sync(body)
        before = self.database.raw.total_changes
        applied = self.database.write(lambda c: ingest.apply(c, gateway, message, now_ms))
        verdict = str(applied.answer.verdict)
        self.verdicts[verdict] = self.verdicts.get(verdict, 0) + 1
        if self.database.raw.total_changes != before:
            self.after_commit()
        self.answered(gateway, message, applied)
        return applied.answer

    def sweep(self, now_ms: int) -> None:
        before = self.database.raw.total_changes
        self.database.write(lambda c: sweep(c, now_ms, started_ms=self.started_ms))
        if self.database.raw.total_changes != before:
            self.after_commit()

    def restore(self, image: bytes, now_ms: int) -> None:
        self.database.load(image)
        self.incarnation += 1
        self.started_ms = now_ms

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
        with self.database.engine.connect() as connection, connection.begin():
            return list(connection.execute(statement).mappings())

    def all_of(self, table: Any) -> list[Any]:
        return self.read(select(table))
