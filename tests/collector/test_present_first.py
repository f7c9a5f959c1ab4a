"""C10: what is open goes ahead of the history, late, doubled and out of order, and tells nothing wrong."""

from __future__ import annotations

import itertools

import pytest
from rigs.edge_voice import MINUTE_MS, MONDAY_MS, EdgeVoice, enrol, key, send
from sqlalchemy import select

from collector.store import Store, downtimes, tables
from collector.store import tickets as ticket_store
from collector.store.tickets import TicketFilter, TicketView
from collector.sweep import sweep
from collector.tickets import Condition, Work


def listed(store: Store) -> dict[str, TicketView]:
    wanted = TicketFilter(sites=None, state=None)
    found = store.read(lambda connection: ticket_store.find(connection, wanted, None, 100)).items
    return {ticket.id: ticket for ticket in found}


def caught_up_ms(store: Store, edge: EdgeVoice) -> int:
    return store.read(lambda c: downtimes.contacts(c, edge.gateway.site))[edge.gateway.id].caught_up_ms


@pytest.fixture
def edge(store: Store) -> EdgeVoice:
    """One message of its history is held; ten more faults that came and went wait for their turn."""
    voice = EdgeVoice(enrol(store))
    voice.sync(store, 0)
    for minute in range(10):
        voice.clears(voice.raises(minute, device=f"belt-{minute}"), minute + 0.5)
    return voice


def test_a_stop_behind_a_long_history_is_a_ticket_at_once_and_history_follows(
    store: Store, edge: EdgeVoice
) -> None:
    uid = edge.raises(20)
    told = send(store, edge.gateway, edge.ahead(60), 60)
    assert (told.answer.verdict, told.answer.hwm) == ("ok", edge.cursor)
    (ticket,) = listed(store).values()
    assert (ticket.id, ticket.condition, ticket.work, ticket.history) == (
        uid,
        Condition.ACTIVE,
        Work.NEW,
        False,
    )
    assert ticket.detection_delay_ms == 40 * MINUTE_MS
    while edge.sync(store, 60.1, limit=3).answer.hwm[0] < edge.seq:
        pass
    tickets = listed(store)
    assert len(tickets) == 11
    assert tickets[uid] == ticket
    assert all(one.history for one in tickets.values() if one.id != uid)


def test_the_present_moves_no_position_and_ends_nothing(store: Store, edge: EdgeVoice) -> None:
    known = edge.raises(11)
    while edge.sync(store, 12).answer.hwm[0] < edge.seq:
        pass
    before = edge.cursor
    edge.clears(known, 13)
    edge.raises(14, device="printer-2")
    told = send(store, edge.gateway, edge.ahead(15, to=[999, "f" * 32], pruned_through=900), 15)
    assert (told.answer.verdict, told.answer.hwm) == ("ok", before)
    assert listed(store)[known].condition is Condition.ACTIVE
    positions = store.read(lambda c: c.execute(select(tables.stream.c.hwm_seq)).scalars().all())
    assert list(positions) == [before[0]]
    assert not store.read(lambda c: c.execute(select(tables.gap)).all())
    assert not told.answer.closed_here
    assert not told.answer.want


def test_the_present_says_that_a_silent_gateway_still_sees_its_faults(store: Store, edge: EdgeVoice) -> None:
    known, unseen = edge.raises(11), edge.raises(11, device="printer-2")
    while edge.sync(store, 12).answer.hwm[0] < edge.seq:
        pass
    store.write(lambda c: sweep(c, MONDAY_MS + 20 * MINUTE_MS))
    assert listed(store)[known].condition is Condition.UNKNOWN
    for minute in range(12, 20):
        edge.clears(edge.raises(minute, device=f"belt-{minute}"), minute + 0.5)
    edge.raises(20, device="printer-3")
    edge.unsettled = [key(edge.rows[unseen])]
    send(store, edge.gateway, edge.ahead(30), 30)
    tickets = listed(store)
    assert (tickets[known].condition, tickets[unseen].condition) == (Condition.ACTIVE, Condition.UNKNOWN)
    (silent,) = (ticket for ticket in tickets.values() if ticket.fault == "silent")
    assert silent.condition is Condition.CLEARED
    # It has not told yet what it saw meanwhile.
    assert caught_up_ms(store, edge) == MONDAY_MS + 12 * MINUTE_MS


def test_a_late_present_raises_nothing_that_has_ended(store: Store, edge: EdgeVoice) -> None:
    uid = edge.raises(20)
    late = edge.ahead(21)
    edge.clears(uid, 22)
    while edge.sync(store, 23).answer.hwm[0] < edge.seq:
        pass
    before = listed(store)
    told = send(store, edge.gateway, late, 50)
    assert (told.answer.verdict, told.answer.hwm) == ("old", edge.cursor)
    assert listed(store) == before
    # Nor is it put aside, as the rows of a box that was replaced are.
    assert not store.read(lambda c: c.execute(select(tables.orphan)).all())


