"""What time it is in the database, and whose turn it is to act by it.

Several collectors on one PostgreSQL must agree about now, or one calls a gateway silent that another hears;
so they take its clock. SQLite has one collector, and that has a clock.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Connection, case, cast, extract, false, func, or_, select, true, update

from collector.store.tables import listening

# Any number will do that nobody else uses; another than that of the migrations.
TIMERS = 0x616E646F6F
# How exactly it is kept that a collector runs: each keeping is a write.
KEPT_MS = 4_000
# Gateways missed no more than one heartbeat in a restart that is quicker than this.
BREAK_MS = 12_000


def now_ms(connection: Connection) -> int | None:
    """UTC; ``None`` where the database has no clock of its own."""
    if connection.dialect.name != "postgresql":
        return None
    found: int = connection.execute(
        select(cast(func.floor(extract("epoch", func.clock_timestamp()) * 1000), BigInteger))
    ).scalar_one()
    return found


def claim_timers(connection: Connection) -> bool:
    """Whether no other collector acts by the clock until the end of this transaction."""
    if connection.dialect.name != "postgresql":
        return True
    return bool(connection.execute(select(func.pg_try_advisory_xact_lock(TIMERS))).scalar_one())


def listening_since(connection: Connection, now_ms: int, *, deaf: bool = False) -> int:
    """Since when some collector could hear gateways and write down that it did. To be called every second.

    One that is restarted again and again does not begin anew each time; a database that was away, a backup
    that was put back and a clock that has jumped do. ``deaf``: this collector has sent heartbeats away.
    """
    last = listening.c.last_ms
    broken = or_(last < now_ms - BREAK_MS, last > now_ms + BREAK_MS, true() if deaf else false())
    connection.execute(
        update(listening)
        .where(or_(last < now_ms - KEPT_MS, broken))
        .values(since_ms=case((broken, now_ms), else_=listening.c.since_ms), last_ms=now_ms)
    )
    since_ms: int = connection.execute(select(listening.c.since_ms)).scalar_one()
    return since_ms
