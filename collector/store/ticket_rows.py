"""Tickets as they are decided on: loaded under the lock of their key, stored with their history."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, insert, or_, select, update

from collector.store.streams import clean, insert_for
from collector.store.tables import gateway, occurrence, site_number, ticket, ticket_entry
from collector.tickets import Condition, Reason, Ticket, Work

_FIELDS = [field.name for field in fields(Ticket)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of history to be written."""

    ticket_id: str
    at_ms: int
    reason: Reason
    actor: str = ""
    text: str = ""
    detail: Mapping[str, object] | None = None


def from_row(row: RowMapping) -> Ticket:
    values: dict[str, Any] = {name: row[name] for name in _FIELDS}
    values["condition"] = Condition(values["condition"])
    values["work"] = Work(values["work"])
    return Ticket(**values)


def load(connection: Connection, ticket_id: str) -> Ticket | None:
    row = connection.execute(select(ticket).where(ticket.c.id == ticket_id)).mappings().one_or_none()
    return None if row is None else from_row(row)


def by_id(connection: Connection, ids: Collection[str]) -> list[Ticket]:
    if not ids:
        return []
    return [
        from_row(row) for row in connection.execute(select(ticket).where(ticket.c.id.in_(ids))).mappings()
    ]


def since(connection: Connection, keys: Collection[str], since_ms: int) -> list[Ticket]:
    """Of each key what is open, what ended after that moment, and what people let go of after it."""
    if not keys:
        return []
    rows = connection.execute(
        select(ticket).where(
            ticket.c.dedupe_key.in_(keys),
            or_(
                ticket.c.closed_ms.is_(None),
                ticket.c.last_ms.is_(None),
                ticket.c.last_ms >= since_ms,
                ticket.c.worked_until_ms >= since_ms,
            ),
        )
    )
    return [from_row(row) for row in rows.mappings()]


def next_numbers(connection: Connection, site: str, how_many: int) -> int:
    """The first of so many in a row; the site's row is locked until the end of the transaction."""
    statement = insert_for(connection)(site_number).values(site=site, last=how_many)
    last: int = connection.execute(
        statement.on_conflict_do_update(
            index_elements=[site_number.c.site], set_={"last": site_number.c.last + how_many}
        ).returning(site_number.c.last)
    ).scalar_one()
    return last - how_many + 1


def save(connection: Connection, new: Sequence[Ticket], changed: Sequence[Ticket]) -> None:
    """Those that close go first: a key is free before another ticket of it opens."""
    for group in (
        [one for one in changed if one.closed_ms is not None],
        [one for one in changed if one.closed_ms is None],
    ):
        if group:
            connection.execute(
                update(ticket)
                .where(ticket.c.id == bindparam("the_id"))
                .values({name: bindparam(f"new_{name}") for name in _FIELDS if name != "id"}),
                [
                    {"the_id": one.id, **{f"new_{name}": value for name, value in _values(one).items()}}
                    for one in group
                ],
            )
    if new:
        connection.execute(insert(ticket), [_values(one) for one in new])


def record(connection: Connection, entries: Sequence[Entry]) -> None:
    if entries:
        connection.execute(
            insert(ticket_entry),
            [
                {
                    "ticket_id": entry.ticket_id,
                    "at_ms": entry.at_ms,
                    "reason": entry.reason.value,
                    "actor": entry.actor,
                    "text": clean(entry.text),
                    "detail": entry.detail,
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
        select(ticket)
        .where(
            ticket.c.closed_ms.is_(None),
            ticket.c.work == Work.RESOLVED.value,
            ticket.c.condition == Condition.CLEARED.value,
            ticket.c.last_ms <= quiet_ms,
            ticket.c.resolved_ms <= quiet_ms,
            or_(ticket.c.last_ms <= given_up_ms, ~behind),
        )
        .order_by(ticket.c.dedupe_key)
        .limit(limit)
    )
    return [from_row(row) for row in rows.mappings()]


def _values(one: Ticket) -> dict[str, Any]:
    # Plain strings: a driver need not know enumerations.
    values = {name: getattr(one, name) for name in _FIELDS}
    return values | {"condition": one.condition.value, "work": one.work.value}
