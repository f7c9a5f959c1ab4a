from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from collector.tickets import (
    ALLOWED,
    COMMUTING,
    MINUTE_MS,
    SENTENCES,
    WORK,
    Ack,
    Acknowledge,
    Actor,
    Assign,
    Command,
    Condition,
    Facts,
    Note,
    Policy,
    Reason,
    Reopen,
    Resolve,
    Role,
    Start,
    Ticket,
    Trigger,
    Work,
    absorbed,
    decide,
    follow,
    opened,
    quiet,
    recurred,
    still_reported,
    word,
)

NOW = 100 * MINUTE_MS
POLICY = Policy()
TINA = Actor(name="tina", role=Role.TECHNICIAN, sites=frozenset({"north"}))
LEO = Actor(name="leo", role=Role.LEAD, sites=frozenset({"*"}))
COMMANDS: list[Command] = [
    Acknowledge(),
    Note(text="hot"),
    Start(),
    Resolve(),
    Assign(assignee="tom"),
    Reopen(),
]


def said(**changed: object) -> Facts:
    facts = Facts(
        condition=Condition.ACTIVE,
        severity=30,
        first_ms=10,
        last_ms=None,
        period_ms=10,
        returns=0,
        count=1,
        error_ms=5,
        title="Paper out",
        advice="Load paper.",
    )
    return replace(facts, **changed)  # type: ignore[arg-type]  # a table of tests


ENDED = said(condition=Condition.CLEARED, last_ms=50)


def blank() -> Ticket:
    return Ticket(
        id="1" * 32,
        number=7,
        site="north",
        dedupe_key="v1|north|p|m|f",
        device="p",
        place="hall",
        component="m",
        fault="f",
        title="",
        advice="",
        severity=0,
        condition=Condition.CLEARED,
        work=Work.NEW,
        first_ms=0,
        last_ms=None,
        period_ms=0,
        error_ms=0,
        returns=0,
        count=0,
        received_ms=60,
    )


def new() -> Ticket:
    return opened(blank(), said(), latest=True, now_ms=NOW).ticket


def resolved() -> Ticket:
    return _follow(new(), ENDED)[0]


def _follow(
    ticket: Ticket, facts: Facts, *, latest: bool = True, policy: Policy = POLICY
) -> tuple[Ticket, list[Reason]]:
    decision = follow(ticket, facts, latest=latest, now_ms=NOW, policy=policy)
    return decision.ticket, list(decision.reasons)


def _decide(
    ticket: Ticket, command: Command, actor: Actor = TINA, seen: int | None = -1, policy: Policy = POLICY
) -> tuple[Ticket, list[Reason], Reason | None]:
    version = ticket.version if seen == -1 else seen
    decision = decide(ticket, command, actor=actor, seen=version, now_ms=NOW, policy=policy)
    return decision.ticket, list(decision.reasons), decision.refused


def test_a_fault_opens_a_ticket_that_calls() -> None:
    decision = opened(blank(), said(), latest=True, now_ms=NOW)
    assert decision.reasons == (Reason.OPENED,)
    assert (decision.ticket.work, decision.ticket.ack, word(decision.ticket)) == (
        Work.NEW,
        Ack.UNACKED,
        "Unacknowledged",
    )


@pytest.mark.parametrize(("latest", "work"), [(True, Work.RESOLVED), (False, Work.CLOSED)])
def test_what_was_over_before_it_was_heard_of_is_history(latest: bool, work: Work) -> None:
    decision = opened(blank(), ENDED, latest=latest, now_ms=NOW)
    assert decision.reasons == (Reason.HISTORY,)
    assert (decision.ticket.work, decision.ticket.history, decision.ticket.resolved_ms) == (work, True, 50)


def test_the_same_news_again_changes_nothing() -> None:
    ticket = new()
    assert _follow(ticket, said()) == (ticket, [])


def test_a_fault_that_ends_resolves_its_ticket_dated_at_its_end() -> None:
    ticket, reasons = _follow(new(), ENDED)
    assert reasons == [Reason.CLEARED, Reason.RESOLVED_BY_ITSELF]
    assert (ticket.work, ticket.resolved_ms, ticket.resolved_by, word(ticket)) == (
        Work.RESOLVED,
        50,
        None,
        "Resolved",
    )


