from __future__ import annotations

import json
from typing import Any

import pytest
from rigs.edge_voice import MINUTE_MS, MONDAY_MS, SITE, EdgeVoice, enrol, key, send
from sqlalchemy import func, select

from collector.ingest import StreamRefusedError
from collector.merge import BEGINNING
from collector.store import Store, tables
from collector.store import tickets as ticket_store
from collector.store.devices import devices
from collector.store.gateways import gateways
from collector.store.tickets import State, TicketDetail, TicketFilter, TicketView
from collector.tickets import Condition, Work
from edge_agent.wire import MAX_INT, SyncRequest


def listed(store: Store, state: State | None = None) -> list[TicketView]:
    wanted = TicketFilter(sites=None, state=state)
    return store.read(lambda connection: ticket_store.find(connection, wanted, None, 100)).items


def detail(store: Store, ticket_id: str) -> TicketDetail:
    found = store.read(lambda connection: ticket_store.detail(connection, ticket_id))
    assert found is not None
    return found


def count(store: Store, table: Any) -> int:
    found: int = store.read(
        lambda connection: connection.execute(select(func.count()).select_from(table)).scalar_one()
    )
    return found


@pytest.fixture
def edge(store: Store) -> EdgeVoice:
    return EdgeVoice(enrol(store))


def test_a_fault_becomes_a_ticket_and_its_end_resolves_it(store: Store, edge: EdgeVoice) -> None:
    uid = edge.raises(0, evidence={"frames": ["<STX>030,1"]})
    first = edge.sync(store, 0.25)
    assert [change.ticket_id for change in first.changed] == [uid]
    (ticket,) = listed(store, State.OPEN)
    assert (ticket.id, ticket.number, ticket.condition, ticket.severity) == (uid, 1, Condition.ACTIVE, "stop")
    assert (ticket.occurred_ms, ticket.detection_delay_ms) == (MONDAY_MS, 15_000)
    edge.clears(uid, 3)
    edge.sync(store, 3.1)
    told = detail(store, uid)
    assert (told.ticket.work, told.ticket.ended_ms) == (Work.RESOLVED, MONDAY_MS + 3 * MINUTE_MS)
    assert [entry.reason for entry in told.history] == ["opened", "cleared", "resolved_by_itself"]
    assert told.occurrences[0].evidence == {"frames": ["<STX>030,1"]}
    assert told.gateways == ("gw1",)


def test_the_same_request_again_is_old_and_changes_nothing(store: Store, edge: EdgeVoice) -> None:
    edge.raises(0)
    message = edge.message(0.1)
    send(store, edge.gateway, message, 0.1)
    before = detail(store, listed(store)[0].id)
    again = send(store, edge.gateway, message, 0.2)
    assert (again.answer.verdict, again.changed) == ("old", ())
    assert detail(store, before.ticket.id) == before


def test_a_heartbeat_writes_nothing_inside_five_seconds(store: Store, edge: EdgeVoice) -> None:
    edge.raises(0)
    edge.sync(store, 0.1)
    before = store.read(lambda connection: connection.execute(select(tables.gateway)).one())
    assert edge.sync(store, 0.15).answer.verdict == "ok"
    assert store.read(lambda connection: connection.execute(select(tables.gateway)).one()) == before
    edge.sync(store, 0.3)
    after = store.read(lambda connection: connection.execute(select(tables.gateway)).one())
    assert after.last_contact_ms == MONDAY_MS + 18_000


def test_what_was_over_before_it_arrived_is_history(store: Store, edge: EdgeVoice) -> None:
    uid = edge.raises(0)
    edge.clears(uid, 2)
    edge.sync(store, 30)
    (ticket,) = listed(store)
    assert (ticket.history, ticket.work) == (True, Work.RESOLVED)


