from __future__ import annotations

from typing import Any

import pytest
from rigs.edge_voice import MINUTE_MS, MONDAY_MS, EdgeVoice, enrol
from sqlalchemy import select

from collector.command import Actor, Outcome, Result, carry_out
from collector.store import Store, people, tables
from collector.store import tickets as ticket_store
from collector.tickets import (
    Ack,
    Acknowledge,
    Assign,
    Command,
    Note,
    Reason,
    Reopen,
    Resolve,
    Role,
    Start,
    Work,
)

# Tina works at the site, Leo leads it, Otto works at another one.
TINA = Actor(name="tina", role=Role.TECHNICIAN, sites=frozenset({"north"}))
LEO = Actor(name="leo", role=Role.LEAD, sites=frozenset({"*"}))
OTTO = Actor(name="otto", role=Role.LEAD, sites=frozenset({"south"}))


@pytest.fixture
def edge(store: Store) -> EdgeVoice:
    edge = EdgeVoice(enrol(store))
    edge.raises(0)
    edge.sync(store, 0.1)
    return edge


def carried(
    store: Store, edge: EdgeVoice, command: Command, actor: Actor = TINA, minute: float = 1, **how: Any
) -> Outcome:
    uid = next(iter(edge.rows))
    options = {"idempotency_key": None, "if_match": None} | how
    now_ms = MONDAY_MS + int(minute * MINUTE_MS)
    return store.write(
        lambda connection: carry_out(connection, actor, uid, command, now_ms=now_ms, **options)
    )


def seen(store: Store, edge: EdgeVoice) -> int:
    """The version that a page shows now."""
    uid = next(iter(edge.rows))
    told = store.read(lambda connection: ticket_store.detail(connection, uid))
    assert told is not None
    return told.ticket.version


def add_person(store: Store, name: str, *sites: str, role: Role = Role.TECHNICIAN) -> None:
    store.write(
        lambda connection: people.add_person(
            connection, name=name, password_hash="", role=role, sites=sites, now_ms=MONDAY_MS
        )
    )


def audited(store: Store) -> list[Any]:
    return list(
        store.read(
            lambda connection: connection.execute(select(tables.audit).order_by(tables.audit.c.id)).all()
        )
    )


def history(store: Store, edge: EdgeVoice) -> list[tuple[str, str, str]]:
    uid = next(iter(edge.rows))
    told = store.read(lambda connection: ticket_store.detail(connection, uid))
    assert told is not None
    return [(entry.reason, entry.actor, entry.text) for entry in told.history]


def test_one_tap_acknowledges_with_history_and_audit(store: Store, edge: EdgeVoice) -> None:
    before = seen(store, edge)
    outcome = carried(store, edge, Acknowledge(), if_match=before)
    assert (outcome.result, outcome.reason) == (Result.APPLIED, Reason.ACKNOWLEDGED)
    assert outcome.ticket is not None
    assert (outcome.ticket.ack, outcome.ticket.acked_by) == (Ack.ACKED, "tina")
    assert outcome.ticket.version > before
    assert history(store, edge)[-1] == ("acknowledged", "tina", "")
    (entry,) = audited(store)
    assert (entry.actor, entry.action, entry.site) == ("tina", "ticket.acknowledge", "north")
    assert entry.detail == {"result": "applied", "reason": "acknowledged"}


def test_a_command_that_is_sent_twice_takes_effect_once(store: Store, edge: EdgeVoice) -> None:
    given_ms = MONDAY_MS + 40_000
    how = {"idempotency_key": "k1", "if_match": seen(store, edge)}
    first = carried(store, edge, Acknowledge(given_ms=given_ms), **how)
    again = carried(store, edge, Acknowledge(given_ms=given_ms), minute=9, **how)
    assert again == first
    assert first.ticket is not None
    assert first.ticket.acked_ms == given_ms
    assert len(history(store, edge)) == 2
    assert len(audited(store)) == 1


