"""Gateways: who they are, when they last spoke, and what could not be understood of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Float, Row, ScalarSelect, cast, func, select

from collector.store.devices import within
from collector.store.tables import device, gap, gateway, quarantine


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayView:
    id: str
    site: str
    name: str
    # never (not heard of yet), ok, silent or revoked.
    state: str
    created_ms: int
    revoked_ms: int | None
    # To about five seconds.
    last_contact_ms: int | None
    silent_ms: int | None
    # There is a ticket of it: its wall clock is wrong, two boxes speak as it.
    clock_wrong: bool
    cloned: bool
    devices: int
    # Rows that could not be read; gaps that were declared.
    quarantined: int
    gaps: int
    # Occurrences that it counted when it gave them up.
    lost: int
    # The last `health` it sent, as on the wire.
    health: Mapping[str, object] | None


def gateways(
    connection: Connection, sites: frozenset[str] | None, site: str | None = None
) -> list[GatewayView]:
    """All gateways of these sites, revoked ones too; None is all sites. By site and name."""
    watched = _counted(device.c.gateway_id, device.c.gone_ms.is_(None))
    aside = _counted(quarantine.c.gateway_id)
    gaps = _counted(gap.c.gateway_id)
    # As floats: SQLite's sum of integers fails beyond 64 bits.
    lost = (
        select(func.coalesce(func.sum(cast(gap.c.count, Float)), 0))
        .where(gap.c.gateway_id == gateway.c.id)
        .correlate(gateway)
        .scalar_subquery()
    )
    rows = connection.execute(
        select(
            gateway,
            watched.label("devices"),
            aside.label("quarantined"),
            gaps.label("gaps"),
            lost.label("lost"),
        )
        .where(*within(gateway.c.site, sites, site))
        .order_by(gateway.c.site, gateway.c.name)
    )
    return [
        GatewayView(
            id=row.id,
            site=row.site,
            name=row.name,
            state=_state(row),
            created_ms=row.created_ms,
            revoked_ms=row.revoked_ms,
            last_contact_ms=row.last_contact_ms,
            silent_ms=row.silent_ms,
            clock_wrong=row.clock_told,
            cloned=row.cloned_ms is not None,
            devices=row.devices,
            quarantined=row.quarantined,
            gaps=row.gaps,
            lost=int(row.lost),
            health=row.health,
        )
        for row in rows
    ]


def is_heard(connection: Connection, sites: frozenset[str] | None, site: str | None = None) -> bool:
    """Whether a gateway of these sites speaks: one that is neither silent nor revoked."""
    asked = select(gateway.c.id).where(
        gateway.c.last_contact_ms.is_not(None),
        gateway.c.silent_ms.is_(None),
        gateway.c.revoked_ms.is_(None),
        *within(gateway.c.site, sites, site),
    )
    return connection.execute(asked.limit(1)).first() is not None


def _counted(owner: Column[str], *terms: ColumnElement[bool]) -> ScalarSelect[int]:
    return (
        select(func.count())
        .select_from(owner.table)
        .where(owner == gateway.c.id, *terms)
        .correlate(gateway)
        .scalar_subquery()
    )


def _state(row: Row[Any]) -> str:
    if row.revoked_ms is not None:
        return "revoked"
    if row.last_contact_ms is None:
        return "never"
    return "ok" if row.silent_ms is None else "silent"
