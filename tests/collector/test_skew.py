from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from rigs.edge_voice import MINUTE_MS, MONDAY_MS, EdgeVoice, enrol, send
from sqlalchemy import select, update

from collector import skew
from collector.pages.floor import gateway_line
from collector.skew import SETTLES_MS, SKEW_MS, Standing, judge, sentence
from collector.store import Store, tables
from collector.store import tickets as ticket_store
from collector.store.gateways import gateways
from collector.store.tickets import TicketFilter, TicketView
from collector.sweep import sweep
from collector.tickets import Condition
from edge_agent.wire import SyncRequest

DAY_MS = 86_400_000


def clock_tickets(store: Store) -> list[TicketView]:
    wanted = TicketFilter(sites=None, state=None)
    found = store.read(lambda connection: ticket_store.find(connection, wanted, None, 100)).items
    return [ticket for ticket in found if ticket.fault == "clock"]


def remarks(store: Store) -> tuple[str, ...]:
    (gateway,) = store.read(lambda connection: gateways(connection, None))
    return gateway_line(gateway).remarks


@pytest.fixture
def edge(store: Store) -> EdgeVoice:
    return EdgeVoice(enrol(store))


def with_clock(message: SyncRequest, minute: float, off_ms: int, source: str = "ntp") -> SyncRequest:
    """``minute``: when it was sent."""
    wall_ms = MONDAY_MS + int(minute * MINUTE_MS) + off_ms
    return message.model_copy(
        update={"clock": replace(message.clock, wall_ms=max(0, wall_ms), source=source)}
    )


def says(store: Store, edge: EdgeVoice, minute: float, off_ms: int, **how: Any) -> None:
    applied = send(store, edge.gateway, with_clock(edge.message(minute), minute, off_ms, **how), minute)
    edge.hear(applied)


