"""What a sync asks of SQLite is found by an index, however much is stored."""

from __future__ import annotations

from typing import Any

from rigs.edge_voice import MINUTE_MS, MONDAY_MS, EdgeVoice, enrol
from sqlalchemy import Connection, event

from collector.exchange import Sync
from collector.ingest import apply_all
from collector.store import Store
from edge_agent.wire import SyncRequest


def hear(store: Store, voice: EdgeVoice, message: SyncRequest, *, minute: int) -> list[str]:
    """The statements that it took."""
    asked = []

    def note(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        asked.append(statement)

    def unit(connection: Connection) -> None:
        event.listen(connection.engine, "before_cursor_execute", note)
        try:
            sync = Sync(gateway=voice.gateway, message=message, now_ms=MONDAY_MS + minute * MINUTE_MS)
            (outcome,) = apply_all(connection, [sync])
            voice.hear(outcome)
        finally:
            event.remove(connection.engine, "before_cursor_execute", note)

    store.write(unit)
    return asked


def plan(store: Store, statement: str) -> list[str]:
    marks = (None,) * statement.count("?")

    def query(connection: Connection) -> list[str]:
        found = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", marks)
        return [str(row[3]) for row in found]

    return store.read(query)


def test_no_statement_of_a_sync_reads_a_whole_table(sqlite_store: Store) -> None:
    voice = EdgeVoice(enrol(sqlite_store, "gw-1", "north"), seed=1)
    first = voice.raises(1.0, "belt-1", "jam")
    asked = hear(sqlite_store, voice, voice.message(2), minute=2)
    voice.clears(first, 3.0)
    voice.raises(4.0, "belt-1", "jam")
    voice.raises(5.0, "belt-2", "jam")
    asked += hear(sqlite_store, voice, voice.message(6), minute=6)
    read = [one for one in dict.fromkeys(asked) if one.startswith(("SELECT", "UPDATE"))]
    assert len(read) > 10
    whole = [
        (step, statement)
        for statement in read
        for step in plan(sqlite_store, statement)
        if step.startswith("SCAN") and not step.startswith(("SCAN json_each", "SCAN told"))
    ]
    assert whole == []
