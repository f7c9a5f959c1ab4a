"""Moves what must not be lost into one SQLite file: a bounded queue of units, committed in groups.

A unit is a plain function that runs inside the transaction, on the writer's thread. Whoever waits for its
outcome may be cancelled; the unit is not (a hand-written transaction of awaits wedges at the first
cancellation). Cancelled means *outcome unknown*, and every unit is safe to repeat.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TypeVar, cast

import aiosqlite
import structlog

from edge_agent import occurrence
from edge_agent.journal_caps import Caps, Relief
from edge_agent.journal_disk import Disk, Space
from edge_agent.journal_file import FILE, JournalError, MakeWay, lock_file, open_file
from edge_agent.ledger import FEW_ROWS, Batch, Ledger, Moved, Present, Settle, Unit
from edge_agent.occurrence import Change
from edge_agent.wire import Row, Stamp, SyncAnswer

LOCK = "journal.lock"
ANCHOR_EVERY_S = 60.0
PRUNE_EVERY_ANCHORS = 60
LOOKS_PER_ANCHOR = 12
# Units in one transaction, and units that may wait. A device has at most one at a time, so the queue is full
# only when the disk has stopped; what is refused then was not recorded, and its condition stands where it
# stood.
GROUP = 256
WAITING = 16_384
# So often a group is tried again after something was given up for it.
TRIES = 64

__all__ = ["FEW_ROWS", "FILE", "Batch", "Journal", "JournalError", "Moved", "Present", "Writer"]

log = structlog.get_logger()
T = TypeVar("T")
_Job = tuple[Unit, asyncio.Future[object]]


class Writer(Protocol):
    """Where the file may be touched: runs one piece of work after another, whoever is cancelled meanwhile."""

    async def run(self, work: Callable[[Ledger], T]) -> T: ...

    async def close(self) -> None: ...


class Journal:
    """One per agent and data folder. Nothing that it confirms is lost by a kill or a pulled plug."""

    def __init__(
        self,
        writer: Writer,
        *,
        stamp: Callable[[], Stamp],
        lock: int | None = None,
        disk: Disk | None = None,
    ) -> None:
        self._writer = writer
        self._disk = disk
        # As of the last look, and whether it was told that the disk is short; None: not since the start.
        self.space: Space | None = None
        # See ``Ledger.given_up``; as of the same look.
        self.given_up: dict[str, int] = {}
        self._told_short: bool | None = None
        self._told_long = False
        self._stamp = stamp
        self._lock = lock
        self._waiting: asyncio.Queue[_Job | None] = asyncio.Queue(WAITING)
        self._in_hand: list[_Job | None] = []
        self._failure: Exception | None = None
        self._closing = False
        self._full = False
        self._pressed = False
        # Rows found damaged that no occurrence tells of yet.
        self._unreported = 0
        self._gateway: str | None = None
        self._head_seq = 0
        # Hears of the rows that ``commit`` has made durable, and returns at once.
        self.on_written: Callable[[Sequence[Row]], None] = lambda _: None
        # Set whenever there are new rows to send; who sends them clears it.
        self.changed = asyncio.Event()
        self._task = asyncio.create_task(self._work(), name="journal")

    @property
    def broken(self) -> bool:
        """The file is not to be trusted any more: nothing is written to it until it was opened anew."""
        return self._failure is not None

    @classmethod
    async def open(
        cls,
        data_dir: Path,
        *,
        new_id: Callable[[], str],
        stamp: Callable[[], Stamp],
        caps: Caps = Caps(),  # noqa: B008  # frozen
        disk: Disk | None = None,
    ) -> Journal:
        """The journal of that folder, made if there is none. Raises JournalError."""
        lock = lock_file(data_dir / LOCK)
        try:
            now_ms = stamp().wall_ms
            if disk is not None:
                disk.before_opening()
            make_way: MakeWay = (lambda _: None) if disk is None else disk.make_way
            file = data_dir / FILE
            writer = _Thread(lambda: open_file(file, now_ms=now_ms, make_way=make_way), new_id, caps)
            await writer.opened()
            if disk is not None:
                # Where there is no room for that either, changes are refused as on any full disk.
                with suppress(sqlite3.Error):
                    await writer.run(disk.after_opening)
        except BaseException:
            os.close(lock)
            raise
        return cls(writer, stamp=stamp, lock=lock, disk=disk)

    async def close(self) -> None:
        """Commit what waits, remember that the agent ran until now, and let go of the file."""
        try:
            await self.anchor()
        except (JournalError, sqlite3.Error) as error:
            log.error("the journal could not be closed in order", why=str(error))
        await self._waiting.put(None)
        await self._task
        last: sqlite3.Connection | None = None
        if self._disk is not None:
            with suppress(sqlite3.Error):
                last = await self._writer.run(self._disk.before_closing)
        await self._writer.close()
        if last is not None:
            last.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def run(self) -> None:
        """Each minute the anchor, each hour the pruning, the disk more often, until cancelled."""
        turn = 0
        while True:
            for _ in range(LOOKS_PER_ANCHOR):
                await self.tend()
                await asyncio.sleep(ANCHOR_EVERY_S / LOOKS_PER_ANCHOR)
            await self.anchor()
            turn += 1
            if turn % PRUNE_EVERY_ANCHORS == 0:
                await self.prune()

    async def start(self, gateway: str) -> Stamp | None:
        """Record for how long the agent of ``gateway`` did not run; its last anchor, if it ever ran."""
        now = self._stamp()

        def unit(ledger: Ledger) -> Stamp | None:
            anchor = ledger.anchor()
            # First: by it the rows are dated that come of this.
            ledger.go_on(now)
            if anchor is not None:
                ledger.write(occurrence.not_running(gateway, since=anchor, now=now), now=now)
            ledger.report_salvage(gateway, now=now)
            return anchor

        self._gateway = gateway
        return await self._do(unit)

    async def tend(self) -> None:
        """Look at the disk, make room on it while there is some, and tell when it is full."""
        disk = self._disk
        if disk is None or self._failure is not None:
            return
        try:
            self.space = await self._writer.run(disk.tend)
        except sqlite3.Error as error:
            if not _is_full(error):
                self._failed(error)
                return
            self.space = await self._writer.run(lambda _: disk.look())
        if self.space.log_is_long is not self._told_long:
            self._told_long = self.space.log_is_long
            if self._told_long:
                log.warning(
                    "the journal's log is long and cannot be cut off: another program reads the journal"
                )
            else:
                log.info("the journal's log is short again")
        self.given_up = await self._do(Ledger.given_up)
        short = self.space.is_short
        if self._gateway is None or not (short or self._told_short is not False):
            return
        # Again and again while it is: whoever closed it meanwhile did not look at the disk.
        await self.commit([self._of_disk(self._gateway, self.space)])
        if short is not self._told_short and (short or self._told_short):
            (log.error if short else log.info)(
                "the disk is nearly full" if short else "the disk has room again", free_bytes=self.space.free
            )
        self._told_short = short

    def _of_disk(self, gateway: str, space: Space) -> Change:
        now = self._stamp()
        if not space.is_short:
            return occurrence.disk_free(gateway, now=now)
        found = {"free_bytes": space.free, "total_bytes": space.total, "ballast": str(space.ballast)}
        return occurrence.disk_full(gateway, found, now=now)

    async def commit(self, changes: Sequence[Change], settle: Settle | None = None) -> list[Row]:
        """The rows that came of them, and of what ``settle`` says that follows from them; durable."""
        now = self._stamp()
        if settle is None:
            rows = await self._do(lambda ledger: ledger.write(changes, now=now))
        else:
            rows = await self._do(lambda ledger: ledger.settle(changes, settle, now=now))
        self.on_written(rows)
        return rows

    async def open_occurrences(self) -> list[Row]:
        return await self._do(Ledger.open_rows)

    async def batch(self, *, max_rows: int, max_bytes: int, through: int | None = None) -> Batch:
        """See ``Ledger.batch``; its boundary is durable."""
        return await self._do(
            lambda ledger: ledger.batch(max_rows=max_rows, max_bytes=max_bytes, through=through)
        )

    async def present(self, *, after: int, max_rows: int, max_bytes: int) -> Present:
        return await self._do(
            lambda ledger: ledger.present(after=after, max_rows=max_rows, max_bytes=max_bytes)
        )

    async def take_answer(self, answer: SyncAnswer, *, may_renew: bool) -> Moved:
        now = self._stamp()
        return await self._do(lambda ledger: ledger.take_answer(answer, may_renew=may_renew, now=now))

    async def new_stream(self) -> str:
        return await self._do(Ledger.new_stream)

    async def anchor(self) -> None:
        now = self._stamp()
        await self._do(lambda ledger: ledger.set_anchor(now))

    async def prune(self) -> int:
        """How many rows are gone; transaction by transaction, so that others get their turn."""
        now = self._stamp()

        def after(position: int) -> Callable[[Ledger], tuple[int, int | None]]:
            return lambda ledger: ledger.prune(now, after=position)

        pruned, go_on_after = await self._do(after(0))
        while go_on_after is not None:
            gone, go_on_after = await self._do(after(go_on_after))
            pruned += gone
        return pruned

    async def _do(self, unit: Callable[[Ledger], T]) -> T:
        """Raises JournalError when it did not happen and will not."""
        if self._failure is not None or self._closing:
            raise JournalError(f"the journal is closed: {self._failure or 'the agent stops'}")
        outcome: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        try:
            # At once: units are committed in the order of the calls.
            self._waiting.put_nowait((unit, outcome))
        except asyncio.QueueFull as error:
            raise JournalError(f"{WAITING} changes wait for the disk; this one is refused") from error
        return cast(T, await outcome)

    async def _work(self) -> None:
        """What goes wrong here is a bug: nobody may wait for a journal that does nothing any more."""
        try:
            await self._commit_groups()
        except Exception as error:  # noqa: BLE001  # as in _commit
            self._failed(error)
            self._failure = error
            outcome = JournalError(f"the journal is closed: {error}")
            while not self._waiting.empty():
                self._in_hand.append(self._waiting.get_nowait())
            for job in self._in_hand:
                if job is not None:
                    _settle(job[1], outcome)

    async def _commit_groups(self) -> None:
        more = True
        while more:
            group = self._in_hand = [await self._waiting.get()]
            while len(group) < GROUP and not self._waiting.empty():
                group.append(self._waiting.get_nowait())
            jobs = [job for job in group if job is not None]
            more = len(jobs) == len(group)
            self._closing = not more
            outcomes = await self._commit([unit for unit, _ in jobs])
            for (_, future), outcome in zip(jobs, outcomes, strict=True):
                _settle(future, outcome)
            await self._report_damage()
            # One small transaction after each group; more of them when nobody waits.
            while more and self._pressed and await self._relieve() and self._waiting.empty():
                pass

    async def _report_damage(self) -> None:
        rows, gateway, now = self._unreported, self._gateway, self._stamp()
        if not rows or gateway is None:
            return
        (outcome,) = await self._commit([lambda ledger: ledger.report_damage(gateway, rows, now=now)])
        if not isinstance(outcome, Exception):
            await self._writer.run(lambda ledger: ledger.reported(rows))
            self._unreported -= rows

    async def _relieve(self) -> bool:
        if self._failure is not None:
            return False
        try:
            (more,) = await self._write([Ledger.relieve])
        except Exception as error:  # noqa: BLE001  # as in _commit
            self._failed(error)
            return False
        return more is True

    async def _commit(self, units: Sequence[Unit]) -> Sequence[object | Exception]:
        """The outcome of each; when the file fails, none of them happened."""
        if self._failure is not None:
            return [JournalError(f"the journal is closed: {self._failure}")] * len(units)
        try:
            outcomes = await self._write_or_make_room(units)
        except Exception as error:  # noqa: BLE001  # whatever it was, callers wait and must hear of it
            self._failed(error)
            return [JournalError(f"the journal could not be written: {error}")] * len(units)
        if self._full:
            self._full = False
            log.info("the journal can be written again")
        return outcomes

    async def _write_or_make_room(self, units: Sequence[Unit]) -> Sequence[object | Exception]:
        for _ in range(TRIES):
            try:
                return await self._write(units)
            except sqlite3.Error as error:
                if not _is_full(error):
                    raise
                if not await self._make_room():
                    raise
        return await self._write(units)

    async def _make_room(self) -> bool:
        disk = self._disk
        if disk is not None and await self._writer.run(disk.make_room):
            log.error(
                "the disk is full: room that was kept is let go, and what happens is still written down"
            )
            return True
        made: object = Relief.LOOKED
        while made is Relief.LOOKED:
            (made,) = await self._write([Ledger.make_room])
        return made is Relief.GAVE

    async def _write(self, units: Sequence[Unit]) -> Sequence[object | Exception]:
        outcomes, head_seq, self._pressed, self._unreported = await self._writer.run(
            lambda ledger: (ledger.together(units), ledger.head_seq, ledger.pressed, ledger.unreported_rows)
        )
        if head_seq != self._head_seq:
            self._head_seq = head_seq
            self.changed.set()
        return outcomes

    def _failed(self, error: Exception) -> None:
        """A full disk may have room again; after anything else the file is not to be trusted any more."""
        if not _is_full(error):
            self._failure = error
            log.error("the journal could not be written and is closed", why=str(error), exc_info=error)
        elif not self._full:
            self._full = True
            log.error("the disk is full: the journal takes nothing", why=str(error))


class _Thread(aiosqlite.Connection):
    """aiosqlite's thread and its queue, for whole units instead of single statements."""

    def __init__(
        self, connect: Callable[[], sqlite3.Connection], new_id: Callable[[], str], caps: Caps
    ) -> None:
        super().__init__(connect, iter_chunk_size=1)
        self._new_id = new_id
        self._caps = caps
        self._ledger: Ledger | None = None

    async def opened(self) -> None:
        """A refusal comes when the thread has ended (aiosqlite 0.22 waits for that in ``close`` alone): it
        would else tell an event loop that is gone, and work at a file whose lock is let go.
        """
        try:
            await self
        except BaseException:
            await asyncio.to_thread(self._thread.join)
            raise

    async def run(self, work: Callable[[Ledger], T]) -> T:
        return cast(T, await self._execute(self._on_thread, work))  # type: ignore[no-untyped-call] # not typed there

    def _on_thread(self, work: Callable[[Ledger], T]) -> T:
        if self._ledger is None:
            self._ledger = Ledger(self._conn, new_id=self._new_id, caps=self._caps)
        return work(self._ledger)


def _is_full(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL


def _settle(future: asyncio.Future[object], outcome: object | Exception) -> None:
    if future.done():  # its caller was cancelled
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
