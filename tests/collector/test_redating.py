"""Dates move when more becomes known of a clock: a little at once, much of it by and by."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from rigs.edge_voice import MINUTE_MS, MONDAY_MS, EdgeVoice, enrol, send
from sqlalchemy import func, select

from collector import redating
from collector.ingest import apply
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


# By so much the clock of the collector is behind before a time server puts it right.
BEHIND_MINUTES = 40.0
BEHIND_MS = int(BEHIND_MINUTES * MINUTE_MS)


def sync_after_a_step(store: Store, edge: EdgeVoice, minute: float, *, source: str = "none") -> None:
    message = edge.message(minute)
    if source == "none":
        message = message.model_copy(update={"clock": replace(message.clock, wall_ms=0, source=source)})
    at_ms = MONDAY_MS + int(minute * MINUTE_MS)
    edge.hear(
        store.write(
            lambda connection: apply(connection, edge.gateway, message, at_ms, behind_ms=(BEHIND_MS,))
        )
    )


def starts(store: Store) -> list[float]:
    return [(one[0] - MONDAY_MS) / MINUTE_MS for one in dates(store)]


@pytest.mark.parametrize("source", ["none", "ntp"])
@pytest.mark.parametrize("heard_before", [True, False])
def test_what_was_learnt_while_the_clock_here_was_behind_is_put_right(
    store: Store, heard_before: bool, source: str
) -> None:
    edge = EdgeVoice(enrol(store))
    if heard_before:
        edge.sync(store, -120)
    edge.raises(1)
    for minute in (2, 3, 70):
        edge.hear(send(store, edge.gateway, edge.message(minute), minute - BEHIND_MINUTES))
    assert starts(store) == [1 - BEHIND_MINUTES]
    edge.raises(71, device="printer-2")
    sync_after_a_step(store, edge, 72, source=source)
    assert starts(store) == [1, 71]
    for hour in range(2, 100, 7):
        edge.sync(store, 60 * hour)
    edge.raises(60 * 100, device="printer-3")
    edge.sync(store, 60 * 100 + 1)
    assert starts(store) == [1, 71, 6000]
    assert all(one[3] < 2_000 for one in dates(store))


def test_a_message_after_a_step_that_shows_nothing_moves_nothing(store: Store) -> None:
    edge = EdgeVoice(enrol(store))
    edge.raises(1)
    edge.sync(store, 2)
    before = dates(store)
    # The clock was right when it was learnt; a message was late.
    sync_after_a_step(store, edge, 10)
    sync_after_a_step(store, edge, 11 + 0.9 * BEHIND_MINUTES)
    assert dates(store) == before


def test_where_a_time_server_says_that_it_is_here_that_it_is_wrong_now_nothing_moves(store: Store) -> None:
    edge = EdgeVoice(enrol(store))
    edge.raises(1)
    edge.sync(store, 2)
    before, message = dates(store), edge.message(3)
    at_ms = MONDAY_MS + 3 * MINUTE_MS + BEHIND_MS
    store.write(lambda connection: apply(connection, edge.gateway, message, at_ms, behind_ms=(BEHIND_MS,)))
    assert dates(store) == before


def test_what_is_much_is_put_right_slice_by_slice(store: Store, few_at_once: int) -> None:
    edge = EdgeVoice(enrol(store))
    for number in range(JAMS):
        edge.clears(edge.raises(5.0 * number), 5.0 * number + 0.05)
    edge.hear(send(store, edge.gateway, edge.message(50), 50 - BEHIND_MINUTES))
    sync_after_a_step(store, edge, 51)
    assert due(store)
    sweeps_until_all_is_dated(store, 52)
    assert starts(store) == [5.0 * number for number in range(JAMS)]
