"""Whether a file of SQLite is consistent, by its own checks."""

from __future__ import annotations

import sqlite3


class BrokenFileError(sqlite3.DatabaseError):
    """It cannot be used as it is."""


def parted(sql: sqlite3.Connection) -> str | None:
    """What SQLite says of an index that has parted from its table; None: all is sound.

    Raises BrokenFileError where more than an index is affected.
    """
    found = _verdict(sql, "integrity_check")
    if found == "ok":
        return None
    # The quick one leaves out whether an index fits its table.
    if (broken := _verdict(sql, "quick_check")) != "ok":
        raise BrokenFileError(broken)
    return found


def _verdict(sql: sqlite3.Connection, check: str) -> str:
    return str(sql.execute(f"PRAGMA {check}(1)").fetchone()[0])
