"""Devices that people took out of service: since when, until when, why."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, insert, or_, select, update

from collector.downtime import Span
from collector.store.occurrences import lock_conditions
from collector.store.tables import device as device_table
from collector.store.tables import gateway, occurrence, ticket
from collector.store.tables import out_of_service as table
from edge_agent.wire import AGENT_COMPONENT, dedupe_key

# So many are brought back in one sweep.
MAX_DUE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class OutOfService:
    """One time out of service that goes on."""

    id: str
    site: str
    device: str
    from_ms: int
    # When it ends by itself; None: when somebody says so.
    until_ms: int | None
    reason: str
    by: str


def is_known(connection: Connection, site: str, device: str) -> bool:
    """Some inventory has named it, something was told of it, or it is out. What a gateway tells of itself, or
    of a bus of its own, is no device: nobody may hide that it is silent.
    """
    named = select(device_table.c.id).where(device_table.c.site == site, device_table.c.id == device)
    told = (
        select(occurrence.c.uid)
        .join(gateway, gateway.c.id == occurrence.c.gateway_id)
        .where(occurrence.c.site == site, occurrence.c.device == device, gateway.c.name != device)
        .where(occurrence.c.component != AGENT_COMPONENT)
    )
    out = select(table.c.id).where(table.c.site == site, table.c.device == device, table.c.ended_ms.is_(None))
    return any(connection.execute(one.limit(1)).first() is not None for one in (named, told, out))


def lock(connection: Connection, site: str, device: str) -> None:
    """Until the end of the transaction nobody else takes it out or brings it back."""
    lock_conditions(connection, site, [dedupe_key(site, device, "-", "out-of-service")])


def of_device(connection: Connection, site: str, device: str) -> OutOfService | None:
    found = connection.execute(
        select(table).where(table.c.site == site, table.c.device == device, table.c.ended_ms.is_(None))
    ).mappings()
    return next((_from_row(row) for row in found), None)


def going_on(
    connection: Connection, sites: Collection[str] | None = None
) -> dict[tuple[str, str], OutOfService]:
    """By site and device; None is all sites."""
    terms = [table.c.ended_ms.is_(None)]
    if sites is not None:
        terms.append(table.c.site.in_(sites))
    found = map(_from_row, connection.execute(select(table).where(*terms)).mappings())
    return {(one.site, one.device): one for one in found}


def due(connection: Connection, now_ms: int) -> list[OutOfService]:
    rows = connection.execute(
        select(table)
        .where(table.c.ended_ms.is_(None), table.c.until_ms <= now_ms)
        .order_by(table.c.site, table.c.device)
        .limit(MAX_DUE)
    )
    return [_from_row(row) for row in rows.mappings()]


def save(connection: Connection, one: OutOfService) -> None:
    """New, or said otherwise."""
    said = {"until_ms": one.until_ms, "reason": one.reason, "by": one.by}
    known = connection.execute(update(table).where(table.c.id == one.id).values(**said))
    if not known.rowcount:
        place = {"id": one.id, "site": one.site, "device": one.device, "from_ms": one.from_ms}
        connection.execute(insert(table).values(**place, **said, ended_by=""))


def end(connection: Connection, one: OutOfService, at_ms: int, *, by: str) -> None:
    """``by``: empty when its time was over."""
    ended = {"ended_ms": max(at_ms, one.from_ms), "ended_by": by}
    connection.execute(update(table).where(table.c.id == one.id).values(**ended))


def open_tickets(connection: Connection, site: str, device: str) -> dict[str, str]:
    """The dedupe key of each, by id; without those of a gateway itself, which are never hidden."""
    rows = connection.execute(
        select(ticket.c.id, ticket.c.dedupe_key)
        .where(ticket.c.site == site, ticket.c.device == device, ticket.c.closed_ms.is_(None))
        .where(ticket.c.component != AGENT_COMPONENT)
        .order_by(ticket.c.id)
    )
    return {row.id: row.dedupe_key for row in rows}


def spans(connection: Connection, site: str, from_ms: int, to_ms: int, now_ms: int) -> dict[str, list[Span]]:
    """By device, when it was out of service in that time."""
    rows = connection.execute(
        select(table.c.device, table.c.from_ms, table.c.ended_ms)
        .where(
            table.c.site == site,
            table.c.from_ms < to_ms,
            or_(table.c.ended_ms.is_(None), table.c.ended_ms > from_ms),
        )
        .order_by(table.c.device, table.c.from_ms)
    )
    found: dict[str, list[Span]] = {}
    for row in rows:
        goes_on = row.ended_ms is None
        span = Span(from_ms=row.from_ms, to_ms=now_ms if goes_on else row.ended_ms, open=goes_on)
        found.setdefault(row.device, []).append(span)
    return found


def all_of(connection: Connection, site: str, device: str, limit: int) -> list[Mapping[str, Any]]:
    """Of one device, the newest first: all columns."""
    rows = connection.execute(
        select(table)
        .where(table.c.site == site, table.c.device == device)
        .order_by(table.c.from_ms.desc(), table.c.id)
        .limit(limit)
    )
    return [dict(row) for row in rows.mappings()]


def _from_row(row: RowMapping) -> OutOfService:
    return OutOfService(
        id=row["id"],
        site=row["site"],
        device=row["device"],
        from_ms=row["from_ms"],
        until_ms=row["until_ms"],
        reason=row["reason"],
        by=row["by"],
    )