def test_a_fault_that_returns_in_time_is_the_same_ticket_and_later_a_linked_one(
    store: Store, edge: EdgeVoice
) -> None:
    first = edge.raises(0)
    edge.sync(store, 0.1)
    edge.clears(first, 1)
    edge.sync(store, 1.1)
    second = edge.raises(9)
    edge.sync(store, 9.1)
    (ticket,) = listed(store)
    assert (ticket.id, ticket.returns, ticket.work) == (first, 1, Work.NEW)
    edge.clears(second, 10)
    edge.sync(store, 10.1)
    third = edge.raises(21)
    edge.sync(store, 21.1)
    newer, older = listed(store)
    assert (newer.id, newer.recurs_of, newer.number) == (third, first, 2)
    assert (older.id, older.work) == (first, Work.CLOSED)
    assert [entry.reason for entry in detail(store, first).history][-1] == "recurred"


def test_two_gateways_that_see_one_fault_feed_one_ticket(store: Store, edge: EdgeVoice) -> None:
    other = EdgeVoice(enrol(store, "gw2"), seed=2)
    first = edge.raises(0)
    second = other.raises(0.2)
    edge.sync(store, 0.3)
    other.sync(store, 0.4)
    edge.clears(first, 5)
    edge.sync(store, 5.1)
    (ticket,) = listed(store)
    assert ticket.condition is Condition.ACTIVE
    assert detail(store, ticket.id).gateways == ("gw1", "gw2")
    other.clears(second, 6)
    other.sync(store, 6.1)
    (ticket,) = listed(store)
    assert (ticket.condition, ticket.work) == (Condition.CLEARED, Work.RESOLVED)


def test_a_severity_that_rises_calls_again_with_its_history(store: Store, edge: EdgeVoice) -> None:
    uid = edge.raises(0, severity=20)
    edge.sync(store, 0.1)
    edge.worsens(uid, 4, 30)
    edge.sync(store, 4.1)
    told = detail(store, uid)
    assert told.ticket.severity == "stop"
    assert told.occurrences[0].severities == ((MONDAY_MS, "degraded"), (MONDAY_MS + 4 * MINUTE_MS, "stop"))
    assert [entry.reason for entry in told.history] == ["opened", "worse"]


# --- positions ------------------------------------------------------------------------------------------


def test_a_collector_that_forgot_is_refilled_with_the_same_tickets(store: Store, edge: EdgeVoice) -> None:
    uid = edge.raises(0)
    edge.sync(store, 0.1)
    edge.stream = edge.new_id()
    later = edge.raises(1, device="printer-2")
    behind = edge.sync(store, 1.1)
    assert (behind.answer.verdict, behind.answer.hwm[0]) == ("behind", BEGINNING[0])
    assert edge.cursor == behind.answer.hwm
    assert edge.sync(store, 1.2).answer.verdict == "ok"
    assert {ticket.id for ticket in listed(store)} == {uid, later}
    assert [entry.reason for entry in detail(store, uid).history] == ["opened"]


def test_another_history_of_the_same_stream_is_a_fork(store: Store, edge: EdgeVoice) -> None:
    edge.raises(0)
    edge.sync(store, 0.1)
    clone = EdgeVoice(edge.gateway)
    clone.raises(0)
    clone.boundaries.append((1, "f" * 32))
    clone.cursor = (1, "f" * 32)
    clone.raises(1, device="printer-2")
    told = clone.sync(store, 1.1)
    assert (told.answer.verdict, told.changed) == ("fork", ())
    assert clone.stream != edge.stream


def test_a_new_stream_supersedes_the_old_one_whose_ends_still_count(store: Store, edge: EdgeVoice) -> None:
    uid = edge.raises(0)
    edge.sync(store, 0.1)
    newer = EdgeVoice(edge.gateway, seed=9)
    newer.unsettled = [key(edge.rows[uid])]
    assert newer.sync(store, 1).answer.verdict == "behind"
    assert newer.sync(store, 1.1).answer.verdict == "ok"
    edge.clears(uid, 2)
    stray = edge.raises(3, device="printer-2")
    told = edge.sync(store, 3.1)
    assert told.answer.verdict == "superseded"
    (ticket,) = listed(store)
    assert (ticket.id, ticket.condition) == (uid, Condition.CLEARED)
    assert count(store, tables.orphan) == 1
    # It begins a new stream, and the stray becomes a ticket after all.
    edge.sync(store, 3.2)
    assert edge.sync(store, 3.3).answer.verdict == "ok"
    assert {ticket.id for ticket in listed(store)} == {uid, stray}


