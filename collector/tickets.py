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

from dataclasses import dataclass
from enum import StrEnum

MINUTE_MS = 60_000
# A fault that returns within this time (occurred-at) is the same ticket.
REOPEN_WINDOW_MS = 10 * MINUTE_MS
# A resolved ticket that stays quiet so long is closed.
QUIET_MS = 30 * MINUTE_MS
# A ticket that opens within this time after another one of its key ended is linked to it.
RECURS_MS = 24 * 60 * MINUTE_MS


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
    Reason.RESOLVED_BY_ITSELF: "Resolved by itself, because the fault ended.",
    Reason.RECURRED: "Closed, because the fault came back later and got a new ticket.",
    Reason.QUIET: "Closed after a quiet time.",
    Reason.MERGED: "Closed, because late news showed that this and another ticket are one fault.",
    Reason.ACKNOWLEDGED: "Acknowledged.",
    Reason.NOTED: "Note.",
    Reason.STARTED: "Work started.",
    Reason.ASSIGNED: "Assigned.",
    Reason.RESOLVED: "Resolved.",
    Reason.OVERRIDDEN: "Resolved although the fault is still reported.",
    Reason.REOPENED: "Reopened.",
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
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """A person, or a token that acts for one."""

    name: str
    role: Role
    # Site names; "*" stands for all.
    sites: frozenset[str]

    def may_see(self, site: str) -> bool:
        return "*" in self.sites or site in self.sites


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The same for every site by now."""

    # When true, a fault that ended unseen stays open until somebody has acknowledged it.
    ack_needed: bool = False
    reopen_window_ms: int = REOPEN_WINDOW_MS
    quiet_ms: int = QUIET_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """The facts of one ticket; a row of the table of that name."""

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
    version: int = 1
    alarm_version: int = 1
    ack_seen: int = 0
    acked_by: str | None = None
    acked_ms: int | None = None
    assignee: str | None = None
    first_ms: int
    last_ms: int | None
    period_ms: int
    error_ms: int
    returns: int
    count: int
    received_ms: int
    resolved_ms: int | None = None
    resolved_by: str | None = None
    worked_until_ms: int | None = None
    closed_ms: int | None = None
    history: bool = False
    recurs_of: str | None = None
    merged_into: str | None = None

    @property
    def ack(self) -> Ack:
        return Ack.ACKED if self.ack_seen >= self.alarm_version else Ack.UNACKED

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


# --- commands -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledge:
    """I have seen it. Covers what was seen, closes nothing; ``given_ms`` dates one that was given offline."""

    given_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """I am at it."""


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

_HANDS_ON = frozenset({Role.TECHNICIAN, Role.LEAD, Role.ADMIN})
_LEADS = frozenset({Role.LEAD, Role.ADMIN})
# Who may give which command. Deny by default.
ALLOWED: dict[type[Command], frozenset[Role]] = {
    Acknowledge: _HANDS_ON,
    Note: _HANDS_ON | {Role.INSTALLER},
    Start: _HANDS_ON,
    Resolve: _HANDS_ON,
    Assign: _LEADS,
    Reopen: _LEADS,
}
# These commute: they merge into whatever the ticket has become, and need no version.
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