def test_with_the_policy_that_somebody_must_see_it_an_unseen_end_only_returns() -> None:
    strict = Policy(ack_needed=True)
    ticket, reasons = _follow(new(), ENDED, policy=strict)
    assert (reasons, ticket.work, word(ticket)) == ([Reason.CLEARED], Work.NEW, "Returned")
    ticket, reasons, refused = _decide(ticket, Acknowledge(), policy=strict)
    assert (reasons, refused) == ([Reason.ACKNOWLEDGED, Reason.RESOLVED_BY_ITSELF], None)
    assert ticket.work is Work.RESOLVED


@pytest.mark.parametrize("latest", [True, False])
def test_a_fault_that_returns_calls_again_and_is_the_same_ticket(latest: bool) -> None:
    acked = _decide(new(), Acknowledge())[0]
    over, _ = _follow(acked, ENDED)
    back, reasons = _follow(over, said(returns=1, period_ms=80, count=2))
    assert reasons == [Reason.RETURNED]
    assert (back.id, back.work, back.ack, back.resolved_ms) == (over.id, Work.NEW, Ack.UNACKED, None)


def test_end_and_return_in_one_message_are_the_same_as_in_two() -> None:
    acked = _decide(new(), Acknowledge())[0]
    both = said(returns=1, period_ms=80, count=2)
    at_once, _ = _follow(acked, both)
    one_by_one, _ = _follow(_follow(acked, ENDED)[0], both)
    assert (at_once.work, at_once.ack, at_once.condition) == (
        one_by_one.work,
        one_by_one.ack,
        one_by_one.condition,
    )


def test_a_fault_that_becomes_worse_calls_again() -> None:
    ticket = opened(blank(), said(severity=20), latest=True, now_ms=NOW).ticket
    acked = _decide(ticket, Acknowledge())[0]
    assert acked.ack is Ack.ACKED
    worse, reasons = _follow(acked, said(severity=30))
    assert (reasons, worse.ack) == ([Reason.WORSE], Ack.UNACKED)
    milder, reasons = _follow(_decide(worse, Acknowledge())[0], said(severity=10))
    assert (reasons, milder.ack, milder.severity) == ([], Ack.ACKED, 10)


def test_what_a_lead_resolved_while_it_was_reported_calls_again_when_it_becomes_worse() -> None:
    ticket = opened(blank(), said(severity=20), latest=True, now_ms=NOW).ticket
    done = _decide(ticket, Resolve(note="cosmetic", override=True), LEO)[0]
    assert (done.work, done.ack) == (Work.RESOLVED, Ack.ACKED)
    worse, reasons = _follow(done, said(severity=30))
    assert (reasons, worse.work, worse.ack) == ([Reason.WORSE], Work.NEW, Ack.UNACKED)
    assert (worse.resolved_by, worse.resolved_ms) == (None, None)


def test_what_a_lead_resolved_while_it_was_reported_calls_again_once_when_it_is_stale() -> None:
    given = _decide(new(), Assign(assignee="tom"), LEO)[0]
    done = _decide(given, Resolve(note="cosmetic", override=True), LEO)[0]
    stale_ms = NOW + POLICY.realarm_ms
    assert still_reported(done, now_ms=stale_ms - 1, policy=POLICY).ticket == done
    for unsure in (Condition.UNKNOWN, Condition.CLEARED):
        other = done._replace(condition=unsure)
        assert still_reported(other, now_ms=stale_ms, policy=POLICY).ticket == other
    decision = still_reported(done, now_ms=stale_ms, policy=POLICY)
    again = decision.ticket
    assert decision.reasons == (Reason.STILL_REPORTED,)
    assert (again.work, again.ack, again.resolved_by) == (Work.ASSIGNED, Ack.UNACKED, None)
    assert again.version > done.version
    assert still_reported(again, now_ms=2 * stale_ms, policy=POLICY).reasons == ()


def test_people_at_work_are_not_called_again_and_confirm_the_end_themselves() -> None:
    at_it = _decide(new(), Start())[0]
    assert (at_it.work, at_it.ack, at_it.assignee) == (Work.IN_PROGRESS, Ack.ACKED, "tina")
    over, reasons = _follow(at_it, ENDED)
    assert (reasons, over.work, word(over)) == ([Reason.CLEARED], Work.IN_PROGRESS, "Confirm fixed")
    back, reasons = _follow(over, said(returns=1, period_ms=80))
    assert (reasons, back.work, back.ack) == ([Reason.RETURNED], Work.IN_PROGRESS, Ack.ACKED)