def test_a_late_message_of_a_box_that_was_replaced_tells_nothing(store: Store, edge: EdgeVoice) -> None:
    """It was on its way while the box was replaced: a stream that nobody here has ever heard of."""
    uid = edge.raises(5)
    edge.sync(store, 5.1)
    late = EdgeVoice(edge.gateway, seed=9).message(1)
    for minute in (6, 7, 8):
        told = send(store, edge.gateway, late, minute)
        assert (told.answer.verdict, told.answer.hwm[0]) == ("behind", 0)
    assert edge.sync(store, 9).answer.verdict == "ok"
    (ticket,) = listed(store)
    assert (ticket.id, ticket.condition) == (uid, Condition.ACTIVE)


def test_of_two_new_streams_that_were_doubted_the_first_to_go_on_is_believed(
    store: Store, edge: EdgeVoice
) -> None:
    edge.sync(store, 1)
    one, two = EdgeVoice(edge.gateway, seed=8), EdgeVoice(edge.gateway, seed=9)
    for voice in (one, two):
        assert voice.sync(store, 2).answer.verdict == "behind"
    replayed = one.message(3)
    assert one.sync(store, 3).answer.verdict == "ok"
    assert two.sync(store, 4).answer.verdict == "superseded"
    assert send(store, edge.gateway, replayed, 5).answer.verdict == "ok"
    assert two.sync(store, 6).answer.verdict == "behind"
    assert two.sync(store, 7).answer.verdict == "ok"
    # What was said to the challenge of a stream that is superseded by now says nothing any more.
    assert send(store, edge.gateway, replayed, 8).answer.verdict == "superseded"


def test_a_stream_of_another_gateway_is_refused(store: Store, edge: EdgeVoice) -> None:
    edge.raises(0)
    edge.sync(store, 0.1)
    thief = EdgeVoice(enrol(store, "gw2"), seed=3)
    thief.stream = edge.stream
    with pytest.raises(StreamRefusedError):
        thief.sync(store, 0.2)


def test_what_was_pruned_before_it_arrived_is_a_declared_gap(store: Store, edge: EdgeVoice) -> None:
    edge.seq = 40
    edge.pruned_through = 40
    edge.raises(0)
    edge.sync(store, 0.1)
    (found,) = store.read(lambda connection: connection.execute(select(tables.gap)).all())
    assert (found.from_seq, found.to_seq) == (1, 40)
    (shown,) = store.read(lambda connection: gateways(connection, None))
    assert shown.gaps == 1


# --- rows -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "poison",
    [
        {"device": "UPPER"},
        {"device": ""},
        {"severity": 1.5},
        {"severity": True},
        {"state": "maybe"},
        {"state": "closed", "cleared": None},
        {"evidence": {"frames": ["x" * 9_000]}},
        {"first_bad": "yesterday"},
        {"title": 7},
    ],
)
def test_a_bad_row_is_put_aside_and_the_others_go_on(sqlite_store: Store, poison: dict[str, Any]) -> None:
    edge = EdgeVoice(enrol(sqlite_store))
    bad = edge.raises(0)
    edge.rows[bad] |= poison
    good = edge.raises(0.1, device="printer-2")
    told = edge.sync(sqlite_store, 0.2)
    assert (told.answer.verdict, told.quarantined, told.answer.want) == ("ok", 1, [])
    assert edge.cursor[0] == 2
    assert [ticket.id for ticket in listed(sqlite_store)] == [good]
    (shown,) = sqlite_store.read(lambda connection: gateways(connection, None))
    assert shown.quarantined == 1
    # Nothing asks for it again.
    assert edge.sync(sqlite_store, 0.5).answer.want == []


@pytest.mark.parametrize("raw", [None, 7, "row", [], {"uid": {"deep": []}}, {"uid": "\0" * 32}])
def test_anything_in_the_place_of_a_row_is_put_aside_raw(store: Store, edge: EdgeVoice, raw: Any) -> None:
    edge.raises(0)
    message = edge.message(0.1)
    message = message.model_copy(update={"rows": [raw, *message.rows, raw]})
    told = send(store, edge.gateway, message, 0.1)
    assert (told.answer.verdict, told.quarantined) == ("ok", 2)
    found = store.read(lambda connection: connection.execute(select(tables.quarantine.c.raw)).scalars().all())
    assert [json.loads(one) for one in found] == [raw]


