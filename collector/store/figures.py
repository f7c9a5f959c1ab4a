"""Counts for whoever watches the collector; nothing here names a site, a device or a person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, func, not_, select

from collector.store import tables
from collector.store.tickets import HIDDEN


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """``open_tickets`` by (condition, work), without the hidden ones; gateways without the revoked ones."""

    open_tickets: Mapping[tuple[str, str], int]
    gateways: int
    gateways_silent: int
    # As the gateways that are not silent said last: buses that carry less than is asked of them, and the most
    # that one of all takes to ask everything once, of what its gateway predicted (0: none said).
    buses_behind: int
    cycle_over_plan: float


def figures(connection: Connection) -> Figures:
    ticket, gateway = tables.ticket.c, tables.gateway.c
    by_state = connection.execute(
        select(ticket.condition, ticket.work, func.count())
        .where(ticket.closed_ms.is_(None), not_(HIDDEN))
        .group_by(ticket.condition, ticket.work)
    )
    total, silent = connection.execute(
        select(func.count(), func.count(gateway.silent_ms)).where(gateway.revoked_ms.is_(None))
    ).one()
    said = connection.execute(
        select(gateway.health).where(gateway.revoked_ms.is_(None), gateway.silent_ms.is_(None))
    ).scalars()
    healths = [health or {} for health in said]
    return Figures(
        open_tickets={(condition, work): number for condition, work, number in by_state},
        gateways=total,
        gateways_silent=silent,
        buses_behind=sum(health.get("buses_behind") or 0 for health in healths),
        cycle_over_plan=max(
            (
                bus["cycle_ms"] / bus["planned_ms"]
                for health in healths
                for bus in health.get("buses") or ()
                if bus.get("cycle_ms") and bus.get("planned_ms")
            ),
            default=0.0,
        ),
    )


def answers(connection: Connection) -> bool:
    """The database is there and has our tables. Raises SQLAlchemyError."""
    connection.execute(select(tables.gateway.c.id).limit(1)).all()
    return True


def sites(connection: Connection, allowed: frozenset[str] | None) -> list[str]:
    """Names of the sites that have a gateway; only the allowed ones (``None``: all)."""
    found = connection.execute(
        select(tables.gateway.c.site).distinct().order_by(tables.gateway.c.site)
    ).scalars()
    return [site for site in found if allowed is None or site in allowed]
