"""Where things stand on the downtime timeline: percentages of its width, ticks at round local times."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
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
# A page that a phone can still show: so many bars are drawn, and so many stops and gaps listed.
MAX_BARS = 5_000
MAX_LISTED = 500


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
    # The devices that stood longest; how many more are not drawn.
    lanes: tuple[Lane, ...]
    not_drawn: int
    # The longest of all stops and gaps, by device and time; how many more there are.
    listed: tuple[Interval, ...]
    not_listed: int
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
    lanes = _lanes(by_device, zone)
    every = [one for item in by_device.items for one in item.intervals]
    return Chart(
        from_ms=from_ms,
        to_ms=to_ms,
        total=total,
        ticks=ticks(from_ms, to_ms, zone),
        lanes=lanes,
        not_drawn=len(by_device.items) - len(lanes),
        listed=_longest(every),
        not_listed=max(0, len(every) - MAX_LISTED),
        by_device=_longest_first(by_device.items),
        by_fault=_longest_first(faults),
        longest_ms=max((item.down_ms for item in (*by_device.items, *faults)), default=0),
        coverage=share(total.observed_ms, total.window_ms),
        down_share=share(total.down_ms, total.observed_ms),
        still_on=sum(item.open for item in by_device.items),
    )


def bars(intervals: Iterable[Interval], from_ms: int, to_ms: int, zone: ZoneInfo) -> tuple[Bar, ...]:
    """Of one device, in order. Those of one kind that would be drawn over each other are one bar, so that
    there are at most 400 of a kind however often the device stopped.
    """
    least_ms = MIN_WIDTH * (to_ms - from_ms) / 100
    runs: list[list[Interval]] = []
    newest: dict[str, list[Interval]] = {}
    for one in intervals:
        run = newest.get(one.kind)
        if run is not None and one.from_ms < max(run[-1].to_ms, run[0].from_ms + least_ms):
            run.append(one)
        else:
            newest[one.kind] = [one]
            runs.append(newest[one.kind])
    return tuple(_bar(run, from_ms, to_ms, zone) for run in runs)


def _bar(run: Sequence[Interval], from_ms: int, to_ms: int, zone: ZoneInfo) -> Bar:
    first, last = run[0], run[-1]
    span = max(1, to_ms - from_ms)
    x = 100 * (first.from_ms - from_ms) / span
    width = max(MIN_WIDTH, 100 * (last.to_ms - first.from_ms) / span)
    what = KINDS.get(first.kind, first.kind)
    often = f" {len(run)} times," if len(run) > 1 else ""
    lasted = duration(sum(one.to_ms - one.from_ms for one in run))
    tickets = {one.ticket for one in run}
    return Bar(
        x=round(min(x, 100 - width), 3),
        width=round(width, 3),
        kind=first.kind,
        words=f"{what}{often} {lasted}, from {exact(first.from_ms, zone)}"
        + (", still on" if last.open else ""),
        ticket=first.ticket if len(tickets) == 1 else None,
    )


def _lanes(report: Report, zone: ZoneInfo) -> tuple[Lane, ...]:
    """The worst device first, until there are too many bars."""
    found: list[Lane] = []
    drawn = 0
    for item in report.items:
        lane = Lane(item=item, bars=bars(item.intervals, report.from_ms, report.to_ms, zone))
        drawn += len(lane.bars)
        if found and drawn > MAX_BARS:
            break
        found.append(lane)
    return tuple(found)


def _longest(intervals: Sequence[Interval]) -> tuple[Interval, ...]:
    """In their order."""
    if len(intervals) <= MAX_LISTED:
        return tuple(intervals)
    places = heapq.nlargest(
        MAX_LISTED,
        range(len(intervals)),
        key=lambda place: intervals[place].to_ms - intervals[place].from_ms,
    )
    return tuple(intervals[place] for place in sorted(places))


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
