from __future__ import annotations

from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from collector.dating import (
    DRIFT_MS_PER_HOUR,
    HOUR_MS,
    LAST_WALL_MS,
    NEAR,
    NEVER_SET_ERROR_MS,
    STEP_MS,
    WAY_MS,
    Clocks,
    Offsets,
    around,
    date,
    dates,
    pauses,
    reach,
    sample,
    suffices,
)
from collector.moments import rfc3339
from edge_agent.wire import MAX_INT, Row, Stamp

BOOT = "b" * 32
OTHER = "c" * 32
TRUE_MS = 1_767_600_000_000


def stamp(mono_ms: int, boot: str = BOOT, wall_ms: int = 7, source: str = "none") -> Stamp:
    return Stamp(boot=boot, mono_ns=mono_ms * 1_000_000 + 999_999, wall_ms=wall_ms, source=source)


def clocks(offsets: Offsets) -> Clocks:
    return Clocks(offsets=offsets, estimates={})


def test_a_message_teaches_the_offset_of_its_boot() -> None:
    told = sample(stamp(2 * HOUR_MS + STEP_MS), TRUE_MS)
    assert (told.boot, told.hour, told.offset_ms) == (BOOT, 2, TRUE_MS - 2 * HOUR_MS - STEP_MS)


@given(mono_ms=st.integers(0, 10**12), way_ms=st.integers(0, WAY_MS))
def test_a_date_is_off_by_no_more_than_it_says(mono_ms: int, way_ms: int) -> None:
    sent = stamp(mono_ms)
    told = sample(sent, TRUE_MS + way_ms)
    at_ms, error_ms = date(sent, clocks({BOOT: {told.hour: told.offset_ms}}), floor_ms=0)
    assert -STEP_MS < at_ms - TRUE_MS <= way_ms <= error_ms
    assert error_ms > STEP_MS


def test_a_message_that_was_a_little_quicker_teaches_nothing() -> None:
    sent = stamp(2 * HOUR_MS)
    assert sample(sent, TRUE_MS + 90) == sample(sent, TRUE_MS + 3) != sample(sent, TRUE_MS - 1)


@pytest.mark.parametrize(
    ("what", "hours", "mono_ms", "offset_ms", "error_ms"),
    [
        ("its own hour", {1: 100, 2: 200}, HOUR_MS + 1, 100, WAY_MS + 360),
        ("the nearest hour", {1: 100, 9: 900}, 4 * HOUR_MS, 100, WAY_MS + 4 * 360),
        ("of two equally good the earlier", {1: 500, 5: 500}, 3 * HOUR_MS, 500, WAY_MS + 3 * 360),
        ("before the first contact", {9: 900}, 0, 900, WAY_MS + 10 * 360),
        ("a message that was late by more than drift", {1: 9_000, 3: 100}, HOUR_MS, 100, WAY_MS + 3 * 360),
        ("one that may be drift", {1: 800, 3: 100}, HOUR_MS, 800, WAY_MS + 360),
    ],
)
def test_a_stamp_takes_the_offset_of_the_nearest_hour(
    what: str, hours: dict[int, int], mono_ms: int, offset_ms: int, error_ms: int
) -> None:
    assert date(stamp(mono_ms), clocks({BOOT: hours}), floor_ms=0) == (mono_ms + offset_ms, error_ms), what


@pytest.mark.parametrize(
    ("source", "wall_ms", "expected"),
    [
        ("ntp", TRUE_MS, (TRUE_MS, 5_000)),
        ("collector", TRUE_MS, (TRUE_MS, 30_000)),
        ("rtc", TRUE_MS, (TRUE_MS, HOUR_MS)),
        ("none", 1_000, (TRUE_MS, NEVER_SET_ERROR_MS)),
        ("a-source-of-next-year", 1_000, (TRUE_MS, NEVER_SET_ERROR_MS)),
        ("ntp", 1 << 53, (LAST_WALL_MS, NEVER_SET_ERROR_MS)),
        ("none", 1 << 53, (LAST_WALL_MS, NEVER_SET_ERROR_MS)),
    ],
)
def test_a_boot_that_never_spoke_is_believed_as_far_as_its_clock(
    source: str, wall_ms: int, expected: tuple[int, int]
) -> None:
    assert date(stamp(5, OTHER, wall_ms, source), clocks({BOOT: {0: 1}}), floor_ms=TRUE_MS) == expected


