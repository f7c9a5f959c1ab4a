"""When each request of a bus is due, and how what does not answer is kept apart from what does.

Requests start on a grid: a late one does not shift the next, a missed one is skipped and never queued. Of
several that are due, the one due longest goes first, among equals the one asked longest ago: none starves.

A unit that gave no answer is in doubt: in its next round one short request, its *probe*, goes out in place of
all others. An answer to it ends the doubt, and everything is read at once. After SILENT_ROUNDS rounds without
one the unit counts as silent and is *quarantined*: one probe each 30-60 s. The same is done to a single
request that is never answered by a unit that answers others, and after LOST_ROUNDS to one that was. All that
is quarantined takes at most PROBE_SHARE of the bus. A unit that is alone on its bus has no neighbours to slow
down and is probed at its own rate, so that its return is seen at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from math import floor
from typing import Any, Generic, Protocol, TypeVar

from edge_agent.backoff import Dice

SILENT_ROUNDS = 3
# Of a request that was answered before: on a line that loses every third frame, three in a row are lost twice
# a minute, and each time it would rest for 30 to 60 s.
LOST_ROUNDS = 10
PROBE_MIN_S = 30.0
PROBE_SHARE = 0.1
# A bus that keeps a smaller share of its requests is behind.
KEPT_SHARE = 0.9
# What a bus gave is counted over so long.
COUNTED_S = 60.0
# How much one more turn weighs in what a poll takes.
TOOK_GAIN = 1 / 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What a bus gave in the last minute that is over.

    ``due``: so many polls fell due, those of quarantined units left out; ``kept``: so many of them went out
    in their interval. ``cycle_s``: how long it takes to ask everything once, None while something was never
    answered. ``silent``: quarantined units.
    """

    due: int
    kept: int
    cycle_s: float | None
    silent: int

    @property
    def is_behind(self) -> bool:
        return self.kept < KEPT_SHARE * self.due


class Poll(Protocol):
    @property
    def device(self) -> str: ...
    @property
    def every_s(self) -> float: ...
    @property
    def timeout_s(self) -> float: ...


P = TypeVar("P", bound=Poll)


@dataclass(slots=True, kw_only=True, eq=False)
class _Row(Generic[P]):
    poll: P
    probe: P
    start: float
    due: float
    # Order of asking; 0 is never.
    asked: int = 0
    # Rounds without an answer, by a unit that answers others.
    missed: int = 0
    # When it went out last, and how long a turn takes, the device's answer included.
    began: float = 0.0
    took: float | None = None
    ever_answered: bool = False
    # Its place in the queue; None while the unit's probe stands in for it.
    place: tuple[float, int, int, Any] | None = None

    @property
    def given_up(self) -> bool:
        return self.missed >= (LOST_ROUNDS if self.ever_answered else SILENT_ROUNDS)


@dataclass(slots=True, kw_only=True, eq=False)
class _Unit(Generic[P]):
    rows: list[_Row[P]] = field(default_factory=list)
    silent_rounds: int = 0
    quarantined: bool = False
    # Whose probe is asked next: that of what was answered last, else each in its turn.
    best: int = 0
    # What is asked in place of its rows while it is in doubt.
    stand_in: _Row[P]

    @property
    def in_doubt(self) -> bool:
        return self.stand_in.place is not None


