"""What PostgreSQL knows of tables that grow fast: it plans by how many rows are what, keeps a plan until it
counts anew, and by itself counts once a minute. A plan that was made for a handful of open tickets reads all
that are open, with each message of a storm.

SQLite is not asked to plan by numbers.
"""

from __future__ import annotations

from sqlalchemy import Connection

# Of a table with fewer any plan will do.
MANY = 1_000
# By rows, not by changes: of one that is written again and again, and does not grow, nothing new is learnt.
# PostgreSQL manual, 28.2 (pg_stat_user_tables) and 53.11 (pg_class: reltuples is -1 before the first count).
_GROWN = f"""
SELECT quote_ident(relation.relname)
FROM pg_stat_user_tables AS changes
JOIN pg_class AS relation ON relation.oid = changes.relid
WHERE changes.schemaname = current_schema()
    AND changes.n_live_tup >= greatest(2 * relation.reltuples, {MANY})
ORDER BY relation.relname
"""  # noqa: S608


def keep(connection: Connection) -> tuple[str, ...]:
    """Count the tables that more than doubled; their names. To be called every second: what was changed is
    known that late. A table that somebody else counts just then is left out.
    """
    if connection.dialect.name != "postgresql":
        return ()
    grown = tuple(connection.exec_driver_sql(_GROWN).scalars())
    if grown:
        connection.exec_driver_sql(f"ANALYZE (SKIP_LOCKED) {', '.join(grown)}")
    return grown