@given(
    start=st.integers(0, 10 * HOUR_MS),
    length=st.integers(0, 40 * HOUR_MS),
    jumps=st.lists(st.integers(0, 1 << 50), min_size=2, max_size=2),
    offsets=st.dictionaries(st.integers(0, 50), st.integers(0, 10_000), min_size=1),
)
def test_inside_one_boot_no_clock_changes_a_duration(
    start: int, length: int, jumps: list[int], offsets: dict[int, int]
) -> None:
    row = _row(
        first_bad=stamp(start, wall_ms=jumps[0]),
        raised=stamp(start),
        cleared=stamp(start + length, wall_ms=jumps[1]),
    )
    told = dates(row, clocks({BOOT: offsets}), floor_ms=0)
    assert told.end_ms is not None
    assert told.end_ms - told.start_ms == length


def test_an_occurrence_over_two_boots_ends_by_the_clock_of_the_second() -> None:
    row = _row(first_bad=stamp(100), raised=stamp(200), cleared=stamp(50, OTHER))
    told = dates(row, clocks({BOOT: {0: 1_000}, OTHER: {0: 9_000}}), floor_ms=0)
    assert (told.start_ms, told.raised_ms, told.end_ms) == (1_100, 1_200, 9_050)


def test_an_end_is_never_before_its_beginning() -> None:
    row = _row(first_bad=stamp(100), raised=stamp(100), cleared=stamp(50, OTHER))
    told = dates(row, clocks({BOOT: {0: 9_000}, OTHER: {0: 1_000}}), floor_ms=0)
    assert told.end_ms == told.start_ms == 9_100


def test_an_end_that_would_be_before_its_beginning_says_how_wrong_one_of_them_must_be() -> None:
    row = _row(first_bad=stamp(100), raised=stamp(100), cleared=stamp(50, OTHER))
    told = dates(row, clocks({BOOT: {0: 9_000_000}, OTHER: {0: 1_000}}), floor_ms=0)
    _, stated_ms = date(stamp(50, OTHER), clocks({OTHER: {0: 1_000}}), floor_ms=0)
    assert (told.end_ms, told.error_ms) == (9_000_100, stated_ms + 9_000_100 - 1_050)


def test_the_first_severity_counts_from_the_first_bad_sample() -> None:
    row = _row(
        first_bad=stamp(100),
        raised=stamp(400),
        cleared=stamp(900),
        severities=[{"severity": 20, "at": stamp(400)}, {"severity": 30, "at": stamp(600)}],
    )
    told = dates(row, clocks({BOOT: {0: 0}}), floor_ms=0)
    assert told.severities == ((100, 20), (600, 30))


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=9),
    st.lists(st.tuples(st.integers(1, 40), st.sampled_from([10, 20, 30])), max_size=3),
    st.booleans(),
)
def test_at_each_moment_the_severity_is_that_of_the_last_step_and_none_while_it_pauses(
    moments: list[int], steps: list[tuple[int, int]], goes_on: bool
) -> None:
    moments, steps = sorted(moments), [(0, 20), *sorted(steps)]
    spans = [(a, b) for a, b in zip(moments[::2], [*moments[1::2], None], strict=False)]
    row = _row(
        state="open" if goes_on else "closed",
        first_bad=stamp(1_000),
        raised=stamp(1_000),
        cleared=None if goes_on else stamp(1_050),
        severities=[{"severity": severity, "at": stamp(1_000 + at)} for at, severity in steps],
        pauses=spans,
    )
    told = dates(row, clocks({BOOT: {0: 0}}), floor_ms=0).severities
    assert list(told) == sorted(told, key=lambda step: step[0])
    for ms in range(45):
        away = any(a <= ms and (b is None or ms < b) for a, b in spans)
        by_hand = 0 if away else [severity for at, severity in steps if at <= ms][-1]
        assert ([0] + [severity for at, severity in told if at <= 1_000 + ms])[-1] == by_hand
    kept = [(a + 1_000, None if b is None else b + 1_000) for a, b in spans if b is None or a < b]
    assert sum(len(range(a, b or 2_000)) for a, b in pauses(told)) == sum(
        len(range(a, b or 2_000)) for a, b in kept
    )


