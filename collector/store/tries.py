"""Wrong passwords, as several collectors count them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, select

from collector.store.tables import login_try

# Account and network; the account None stands for all of them.
Key = tuple[str | None, str]


def enter(connection: Connection, limits: Mapping[Key, int], now_ms: int, window_ms: int) -> int | None:
    """Counts one more for each key; or counts nothing, and says when there is room again."""
    if connection.dialect.name == "postgresql":
        # Guesses that come by several collectors at the same moment are counted one after the other.
        for name in sorted(f"{network} {account or ''}" for account, network in limits):
            connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))
    at_ms = login_try.c.at_ms
    connection.execute(delete(login_try).where(at_ms <= now_ms - window_ms))
    for key, limit in limits.items():
        newest = select(at_ms).where(_of(key)).order_by(at_ms.desc()).limit(limit)
        times: Sequence[int] = connection.execute(newest).scalars().all()
        if len(times) >= limit:
            return times[-1] + window_ms
    entered = [{"account": account, "network": network, "at_ms": now_ms} for account, network in limits]
    connection.execute(insert(login_try), entered)
    return None


def forgive(connection: Connection, *, anew: Iterable[Key], once: Iterable[Key]) -> None:
    """The password was right: the first begin anew, of the others this try does not count."""
    for key in anew:
        connection.execute(delete(login_try).where(_of(key)))
    for key in once:
        last = select(func.max(login_try.c.id)).where(_of(key)).scalar_subquery()
        connection.execute(delete(login_try).where(login_try.c.id == last))


def _of(key: Key) -> ColumnElement[bool]:
    account, network = key
    known = login_try.c
    return and_(
        known.network == network, known.account.is_(None) if account is None else known.account == account
    )
