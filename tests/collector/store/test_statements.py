"""What a sync or a page asks of SQLite is found by an index, however much is stored."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from rigs.edge_voice import MINUTE_MS, MONDAY_MS, EdgeVoice, enrol
from sqlalchemy import Connection, event, insert, text

from collector.exchange import Sync
from collector.ingest import apply_all
from collector.report import By, downtime
from collector.store import Store, devices, gateways, tables, tickets
from collector.store.tickets import State, TicketFilter
from collector.sweep import sweep
from edge_agent.wire import SyncRequest


def taken(voice: EdgeVoice, message: SyncRequest, minute: float) -> Callable[[Connection], None]:
    def unit(connection: Connection) -> None:
        now_ms = MONDAY_MS + int(minute * MINUTE_MS)
        (outcome,) = apply_all(connection, [Sync(gateway=voice.gateway, message=message, now_ms=now_ms)])
        voice.hear(outcome)

    return unit


def hear(store: Store, voice: EdgeVoice, message: SyncRequest, *, minute: int) -> list[str]:
    """The statements that it took."""
    asked = []

    def note(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        asked.append(statement)

    def unit(connection: Connection) -> None:
        event.listen(connection.engine, "before_cursor_execute", note)
        try:
            taken(voice, message, minute)(connection)
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


def steps(store: Store, unit: Callable[[Connection], object]) -> int:
    """Of SQLite's virtual machine, in hundreds: the same on every machine."""
    counted = 0

    def count() -> int:
        nonlocal counted
        counted += 1
        return 0

    def watched(connection: Connection) -> None:
        raw = connection.connection.dbapi_connection
        assert isinstance(raw, sqlite3.Connection)
        raw.set_progress_handler(count, 100)
        try:
            unit(connection)
        finally:
            raw.set_progress_handler(None, 0)

    store.write(watched)
    return counted


def told(store: Store, voice: EdgeVoice, minute: float) -> int:
    return steps(store, taken(voice, voice.message(minute), minute))


def asked_of(voice: EdgeVoice, store: Store, minute: float) -> dict[str, int]:
    """What each of these costs now."""
    now_ms = MONDAY_MS + int(minute * MINUTE_MS)
    everywhere = TicketFilter(sites=frozenset({"north"}))
    now = replace(everywhere, state=State.OPEN, site="north", hidden=False)
    cost = {"heartbeat": told(store, voice, minute)}
    uid = voice.raises(minute, "printer-1", "door-open")
    cost["a fault"] = told(store, voice, minute)
    ticket = store.read(lambda connection: tickets.find(connection, everywhere, None, 1)).items[0]
    voice.clears(uid, minute)
    cost["its end"] = told(store, voice, minute)
    cost["sweep"] = steps(store, lambda connection: sweep(connection, now_ms))
    questions: dict[str, Callable[[Connection], object]] = {
        "newest tickets": lambda connection: tickets.find(connection, everywhere, None, 50),
        "tickets of a device": lambda connection: tickets.find(
            connection, replace(everywhere, device="printer-1"), None, 50
        ),
        "handheld": lambda connection: tickets.at_hand(
            connection, frozenset({"north"}), "north", limit=50, ended=10
        ),
        "its counts": lambda connection: tickets.count(connection, now),
        "counts of a search": lambda connection: tickets.count(connection, replace(now, text="jam")),
        "ticket": lambda connection: tickets.detail(connection, ticket.id),
        "downtime of an hour": lambda connection: downtime(
            connection, "north", now_ms - 60 * MINUTE_MS, now_ms, By.DEVICE, now_ms
        ),
        "devices": lambda connection: devices.devices(connection, frozenset({"north"}), None),
        "gateways": lambda connection: gateways.gateways(connection, frozenset({"north"})),
    }
    return cost | {name: steps(store, ask) for name, ask in questions.items()}


def test_what_is_asked_costs_no_more_when_much_is_stored(sqlite_store: Store, tmp_path: Path) -> None:
    voice = EdgeVoice(enrol(sqlite_store, "gw-1", "north"), seed=1)
    voice.watches("printer-1", *(f"belt-{number}" for number in range(20)))

    def live(from_minute: int, faults: int) -> None:
        for number in range(faults):
            minute = from_minute + number
            voice.clears(voice.raises(minute, f"belt-{number % 20}", f"jam-{number}"), minute + 0.5)
        until = from_minute + faults
        while voice.cursor[0] != voice.seq:
            told(sqlite_store, voice, until)
        told(sqlite_store, voice, until + 60)
        # What is over is closed, some at a time.
        now_ms = MONDAY_MS + (until + 60) * MINUTE_MS
        while sqlite_store.write(lambda connection: sweep(connection, now_ms)):
            pass

    live(0, 200)
    few = asked_of(voice, sqlite_store, 300)
    live(400, 4_000)
    hours = [
        {"gateway_id": voice.gateway.id, "boot": voice.boot, "hour": hour, "offset_ms": 1 << 50}
        for hour in range(1_000, 9_000)
    ]
    sqlite_store.write(lambda connection: connection.execute(insert(tables.boot_offset), hours))
    assert grown(few, asked_of(voice, sqlite_store, 4_500)) == {}
    # An operator may let SQLite count; it plans otherwise then.
    sqlite_store.write(lambda connection: connection.execute(text("ANALYZE")))
    sqlite_store.close()
    with closing(Store.open(f"sqlite:///{tmp_path}/collector.db")) as counted:
        assert grown(few, asked_of(voice, counted, 4_600)) == {}


def test_a_sweep_costs_no_more_when_much_is_open(sqlite_store: Store) -> None:
    voice = EdgeVoice(enrol(sqlite_store, "gw-1", "north"), seed=1)

    def cost(minute: int, faults: int) -> int:
        for number in range(faults):
            voice.raises(minute, f"belt-{number}", "jam")
        while voice.cursor[0] != voice.seq:
            told(sqlite_store, voice, minute)
        return steps(sqlite_store, lambda connection: sweep(connection, MONDAY_MS + minute * MINUTE_MS))

    few = cost(1, 20)
    assert cost(2, 2_000) <= few + 5


def test_an_old_row_in_a_batch_has_nothing_old_of_other_conditions_read(sqlite_store: Store) -> None:
    voice = EdgeVoice(enrol(sqlite_store, "gw-1", "north"), seed=1)
    minute = 30.0
    for _ in range(400):
        voice.clears(voice.raises(minute, "belt-1", "jam"), minute + 1)
        minute += 30
    told(sqlite_store, voice, minute)

    def cost(*old: float) -> int:
        nonlocal minute
        minute += 60
        for at in old:
            voice.clears(voice.raises(at, "belt-2", "jam"), at + 1)
        voice.clears(voice.raises(minute, "belt-1", "jam"), minute + 1)
        return told(sqlite_store, voice, minute + 2)

    cost()
    assert cost(0) <= cost(minute) + 20


def grown(few: dict[str, int], many: dict[str, int]) -> dict[str, tuple[int, int]]:
    return {name: (few[name], many[name]) for name in few if many[name] > 1.3 * few[name] + 5}
