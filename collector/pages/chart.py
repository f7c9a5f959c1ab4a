"""Where things stand on the downtime timeline: percentages of its width, ticks at round local times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from collector.pages.texts import duration, exact, share
from collector.report import Interval, Item, Report

MINUTE_MS = 60_000
# The first of these that gives at most MAX_TICKS, in minutes.
STEPS_MIN = (5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 10_080, 20_160, 43_200)
MAX_TICKS = 9
KINDS = {"planned": "out of service"}
# A stop that is too short to be seen is drawn this wide, in percent.
MIN_WIDTH = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    x: float
    words: str
    anchor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    x: float
    width: float
    kind: str
    words: str
    ticket: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    item: Item
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    from_ms: int
    to_ms: int
    total: Item
    ticks: tuple[Tick, ...]
    lanes: tuple[Lane, ...]
    by_device: tuple[tuple[Item, str], ...]
    by_fault: tuple[tuple[Item, str], ...]
    longest_ms: int
    coverage: str
    down_share: str
    # Devices that are down at the end of the window.
    still_on: int


def chart(by_device: Report, by_fault: Report, zone: ZoneInfo) -> Chart:
    """Both reports are of the same site and window."""
    from_ms, to_ms = by_device.from_ms, by_device.to_ms
    total = by_device.total
    faults = [item for item in by_fault.items if item.down_ms]
    return Chart(
        from_ms=from_ms,
        to_ms=to_ms,
        total=total,
        ticks=ticks(from_ms, to_ms, zone),
        lanes=tuple(
            Lane(item=item, bars=tuple(bar(one, from_ms, to_ms, zone) for one in item.intervals))
            for item in by_device.items
        ),
        by_device=_longest_first(by_device.items),
        by_fault=_longest_first(faults),
        longest_ms=max((item.down_ms for item in (*by_device.items, *faults)), default=0),
        coverage=share(total.observed_ms, total.window_ms),
        down_share=share(total.down_ms, total.observed_ms),
        still_on=sum(item.open for item in by_device.items),
    )


def bar(interval: Interval, from_ms: int, to_ms: int, zone: ZoneInfo) -> Bar:
    span = max(1, to_ms - from_ms)
    x = 100 * (interval.from_ms - from_ms) / span
    width = max(MIN_WIDTH, 100 * (interval.to_ms - interval.from_ms) / span)
    what = KINDS.get(interval.kind, interval.kind)
    lasted = duration(interval.to_ms - interval.from_ms)
    return Bar(
        x=round(min(x, 100 - width), 3),
        width=round(width, 3),
        kind=interval.kind,
        words=f"{what} {lasted}, from {exact(interval.from_ms, zone)}"
        + (", still on" if interval.open else ""),
        ticket=interval.ticket,
    )


def ticks(from_ms: int, to_ms: int, zone: ZoneInfo) -> tuple[Tick, ...]:
    span = max(1, to_ms - from_ms)
    step_min = next((step for step in STEPS_MIN if span / (step * MINUTE_MS) <= MAX_TICKS), STEPS_MIN[-1])
    start = datetime.fromtimestamp(from_ms / 1000, UTC).astimezone(zone)
    # Round in local wall time; each tick is converted back alone, so that a change to summer time moves none.
    wall = start.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    found: list[Tick] = []
    while True:
        at_ms = round(wall.replace(tzinfo=zone).timestamp() * 1000)
        if at_ms > to_ms:
            return tuple(found)
        x = round(100 * (at_ms - from_ms) / span, 3)
        # A time that is left out when summer time begins stands where the next one does.
        if at_ms >= from_ms and not (found and found[-1].x >= x):
            found.append(
                Tick(
                    x=x, words=_words(datetime.fromtimestamp(at_ms / 1000, zone), step_min), anchor=_anchor(x)
                )
            )
        wall += timedelta(minutes=step_min)


def _words(wall: datetime, step_min: int) -> str:
    midnight = (wall.hour, wall.minute) == (0, 0)
    return f"{wall.day} {wall:%b}" if step_min >= 1440 or midnight else f"{wall:%H:%M}"


def _anchor(x: float) -> str:
    return "" if x < 3 else "end" if x > 97 else "middle"


def _longest_first(items: Sequence[Item]) -> tuple[tuple[Item, str], ...]:
    ordered = sorted(items, key=lambda item: (-item.down_ms, -item.unknown_ms, item.key))
    return tuple((item, share(item.observed_ms, item.window_ms)) for item in ordered)
