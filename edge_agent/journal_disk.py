"""Keeps room on the journal's disk, and decides what another program's full disk means for the journal.

A ballast file holds some room that nobody else can take. It is let go when the journal is refused: then the
write-ahead log moves into the file, the file grows by a quarter of the ballast at once, before others take
that too, and from then on lives within itself: what it gives up (``journal_caps``) makes room for what comes.
Once there is room again, all of it is as before.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import structlog

from edge_agent import journal_salvage
from edge_agent.journal_file import FILE as JOURNAL
from edge_agent.ledger import Ledger

FILE = "ballast"
# Of the whole disk at most.
BALLAST_PART = 8
# Less than this is no room, whatever the ballast.
LOW_BYTES = 64 << 10
# What is left for the log at least while a file grows, or half of what there is.
LOG_BYTES = 1 << 20
# Four times the length at which SQLite moves the log into the file: somebody who reads keeps it from that.
LONG_LOG_BYTES = 16 << 20


log = structlog.get_logger()


class Ballast(StrEnum):
    """``Health.ballast``."""

    FULL = "full"
    RELEASED = "released"
    # Not wanted, or there never was room for it.
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """As of one look; in bytes."""

    free: int
    total: int
    # The disk is full or nearly so.
    is_short: bool
    ballast: Ballast
    # Longer than it should ever be, and could not be cut off.
    log_is_long: bool = False


def ballast_at_most(ballast_bytes: int, disk_bytes: int) -> int:
    return min(ballast_bytes, disk_bytes // BALLAST_PART)


class Disk:
    """Belongs to the journal's thread."""

    def __init__(self, folder: Path, *, ballast_bytes: int) -> None:
        self._folder = folder
        self._file = folder / FILE
        self._journal = folder / JOURNAL
        self._ballast_bytes = ballast_at_most(ballast_bytes, self._total())
        self._low_bytes = max(self._ballast_bytes, LOW_BYTES)
        self._short = False
        self._released = False

    @property
    def _growth_bytes(self) -> int:
        return self._ballast_bytes // 4

    def look(self) -> Space:
        """Short below one ballast of free room; no longer short above two, and one more to be made again."""
        free = self._free()
        missing = 0 if self._is_there() else self._ballast_bytes
        if free < self._low_bytes:
            self._short = True
        elif free >= 2 * self._low_bytes + missing:
            self._short = False
        ballast = Ballast.NONE if missing or not self._ballast_bytes else Ballast.FULL
        return Space(
            free=free,
            total=self._total(),
            is_short=self._short,
            ballast=Ballast.RELEASED if self._released else ballast,
        )

    def spare(self) -> int:
        """So many bytes others may take until the disk has two ballasts left; it is short with one."""
        return self._free() - 2 * self._low_bytes

    def make_room(self, ledger: Ledger) -> bool:
        """The journal was refused: whether that was for want of room on the disk, and there is some now."""
        if self._free() >= self._low_bytes and not self._short:
            return False
        self._short = True
        if self._forget_broken():
            return True
        let_go = self._let_go()
        ledger.hold(self._growth_bytes if let_go else 0)
        return let_go

    def before_opening(self) -> None:
        """To open a journal takes some room; on a full disk there is none but what is kept for this."""
        self.make_way(0)
        self._short = self._free() < self._low_bytes or self._released

    def after_opening(self, ledger: Ledger) -> None:
        """Before anything is written: a file that has all its pages gets none that a full disk has not."""
        if self._short and not self._released and ledger.is_all_there():
            ledger.hold(0)

    def make_way(self, wanted_bytes: int) -> int:
        """Let go of what is kept as far as so many bytes need it; how many may be taken now."""
        for let_go in (self._forget_broken, self._let_go):
            if self._free() < self._low_bytes + wanted_bytes:
                let_go()
        return max(self._free() // 2, self._free() - max(self._low_bytes // 4, LOG_BYTES))

    def before_closing(self, ledger: Ledger) -> sqlite3.Connection | None:
        """On a full disk the log is the room that the journal lives in, and with the last connection that can
        write SQLite removes it. It stays if the one that is given here is closed after that.
        """
        return ledger.reader() if self.look().is_short else None

    def tend(self, ledger: Ledger) -> Space:
        """From time to time: cut off a log that has grown long, make the ballast again when there is room,
        and pages before they are needed.
        """
        if ledger.log_bytes() > LONG_LOG_BYTES:
            ledger.shorten_log()
        return replace(self._tend(ledger), log_is_long=ledger.log_bytes() > LONG_LOG_BYTES)

    def _tend(self, ledger: Ledger) -> Space:
        space = self.look()
        if space.is_short and self._forget_broken():
            space = self.look()
        if space.is_short:
            if self._released and not ledger.economy.held:
                ledger.hold(self._growth_bytes)
            return space
        if not self._is_there() and not self._make():
            return space
        self._released = False
        ledger.let_go()
        ledger.reserve()
        return self.look()

    def _forget_broken(self) -> bool:
        """A broken journal of which all that can be read is in the new one."""
        if not journal_salvage.forget_done(self._journal):
            return False
        log.error("the disk is short: the broken journal that was set aside is removed")
        return True

    def _let_go(self) -> bool:
        try:
            self._file.unlink()
        except OSError:
            return False
        self._released = True
        return True

    def _make(self) -> bool:
        if not self._ballast_bytes:
            return True
        if self._free() < 3 * self._low_bytes:
            return False
        try:
            descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self._ballast_bytes)
            finally:
                os.close(descriptor)
        except OSError:
            with suppress(OSError):
                self._file.unlink()
            return False
        return True

    def _is_there(self) -> bool:
        try:
            return self._file.stat().st_size >= self._ballast_bytes
        except OSError:
            return not self._ballast_bytes

    def _free(self) -> int:
        found = os.statvfs(self._folder)
        return found.f_bavail * found.f_frsize

    def _total(self) -> int:
        found = os.statvfs(self._folder)
        return found.f_blocks * found.f_frsize
