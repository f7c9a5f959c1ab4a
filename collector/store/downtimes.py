"""What a downtime report needs: who watches what, and occurrences that touch a window."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import orjson
from sqlalchemy import Connection, Text, bindparam, case, func, select, text, type_coerce

from collector.downtime import Span
from collector.store.bulk import among
from collector.store.tables import LONG, LONG_MS, absence, device, gap, gateway, occurrence
from edge_agent.wire import AGENT_COMPONENT

# From one pair to the next by the index, however many rows each has.
_PAIRS = """
    WITH RECURSIVE pair (site, device, gateway_id, nought) AS (
        SELECT site, device, gateway_id, 0 FROM (
            SELECT site, device, gateway_id FROM occurrence WHERE site = :site
            ORDER BY device, gateway_id LIMIT 1
        ) AS least
        UNION ALL
        SELECT following.site, following.device, following.gateway_id, 0
        FROM pair JOIN occurrence AS following
        ON following.uid = coalesce((
            SELECT uid FROM occurrence
            WHERE site = :site AND device = pair.device AND gateway_id > pair.gateway_id
            ORDER BY gateway_id LIMIT 1
        ), (
            SELECT uid FROM occurrence WHERE site = :site AND device > pair.device
            ORDER BY device, gateway_id LIMIT 1
        ))
    )"""
_FIRST_TOLD = text(f"""{_PAIRS}
    SELECT pair.device, pair.gateway_id, (
        SELECT min(start_ms) FROM occurrence
        WHERE site = :site AND device = pair.device AND gateway_id = pair.gateway_id AND component <> :agent
    ) AS first_ms
    FROM pair JOIN gateway ON gateway.id = pair.gateway_id
    WHERE pair.device <> gateway.name
""")  # noqa: S608  constants


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """One gateway watches one device."""

    device: str
    place: str
    gateway_id: str
    first_ms: int
    # It no longer names the device, or was revoked.
    gone_ms: int | None
    # From when on the device is none of this site any more, as far as this gateway says: what a revoked one
    # watched is a device that nobody watches.
    left_ms: int | None


class Told(NamedTuple):
    """One occurrence, as far as downtime goes."""

    ticket_id: str
    gateway_id: str
    device: str
    component: str
    fault: str
    start_ms: int
    end_ms: int | None
    minted: bool
    reason: str
    unknown: bool
    unknown_ms: int | None
    # [[from, severity], ...]
    severities: Sequence[Sequence[int]]


_TOLD = [
    type_coerce(occurrence.c[name], Text).label(name) if name == "severities" else occurrence.c[name]
    for name in Told._fields
]
# Whatever concerns the rows alone hangs on ``pair`` too: else SQLite reads all of them first, for a filter.
_SHORT = text(f"""{_PAIRS}
    SELECT {", ".join(f"occurrence.{name}" for name in Told._fields)}
    FROM pair CROSS JOIN occurrence
    WHERE occurrence.site = pair.site AND occurrence.device = pair.device
        AND occurrence.gateway_id = pair.gateway_id
        AND occurrence.start_ms > :since_ms + pair.nought AND occurrence.start_ms < :to_ms + pair.nought
        AND occurrence.end_ms > :from_ms + pair.nought
        AND occurrence.end_ms <= occurrence.start_ms + {LONG_MS} + pair.nought
