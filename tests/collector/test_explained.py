"""What another fault explains is a fact and no call: hidden while its cause goes on, and listed there."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from rigs.edge_voice import MINUTE_MS, MONDAY_MS, EdgeVoice, enrol, send
from sqlalchemy import select

from collector.command import carry_out
from collector.merge import BEGINNING
from collector.report import By, downtime
from collector.store import Store, devices, figures, tables
from collector.store import tickets as ticket_store
from collector.store.tickets import State, TicketDetail, TicketFilter
from collector.sweep import sweep
from collector.tickets import Acknowledge, Actor, Role
from edge_agent.wire import SyncRequest

TEN = [f"scanner-{number:02}" for number in range(1, 11)]


def in_hand(store: Store) -> dict[str, str]:
    """Device -> word, of all that a handheld shows."""
    shown, _ = store.read(lambda c: ticket_store.at_hand(c, None, None, limit=99, ended=99))
    return {one.device: one.word for one in shown}


def hidden(store: Store) -> dict[str, str]:
    wanted = TicketFilter(sites=None, hidden=True)
    found = store.read(lambda c: ticket_store.find(c, wanted, None, 99)).items
    return {one.device: one.word for one in found}


def detail(store: Store, ticket: str) -> TicketDetail:
    found = store.read(lambda c: ticket_store.detail(c, ticket))
    assert found is not None
    return found


def lost(edge: EdgeVoice, minute: float, device: str, **more: Any) -> str:
    return edge.raises(minute, device, "unreachable", component="link", severity=20, **more)


def bus(edge: EdgeVoice, minute: float, **more: Any) -> str:
    return edge.raises(minute, "gw1", "unreachable", component="line-3", severity=20, **more)


@pytest.fixture
def edge(store: Store) -> EdgeVoice:
    edge = EdgeVoice(enrol(store))
    edge.watches(*TEN)
    edge.sync(store, 0)
    return edge


def test_an_unplugged_adapter_with_ten_scanners_is_one_ticket_that_lists_them(
    store: Store, edge: EdgeVoice
) -> None:
    cause = bus(edge, 1)
    scanners = [lost(edge, 1, name, because=cause) for name in TEN]
    edge.sync(store, 1.1)
    assert in_hand(store) == {"gw1": "Unacknowledged"}
    assert hidden(store) == dict.fromkeys(TEN, "Explained")
    parent = detail(store, cause)
    assert [one.device for one in parent.explains] == TEN
    assert parent.cause is None
    child = detail(store, scanners[3])
    assert child.cause is not None
    assert (child.cause.id, child.ticket.hidden) == (cause, ("suppressed",))
    assert [entry.reason for entry in child.history] == ["opened", "explained"]
    # Unknown, not failed: on the list of devices, and in what is counted.
    views = store.read(lambda c: devices.devices(c, None))
    assert {(one.state, one.open_tickets) for one in views} == {("unknown", 0)}
    counted = store.read(figures.figures)
    assert sum(counted.open_tickets.values()) == 1
    report = store.read(
        lambda c: downtime(
            c, "north", MONDAY_MS, MONDAY_MS + 5 * MINUTE_MS, By.DEVICE, MONDAY_MS + 5 * MINUTE_MS
        )
    )
    # The bus is no device; each scanner is unknown from when it was lost.
    told = {item.key: (item.down_ms, item.unknown_ms) for item in report.items}
    assert told == dict.fromkeys(TEN, (0, 4 * MINUTE_MS))


def test_one_that_is_still_lost_when_the_adapter_is_back_stands_up(store: Store, edge: EdgeVoice) -> None:
    cause = bus(edge, 1)
    here, gone = (lost(edge, 1, name, because=cause) for name in TEN[:2])
    edge.sync(store, 1.1)
    edge.clears(cause, 3)
    edge.explains(gone, cause, waits=True)
    edge.clears(here, 3)
    edge.sync(store, 3.1)
    # It may be heard any moment: nobody is called.
    assert in_hand(store) == {"gw1": "Resolved"}
    assert hidden(store) == {"scanner-01": "Resolved", "scanner-02": "Just noticed"}
    edge.explains(gone, None)
    edge.sync(store, 3.6)
    assert in_hand(store) == {"gw1": "Resolved", "scanner-02": "Unacknowledged"}
    reasons = [entry.reason for entry in detail(store, gone).history]
    assert reasons == ["opened", "explained", "stands_alone"]
    assert [one.device for one in detail(store, cause).explains] == ["scanner-01"]


def test_one_that_is_told_before_its_cause_is_adopted_when_that_comes(store: Store, edge: EdgeVoice) -> None:
    later = "c" * 32
    child = lost(edge, 1, "scanner-01", because=later)
    edge.sync(store, 1.1)
    # Nothing is hidden behind what nobody can see.
    assert in_hand(store) == {"scanner-01": "Unacknowledged"}
    told = bus(edge, 1)
    edge.rows[later] = edge.rows.pop(told) | {"uid": later}
    applied = edge.sync(store, 1.2)
    assert in_hand(store) == {"gw1": "Unacknowledged"}
    assert {change.ticket_id for change in applied.changed} == {child, later}
    edge.clears(later, 2)
    edge.sync(store, 2.1)
    # And it does not wait for the edge to say so.
    assert in_hand(store) == {"gw1": "Resolved", "scanner-01": "Unacknowledged"}


def test_a_ticket_that_people_have_seen_is_hidden_and_stays_acknowledged(
    store: Store, edge: EdgeVoice
) -> None:
    child = lost(edge, 1, "scanner-01")
    edge.sync(store, 1.1)
    alice = Actor(name="alice", role=Role.LEAD, sites=frozenset({"north"}))
    store.write(
        lambda c: carry_out(
            c, alice, child, Acknowledge(), idempotency_key=None, if_match=None, now_ms=MONDAY_MS + 70_000
        )
    )
    cause = bus(edge, 2)
    edge.explains(child, cause)
    edge.sync(store, 2.1)
    behind = detail(store, child).ticket
    assert (behind.hidden, behind.ack) == (("suppressed",), "acked")
    edge.clears(cause, 3)
    edge.explains(child, None)
    edge.sync(store, 3.1)
    assert in_hand(store)["scanner-01"] == "Acknowledged"


def test_what_waits_for_its_cause_is_told_when_its_gateway_falls_silent(
    store: Store, edge: EdgeVoice
) -> None:
    lost(edge, 1, "scanner-01", waits=edge.stamp(2))
    edge.sync(store, 1.1)
    assert in_hand(store) == {}
    store.write(lambda c: sweep(c, MONDAY_MS + 20 * MINUTE_MS))
    assert in_hand(store) == {"gw1": "Unacknowledged", "scanner-01": "Unknown"}


def test_what_another_gateway_misses_too_is_not_explained_by_the_adapter_of_one(
    store: Store, edge: EdgeVoice
) -> None:
    cause = bus(edge, 1)
    lost(edge, 1, "scanner-01", because=cause)
    edge.sync(store, 1.1)
    other = EdgeVoice(enrol(store, "gw2"), seed=2)
    other.sync(store, 0)
    seen = lost(other, 1, "scanner-01")
    other.sync(store, 1.2)
    assert in_hand(store) == {"gw1": "Unacknowledged", "scanner-01": "Unacknowledged"}
    other.clears(seen, 2)
    other.sync(store, 2.1)
    assert in_hand(store) == {"gw1": "Unacknowledged"}


def test_faults_that_explain_each_other_are_both_shown(store: Store, edge: EdgeVoice) -> None:
    one, two = lost(edge, 1, "scanner-01"), lost(edge, 1, "scanner-02")
    edge.explains(one, two)
    edge.explains(two, one)
    edge.sync(store, 1.1)
    assert in_hand(store).keys() == {"scanner-01", "scanner-02"}


def test_a_fault_of_another_site_explains_nothing(store: Store, edge: EdgeVoice) -> None:
    elsewhere = EdgeVoice(enrol(store, "gw9", site="south"), seed=2)
    elsewhere.sync(store, 0)
    cause = bus(elsewhere, 1)
    elsewhere.sync(store, 1.1)
    child = lost(edge, 1, "scanner-01", because=cause)
    edge.sync(store, 1.1)
    assert "scanner-01" in in_hand(store)
    assert detail(store, child).cause is None


def test_the_list_can_be_narrowed_to_what_is_hidden(store: Store, edge: EdgeVoice) -> None:
    cause = bus(edge, 1)
    lost(edge, 1, "scanner-01", because=cause)
    edge.sync(store, 1.1)

    def found(**wanted: Any) -> list[str]:
        page = store.read(lambda c: ticket_store.find(c, TicketFilter(sites=None, **wanted), None, 9))
        return sorted(one.device for one in page.items)

    assert found(state=State.OPEN) == ["gw1", "scanner-01"]
    assert found(state=State.OPEN, hidden=False) == ["gw1"]
    assert found(state=State.OPEN, hidden=True) == ["scanner-01"]


def _forms(edge: EdgeVoice) -> list[dict[str, Any]]:
    """Every form of every row of a bus that goes and comes back without one of its devices."""
    written: list[dict[str, Any]] = []

    def note() -> None:
        written.extend(row for row in edge.rows.values() if row not in written)

    early = lost(edge, 1, "scanner-01")
    note()
    cause = bus(edge, 2)
    edge.explains(early, cause)
    second, third = (lost(edge, 2, name, because=cause) for name in TEN[1:3])
    note()
    edge.clears(cause, 3)
    edge.explains(early, cause, waits=True)
    edge.explains(third, cause, waits=True)
    edge.clears(second, 3)
    note()
    edge.explains(early, None)
    edge.clears(third, 4)
    again = bus(edge, 20)
    lost(edge, 20, "scanner-04", because=again)
    note()
    return written


def test_any_order_of_arrival_ends_in_the_same_tickets(sqlite_store: Store) -> None:
    forms = _forms(EdgeVoice(enrol(sqlite_store)))
    expected: set[tuple[Any, ...]] | None = None
    for seed in range(60):
        chance = random.Random(seed)
        site = f"site-{seed}"
        gateway = enrol(sqlite_store, "gw1", site=site)
        told = forms if seed == 0 else [*forms, *chance.sample(forms, 3)]
        if seed:
            chance.shuffle(told)
        position = BEGINNING
        while told:
            size = chance.randint(1, 4)
            batch, told = told[:size], told[size:]
            to = (position[0] + size, f"{chance.getrandbits(128):032x}")
            message = SyncRequest.model_validate(
                {
                    "v": 1,
                    "stream": f"{seed:032x}",
                    "from": position,
                    "to": to,
                    "lineage": [position, to],
                    "rows": [_at_site(row, seed) | {"mod_seq": to[0]} for row in batch],
                    "clock": EdgeVoice(gateway).clock(30),
                }
            )
            send(sqlite_store, gateway, message, 30)
            position = to
        rows = _tickets(sqlite_store, site)
        names = {_at_site(row, seed)["uid"]: row["uid"] for row in forms}
        found = {(d, condition, names.get(b), waits, n) for d, condition, b, waits, n in rows}
        expected = expected or found
        assert found == expected, f"seed {seed}"
    assert expected is not None
    assert {(device, because is not None) for device, _, because, _, _ in expected} == {
        ("gw1", False),
        ("scanner-01", False),
        ("scanner-02", True),
        ("scanner-03", True),
        ("scanner-04", True),
    }


def _tickets(store: Store, site: str) -> Sequence[Any]:
    t = tables.ticket.c
    wanted = select(t.device, t.condition, t.because, t.waits, t.returns).where(t.site == site)
    return store.read(lambda c: c.execute(wanted).all())


def _at_site(row: dict[str, Any], seed: int) -> dict[str, Any]:
    """The same row with ids of its own: a uid is of one gateway."""

    def own(uid: str) -> str:
        return f"{int(uid, 16) ^ seed:032x}"

    because = row.get("because")
    return row | {"uid": own(row["uid"])} | ({"because": own(because)} if because else {})