def _row(**changed: Any) -> Row:
    row = {
        "uid": "1" * 32,
        "device": "a",
        "component": "x",
        "fault": "f",
        "rev": 2,
        "state": "closed",
        "severity": 30,
        "mod_seq": 1,
        "title": "t",
    }
    return Row.model_validate(row | changed)


@given(mono_ms=st.integers(0, MAX_INT // 1_000_000 - 1), sent_ms=st.integers(0, MAX_INT // 1_000_000 - 1))
def test_whatever_a_clock_says_the_date_can_be_printed(mono_ms: int, sent_ms: int) -> None:
    told = sample(stamp(sent_ms), TRUE_MS)
    far = stamp(mono_ms, wall_ms=1 << 53, source="ntp")
    for offsets in ({}, {BOOT: {told.hour: told.offset_ms}}):
        assert rfc3339(date(far, clocks(offsets), floor_ms=0)[0])
        row = Row(
            uid="a" * 32, device="d", component="c", fault="f", rev=1, state="closed", severity=30,
            mod_seq=1, first_bad=stamp(0, wall_ms=1 << 53, source="ntp"), raised=far, cleared=far, title="t",
        )  # fmt: skip
        end_ms = dates(row, clocks(offsets), floor_ms=0).end_ms
        assert end_ms is not None
        assert rfc3339(end_ms)


@given(
    hours=st.dictionaries(st.integers(0, 30), st.integers(0, 9_000), min_size=1),
    hour=st.integers(0, 30),
    offset_ms=st.integers(0, 9_000),
)
def test_only_hours_within_reach_are_dated_by_a_better_sample(
    hours: dict[int, int], hour: int, offset_ms: int
) -> None:
    offset_ms = min(offset_ms, hours.get(hour, 9_000))
    better = hours | {hour: offset_ms}
    first, last = reach(better, hour)
    for other in range(31):
        at = stamp(other * HOUR_MS)
        if date(at, clocks({BOOT: hours}), floor_ms=0) != date(at, clocks({BOOT: better}), floor_ms=0):
            assert first <= other <= last


@given(
    hours=st.dictionaries(st.integers(0, 40), st.integers(0, 5_000), min_size=1),
    wanted=st.integers(0, 60),
)
def test_of_many_hours_the_one_that_says_least_counts_however_far_away(
    hours: dict[int, int], wanted: int
) -> None:
    told = {hour: 1_000_000 + late_ms for hour, late_ms in hours.items()}
    dated = date(stamp(wanted * HOUR_MS), clocks({BOOT: told}), floor_ms=0)
    drifted = {hour: offset + DRIFT_MS_PER_HOUR * abs(hour - wanted) for hour, offset in told.items()}
    least = min(drifted.values())
    away, nearest = min((abs(hour - wanted), hour) for hour in told if drifted[hour] == least)
    assert dated == (wanted * HOUR_MS + told[nearest], WAY_MS + DRIFT_MS_PER_HOUR * (away + 1))


@given(
    hours=st.dictionaries(st.integers(0, 40), st.integers(0, 2_500), min_size=1),
    wanted=st.sets(st.integers(0, 45), min_size=1, max_size=3),
)
def test_where_the_hours_around_suffice_all_others_would_say_the_same(
    hours: dict[int, int], wanted: set[int]
) -> None:
    near = {hour: hours[hour] for hour in around(wanted) & hours.keys()}
    event(f"{len(near)} of {len(hours)}")
    if suffices(near, wanted, min(hours.values())):
        for hour in wanted:
            at = stamp(hour * HOUR_MS)
            assert date(at, clocks({BOOT: near}), floor_ms=0) == date(at, clocks({BOOT: hours}), floor_ms=0)


def test_an_hour_that_was_slow_does_not_suffice() -> None:
    assert suffices({7: 1_000}, [7], 1_000 - (NEAR + 1) * DRIFT_MS_PER_HOUR)
    assert not suffices({7: 1_000}, [7], 999 - (NEAR + 1) * DRIFT_MS_PER_HOUR)
    assert not suffices({}, [7], 1_000)
