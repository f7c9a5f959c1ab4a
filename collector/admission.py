"""Decides which syncs come in, which wait in line, and when the others may come back.

There are two lanes, told apart by the length that a request declares, before a byte of its body is read.
*Short* are heartbeats, the present and fresh faults; *long* is history. Each has a room of its own, so that
history never holds up the present, however much of it there is. Who finds the room taken waits in a line that
is as long as can be worked off soon; whoever finds that full is sent away at once, before any work.

When to come back is no constant: it is how many are expected before, times what one of them has cost lately.
A fleet that returns at once is thereby spread over as long as it takes. A quota keeps one gateway that says
too much from taking what is there for all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

# About sixty rows, packed; a heartbeat has 500 bytes. Whoever does not say how much it sends is long.
SHORT_BYTES = 4 << 10
# Of the syncs at once so many may be long: enough that the writer never waits for one.
LONG_SHARE = 16
# In the line of the short nobody waits for much longer than this, and whoever has not been heard for a while
# only for half of it: a fresh stop is to be a ticket within 5 s, also while a fleet returns.
LINE_S = 4.0
HEARD_S = 60.0
MAX_LINE = 5_000
# A place that becomes free is taken at once if so many wait per place.
LONG_LINE_PER_PLACE = 2
MAX_RETRY_S = 300.0
# Of the short: a standstill that is over must not keep a fresh stop away for minutes.
MAX_SHORT_RETRY_S = 30.0
# Agents come back between once and twice what they were told; the rest is the way.
GRACE_S = 5.0
# More are not counted. By then everybody is told the longest wait.
MAX_EXPECTED = 20_000
# How much the newest cost counts against all before.
LEARN = 0.05
# What a sync costs beside its rows, in rows.
ROWS_OF_A_SYNC = 10
# A gateway may be ahead of its quota by so many seconds of it.
BURST_S = 10.0


class Step(StrEnum):
    """What becomes of a sync that has just arrived."""

    ENTER = "enter"
    WAIT = "wait"
    AWAY = "away"


def is_short(content_length: str | None) -> bool:
    """By the header of that name, which an agent always sends."""
    return content_length is not None and content_length.isdecimal() and int(content_length) <= SHORT_BYTES


def rooms(limit: int) -> tuple[int, int]:
    """Places for the short and for the long among ``limit``; at least one each."""
    long = max(1, limit // LONG_SHARE)
    return max(1, limit - long), long


class Lane:
    """The books of one lane. ``who`` is whatever name tells one gateway from another; moments are monotonic
    seconds. ``cost_s`` is the time of the collector that one sync has taken lately."""

    def __init__(self, *, room: int, cost_s: float, line_s: float | None = None) -> None:
        """``line_s``: a line of so many seconds; else one of some per place."""
        self.room = room
        self.cost_s = cost_s
        self._line_s = line_s
        self.inside = 0
        self.waiting = 0
        # Who was asked to come back: when it is its turn, and until when it is waited for.
        self._expected: dict[str, tuple[float, float]] = {}
        self._pruned_s = -math.inf
        # Sync-seconds that syncs have been inside, as of a moment.
        self._spent, self._at_s = 0.0, 0.0

    @property
    def line(self) -> int:
        """How many may wait."""
        if self._line_s is None:
            return self.room * LONG_LINE_PER_PLACE
        return max(self.room, min(MAX_LINE, int(self._line_s / self.cost_s)))

    def arrive(self, who: str, *, heard: bool = True) -> Step:
        """``heard``: it spoke a short while ago, so that what it says is fresh, unless it is history."""
        self._expected.pop(who, None)
        if self.inside < self.room:
            return Step.ENTER
        line = self.line if heard or self._line_s is None else self.line / 2
        return Step.WAIT if self.waiting < line else Step.AWAY

    def entered(self, now_s: float) -> Visit:
        self._spend(now_s)
        self.inside += 1
        return Visit(entered_s=now_s, spent=self._spent)

    def left(self, visit: Visit, now_s: float) -> None:
        """It is done. Those that were inside beside it shared the time that it took; who shares one commit
        leaves at the same moment, so it is the mean of its stay that counts."""
        self._spend(now_s)
        self.inside -= 1
        stayed_s = now_s - visit.entered_s
        if stayed_s > 0:
            beside = (self._spent - visit.spent) / stayed_s
            self.cost_s += LEARN * (stayed_s / beside - self.cost_s)

    def turn_s(self, who: str, now_s: float) -> float:
        """In how many seconds it is the turn of ``who``, who is expected from now on. Who asks again before
        it has come keeps its place."""
        before = self.waiting + self.expected(now_s)
        if who in self._expected:
            return max(0.0, self._expected[who][0] - now_s)
        longest_s = MAX_RETRY_S if self._line_s is None else MAX_SHORT_RETRY_S
        after_s = min(longest_s, before * self.cost_s)
        if who and len(self._expected) < MAX_EXPECTED:
            self._expected[who] = now_s + after_s, now_s + 2 * max(1.0, after_s) + GRACE_S
        return after_s

    def expected(self, now_s: float) -> int:
        if now_s - self._pruned_s >= 1.0:
            self._pruned_s = now_s
            self._expected = {who: turn for who, turn in self._expected.items() if turn[1] > now_s}
        return len(self._expected)

    def _spend(self, now_s: float) -> None:
        self._spent += self.inside * (now_s - self._at_s)
        self._at_s = now_s


def retry_after(seconds: float) -> int:
    """As the header wants it: whole seconds, at least one."""
    return max(1, math.ceil(min(MAX_RETRY_S, seconds)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """When it began, and for how many sync-seconds syncs had been inside by then."""

    entered_s: float
    spent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What one gateway may still cost, in rows. It is charged once that is known, so it can be in debt."""

    rows: float
    at_s: float

    @classmethod
    def opened(cls, now_s: float, rows_per_s: float) -> Account:
        return cls(rows=rows_per_s * BURST_S, at_s=now_s)

    def charged(self, rows: int, now_s: float, rows_per_s: float) -> Account:
        earned = max(0.0, now_s - self.at_s) * rows_per_s
        return Account(rows=min(rows_per_s * BURST_S, self.rows + earned) - rows, at_s=now_s)

    def debt_s(self, now_s: float, rows_per_s: float) -> float:
        """How long until it owes nothing."""
        return max(0.0, -self.charged(0, now_s, rows_per_s).rows / rows_per_s)
