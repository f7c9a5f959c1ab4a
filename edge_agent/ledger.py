"""Decides what one transaction does to the journal's file: plain statements on one SQLite connection.

Nothing here waits or knows of asyncio. ``together`` runs several units in one durable transaction; every
other method is the body of a unit. The occurrence rows are the detector's durable state too: a condition is
active while its row is open, so that state and record are one fact and cannot part.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import structlog

from edge_agent import journal_salvage, losses, occurrence, stored
from edge_agent.journal_caps import Caps, Economy, Given, Relief
from edge_agent.journal_salvage import Salvaged
from edge_agent.occurrence import Change, Explaining, Opening, Pausing
from edge_agent.stored import COLUMNS, Stored, checksum
from edge_agent.wire import LINEAGE_MAX, ORIGIN, THINNED, Loss, Row, Stamp, SyncAnswer, Verdict, encode

# So many announced positions are remembered: a month at 136 messages with rows a day, 0.3 MB. A collector
# that was restored to one of them gets what it lacks, one that stands elsewhere gets everything.
BOUNDARIES_KEPT = 4_096
# So many rows are looked at for pruning in one transaction: a short one, also on a slow card.
PRUNED_AT_ONCE = 1_000
# How full the file is, is looked at once in so many transactions.
MEASURE_EVERY = 64
# Packed they have less than 4 KiB, which the collector takes at once (docs/wire.md, "Pace").
FEW_ROWS = 50

log = structlog.get_logger()

Position = tuple[int, str]
Unit = Callable[["Ledger"], object]
# (all open rows, uids of those that were opened just now, now) -> what follows from them.
Settle = Callable[[Sequence[Row], frozenset[str], Stamp], Sequence[Change]]


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
    # Occurrences of this stream that were lost here before anybody had them; all losses after ``from_``.
    lost: int
    losses: list[Loss]
    # Rows after ``from_``, those of this batch included.
    waiting: int
    open_uids: list[str]
    # More waits than a few rows: these go on their way when the collector has time for them.
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


# The row of the stream: id, head_seq, cursor_seq, cursor_nonce, pruned_through, evidence_bytes.
_State = tuple[str, int, int, str, int, int]
# Left to itself SQLite goes through all rows in order to find the few that are open, at every exchange.
_OPEN = "occurrence INDEXED BY occurrence_open WHERE open = 1"
_OPEN_UIDS = f"SELECT uid FROM {_OPEN} ORDER BY mod_seq"  # noqa: S608  # constants
_OPEN_ROWS = f"SELECT {COLUMNS} FROM {_OPEN} ORDER BY mod_seq"  # noqa: S608
_OPEN_ROW = f"SELECT {COLUMNS} FROM occurrence WHERE key = ? AND open = 1"  # noqa: S608
_OPEN_ROWS_AFTER = f"SELECT {COLUMNS} FROM {_OPEN} AND mod_seq > ? ORDER BY mod_seq LIMIT ?"  # noqa: S608
_ROWS_BETWEEN = f"""
    SELECT {COLUMNS} FROM occurrence
    WHERE mod_seq > ? AND mod_seq <= ? ORDER BY mod_seq LIMIT ?"""  # noqa: S608
_SENT_ROW = f"""
    SELECT {COLUMNS} FROM occurrence
    WHERE uid = ? AND mod_seq <= (SELECT cursor_seq FROM stream)"""  # noqa: S608
_STORE = """
    INSERT INTO occurrence (uid, key, open, mod_seq, body, crc, changed_ms, evidence_bytes)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (uid) DO UPDATE SET open = excluded.open, mod_seq = excluded.mod_seq, body = excluded.body,
        crc = excluded.crc, changed_ms = excluded.changed_ms"""
_CLOSED_AND_SENT = """
    SELECT uid, mod_seq, changed_ms FROM occurrence
    WHERE open = 0 AND mod_seq > ? AND mod_seq <= (SELECT cursor_seq FROM stream)
    ORDER BY mod_seq LIMIT ?"""


class Ledger:
    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        new_id: Callable[[], str],
        caps: Caps = Caps(),  # noqa: B008  # frozen
    ) -> None:
        self._sql = connection
        self._new_id = new_id
        self.economy = Economy(connection, new_id=new_id, caps=caps)
        # Rows whose checksum did not fit when they were read; those of them that no occurrence tells of yet.
        self.damaged_rows = self.unreported_rows = 0
        # The newest position, as of the last ``together``.
        self.head_seq = 0
        # The row of the stream as its checksum was made.
        self._sealed: _State | None = None
        # Whether something has to be given up, as of the last measurement; units until the next one.
        self.pressed = False
        self._until_measured = 0
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
            # On a full disk a start that changes nothing must not need to write.
            if state != self._sealed:
                self._sql.execute("UPDATE stream SET crc = ?", (checksum(*state),))
            self._sql.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._sql.execute("ROLLBACK")
            self.economy.rolled_back()
            raise
        self.economy.committed()
        self._sealed, self.head_seq = state, state[1]
        self._until_measured -= 1
        if self._until_measured <= 0 or self.pressed:
            self._until_measured = MEASURE_EVERY
            self.pressed = self.economy.is_pressed(self.economy.room())
        return outcomes

    # --- occurrences
    # ---------------------------------------------------------------------------------------------

    def write(self, changes: Sequence[Change], *, now: Stamp) -> list[Row]:
        """The rows that came of the changes. To open what is open, or close what is not, changes nothing."""
        written = (self._write_one(change, self._open_row(change.key), now) for change in changes)
        return [row for row in written if row is not None]

    def _write_one(self, change: Change, row: Row | None, now: Stamp) -> Row | None:
        """``row``: what is open of its condition."""
        if row is None:
            if not isinstance(change, Opening):
                return None
            change = self._thinned_if_short(change)
            uid = occurrence.uid_at(now.wall_ms, self._new_id())
            row = occurrence.opened(change, uid=uid, mod_seq=self._next_seq())
            self._store(row, now, evidence_bytes=stored.evidence_bytes(row.evidence))
            return row
        if isinstance(change, Opening):
            if not row.is_paused:
                return None
            row = occurrence.resumed(row, change, mod_seq=self._next_seq())
        elif isinstance(change, Pausing):
            if row.is_paused:
                return None
            row = occurrence.paused(row, change, mod_seq=self._next_seq())
        elif isinstance(change, Explaining):
            cause = None if change.because is None else self._open_row(change.because)
            before = None if change.waits is None else row.because
            because = before if cause is None else cause.uid
            row = occurrence.explained(row, because=because, waits=change.waits, mod_seq=self._next_seq())
        elif change.uid in (None, row.uid):
            row = occurrence.closed(row, change, mod_seq=self._next_seq())
        else:
            return None
        self._store(row, now)
        return row

    def settle(self, changes: Sequence[Change], settle: Settle, *, now: Stamp) -> list[Row]:
        """``write``, and what follows from it: the rows that came of both."""
        written = self.write(changes, now=now)
        fresh = frozenset(row.uid for row in written if row.rev == 1)
        return [*written, *self.write(settle(self.open_rows(), fresh, now), now=now)]

    def _thinned_if_short(self, opening: Opening) -> Opening:
        """On a full disk there is room for what happened, not for what was seen."""
        if not (self.economy.held and self.pressed and opening.evidence):
            return opening
        self.economy.count(Given.EVIDENCE_THINNED, 1)
        return replace(opening, evidence=THINNED)

    def report_salvage(self, gateway: str, *, now: Stamp) -> None:
        """What was found broken at the opening, as occurrences of the agent's own; each once."""
        for found in journal_salvage.recorded(self._sql):
            evidence = {
                "file": found.file,
                "rows_salvaged": found.rows_salvaged,
                "rows_damaged": found.rows_damaged,
                "places_unreadable": found.places_unreadable,
                "rows_given_up": found.rows_given_up,
            }
            self.write(occurrence.journal_damaged(gateway, evidence, now=now), now=now)
            self.economy.count(Given.ROWS_DAMAGED, found.rows_damaged)
            self.economy.count(Given.EVIDENCE_THINNED, found.evidence_given_up)
            self.economy.count(Given.ROWS_DROPPED, found.rows_given_up)
            self.economy.count(Given.OCCURRENCES_DROPPED, found.occurrences_given_up)
        self._sql.execute("DELETE FROM salvage")

    def report_damage(self, gateway: str, rows: int, *, now: Stamp) -> None:
        """``rows`` were found damaged while the journal was read; ``reported`` has to follow the commit."""
        self.write(occurrence.journal_damaged(gateway, {"rows_damaged": rows}, now=now), now=now)

    def reported(self, rows: int) -> None:
        self.unreported_rows -= rows

    def open_rows(self) -> list[Row]:
        found = self._sql.execute(_OPEN_ROWS).fetchall()
        return [row for one in found if (row := self._read(one)) is not None]

    def prune(self, now: Stamp, *, after: int = 0) -> tuple[int, int | None]:
        """Forget closed rows that the collector has had for the whole horizon: how many of those that were
        looked at, and after which position to go on, None at the end.
        """
        found = self._sql.execute(_CLOSED_AND_SENT, (after, PRUNED_AT_ONCE)).fetchall()
        horizon_ms = self._age_ms(now) - self.economy.caps.horizon_ms
        gone = [(uid, mod_seq) for uid, mod_seq, changed_ms in found if changed_ms < horizon_ms]
        if gone:
            self.economy.remove(uid for uid, _ in gone)
            self._sql.execute("UPDATE stream SET pruned_through = max(pruned_through, ?)", (gone[-1][1],))
        return len(gone), found[-1][1] if len(found) == PRUNED_AT_ONCE else None

    def relieve(self) -> bool:
        """Give up a little, oldest first, if a cap is near; whether there may be more to do."""
        return self.economy.relieve() is not Relief.NOTHING

    def make_room(self) -> Relief:
        """The same when something could not be written for want of room."""
        return self.economy.relieve(full=True)

    def hold(self, growth_bytes: int) -> None:
        """Outside of any transaction: the disk is full. What is in the log moves into the file while there is
        room for it; the file grows by ``growth_bytes``, at once, before others take them, and no more.
        """
        self._move_log()
        self.economy.hold(growth_bytes)
        self._move_log()
        self.pressed = True

    def _move_log(self) -> None:
        with suppress(sqlite3.Error):
            self._sql.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def is_all_there(self) -> bool:
        """Whether the file has each of its pages, and none that lies in the log alone."""
        pages, page_bytes = (
            int(self._sql.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "page_size")
        )
        return self._path().stat().st_size >= pages * page_bytes

    def reader(self) -> sqlite3.Connection | None:
        """One more connection to the file, which cannot write; for any thread."""
        self._move_log()
        with suppress(sqlite3.Error):
            reader = sqlite3.connect(f"{self._path().as_uri()}?mode=ro", uri=True, check_same_thread=False)
            # Only now it holds the file.
            reader.execute("SELECT 1 FROM stream").fetchone()
            return reader
        return None

    def let_go(self) -> None:
        """There is room on the disk again."""
        self.economy.let_go()

    def reserve(self) -> None:
        """Outside of any transaction; raises sqlite3.Error."""
        self.economy.reserve()

    def _path(self) -> Path:
        return Path(self._sql.execute("PRAGMA database_list").fetchone()[2])

    def log_bytes(self) -> int:
        """Of the write-ahead log."""
        try:
            return Path(f"{self._path()}-wal").stat().st_size
        except FileNotFoundError:
            return 0

    def shorten_log(self) -> None:
        """Outside of any transaction: move the log into the file and cut it off. Waits for no reader: while
        there is one, nothing happens. Raises sqlite3.Error.
        """
        (waits_ms,) = self._sql.execute("PRAGMA busy_timeout").fetchone()
        self._sql.execute("PRAGMA busy_timeout = 0")
        try:
            self._sql.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            self._sql.execute(f"PRAGMA busy_timeout = {waits_ms}")

    def given_up(self) -> dict[str, int]:
        """All that was ever given up, by name."""
        return {what.value: self.economy.counted(what) for what in Given}

    # --- what goes to the collector
    # ------------------------------------------------------------------------------

    def batch(self, *, max_rows: int, max_bytes: int, through: int | None = None) -> Batch:
        """The oldest rows after the cursor, in order, up to position ``through`` (the head, unless told)."""
        stream, head_seq, cursor, _ = self._stream()
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
        rows: list[object] = [body for one in fitting if (body := self._checked(one)) is not None]
        return Batch(
            stream=stream,
            from_=cursor,
            to=to,
            lineage=[
                cursor,
                *((int(seq), str(nonce)) for seq, nonce in reversed(between)),
                *([to] if to != cursor else []),
            ],
            rows=rows,
            head_seq=head_seq,
            # A row that was found damaged just now is declared in this very message.
            pruned_through=self._stream()[3],
            lost=losses.of_stream(self._sql),
            losses=losses.after(self._sql, cursor[0]),
            waiting=int(waiting[0]),
            open_uids=self._open_uids(),
            crowded=len(_fitting(found[: min(max_rows, FEW_ROWS)], max_bytes)) < len(found),
        )

    def present(self, *, after: int, max_rows: int, max_bytes: int) -> Present:
        """The open rows after position ``after``, oldest first."""
        found = self._sql.execute(_OPEN_ROWS_AFTER, (after, max_rows + 1)).fetchall()
        fitting = _fitting(found[:max_rows], max_bytes)
        return Present(
            rows=[body for one in fitting if (body := self._checked(one)) is not None],
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
        _, _, cursor, _ = self._stream()
        stream = self._new_id()
        lost_through = losses.move(self._sql, cursor[0], stream)
        self._sql.execute("DELETE FROM boundary")
        # What was pruned was never a part of it.
        self._sql.execute(
            "UPDATE stream SET id = ?, cursor_seq = ?, cursor_nonce = ?, pruned_through = ?",
            (stream, *ORIGIN, lost_through),
        )
        return stream

    # --- the anchor
    # ----------------------------------------------------------------------------------------------

    def set_anchor(self, at: Stamp) -> None:
        """An agent has run until then."""
        self._put_anchor(at, self._age_ms(at))

    def go_on(self, at: Stamp) -> None:
        """None has run since the last anchor, perhaps in one and the same boot."""
        found = self._sql.execute("SELECT age_ms FROM anchor").fetchone()
        self._put_anchor(at, 0 if found is None else int(found[0]))

    def _put_anchor(self, at: Stamp, age_ms: int) -> None:
        columns = (at.boot, at.mono_ns, at.wall_ms, at.source, age_ms)
        self._sql.execute(
            "INSERT OR REPLACE INTO anchor (only, boot, mono_ns, wall_ms, source, age_ms, crc)"
            " VALUES (1, ?, ?, ?, ?, ?, ?)",
            (*columns, checksum(*columns)),
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
        salvaged = journal_salvage.recorded(self._sql)
        if self._sql.execute("SELECT 1 FROM stream").fetchone() is None:
            self._sql.execute(
                "INSERT INTO stream"
                " (only, id, head_seq, cursor_seq, cursor_nonce, pruned_through, evidence_bytes)"
                " SELECT 1, ?, max(?, coalesce(max(mod_seq), 0)), ?, ?, 0, coalesce(sum(evidence_bytes), 0)"
                " FROM occurrence",
                (self._new_id(), max((found.head_seq for found in salvaged), default=0), *ORIGIN),
            )
            self._declare(salvaged)
            return
        self._give_up("anchor", "boot, mono_ns, wall_ms, source, age_ms")
        self._give_up("boundary", "seq, nonce")
        self._give_up("counter", "name, count")
        self._give_up("loss", losses.COLUMNS)
        crc, state = self._sql.execute("SELECT crc FROM stream").fetchone()[0], self._state()
        if crc == checksum(*state):
            self._sealed = state
        elif crc is not None:
            self._damaged("stream")
            # All is sent again under a new name, from positions that no row has.
            self._sql.execute(
                "UPDATE stream SET (head_seq, evidence_bytes) ="
                " (SELECT coalesce(max(mod_seq), 0), coalesce(sum(evidence_bytes), 0) FROM occurrence)"
            )
            self.new_stream()
        self._declare(salvaged)

    def _declare(self, salvaged: Sequence[Salvaged]) -> None:
        """Nobody knows how much is missing of what was written up to now."""
        if salvaged:
            self.economy.lose(self._next_seq(), 0)
            self.damaged_rows, self.unreported_rows = sum(found.rows_damaged for found in salvaged), 0

    def _give_up(self, table: str, columns: str) -> None:
        """Forget damaged rows, which can be done without; seal those from before there were checksums."""
        for rowid, crc, *values in self._sql.execute(f"SELECT rowid, crc, {columns} FROM {table}").fetchall():  # noqa: S608  # constants
            if crc is None:
                self._sql.execute(f"UPDATE {table} SET crc = ? WHERE rowid = ?", (checksum(*values), rowid))  # noqa: S608
            elif crc != checksum(*values):
                self._damaged(table)
                self._sql.execute(f"DELETE FROM {table} WHERE rowid = ?", (rowid,))  # noqa: S608

    def _damaged(self, table: str) -> None:
        self._count_damage()
        log.error("a row of the journal is damaged and given up", table=table)

    def _count_damage(self) -> None:
        self.damaged_rows += 1
        self.unreported_rows += 1

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
            "SELECT id, head_seq, cursor_seq, cursor_nonce, pruned_through, evidence_bytes FROM stream"
        ).fetchone()
        return found

    def _stream(self) -> tuple[str, int, Position, int]:
        stream, head_seq, cursor_seq, cursor_nonce, pruned_through, _ = self._state()
        return stream, head_seq, (cursor_seq, cursor_nonce), pruned_through

    def _open_uids(self) -> list[str]:
        found = self._sql.execute(_OPEN_UIDS).fetchall()
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
        made = (seq, nonce, checksum(seq, nonce))
        self._sql.execute("INSERT INTO boundary (seq, nonce, crc) VALUES (?, ?, ?)", made)
        self._sql.execute("DELETE FROM boundary WHERE made <= last_insert_rowid() - ?", (BOUNDARIES_KEPT,))
        return (seq, nonce)

    def _move(self, answer: SyncAnswer, cursor: Position, *, may_renew: bool) -> Moved:
        hwm = answer.hwm
        # At 0 there is nothing that two histories could differ in.
        foreign = hwm[0] > 0 and not self._made_here(hwm)
        rolled_back = (answer.ahead or 0) > self._head_seq()
        if foreign or rolled_back or answer.verdict == Verdict.SUPERSEDED:
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
        found = self._sql.execute(_SENT_ROW, (uid,)).fetchone()
        if found is not None and (row := self._read(found)) is not None:
            self._store(occurrence.touched(row, mod_seq=self._next_seq()), now)

    def _open_row(self, key: str) -> Row | None:
        found = self._sql.execute(_OPEN_ROW, (key,)).fetchone()
        return None if found is None else self._read(found)

    def _store(self, row: Row, now: Stamp, *, evidence_bytes: int = 0) -> None:
        """``evidence_bytes``: of a row that is new; later forms have the evidence of the first."""
        body = encode(row).decode()
        if evidence_bytes:
            self._sql.execute("UPDATE stream SET evidence_bytes = evidence_bytes + ?", (evidence_bytes,))
        values = (
            row.uid,
            row.key,
            row.state == "open",
            row.mod_seq,
            body,
            stored.crc(body),
            self._age_ms(now),
        )
        self._sql.execute(_STORE, (*values, evidence_bytes))

    def _read(self, found: Stored) -> Row | None:
        body = self._checked(found)
        return None if body is None else Row.model_validate(body)

    def _checked(self, found: Stored) -> dict[str, object] | None:
        """The body of a row; None if it is not what was written. Such a row is counted, declared and gone."""
        body = stored.whole(found)
        if body is None:
            uid, key, mod_seq = found[0], found[1], found[3]
            self._count_damage()
            log.error(
                "a row of the journal is damaged and given up", uid=uid, condition=key, position=mod_seq
            )
            self.economy.count(Given.ROWS_DAMAGED, 1)
            _, head_seq, (cursor_seq, _), _ = self._stream()
            if mod_seq > cursor_seq:
                self.economy.lose(min(mod_seq, head_seq), 1)
            self.economy.remove([uid])
        return body


def _fitting(found: Sequence[Stored], max_bytes: int) -> Sequence[Stored]:
    """As many as fit, and at least one."""
    size = 0
    for number, row in enumerate(found):
        size += len(row[4])
        if size > max_bytes and number:
            return found[:number]
    return found
