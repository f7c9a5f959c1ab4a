"""Tickets: what people ask for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, func, not_, or_, select

from collector import dating
from collector.store import evidence, out_of_service, ticket_rows
from collector.store.bulk import among, unindexed
from collector.store.evidence import Kept
from collector.store.out_of_service import OutOfService
from collector.store.tables import gateway, occurrence, ticket, ticket_entry
from collector.store.tables import out_of_service as out_table
from collector.tickets import FOREVER_MS, Ack, Condition, Reason, Ticket, Work, word
from edge_agent.wire import AGENT_COMPONENT, Severity

MAX_PAGE = 500
# Why a ticket is hidden.
SUPPRESSED = "suppressed"
OUT_OF_SERVICE = "out_of_service"
# Occurrences of a ticket of which it is told what was recorded.
MAX_RECORDED = 20
# When it was opened here, and its id.
CURSOR_PATTERN = "[0-9]{1,15}-[0-9a-f]{32}"


class State(StrEnum):
    """What the list can be narrowed to."""

    OPEN = "open"
    CLOSED = "closed"
    # Open and not acknowledged; open with an active fault; open and its condition not known; open and
    # resolved.
    UNACKNOWLEDGED = "unacknowledged"
    ACTIVE = "active"
    UNKNOWN = "unknown"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketFilter:
    # Sites that the actor may see; None is all.
    sites: frozenset[str] | None
    state: State | None = None
    site: str | None = None
    # A prefix of whole levels: area/line matches area/line/station, not area/line2.
    place: str | None = None
    device: str | None = None
    # notice, degraded or stop.
    severity: str | None = None
    # Whether it is hidden: something else explains it, or its device is out of service. None: either.
    hidden: bool | None = None
    # Found anywhere in title, device, place, component or fault, or the number.
    text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketView:
    """One line of the list. The API's ``occurred_at`` and ``received_at`` are ``occurred_ms`` and
    ``received_ms``.
    """

    id: str
    number: int
    site: str
    device: str
    place: str
    component: str
    fault: str
    title: str
    severity: str
    condition: Condition
    ack: Ack
    hidden: tuple[str, ...]
    work: Work
    version: int
    occurred_ms: int
    received_ms: int
    # Beyond the API's first list: for pages and detail.
    word: str
    advice: str
    error_ms: int
    detection_delay_ms: int
    ended_ms: int | None
    resolved_ms: int | None
    resolved_by: str | None
    closed_ms: int | None
    acked_by: str | None
    acked_ms: int | None
    assignee: str | None
    returns: int
    count: int
    history: bool
    recurs_of: str | None
    merged_into: str | None
    # The uid of the occurrence that explains it.
    because: str | None
    # Its device is out of service.
    out: OutOfService | None
    # It goes on with pauses in between: the fault chatters.
    comes_and_goes: bool
    # A person said that it is not fixed, and none has resolved it since.
    reopened: bool
    # When it came back last, by ``returns``; the begin of one that never did.
    period_ms: int

    @property
    def not_fixed(self) -> bool:
        """Reopened, and nobody has begun since: it needs somebody, whatever machines say."""
        return self.reopened and self.work in NOT_BEGUN


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    items: list[TicketView]
    # Hand it in as `after` for the next page; None at the end. Rows that arrive meanwhile neither repeat nor
    # hide one.
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OccurrenceView:
    uid: str
    gateway: str
    open: bool
    unknown: bool
    # The end is the latest possible: the gateway no longer named it.
    estimated: bool
    reason: str
    severity: str
    count: int
    start_ms: int
    raised_ms: int
    end_ms: int | None
    error_ms: int
    received_ms: int
    # [(ms, word), ...]
    severities: tuple[tuple[int, str], ...]
    # From when to when its fault was not there; None: it is not there now.
    pauses: tuple[tuple[int, int | None], ...]
    # What the row itself carries, and what was recorded around the raise; of the newest alone.
    evidence: Mapping[str, object] | None
    recorded: tuple[Kept, ...] = ()


_OPEN_COURSES = select(occurrence.c.ticket_id, occurrence.c.severities).where(
    among(occurrence.c.ticket_id, "ids"), occurrence.c.open
)
NOT_BEGUN = (Work.NEW, Work.ASSIGNED)
# What happened at the moment of the ticket that is kept with the entry.
DATED = frozenset({Reason.OPENED, Reason.RETURNED, Reason.CLEARED})


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryView:
    """One line of a ticket's history."""

    at_ms: int
    reason: str
    sentence: str
    # Empty for an automatic change.
    actor: str
    text: str
    detail: Mapping[str, object] | None

    @property
    def happened_ms(self) -> int:
        """What the equipment did may have been long before it was heard of at ``at_ms``."""
        told = self.detail.get("occurred_ms") if self.detail and self.reason in DATED else None
        return told if isinstance(told, int) else self.at_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketDetail:
    ticket: TicketView
    # Newest first, and the newest MAX_PAGE only; the history likewise, oldest first.
    occurrences: tuple[OccurrenceView, ...]
    history: tuple[EntryView, ...]
    # Names of the gateways that reported it.
    gateways: tuple[str, ...]
    # The ticket of what explains it, and those that it explains, by device; at most MAX_PAGE.
    cause: TicketView | None = None
    explains: tuple[TicketView, ...] = ()

    @property
    def pausing(self) -> OccurrenceView | None:
        """What goes on with pauses in between."""
        return next((one for one in self.occurrences if one.open and one.pauses), None)