def test_what_was_refused_may_be_asked_again_under_its_key(store: Store, edge: EdgeVoice) -> None:
    add_person(store, "tom", "north")
    given, how = Assign(assignee="tom"), {"idempotency_key": "k1"}
    stale = seen(store, edge)
    carried(store, edge, Acknowledge())
    for _ in range(2):
        assert carried(store, edge, given, LEO, if_match=stale, **how).result is Result.CONFLICT
    now = seen(store, edge)
    first = carried(store, edge, given, LEO, if_match=now, **how)
    assert (first.result, first.reason) == (Result.APPLIED, Reason.ASSIGNED)
    assert carried(store, edge, given, LEO, if_match=now, **how) == first
    assert carried(store, edge, given, LEO, if_match=stale, **how) == first
    assert [entry.detail["result"] for entry in audited(store)] == [
        "applied", "conflict", "conflict", "applied",
    ]  # fmt: skip


def test_one_key_is_not_two_commands_and_people_do_not_share_keys(store: Store, edge: EdgeVoice) -> None:
    carried(store, edge, Note(text="hot"), idempotency_key="k1")
    reused = carried(store, edge, Note(text="cold"), idempotency_key="k1")
    assert (reused.result, reused.reason) == (Result.REFUSED, Reason.KEY_REUSED)
    assert carried(store, edge, Note(text="cold"), LEO, idempotency_key="k1").result is Result.APPLIED


def test_an_acknowledgement_of_less_than_there_is_now_is_merged(store: Store, edge: EdgeVoice) -> None:
    uid, before = next(iter(edge.rows)), seen(store, edge)
    edge.clears(uid, 1)
    edge.sync(store, 1.1)
    edge.raises(3)
    edge.sync(store, 3.1)
    outcome = carried(store, edge, Acknowledge(given_ms=MONDAY_MS + 30_000), minute=5, if_match=before)
    assert (outcome.result, outcome.reason) == (Result.MERGED, Reason.SEEN_LESS)
    assert outcome.ticket is not None
    assert outcome.ticket.ack is Ack.UNACKED
    assert history(store, edge)[-1][:2] == ("acknowledged", "tina")


def test_an_acknowledgement_of_before_a_restore_does_not_cover_a_return_that_nobody_saw(
    store: Store, edge: EdgeVoice
) -> None:
    """What the backup had forgotten is told anew in one message: one change of the ticket in place of two."""
    uid = next(iter(edge.rows))
    # On the page: the fault had ended and was there again. Then the database was put back.
    page = seen(store, edge) + 2
    edge.clears(uid, 1)
    edge.clears(edge.raises(1.5), 2)
    edge.raises(3)
    edge.sync(store, 3.1)
    outcome = carried(store, edge, Acknowledge(), minute=5, if_match=page)
    assert (outcome.result, outcome.reason) == (Result.MERGED, Reason.SEEN_LESS)


def test_a_version_that_is_not_the_newest_conflicts_and_shows_what_is_now(
    store: Store, edge: EdgeVoice
) -> None:
    add_person(store, "tom", "north")
    before = seen(store, edge)
    carried(store, edge, Start())
    now = seen(store, edge)
    outcome = carried(store, edge, Assign(assignee="tom"), LEO, if_match=before)
    assert (outcome.result, outcome.reason) == (Result.CONFLICT, Reason.CHANGED)
    assert outcome.ticket is not None
    assert (outcome.ticket.version, outcome.ticket.work) == (now, Work.IN_PROGRESS)
    assert carried(store, edge, Assign(assignee="tom"), LEO, if_match=now).result is Result.APPLIED


def test_a_ticket_is_given_only_to_somebody_who_can_see_it_and_begin_it(
    store: Store, edge: EdgeVoice
) -> None:
    add_person(store, "sam", "south")
    add_person(store, "ida", "north", role=Role.INSTALLER)
    add_person(store, "ada", "*", role=Role.ADMIN)
    before = seen(store, edge)
    for name in ("nobody", "sam", "ida", "ada"):
        outcome = carried(store, edge, Assign(assignee=name), LEO, if_match=before)
        assert (outcome.result, outcome.reason) == (Result.REFUSED, Reason.NO_SUCH_PERSON)
        assert outcome.ticket is not None
        assert (outcome.ticket.assignee, outcome.ticket.version) == (None, before)
    add_person(store, "sam", "*")
    assert carried(store, edge, Assign(assignee="sam"), LEO, if_match=before).result is Result.APPLIED