def test_a_row_that_cannot_be_read_is_kept_once_however_often_it_is_sent(
    store: Store, edge: EdgeVoice
) -> None:
    uid = edge.raises(0)
    edge.rows[uid]["uid"] = "not-hex"
    for minute in range(4):
        # The edge calls it open and it is not here: it is asked for, and comes at a new position.
        assert edge.sync(store, minute).answer.want == [uid]
    assert count(store, tables.quarantine) == 1


def test_what_a_row_garbled_beyond_recognition_may_have_been_about_is_asked_for_until_it_is_told_again(
    store: Store, edge: EdgeVoice
) -> None:
    label, head, jam = edge.raises(0), edge.raises(0, fault="head-open"), edge.raises(0, device="belt-1")
    edge.sync(store, 0.1)
    edge.worsens(label, 1, 40)
    edge.comes_and_goes(jam, 1, 2, 3)
    # That of the label came well; of the jam nobody knows whose it was.
    garbled = garble(edge.message(3.1), jam)
    told = send(store, edge.gateway, garbled, 3.1)
    assert (told.quarantined, told.answer.want) == (1, [head, jam])
    # The answer is lost: the agent says the same again, and goes on from there.
    again = send(store, edge.gateway, garbled, 3.2)
    assert (again.answer.verdict, again.answer.want) == ("old", [])
    edge.hear(again)
    scanner = edge.raises(3.2, device="scanner-1")
    assert edge.sync(store, 3.3).answer.want == [head, jam]
    assert revisions(store)[jam] == 1
    # One comes with the next message, the other with the one after that.
    edge.sync(store, 3.4, limit=1)
    assert edge.sync(store, 3.5).answer.want == []
    assert revisions(store) == {uid: edge.rows[uid]["rev"] for uid in (label, head, jam, scanner)}
    assert edge.sync(store, 3.8).answer.want == []


def test_what_was_garbled_within_the_history_is_asked_for_once_all_is_here(
    store: Store, edge: EdgeVoice
) -> None:
    jam = edge.raises(0, device="belt-1")
    edge.sync(store, 0.1)
    edge.comes_and_goes(jam, 1)
    edge.raises(2, device="belt-2")
    told = send(store, edge.gateway, garble(edge.message(2.1, limit=1), jam), 2.1)
    assert (told.quarantined, told.answer.want) == (1, [])
    edge.hear(told)
    assert edge.sync(store, 2.2).answer.want == [jam]
    assert edge.sync(store, 2.3).answer.want == []
    assert revisions(store)[jam] == 2


def test_a_row_that_comes_garbled_again_as_it_was_is_not_asked_for_any_more(
    store: Store, edge: EdgeVoice
) -> None:
    head, jam = edge.raises(0), edge.raises(0, device="belt-1")
    edge.sync(store, 0.1)
    edge.comes_and_goes(jam, 1)
    for minute, wanted in ((1.1, [head, jam]), (1.2, []), (1.3, [])):
        told = send(store, edge.gateway, garble(edge.message(minute), jam), minute)
        assert told.answer.want == wanted
        edge.hear(told)
    assert revisions(store) == {head: 1, jam: 1}
    # It goes on with the next that it tells.
    edge.comes_and_goes(jam, 2)
    edge.sync(store, 2.1)
    assert revisions(store) == {head: 1, jam: edge.rows[jam]["rev"]}


def test_what_the_edge_has_no_more_is_not_asked_for(store: Store, edge: EdgeVoice) -> None:
    jam, overload = edge.raises(0, device="belt-1"), edge.raises(0, device="belt-2")
    edge.sync(store, 0.1)
    edge.comes_and_goes(jam, 1)
    edge.raises(1, device="belt-3")
    message = garble(edge.message(1.1, limit=1), jam)
    edge.hear(send(store, edge.gateway, message, 1.1))
    # Its disk has lost the overload.
    del edge.rows[overload]
    assert edge.sync(store, 1.2).answer.want == [jam]
    for minute in (1.3, 1.6):
        assert edge.sync(store, minute).answer.want == []
    assert detail(store, overload).ticket.condition is Condition.CLEARED


