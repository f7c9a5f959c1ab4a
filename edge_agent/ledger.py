"""Decides what one transaction does to the journal's file: plain statements on one SQLite connection.

Nothing here waits or knows of asyncio. ``together`` runs several units in one durable transaction; every
other method is the body of a unit. The occurrence rows are the detector's durable state too: a condition is
active while its row is open, so that state and record are one fact and cannot part.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

import structlog

from edge_agent import occurrence
from edge_agent.occurrence import Change, Opening
from edge_agent.wire import (
    LINEAGE_MAX,
    ORIGIN,
    Row,
    Stamp,
    SyncAnswer,
    Verdict,
    condition_key,
    encode,
)

# How long a closed row can still be sent again, should the collector be restored from a backup: days on
# which the agent ran, for no wall clock can be trusted with it.
RESEND_HORIZON_MS = 30 * 86_400_000
# So many announced positions are remembered: a month at 136 messages with rows a day, 0.3 MB. A collector
# that was restored to one of them gets what it lacks, one that stands elsewhere gets everything.
BOUNDARIES_KEPT = 4_096
# At most so many rows are pruned in one transaction: a short one, also on a slow card.
PRUNED_AT_ONCE = 1_000

log = structlog.get_logger()

Position = tuple[int, str]
Unit = Callable[["Ledger"], object]


class Moved(StrEnum):
    """What an answer did to the cursor."""

    STAYED = "stayed"
    FORWARDS = "forwards"
    # The collector holds less than before; what it lacks is sent again.
    BACKWARDS = "backwards"
    # This file was rolled back or copied, or another took its place: all is sent again under a new name.
    NEW_STREAM = "new stream"
    # The same, but not yet allowed.
    NEW_STREAM_LATER = "new stream later"
    # It spoke of another stream.
    IGNORED = "ignored"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One message's worth of news, as of one moment. ``to`` and ``lineage`` are durable already."""

    stream: str
    from_: Position
    to: Position
    lineage: list[Position]
    rows: list[object]
    head_seq: int
    pruned_through: int
    # Rows after ``from_``, those of this batch included.
    waiting: int
    open_uids: list[str]
    # More waits than fits into one message.
    crowded: bool = False

    @property
    def at_head(self) -> bool:
        return self.to[0] == self.head_seq


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """What is open now, as of one moment, as far as it fits into one message."""

    rows: list[object]
    # Position of the newest of ``rows``, and whether no open row comes after it.
    through: int
    complete: bool
    head_seq: int
    open_uids: list[str]


# What the statements below select of a row.
_Stored = tuple[str, str, int, int, str, int]
# The row of the stream: id, head_seq, cursor_seq, cursor_nonce, pruned_through.
_State = tuple[str, int, int, str, int]
_OPEN_ROWS = "SELECT uid, key, open, mod_seq, body, crc FROM occurrence WHERE open = 1 ORDER BY mod_seq"
_OPEN_ROW = "SELECT uid, key, open, mod_seq, body, crc FROM occurrence WHERE key = ? AND open = 1"
_OPEN_ROWS_AFTER = """
    SELECT uid, key, open, mod_seq, body, crc FROM occurrence
    WHERE open = 1 AND mod_seq > ? ORDER BY mod_seq LIMIT ?"""
_ROWS_BETWEEN = """
    SELECT uid, key, open, mod_seq, body, crc FROM occurrence
    WHERE mod_seq > ? AND mod_seq <= ? ORDER BY mod_seq LIMIT ?"""
_SENT_ROW = """
    SELECT uid, key, open, mod_seq, body, crc FROM occurrence
    WHERE uid = ? AND mod_seq <= (SELECT cursor_seq FROM stream)"""
_STORE = """
    INSERT INTO occurrence (uid, key, open, mod_seq, body, crc, changed_ms) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (uid) DO UPDATE SET open = excluded.open, mod_seq = excluded.mod_seq, body = excluded.body,
        crc = excluded.crc, changed_ms = excluded.changed_ms"""
_PRUNE = """
    DELETE FROM occurrence WHERE uid IN (
        SELECT uid FROM occurrence
        WHERE open = 0 AND changed_ms < ? AND mod_seq <= (SELECT cursor_seq FROM stream)
        ORDER BY mod_seq LIMIT ?)
    RETURNING mod_seq"""


