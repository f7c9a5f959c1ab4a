"""Puts right a journal whose indices have parted from their table: a row's body says what its columns are.

A row whose body is damaged too is given up.
"""

from __future__ import annotations

import sqlite3

from edge_agent import stored

COLUMNS = "uid, key, open, mod_seq, body, crc, count, evidence_bytes, changed_ms"
# Of COLUMNS.
Columns = tuple[str, str, int, int, str, int, int, int, int]


def rows(connection: sqlite3.Connection) -> int:
    """Store all rows anew in one transaction; how many were given up. Raises sqlite3.Error, nothing done."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        found = connection.execute("SELECT body, crc, changed_ms FROM occurrence NOT INDEXED").fetchall()
        # Without a condition it empties table and indices without looking into them.
        connection.execute("DELETE FROM occurrence")
        whole = [told for row in found if (told := as_told(*row)) is not None]
        connection.executemany(
            f"INSERT INTO occurrence ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608  # a constant
            whole,
        )
        connection.execute("REINDEX")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return len(found) - len(whole)


def as_told(text: str, crc: int, changed_ms: int) -> Columns | None:
    """A row with the columns that its body tells; None if that is not what was written."""
    body = stored.body(text, crc)
    if body is None:
        return None
    told = stored.columns(body)
    return (
        told.uid,
        told.key,
        told.open,
        told.mod_seq,
        text,
        crc,
        told.count,
        told.evidence_bytes,
        changed_ms,
    )
