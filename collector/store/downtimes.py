"""What a downtime report needs: who watches what, and occurrences that touch a window."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, or_, select

from collector.store.tables import device, gap, gateway, occurrence
from edge_agent.wire import AGENT_COMPONENT


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """One gateway watches one device."""

    device: str
    place: str
    gateway_id: str
    first_ms: int
    # It no longer names the device, or was revoked.
    gone_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One occurrence, as far as downtime goes."""

    uid: str
    ticket_id: str
    gateway_id: str
    device: str
    component: str
    fault: str
    start_ms: int
    end_ms: int | None
    severities: tuple[tuple[int, int], ...]
    minted: bool
    reason: str
    unknown: bool


def watches(connection: Connection, site: str) -> list[Watch]:
    rows = connection.execute(
        select(
            device.c.id.label("device"),
            device.c.place,
            device.c.gateway_id,
            device.c.first_ms,
            device.c.gone_ms,
            gateway.c.revoked_ms,
        )
        .join(gateway, gateway.c.id == device.c.gateway_id)
        .where(device.c.site == site)
        .order_by(device.c.place, device.c.id, device.c.gateway_id)
    )
    return [
        Watch(
            device=row.device,
            place=row.place,
            gateway_id=row.gateway_id,
            first_ms=row.first_ms,
            gone_ms=min((ms for ms in (row.gone_ms, row.revoked_ms) if ms is not None), default=None),
        )
        for row in rows
    ]


def caught_up(connection: Connection, site: str) -> dict[str, int]:
    """Until when each gateway has told all it knew."""
    rows = connection.execute(select(gateway.c.id, gateway.c.caught_up_ms).where(gateway.c.site == site))
    return {gateway_id: caught_up_ms or 0 for gateway_id, caught_up_ms in rows}


def gaps(connection: Connection, site: str, from_ms: int, to_ms: int) -> list[tuple[str, int, int]]:
    """(gateway, from, to): in between the gateway saw something of which nobody knows."""
    rows = connection.execute(
        select(gap.c.gateway_id, gap.c.from_ms, gap.c.to_ms)
        .join(gateway, gateway.c.id == gap.c.gateway_id)
        .where(gateway.c.site == site, gap.c.from_ms < to_ms, gap.c.to_ms > from_ms)
        .order_by(gap.c.from_ms)
    )
    return [(row.gateway_id, row.from_ms, row.to_ms) for row in rows]


def touching(connection: Connection, site: str, from_ms: int, to_ms: int) -> list[Told]:
    rows = connection.execute(
        select(
            occurrence.c.uid,
            occurrence.c.ticket_id,
            occurrence.c.gateway_id,
            occurrence.c.device,
            occurrence.c.component,
            occurrence.c.fault,
            occurrence.c.start_ms,
            occurrence.c.end_ms,
            occurrence.c.severities,
            occurrence.c.minted,
            occurrence.c.reason,
            occurrence.c.unknown,
        )
        .where(
            occurrence.c.site == site,
            occurrence.c.start_ms < to_ms,
            or_(occurrence.c.end_ms.is_(None), occurrence.c.end_ms > from_ms),
        )
        .order_by(occurrence.c.start_ms, occurrence.c.uid)
    )
    return [
        Told(**{**row._mapping, "severities": tuple((at, number) for at, number in row.severities)})
        for row in rows
    ]


def first_told(connection: Connection, site: str) -> dict[tuple[str, str], int]:
    """(device, gateway) -> its first occurrence: it was watched by then, whenever its inventory came."""
    rows = connection.execute(
        select(occurrence.c.device, occurrence.c.gateway_id, func.min(occurrence.c.start_ms))
        .where(occurrence.c.site == site, occurrence.c.component != AGENT_COMPONENT)
        .group_by(occurrence.c.device, occurrence.c.gateway_id)
    )
    return {(device_id, gateway_id): start_ms for device_id, gateway_id, start_ms in rows}
