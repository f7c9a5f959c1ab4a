"""Decides when a stamp was, in UTC, and how wrong that may be.

A gateway's monotonic clock is exact inside one boot; its wall clock may be anything. Every message carries a
stamp of the moment of sending, so ``received - monotonic`` is that boot's offset plus the time on the way.
The least of each hour of a boot is kept (the quickest message, and no drift to speak of), and a stamp takes
the offset of the nearest hour, or of one further away if that is less even after all the drift in between: in
the nearest hour there may have been nothing but a message that was hours on its way. A least is the same in
any order, and so are the dates. Inside one boot durations are differences of the monotonic clock alone.

A boot that never sent a message has only its wall clock, believed as far as its source can be trusted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edge_agent.wire import Row, Stamp

NS_PER_MS = 1_000_000
HOUR_MS = 3_600_000
# Time on the way that the quickest message of an hour may have needed.
WAY_MS = 1_000
# A crystal of 100 ppm drifts this much in an hour.
DRIFT_MS_PER_HOUR = 360
# How far a wall clock may be off, by what last set it; a source that is not known is not trusted.
WALL_ERROR_MS = {"ntp": 5_000, "collector": 30_000, "rtc": HOUR_MS}
NEVER_SET_ERROR_MS = 365 * 24 * HOUR_MS
# 2100-01-01. A wall clock that reads later says nothing, and a date must stay one that can be printed.
LAST_WALL_MS = 4_102_444_800_000

# boot -> hour of that boot -> offset in ms
Offsets = Mapping[str, Mapping[int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockSample:
    boot: str
    hour: int
    offset_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dates:
    """When one occurrence was; all in UTC ms."""

    start_ms: int
    raised_ms: int
    end_ms: int | None
    error_ms: int
    # (from, severity), oldest first.
    severities: tuple[tuple[int, int], ...]


def mono_ms(stamp: Stamp) -> int:
    return stamp.mono_ns // NS_PER_MS


def sample(sent: Stamp, received_ms: int) -> ClockSample:
    mono = mono_ms(sent)
    return ClockSample(boot=sent.boot, hour=mono // HOUR_MS, offset_ms=received_ms - mono)


def date(stamp: Stamp, offsets: Offsets, *, floor_ms: int) -> tuple[int, int]:
    """(UTC ms, error). ``floor_ms``: before it this gateway was not; an unset clock may say anything."""
    hours = offsets.get(stamp.boot)
    mono = mono_ms(stamp)
    if hours:
        wanted = mono // HOUR_MS
        best = _best(hours, wanted)
        return mono + hours[best], WAY_MS + DRIFT_MS_PER_HOUR * (abs(best - wanted) + 1)
    wall_ms = min(stamp.wall_ms, LAST_WALL_MS)
    if stamp.source in WALL_ERROR_MS and wall_ms == stamp.wall_ms:
        return wall_ms, WALL_ERROR_MS[stamp.source]
    return max(wall_ms, floor_ms), NEVER_SET_ERROR_MS


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


def _at_most(hours: Mapping[int, int], hour: int, wanted: int) -> int:
    """More the offset of ``wanted`` cannot be, says ``hour``: a message may be late, never early."""
    return hours[hour] + DRIFT_MS_PER_HOUR * abs(hour - wanted)


def dates(row: Row, offsets: Offsets, *, floor_ms: int) -> Dates:
    first = row.first_bad
    start_ms, error_ms = date(first, offsets, floor_ms=floor_ms)

    def after_start(stamp: Stamp) -> tuple[int, int]:
        if stamp.boot == first.boot:
            lasted_ms = max(0, mono_ms(stamp) - mono_ms(first))
            return start_ms + lasted_ms, error_ms + DRIFT_MS_PER_HOUR * lasted_ms // HOUR_MS
        at_ms, error = date(stamp, offsets, floor_ms=floor_ms)
        return max(start_ms, at_ms), error

    end_ms = None
    if row.state == "closed" and row.cleared is not None:
        end_ms, end_error_ms = after_start(row.cleared)
        error_ms = max(error_ms, end_error_ms)
    steps = [(after_start(change.at)[0], change.severity) for change in row.severities]
    # The first step counts from the first bad sample, as downtime does.
    first_severity = steps[0][1] if steps else row.severity
    severities = ((start_ms, first_severity), *steps[1:])
    return Dates(
        start_ms=start_ms,
        raised_ms=after_start(row.raised)[0],
        end_ms=end_ms,
        error_ms=error_ms,
        severities=severities,
    )
