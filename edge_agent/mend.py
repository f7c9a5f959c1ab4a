"""Puts right a journal whose indices have parted from their table: a row's body says what its columns are.

A row whose body is damaged too is given up.
"""

from __future__ import annotations

import sqlite3

from edge_agent import stored

COLUMNS = "uid, key, open, mod_seq, body, crc, count, evidence_bytes, changed_ms"
_STREAM = "id, head_seq, cursor_seq, cursor_nonce, pruned_through, evidence_bytes"
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
        _sum_evidence(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return len(found) - len(whole)


def _sum_evidence(connection: sqlite3.Connection) -> None:
    """As the rows have it; a stream that is not what was written is mended later."""
    found = connection.execute(f"SELECT {_STREAM}, crc FROM stream").fetchone()  # noqa: S608  # a constant
    if found is None or stored.checksum(*found[:-1]) != found[-1]:
        return
    (evidence_bytes,) = connection.execute(
        "SELECT coalesce(sum(evidence_bytes), 0) FROM occurrence"
    ).fetchone()
    connection.execute(
        "UPDATE stream SET evidence_bytes = ?, crc = ?",
        (evidence_bytes, stored.checksum(*found[:-2], evidence_bytes)),
    )


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