def garble(message: SyncRequest, uid: str) -> SyncRequest:
    """Whose row that was cannot be read any more."""
    rows = [row | {"uid": "?"} if row["uid"] == uid else row for row in message.rows]
    return message.model_copy(update={"rows": rows})


def revisions(store: Store) -> dict[str, int]:
    """What is held, by uid."""
    columns = tables.occurrence.c
    wanted = select(columns.uid, columns.rev).where(columns.minted.is_(False))
    return {row.uid: row.rev for row in store.read(lambda connection: connection.execute(wanted).all())}


def test_a_row_of_another_gateway_is_put_aside(store: Store, edge: EdgeVoice) -> None:
    uid = edge.raises(0)
    edge.sync(store, 0.1)
    other = EdgeVoice(enrol(store, "gw2"), seed=2)
    other.rows[uid] = edge.rows[uid] | {"rev": 9, "severity": 10, "mod_seq": other._next()}
    told = other.sync(store, 0.2)
    assert (told.quarantined, told.changed, told.answer.want, told.answer.closed_here) == (1, (), [], [])
    assert listed(store)[0].severity == "stop"


def test_a_byte_that_no_database_likes_is_kept(store: Store, edge: EdgeVoice) -> None:
    uid = edge.raises(0, title="paper\0out", evidence={"frames": ["\0\x1b[31m<script>"]}, later_field="\0")
    edge.sync(store, 0.1)
    told = detail(store, uid)
    assert told.ticket.title == "paper\ufffdout"
    assert told.occurrences[0].evidence == {"frames": ["\0\x1b[31m<script>"]}


def test_fields_of_a_later_version_are_kept(store: Store, edge: EdgeVoice) -> None:
    uid = edge.raises(0, shift="night")
    edge.sync(store, 0.1)
    row = store.read(
        lambda connection: connection.execute(
            select(tables.occurrence.c.row).where(tables.occurrence.c.uid == uid)
        ).scalar_one()
    )
    assert row["shift"] == "night"


# --- the present ----------------------------------------------------------------------------------------


