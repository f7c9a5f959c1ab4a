"""Dates move when more becomes known of a clock: a little at once, much of it by and by."""

from __future__ import annotations

from typing import Any

import pytest
from rigs.edge_voice import MINUTE_MS, MONDAY_MS, EdgeVoice, enrol, send
from sqlalchemy import func, select

from collector import redating
from collector.store import Store, tables
from collector.sweep import sweep

# As many are told here, each a jam of three seconds, five minutes apart.
JAMS = 10
LATE_MINUTES = 2.0


@pytest.fixture
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(redating, "AT_ONCE", 4)
    return 4


def dates(store: Store) -> list[tuple[Any, ...]]:
    wanted = ("start_ms", "raised_ms", "end_ms", "error_ms", "severities")
    table = tables.occurrence
    told = select(*(table.c[name] for name in wanted)).where(table.c.minted.is_(False))
    query = told.order_by(table.c.first_mono_ms)
    return store.read(lambda connection: [tuple(row) for row in connection.execute(query)])


def due(store: Store) -> int:
    query = select(func.count()).select_from(tables.dates_due)
    return int(store.read(lambda connection: connection.execute(query).scalar_one()))


def sweep_once(store: Store, now: float) -> None:
    """By a collector that has just begun to listen: it calls nobody silent."""
    now_ms = MONDAY_MS + int(now * MINUTE_MS)
    store.write(lambda connection: sweep(connection, now_ms, started_ms=now_ms))


def sweeps_until_all_is_dated(store: Store, now: float) -> int:
    done = 0
    while due(store):
        sweep_once(store, now)
        done += 1
        assert done < 100
    return done


def told_late(store: Store) -> EdgeVoice:
    """A gateway whose first message was two minutes on its way: all of it seems to be that much later."""
    edge = EdgeVoice(enrol(store))
    for number in range(JAMS):
        edge.clears(edge.raises(5.0 * number), 5.0 * number + 0.05)
    edge.hear(send(store, edge.gateway, edge.message(50), 50 + LATE_MINUTES))
    return edge


def test_what_moves_is_dated_with_the_message_where_it_is_little(store: Store) -> None:
    edge = told_late(store)
    edge.sync(store, 53)
    assert [one[0] for one in dates(store)] == [MONDAY_MS + 5 * number * MINUTE_MS for number in range(JAMS)]
    assert not due(store)


def test_where_it_is_much_the_message_does_not_wait_and_sweeps_date_it_slice_by_slice(
    store: Store, few_at_once: int
) -> None:
    edge = told_late(store)
    before = dates(store)
    edge.sync(store, 53)
    assert dates(store) == before
    assert sweeps_until_all_is_dated(store, 53) == -(-JAMS // few_at_once)
    assert [one[0] for one in dates(store)] == [MONDAY_MS + 5 * number * MINUTE_MS for number in range(JAMS)]


def test_what_becomes_known_while_it_is_dated_counts_for_all_of_it(store: Store, few_at_once: int) -> None:
    edge = told_late(store)
    send(store, edge.gateway, edge.message(53), 54)
    sweep_once(store, 54)
    edge.sync(store, 55)
    sweeps_until_all_is_dated(store, 55)
    assert [one[0] for one in dates(store)] == [MONDAY_MS + 5 * number * MINUTE_MS for number in range(JAMS)]


def test_more_in_one_millisecond_than_a_slice_holds_go_together(store: Store, few_at_once: int) -> None:
    edge = EdgeVoice(enrol(store))
    for number in range(JAMS):
        edge.clears(edge.raises(5.0, f"printer-{number}"), 6.0)
    edge.hear(send(store, edge.gateway, edge.message(50), 50 + LATE_MINUTES))
    edge.sync(store, 53)
    sweeps_until_all_is_dated(store, 53)
    assert {one[0] for one in dates(store)} == {MONDAY_MS + 5 * MINUTE_MS}