def find(connection: Connection, wanted: TicketFilter, after: str | None, limit: int) -> Page:
    """Newest first, by when they were opened here. Raises ValueError when ``after`` is not one of ours."""
    limit = max(1, min(limit, MAX_PAGE))
    statement = select(*ticket_rows.COLUMNS).where(*_conditions(wanted))
    if after is not None:
        received_ms, ticket_id = _place(after)
        statement = statement.where(
            or_(
                ticket.c.received_ms < received_ms,
                and_(ticket.c.received_ms == received_ms, ticket.c.id < ticket_id),
            )
        )
    statement = statement.order_by(ticket.c.received_ms.desc(), ticket.c.id.desc()).limit(limit + 1)
    found = [ticket_rows.from_row(row) for row in connection.execute(statement).all()]
    last = found[limit - 1] if len(found) > limit else None
    return Page(
        items=views(connection, found[:limit]),
        next=None if last is None else f"{last.received_ms}-{last.id}",
    )


def at_hand(
    connection: Connection, sites: frozenset[str] | None, site: str | None, *, limit: int, ended: int
) -> tuple[list[TicketView], bool]:
    """What a handheld shows: the worst and, of these, what has waited longest first, then of what is over the
    ``ended`` that ended last. True: there are more than ``limit``.
    """
    terms = _conditions(TicketFilter(sites=sites, state=State.OPEN, site=site, hidden=False))
    needed = connection.execute(
        select(*ticket_rows.COLUMNS)
        .where(*terms, or_(ticket.c.work != Work.RESOLVED.value, ticket.c.last_ms.is_(None)))
        .order_by(ticket.c.severity.desc(), ticket.c.first_ms, ticket.c.id)
        .limit(limit + 1)
    ).all()
    found = [ticket_rows.from_row(row) for row in needed]
    over = connection.execute(
        select(*ticket_rows.COLUMNS)
        .where(*terms, ticket.c.work == Work.RESOLVED.value, ticket.c.last_ms.is_not(None))
        .order_by(ticket.c.last_ms.desc(), ticket.c.id)
        .limit(ended)
    ).all()
    shown = [*found[:limit], *(ticket_rows.from_row(row) for row in over)]
    return views(connection, shown), len(found) > limit


def count(connection: Connection, wanted: TicketFilter) -> dict[tuple[Condition, str], int]:
    """How many there are, by condition and severity, without what has ended; but for what is not fixed."""
    found: Counter[tuple[Condition, str]] = Counter()
    for condition, severity, number in connection.execute(
        select(ticket.c.condition, ticket.c.severity, func.count())
        .where(*_conditions(wanted), or_(ticket.c.condition != Condition.CLEARED.value, _NOT_FIXED))
        .group_by(ticket.c.condition, ticket.c.severity)
    ):
        found[Condition(condition), Severity.band(severity).word] += number
    return found


def detail(connection: Connection, ticket_id: str) -> TicketDetail | None:
    found = ticket_rows.load(connection, ticket_id)
    if found is None:
        return None
    rows = connection.execute(
        select(occurrence, gateway.c.name.label("gateway_name"))
        .join(gateway, gateway.c.id == occurrence.c.gateway_id)
        .where(occurrence.c.ticket_id == ticket_id)
        .order_by(occurrence.c.start_ms.desc(), occurrence.c.uid)
        .limit(MAX_PAGE)
    ).mappings()
    told = rows.all()
    recorded = evidence.parts_of(connection, [row["uid"] for row in told[:MAX_RECORDED]])
    occurrences = tuple(_occurrence_view(row, recorded.get(row["uid"], ())) for row in told)
    newest = connection.execute(
        select(ticket_entry)
        .where(ticket_entry.c.ticket_id == ticket_id)
        .order_by(ticket_entry.c.id.desc())
        .limit(MAX_PAGE)
    ).mappings()
    return TicketDetail(
        ticket=views(connection, [found])[0],
        occurrences=occurrences,
        history=tuple(reversed([_entry_view(row) for row in newest])),
        gateways=tuple(sorted({one.gateway for one in occurrences})),
        cause=_cause(connection, found),
        explains=_explains(connection, found),
    )


