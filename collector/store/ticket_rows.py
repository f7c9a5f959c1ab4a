"""Tickets as they are decided on: loaded under the lock of their key, stored with their history."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Connection, Row, bindparam, or_, select, union_all

from collector.grouping import Outline
from collector.store import bulk
from collector.store.bulk import among
from collector.store.streams import clean, insert_for
from collector.store.tables import (
    document,
    gateway,
    occurrence,
    site_number,
    ticket,
    ticket_entry,
)
from collector.tickets import Condition, Reason, Ticket, Work

_FIELDS = Ticket._fields
COLUMNS = tuple(ticket.c[name] for name in _FIELDS)
_CONDITIONS = {one.value: one for one in Condition}
_WORKS = {one.value: one for one in Work}
# These are what they were when it was opened; its place is the inventory's to change.
_LASTING = ("id", "number", "site", "dedupe_key", "device", "place", "component", "fault", "received_ms")
_CHANGING = tuple(name for name in _FIELDS if name not in _LASTING)
_ENTRY = ("ticket_id", "at_ms", "reason", "actor", "text", "detail")


_BY_ID = select(*COLUMNS).where(among(ticket.c.id, "ids"))
_MERGED = select(*COLUMNS).where(among(ticket.c.id, "ids"), ticket.c.merged_into.is_not(None))
_OUTLINE = select(*(ticket.c[name] for name in Outline._fields))
_OUTLINES = _OUTLINE.where(among(ticket.c.id, "ids"))
# Each part has an index of its own; a ticket may be found by several.
_SINCE = union_all(
    *(
        _OUTLINE.where(among(ticket.c.dedupe_key, "keys"), term)
        for term in (
            ticket.c.closed_ms.is_(None),
            ticket.c.last_ms.is_(None),
            ticket.c.last_ms >= bindparam("since_ms"),
            ticket.c.worked_until_ms >= bindparam("since_ms"),
        )
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of history to be written."""

    ticket_id: str
    at_ms: int
    reason: Reason
    actor: str = ""
    text: str = ""
    detail: Mapping[str, object] | None = None


def from_row(row: Row[Any]) -> Ticket:
    """Of a ``select(*COLUMNS)``."""
    values = dict(zip(_FIELDS, row, strict=True))
    values["condition"] = _CONDITIONS[values["condition"]]
    values["work"] = _WORKS[values["work"]]
    return Ticket(**values)


def load(connection: Connection, ticket_id: str) -> Ticket | None:
    row = connection.execute(select(*COLUMNS).where(ticket.c.id == ticket_id)).one_or_none()
    return None if row is None else from_row(row)


def by_id(connection: Connection, ids: Collection[str]) -> list[Ticket]:
    if not ids:
        return []
    return [from_row(row) for row in connection.execute(_BY_ID, {"ids": ids}).all()]


def merged(connection: Connection, ids: Collection[str]) -> list[Ticket]:
    """Of these the ones that are one with another now."""
    if not ids:
        return []
    return [from_row(row) for row in connection.execute(_MERGED, {"ids": ids}).all()]


def outlines(connection: Connection, ids: Collection[str]) -> list[Outline]:
    if not ids:
        return []
    return list(map(Outline._make, connection.execute(_OUTLINES, {"ids": ids}).all()))


def since(connection: Connection, keys: Collection[str], since_ms: int) -> list[Outline]:
    """Of each key what is open, what ended after that moment, and what people let go of after it; one of
    which several are true comes several times.
    """
    if not keys:
        return []
    return list(map(Outline._make, connection.execute(_SINCE, {"keys": keys, "since_ms": since_ms}).all()))


def next_numbers(connection: Connection, site: str, how_many: int) -> int:
    """The first of so many in a row; the site's row is locked until the end of the transaction."""
    counted = _counted(insert_for(connection))
    last: int = connection.execute(counted, {"site": site, "last": how_many}).scalar_one()
    return last - how_many + 1


@cache
def _counted(insert: Any) -> Any:
    """Made once: to make it anew takes longer than to run it."""
    statement = insert(site_number)
    return statement.on_conflict_do_update(
        index_elements=[site_number.c.site], set_={"last": site_number.c.last + statement.excluded.last}
    ).returning(site_number.c.last)


def save(connection: Connection, new: Sequence[tuple[int, Ticket]], changed: Sequence[Ticket]) -> None:
    """``new`` with their numbers. Those that close go first: a key is free before another opens on it. Raises
    RacedError where the occurrence that opens one was told by another gateway at this moment.
    """
    closing = [_values(one) for one in changed if one.closed_ms is not None]
    going_on = [_values(one) for one in changed if one.closed_ms is None]
    bulk.update(connection, ticket, "id", _CHANGING, closing)
    bulk.update(connection, ticket, "id", _CHANGING, going_on)
    opened = [_values(one) | {"number": number} for number, one in new]
    bulk.insert(connection, ticket, _FIELDS, opened, key="id")


def record(connection: Connection, entries: Sequence[Entry]) -> None:
    bulk.insert(
        connection,
        ticket_entry,
        _ENTRY,
        [
            {
                "ticket_id": entry.ticket_id,
                "at_ms": entry.at_ms,
                "reason": entry.reason.value,
                "actor": entry.actor,
                "text": clean(entry.text),
                "detail": None if entry.detail is None else document(entry.detail),
            }
            for entry in entries
        ],
    )


def quiet_since(
    connection: Connection, *, quiet_ms: int, window_ms: int, given_up_ms: int, limit: int
) -> list[Ticket]:
    """Resolved, and nothing heard since ``quiet_ms``; every gateway that told of it has since told all it
    knew.

    A gateway that does not come back does not keep it open for ever: only until it ended before
    ``given_up_ms``.
    """
    behind = (
        select(occurrence.c.uid)
        .join(gateway, gateway.c.id == occurrence.c.gateway_id)
        .where(
            occurrence.c.ticket_id == ticket.c.id,
            occurrence.c.minted.is_(False),
            or_(gateway.c.caught_up_ms.is_(None), gateway.c.caught_up_ms < ticket.c.last_ms + window_ms),
        )
        .exists()
    )
    rows = connection.execute(
        select(*COLUMNS)
        .where(
            ticket.c.closed_ms.is_(None),
            ticket.c.work == Work.RESOLVED.value,
            ticket.c.condition == Condition.CLEARED.value,
            ticket.c.last_ms <= quiet_ms,
            ticket.c.resolved_ms <= quiet_ms,
            or_(ticket.c.last_ms <= given_up_ms, ~behind),
        )
        .limit(limit)
    )
    return [from_row(row) for row in rows.all()]


def overridden_since(connection: Connection, before_ms: int, *, limit: int) -> list[Ticket]:
    """Resolved until then, and known to be reported all the same."""
    rows = connection.execute(
        select(*COLUMNS)
        .where(
            ticket.c.closed_ms.is_(None),
            ticket.c.work == Work.RESOLVED.value,
            ticket.c.condition == Condition.ACTIVE.value,
            # Of the resolved ones an index has these together.
            ticket.c.last_ms.is_(None),
            ticket.c.resolved_ms <= before_ms,
        )
        .limit(limit)
    )
    return [from_row(row) for row in rows.all()]


def _values(one: Ticket) -> dict[str, Any]:
    # Plain strings: a driver need not know enumerations.
    values = one._asdict()
    values["condition"] = one.condition.value
    values["work"] = one.work.value
    return values