""").columns(*_TOLD)  # noqa: S608  constants
_LONG = select(*_TOLD).where(
    occurrence.c.site == bindparam("site"),
    occurrence.c.start_ms < bindparam("to_ms"),
    occurrence.c.end_ms > bindparam("from_ms"),
    LONG,
)
_OPEN = (
    select(*_TOLD)
    .join(gateway, gateway.c.id == occurrence.c.gateway_id)
    .where(
        gateway.c.site == bindparam("site"),
        occurrence.c.open,
        occurrence.c.start_ms < bindparam("to_ms"),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """0 for never."""

    last_ms: int
    # Until when it has told all it knew.
    caught_up_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Blind:
    """A time in which a gateway did not observe a device, or any of its devices."""

    gateway_id: str
    # Empty for all.
    device: str
    span: Span


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
            gone_ms=_earliest(row.gone_ms, row.revoked_ms),
            left_ms=row.gone_ms,
        )
        for row in rows
    ]


def contacts(connection: Connection, site: str) -> dict[str, Contact]:
    """By gateway."""
    rows = connection.execute(
        select(gateway.c.id, gateway.c.last_contact_ms, gateway.c.caught_up_ms).where(gateway.c.site == site)
    )
    return {
        row.id: Contact(last_ms=row.last_contact_ms or 0, caught_up_ms=row.caught_up_ms or 0) for row in rows
    }


def gaps(connection: Connection, site: str, from_ms: int, to_ms: int) -> list[Blind]:
    """In between the gateway saw something of which nobody knows."""
    rows = connection.execute(
        select(gap.c.gateway_id, gap.c.from_ms, gap.c.to_ms)
        .join(gateway, gateway.c.id == gap.c.gateway_id)
        .where(gateway.c.site == site, gap.c.from_ms < to_ms, gap.c.to_ms > from_ms)
    )
    return [
        Blind(gateway_id=row.gateway_id, device="", span=Span(from_ms=row.from_ms, to_ms=row.to_ms))
        for row in rows
    ]


def absences(connection: Connection, site: str, from_ms: int, to_ms: int) -> list[Blind]:
    """In between it did not watch the device that it had watched before, and does again since."""
    rows = connection.execute(
        select(absence.c.gateway_id, absence.c.device, absence.c.from_ms, absence.c.to_ms).where(
            absence.c.site == site, absence.c.from_ms < to_ms, absence.c.to_ms > from_ms
        )
    )
    return [
        Blind(gateway_id=row.gateway_id, device=row.device, span=Span(from_ms=row.from_ms, to_ms=row.to_ms))
        for row in rows
    ]


def touching(connection: Connection, site: str, from_ms: int, to_ms: int) -> list[Told]:
    window = {"site": site, "from_ms": from_ms, "to_ms": to_ms, "since_ms": from_ms - LONG_MS}
    # Three questions: for one with OR neither database takes an index.
    rows = [row for ask in (_SHORT, _LONG, _OPEN) for row in connection.execute(ask, window)]
    return [Told._make((*others, orjson.loads(severities))) for *others, severities in rows]


def first_told(connection: Connection, site: str) -> dict[tuple[str, str], int]:
    """(device, gateway id) -> when the first began that this gateway told of it. What a gateway tells of
    itself, or of a bus of its own, is no device.
    """
    rows = connection.execute(_FIRST_TOLD, {"site": site, "agent": AGENT_COMPONENT})
    return {(row.device, row.gateway_id): row.first_ms for row in rows if row.first_ms is not None}


def told(connection: Connection, site: str, pairs: Collection[tuple[str, str]]) -> list[Watch]:
    """Of (device, gateway id) that no inventory named, from the first occurrence that was told until the last
    one ended, as if one had: it was watched then, whatever inventory came, and when. Without a place.
    """
    if not pairs:
        return []
    rows = connection.execute(
        select(
            occurrence.c.device,
            occurrence.c.gateway_id,
            func.min(occurrence.c.start_ms).label("first_ms"),
            func.max(occurrence.c.end_ms).label("end_ms"),
            func.sum(case((occurrence.c.end_ms.is_(None), 1), else_=0)).label("still_open"),
            gateway.c.revoked_ms,
        )
        .join(gateway, gateway.c.id == occurrence.c.gateway_id)
        .where(
            occurrence.c.site == site,
            occurrence.c.component != AGENT_COMPONENT,
            among(occurrence.c.device, "devices"),
        )
        .group_by(occurrence.c.device, occurrence.c.gateway_id, gateway.c.revoked_ms)
        .order_by(occurrence.c.device, occurrence.c.gateway_id),
        {"devices": sorted({device for device, _ in pairs})},
    )
    found = []
    for row in rows:
        if (row.device, row.gateway_id) not in pairs:
            continue
        gone_ms = _earliest(None if row.still_open else row.end_ms, row.revoked_ms)
        found.append(
            Watch(
                device=row.device,
                place="",
                gateway_id=row.gateway_id,
                first_ms=row.first_ms,
                gone_ms=gone_ms,
                left_ms=gone_ms,
            )
        )
    return found


def _earliest(*moments_ms: int | None) -> int | None:
    return min((ms for ms in moments_ms if ms is not None), default=None)