def _cause(connection: Connection, one: Ticket) -> TicketView | None:
    if one.because is None:
        return None
    row = connection.execute(
        select(*ticket_rows.COLUMNS)
        .join(occurrence, occurrence.c.ticket_id == ticket.c.id)
        .where(occurrence.c.uid == one.because, ticket.c.site == one.site)
    ).one_or_none()
    return None if row is None else views(connection, [ticket_rows.from_row(row)])[0]


def _explains(connection: Connection, one: Ticket) -> tuple[TicketView, ...]:
    own = select(occurrence.c.uid).where(occurrence.c.ticket_id == one.id)
    rows = connection.execute(
        select(*ticket_rows.COLUMNS)
        .where(ticket.c.because.is_not(None), ticket.c.because.in_(own), unindexed(ticket.c.site) == one.site)
        .order_by(ticket.c.device, ticket.c.received_ms.desc(), ticket.c.id)
        .limit(MAX_PAGE)
    )
    return tuple(views(connection, [ticket_rows.from_row(row) for row in rows.all()]))


def views(connection: Connection, tickets: Sequence[Ticket]) -> list[TicketView]:
    """As people see them, in this order."""
    if not tickets:
        return []
    out = out_of_service.going_on(connection, {one.site for one in tickets})
    pausing = _pausing(connection, [one.id for one in tickets if one.closed_ms is None])
    return [
        _view(
            one,
            None if one.component == AGENT_COMPONENT else out.get((one.site, one.device)),
            one.id in pausing,
        )
        for one in tickets
    ]


