"""Devices as their gateways' inventories and open tickets show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, select

from collector.store import out_of_service
from collector.store.out_of_service import OutOfService
from collector.store.tables import device, gateway, ticket
from collector.store.tickets import HIDDEN
from collector.tickets import Condition, Work
from edge_agent.wire import UNREACHABLE, Severity

OK = "ok"
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceView:
    site: str
    id: str
    place: str
    profile: str
    # Names of the gateways that watch it now; none: it is here because people took it out of service.
    gateways: tuple[str, ...]
    # ok, notice, degraded, stop, or unknown (no gateway that watches it speaks, or it cannot be reached).
    state: str
    # Without those that are hidden.
    open_tickets: int
    # Of these, those that are resolved and wait to be closed.
    resolved_tickets: int
    first_ms: int
    # People took it out of service; it has a state all the same.
    out: OutOfService | None = None


def devices(
    connection: Connection, sites: frozenset[str] | None, site: str | None = None
) -> list[DeviceView]:
    """All devices of these sites that are watched now or out of service; None is all sites. By site, place,
    id; what nobody watches comes last.
    """
    rows = connection.execute(
        select(device, gateway.c.name.label("gateway_name"), gateway.c.silent_ms, gateway.c.revoked_ms)
        .join(gateway, gateway.c.id == device.c.gateway_id)
        .where(device.c.gone_ms.is_(None), *within(device.c.site, sites, site))
        .order_by(device.c.site, device.c.place, device.c.id, gateway.c.name)
    ).all()
    found: dict[tuple[str, str], list[Row[Any]]] = {}
    for row in rows:
        found.setdefault((row.site, row.id), []).append(row)
    broken, outs = _open_tickets(connection, sites, site), out_of_service.going_on(connection, sites)
    watched = [_view(own, broken.get(key, []), outs.get(key)) for key, own in found.items()]
    left = [out for key, out in sorted(outs.items()) if key not in found and site in (None, out.site)]
    return watched + [_left(connection, out, broken.get((out.site, out.device), [])) for out in left]


def one(connection: Connection, site: str, name: str) -> DeviceView | None:
    """None when no gateway watches one of that name there, and it is not out of service."""
    return next((found for found in devices(connection, None, site) if found.id == name), None)


def is_shown(connection: Connection, site: str, name: str) -> bool:
    """Whether ``one`` finds it."""
    asked = select(device.c.id).where(device.c.site == site, device.c.id == name, device.c.gone_ms.is_(None))
    watched = connection.execute(asked.limit(1)).first() is not None
    return watched or out_of_service.of_device(connection, site, name) is not None


def within(
    column: ColumnElement[str], sites: frozenset[str] | None, site: str | None
) -> list[ColumnElement[bool]]:
    terms: list[ColumnElement[bool]] = [] if sites is None else [column.in_(sites)]
    return terms if site is None else [*terms, column == site]


def _open_tickets(
    connection: Connection, sites: frozenset[str] | None, site: str | None
) -> dict[tuple[str, str], list[Row[Any]]]:
    rows = connection.execute(
        select(
            ticket.c.site,
            ticket.c.device,
            ticket.c.fault,
            ticket.c.severity,
            ticket.c.condition,
            ticket.c.work,
            HIDDEN.label("hidden"),
        ).where(ticket.c.closed_ms.is_(None), *within(ticket.c.site, sites, site))
    )
    found: dict[tuple[str, str], list[Row[Any]]] = {}
    for row in rows.all():
        found.setdefault((row.site, row.device), []).append(row)
    return found


def _view(own: Sequence[Row[Any]], tickets: Sequence[Row[Any]], out: OutOfService | None) -> DeviceView:
    one, shown = own[0], [row for row in tickets if not row.hidden]
    return DeviceView(
        site=one.site,
        id=one.id,
        place=one.place,
        profile=one.profile,
        gateways=tuple(row.gateway_name for row in own),
        state=_state(own, tickets),
        open_tickets=len(shown),
        resolved_tickets=sum(row.work == Work.RESOLVED.value for row in shown),
        first_ms=min(row.first_ms for row in own),
        out=out,
    )


def _left(connection: Connection, out: OutOfService, tickets: Sequence[Row[Any]]) -> DeviceView:
    """Nobody watches it any more, and it is still out: somebody has to see that, and to bring it back."""
    known = connection.execute(
        select(device.c.place, device.c.profile, device.c.first_ms)
        .where(device.c.site == out.site, device.c.id == out.device)
        .order_by(device.c.gone_ms.desc(), device.c.gateway_id)
    ).first()
    shown = [row for row in tickets if not row.hidden]
    return DeviceView(
        site=out.site,
        id=out.device,
        place=known.place if known else "",
        profile=known.profile if known else "",
        gateways=(),
        state=UNKNOWN,
        open_tickets=len(shown),
        resolved_tickets=sum(row.work == Work.RESOLVED.value for row in shown),
        first_ms=known.first_ms if known else out.from_ms,
        out=out,
    )


def _state(own: Sequence[Row[Any]], tickets: Sequence[Row[Any]]) -> str:
    """Unknown before anything else: an old fault of a device that nobody sees may be gone or worse."""
    if all(row.silent_ms is not None or row.revoked_ms is not None for row in own):
        return UNKNOWN
    active = [row for row in tickets if row.condition == Condition.ACTIVE.value]
    if any(row.fault == UNREACHABLE for row in active):
        return UNKNOWN
    worst = max((row.severity for row in active), default=None)
    if worst is not None:
        return Severity.band(worst).word
    return UNKNOWN if any(row.condition == Condition.UNKNOWN.value for row in tickets) else OK
