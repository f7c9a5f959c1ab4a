from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.downtime import Span, account, clip, common, length, stop_spans, union, without

SPANS = st.lists(
    st.tuples(st.integers(-5, 40), st.integers(0, 20)).map(lambda t: Span(from_ms=t[0], to_ms=t[0] + t[1])),
    max_size=6,
)


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