def test_a_silent_gateway_makes_a_ticket_unknown_and_back_without_calling_again() -> None:
    acked = _decide(new(), Acknowledge())[0]
    lost, reasons = _follow(acked, said(condition=Condition.UNKNOWN))
    assert (reasons, word(lost), lost.work) == ([Reason.LOST], "Unknown", Work.NEW)
    back, reasons = _follow(lost, said())
    assert (reasons, back.ack, word(back)) == ([Reason.KNOWN_AGAIN], Ack.ACKED, "Acknowledged")


def test_a_newer_ticket_of_its_key_closes_it() -> None:
    closed, reasons = _follow(new(), ENDED, latest=False)
    assert reasons == [Reason.CLEARED, Reason.RESOLVED_BY_ITSELF, Reason.RECURRED]
    assert (closed.work, closed.closed_ms) == (Work.CLOSED, NOW)
    assert recurred(resolved(), now_ms=NOW).ticket.work is Work.CLOSED


def test_late_news_inside_a_closed_ticket_is_added_and_closed_stays_final() -> None:
    closed = recurred(resolved(), now_ms=NOW).ticket
    added, reasons = _follow(closed, replace(ENDED, count=2, returns=1), latest=False)
    assert reasons == [Reason.EXTENDED]
    assert (added.work, added.closed_ms, added.count) == (Work.CLOSED, NOW, 2)


def test_what_was_merged_away_can_stand_alone_again() -> None:
    gone = absorbed(resolved(), "2" * 32, now_ms=NOW).ticket
    assert (word(gone), gone.merged_into, gone.work) == ("Merged", "2" * 32, Work.CLOSED)
    back, reasons = _follow(gone, said(returns=1, period_ms=80))
    assert (back.merged_into, back.closed_ms, back.work, reasons) == (None, None, Work.NEW, [Reason.RETURNED])


@pytest.mark.parametrize(
    ("what", "ticket", "now_ms", "closes"),
    [
        ("long enough", resolved(), 50 + POLICY.quiet_ms, True),
        ("not yet", resolved(), 49 + POLICY.quiet_ms, False),
        ("still active", new(), 1 << 50, False),
        ("a lead said so while it was active", new()._replace(work=Work.RESOLVED), 1 << 50, False),
        ("people confirmed late", resolved()._replace(resolved_ms=99), 98 + POLICY.quiet_ms, False),
        ("closed before", recurred(resolved(), now_ms=1).ticket, 1 << 50, False),
    ],
)
def test_quiet_closes_only_what_is_resolved_and_over(
    what: str, ticket: Ticket, now_ms: int, closes: bool
) -> None:
    decision = quiet(ticket, now_ms=now_ms, policy=POLICY)
    assert decision.reasons == ((Reason.QUIET,) if closes else ()), what
    assert (decision.ticket.work is Work.CLOSED and decision.ticket != ticket) is closes


def test_no_version_is_given_twice() -> None:
    """Not by a database that was restored from a backup either: each is at least the moment of its change."""
    ticket = new()
    assert (ticket.version, ticket.alarm_version) == (NOW, NOW)
    returned = follow(resolved(), said(returns=1, period_ms=50), latest=True, now_ms=NOW + 500, policy=POLICY)
    assert (returned.ticket.version, returned.ticket.alarm_version) == (NOW + 500, NOW + 500)
    # In one moment, or when the clock went back.
    for now_ms in (NOW, NOW - 500):
        ended = follow(ticket, ENDED, latest=True, now_ms=now_ms, policy=POLICY)
        assert ended.ticket.version == NOW + 1


# --- people ----------------------------------------------------------------------------------------


def test_an_acknowledgement_covers_only_what_was_seen() -> None:
    ticket = opened(blank(), said(severity=20), latest=True, now_ms=NOW).ticket
    worse, _ = _follow(ticket, said(severity=30))
    late, reasons, refused = _decide(worse, Acknowledge(given_ms=5), seen=ticket.version)
    assert (reasons, refused, late.ack) == ([Reason.ACKNOWLEDGED], Reason.SEEN_LESS, Ack.UNACKED)
    seen, reasons, refused = _decide(late, Acknowledge())
    assert (refused, seen.ack, seen.acked_by, seen.acked_ms) == (None, Ack.ACKED, "tina", NOW)


def test_an_acknowledgement_given_offline_is_dated_when_it_was_given_never_in_the_future() -> None:
    assert _decide(new(), Acknowledge(given_ms=NOW - 5))[0].acked_ms == NOW - 5
    assert _decide(new(), Acknowledge(given_ms=NOW + 5))[0].acked_ms == NOW


