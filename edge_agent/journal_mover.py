"""Puts the rows of a broken journal into a new one, and decides what stays behind when not all has room.

The broken one lies beside it meanwhile. What does not fit goes in the order of ``journal_caps``, without
roll-ups: evidence of closed rows, then the oldest closed rows; an open one where there is no room at all.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from typing import TypeVar

from edge_agent import mend, stored
from edge_agent.wire import THINNED

# In one transaction: so many rows, fewer where the file may grow by less than so much for each of them. The
# log moves into the file after so many pages, and after a part of that growth.
ROWS_AT_ONCE, FEWEST_AT_ONCE, BYTES_FOR_A_ROW = 250, 4, 128 << 10
LOG_PAGES, LOG_PART = 64, 4
# Only for what gives something up, and for what is said at the end.
SPARE_PAGES = 16

T = TypeVar("T")

_INSERT = f"INSERT INTO occurrence ({mend.COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608  # constants
_OLDEST = f"""
    SELECT {mend.COLUMNS} FROM occurrence
    WHERE open = 0 AND mod_seq > ? AND evidence_bytes >= ? ORDER BY mod_seq LIMIT ?"""  # noqa: S608
_RIVALS = "SELECT uid, mod_seq FROM occurrence WHERE uid = ? OR mod_seq = ? OR (? AND open = 1 AND key = ?)"


class Mover:
    def __init__(self, into: sqlite3.Connection, most_bytes: int | None) -> None:
        """``most_bytes``: by which the file may grow; None: by what the disk has."""
        self._into = into
        # Not all fits: closed rows come without their evidence, and up to this position none has any.
        self._thins, self._thinned_through = False, 0
        self.evidence_given_up = self.rows_given_up = self.occurrences_given_up = 0
        self._at_once = ROWS_AT_ONCE
        if most_bytes is not None:
            self._at_once = max(FEWEST_AT_ONCE, min(ROWS_AT_ONCE, most_bytes // BYTES_FOR_A_ROW))
            growth = most_bytes // self._pragma("page_size")
            into.execute(f"PRAGMA wal_autocheckpoint = {max(1, min(LOG_PAGES, growth // LOG_PART))}")
            into.execute(f"PRAGMA max_page_count = {self._pragma('page_count') + growth}")
        self._pages = self._pragma("max_page_count")

    def move(self, rows: Sequence[mend.Columns]) -> None:
        for first in range(0, len(rows), self._at_once):
            self._move(rows[first : first + self._at_once])

    def end(self, work: Callable[[], object]) -> None:
        """What has to be written, whatever goes for it. Raises sqlite3.Error when it cannot be."""
        while not self._with_spare(lambda: self._together(work)):
            if not self._make_room():
                self._with_spare(lambda: self._transact(work))
                return

    def _move(self, rows: Sequence[mend.Columns]) -> None:
        if not self._thins:
            if self._put(rows):
                return
            self._thins = True
        thinned = [_without_evidence(row) if _has_evidence(row) else row for row in rows]
        self.evidence_given_up += sum(map(_has_evidence, rows))
        while not self._put(thinned):
            if not self._make_room():
                for row in thinned:
                    if not row[2] or not self._put([row]):
                        self._give_up(row)
                return

    def _make_room(self) -> bool:
        """Of what is here already; False where nothing can go, or not even that has room."""
        return self._with_spare(lambda: self._thin_oldest() or self._drop_oldest())

    def _thin_oldest(self) -> bool:
        oldest = self._oldest(self._thinned_through, at_least_bytes=1)
        if not oldest or not self._together(lambda: self._thin(oldest)):
            return False
        self.evidence_given_up += len(oldest)
        self._thinned_through = oldest[-1][3]
        return True

    def _drop_oldest(self) -> bool:
        oldest = self._oldest(0, at_least_bytes=0)
        if not oldest or not self._together(lambda: self._remove(oldest)):
            return False
        for row in oldest:
            self._give_up(row)
        return True

    def _oldest(self, after: int, *, at_least_bytes: int) -> list[mend.Columns]:
        return self._into.execute(_OLDEST, (after, at_least_bytes, self._at_once)).fetchall()

    def _give_up(self, row: mend.Columns) -> None:
        self.rows_given_up += 1
        self.occurrences_given_up += row[6]

    def _put(self, rows: Sequence[mend.Columns]) -> bool:
        return self._together(lambda: self._put_each(rows))

    def _put_each(self, rows: Sequence[mend.Columns]) -> None:
        for row in rows:
            self._put_one(row)

    def _put_one(self, row: mend.Columns) -> None:
        """Of two forms of one row, and of two rows in one place, the newer counts."""
        uid, key, is_open, mod_seq, *_ = row
        rivals = self._into.execute(_RIVALS, (uid, mod_seq, is_open, key)).fetchall()
        if all(other < mod_seq for _, other in rivals):
            self._remove(rivals)
            self._into.execute(_INSERT, row)

    def _thin(self, rows: Sequence[mend.Columns]) -> None:
        """Stored anew: a row that shrinks where it is gives no page back."""
        self._remove(rows)
        self._into.executemany(_INSERT, map(_without_evidence, rows))

    def _remove(self, rows: Sequence[tuple[str, *tuple[object, ...]]]) -> None:
        self._into.executemany("DELETE FROM occurrence WHERE uid = ?", [(uid,) for uid, *_ in rows])

    def _together(self, work: Callable[[], object]) -> bool:
        """In one transaction; False where there is no room for it."""
        try:
            self._transact(work)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                raise
            return False
        return True

    def _transact(self, work: Callable[[], object]) -> None:
        self._into.execute("BEGIN IMMEDIATE")
        try:
            work()
            self._into.execute("COMMIT")
        except BaseException:
            if self._into.in_transaction:
                self._into.execute("ROLLBACK")
            raise

    def _with_spare(self, work: Callable[[], T]) -> T:
        self._into.execute(f"PRAGMA max_page_count = {self._pages + SPARE_PAGES}")
        try:
            return work()
        finally:
            self._into.execute(f"PRAGMA max_page_count = {self._pages}")

    def _pragma(self, name: str) -> int:
        return int(self._into.execute(f"PRAGMA {name}").fetchone()[0])


def _has_evidence(row: mend.Columns) -> bool:
    """That may go: of an open one it stays."""
    return not row[2] and row[7] > 0


def _without_evidence(row: mend.Columns) -> mend.Columns:
    uid, key, is_open, mod_seq, text, _, count, _, changed_ms = row
    body = json.loads(text) | {"evidence": THINNED}
    text = json.dumps(body, separators=(",", ":"))
    return (uid, key, is_open, mod_seq, text, stored.crc(text), count, 0, changed_ms)
