"""Occurrences: what is held of them, and how they are stored."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, select

from collector.grouping import Episode
from collector.store import bulk
from collector.store.bulk import among, unindexed
from collector.store.dates_due import Stretch
from collector.store.tables import FAR_END, condition, document, occurrence
from edge_agent.wire import AGENT_COMPONENT, NOT_RUNNING, condition_key


class Held(NamedTuple):
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


_HELD = [occurrence.c[name] for name in Held._fields]
_EPISODE = [
    occurrence.c[name]
    for name in (
        "uid", "ticket_id", "dedupe_key", "start_ms", "end_ms", "unknown", "severity", "count", "error_ms",
        "title", "because", "waits",
    )
]  # fmt: skip


_HELD_OF = select(*_HELD).where(among(occurrence.c.uid, "uids"))
_OPEN_OF = select(*_HELD).where(
    among(occurrence.c.gateway_id, "gateways"), occurrence.c.open, occurrence.c.minted.is_(False)
)
_WHOLE = select(occurrence).where(among(occurrence.c.uid, "uids"))
_TICKETS_OF = select(occurrence.c.uid, occurrence.c.ticket_id).where(among(occurrence.c.uid, "uids"))
_EPISODES = select(*_EPISODE).where(among(occurrence.c.ticket_id, "tickets"))
_OF_SITE = unindexed(occurrence.c.site) == bindparam("site")
# The index wants to be asked for what it was made for.
_EXPLAINED_BY = select(occurrence).where(
    among(occurrence.c.because, "causes"), occurrence.c.because.is_not(None), occurrence.c.open, _OF_SITE
)
_CAUSES = select(occurrence.c.uid).where(
    among(occurrence.c.uid, "uids"), occurrence.c.open, occurrence.c.because.is_(None), _OF_SITE
)
_STARTS = select(occurrence.c.row).where(
    occurrence.c.site == bindparam("site"),
    occurrence.c.device == bindparam("gateway"),
    occurrence.c.component == AGENT_COMPONENT,
    occurrence.c.fault == NOT_RUNNING,
    occurrence.c.gateway_id == bindparam("gateway_id"),
    occurrence.c.minted.is_(False),
    occurrence.c.end_boot != occurrence.c.first_boot,
)
_COLUMNS = tuple(str(column.name) for column in occurrence.columns)
_CHANGING = tuple(name for name in _COLUMNS if name not in ("uid", "gateway_id", "received_ms"))


def held(connection: Connection, uids: Collection[str]) -> dict[str, Held]:
    if not uids:
        return {}
    return _by_uid(connection.execute(_HELD_OF, {"uids": uids}).all())


def open_of(connection: Connection, gateway_ids: Collection[str]) -> dict[str, dict[str, Held]]:
    """By gateway and uid, what each has told to be open; what was made here about it is not among them."""
    found: dict[str, dict[str, Held]] = {gateway_id: {} for gateway_id in gateway_ids}
    if found:
        for uid, one in _by_uid(connection.execute(_OPEN_OF, {"gateways": gateway_ids}).all()).items():
            found[one.gateway_id][uid] = one
    return found


def open_here_of(connection: Connection, gateway_id: str) -> list[str]:
    """The uids of what was made here about this gateway and goes on."""
    rows = connection.execute(
        select(occurrence.c.uid).where(
            occurrence.c.gateway_id == gateway_id, occurrence.c.open, occurrence.c.minted
        )
    )
    return list(rows.scalars())


def of_boot(connection: Connection, gateway_id: str, stretch: Stretch) -> Sequence[Row[Any]]:
    """Whole rows that began in this part of a boot, and those that ended in it elsewhere than they began."""
    told = select(occurrence).where(occurrence.c.gateway_id == gateway_id, occurrence.c.minted.is_(False))
    end = occurrence.c.end_mono_ms
    ended = and_(FAR_END, occurrence.c.end_boot == stretch.boot, end >= stretch.from_ms, end < stretch.to_ms)
    # Two questions: for one with OR neither database takes an index.
    found = [row for where in (_begun_in(stretch), ended) for row in connection.execute(told.where(where))]
    return list({row.uid: row for row in found}.values())


def nth_of_boot(connection: Connection, gateway_id: str, stretch: Stretch, number: int) -> int | None:
    """When the ``number``-th (from 0) that began in this part of a boot did so, in ms of its clock."""
    return connection.execute(
        select(occurrence.c.first_mono_ms)
        .where(occurrence.c.gateway_id == gateway_id, _begun_in(stretch))
        .order_by(occurrence.c.first_mono_ms)
        .offset(number)
        .limit(1)
    ).scalar()


def _begun_in(stretch: Stretch) -> ColumnElement[bool]:
    first = occurrence.c.first_mono_ms
    return and_(occurrence.c.first_boot == stretch.boot, first >= stretch.from_ms, first < stretch.to_ms)


def starts_of(connection: Connection, gateway_id: str, site: str, gateway: str) -> list[dict[str, Any]]:
    """What each start of its agent in a new boot told, as it was sent."""
    found = connection.execute(_STARTS, {"gateway_id": gateway_id, "site": site, "gateway": gateway})
    return list(found.scalars())


def whole(connection: Connection, uids: Collection[str]) -> dict[str, dict[str, Any]]:
    """All columns, by uid."""
    if not uids:
        return {}
    rows = connection.execute(_WHOLE, {"uids": uids}).all()
    return {row.uid: dict(row._mapping) for row in rows}


def explained_by(connection: Connection, site: str, causes: Collection[str]) -> list[dict[str, Any]]:
    """All columns of what is open and says that one of these explains it."""
    rows = connection.execute(_EXPLAINED_BY, {"causes": causes, "site": site}).all()
    return [dict(row._mapping) for row in rows]


def causes(connection: Connection, site: str, uids: Collection[str]) -> set[str]:
    """Those of them that are held here, open, and explained by nothing themselves."""
    if not uids:
        return set()
    return set(connection.execute(_CAUSES, {"uids": uids, "site": site}).scalars())


def lock_conditions(connection: Connection, site: str, keys: Collection[str]) -> None:
    """Until the end of the transaction nobody else decides on tickets of these keys. Sorted, so that no two
    wait in a ring.

    DO UPDATE, not DO NOTHING: only that locks a row that is already there (and waits for one that is being
    inserted). In SQLite the one writer is the lock.
    """
    if connection.dialect.name != "postgresql":
        return
    bulk.insert(
        connection,
        condition,
        ("dedupe_key", "site"),
        [{"dedupe_key": key, "site": site} for key in sorted(keys)],
        key="dedupe_key",
        change=("dedupe_key",),
    )


def tickets_of(connection: Connection, uids: Collection[str]) -> dict[str, str]:
    if not uids:
        return {}
    found = connection.execute(_TICKETS_OF, {"uids": uids}).all()
    return {row.uid: row.ticket_id for row in found}


def episodes(
    connection: Connection, ticket_ids: Collection[str], advice: Mapping[str, str]
) -> tuple[dict[str, list[Episode]], dict[str, str]]:
    """By dedupe key; and the ticket of each, by uid. ``advice`` is that of each ticket: an old occurrence's
    own need not be read again.
    """
    by_key: dict[str, list[Episode]] = {}
    tickets: dict[str, str] = {}
    if not ticket_ids:
        return by_key, tickets
    found = connection.execute(_EPISODES, {"tickets": ticket_ids}).all()
    for (
        uid, ticket_id, key, start_ms, end_ms, unknown, severity, count, error_ms, title, because, waits
    ) in found:  # fmt: skip
        tickets[uid] = ticket_id
        by_key.setdefault(key, []).append(
            Episode(
                uid=uid,
                start_ms=start_ms,
                end_ms=end_ms,
                unknown=unknown,
                severity=severity,
                count=count,
                error_ms=error_ms,
                title=title,
                advice=advice[ticket_id],
                because=because,
                waits=waits,
            )
        )
    return by_key, tickets


def save(connection: Connection, told: Iterable[tuple[Mapping[str, Any], str]]) -> None:
    """New or known: all columns of each but its ticket, and that. Raises RacedError where another gateway has
    told one of these uids at this moment.
    """
    stored = (
        {
            **values,
            "ticket_id": ticket_id,
            "severities": document(values["severities"]),
            "row": document(values["row"]),
        }
        for values, ticket_id in told
    )
    bulk.insert(connection, occurrence, _COLUMNS, stored, key="uid", change=_CHANGING, owner="gateway_id")


def move(connection: Connection, moved: Iterable[tuple[str, str]]) -> None:
    """(uid, ticket id)."""
    rows = [{"uid": uid, "ticket_id": ticket_id} for uid, ticket_id in moved]
    bulk.update(connection, occurrence, "uid", ("ticket_id",), rows)


def _by_uid(rows: Sequence[Row[Any]]) -> dict[str, Held]:
    return {row[0]: Held._make(row) for row in rows}
