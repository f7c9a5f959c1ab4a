"""Occurrences: what is held of them, and how they are stored."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, or_, select, update

from collector.grouping import Episode
from collector.store.streams import insert_for
from collector.store.tables import condition, occurrence
from edge_agent.wire import condition_key

_HELD = [
    occurrence.c[name]
    for name in (
        "uid", "gateway_id", "device", "component", "fault", "dedupe_key", "rev", "digest", "open", "unknown",
        "minted", "estimated", "start_ms", "end_ms", "received_ms",
    )
]  # fmt: skip
_EPISODE = [
    occurrence.c[name]
    for name in (
        "uid", "ticket_id", "dedupe_key", "start_ms", "end_ms", "unknown", "severity", "count", "error_ms",
        "title",
    )
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What is stored of an occurrence, as far as merging needs it."""

    uid: str
    gateway_id: str
    device: str
    component: str
    fault: str
    dedupe_key: str
    rev: int
    digest: str
    open: bool
    unknown: bool
    minted: bool
    estimated: bool
    start_ms: int
    end_ms: int | None
    received_ms: int

    @property
    def key(self) -> str:
        return condition_key(self.device, self.component, self.fault)


def held(connection: Connection, uids: Collection[str]) -> dict[str, Held]:
    if not uids:
        return {}
    rows = connection.execute(select(*_HELD).where(occurrence.c.uid.in_(uids)))
    return {row.uid: Held(**row._mapping) for row in rows}


def open_of(connection: Connection, gateway_id: str) -> dict[str, Held]:
    """What this gateway has told to be open; what was made here about it is not among them."""
    rows = connection.execute(
        select(*_HELD).where(
            occurrence.c.gateway_id == gateway_id, occurrence.c.open, occurrence.c.minted.is_(False)
        )
    )
    return {row.uid: Held(**row._mapping) for row in rows}


def open_here_of(connection: Connection, gateway_id: str) -> list[str]:
    """The uids of what was made here about this gateway and goes on."""
    rows = connection.execute(
        select(occurrence.c.uid).where(
            occurrence.c.gateway_id == gateway_id, occurrence.c.open, occurrence.c.minted
        )
    )
    return list(rows.scalars())


def of_boot(
    connection: Connection, gateway_id: str, boot: str, from_mono_ms: int, to_mono_ms: int
) -> Sequence[Row[Any]]:
    """Whole rows with a first or last moment in this part of a boot."""
    return connection.execute(
        select(occurrence).where(
            occurrence.c.gateway_id == gateway_id,
            occurrence.c.minted.is_(False),
            or_(
                and_(
                    occurrence.c.first_boot == boot,
                    occurrence.c.first_mono_ms >= from_mono_ms,
                    occurrence.c.first_mono_ms < to_mono_ms,
                ),
                and_(
                    occurrence.c.end_boot == boot,
                    occurrence.c.end_mono_ms >= from_mono_ms,
                    occurrence.c.end_mono_ms < to_mono_ms,
                ),
            ),
        )
    ).all()


def whole(connection: Connection, uids: Collection[str]) -> dict[str, dict[str, Any]]:
    """All columns, by uid."""
    if not uids:
        return {}
    rows = connection.execute(select(occurrence).where(occurrence.c.uid.in_(uids)))
    return {row.uid: dict(row._mapping) for row in rows}


def lock_conditions(connection: Connection, site: str, keys: Collection[str]) -> None:
    """Until the end of the transaction nobody else decides on tickets of these keys. Sorted, so that no two
    wait in a ring.

    DO UPDATE, not DO NOTHING: only that locks a row that is already there (and waits for one that is being
    inserted).
    """
    if not keys:
        return
    statement = insert_for(connection)(condition)
    values = [{"dedupe_key": key, "site": site} for key in sorted(keys)]
    if connection.dialect.name == "postgresql":
        connection.execute(
            statement.values(values).on_conflict_do_update(
                index_elements=[condition.c.dedupe_key],
                set_={"dedupe_key": statement.excluded.dedupe_key},
            )
        )
    else:
        # The one writer is the lock.
        connection.execute(statement.on_conflict_do_nothing(), values)


def tickets_of(connection: Connection, uids: Collection[str]) -> dict[str, str]:
    if not uids:
        return {}
    rows = connection.execute(
        select(occurrence.c.uid, occurrence.c.ticket_id).where(occurrence.c.uid.in_(uids))
    )
    return {row.uid: row.ticket_id for row in rows}


def episodes(
    connection: Connection, ticket_ids: Collection[str], advice: Mapping[str, str]
) -> dict[str, list[Episode]]:
    """By dedupe key. ``advice`` is that of each ticket: an old occurrence's own need not be read again."""
    found: dict[str, list[Episode]] = {}
    if not ticket_ids:
        return found
    for row in connection.execute(select(*_EPISODE).where(occurrence.c.ticket_id.in_(ticket_ids))):
        found.setdefault(row.dedupe_key, []).append(
            Episode(
                uid=row.uid,
                start_ms=row.start_ms,
                end_ms=row.end_ms,
                unknown=row.unknown,
                severity=row.severity,
                count=row._mapping["count"],
                error_ms=row.error_ms,
                title=row.title,
                advice=advice.get(row.ticket_id, ""),
            )
        )
    return found


def save(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """All columns of each, new or known."""
    if not rows:
        return
    statement = insert_for(connection)(occurrence)
    changing = {
        column.name: statement.excluded[column.name]
        for column in occurrence.columns
        if column.name not in ("uid", "gateway_id", "received_ms")
    }
    connection.execute(
        statement.on_conflict_do_update(index_elements=[occurrence.c.uid], set_=changing), list(rows)
    )


def move(connection: Connection, moved: Iterable[tuple[str, str]]) -> None:
    """(uid, ticket id)."""
    values = [{"the_uid": uid, "the_ticket": ticket_id} for uid, ticket_id in moved]
    if values:
        connection.execute(
            update(occurrence)
            .where(occurrence.c.uid == bindparam("the_uid"))
            .values(ticket_id=bindparam("the_ticket")),
            values,
        )
