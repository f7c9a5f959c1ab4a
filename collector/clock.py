"""The collector's only clock: UTC in integer milliseconds, and monotonic seconds for limits."""

from __future__ import annotations

import time

# How far off the clock of a database is known that took as long to answer; it is asked every second.
SLOW_ANSWER_S = 0.2


def now_ms() -> int:
    """UTC, milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def monotonic_s() -> float:
    """Seconds that never jump; only differences mean anything."""
    return time.monotonic()


class Clock:
    """UTC as this machine has it, or as the database has it that several collectors share: they must agree
    about now, and their own clocks need not.
    """

    def __init__(self) -> None:
        # UTC less the monotonic clock, both in ms; None while nobody else is followed.
        self._offset_ms: int | None = None

    def now_ms(self) -> int:
        if self._offset_ms is None:
            return now_ms()
        return self._offset_ms + round(monotonic_s() * 1000)

    def follow(self, theirs_ms: int, asked_s: float, answered_s: float) -> None:
        """``theirs_ms`` was read between these two monotonic moments."""
        slack_ms = (answered_s - asked_s) * 500
        offset_ms = theirs_ms - round((asked_s + answered_s) * 500)
        known = self._offset_ms
        if known is None or answered_s - asked_s <= SLOW_ANSWER_S or abs(offset_ms - known) > slack_ms:
            self._offset_ms = offset_ms
