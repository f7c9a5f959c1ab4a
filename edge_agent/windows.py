"""Remembers what conditions ask of a signal over time: the newest samples, those of a while, a counter's
increase, for how long a value stands.

Each takes the good samples of one signal in their order and has a bound on what it keeps. Time is ``mono_ns``
and is told to it. ``due_ns`` is when time alone may change what it says.
"""

from __future__ import annotations

import math
from bisect import insort
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol, TypeGuard

from edge_agent.grammar import MAX_RECENT, Scalar
from edge_agent.sample import Value

# What is usual is told by so many gaps, and by no fewer than LEARNED_FROM. The longest of a hundred is not
# usual: one break or one outage teaches nothing.
GAPS = 500
LEARNED_FROM = 100
UNUSUAL = 0.01
# A counter keeps so many points of its window: its far end is exact to a thousandth of it.
POINTS = 1_000
# A counter that falls has turned over if it went at most so much of its modulus meanwhile, else it was reset.
# A reset from anywhere is taken for a turn once in eight times at most, and is then worth an eighth; whoever
# counts faster than that between two reads is read too seldom to be counted at all.
NEAR = 1 / 8


class Window(Protocol):
    def put(self, value: Value, now_ns: int) -> None:
        """A good sample."""

    def missed(self) -> None:
        """A sample of bad quality."""

    def begin_anew(self, now_ns: int) -> None:
        """Nobody listened before: the link has come back, or the agent stood still."""

    def due_ns(self, now_ns: int) -> int | None: ...


@dataclass(slots=True)
class Newest:
    """The newest ``size`` samples, as whether each was ``value``."""

    value: Scalar
    size: int
    hits: int = 0
    _hits: deque[bool] = field(init=False)

    def __post_init__(self) -> None:
        self._hits = deque(maxlen=self.size)

    def count(self, _now_ns: int) -> int:
        return len(self._hits)

    def put(self, value: Value, _now_ns: int) -> None:
        hit = same(value, self.value)
        if len(self._hits) == self.size:
            self.hits -= self._hits[0]
        self._hits.append(hit)
        self.hits += hit

    def missed(self) -> None:
        pass

    def begin_anew(self, now_ns: int) -> None:
        pass

    def due_ns(self, now_ns: int) -> int | None:
        return None


@dataclass(slots=True)
class Recent:
    """The samples of the last ``span_ns``, as whether each was ``value``; MAX_RECENT of them at most.

    A sample is as old as ``span_ns`` no longer in it.
    """

    value: Scalar
    span_ns: int
    begun_ns: int
    hits: int = 0
    _samples: deque[tuple[int, bool]] = field(default_factory=deque)

    def count(self, now_ns: int) -> int:
        """How many there are now; brings ``hits`` up to date."""
        while self._samples and self._samples[0][0] + self.span_ns <= now_ns:
            self.hits -= self._samples.popleft()[1]
        return len(self._samples)

    def put(self, value: Value, now_ns: int) -> None:
        hit = same(value, self.value)
        self._samples.append((now_ns, hit))
        self.hits += hit
        if len(self._samples) > MAX_RECENT:
            self.hits -= self._samples.popleft()[1]

    def missed(self) -> None:
        pass

    def begin_anew(self, now_ns: int) -> None:
        self.begun_ns = now_ns

    def due_ns(self, now_ns: int) -> int | None:
        # Also while nobody asks how many there are: what is past would be due for ever.
        self.count(now_ns)
        filled_ns = self.begun_ns + self.span_ns
        due = [filled_ns] if filled_ns > now_ns else []
        if self._samples:
            due.append(self._samples[0][0] + self.span_ns)
        return min(due, default=None)


@dataclass(frozen=True, slots=True)
class _Point:
    ns: int
    # Since the first point: what it counted in the time that is known, and how long that is.
    total: float
    known_ns: int