def test_nobody_acknowledges_a_fault_before_it_was_known() -> None:
    assert _decide(new(), Acknowledge(given_ms=5))[0].acked_ms == blank().received_ms


def test_an_acknowledgement_given_offline_covers_what_was_known_then() -> None:
    """Whoever does not say which version was seen says at least when that was."""
    back = follow(
        resolved(), said(returns=1, period_ms=80), latest=True, now_ms=NOW + MINUTE_MS, policy=POLICY
    ).ticket
    early, reasons, refused = _decide(back, Acknowledge(given_ms=NOW + 1), seen=None)
    assert (early, reasons, refused) == (back, [Reason.ACKNOWLEDGED], Reason.SEEN_LESS)
    late, _, refused = _decide(back, Acknowledge(given_ms=NOW + MINUTE_MS), seen=None)
    assert (late.ack, late.acked_by, refused) == (Ack.ACKED, "tina", None)


def test_the_first_to_acknowledge_is_named_and_a_second_one_changes_nothing() -> None:
    first = _decide(new(), Acknowledge())[0]
    second, reasons, refused = _decide(first, Acknowledge(), LEO)
    assert (second, reasons, refused) == (first, [Reason.ACKNOWLEDGED], None)


def test_an_acknowledgement_closes_nothing() -> None:
    acked = _decide(new(), Acknowledge())[0]
    assert (acked.work, acked.condition, acked.closed_ms) == (Work.NEW, Condition.ACTIVE, None)


@pytest.mark.parametrize(
    ("what", "ticket", "command", "actor", "refused"),
    [
        ("a technician, still reported", new(), Resolve(), TINA, Reason.STILL_ACTIVE),
        ("a technician overrides", new(), Resolve(note="x", override=True), TINA, Reason.STILL_ACTIVE),
        ("a lead does not override", new(), Resolve(note="x"), LEO, Reason.STILL_ACTIVE),
        ("a lead without a reason", new(), Resolve(override=True, note=" "), LEO, Reason.REASON_NEEDED),
        ("a lead with a reason", new(), Resolve(override=True, note="sensor"), LEO, None),
        ("unknown", new()._replace(condition=Condition.UNKNOWN), Resolve(), TINA, Reason.STILL_ACTIVE),
        ("twice", resolved(), Resolve(), TINA, Reason.ALREADY_RESOLVED),
        ("cleared and in hand", resolved()._replace(work=Work.IN_PROGRESS), Resolve(), TINA, None),
    ],
)  # fmt: skip
def test_only_a_cleared_fault_is_resolved_but_by_a_lead_with_a_reason(
    what: str, ticket: Ticket, command: Resolve, actor: Actor, refused: Reason | None
) -> None:
    after, _, why = _decide(ticket, command, actor)
    assert why is refused, what
    assert (after.work is Work.RESOLVED) is (refused in (None, Reason.ALREADY_RESOLVED))


def test_a_fault_that_returns_after_a_person_resolved_it_calls_again() -> None:
    in_hand = _decide(new(), Start())[0]._replace(condition=Condition.CLEARED, last_ms=50)
    fixed = _decide(in_hand, Resolve(note="new roller"))[0]
    assert (fixed.resolved_by, fixed.ack, fixed.worked_until_ms) == ("tina", Ack.ACKED, NOW)
    back, reasons = _follow(fixed, said(returns=1, period_ms=80))
    assert (reasons, back.work, back.ack) == ([Reason.RETURNED], Work.ASSIGNED, Ack.UNACKED)


@pytest.mark.parametrize("command", [Resolve(), Assign(assignee="tom"), Reopen()])
def test_what_does_not_commute_needs_the_version_that_is_now(command: Command) -> None:
    ticket = resolved()
    assert _decide(ticket, command, LEO, seen=None)[2] is Reason.VERSION_NEEDED
    assert _decide(ticket, command, LEO, seen=ticket.version - 1)[2] is Reason.CHANGED


