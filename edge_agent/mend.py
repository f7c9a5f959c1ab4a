"""Puts right a journal whose indices have parted from their table: a row's body says what its columns are.

The body of a row has a checksum and holds all that its columns hold. So a body that is whole wins over a
column and over an index. A row whose body is damaged too is given up.
"""

from __future__ import annotations

import json
import sqlite3
import zlib

from edge_agent.wire import condition_key

_COLUMNS = "uid, key, open, mod_seq, changed_ms, body, crc"
_Row = tuple[str, str, int, int, int, str, int]


def rows(connection: sqlite3.Connection) -> int:
    """Store all rows anew in one transaction; how many were given up. Raises sqlite3.Error, nothing done."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        stored = connection.execute(f"SELECT {_COLUMNS} FROM occurrence NOT INDEXED").fetchall()  # noqa: S608  # a constant
        # Without a condition it empties table and indices without looking into them.
        connection.execute("DELETE FROM occurrence")
        whole = [told for row in stored if (told := _as_told(row)) is not None]
        connection.executemany(
            f"INSERT INTO occurrence ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
            whole,
        )
        connection.execute("REINDEX")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return len(stored) - len(whole)


def _as_told(row: _Row) -> _Row | None:
    """With the columns that its body tells; None if that is not what was written."""
    *_, changed_ms, text, crc = row
    if zlib.crc32(text.encode("utf-8", "surrogateescape")) != crc:
        return None
    body = json.loads(text)
    key = condition_key(body["device"], body["component"], body["fault"])
    return body["uid"], key, int(body["state"] == "open"), body["mod_seq"], changed_ms, text, crc