def _pausing(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Of these tickets the ones in which something open pauses, or did."""
    rows = connection.execute(_OPEN_COURSES, {"ids": ids}).all() if ids else []
    return {ticket_id for ticket_id, severities in rows if dating.pauses(severities)}


def _view(one: Ticket, out: OutOfService | None, comes_and_goes: bool) -> TicketView:
    hidden = ((SUPPRESSED, one.is_suppressed), (OUT_OF_SERVICE, out is not None))
    is_quiet = out is not None and one.closed_ms is None and one.work is not Work.RESOLVED
    return TicketView(
        id=one.id,
        number=one.number,
        site=one.site,
        device=one.device,
        place=one.place,
        component=one.component,
        fault=one.fault,
        title=one.title,
        severity=Severity.band(one.severity).word,
        condition=one.condition,
        ack=one.ack,
        hidden=tuple(why for why, so in hidden if so),
        work=one.work,
        version=one.version,
        occurred_ms=one.first_ms,
        received_ms=one.received_ms,
        word="Out of service" if is_quiet else word(one),
        advice=one.advice,
        error_ms=one.error_ms,
        detection_delay_ms=one.detection_delay_ms,
        ended_ms=one.last_ms,
        resolved_ms=one.resolved_ms,
        resolved_by=one.resolved_by,
        closed_ms=one.closed_ms,
        acked_by=one.acked_by,
        acked_ms=one.acked_ms,
        assignee=one.assignee,
        returns=one.returns,
        count=one.count,
        history=one.history,
        recurs_of=one.recurs_of,
        merged_into=one.merged_into,
        because=one.because,
        out=out,
        comes_and_goes=comes_and_goes,
        reopened=one.is_reopened,
        period_ms=one.period_ms,
    )


def _conditions(wanted: TicketFilter) -> list[ColumnElement[bool]]:
    terms: list[ColumnElement[bool]] = []
    if wanted.sites is not None:
        terms.append(ticket.c.site.in_(wanted.sites))
    if wanted.state is not None:
        terms += _STATES[wanted.state]
    if wanted.site is not None:
        terms.append(ticket.c.site == wanted.site)
    if wanted.place:
        place = wanted.place.strip("/")
        # LIKE of SQLite takes HALL for hall.
        below = func.substr(ticket.c.place, 1, len(place) + 1) == place + "/"
        terms.append(or_(ticket.c.place == place, below))
    if wanted.device is not None:
        terms.append(ticket.c.device == wanted.device)
    if wanted.severity is not None:
        terms += _band(wanted.severity)
    if wanted.hidden is not None:
        terms.append(HIDDEN if wanted.hidden else not_(HIDDEN))
    if wanted.text:
        terms.append(_text(wanted.text))
    return terms


_IS_OUT = (
    select(out_table.c.id)
    .where(
        # What a gateway tells of itself, or is told of it here, is never hidden.
        ticket.c.component != AGENT_COMPONENT,
        out_table.c.site == ticket.c.site,
        out_table.c.device == ticket.c.device,
        out_table.c.ended_ms.is_(None),
    )
    .correlate(ticket)
    .exists()
)
HIDDEN = or_(ticket.c.because.is_not(None), ticket.c.waits, _IS_OUT)
# As ``TicketView.not_fixed``.
_NOT_FIXED = and_(
    ticket.c.worked_until_ms == FOREVER_MS, ticket.c.work.in_([work.value for work in NOT_BEGUN])
)
_OPEN = ticket.c.closed_ms.is_(None)
_STATES: dict[State, list[ColumnElement[bool]]] = {
    State.OPEN: [_OPEN],
    State.CLOSED: [ticket.c.closed_ms.is_not(None)],
    State.UNACKNOWLEDGED: [
        _OPEN,
        ticket.c.work != Work.RESOLVED.value,
        ticket.c.ack_seen < ticket.c.alarm_version,
    ],
    State.ACTIVE: [_OPEN, ticket.c.condition == Condition.ACTIVE.value],
    State.UNKNOWN: [_OPEN, ticket.c.condition == Condition.UNKNOWN.value],
    State.RESOLVED: [_OPEN, ticket.c.work == Work.RESOLVED.value],
}


def _band(word: str) -> list[ColumnElement[bool]]:
    """An unknown number takes the band below it, here too. Raises ValueError for a word that is none."""
    bands = {severity.word: severity for severity in Severity}
    if word not in bands:
        raise ValueError(f"severity: {word!r} is none of {', '.join(bands)}")
    higher = [int(severity) for severity in Severity if severity > bands[word]]
    terms: list[ColumnElement[bool]] = []
    if bands[word] > min(Severity):
        terms.append(ticket.c.severity >= int(bands[word]))
    if higher:
        terms.append(ticket.c.severity < min(higher))
    return terms


def _text(words: str) -> ColumnElement[bool]:
    pattern = f"%{_escaped(words.lower())}%"
    columns = (ticket.c.title, ticket.c.device, ticket.c.place, ticket.c.component, ticket.c.fault)
    terms: list[ColumnElement[bool]] = [func.lower(column).like(pattern, escape="\\") for column in columns]
    number = words.removeprefix("#")
    if number.isascii() and number.isdigit() and len(number) < 18:
        terms.append(ticket.c.number == int(number))
    return or_(*terms)


def _escaped(text: str) -> str:
    cleaned = text.replace("\0", "")
    return cleaned.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _place(cursor: str) -> tuple[int, str]:
    if not re.fullmatch(CURSOR_PATTERN, cursor):
        raise ValueError("after: not a cursor of ours")
    received, _, ticket_id = cursor.partition("-")
    return int(received), ticket_id


def _occurrence_view(row: RowMapping, recorded: tuple[Kept, ...]) -> OccurrenceView:
    told: Mapping[str, Any] = row["row"]
    return OccurrenceView(
        uid=row["uid"],
        gateway=row["gateway_name"],
        open=row["open"],
        unknown=row["unknown"],
        estimated=row["estimated"],
        reason=row["reason"],
        severity=Severity.band(row["severity"]).word,
        count=row["count"],
        start_ms=row["start_ms"],
        raised_ms=row["raised_ms"],
        end_ms=row["end_ms"],
        error_ms=row["error_ms"],
        received_ms=row["received_ms"],
        severities=tuple(
            (at_ms, Severity.band(severity).word)
            for at_ms, severity in row["severities"]
            if severity != dating.PAUSED
        ),
        pauses=dating.pauses(row["severities"]),
        evidence=told.get("evidence"),
        recorded=recorded,
    )


def _entry_view(row: RowMapping) -> EntryView:
    reason = row["reason"]
    known = reason in Reason.__members__.values()
    return EntryView(
        at_ms=row["at_ms"],
        reason=reason,
        sentence=Reason(reason).sentence if known else reason,
        actor=row["actor"],
        text=row["text"],
        detail=row["detail"],
    )
