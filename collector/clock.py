"""The collector's only clock: UTC in integer milliseconds, and monotonic seconds for limits."""

from __future__ import annotations

import time
from itertools import accumulate

# How far off the clock of a database is known that took as long to answer; it is asked every second.
SLOW_ANSWER_S = 0.2
# A clock that is put forward by less was slewed, or read late.
STEP_MS = 10_000
# For so long it is known that it was: by then who spoke before it has spoken again, or has booted.
STEPS_KNOWN_S = 86_400.0
MAX_STEPS = 16


def now_ms() -> int:
    """UTC, milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def monotonic_s() -> float:
    """Seconds that never jump; only differences mean anything."""
    return time.monotonic()


class Clock:
    """UTC as this machine has it, or as the database has it that several collectors share: they must agree
    about now, and their own clocks need not. One of ``follow`` and ``alone`` is called every second.
    """

    def __init__(self) -> None:
        # UTC less the monotonic clock, both in ms; None while nobody else is followed.
        self._offset_ms: int | None = None
        # The same as it was when it was last looked at, whoever is followed.
        self._seen_ms: int | None = None
        # (when, by how much) it was put forward while this collector ran.
        self._steps: list[tuple[float, int]] = []

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
            self._look(offset_ms, answered_s)

    def alone(self) -> None:
        """Nobody else is followed."""
        at_s = monotonic_s()
        self._look(now_ms() - round(at_s * 1000), at_s)

    def put_forward_ms(self) -> tuple[int, ...]:
        """By how much this clock may have been behind in what it told before: by the last of its steps
        forward, by the last two of them together, and so on.
        """
        if not self._steps:
            return ()
        known_s = monotonic_s() - STEPS_KNOWN_S
        self._steps = [step for step in self._steps if step[0] > known_s]
        return tuple(accumulate(step_ms for _, step_ms in reversed(self._steps)))

    def _look(self, offset_ms: int, at_s: float) -> None:
        if self._seen_ms is not None and offset_ms - self._seen_ms >= STEP_MS:
            self._steps = [*self._steps, (at_s, offset_ms - self._seen_ms)][-MAX_STEPS:]
        self._seen_ms = offset_ms
