"""What time it is in the database, and whose turn it is to act by it.

Several collectors on one PostgreSQL must agree about now, or one calls a gateway silent that another hears;
so they take its clock. SQLite has one collector, and that has a clock.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Connection, cast, extract, func, select

# Any number will do that nobody else uses; another than that of the migrations.
TIMERS = 0x616E646F6F


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
