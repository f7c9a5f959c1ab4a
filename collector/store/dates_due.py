"""Stretches of boots whose occurrences are still to be dated anew."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy import ColumnElement, Connection, case, delete, select, update

from collector.store.streams import insert_for
from collector.store.tables import dates_due, gateway


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A part of a boot, in ms of its monotonic clock, because of what became known of that hour of it."""

    boot: str
    hour: int
    from_ms: int
    to_ms: int

    def until(self, to_ms: int) -> Stretch:
        return replace(self, to_ms=to_ms)


def put(connection: Connection, gateway_id: str, stretch: Stretch) -> None:
    """What was done of it before is to be done again."""
    statement = insert_for(connection)(dates_due)
    told = statement.excluded
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[dates_due.c.gateway_id, dates_due.c.boot, dates_due.c.hour],
            set_={
                "from_ms": case(
                    (told.from_ms < dates_due.c.from_ms, told.from_ms), else_=dates_due.c.from_ms
                ),
                "to_ms": case((told.to_ms > dates_due.c.to_ms, told.to_ms), else_=dates_due.c.to_ms),
            },
        ),
        {
            "gateway_id": gateway_id,
            "boot": stretch.boot,
            "hour": stretch.hour,
            "from_ms": stretch.from_ms,
            "to_ms": stretch.to_ms,
        },
    )


def whose(connection: Connection) -> tuple[str, str, str] | None:
    """(gateway id, site, name) of one who has something due."""
    row = connection.execute(
        select(dates_due.c.gateway_id, gateway.c.site, gateway.c.name)
        .join(gateway, gateway.c.id == dates_due.c.gateway_id)
        .order_by(dates_due.c.gateway_id)
        .limit(1)
    ).first()
    return None if row is None else (row.gateway_id, row.site, row.name)


def of(connection: Connection, gateway_id: str) -> Stretch | None:
    """The first of this gateway, which is locked."""
    row = connection.execute(
        select(dates_due.c.boot, dates_due.c.hour, dates_due.c.from_ms, dates_due.c.to_ms)
        .where(dates_due.c.gateway_id == gateway_id)
        .order_by(dates_due.c.boot, dates_due.c.hour)
        .limit(1)
    ).first()
    return None if row is None else Stretch(**row._mapping)


def shorten(connection: Connection, gateway_id: str, stretch: Stretch, *, from_ms: int) -> None:
    connection.execute(update(dates_due).where(*_this(gateway_id, stretch)).values(from_ms=from_ms))


def done(connection: Connection, gateway_id: str, stretch: Stretch) -> None:
    connection.execute(delete(dates_due).where(*_this(gateway_id, stretch)))


def _this(gateway_id: str, stretch: Stretch) -> tuple[ColumnElement[bool], ...]:
    columns = dates_due.c
    return columns.gateway_id == gateway_id, columns.boot == stretch.boot, columns.hour == stretch.hour
