"""Tickets: what people ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection

from collector.tickets import Ack, Condition, Work


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
    evidence: Mapping[str, object] | None


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


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketDetail:
    ticket: TicketView
    occurrences: tuple[OccurrenceView, ...]
    history: tuple[EntryView, ...]
    # Names of the gateways that reported it.
    gateways: tuple[str, ...]


def find(connection: Connection, wanted: TicketFilter, after: str | None, limit: int) -> Page:
    """Newest first, by when they were opened here. Raises ValueError when ``after`` is not one of ours."""
    raise NotImplementedError


def detail(connection: Connection, ticket_id: str) -> TicketDetail | None:
    raise NotImplementedError