def test_what_the_edge_no_longer_names_is_closed_once_it_has_looked(store: Store, edge: EdgeVoice) -> None:
    uid = edge.raises(0)
    edge.sync(store, 0.1)
    lost = edge.rows.pop(uid)
    edge.unsettled = [key(lost)]
    edge.sync(store, 1)
    assert listed(store)[0].condition is Condition.ACTIVE
    edge.unsettled = []
    edge.sync(store, 2)
    (ticket,) = listed(store)
    assert ticket.condition is Condition.CLEARED
    (occurrence,) = detail(store, uid).occurrences
    assert (occurrence.estimated, occurrence.reason) == (True, "reconciled")
    # Its real end turns up after all: the estimate gives way.
    edge.rows[uid] = lost
    edge.clears(uid, 0.5)
    edge.sync(store, 3)
    (occurrence,) = detail(store, uid).occurrences
    assert (occurrence.estimated, occurrence.end_ms) == (False, MONDAY_MS + MINUTE_MS // 2)


def test_a_message_that_is_not_at_the_head_closes_nothing(store: Store, edge: EdgeVoice) -> None:
    uid = edge.raises(0)
    edge.sync(store, 0.1)
    edge.rows.pop(uid)
    edge.raises(1, device="printer-2")
    edge.raises(1, device="printer-3")
    edge.sync(store, 1.1, limit=1)
    assert {ticket.condition for ticket in listed(store)} == {Condition.ACTIVE}


def test_what_is_open_there_and_unknown_here_is_asked_for(store: Store, edge: EdgeVoice) -> None:
    edge.raises(0)
    edge.sync(store, 0.1)
    lost = edge.raises(0, device="printer-2")
    edge.rows[lost]["mod_seq"] = 1
    edge.seq = 1
    told = edge.sync(store, 1)
    assert told.answer.want == [lost]
    assert edge.sync(store, 1.1).answer.want == []
    assert len(listed(store)) == 2


def test_a_conflict_is_told_and_holds_every_closing_back(store: Store, edge: EdgeVoice) -> None:
    closed = edge.raises(0)
    other = edge.raises(0, device="printer-2")
    edge.sync(store, 0.1)
    edge.clears(closed, 1)
    edge.sync(store, 1.1)
    # The disk went back in time: it calls the one open, and has lost the other.
    edge.rows[closed] |= {"state": "open", "rev": 1}
    edge.rows.pop(other)
    told = edge.sync(store, 2)
    assert told.answer.closed_here == [closed]
    conditions = {ticket.id: ticket.condition for ticket in listed(store)}
    assert conditions == {closed: Condition.CLEARED, other: Condition.ACTIVE}


def test_a_fault_that_goes_on_in_a_row_that_cannot_be_read_is_not_called_ended(
    store: Store, edge: EdgeVoice
) -> None:
    """Its disk was lost with the row that is held; the new disk's own row cannot be read."""
    first, other = edge.raises(0), edge.raises(0, device="printer-2")
    edge.sync(store, 0.1)
    del edge.rows[first], edge.rows[other]
    second = edge.raises(1, title="x" * 1000)
    for minute in (1.1, 2, 3):
        edge.sync(store, minute)
    states = {ticket.id: ticket.condition for ticket in listed(store)}
    assert states == {first: Condition.ACTIVE, other: Condition.CLEARED}
    edge.clears(second, 4)
    edge.sync(store, 4.1)
    assert all(ticket.condition is Condition.CLEARED for ticket in listed(store))


def test_the_inventory_is_asked_for_when_it_changed_and_names_places(store: Store, edge: EdgeVoice) -> None:
    edge.raises(0)
    edge.inventory_hash = "new"
    assert edge.sync(store, 0.1).answer.want_inventory
    assert listed(store)[0].place == ""
    edge.watches("printer-1", "printer-2")
    told = edge.sync(store, 0.2)
    assert not told.answer.want_inventory
    (ticket,) = listed(store)
    assert (ticket.place, [change.ticket_id for change in told.changed]) == ("hall/line-1", [ticket.id])
    edge.watches("printer-1")
    edge.sync(store, 0.3)
    (only,) = store.read(lambda connection: devices(connection, frozenset({SITE})))
    assert (only.id, only.state, only.gateways, only.open_tickets) == ("printer-1", "stop", ("gw1",), 1)
    edge.inventory = None
    assert not edge.sync(store, 0.4).answer.want_inventory


def test_five_hundred_rows_in_one_message(store: Store, edge: EdgeVoice) -> None:
    uids = [edge.raises(number / 100, device=f"device-{number}") for number in range(500)]
    told = edge.sync(store, 6)
    assert len(told.changed) == 500
    numbers = store.read(
        lambda connection: (
            connection.execute(select(tables.ticket.c.number).order_by(tables.ticket.c.first_ms))
            .scalars()
            .all()
        )
    )
    assert list(numbers) == list(range(1, 501))
    for uid in uids:
        edge.clears(uid, 7)
    assert len(edge.sync(store, 7.1).changed) == 500
    assert not listed(store, State.ACTIVE)


# --- roll-ups -------------------------------------------------------------------------------------------


def three_jams(edge: EdgeVoice) -> list[str]:
    """Two within the reopen window and one an hour later."""
    uids = []
    for minute in (0, 5, 70):
        uids.append(edge.raises(minute, severity=20 if minute else 30, evidence={"frames": [f"at {minute}"]}))
        edge.clears(uids[-1], minute + 2, reason="closed_here" if minute == 5 else "cleared")
    return uids


def held(store: Store) -> list[dict[str, Any]]:
    """All that is held of occurrences and tickets, but for what was given up: evidence and its digest."""
    left_out = {"digest", "row", "received_ms"}
    rows = store.read(lambda connection: connection.execute(select(tables.occurrence)).all())
    found = sorted((dict(row._mapping) for row in rows), key=lambda row: row["uid"])
    return [{name: value for name, value in row.items() if name not in left_out} for row in found]


def test_a_roll_up_is_what_its_members_were(store: Store, edge: EdgeVoice) -> None:
    plain = EdgeVoice(enrol(store, "gw2", "south"), seed=2)
    edge.rolls_up(*three_jams(edge))
    three_jams(plain)
    edge.sync(store, 80)
    plain.sync(store, 80)
    rolled, whole = (
        [
            {
                name: one[name]
                for name in one
                if name not in ("gateway_id", "site", "dedupe_key", "first_boot")
            }
            | {"end_boot": None, "uid": None, "ticket_id": None}
            for one in sorted(held(store), key=lambda one: one["start_ms"])
            if one["site"] == site
        ]
        for site in (SITE, "south")
    )
    assert len(rolled) == 3
    assert rolled == whole
    tickets = store.read(lambda connection: connection.execute(select(tables.ticket)).all())
    assert sorted((t.first_ms, t.returns, t.count) for t in tickets if t.site == SITE) == sorted(
        (t.first_ms, t.returns, t.count) for t in tickets if t.site == "south"
    )


def test_members_that_arrived_before_count_once_and_keep_their_evidence(
    store: Store, edge: EdgeVoice
) -> None:
    uids = three_jams(edge)
    lost_answer = edge.message(75)
    send(store, edge.gateway, lost_answer, 75)
    before = held(store)
    edge.rolls_up(*uids)
    edge.raises(76, device="printer-2")
    edge.sync(store, 76.5)
    assert [one for one in held(store) if one["device"] == "printer-1"] == before
    rows = store.read(lambda connection: connection.execute(select(tables.occurrence.c.row)).scalars().all())
    assert sorted(row["evidence"]["frames"][0] for row in rows if row.get("evidence")) == [
        "at 0",
        "at 5",
        "at 70",
    ]


def test_a_raise_keeps_its_evidence_when_its_end_comes_without(store: Store, edge: EdgeVoice) -> None:
    uid = edge.raises(0, evidence={"frames": ["030,1"]})
    edge.sync(store, 1)
    edge.clears(uid, 2)
    edge.rows[uid]["evidence"] = {"thinned": True}
    edge.sync(store, 3)
    told = detail(store, uid)
    assert (told.ticket.ended_ms, told.occurrences[0].evidence) == (
        MONDAY_MS + 2 * MINUTE_MS,
        {"frames": ["030,1"]},
    )


@pytest.mark.parametrize("spoilt", [{"count": 4}, {"state": "open"}, {"members": []}])
def test_a_roll_up_that_contradicts_itself_is_put_aside(
    store: Store, edge: EdgeVoice, spoilt: dict[str, Any]
) -> None:
    rolled = edge.rolls_up(*three_jams(edge))
    edge.rows[rolled["uid"]] |= spoilt
    applied = edge.sync(store, 80)
    assert (applied.answer.verdict, applied.quarantined, held(store)) == ("ok", 1, [])


def test_counts_that_are_monstrous_together_keep_nobody_elses_rows_out(store: Store, edge: EdgeVoice) -> None:
    edge.clears(edge.raises(0, count=MAX_INT), 1)
    edge.clears(edge.raises(2, count=MAX_INT), 3)
    edge.sync(store, 4)
    other = EdgeVoice(enrol(store, "gw2"), seed=2)
    other.raises(5)
    assert other.sync(store, 6).answer.verdict == "ok"
    (ticket,) = listed(store)
    assert (detail(store, ticket.id).ticket.count, ticket.condition) == (MAX_INT, Condition.ACTIVE)


def test_a_nul_in_the_hash_of_an_inventory_is_no_reason_to_refuse_it(store: Store, edge: EdgeVoice) -> None:
    edge.watches("printer-1")
    assert edge.inventory is not None
    edge.inventory["hash"] = edge.inventory_hash = "of\0it"
    assert edge.sync(store, 0).answer.want_inventory is False
    edge.inventory = None
    assert edge.sync(store, 1).answer.want_inventory is False
    edge.inventory_hash = "of it"
    assert edge.sync(store, 2).answer.want_inventory is True
