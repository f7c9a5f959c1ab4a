"""Decides what a journal gives up when it is nearly full, and in which order: statements, like a ledger.

Evidence goes first, of rows that the collector has and then of others; then closed rows that it has, before
their time; then closed rows that it lacks become roll-ups, which loses nothing; at last the oldest of those
are dropped, counted and declared. An open row is never given up, nor the newest row of a condition.

How full the file is, its pages say. The limit is SQLite's own (``max_page_count``), so that this journal
never is what fills the disk.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from edge_agent import losses, rollup, stored
from edge_agent.occurrence import uid_at
from edge_agent.stored import Stored
from edge_agent.wire import MAX_MEMBERS, THINNED, Row, encode

MIB = 1 << 20
DAY_MS = 86_400_000
# Of the limit: from where on something is given up, and until when.
GIVE_WAY_BELOW, GIVE_WAY_UNTIL = 0.15, 0.20
# Rows are dropped when there is less room than this part of the limit, and than so many pages.
DROP_BELOW, DROP_BELOW_PAGES = 0.05, 256
# How many rows one step, which is one transaction, reads; and of how many only position and condition.
THINNED_AT_ONCE, PRUNED_AT_ONCE, ROLLED_AT_ONCE = 64, 200, 400
LOOKED_AT_ONCE = 5_000
# Rows that were tried and became no roll-up are tried again with those that came after them: so many of the
# newest, after so many new ones and when it is pressed anew.
LOOKED_BACK_AT, ROLLED_AGAIN_AFTER = 5_000, 32
# Of the largest roll-up, and some for the indices.
ROLL_UP_PAGES = 8
# Pages that a row has a part in: of the table, of each index, overflow.
PAGES_PER_ROW = 6
# When all was looked at and nothing could be given up: how much the file grows before that is tried again.
AGAIN_AFTER_PAGES = 16
# Pages that are made before they are needed, while the disk still has room for them.
RESERVE_PAGES = 256
# Only for what gives something up: to make room takes a little room.
SPARE_PAGES = 16
# As SQLite does it unless told: pages in the log until they move into the file.
WAL_PAGES = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """``horizon_ms``: how long a closed row can still be sent again, should the collector be restored from a
    backup. Time on which the agent ran, for no wall clock can be trusted with it.
    """

    journal_bytes: int = 256 * MIB
    evidence_bytes: int = 64 * MIB
    horizon_ms: int = 30 * DAY_MS
    reserve_pages: int = 0
    wal_pages: int = WAL_PAGES

    def on_a_disk_of(self, disk_bytes: int, page_bytes: int = 4096) -> Caps:
        """At most half of it, and with a log that fits beside the file."""
        journal_bytes = min(self.journal_bytes, disk_bytes // 2)
        return replace(
            self,
            journal_bytes=journal_bytes,
            evidence_bytes=min(self.evidence_bytes, journal_bytes // 4),
            reserve_pages=min(RESERVE_PAGES, journal_bytes // 16 // page_bytes),
            wal_pages=max(16, min(WAL_PAGES, disk_bytes // 8 // page_bytes)),
        )


class Relief(StrEnum):
    """What one step came to."""

    GAVE = "gave"
    # Nothing of what it looked at can go; there is more to be looked at.
    LOOKED = "looked"
    NOTHING = "nothing"


class Given(StrEnum):
    """What is counted when it is given up."""

    # Rows whose evidence was given up.
    EVIDENCE_THINNED = "evidence_thinned"
    # Occurrences that became members of a roll-up.
    ROWS_ROLLED_UP = "rows_rolled_up"
    # Occurrences that the collector had acknowledged, pruned before their time.
    PRUNED_EARLY = "pruned_early"
    # Rows that nobody has, and the occurrences that they stood for.
    ROWS_DROPPED = "rows_dropped"
    OCCURRENCES_DROPPED = "occurrences_dropped"
    # Rows that were not any more what was written.
    ROWS_DAMAGED = "rows_damaged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """In pages; ``used`` has something in it."""

    limit: int
    used: int
    evidence_bytes: int

    @property
    def free(self) -> int:
        return self.limit - self.used


# How far: for thinning, for rolling up now and ever, for the newest.
_LookedAt = tuple[int, int, int, int]


class Economy:
    """What is kept in memory here is only where to go on; a step that is rolled back is made again.

    What can never be given up is not read again each time: of what was once looked at, only the newest part.
    """

    def __init__(self, connection: sqlite3.Connection, *, new_id: Callable[[], str], caps: Caps) -> None:
        self._sql = connection
        self._new_id = new_id
        self.caps = caps
        self._page_bytes = self._pragma("page_size")
        self._held: int | None = None
        self._relieving = False
        # When there was nothing left to give up: no use in looking again at once.
        self._in_vain: Room | None = None
        # Where the steps go on: what is at or before them was looked at.
        self._thinned_through = self._pruned_through = self._rolled_through = self._dropped_through = 0
        # Cursor and newest row as of then; what is tried next, up to where, and whether any of it became one.
        self._rolled_from = self._rolled_as_of = self._rolled_furthest = 0
        self._few: Iterator[list[int]] = iter(())
        self._few_through, self._few_gave = 0, False
        self._newest: dict[str, int] = {}
        self._newest_through = 0
        # Where it stood before a step that may be rolled back yet.
        self._before: _LookedAt | None = None
        self._limit()
        self._sql.execute(f"PRAGMA wal_autocheckpoint = {caps.wal_pages}")

    @property
    def held(self) -> bool:
        """Whether the file must not grow, because the disk is full."""
        return self._held is not None

    def hold(self, growth_bytes: int) -> None:
        """Outside of any transaction: the disk is full. The file grows by this at once, before others do,
        and then no more; the log stays short. Said again it only narrows.
        """
        if self._held is None:
            self._sql.execute(f"PRAGMA wal_autocheckpoint = {max(8, self.caps.wal_pages // 4)}")
            self._grow(growth_bytes // self._page_bytes)
        pages = self._pragma("page_count")
        self._held = pages if self._held is None else min(self._held, pages)
        self._in_vain = None
        self._limit()

    def _grow(self, pages: int) -> None:
        """By so many, or by what can be had of them."""
        free = self._pragma("freelist_count")
        while pages:
            try:
                self._make_pages(free + pages)
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                    raise
                pages //= 2

    def let_go(self) -> None:
        if self._held is not None:
            self._held = None
            self._sql.execute(f"PRAGMA wal_autocheckpoint = {self.caps.wal_pages}")
            self._limit()

    def room(self) -> Room:
        """Costs no read of the file."""
        limit = self._pragma("max_page_count")
        used = self._pragma("page_count") - self._pragma("freelist_count")
        return Room(limit=limit, used=used, evidence_bytes=self._total("evidence_bytes"))

    def reserve(self) -> None:
        """Outside of any transaction: make free pages, so that later changes need nothing of the disk."""
        wanted = self.caps.reserve_pages
        if self.held or not wanted or self._pragma("freelist_count") >= wanted // 2:
            return
        if self._pragma("page_count") + wanted > self._pragma("max_page_count"):
            return
        self._make_pages(wanted)

    def _make_pages(self, count: int) -> None:
        """So many free ones in a row, of which those that are free already are some."""
        # Two transactions: what is freed in the one that made it is never written. The table has a page, its
        # row another, and each further page of the row begins with the number of the next.
        self._sql.execute("DROP TABLE IF EXISTS reserve")
        self._sql.execute("CREATE TABLE reserve (pages BLOB)")
        row_bytes = max(0, count - 2) * (self._page_bytes - 4)
        self._sql.execute("INSERT INTO reserve VALUES (zeroblob(?))", (row_bytes,))
        self._sql.execute("DROP TABLE reserve")

    def is_pressed(self, room: Room) -> bool:
        """Whether ``relieve`` has something to do; between the two marks: whether it has begun."""
        if self._in_vain is not None and room.used < self._in_vain.used + AGAIN_AFTER_PAGES:
            return False
        part = GIVE_WAY_UNTIL if self._relieving else GIVE_WAY_BELOW
        evidence_bytes = self.caps.evidence_bytes * (9 if self._relieving else 10) // 10
        return room.free < room.limit * part or room.evidence_bytes > evidence_bytes

    def relieve(self, *, full: bool = False) -> Relief:
        """Give up a little, in the caller's transaction; NOTHING when nothing is to be done (any more).

        ``full``: something could not be written; what is left to give up is given up for it.
        """
        self._before = self._before or self._looked_at()
        # On a full disk nothing beyond the file is anybody's.
        self._limit(spare=0 if self.held else SPARE_PAGES)
        try:
            return self._relieve(full=full)
        finally:
            self._limit()

    def _relieve(self, *, full: bool) -> Relief:
        room = self.room()
        if not full and not self.is_pressed(room):
            self._rest()
            return Relief.NOTHING
        self._relieving = True
        for step in self._steps(room, full=full):
            if (outcome := step()) is not Relief.NOTHING:
                return outcome
        self._rest()
        self._in_vain = room
        return Relief.NOTHING

    def committed(self) -> None:
        self._before = None

    def rolled_back(self) -> None:
        """Something could not be written, or a step was not made."""
        if self._before is not None:
            (
                self._thinned_through,
                self._rolled_through,
                self._rolled_furthest,
                self._newest_through,
            ) = self._before
            # Of a condition that is not known here nothing goes.
            self._newest = {key: seq for key, seq in self._newest.items() if seq <= self._newest_through}
            self._before = None
        self._rest()

    def count(self, what: Given, by: int) -> None:
        if by:
            self.set(what, self.counted(what) + by)

    def set(self, what: Given, count: int) -> None:
        self._sql.execute(
            "INSERT OR REPLACE INTO counter (name, count, crc) VALUES (?, ?, ?)",
            (what, count, stored.checksum(what, count)),
        )

    def counted(self, what: Given) -> int:
        found = self._sql.execute("SELECT count FROM counter WHERE name = ?", (what,)).fetchone()
        return 0 if found is None else int(found[0])

    def lose(self, mod_seq: int, occurrences: int) -> None:
        """A row is gone that nobody may have: the next messages declare it."""
        losses.add(self._sql, self._new_id, mod_seq, occurrences)
        self._sql.execute("UPDATE stream SET pruned_through = max(pruned_through, ?)", (mod_seq,))

    def remove(self, uids: Iterable[str]) -> None:
        self._sql.executemany(
            "UPDATE stream SET evidence_bytes ="
            " evidence_bytes - (SELECT evidence_bytes FROM occurrence WHERE uid = ?)",
            found := [(uid,) for uid in uids],
        )
        self._sql.executemany("DELETE FROM occurrence WHERE uid = ?", found)

    # --- steps --------------------------------------------------------------------------------------------

    def _steps(self, room: Room, *, full: bool) -> list[Callable[[], Relief]]:
        cursor, head = self._total("cursor_seq"), self._total("head_seq")
        steps = [self._look_for_newest, lambda: self._thin(cursor), lambda: self._thin(head)]
        if full or room.free < room.limit * GIVE_WAY_UNTIL:
            steps.append(lambda: self._prune(cursor))
            # A roll-up takes room before it makes some; without it the next step makes that room.
            if room.free >= ROLL_UP_PAGES:
                steps.append(lambda: self._roll_up(cursor))
        if full or room.free < min(room.limit * DROP_BELOW, DROP_BELOW_PAGES):
            steps.append(lambda: self._drop(cursor))
        return steps

    def _look_for_newest(self) -> Relief:
        """Which row of each condition is: as of the first steps, what comes later is newer still."""
        found = self._sql.execute(
            "SELECT key, mod_seq FROM occurrence WHERE mod_seq > ? ORDER BY mod_seq LIMIT ?",
            (self._newest_through, LOOKED_AT_ONCE),
        ).fetchall()
        self._newest.update(found)
        if found:
            self._newest_through = found[-1][1]
        return Relief.LOOKED if len(found) == LOOKED_AT_ONCE else Relief.NOTHING

    def _thin(self, through: int) -> Relief:
        found: list[Stored] = self._sql.execute(
            f"SELECT {stored.COLUMNS} FROM occurrence"  # noqa: S608  # a constant
            " WHERE open = 0 AND evidence_bytes > 0 AND mod_seq > ? AND mod_seq <= ?"
            " ORDER BY mod_seq LIMIT ?",
            (self._thinned_through, through, self._at_once(THINNED_AT_ONCE)),
        ).fetchall()
        rows = [row for one in found if (row := stored.row(one)) is not None]
        for row in rows:
            self._replace(row.model_copy(update={"evidence": THINNED}))
        self.count(Given.EVIDENCE_THINNED, len(rows))
        self._thinned_through = found[-1][3] if found else max(through, self._thinned_through)
        return _relief(rows, found)

    def _prune(self, cursor: int) -> Relief:
        found = self._sql.execute(
            "SELECT uid, key, mod_seq, count FROM occurrence WHERE open = 0 AND mod_seq > ? AND mod_seq <= ?"
            " ORDER BY mod_seq LIMIT ?",
            (self._pruned_through, cursor, self._at_once(PRUNED_AT_ONCE)),
        ).fetchall()
        gone = [one for one in found if one[2] < self._newest_of(one[1])]
        self.remove(uid for uid, *_ in gone)
        if gone:
            self._sql.execute("UPDATE stream SET pruned_through = max(pruned_through, ?)", (gone[-1][2],))
            self.count(Given.PRUNED_EARLY, sum(count for *_, count in gone))
        if found:
            self._pruned_through = found[-1][2]
        return _relief(gone, found)

    def _roll_up(self, cursor: int) -> Relief:
        """A few of the oldest conditions with several rows."""
        if cursor < self._rolled_from:
            self._rolled_furthest = 0
            self._look_back()
        self._rolled_from = cursor
        few = next(self._few, None)
        if few is not None:
            gave = self._roll_up_these(few, cursor)
            self._few_gave |= gave
            return Relief.GAVE if gave else Relief.LOOKED
        if not self._few_gave:
            self._rolled_through = max(self._rolled_through, self._few_through)
            self._rolled_furthest = max(self._rolled_furthest, self._rolled_through)
        found = self._sql.execute(
            "SELECT key, mod_seq FROM occurrence WHERE open = 0 AND count < ? AND mod_seq > ?"
            " ORDER BY mod_seq LIMIT ?",
            (MAX_MEMBERS, max(cursor, self._rolled_through), LOOKED_AT_ONCE),
        ).fetchall()
        if not found:
            if self._newest_through < self._rolled_as_of + ROLLED_AGAIN_AFTER:
                return Relief.NOTHING
            self._look_back()
            return Relief.LOOKED
        by_key: dict[str, list[int]] = defaultdict(list)
        for key, mod_seq in found:
            if mod_seq < self._newest_of(key):
                by_key[key].append(mod_seq)
        self._few = _few_at_once(by_key.values(), self._at_once(ROLLED_AT_ONCE))
        self._few_through, self._few_gave = found[-1][1], False
        return Relief.LOOKED

    def _roll_up_these(self, seqs: list[int], cursor: int) -> bool:
        kinds: dict[rollup.Kind, list[Row]] = defaultdict(list)
        for mod_seq in sorted(seqs):
            # It may have gone, or have been sent, since the step before.
            one: Stored | None = self._sql.execute(
                f"SELECT {stored.COLUMNS} FROM occurrence WHERE mod_seq = ? AND mod_seq > ?",  # noqa: S608  # a constant
                (mod_seq, cursor),
            ).fetchone()
            row = None if one is None else stored.row(one)
            if row is not None and (kind := rollup.kind(row)) is not None:
                kinds[kind].append(row)
        chunks = [few for rows in kinds.values() for few in rollup.together(rows) if len(few) > 1]
        # All of them leave before the first comes: rows of many conditions lie on one page.
        made = [(self._made_of(few), max(self._changed_ms(row.uid) for row in few)) for few in chunks]
        self.remove(row.uid for few in chunks for row in few)
        for row, changed_ms in made:
            body = encode(row).decode()
            self._sql.execute(
                "INSERT INTO occurrence (uid, key, open, mod_seq, body, crc, changed_ms, count)"
                " VALUES (?, ?, 0, ?, ?, ?, ?, ?)",
                (row.uid, row.key, row.mod_seq, body, stored.crc(body), changed_ms, row.count),
            )
        self.count(Given.ROWS_ROLLED_UP, sum(row.members is None for few in chunks for row in few))
        return bool(chunks)

    def _made_of(self, rows: Sequence[Row]) -> Row:
        return rollup.rolled_up(rows, uid=uid_at(rows[-1].raised.wall_ms, self._new_id()))

    def _drop(self, cursor: int) -> Relief:
        """The oldest that is not the newest of its condition."""
        found = self._sql.execute(
            "SELECT uid, key, mod_seq, count FROM occurrence WHERE open = 0 AND mod_seq > ?"
            " ORDER BY mod_seq LIMIT ?",
            (max(cursor, self._dropped_through), LOOKED_AT_ONCE),
        ).fetchall()
        for uid, key, mod_seq, count in found:
            self._dropped_through = mod_seq
            if mod_seq < self._newest_of(key):
                self.remove([uid])
                self.count(Given.ROWS_DROPPED, 1)
                self.count(Given.OCCURRENCES_DROPPED, count)
                self.lose(mod_seq, count)
                return Relief.GAVE
        return Relief.LOOKED if found else Relief.NOTHING

    def _at_once(self, rows: int) -> int:
        """On a full disk what a step changes has to fit into the log; a row lies on several pages."""
        fitting = max(4, self.caps.wal_pages // 4 // PAGES_PER_ROW)
        return min(rows, fitting) if self.held else rows

    # --- inside -------------------------------------------------------------------------------------------

    def _looked_at(self) -> _LookedAt:
        return (self._thinned_through, self._rolled_through, self._rolled_furthest, self._newest_through)

    def _rest(self) -> None:
        """Until it is pressed again: what is no more the newest of its condition may go then."""
        self._relieving, self._in_vain = False, None
        self._pruned_through = self._dropped_through = 0
        self._look_back()

    def _look_back(self) -> None:
        """Rows become one with those that come after them, if these come soon."""
        back = max(0, self._rolled_furthest - LOOKED_BACK_AT)
        self._rolled_through = min(self._rolled_through, back)
        self._rolled_as_of = self._newest_through
        self._few, self._few_through, self._few_gave = iter(()), 0, False

    def _newest_of(self, key: str) -> int:
        return self._newest.get(key, 0)

    def _replace(self, row: Row) -> None:
        """The same row at the same position with less in it."""
        body = encode(row).decode()
        self._sql.execute(
            "UPDATE stream SET evidence_bytes ="
            " evidence_bytes - (SELECT evidence_bytes FROM occurrence WHERE uid = ?)",
            (row.uid,),
        )
        self._sql.execute(
            "UPDATE occurrence SET body = ?, crc = ?, evidence_bytes = 0 WHERE uid = ?",
            (body, stored.crc(body), row.uid),
        )

    def _changed_ms(self, uid: str) -> int:
        return int(self._sql.execute("SELECT changed_ms FROM occurrence WHERE uid = ?", (uid,)).fetchone()[0])

    def _total(self, column: str) -> int:
        found = self._sql.execute(f"SELECT {column} FROM stream").fetchone()  # noqa: S608  # a constant
        return 0 if found is None else int(found[0])

    def _limit(self, spare: int = 0) -> None:
        pages = self.caps.journal_bytes // self._page_bytes - SPARE_PAGES
        if self._held is not None:
            pages = min(pages, self._held)
        self._sql.execute(f"PRAGMA max_page_count = {max(pages, 1) + spare}")

    def _pragma(self, name: str) -> int:
        return int(self._sql.execute(f"PRAGMA {name}").fetchone()[0])


def _relief(given: Sequence[object], found: Sequence[object]) -> Relief:
    return Relief.GAVE if given else Relief.LOOKED if found else Relief.NOTHING


def _few_at_once(conditions: Iterable[list[int]], at_once: int) -> Iterator[list[int]]:
    """All positions of conditions that have several, at most ``at_once`` together and no condition's last one
    alone.
    """
    chosen: list[int] = []
    for seqs in conditions:
        while len(seqs) > 1:
            taken, seqs = seqs[: at_once - len(chosen)], seqs[at_once - len(chosen) :]
            chosen += taken
            if len(chosen) >= at_once - 1:
                yield chosen
                chosen = []
    if chosen:
        yield chosen
