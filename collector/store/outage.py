"""Says once that the database refuses, and once that it is over: a full disk is one line, not a thousand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

# What writes nothing succeeds on a full disk too (a sweep each second, say); after so many successes in a row
# something was written.
OVER_AFTER = 100

# A full disk, a database that is gone or has no connection left: not the fault of who asks.
DATABASE_AWAY = (OperationalError, InterfaceError, PoolTimeoutError)

log = structlog.get_logger()


def is_full(error: BaseException) -> bool:
    """Whether it is the disk: SQLITE_FULL, or disk_full of PostgreSQL (its manual, appendix A)."""
    cause = getattr(error, "orig", None)
    full_file = getattr(cause, "sqlite_errorname", None) == "SQLITE_FULL"
    return full_file or getattr(cause, "sqlstate", None) == "53100"


class Outage:
    def __init__(self, does_not: str, does: str) -> None:
        self._does_not, self._does = does_not, does
        self._lock = Lock()
        self._well = OVER_AFTER

    @contextmanager
    def noticed(self) -> Iterator[None]:
        """Around each use of the database."""
        try:
            yield
        except DATABASE_AWAY as error:
            self._refused(error)
            raise
        self._worked()

    def _refused(self, error: Exception) -> None:
        with self._lock:
            first, self._well = self._well >= OVER_AFTER, 0
        if first:
            said = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
            log.error(self._does_not, why=said)

    def _worked(self) -> None:
        if self._well >= OVER_AFTER:
            return
        with self._lock:
            self._well += 1
            over = self._well == OVER_AFTER
        if over:
            log.info(self._does)
