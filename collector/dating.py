"""Decides when a stamp was, in UTC, and how wrong that may be.

A gateway's monotonic clock is exact inside one boot; its wall clock may be anything. Every message carries a
stamp of the moment of sending, so ``received - monotonic`` is that boot's offset plus the time on the way.
The least of each hour of a boot is kept (the quickest message, and no drift to speak of), and a stamp takes
the offset of the nearest hour, or of one further away if that is less even after all the drift in between: in
the nearest hour there may have been nothing but a message that was hours on its way. A least is the same in
any order, and so are the dates. Inside one boot durations are differences of the monotonic clock alone.

A boot that never sent a message lies between others: each start of the agent writes down the last moment
that it knows of the boot before (a *link*). So its offset is at least what lets it begin after the one
before, and at most what lets it end before the one after; several such boots in a row are bounded by the two
around them that spoke. Where its wall clock agrees with that, it narrows the bounds as far as its source can
be trusted. The middle is taken, half the distance is the error, and all moments of the boot share both.
Without a link there is only the wall clock.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from edge_agent.wire import AGENT_COMPONENT, NOT_RUNNING, Pause, Row, Stamp, mono_ms

HOUR_MS = 3_600_000
# Time on the way that the quickest message of an hour may have needed.
WAY_MS = 1_000
# Offsets are kept in steps of this, rounded down: a message that was a little quicker than any before teaches
# nothing, else each such one would date all of its hour again.
STEP_MS = 250
# A crystal of 100 ppm drifts this much in an hour.
DRIFT_MS_PER_HOUR = 360
# Besides drift: of two offsets of one boot that differ by more one is of a late message, or of another clock.
AGREE_MS = 4_000
# Hours on either side of that of a moment that are looked at before all others.
NEAR = 1
# How far a wall clock may be off, by what last set it; a source that is not known is not trusted.
WALL_ERROR_MS = {"ntp": 5_000, "collector": 30_000, "rtc": HOUR_MS}
NEVER_SET_ERROR_MS = 365 * 24 * HOUR_MS
# 2100-01-01. A wall clock that reads later says nothing, and a date must stay one that can be printed.
LAST_WALL_MS = 4_102_444_800_000
# Boots cannot lie in a ring; where a gateway says so, looking for their bounds ends after so many rounds.
MAX_ROUNDS = 16

# The severity of a fault that is not there: below all others.
PAUSED = 0

_STEP, _BACK, _GONE = range(3)

# boot -> hour of that boot -> offset in ms
Offsets = Mapping[str, Mapping[int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockSample:
    boot: str
    hour: int
    offset_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One journal went on: ``before`` was earlier than ``after``, in another boot."""

    before: Stamp
    after: Stamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The offset of a boot that never spoke, and how wrong it may be either way."""

    offset_ms: int
    error_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """All that is known of the clocks of one gateway."""

    offsets: Offsets
    # Of boots that never spoke.
    estimates: Mapping[str, Estimate]
    links: Collection[Link] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Dates:
    """When one occurrence was; all in UTC ms."""

    start_ms: int
    raised_ms: int
    end_ms: int | None
    error_ms: int
    # (from, severity), oldest first; severity PAUSED while the fault was not there.
    severities: tuple[tuple[int, int], ...]


def hour(stamp: Stamp) -> int:
    """Of its boot."""
    return mono_ms(stamp) // HOUR_MS


def sample(sent: Stamp, received_ms: int) -> ClockSample:
    offset_ms = received_ms - mono_ms(sent)
    return ClockSample(boot=sent.boot, hour=hour(sent), offset_ms=offset_ms - offset_ms % STEP_MS)


def put_right(
    hours: Mapping[int, int], sent: Stamp, received_ms: int, behind_ms: Collection[int]
) -> dict[int, int]:
    """Offsets of its boot that were learnt while the clock here was behind by one of ``behind_ms``, as they
    would have been by the clock that it is now; none where this message does not show that they were, or a
    clock there that a time server sets says that it is here that it is wrong now.
    """
    told = sample(sent, received_ms)
    if sent.source == "ntp" and 2 * abs(sent.wall_ms - received_ms) >= min(behind_ms):
        return {}

    def allowed_ms(hour: int) -> int:
        return AGREE_MS + DRIFT_MS_PER_HOUR * (abs(hour - told.hour) + 1)

    def shown(hour: int, by_ms: int) -> bool:
        off_ms = told.offset_ms - hours[hour] - by_ms
        return 2 * allowed_ms(hour) <= by_ms and abs(off_ms) <= allowed_ms(hour)

    if not any(shown(hour, by_ms) for hour in hours for by_ms in behind_ms):
        return {}
    found: dict[int, int] = {}
    for hour, offset_ms in hours.items():
        least_ms = told.offset_ms - allowed_ms(hour)
        enough = [by_ms for by_ms in behind_ms if offset_ms + by_ms >= least_ms]
        if offset_ms < least_ms and enough:
            found[hour] = offset_ms + min(enough) // STEP_MS * STEP_MS
    return found


def link(row: Row, gateway: str) -> Link | None:
    """What a start of the agent of ``gateway`` tells of two boots, if this row is of one."""
    own = (row.device, row.component, row.fault) == (gateway, AGENT_COMPONENT, NOT_RUNNING)
    if not own or row.cleared is None or row.cleared.boot == row.first_bad.boot:
        return None
    return Link(before=row.first_bad, after=row.cleared)


def date(stamp: Stamp, clocks: Clocks, *, floor_ms: int) -> tuple[int, int]:
    """(UTC ms, error). ``floor_ms``: before it this gateway was not; an unset clock may say anything."""
    if stamp.boot in clocks.offsets:
        return _told(stamp, clocks.offsets[stamp.boot])
    if stamp.boot in clocks.estimates:
        estimate = clocks.estimates[stamp.boot]
        return min(max(0, mono_ms(stamp) + estimate.offset_ms), LAST_WALL_MS), estimate.error_ms
    wall_error_ms = _wall_error_ms(stamp)
    if wall_error_ms is not None:
        return stamp.wall_ms, wall_error_ms
    return max(min(stamp.wall_ms, LAST_WALL_MS), floor_ms), NEVER_SET_ERROR_MS


def _told(stamp: Stamp, hours: Mapping[int, int]) -> tuple[int, int]:
    """A moment of a boot that spoke."""
    mono = mono_ms(stamp)
    wanted = mono // HOUR_MS
    best = _best(hours, wanted)
    return mono + hours[best], WAY_MS + DRIFT_MS_PER_HOUR * (abs(best - wanted) + 1)


def _wall_error_ms(stamp: Stamp) -> int | None:
    """None: its wall clock says nothing."""
    return WALL_ERROR_MS.get(stamp.source) if stamp.wall_ms <= LAST_WALL_MS else None


def estimates(links: Collection[Link], offsets: Offsets) -> dict[str, Estimate]:
    """Of each boot in ``links`` that never spoke and of which something can be said."""
    drift_ms = _drifts(links)
    # Bounds that need no other estimate, and by how much a bound of one boot is more than that of another.
    lows: dict[str, int] = {}
    highs: dict[str, int] = {}
    ups: dict[str, list[tuple[str, int]]] = defaultdict(list)
    downs: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for one in sorted(links, key=_order):
        old, new = one.before.boot, one.after.boot
        apart_ms = mono_ms(one.after) - mono_ms(one.before)
        if old not in offsets and new not in offsets:
            ups[old].append((new, apart_ms + drift_ms[new]))
            downs[new].append((old, apart_ms + drift_ms[old]))
        elif old not in offsets:
            at_ms, error_ms = _told(one.after, offsets[new])
            high_ms = at_ms + error_ms - mono_ms(one.before) + drift_ms[old]
            highs[old] = min(high_ms, highs.get(old, high_ms))
        elif new not in offsets:
            at_ms, error_ms = _told(one.before, offsets[old])
            low_ms = at_ms - error_ms - mono_ms(one.after) - drift_ms[new]
            lows[new] = max(low_ms, lows.get(new, low_ms))
    at_least = {boot: -less for boot, less in _least({b: -low for b, low in lows.items()}, ups).items()}
    at_most = _least(highs, downs)
    walls = _walls(links, drift_ms)
    found = {
        boot: _between(at_least.get(boot), at_most.get(boot), walls[boot])
        for boot in drift_ms
        if boot not in offsets
    }
    return {boot: one for boot, one in found.items() if one is not None}


def beside(boots: Iterable[str], links: Collection[Link], offsets: Offsets) -> set[str]:
    """Boots that never spoke, of which one of ``boots`` has a say in the dates."""
    near: dict[str, set[str]] = defaultdict(set)
    for one in links:
        near[one.before.boot].add(one.after.boot)
        near[one.after.boot].add(one.before.boot)
    found: set[str] = set()
    waiting = list(boots)
    while waiting:
        boot = waiting.pop()
        fresh = {other for other in (boot, *near[boot]) if other not in offsets} - found
        found |= fresh
        waiting += fresh
    return found


def _order(one: Link) -> tuple[str, int, str, int]:
    return one.before.boot, one.before.mono_ns, one.after.boot, one.after.mono_ns


def _drifts(links: Iterable[Link]) -> dict[str, int]:
    """By boot: what its clock may have drifted in all the time that is known of it."""
    found: dict[str, int] = defaultdict(int)
    for one in links:
        for stamp in (one.before, one.after):
            drift_ms = DRIFT_MS_PER_HOUR * (mono_ms(stamp) // HOUR_MS + 1)
            found[stamp.boot] = max(found[stamp.boot], drift_ms)
    return found


def _least(known: Mapping[str, int], more: Mapping[str, list[tuple[str, int]]]) -> dict[str, int]:
    """Bounds from above, spread to boots of which another boot's bound is known and how much ``more`` theirs
    may be."""
    found = dict(known)
    rounds: dict[str, int] = defaultdict(int)
    waiting = deque(sorted(found))
    while waiting:
        boot = waiting.popleft()
        for other, apart_ms in more.get(boot, ()):
            bound_ms = found[boot] + apart_ms
            if bound_ms < found.get(other, bound_ms + 1) and rounds[other] < MAX_ROUNDS:
                found[other] = bound_ms
                rounds[other] += 1
                waiting.append(other)
    return found


def _walls(links: Iterable[Link], drift_ms: Mapping[str, int]) -> dict[str, list[tuple[int, int]]]:
    """By boot: (error, offset) as its wall clock had it, the surest first."""
    found: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for one in links:
        for stamp in (one.before, one.after):
            error_ms = _wall_error_ms(stamp)
            if error_ms is not None:
                found[stamp.boot].append((error_ms + drift_ms[stamp.boot], stamp.wall_ms - mono_ms(stamp)))
    return defaultdict(list, {boot: sorted(ones) for boot, ones in found.items()})


def _between(low_ms: int | None, high_ms: int | None, walls: Iterable[tuple[int, int]]) -> Estimate | None:
    if low_ms is not None and high_ms is not None and low_ms > high_ms:
        low_ms, high_ms = high_ms, low_ms
    for error_ms, offset_ms in walls:
        low = offset_ms - error_ms if low_ms is None else max(low_ms, offset_ms - error_ms)
        high = offset_ms + error_ms if high_ms is None else min(high_ms, offset_ms + error_ms)
        if low <= high:
            low_ms, high_ms = low, high
    if low_ms is not None and high_ms is not None:
        return Estimate(offset_ms=(low_ms + high_ms) // 2, error_ms=(high_ms - low_ms + 1) // 2)
    known_ms = high_ms if low_ms is None else low_ms
    return None if known_ms is None else Estimate(offset_ms=known_ms, error_ms=NEVER_SET_ERROR_MS)


def reach(hours: Mapping[int, int], hour: int) -> tuple[int, int]:
    """The first and the last hour whose dates the least of ``hour`` may have a say in."""
    near = [one for one in hours if hours[one] <= _at_most(hours, hour, one)]
    before = max((one for one in near if one < hour), default=-1)
    after = min((one for one in near if one > hour), default=1 << 40)
    return before, after


def _best(hours: Mapping[int, int], wanted: int) -> int:
    """The hour that says least of ``wanted``, of several the nearest. A gateway may have run for years: hours
    are looked at from ``wanted`` outwards, until even the least of all would be too far away.
    """
    least_ms = min(hours.values())
    found: tuple[int, int] | None = None
    for away in range(len(hours)):
        drift_ms = DRIFT_MS_PER_HOUR * away
        if found is not None and found[0] <= least_ms + drift_ms:
            return found[1]
        for hour in (wanted - away, wanted + away):
            offset_ms = hours.get(hour)
            if offset_ms is not None and (found is None or offset_ms + drift_ms < found[0]):
                found = offset_ms + drift_ms, hour
    # Only where few hours are known, and far away.
    return min(hours, key=lambda hour: (_at_most(hours, hour, wanted), abs(hour - wanted), hour))


def around(hours: Iterable[int]) -> set[int]:
    """These hours and the nearest to them: nearly always one of those tells best when it was."""
    return {hour + away for hour in hours for away in range(-NEAR, NEAR + 1)}


def suffices(known: Mapping[int, int], wanted: Iterable[int], least_ms: int) -> bool:
    """Whether no hour but those ``around`` the wanted ones, of which ``known`` are known, can say less of
    them. ``least_ms``: of all hours of that boot.
    """
    further_ms = least_ms + DRIFT_MS_PER_HOUR * (NEAR + 1)
    return bool(known) and all(_at_most(known, _best(known, one), one) <= further_ms for one in wanted)


def _at_most(hours: Mapping[int, int], hour: int, wanted: int) -> int:
    """More the offset of ``wanted`` cannot be, says ``hour``: a message may be late, never early."""
    return hours[hour] + DRIFT_MS_PER_HOUR * abs(hour - wanted)


def dates(row: Row, clocks: Clocks, *, floor_ms: int) -> Dates:
    first = row.first_bad
    start_ms, error_ms = date(first, clocks, floor_ms=floor_ms)

    def after_start(stamp: Stamp) -> tuple[int, int]:
        if stamp.boot == first.boot:
            lasted_ms = max(0, mono_ms(stamp) - mono_ms(first))
            return start_ms + lasted_ms, error_ms + DRIFT_MS_PER_HOUR * lasted_ms // HOUR_MS
        at_ms, error = date(stamp, clocks, floor_ms=floor_ms)
        # What is dated before the start is not known better than by how much that cannot be.
        return max(start_ms, at_ms), error + max(0, start_ms - at_ms)

    end_ms = None
    if row.state == "closed" and row.cleared is not None:
        end_ms, end_error_ms = after_start(row.cleared)
        error_ms = max(error_ms, end_error_ms)
    steps = [(after_start(change.at)[0], change.severity) for change in row.severities]
    # The first step counts from the first bad sample, as downtime does.
    first_severity = steps[0][1] if steps else row.severity
    severities = _with_pauses(((start_ms, first_severity), *steps[1:]), row.pauses or ())
    return Dates(
        start_ms=start_ms,
        raised_ms=after_start(row.raised)[0],
        end_ms=end_ms,
        error_ms=error_ms,
        severities=severities,
    )


def pauses(steps: Sequence[Sequence[int]]) -> tuple[tuple[int, int | None], ...]:
    """From when to when the fault was not there, of the steps of ``Dates.severities``."""
    ends = [*(at_ms for at_ms, _ in steps[1:]), None]
    return tuple(
        (at_ms, end_ms) for (at_ms, severity), end_ms in zip(steps, ends, strict=True) if severity == PAUSED
    )


def _with_pauses(steps: tuple[tuple[int, int], ...], pauses: Sequence[Pause]) -> tuple[tuple[int, int], ...]:
    """``steps`` with PAUSED from when to when the fault was not there."""
    if not pauses:
        return steps
    start_ms = steps[0][0]
    # (when, STEP, BACK or GONE: of one moment in this order, the severity of a step)
    edges = [(at_ms, _STEP, severity) for at_ms, severity in steps]
    for gone_ms, back_ms in pauses:
        if gone_ms == back_ms:
            continue
        edges.append((start_ms + gone_ms, _GONE, PAUSED))
        if back_ms is not None:
            edges.append((start_ms + back_ms, _BACK, PAUSED))
    found: dict[int, int] = {}
    severity, away = PAUSED, False
    for at_ms, what, number in sorted(edges):
        if what == _STEP:
            severity = number
        else:
            away = what == _GONE
        found[at_ms] = PAUSED if away else severity
    return tuple(found.items())