def test_keys_of_long_ago_are_forgotten_when_their_actor_commands_again(
    store: Store, edge: EdgeVoice
) -> None:
    def keys() -> list[str]:
        return list(store.read(lambda connection: connection.execute(select(tables.command.c.key)).scalars()))

    day = 24 * 60
    carried(store, edge, Note(text="one"), minute=1, idempotency_key="one-of-tina")
    carried(store, edge, Note(text="one"), LEO, minute=1, idempotency_key="one-of-leo")
    carried(store, edge, Note(text="two"), minute=80 * day, idempotency_key="two-of-tina")
    assert len(keys()) == 3
    carried(store, edge, Note(text="three"), minute=91 * day, idempotency_key="three-of-tina")
    assert sorted(keys()) == ["one-of-leo", "three-of-tina", "two-of-tina"]


def test_work_from_start_to_confirmed_end(store: Store, edge: EdgeVoice) -> None:
    carried(store, edge, Start())
    refused = carried(store, edge, Resolve(), if_match=seen(store, edge))
    assert (refused.result, refused.reason) == (Result.REFUSED, Reason.STILL_ACTIVE)
    edge.clears(next(iter(edge.rows)), 3)
    edge.sync(store, 3.1)
    done = carried(store, edge, Resolve(note="new ribbon"), minute=4, if_match=seen(store, edge))
    assert done.ticket is not None
    assert (done.result, done.ticket.work, done.ticket.resolved_by) == (Result.APPLIED, Work.RESOLVED, "tina")
    assert history(store, edge)[-1] == ("resolved", "tina", "new ribbon")
    assert [entry.detail["result"] for entry in audited(store)] == ["applied", "refused", "applied"]


def test_nobody_sees_or_touches_a_ticket_of_another_site(store: Store, edge: EdgeVoice) -> None:
    outcome = carried(store, edge, Note(text="hello"), OTTO)
    assert (outcome.result, outcome.ticket) == (Result.NOT_FOUND, None)
    assert len(history(store, edge)) == 1


def test_a_note_may_say_anything(store: Store, edge: EdgeVoice) -> None:
    carried(store, edge, Note(text="<b>\0'; DROP TABLE ticket;--"))
    assert history(store, edge)[-1] == ("noted", "tina", "<b>\ufffd'; DROP TABLE ticket;--")


def test_a_fault_that_returns_while_people_are_at_it_is_their_ticket_also_after_a_long_gap(
    store: Store, edge: EdgeVoice
) -> None:
    carried(store, edge, Start())
    uid = next(iter(edge.rows))
    edge.clears(uid, 3)
    edge.sync(store, 3.1)
    edge.raises(45)
    edge.sync(store, 45.1)
    told = store.read(lambda connection: ticket_store.detail(connection, uid))
    assert told is not None
    assert (told.ticket.work, told.ticket.returns) == (Work.IN_PROGRESS, 1)


@pytest.mark.parametrize("at_once", [False, True])
def test_a_fault_that_returns_to_a_reopened_ticket_is_the_same_ticket_whenever_it_does(
    store: Store, edge: EdgeVoice, at_once: bool
) -> None:
    """And it says so in however many messages it comes: ``at_once``, in one."""
    add_person(store, "tina", "north")
    uid = next(iter(edge.rows))
    edge.clears(uid, 2)
    edge.sync(store, 2.1)
    assert carried(store, edge, Reopen(note="still smells"), LEO, 3, if_match=seen(store, edge)).ticket
    given = carried(store, edge, Assign(assignee="tina"), LEO, 4, if_match=seen(store, edge))
    assert given.result is Result.APPLIED
    for begins, ends in ((17, 18), (45, 46)):
        again = edge.raises(begins)
        if not at_once:
            edge.sync(store, begins + 0.1)
        edge.clears(again, ends)
        if not at_once:
            edge.sync(store, ends + 0.1)
    edge.raises(70)
    edge.sync(store, 70.1)
    tickets = store.read(lambda c: c.execute(select(tables.ticket)).mappings().all())
    (ticket,) = [one for one in tickets if one["device"] == "printer-1"]
    assert (ticket["id"], ticket["returns"], ticket["condition"]) == (uid, 3, "active")
    assert (ticket["work"], ticket["assignee"]) == ("assigned", "tina")
    assert history(store, edge)[-1][0] == "returned"