@pytest.mark.parametrize(
    ("what", "ticket"),
    [
        ("is at it", _decide(new(), Start())[0]),
        ("was given it", _decide(new(), Assign(assignee="tina"), LEO)[0]),
    ],
)
def test_nobody_takes_a_ticket_from_somebody_without_having_seen_that(what: str, ticket: Ticket) -> None:
    for seen, why in ((None, Reason.VERSION_NEEDED), (ticket.version - 1, Reason.CHANGED)):
        assert _decide(ticket, Start(), LEO, seen=seen) == (ticket, [], why), what
        after, reasons, refused = _decide(ticket, Start(), TINA, seen=seen)
        assert (after.assignee, after.work) == ("tina", Work.IN_PROGRESS)
        assert (reasons, refused) == ([Reason.STARTED], None)
    taken, _, refused = _decide(ticket, Start(), LEO)
    assert (taken.assignee, taken.work, refused) == ("leo", Work.IN_PROGRESS, None)


def test_closed_is_final_but_notes_and_acknowledgements_are_kept() -> None:
    closed = recurred(resolved(), now_ms=NOW).ticket
    for command in COMMANDS:
        after, reasons, refused = _decide(closed, command, LEO)
        assert (after.work, after.closed_ms) == (Work.CLOSED, NOW)
        if isinstance(command, Acknowledge | Note):
            assert (bool(reasons), refused) == (True, None)
        else:
            assert (reasons, refused) == ([], Reason.CLOSED_IS_FINAL)


@pytest.mark.parametrize(("role", "command"), list(itertools.product(Role, COMMANDS)))
def test_nobody_commands_what_their_role_is_not_allowed(role: Role, command: Command) -> None:
    actor = Actor(name="x", role=role, sites=frozenset({"*"}))
    refused = _decide(new(), command, actor)[2]
    assert (refused is Reason.NOT_ALLOWED) is (role not in ALLOWED[type(command)])
    if role in (Role.READ, Role.INSTALLER, Role.ADMIN):
        assert refused is Reason.NOT_ALLOWED


def test_a_lead_assigns_and_reopens() -> None:
    given, reasons, _ = _decide(new(), Assign(assignee="tom"), LEO)
    assert (reasons, given.work, given.assignee) == ([Reason.ASSIGNED], Work.ASSIGNED, "tom")
    over, _ = _follow(given, ENDED)
    again, reasons, _ = _decide(over, Reopen(note="still smells"), LEO)
    assert (reasons, again.work, again.ack) == ([Reason.REOPENED], Work.ASSIGNED, Ack.UNACKED)
    # News that says nothing new leaves it open.
    assert _follow(again, ENDED) == (again, [])


def test_what_a_lead_reopened_waits_for_a_person() -> None:
    """Whatever machines say, and whoever has only seen it."""
    again = _decide(resolved(), Reopen(note="still smells"), LEO)[0]
    assert (again.work, word(again)) == (Work.NEW, "Reopened")
    acked, reasons, _ = _decide(again, Acknowledge())
    assert (reasons, acked.work, word(acked)) == ([Reason.ACKNOWLEDGED], Work.NEW, "Reopened")
    back, reasons = _follow(acked, said(returns=1, period_ms=80))
    assert (reasons, back.work, back.ack) == ([Reason.RETURNED], Work.NEW, Ack.UNACKED)
    over, reasons = _follow(back, replace(ENDED, returns=1, period_ms=80))
    assert (reasons, over.work, word(over)) == ([Reason.CLEARED], Work.NEW, "Reopened")
    assert quiet(over, now_ms=1 << 50, policy=POLICY).ticket == over
    fixed = _decide(over, Resolve(note="new belt"))[0]
    assert (fixed.work, fixed.worked_until_ms, word(fixed)) == (Work.RESOLVED, NOW, "Resolved")


def test_every_work_state_can_end_close_and_be_left_but_closed() -> None:
    for state in Work:
        assert (state, Trigger.CLOSE) in WORK
        assert (state, Trigger.END) in WORK
        leaves = {to for (here, _), to in WORK.items() if here is state} - {state}
        assert bool(leaves) is (state is not Work.CLOSED)


def test_every_reason_has_a_sentence_and_every_command_a_rule() -> None:
    assert set(SENTENCES) == set(Reason)
    assert set(ALLOWED) == {type(command) for command in COMMANDS} >= set(COMMUTING)
    assert all(reason.sentence.endswith(".") for reason in Reason)


@pytest.mark.parametrize(("condition", "work", "seen"), list(itertools.product(Condition, Work, (0, 1))))
def test_every_combination_of_axes_has_a_word(condition: Condition, work: Work, seen: int) -> None:
    closed_ms = NOW if work is Work.CLOSED else None
    ticket = new()._replace(condition=condition, work=work, ack_seen=seen, closed_ms=closed_ms)
    assert word(ticket)