class Schedule(Generic[P]):
    """Times are seconds of one monotonic clock. ``probe`` gives a poll's short form; without it, itself."""

    def __init__(
        self, polls: Iterable[P], *, now: float, random: Dice, probe: Callable[[P], P] | None = None
    ) -> None:
        self._random = random
        self._asked = 0
        self._queue: list[tuple[float, int, int, _Row[P]]] = []
        self._ticks = count()
        self._rows: dict[int, _Row[P]] = {}
        self._units: dict[str, _Unit[P]] = {}
        self._counted_until = now + COUNTED_S
        self._due = self._kept = 0
        self._last: tuple[int, int] | None = None
        for poll in polls:
            row = _Row(poll=poll, probe=probe(poll) if probe else poll, start=now, due=now)
            unit = self._units.setdefault(poll.device, _Unit(stand_in=_stand_in(row)))
            unit.rows.append(row)
            self._rows[id(poll)] = row
            self._line_up(row)

    def next(self) -> tuple[float, P] | None:
        """What to ask next and the moment when it is due; None when this bus has nothing to ask."""
        queue = self._queue
        while queue:
            first = queue[0]
            row = first[3]
            if row.place is first:
                return first[0], row.poll
            heappop(queue)
        return None

    def asked(self, poll: P, now: float) -> bool:
        """It goes out now, and is due again at the next point of its grid. True when a minute is over."""
        unit = self._units[poll.device]
        self._asked += 1
        row = unit.stand_in if unit.in_doubt else self._rows[id(poll)]
        row.asked = self._asked
        if unit.in_doubt:
            row.due = _skip(unit, now)
        else:
            due, row.began = row.due, now
            _forward(row, now)
            self._due += max(1, round((row.due - due) / poll.every_s))
            self._kept += 1
        self._line_up(row)
        if now < self._counted_until:
            return False
        self._last = (self._due, self._kept)
        self._due = self._kept = 0
        self._counted_until = now + COUNTED_S
        return True

    def answered(self, poll: P, now: float) -> bool:
        """The unit lives. True when it was quarantined."""
        unit = self._units[poll.device]
        unit.silent_rounds = 0
        row = self._rows.get(id(poll))
        if row is not None:
            row.missed = 0
            row.ever_answered = True
            took = now - row.began
            row.took = took if row.took is None else row.took + TOOK_GAIN * (took - row.took)
            unit.best = unit.rows.index(row)
        if not unit.in_doubt:
            return False
        back, unit.quarantined = unit.quarantined, False
        unit.stand_in.place = None
        for one in unit.rows:
            if one is not row and not one.given_up:
                one.due = now
            self._line_up(one)
        return back

    def silent(self, poll: P, now: float) -> bool:
        """Nothing came. True when the whole unit counts as silent, not only this poll."""
        unit = self._units[poll.device]
        unit.silent_rounds += 1
        row = self._rows.get(id(poll))
        if row is not None and not unit.in_doubt:
            row.missed += 1
        earliest = _skip(unit, now)
        if row is not None and row.given_up and len(unit.rows) > 1:
            row.due = max(row.due, now + self._pause_s())
        if row is None or unit.rows[unit.best] is row:
            unit.best = (unit.best + 1) % len(unit.rows)
        given_up = unit.silent_rounds >= SILENT_ROUNDS
        unit.quarantined = given_up and len(self._units) > 1
        for one in unit.rows:
            one.place = None
        unit.stand_in.poll = unit.rows[unit.best].probe
        unit.stand_in.due = now + self._pause_s() if unit.quarantined else earliest
        self._line_up(unit.stand_in)
        return given_up

    def again(self, poll: P, now: float) -> None:
        """It is due at once."""
        row = self._rows[id(poll)]
        row.due = now
        if row.place is not None:
            self._line_up(row)

    def put_off(self, poll: P, until: float) -> None:
        """Not before then; others have their turn meanwhile."""
        unit = self._units[poll.device]
        row = unit.stand_in if unit.in_doubt else self._rows[id(poll)]
        row.due = max(row.due, until)
        self._line_up(row)

    def quarantined(self, device: str) -> bool:
        return self._units[device].quarantined

    @property
    def cycle_s(self) -> float | None:
        """How long it takes to ask everything once; None while something was never answered."""
        total = 0.0
        for row in self._rows.values():
            if row.took is None:
                return None
            total += row.took
        return total

    def service(self) -> Service | None:
        """None before the first minute is over."""
        if self._last is None:
            return None
        return Service(
            due=self._last[0],
            kept=self._last[1],
            cycle_s=self.cycle_s,
            silent=sum(unit.quarantined for unit in self._units.values()),
        )

    def _line_up(self, row: _Row[P]) -> None:
        row.place = place = (row.due, row.asked, next(self._ticks), row)
        heappush(self._queue, place)

    def _pause_s(self) -> float:
        """Until the next probe: each that is quarantined costs its timeout, all together PROBE_SHARE."""
        lost_s = 0.0
        for unit in self._units.values():
            if unit.quarantined:
                lost_s += max(row.probe.timeout_s for row in unit.rows)
            else:
                lost_s += sum(row.poll.timeout_s for row in unit.rows if row.given_up)
        return least_pause_s(lost_s) * (1 + self._random.random())


def least_pause_s(lost_s: float) -> float:
    """At least so long lies between two probes of what is quarantined, when a probe of each costs so much."""
    return max(PROBE_MIN_S, lost_s / PROBE_SHARE)


def _stand_in(row: _Row[P]) -> _Row[P]:
    return _Row(poll=row.probe, probe=row.probe, start=row.start, due=row.due)


def _forward(row: _Row[P], now: float) -> None:
    every_s = row.poll.every_s
    row.due = row.start + (floor((now - row.start) / every_s) + 1) * every_s
    if row.due <= now:  # rounding
        row.due += every_s


def _skip(unit: _Unit[P], now: float) -> float:
    """What of the unit is due is not asked in this round. When its next round begins."""
    for row in unit.rows:
        if row.due <= now:
            _forward(row, now)
    return min(row.due for row in unit.rows)