def test_a_heartbeat_that_is_older_than_the_present_ends_nothing(store: Store) -> None:
    """It was sent before anything was wrong, and came when the fault had been told ahead of the history."""
    edge = EdgeVoice(enrol(store))
    edge.sync(store, 0)
    late = edge.message(1)
    assert late.head is not None
    edge.clears(edge.raises(2, device="belt-1"), 3)
    uid = edge.raises(4)
    ahead = send(store, edge.gateway, edge.ahead(5), 5)
    assert ahead.answer.ahead == edge.seq
    told = send(store, edge.gateway, late, 6)
    assert (told.answer.verdict, told.answer.ahead) == ("ok", edge.seq)
    assert listed(store)[uid].condition is Condition.ACTIVE
    assert caught_up_ms(store, edge) == MONDAY_MS
    assert edge.sync(store, 7).answer.ahead is None
    edge.clears(uid, 8)
    edge.sync(store, 8.1)
    assert listed(store)[uid].condition is Condition.CLEARED


def test_a_late_present_of_a_collector_that_was_put_back_is_not_believed(
    store: Store, edge: EdgeVoice
) -> None:
    edge.raises(20)
    while edge.sync(store, 21).answer.hwm[0] < edge.seq:
        pass
    for minute in range(22, 30):
        edge.clears(edge.raises(minute, device=f"belt-{minute}"), minute + 0.5)
    edge.raises(31, device="printer-2")
    late = edge.ahead(32)
    store.write(lambda c: c.execute(tables.stream.update().values(hwm_seq=3, hwm_nonce="e" * 32)))
    told = send(store, edge.gateway, late, 33)
    assert (told.answer.verdict, told.answer.hwm, told.changed) == ("behind", (3, "e" * 32), ())


def test_present_and_history_give_the_same_in_every_order_and_doubled(
    sqlite_store: Store, edge: EdgeVoice
) -> None:
    """One history, cut where the position moved: what was said ahead comes before, between, twice, after."""
    first = edge.raises(20)
    ahead_1 = edge.ahead(21)
    history_1 = edge.message(22, limit=6, head=False)
    edge.cursor = history_1.to
    edge.worsens(first, 22.5, 40)
    second = edge.raises(23, device="printer-2")
    ahead_2 = edge.ahead(24)
    edge.clears(first, 25)
    history_2 = edge.message(26)
    edge.cursor = history_2.to

    seen = set()
    for number, order in enumerate(itertools.permutations([ahead_1, ahead_1, ahead_2])):
        gateway = enrol(sqlite_store, f"again-{number}")
        stream = f"{number:032x}"
        messages = [order[0], history_1, *order[1:], history_2, *order]
        for message in messages:
            rows = [
                row | {"uid": f"{number:04x}{row['uid'][4:]}", "device": f"{row['device']}-{number}"}
                for row in message.rows
            ]
            head = message.head and message.head.model_copy(
                update={"open": [f"{number:04x}{uid[4:]}" for uid in message.head.open]}
            )
            own = message.model_copy(update={"stream": stream, "rows": rows, "head": head})
            send(sqlite_store, gateway, own, 27)
        rows = sqlite_store.read(
            lambda c, gateway=gateway: c.execute(
                select(
                    tables.occurrence.c.uid,
                    tables.occurrence.c.open,
                    tables.occurrence.c.rev,
                    tables.occurrence.c.end_ms,
                    tables.occurrence.c.severity,
                )
                .where(tables.occurrence.c.gateway_id == gateway.id)
                .order_by(tables.occurrence.c.uid)
            ).all()
        )
        seen.add(tuple((row.uid[4:], *row[1:]) for row in rows))
    (only,) = seen
    still_open = [uid for uid, is_open, *_ in only if is_open]
    assert still_open == [second[4:]]
    assert len(only) == 12


def test_the_present_of_a_replaced_box_is_kept_aside(store: Store, edge: EdgeVoice) -> None:
    newer = EdgeVoice(edge.gateway, seed=9)
    for _ in range(2):
        newer.sync(store, 20)
    edge.raises(21)
    told = send(store, edge.gateway, edge.ahead(22), 22)
    assert told.answer.verdict == "superseded"
    assert not listed(store)


def test_a_doubted_stream_may_go_on_with_the_present(store: Store, edge: EdgeVoice) -> None:
    """A new disk, a long history, an open stop: the challenge first, then the present, then the history."""
    newer = EdgeVoice(edge.gateway, seed=9)
    for minute in range(10):
        newer.clears(newer.raises(minute, device=f"belt-{minute}"), minute + 0.5)
    uid = newer.raises(20)
    doubted = send(store, edge.gateway, newer.ahead(21), 21)
    assert (doubted.answer.verdict, listed(store)) == ("behind", {})
    newer.hear(doubted)
    assert send(store, edge.gateway, newer.ahead(21.1), 21.1).answer.verdict == "ok"
    assert list(listed(store)) == [uid]
    while newer.sync(store, 21.2, limit=3).answer.hwm[0] < newer.seq:
        pass
    assert len(listed(store)) == 11


def test_a_row_of_the_present_that_cannot_be_read_is_put_aside(store: Store, edge: EdgeVoice) -> None:
    uid = edge.raises(20)
    edge.rows[uid]["severity"] = "bad"
    other = edge.raises(21, device="printer-2")
    told = send(store, edge.gateway, edge.ahead(22), 22)
    assert (told.answer.verdict, told.quarantined) == ("ok", 1)
    assert list(listed(store)) == [other]