@pytest.mark.parametrize(
    ("was", "skew_ms", "after_ms", "now"),
    [
        (Standing(), SKEW_MS, 0, Standing()),
        (Standing(), SKEW_MS + 1, 0, Standing(since_ms=1_000)),
        (Standing(), -SKEW_MS - 1, 0, Standing(since_ms=1_000)),
        (Standing(since_ms=1_000), SKEW_MS, SETTLES_MS, Standing()),
        (Standing(since_ms=1_000), SKEW_MS + 1, SETTLES_MS - 1, Standing(since_ms=1_000)),
        (Standing(since_ms=1_000), SKEW_MS + 1, SETTLES_MS, Standing(since_ms=1_000, told=True)),
        # At the limit one ticket, not many.
        (Standing(since_ms=1_000, told=True), SKEW_MS, 9, Standing(since_ms=1_000, told=True)),
        (Standing(since_ms=1_000, told=True), SKEW_MS // 2 + 1, 9, Standing(since_ms=1_000, told=True)),
        (Standing(since_ms=1_000, told=True), SKEW_MS // 2, 9, Standing()),
    ],
)
def test_a_clock_is_wrong_once_it_was_wrong_for_a_while_and_right_at_half_of_that(
    was: Standing, skew_ms: int, after_ms: int, now: Standing
) -> None:
    assert judge(was, skew_ms, 1_000 + after_ms) == now


def test_the_sentence_says_how_wrong() -> None:
    assert sentence("gw1", "ntp", 31_500) == "The clock of gateway gw1 is 31 s ahead"
    assert sentence("gw1", "rtc", -3 * 3_600_000) == "The clock of gateway gw1 is 3 h behind"
    assert sentence("gw1", "rtc", 30 * DAY_MS) == "The clock of gateway gw1 is 30 days ahead"
    assert sentence("gw1", "none", -20_000 * DAY_MS) == "The clock of gateway gw1 was never set"


@pytest.mark.parametrize(
    ("off_ms", "source", "title"),
    [
        (90_000, "ntp", "The clock of gateway gw1 is 90 s ahead"),
        (-2 * DAY_MS, "rtc", "The clock of gateway gw1 is 2 days behind"),
        (-60 * 366 * DAY_MS, "none", "The clock of gateway gw1 was never set"),
    ],
)
def test_a_clock_that_is_wrong_is_one_ticket_until_it_is_right(
    store: Store, edge: EdgeVoice, off_ms: int, source: str, title: str
) -> None:
    for minute in (0, 0.25, 0.5, 0.75, 1, 1.25, 5):
        says(store, edge, minute, off_ms, source=source)
    (ticket,) = clock_tickets(store)
    assert (ticket.title, ticket.device, ticket.severity) == (title, "gw1", "notice")
    assert (ticket.condition, ticket.occurred_ms) == (Condition.ACTIVE, MONDAY_MS)
    assert remarks(store) == ("its clock is wrong",)
    says(store, edge, 6, 400)
    assert remarks(store) == ()
    (ticket,) = clock_tickets(store)
    assert (ticket.condition, ticket.ended_ms) == (Condition.CLEARED, MONDAY_MS + 6 * MINUTE_MS)
    assert ticket.title == title


def test_messages_that_are_late_are_no_clock_that_is_wrong(store: Store, edge: EdgeVoice) -> None:
    says(store, edge, 0, 0)
    late = [with_clock(edge.message(minute), minute, 0) for minute in (1, 2, 3)]
    for minute, message in zip((30, 31, 33), late, strict=True):
        send(store, edge.gateway, message, minute)
    assert clock_tickets(store) == []


def test_a_message_from_before_the_clock_went_wrong_does_not_call_it_right_again(
    store: Store, edge: EdgeVoice
) -> None:
    says(store, edge, 0, 0)
    late = with_clock(edge.message(0.5), 0.5, 0)
    for minute in (1, 2, 3):
        says(store, edge, minute, -DAY_MS)
    send(store, edge.gateway, late, 4)
    (ticket,) = clock_tickets(store)
    assert ticket.condition is Condition.ACTIVE


def test_a_clock_here_that_was_ahead_keeps_no_ticket_open_and_hides_none(
    store: Store, edge: EdgeVoice
) -> None:
    for minute in (0, 0.5, 1.5):
        edge.hear(send(store, edge.gateway, with_clock(edge.message(minute), minute, 0), 24 * 60 + minute))
    (ticket,) = clock_tickets(store)
    assert ticket.condition is Condition.ACTIVE
    says(store, edge, 2, 0)
    (ticket,) = clock_tickets(store)
    assert ticket.condition is Condition.CLEARED
    edge.hear(send(store, edge.gateway, with_clock(edge.message(3), 3, 0), 24 * 60 + 3))
    for minute in (3.5, 4, 5):
        says(store, edge, minute, -DAY_MS)
    assert [one.condition for one in clock_tickets(store)].count(Condition.ACTIVE) == 1


def test_a_boot_that_began_with_a_late_message_is_not_blamed(store: Store, edge: EdgeVoice) -> None:
    send(store, edge.gateway, with_clock(edge.message(0), 0, 0), 5)
    for minute in (6, 6.25, 6.5, 7, 8, 9):
        says(store, edge, minute, 0)
    assert clock_tickets(store) == []


def test_the_limit_can_be_set(store: Store, edge: EdgeVoice) -> None:
    for minute in (0, 1, 2):
        message = with_clock(edge.message(minute), minute, 90_000)
        at_ms = MONDAY_MS + minute * MINUTE_MS
        from collector.ingest import apply

        store.write(lambda c, m=message, at=at_ms: apply(c, edge.gateway, m, at, skew_ms=120_000))
    assert clock_tickets(store) == []


def test_a_gateway_that_is_revoked_has_no_clock_any_more(store: Store, edge: EdgeVoice) -> None:
    for minute in (0, 1, 2):
        says(store, edge, minute, DAY_MS)
    store.write(lambda c: c.execute(update(tables.gateway).values(revoked_ms=MONDAY_MS + 3 * MINUTE_MS)))
    for minute in (4, 5):
        store.write(lambda c, at=minute: sweep(c, MONDAY_MS + at * MINUTE_MS))
    (ticket,) = clock_tickets(store)
    assert (ticket.condition, ticket.ended_ms) == (Condition.CLEARED, MONDAY_MS + 4 * MINUTE_MS)


def test_every_replica_makes_the_same_ticket(store: Store, edge: EdgeVoice) -> None:
    for minute in (0, 1, 2):
        says(store, edge, minute, DAY_MS)
    (uid,) = store.read(lambda c: c.execute(select(tables.occurrence.c.uid)).scalars().all())
    assert uid == skew.minted.uid(edge.gateway.id, "clock", MONDAY_MS)