class Ledger:
    def __init__(self, connection: sqlite3.Connection, *, new_id: Callable[[], str]) -> None:
        self._sql = connection
        self._new_id = new_id
        # Rows whose checksum did not fit when they were read.
        self.damaged_rows = 0
        # The newest position, as of the last ``together``.
        self.head_seq = 0
        # The row of the stream as its checksum was made.
        self._sealed: _State | None = None
        self.together([Ledger._begin])

    def together(self, units: Sequence[Unit]) -> list[object | Exception]:
        """Run them in one transaction, durable when this returns; a unit that raises changes nothing.

        Raises sqlite3.Error when none of them happened.
        """
        outcomes: list[object | Exception] = []
        # Deferred: units that only read write nothing to the flash.
        self._sql.execute("BEGIN")
        try:
            for unit in units:
                outcomes.append(self._alone(unit))
            state = self._state()
            if state != self._sealed:
                self._sql.execute("UPDATE stream SET crc = ?", (_sum(*state),))
            self._sql.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._sql.execute("ROLLBACK")
            raise
        self._sealed, self.head_seq = state, state[1]
        return outcomes

    # --- occurrences
    # ---------------------------------------------------------------------------------------------

    def write(self, changes: Sequence[Change], *, now: Stamp) -> list[Row]:
        """The rows that came of the changes. To open what is open, or close what is not, changes nothing."""
        written = []
        for change in changes:
            row = self._open_row(change.key)
            if isinstance(change, Opening) and row is None:
                written.append(occurrence.opened(change, uid=self._new_id(), mod_seq=self._next_seq()))
            elif not isinstance(change, Opening) and row is not None and change.uid in (None, row.uid):
                written.append(occurrence.closed(row, change, mod_seq=self._next_seq()))
            else:
                continue
            self._store(written[-1], now)
        return written

    def open_rows(self) -> list[Row]:
        found = self._sql.execute(_OPEN_ROWS).fetchall()
        return [row for stored in found if (row := self._read(stored)) is not None]

    def prune(self, now: Stamp) -> int:
        """Forget closed rows that the collector has had for the whole horizon; how many."""
        gone = self._sql.execute(
            _PRUNE,
            (self._age_ms(now) - RESEND_HORIZON_MS, PRUNED_AT_ONCE),
        ).fetchall()
        if gone:
            self._sql.execute("UPDATE stream SET pruned_through = max(pruned_through, ?)", (max(gone)[0],))
        return len(gone)

    # --- what goes to the collector
    # ------------------------------------------------------------------------------

    def batch(self, *, max_rows: int, max_bytes: int, through: int | None = None) -> Batch:
        """The oldest rows after the cursor, in order, up to position ``through`` (the head, unless told)."""
        stream, head_seq, cursor, pruned_through = self._stream()
        end = head_seq if through is None or not cursor[0] < through < head_seq else through
        found = self._sql.execute(
            _ROWS_BETWEEN,
            (cursor[0], head_seq, max_rows + 1),
        ).fetchall()
        announced = [stored for stored in found if stored[3] <= end]
        fitting = _fitting(announced[:max_rows], max_bytes)
        to_seq = end if len(fitting) == len(announced) else int(fitting[-1][3])
        to = cursor if to_seq == cursor[0] else self._boundary(to_seq)
        between = self._sql.execute(
            "SELECT seq, nonce FROM boundary WHERE seq > ? AND seq < ? ORDER BY seq DESC LIMIT ?",
            (cursor[0], to_seq, LINEAGE_MAX - 2),
        ).fetchall()
        waiting = self._sql.execute(
            "SELECT count(*) FROM occurrence WHERE mod_seq > ?", (cursor[0],)
        ).fetchone()
        return Batch(
            stream=stream,
            from_=cursor,
            to=to,
            lineage=[
                cursor,
                *((int(seq), str(nonce)) for seq, nonce in reversed(between)),
                *([to] if to != cursor else []),
            ],
            rows=[body for stored in fitting if (body := self._checked(stored)) is not None],
            head_seq=head_seq,
            pruned_through=pruned_through,
            waiting=int(waiting[0]),
            open_uids=self._open_uids(),
            crowded=len(_fitting(found[:max_rows], max_bytes)) < len(found),
        )

    def present(self, *, after: int, max_rows: int, max_bytes: int) -> Present:
        """The open rows after position ``after``, oldest first."""
        found = self._sql.execute(_OPEN_ROWS_AFTER, (after, max_rows + 1)).fetchall()
        fitting = _fitting(found[:max_rows], max_bytes)
        return Present(
            rows=[body for stored in fitting if (body := self._checked(stored)) is not None],
            through=int(fitting[-1][3]) if fitting else after,
            complete=len(fitting) == len(found),
            head_seq=self._head_seq(),
            open_uids=self._open_uids(),
        )

    def take_answer(self, answer: SyncAnswer, *, may_renew: bool, now: Stamp) -> Moved:
        """Move the cursor to what the collector holds, and give rows that it wants a new position."""
        stream, _, cursor, _ = self._stream()
        if answer.stream != stream:
            return Moved.IGNORED
        moved = self._move(answer, cursor, may_renew=may_renew)
        for uid in answer.want:
            self._send_again(uid, now)
        return moved

    def new_stream(self) -> str:
        """A new name: the collector knows nothing of it, so all that is here is sent again."""
        stream = self._new_id()
        self._sql.execute("DELETE FROM boundary")
        # What was pruned was never a part of it.
        self._sql.execute(
            "UPDATE stream SET id = ?, cursor_seq = ?, cursor_nonce = ?, pruned_through = 0",
            (stream, *ORIGIN),
        )
        return stream

    # --- the anchor
    # ----------------------------------------------------------------------------------------------

    def set_anchor(self, at: Stamp) -> None:
        columns = (at.boot, at.mono_ns, at.wall_ms, at.source, self._age_ms(at))
        self._sql.execute(
            "INSERT OR REPLACE INTO anchor (only, boot, mono_ns, wall_ms, source, age_ms, crc)"
            " VALUES (1, ?, ?, ?, ?, ?, ?)",
            (*columns, _sum(*columns)),
        )

    def anchor(self) -> Stamp | None:
        found = self._sql.execute("SELECT boot, mono_ns, wall_ms, source FROM anchor").fetchone()
        if found is None:
            return None
        return Stamp(boot=found[0], mono_ns=found[1], wall_ms=found[2], source=found[3])

    # --- inside
    # --------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """The first stream of a new file; in an old one, what the disk has changed by itself is given up."""
        if self._sql.execute("SELECT 1 FROM stream").fetchone() is None:
            self._sql.execute(
                "INSERT INTO stream (only, id, head_seq, cursor_seq, cursor_nonce, pruned_through)"
                " VALUES (1, ?, 0, ?, ?, 0)",
                (self._new_id(), *ORIGIN),
            )
            return
        self._give_up("anchor", "boot, mono_ns, wall_ms, source, age_ms")
        self._give_up("boundary", "seq, nonce")
        crc = self._sql.execute("SELECT crc FROM stream").fetchone()[0]
        if crc not in (None, _sum(*self._state())):
            self._damaged("stream")
            # All is sent again under a new name, from positions that no row has.
            self._sql.execute(
                "UPDATE stream SET head_seq = (SELECT coalesce(max(mod_seq), 0) FROM occurrence)"
            )
            self.new_stream()

    def _give_up(self, table: str, columns: str) -> None:
        """Forget damaged rows, which can be done without; seal those from before there were checksums."""
        for rowid, crc, *values in self._sql.execute(f"SELECT rowid, crc, {columns} FROM {table}").fetchall():  # noqa: S608  # constants
            if crc is None:
                self._sql.execute(f"UPDATE {table} SET crc = ? WHERE rowid = ?", (_sum(*values), rowid))  # noqa: S608
            elif crc != _sum(*values):
                self._damaged(table)
                self._sql.execute(f"DELETE FROM {table} WHERE rowid = ?", (rowid,))  # noqa: S608

    def _damaged(self, table: str) -> None:
        self.damaged_rows += 1
        log.error("a row of the journal is damaged and given up", table=table)

    def _alone(self, unit: Unit) -> object | Exception:
        self._sql.execute("SAVEPOINT unit")
        try:
            outcome = unit(self)
        except sqlite3.IntegrityError as error:
            outcome = error
        except sqlite3.Error:
            raise
        except Exception as error:  # noqa: BLE001 - a bug in one unit must not take the others with it
            outcome = error
        if isinstance(outcome, Exception):
            self._sql.execute("ROLLBACK TO unit")
        self._sql.execute("RELEASE unit")
        return outcome

    def _state(self) -> _State:
        found: _State = self._sql.execute(
            "SELECT id, head_seq, cursor_seq, cursor_nonce, pruned_through FROM stream"
        ).fetchone()
        return found

    def _stream(self) -> tuple[str, int, Position, int]:
        stream, head_seq, cursor_seq, cursor_nonce, pruned_through = self._state()
        return stream, head_seq, (cursor_seq, cursor_nonce), pruned_through

    def _open_uids(self) -> list[str]:
        found = self._sql.execute("SELECT uid FROM occurrence WHERE open = 1 ORDER BY mod_seq").fetchall()
        return [str(uid) for (uid,) in found]

    def _head_seq(self) -> int:
        return int(self._sql.execute("SELECT head_seq FROM stream").fetchone()[0])

    def _next_seq(self) -> int:
        self._sql.execute("UPDATE stream SET head_seq = head_seq + 1")
        return self._head_seq()

    def _boundary(self, seq: int) -> Position:
        """The boundary at ``seq``, made durable with this transaction if there was none."""
        found = self._sql.execute("SELECT nonce FROM boundary WHERE seq = ?", (seq,)).fetchone()
        if found is not None:
            return (seq, str(found[0]))
        nonce = self._new_id()
        made = (seq, nonce, _sum(seq, nonce))
        self._sql.execute("INSERT INTO boundary (seq, nonce, crc) VALUES (?, ?, ?)", made)
        self._sql.execute("DELETE FROM boundary WHERE made <= last_insert_rowid() - ?", (BOUNDARIES_KEPT,))
        return (seq, nonce)

    def _move(self, answer: SyncAnswer, cursor: Position, *, may_renew: bool) -> Moved:
        hwm = answer.hwm
        # At 0 there is nothing that two histories could differ in.
        foreign = hwm[0] > 0 and not self._made_here(hwm)
        rolled_back = (answer.ahead or 0) > self._head_seq()
        if foreign or rolled_back or answer.verdict in (Verdict.FORK, Verdict.SUPERSEDED):
            if not may_renew:
                return Moved.NEW_STREAM_LATER
            self.new_stream()
            return Moved.NEW_STREAM
        if hwm == cursor:
            return Moved.STAYED
        self._sql.execute("UPDATE stream SET cursor_seq = ?, cursor_nonce = ?", hwm)
        return Moved.FORWARDS if hwm[0] > cursor[0] else Moved.BACKWARDS

    def _age_ms(self, now: Stamp) -> int:
        """For how long an agent has run on this journal. Time in which nothing ran does not count."""
        found = self._sql.execute("SELECT boot, mono_ns, age_ms FROM anchor").fetchone()
        if found is None:
            return 0
        boot, mono_ns, age_ms = found
        return int(age_ms) + (max(0, now.mono_ns - mono_ns) // 1_000_000 if boot == now.boot else 0)

    def _made_here(self, boundary: Position) -> bool:
        return (
            self._sql.execute("SELECT 1 FROM boundary WHERE seq = ? AND nonce = ?", boundary).fetchone()
            is not None
        )

    def _send_again(self, uid: str, now: Stamp) -> None:
        stored = self._sql.execute(
            _SENT_ROW,
            (uid,),
        ).fetchone()
        if stored is not None and (row := self._read(stored)) is not None:
            self._store(occurrence.touched(row, mod_seq=self._next_seq()), now)

    def _open_row(self, key: str) -> Row | None:
        stored = self._sql.execute(_OPEN_ROW, (key,)).fetchone()
        return None if stored is None else self._read(stored)

    def _store(self, row: Row, now: Stamp) -> None:
        body = encode(row)
        crc, age_ms = zlib.crc32(body), self._age_ms(now)
        self._sql.execute(
            _STORE, (row.uid, row.key, row.state == "open", row.mod_seq, body.decode(), crc, age_ms)
        )

    def _read(self, stored: _Stored) -> Row | None:
        body = self._checked(stored)
        return None if body is None else Row.model_validate(body)

    def _checked(self, stored: _Stored) -> dict[str, object] | None:
        """The body of a row; None if it is not what was written. Such a row is counted and no longer open."""
        uid, key, is_open, mod_seq, text, crc = stored
        if zlib.crc32(text.encode("utf-8", "surrogateescape")) == crc:
            body: dict[str, object] = json.loads(text)
            told = (body["uid"], _key(body), body["mod_seq"], body["state"] == "open")
            if told == (uid, key, mod_seq, bool(is_open)):
                return body
        self.damaged_rows += 1
        log.error("a row of the journal is damaged and left out", uid=uid, condition=key, position=mod_seq)
        self._sql.execute("UPDATE occurrence SET open = 0 WHERE open = 1 AND mod_seq = ?", (mod_seq,))
        return None


def _sum(*columns: object) -> int:
    return zlib.crc32("|".join(map(str, columns)).encode("utf-8", "surrogateescape"))


def _key(body: dict[str, object]) -> str:
    return condition_key(str(body["device"]), str(body["component"]), str(body["fault"]))


def _fitting(stored: Sequence[_Stored], max_bytes: int) -> Sequence[_Stored]:
    """As many as fit, and at least one."""
    size = 0
    for number, row in enumerate(stored):
        size += len(row[4])
        if size > max_bytes and number:
            return stored[:number]
    return stored
