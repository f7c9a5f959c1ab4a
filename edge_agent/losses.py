"""Keeps what was lost here before anybody had it, so that every collector hears of it once.

Each loss has a name of its own. It is told in every message that begins below it: to a collector that was
restored from a backup again, and in every new stream. Whoever knows the name has counted it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from edge_agent.stored import checksum
from edge_agent.wire import LOSSES_MAX, Loss

# id, stream, through, count; with the number that it has in the order in which losses were made.
_Kept = tuple[int, str, str, int, int]
COLUMNS = "id, stream, through, count"


def add(sql: sqlite3.Connection, new_id: Callable[[], str], mod_seq: int, occurrences: int) -> None:
    """One that no collector has confirmed grows; else a new one begins."""
    stream, cursor = sql.execute("SELECT id, cursor_seq FROM stream").fetchone()
    found: _Kept | None = sql.execute(
        f"SELECT made, {COLUMNS} FROM loss WHERE stream = ? AND through > ? ORDER BY made DESC LIMIT 1",  # noqa: S608  # constants
        (stream, cursor),
    ).fetchone()
    if found is None:
        _put(sql, (None, new_id(), stream, mod_seq, occurrences))
        _merge_oldest(sql)
    else:
        made, name, _, through, count = found
        _put(sql, (made, name, stream, max(through, mod_seq), count + occurrences))


def after(sql: sqlite3.Connection, position: int) -> list[Loss]:
    """Those that a message which begins there has to tell, oldest first."""
    found = sql.execute("SELECT id, through, count FROM loss WHERE through > ? ORDER BY made", (position,))
    return [Loss(id=name, through=through, count=count) for name, through, count in found.fetchall()]


def of_stream(sql: sqlite3.Connection) -> int:
    """How many occurrences are told as lost in the present stream first."""
    found = sql.execute(
        "SELECT coalesce(sum(count), 0) FROM loss WHERE stream = (SELECT id FROM stream)"
    ).fetchone()
    return int(found[0])


def move(sql: sqlite3.Connection, cursor: int, stream: str) -> int:
    """What nobody has confirmed up to ``cursor`` is told in this stream first: its last position, or 0."""
    found: list[_Kept] = sql.execute(
        f"SELECT made, {COLUMNS} FROM loss WHERE through > ?",  # noqa: S608
        (cursor,),
    ).fetchall()
    for made, name, _, through, count in found:
        _put(sql, (made, name, stream, through, count))
    return max((through for *_, through, _ in found), default=0)


def _merge_oldest(sql: sqlite3.Connection) -> None:
    """The oldest two become one when there are too many to be told."""
    kept: list[_Kept] = sql.execute(f"SELECT made, {COLUMNS} FROM loss ORDER BY made").fetchall()  # noqa: S608
    if len(kept) > LOSSES_MAX:
        (oldest, _, _, far, many), (made, name, stream, through, count) = kept[:2]
        sql.execute("DELETE FROM loss WHERE made = ?", (oldest,))
        _put(sql, (made, name, stream, max(far, through), many + count))


def _put(sql: sqlite3.Connection, kept: tuple[int | None, str, str, int, int]) -> None:
    sql.execute(
        f"INSERT OR REPLACE INTO loss (made, {COLUMNS}, crc) VALUES (?, ?, ?, ?, ?, ?)",  # noqa: S608
        (*kept, checksum(*kept[1:])),
    )
