"""What becomes of a ticket: axes, transitions, reasons; from what its occurrences say and from what people
command.

Four axes, never one status (ISA-18.2 and OPC UA Part 9 keep them apart too): *condition* is said by machines
alone, *ack* and *work* by people (work also resolves by itself), *hidden* is a set. The word on a screen is
derived by ``word``.

Machines speak through ``Facts``, the fold of all occurrences that are linked to the ticket, not through
single messages. ``follow`` compares them with what the ticket said before, so duplicates and batching cannot
matter.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

MINUTE_MS = 60_000
# A fault that returns within this time (occurred-at) is the same ticket.
REOPEN_WINDOW_MS = 10 * MINUTE_MS
# A resolved ticket that stays quiet so long is closed.
QUIET_MS = 30 * MINUTE_MS
# A ticket that opens within this time after another one of its key ended is linked to it.
RECURS_MS = 24 * 60 * MINUTE_MS
# What was resolved while it was reported, and still is, calls again after this time: an alarm that stands for
# so long is stale (ISA-18.2).
REALARM_MS = 24 * 60 * MINUTE_MS
# In the place of a moment that has not come.
FOREVER_MS = 1 << 62
# In the place of a list of sites.
EVERY_SITE = "*"


class Condition(StrEnum):
    ACTIVE = "active"
    CLEARED = "cleared"
    UNKNOWN = "unknown"


class Work(StrEnum):
    NEW = "new"
    ASSIGNED = "assigned"
    IN_PROGRESS = "in_progress"
    ON_HOLD = "on_hold"
    RESOLVED = "resolved"
    CLOSED = "closed"


class Ack(StrEnum):
    UNACKED = "unacked"
    ACKED = "acked"


class Role(StrEnum):
    """What a person or token may do; ``READ`` is for tokens."""

    READ = "read"
    TECHNICIAN = "technician"
    LEAD = "lead"
    INSTALLER = "installer"
    ADMIN = "admin"


class Reason(StrEnum):
    """Why a ticket changed, or did not. The value is the log field, the metric label and the name in the
    history.
    """

    OPENED = "opened"
    HISTORY = "history"
    RETURNED = "returned"
    WORSE = "worse"
    CLEARED = "cleared"
    LOST = "lost"
    KNOWN_AGAIN = "known_again"
    EXTENDED = "extended"
    EXPLAINED = "explained"
    STANDS_ALONE = "stands_alone"
    OUT_OF_SERVICE = "out_of_service"
    BACK_IN_SERVICE = "back_in_service"
    RESOLVED_BY_ITSELF = "resolved_by_itself"
    RECURRED = "recurred"
    QUIET = "quiet"
    MERGED = "merged"
    ACKNOWLEDGED = "acknowledged"
    NOTED = "noted"
    STARTED = "started"
    ASSIGNED = "assigned"
    RESOLVED = "resolved"
    OVERRIDDEN = "overridden"
    REOPENED = "reopened"
    STILL_REPORTED = "still_reported"
    # Refusals.
    NOT_FOUND = "not_found"
    NOT_ALLOWED = "not_allowed"
    CHANGED = "changed"
    VERSION_NEEDED = "version_needed"
    STILL_ACTIVE = "still_active"
    REASON_NEEDED = "reason_needed"
    CLOSED_IS_FINAL = "closed_is_final"
    NOT_RESOLVED = "not_resolved"
    ALREADY_RESOLVED = "already_resolved"
    SEEN_LESS = "seen_less"
    KEY_REUSED = "key_reused"
    NO_SUCH_PERSON = "no_such_person"
    NO_SUCH_DEVICE = "no_such_device"
    IN_SERVICE = "in_service"
    END_IS_PAST = "end_is_past"
    SERVICE_CHANGED = "service_changed"

    @property
    def sentence(self) -> str:
        return SENTENCES[self]


SENTENCES = {
    Reason.OPENED: "The fault began.",
    Reason.HISTORY: "The fault had already ended when it was reported. Nobody was called.",
    Reason.RETURNED: "The fault came back.",
    Reason.WORSE: "The fault became more severe.",
    Reason.CLEARED: "The fault ended.",
    Reason.LOST: "The gateway went silent. Nobody knows whether the fault is still there.",
    Reason.KNOWN_AGAIN: "The gateway is back and says that the fault is still there.",
    Reason.EXTENDED: "Late news was added.",
    Reason.EXPLAINED: "Another fault explains this one. Nobody is called for it.",
    Reason.STANDS_ALONE: "No other fault explains this one any more.",
    Reason.OUT_OF_SERVICE: "The device was taken out of service. Nobody is called.",
    Reason.BACK_IN_SERVICE: "The device is back in service.",
    Reason.RESOLVED_BY_ITSELF: "Resolved by itself, because the fault ended.",
    Reason.RECURRED: "Closed, because the fault came back later and got a new ticket.",
    Reason.QUIET: "Closed after a quiet time.",
    Reason.MERGED: "Closed, because late news showed that this and another ticket are one fault.",
    Reason.ACKNOWLEDGED: "Acknowledged.",
    Reason.NOTED: "Note added.",
    Reason.STARTED: "Work started.",
    Reason.ASSIGNED: "Assigned.",
    Reason.RESOLVED: "Resolved.",
    Reason.OVERRIDDEN: "Resolved although the fault is still reported.",
    Reason.REOPENED: "Reopened.",
    Reason.STILL_REPORTED: "Resolved long ago, and still reported.",
    Reason.NOT_FOUND: "There is no such ticket.",
    Reason.NOT_ALLOWED: "Your role may not do this.",
    Reason.CHANGED: "The ticket has changed since you looked.",
    Reason.VERSION_NEEDED: "Say which version of the ticket you saw.",
    Reason.STILL_ACTIVE: "The fault is still reported. Only a lead may resolve it now, with a reason.",
    Reason.REASON_NEEDED: "A reason is needed.",
    Reason.CLOSED_IS_FINAL: "The ticket is closed. A new fault gets a new ticket.",
    Reason.NOT_RESOLVED: "The ticket is not resolved.",
    Reason.ALREADY_RESOLVED: "The ticket is already resolved.",
    Reason.SEEN_LESS: "Kept, but the fault has come back or become worse since you looked.",
    Reason.KEY_REUSED: "This idempotency key was used for another command.",
    Reason.NO_SUCH_PERSON: "Nobody of that name works on tickets at this site.",
    Reason.NO_SUCH_DEVICE: "There is no such device, or it is at a site that is not yours.",
    Reason.IN_SERVICE: "The device is in service.",
    Reason.END_IS_PAST: "The end has to lie ahead, and before the year 9999.",
    Reason.SERVICE_CHANGED: "Somebody took the device out of service, or brought it back, since you looked.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """A person, or a token that acts for one."""

    name: str
    role: Role
    # Names of sites, or EVERY_SITE.
    sites: frozenset[str]

    def may_see(self, site: str) -> bool:
        return may_see(self.sites, site)


def may_see(sites: Collection[str], site: str) -> bool:
    return EVERY_SITE in sites or site in sites


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The same for every site by now."""

    # When true, a fault that ended unseen stays open until somebody has acknowledged it.
    ack_needed: bool = False
    reopen_window_ms: int = REOPEN_WINDOW_MS
    quiet_ms: int = QUIET_MS
    realarm_ms: int = REALARM_MS


