from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.downtime import Span, account, clip, common, length, stop_spans, union, without

SPANS = st.lists(
    st.tuples(st.integers(-5, 40), st.integers(0, 20)).map(lambda t: Span(from_ms=t[0], to_ms=t[0] + t[1])),
    max_size=6,
)


CAUSED = st.lists(
    st.builds(
        Span,
        from_ms=st.integers(0, 30),
        to_ms=st.integers(1, 40),
        cause=st.sampled_from([None, "a", "b"]),
        open=st.booleans(),
    ),
    max_size=9,
).map(union)


def s(from_ms: int, to_ms: int, cause: str | None = None, open: bool = False) -> Span:  # noqa: A002
    return Span(from_ms=from_ms, to_ms=to_ms, cause=cause, open=open)


def points(spans: list[Span]) -> set[int]:
    return {at for span in spans for at in range(span.from_ms, span.to_ms)}


@pytest.mark.parametrize(
    ("what", "stops", "unknown", "down_ms", "unknown_ms", "stops_counted"),
    [
        ("nothing", [], [], 0, 0, 0),
        ("overlaps count once", [s(10, 20), s(15, 30)], [], 20, 0, 1),
        ("two stops", [s(10, 20), s(40, 50)], [], 20, 0, 2),
        ("began before the window", [s(-50, 10)], [], 10, 0, 1),
        ("outside", [s(-50, 0), s(100, 120)], [], 0, 0, 0),
        ("unknown is not down", [s(10, 50)], [s(20, 30)], 30, 10, 1),
        ("all unknown", [s(10, 50)], [s(0, 100)], 0, 100, 0),
    ],
)
def test_downtime_is_the_union_of_stops_without_what_nobody_saw(
    what: str, stops: list[Span], unknown: list[Span], down_ms: int, unknown_ms: int, stops_counted: int
) -> None:
    told = account(stops, unknown, 0, 100)
    assert (told.down_ms, told.unknown_ms, told.stops) == (down_ms, unknown_ms, stops_counted), what
    assert told.observed_ms + told.unknown_ms == told.window_ms == 100


def test_what_goes_on_counts_to_now_and_says_so() -> None:
    assert account([s(90, 100, open=True)], [], 0, 100).open
    assert not account([s(90, 120, open=True)], [s(95, 100)], 0, 100).open
    # It goes on today, but the window ended yesterday: it was down to the window's end.
    assert account([s(90, 500, open=True)], [], 0, 100).open
    assert not account([s(90, 99)], [], 0, 100).open


def test_a_union_keeps_the_earliest_cause() -> None:
    assert union([s(5, 9, "b"), s(1, 6, "a")]) == [s(1, 9, "a")]


def test_a_device_is_unknown_only_while_every_gateway_is_blind() -> None:
    assert common([[s(0, 10), s(20, 30)], [s(5, 25)]]) == [s(5, 10), s(20, 25)]
    assert common([[s(0, 10)], []]) == []


@pytest.mark.parametrize(
    ("severities", "expected"),
    [
        (((0, 30),), [(0, 50)]),
        (((0, 20),), []),
        (((0, 20), (10, 30), (30, 20)), [(10, 30)]),
        (((0, 30), (60, 30)), [(0, 50)]),
        # Numbers between the bands belong to the band below.
        (((0, 29), (20, 35)), [(20, 50)]),
    ],
)
def test_only_the_part_that_stopped_the_device_counts(
    severities: tuple[tuple[int, int], ...], expected: list[tuple[int, int]]
) -> None:
    told = stop_spans(severities, 50, 30, cause="t", goes_on=False)
    assert [(span.from_ms, span.to_ms) for span in told] == expected


@given(SPANS, SPANS)
def test_the_sums_are_those_of_counting_every_millisecond(stops: list[Span], unknown: list[Span]) -> None:
    window = set(range(0, 30))
    told = account(stops, unknown, 0, 30)
    assert told.unknown_ms == len(points(unknown) & window)
    assert told.down_ms == len((points(stops) - points(unknown)) & window)
    assert told.observed_ms + told.unknown_ms == 30


@given(CAUSED, CAUSED)
def test_of_many_spans_just_those_are_looked_at_that_overlap(some: list[Span], others: list[Span]) -> None:
    both = [
        s(max(a.from_ms, b.from_ms), min(a.to_ms, b.to_ms), a.cause or b.cause, a.open and b.open)
        for a in some
        for b in others
        if a.from_ms < b.to_ms and b.from_ms < a.to_ms
    ]
    assert common([some, others]) == both
    # A part goes on if its span does and no hole is at its end.
    left = [
        s(from_ms, to_ms, one.cause, one.open and to_ms == one.to_ms)
        for one in some
        for from_ms, to_ms in _runs(points([one]) - points(others))
    ]
    assert without(some, others) == left
    assert account(some, others, 0, 50).stops == len(
        {one.from_ms for one in some if points([one]) - points(others)}
    )


def lines(work: Callable[[], object]) -> int:
    """How many lines of Python it runs: the same on every machine."""
    counted = 0

    def count(_frame: FrameType, happened: str, _: object) -> object:
        nonlocal counted
        counted += happened == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        work()
    finally:
        sys.settrace(before)
    return counted


def test_ten_times_as_many_stops_are_ten_times_as_much_work() -> None:
    def work(number: int) -> int:
        stops = [s(10 * at, 10 * at + 6) for at in range(number)]
        blind = [s(10 * at + 3, 10 * at + 5) for at in range(number)]
        return lines(lambda: (account(stops, blind, 0, 10 * number), common([stops, blind])))

    assert work(1_000) < 12 * work(100)


def _runs(found: set[int]) -> list[tuple[int, int]]:
    firsts = sorted(at for at in found if at - 1 not in found)
    lasts = sorted(at for at in found if at + 1 not in found)
    return [(first, last + 1) for first, last in zip(firsts, lasts, strict=True)]


@given(SPANS, SPANS, st.randoms(use_true_random=False))
def test_order_and_duplicates_do_not_matter(stops: list[Span], unknown: list[Span], chance: object) -> None:
    before = account(stops, unknown, 0, 30)
    again = stops + stops
    chance.shuffle(again)  # type: ignore[attr-defined]  # hypothesis' random
    chance.shuffle(unknown)  # type: ignore[attr-defined]  # hypothesis' random
    assert account(again, unknown, 0, 30) == before


@given(SPANS, SPANS)
def test_the_parts_obey_set_algebra(some: list[Span], others: list[Span]) -> None:
    one, two = union(some), union(others)
    assert points(one) == points(some)
    assert points(without(one, two)) == points(some) - points(others)
    assert points(common([one, two])) == points(some) & points(others)
    assert points(clip(one, 3, 17)) == points(some) & set(range(3, 17))
    assert length(one) == len(points(some))