@dataclass(slots=True)
class Counter:
    """What a counter counted in the last ``span_ns``.

    A step between two good samples counts. One in which it fell counts if it turned over at ``modulus``; else
    it was reset, and nobody knows what it counted in that step. The same holds for a step over a bad sample,
    or in which nobody listened.
    """

    span_ns: int
    modulus: float | None
    _last: tuple[float, int] | None = None
    _points: deque[_Point] = field(default_factory=deque)
    _newest: _Point | None = None

    def put(self, value: Value, now_ns: int) -> None:
        if not isinstance(value, int | float) or not math.isfinite(value):
            self.missed()
            return
        total, known_ns = (self._newest.total, self._newest.known_ns) if self._newest else (0, 0)
        if self._last is not None:
            counted = self._counted(self._last[0], value)
            if counted is not None:
                total += counted
                known_ns += now_ns - self._last[1]
        self._last = (value, now_ns)
        self._newest = _Point(now_ns, total, known_ns)
        if not self._points or (now_ns - self._points[-1].ns) * POINTS >= self.span_ns:
            self._points.append(self._newest)
        while len(self._points) > 1 and self._points[1].ns <= now_ns - self.span_ns:
            self._points.popleft()

    def counted_per_ns(self, now_ns: int, not_before_ns: int) -> float | None:
        """In the last ``span_ns`` up to the newest sample. None while that reaches back to before
        ``not_before_ns`` or the first sample, if less than half of it is known, and without a sample in it.
        """
        if self._newest is None or now_ns - self._newest.ns >= self.span_ns:
            return None
        base = self._points[0]
        known_ns = self._newest.known_ns - base.known_ns
        filled = not_before_ns <= base.ns <= self._newest.ns - self.span_ns
        if not filled or 2 * known_ns < self.span_ns:
            return None
        return (self._newest.total - base.total) / known_ns

    def missed(self) -> None:
        self._last = None

    def begin_anew(self, now_ns: int) -> None:
        self._last = None

    def due_ns(self, now_ns: int) -> int | None:
        if self._newest is None or self._newest.ns + self.span_ns <= now_ns:
            return None
        return self._newest.ns + self.span_ns

    def _counted(self, before: float, after: float) -> float | None:
        if self.modulus is not None and not (0 <= before < self.modulus and 0 <= after < self.modulus):
            return None
        if after >= before:
            return after - before
        if self.modulus is None:
            return None
        turned = self.modulus - before + after
        return turned if turned <= self.modulus * NEAR else None


@dataclass(slots=True)
class Standing:
    """Since when a signal has had its value; a number within ``deadband`` of where it stands has not moved.

    After ``span_ns`` without a good sample it begins anew: what is not read does not stand.
    """

    span_ns: int
    deadband: float
    # Since when it stands, and whether it was seen to move then.
    since_ns: int | None = None
    moved: bool = False
    # The newest good sample.
    newest_ns: int | None = None
    _at: Value = None

    def put(self, value: Value, now_ns: int) -> None:
        if isinstance(value, float) and not math.isfinite(value):
            return
        if self.newest_ns is not None and now_ns - self.newest_ns >= self.span_ns:
            self.begin_anew(now_ns)
        if self.since_ns is None or self._is_elsewhere(value):
            self.moved = self.since_ns is not None
            self.since_ns = now_ns
            self._at = value
        self.newest_ns = now_ns

    def missed(self) -> None:
        pass

    def begin_anew(self, now_ns: int) -> None:
        self.since_ns = self.newest_ns = None

    def due_ns(self, now_ns: int) -> int | None:
        if self.newest_ns is None or self.newest_ns + self.span_ns <= now_ns:
            return None
        return self.newest_ns + self.span_ns

    def _is_elsewhere(self, value: Value) -> bool:
        if _is_number(value) and _is_number(self._at):
            return abs(value - self._at) > self.deadband
        return not same(value, self._at)


@dataclass(slots=True)
class Gaps:
    """How long a signal is usually silent between two good samples."""

    _heard_ns: int | None = None
    _newest: deque[int] = field(default_factory=lambda: deque(maxlen=GAPS))
    _in_order: list[int] = field(default_factory=list)

    def heard(self, at_ns: int, since_ns: int | None) -> None:
        """The newest good sample is of ``at_ns``, new or not; time counts since ``since_ns``, if it does."""
        before_ns, self._heard_ns = self._heard_ns, at_ns
        if before_ns is None or before_ns == at_ns or since_ns is None or before_ns < since_ns:
            return
        if len(self._newest) == GAPS:
            self._in_order.remove(self._newest[0])
        self._newest.append(at_ns - before_ns)
        insort(self._in_order, at_ns - before_ns)

    def usual_ns(self) -> int | None:
        """The longest silence that is usual; None before enough is known."""
        if len(self._in_order) < LEARNED_FROM:
            return None
        return self._in_order[-1 - int(len(self._in_order) * UNUSUAL)]


def same(value: Value, expected: Value) -> bool:
    """True is not 1, as it is not in YAML or JSON."""
    return value == expected and isinstance(value, bool) == isinstance(expected, bool)


def _is_number(value: Value) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