class Ticket(NamedTuple):
    """The facts of one ticket; a row of the table of that name. A tuple, for each row of a sync makes some of
    them out of others: that takes an eighth of the time. To be made by keywords alone.
    """

    id: str
    number: int
    site: str
    dedupe_key: str
    device: str
    place: str
    component: str
    fault: str
    title: str
    advice: str
    severity: int
    condition: Condition
    work: Work
    first_ms: int
    last_ms: int | None
    period_ms: int
    error_ms: int
    returns: int
    count: int  # type: ignore[assignment]  # the word of the wire; nobody counts in this tuple
    received_ms: int
    version: int = 1
    alarm_version: int = 1
    ack_seen: int = 0
    acked_by: str | None = None
    acked_ms: int | None = None
    assignee: str | None = None
    resolved_ms: int | None = None
    resolved_by: str | None = None
    worked_until_ms: int | None = None
    closed_ms: int | None = None
    history: bool = False
    recurs_of: str | None = None
    merged_into: str | None = None
    # The uid of the occurrence that explains it; that it may be explained yet.
    because: str | None = None
    waits: bool = False

    @property
    def is_suppressed(self) -> bool:
        return self.because is not None or self.waits

    @property
    def ack(self) -> Ack:
        return Ack.ACKED if self.ack_seen >= self.alarm_version else Ack.UNACKED

    @property
    def is_reopened(self) -> bool:
        """A person said that it is not fixed: it waits until one says that it is, whatever machines say."""
        return self.worked_until_ms == FOREVER_MS

    @property
    def detection_delay_ms(self) -> int:
        """From when it occurred to when it was known here."""
        return max(0, self.received_ms - self.first_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The fold of the occurrences of one ticket (``grouping.facts``)."""

    condition: Condition
    severity: int
    first_ms: int
    last_ms: int | None
    # When the newest active period began, and how many there were before it.
    period_ms: int
    returns: int
    count: int
    error_ms: int
    title: str
    advice: str
    # Something else explains all of it that counts now; or may do so yet.
    because: str | None = None
    waits: bool = False


# --- commands -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledge:
    """I have seen it. Covers what was seen, closes nothing; ``given_ms`` dates one that was given offline:
    without a version it covers what was known here then.
    """

    given_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """I am at it. To take it from somebody the version is needed in which that was seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolve:
    """It is fixed. While the fault is still reported only a lead may say so, with a reason in ``note``."""

    note: str = ""
    override: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Assign:
    assignee: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reopen:
    note: str = ""


Command = Acknowledge | Note | Start | Resolve | Assign | Reopen

_HANDS_ON = frozenset({Role.TECHNICIAN, Role.LEAD})
_LEADS = frozenset({Role.LEAD})
# Who may give which command. Deny by default.
ALLOWED: dict[type[Command], frozenset[Role]] = {
    Acknowledge: _HANDS_ON,
    Note: _HANDS_ON,
    Start: _HANDS_ON,
    Resolve: _HANDS_ON,
    Assign: _LEADS,
    Reopen: _LEADS,
}
# These commute: they merge into whatever the ticket has become, and need no version; but for a start that
# takes the ticket from somebody.
COMMUTING: tuple[type[Command], ...] = (Acknowledge, Note, Start)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """``ticket`` is unchanged when nothing changed; ``reasons`` go to its history in this order."""

    ticket: Ticket
    reasons: tuple[Reason, ...] = ()
    refused: Reason | None = None
    text: str = ""


# --- transitions --------------------------------------------------------------------------------------------


class Trigger(StrEnum):
    END = "end"
    RETURN = "return"
    START = "start"
    ASSIGN = "assign"
    RESOLVE = "resolve"
    REOPEN = "reopen"
    CLOSE = "close"


# The whole life of the work axis. What is not here cannot happen.
WORK: dict[tuple[Work, Trigger], Work] = {
    (Work.NEW, Trigger.END): Work.RESOLVED,
    (Work.NEW, Trigger.RETURN): Work.NEW,
    (Work.NEW, Trigger.START): Work.IN_PROGRESS,
    (Work.NEW, Trigger.ASSIGN): Work.ASSIGNED,
    (Work.NEW, Trigger.RESOLVE): Work.RESOLVED,
    (Work.NEW, Trigger.CLOSE): Work.CLOSED,
    (Work.ASSIGNED, Trigger.END): Work.RESOLVED,
    (Work.ASSIGNED, Trigger.RETURN): Work.ASSIGNED,
    (Work.ASSIGNED, Trigger.START): Work.IN_PROGRESS,
    (Work.ASSIGNED, Trigger.ASSIGN): Work.ASSIGNED,
    (Work.ASSIGNED, Trigger.RESOLVE): Work.RESOLVED,
    (Work.ASSIGNED, Trigger.CLOSE): Work.CLOSED,
    # People are at it: the end of the fault asks them to confirm, it does not take the work away.
    (Work.IN_PROGRESS, Trigger.END): Work.IN_PROGRESS,
    (Work.IN_PROGRESS, Trigger.RETURN): Work.IN_PROGRESS,
    (Work.IN_PROGRESS, Trigger.START): Work.IN_PROGRESS,
    (Work.IN_PROGRESS, Trigger.ASSIGN): Work.IN_PROGRESS,
    (Work.IN_PROGRESS, Trigger.RESOLVE): Work.RESOLVED,
    (Work.IN_PROGRESS, Trigger.CLOSE): Work.CLOSED,
    (Work.ON_HOLD, Trigger.END): Work.ON_HOLD,
    (Work.ON_HOLD, Trigger.RETURN): Work.ON_HOLD,
    (Work.ON_HOLD, Trigger.START): Work.IN_PROGRESS,
    (Work.ON_HOLD, Trigger.ASSIGN): Work.ON_HOLD,
    (Work.ON_HOLD, Trigger.RESOLVE): Work.RESOLVED,
    (Work.ON_HOLD, Trigger.CLOSE): Work.CLOSED,
    (Work.RESOLVED, Trigger.END): Work.RESOLVED,
    (Work.RESOLVED, Trigger.RETURN): Work.NEW,
    (Work.RESOLVED, Trigger.REOPEN): Work.NEW,
    (Work.RESOLVED, Trigger.CLOSE): Work.CLOSED,
    (Work.CLOSED, Trigger.END): Work.CLOSED,
    (Work.CLOSED, Trigger.CLOSE): Work.CLOSED,
}


def word(ticket: Ticket) -> str:
    """The one word (or few) that people see."""
    if ticket.merged_into is not None:
        return "Merged"
    if ticket.closed_ms is not None:
        return "Closed"
    if ticket.work is Work.RESOLVED:
        return "Resolved" if ticket.condition is Condition.CLEARED else "Resolved, still reported"
    if ticket.is_suppressed and ticket.condition is not Condition.CLEARED:
        return "Explained" if ticket.because is not None else "Just noticed"
    if ticket.condition is Condition.UNKNOWN:
        return "Unknown"
    if ticket.condition is Condition.CLEARED:
        if ticket.work in (Work.IN_PROGRESS, Work.ON_HOLD):
            return "Confirm fixed"
        return "Reopened" if ticket.is_reopened else "Returned"
    if ticket.ack is Ack.UNACKED:
        return "Unacknowledged"
    if ticket.work is Work.NEW:
        return "Acknowledged"
    return {Work.ASSIGNED: "Assigned", Work.IN_PROGRESS: "In progress"}.get(ticket.work, "On hold")


# --- what machines say --------------------------------------------------------------------------------------


def opened(blank: Ticket, facts: Facts, *, latest: bool, now_ms: int) -> Decision:
    """A new ticket. ``blank`` has its names and number; ``latest``: no newer ticket of its key exists."""
    ticket = _told(blank, facts)._replace(version=now_ms, alarm_version=now_ms)
    if facts.condition is not Condition.CLEARED:
        explained = (Reason.EXPLAINED,) if ticket.because is not None else ()
        return Decision(ticket=ticket, reasons=(Reason.OPENED, *explained))
    work, closed_ms = (Work.RESOLVED, None) if latest else (Work.CLOSED, now_ms)
    ticket = ticket._replace(work=work, closed_ms=closed_ms, resolved_ms=facts.last_ms, history=True)
    return Decision(ticket=ticket, reasons=(Reason.HISTORY,))


def follow(ticket: Ticket, facts: Facts, *, latest: bool, now_ms: int, policy: Policy) -> Decision:
    """What becomes of a ticket now that its occurrences say this."""
    if ticket.merged_into is not None:
        ticket = ticket._replace(merged_into=None, closed_ms=None, work=Work.RESOLVED)
    told = _told(ticket, facts)
    reasons: list[Reason] = []
    if ticket.closed_ms is None:
        told, reasons = _lived(ticket, told, now_ms, policy)
        if not latest:
            told = _close(told, now_ms)
            reasons.append(Reason.RECURRED)
    if not reasons and (told.count, told.returns, told.title) != (ticket.count, ticket.returns, ticket.title):
        reasons.append(Reason.EXTENDED)
    return _decided(ticket, told, reasons, now_ms)


def recurred(ticket: Ticket, *, now_ms: int) -> Decision:
    """A newer ticket of its key takes over."""
    return _decided(ticket, _close(ticket, now_ms), [Reason.RECURRED], now_ms)


def absorbed(ticket: Ticket, into: str, *, now_ms: int) -> Decision:
    """Its occurrences are the other ticket's from now on."""
    closed = _close(ticket, now_ms)._replace(merged_into=into, condition=Condition.CLEARED)
    return _decided(ticket, closed, [Reason.MERGED], now_ms)


def quiet(ticket: Ticket, *, now_ms: int, policy: Policy) -> Decision:
    """Closes what has been resolved and quiet for long enough."""
    if ticket.closed_ms is not None or ticket.work is not Work.RESOLVED or ticket.last_ms is None:
        return Decision(ticket=ticket)
    since_ms = max(ticket.last_ms, ticket.resolved_ms or 0)
    if ticket.condition is not Condition.CLEARED or now_ms - since_ms < policy.quiet_ms:
        return Decision(ticket=ticket)
    return _decided(ticket, _close(ticket, now_ms), [Reason.QUIET], now_ms)


def still_reported(ticket: Ticket, *, now_ms: int, policy: Policy) -> Decision:
    """Calls again for what was resolved long ago while it was reported, and still is."""
    if ticket.work is not Work.RESOLVED or ticket.condition is not Condition.ACTIVE:
        return Decision(ticket=ticket)
    if now_ms - (ticket.resolved_ms or 0) < policy.realarm_ms:
        return Decision(ticket=ticket)
    return _decided(ticket, _returned(ticket, now_ms), [Reason.STILL_REPORTED], now_ms)


def back_in_service(ticket: Ticket, *, now_ms: int) -> Decision:
    """Its device is: what is not known to be over calls again, whoever had acknowledged it before."""
    if ticket.condition is Condition.CLEARED:
        return Decision(ticket=ticket, reasons=(Reason.BACK_IN_SERVICE,))
    return _decided(ticket, _returned(ticket, now_ms), [Reason.BACK_IN_SERVICE], now_ms)


def _told(ticket: Ticket, facts: Facts) -> Ticket:
    by_itself = ticket.work is Work.RESOLVED and ticket.resolved_by is None and facts.last_ms is not None
    return ticket._replace(
        resolved_ms=facts.last_ms if by_itself else ticket.resolved_ms,
        condition=facts.condition,
        severity=facts.severity,
        first_ms=facts.first_ms,
        last_ms=facts.last_ms,
        period_ms=facts.period_ms,
        returns=facts.returns,
        count=facts.count,
        error_ms=facts.error_ms,
        title=facts.title,
        advice=facts.advice,
        because=facts.because,
        waits=facts.waits,
    )


def _lived(before: Ticket, told: Ticket, now_ms: int, policy: Policy) -> tuple[Ticket, list[Reason]]:
    """From what an open ticket said before to what it is told now."""
    reasons: list[Reason] = []
    on = told.condition is not Condition.CLEARED
    was_on = before.condition is not Condition.CLEARED
    if on and (not was_on or (told.returns > before.returns and told.period_ms > before.period_ms)):
        reasons.append(Reason.RETURNED)
        told = _returned(told, now_ms)
    elif on and was_on and told.severity > before.severity:
        reasons.append(Reason.WORSE)
        # Somebody resolved what was less: this they did not.
        told = _returned(told, now_ms) if told.work is Work.RESOLVED else _alarmed(told, now_ms)
    if before.condition is Condition.ACTIVE and told.condition is Condition.UNKNOWN:
        reasons.append(Reason.LOST)
    if before.condition is Condition.UNKNOWN and told.condition is Condition.ACTIVE:
        reasons.append(Reason.KNOWN_AGAIN)
    if on and told.because is not None and before.because is None:
        reasons.append(Reason.EXPLAINED)
    if on and was_on and before.is_suppressed and not told.is_suppressed:
        reasons.append(Reason.STANDS_ALONE)
    if was_on and not on:
        reasons.append(Reason.CLEARED)
    if not on and (was_on or told.returns > before.returns):
        told, settled = _settled(told, policy)
        reasons += settled
    return told, reasons


def _returned(ticket: Ticket, now_ms: int) -> Ticket:
    """A return calls again, unless people are at it already."""
    work = WORK[ticket.work, Trigger.RETURN]
    if work is Work.NEW and ticket.assignee is not None:
        work = Work.ASSIGNED
    back = ticket._replace(work=work, resolved_ms=None, resolved_by=None, history=False)
    return back if work in (Work.IN_PROGRESS, Work.ON_HOLD) else _alarmed(back, now_ms)


def _alarmed(ticket: Ticket, now_ms: int) -> Ticket:
    return ticket._replace(alarm_version=_next_version(ticket, now_ms))


def _next_version(ticket: Ticket, now_ms: int) -> int:
    """The version that a change is going to get. None is given twice, not by a database that was restored
    from a backup either: what a page has shown before is below all that comes after.
    """
    return max(ticket.version + 1, now_ms)


def _settled(ticket: Ticket, policy: Policy) -> tuple[Ticket, list[Reason]]:
    """The fault is over and nobody has it in hand: resolved, if nobody has to see it first."""
    if ticket.condition is not Condition.CLEARED or ticket.work not in (Work.NEW, Work.ASSIGNED):
        return ticket, []
    if ticket.is_reopened:
        return ticket, []
    if policy.ack_needed and ticket.ack is Ack.UNACKED:
        return ticket, []
    work = WORK[ticket.work, Trigger.END]
    return ticket._replace(work=work, resolved_ms=ticket.last_ms), [Reason.RESOLVED_BY_ITSELF]


def _close(ticket: Ticket, now_ms: int) -> Ticket:
    if ticket.closed_ms is not None:
        return ticket
    return ticket._replace(work=WORK[ticket.work, Trigger.CLOSE], closed_ms=now_ms)


def _decided(before: Ticket, after: Ticket, reasons: list[Reason], now_ms: int) -> Decision:
    if reasons:
        after = after._replace(version=_next_version(before, now_ms))
    return Decision(ticket=after, reasons=tuple(reasons))


# --- what people command ------------------------------------------------------------------------------------


def decide(
    ticket: Ticket, command: Command, *, actor: Actor, seen: int | None, now_ms: int, policy: Policy
) -> Decision:
    """``seen`` is the version that the person looked at. Refusals change nothing; the site was checked
    before.
    """
    if actor.role not in ALLOWED[type(command)]:
        return Decision(ticket=ticket, refused=Reason.NOT_ALLOWED)
    if not isinstance(command, COMMUTING):
        if ticket.closed_ms is not None:
            return Decision(ticket=ticket, refused=Reason.CLOSED_IS_FINAL)
        if seen is None:
            return Decision(ticket=ticket, refused=Reason.VERSION_NEEDED)
        if seen != ticket.version:
            return Decision(ticket=ticket, refused=Reason.CHANGED)
    match command:
        case Acknowledge():
            return _acknowledge(ticket, command, actor, seen, now_ms, policy)
        case Note():
            return Decision(ticket=ticket, reasons=(Reason.NOTED,), text=command.text)
        case Start():
            return _start(ticket, actor, seen, now_ms)
        case Resolve():
            return _resolve(ticket, command, actor, now_ms)
        case Assign():
            return _assign(ticket, command, now_ms)
        case Reopen():
            return _reopen(ticket, command, now_ms)


def _acknowledge(
    ticket: Ticket, command: Acknowledge, actor: Actor, seen: int | None, now_ms: int, policy: Policy
) -> Decision:
    at_ms = now_ms
    if command.given_ms is not None:
        # A version is at least the moment of its change.
        seen = command.given_ms if seen is None else seen
        at_ms = min(max(command.given_ms, ticket.received_ms), now_ms)
    after = _seen_by(ticket, actor, seen, at_ms)
    reasons = [Reason.ACKNOWLEDGED]
    if after.ack is Ack.UNACKED:
        return Decision(ticket=ticket, reasons=tuple(reasons), refused=Reason.SEEN_LESS)
    after, settled = _settled(after, policy)
    if after == ticket:
        return Decision(ticket=ticket, reasons=tuple(reasons))
    return _decided(ticket, after, reasons + settled, now_ms)


def _seen_by(ticket: Ticket, actor: Actor, seen: int | None, at_ms: int) -> Ticket:
    """An acknowledgement covers what its giver saw, no more."""
    covers = ticket.version if seen is None else min(seen, ticket.version)
    if ticket.ack is Ack.ACKED or covers < ticket.alarm_version:
        return ticket
    return ticket._replace(ack_seen=covers, acked_by=actor.name, acked_ms=at_ms)


def _start(ticket: Ticket, actor: Actor, seen: int | None, now_ms: int) -> Decision:
    work = WORK.get((ticket.work, Trigger.START))
    if work is None:
        refused = Reason.CLOSED_IS_FINAL if ticket.closed_ms is not None else Reason.ALREADY_RESOLVED
        return Decision(ticket=ticket, refused=refused)
    if ticket.assignee not in (None, actor.name) and seen != ticket.version:
        return Decision(ticket=ticket, refused=Reason.VERSION_NEEDED if seen is None else Reason.CHANGED)
    after = _seen_by(ticket, actor, seen, now_ms)._replace(work=work, assignee=actor.name)
    return _decided(ticket, after, [Reason.STARTED], now_ms)


def _resolve(ticket: Ticket, command: Resolve, actor: Actor, now_ms: int) -> Decision:
    work = WORK.get((ticket.work, Trigger.RESOLVE))
    if work is None:
        return Decision(ticket=ticket, refused=Reason.ALREADY_RESOLVED)
    reason = Reason.RESOLVED
    if ticket.condition is not Condition.CLEARED:
        if actor.role is not Role.LEAD or not command.override:
            return Decision(ticket=ticket, refused=Reason.STILL_ACTIVE)
        if not command.note.strip():
            return Decision(ticket=ticket, refused=Reason.REASON_NEEDED)
        reason = Reason.OVERRIDDEN
    worked = ticket.work in (Work.IN_PROGRESS, Work.ON_HOLD) or ticket.is_reopened
    after = _seen_by(ticket, actor, None, now_ms)._replace(
        work=work,
        resolved_ms=now_ms,
        resolved_by=actor.name,
        worked_until_ms=now_ms if worked else ticket.worked_until_ms,
    )
    return replace(_decided(ticket, after, [reason], now_ms), text=command.note)


def _assign(ticket: Ticket, command: Assign, now_ms: int) -> Decision:
    work = WORK.get((ticket.work, Trigger.ASSIGN))
    if work is None:
        return Decision(ticket=ticket, refused=Reason.ALREADY_RESOLVED)
    after = ticket._replace(work=work, assignee=command.assignee)
    return replace(_decided(ticket, after, [Reason.ASSIGNED], now_ms), text=command.assignee)


def _reopen(ticket: Ticket, command: Reopen, now_ms: int) -> Decision:
    work = WORK.get((ticket.work, Trigger.REOPEN))
    if work is None:
        return Decision(ticket=ticket, refused=Reason.NOT_RESOLVED)
    if ticket.assignee is not None:
        work = Work.ASSIGNED
    back = ticket._replace(work=work, resolved_ms=None, resolved_by=None, worked_until_ms=FOREVER_MS)
    after = _alarmed(back, now_ms)
    return replace(_decided(ticket, after, [Reason.REOPENED], now_ms), text=command.note)
