from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from collector.moments import parse, rfc3339
from collector.pages import chart, evidence, texts
from collector.report import By, Interval, Item, Report

SOME_MS = 1_767_600_000_000
HOUR_MS = 3_600_000
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("ms", "words"),
    [
        (0, "0 s"),
        (59_999, "59 s"),
        (200_000, "3 min 20 s"),
        (2 * HOUR_MS + 300_000, "2 h 05 min"),
        (76 * HOUR_MS, "3 d 4 h"),
        (-5, "0 s"),
    ],
)
def test_durations_read_as_people_say_them(ms: int, words: str) -> None:
    assert texts.duration(ms) == words


@pytest.mark.parametrize(
    ("ms", "words"),
    [
        (0, "± 0 s"),
        (1_360, "± 2 s"),
        (60_001, "± 2 min"),
        (HOUR_MS, "± 1 h"),
        (HOUR_MS + 1, "± 2 h"),
        (365 * 24 * HOUR_MS, "± 365 d"),
    ],
)
def test_how_far_a_date_may_be_off_is_rounded_up_to_one_unit(ms: int, words: str) -> None:
    assert texts.within(ms) == words


@pytest.mark.parametrize(
    ("ago_ms", "words"),
    [
        (0, "just now"),
        (-9_000, "just now"),
        (45_000, "45 s ago"),
        (61_000, "1 min ago"),
        (HOUR_MS, "1 h 0 min ago"),
    ],
)
def test_ages_read_as_people_say_them(ago_ms: int, words: str) -> None:
    assert texts.age(SOME_MS - ago_ms, SOME_MS) == words


def test_coverage_never_rounds_up_to_all() -> None:
    assert texts.share(99_999, 100_000) == "99.9 %"
    assert texts.share(5, 5) == "100 %"
    assert texts.share(0, 0) == "none"


@given(st.text())
def test_whatever_a_string_holds_nothing_in_it_is_hidden(text: str) -> None:
    shown = texts.plain(text)
    seen = [one for one in shown if one not in texts.JOINERS]
    assert all(character.isprintable() or character in "\n\t" or character.isspace() for character in seen)
    assert not set(shown) & set("\u200b\u202e\u2066\x00\x1b\ufeff")
    assert texts.plain(shown) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\U0001f469\u200d\U0001f527", None),
        ("\U0001f469\U0001f3fd\u200d\u2708\ufe0f", None),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", None),
        ("ad\u200dmin", "ad\\u200dmin"),
        ("\u00e9\u200c\u00e9", "\u00e9\\u200c\u00e9"),
        ("\u062e\u200d", "\u062e\\u200d"),
        ("\u062e\u200d\u200c\u062e", "\u062e\\u200d\\u200c\u062e"),
    ],
)
def test_joiners_are_kept_where_they_join_and_shown_where_they_hide(text: str, shown: str | None) -> None:
    assert texts.plain(text) == (text if shown is None else shown)


def test_places_may_break_after_each_level_and_are_escaped() -> None:
    assert str(texts.place("hall/<b>")) == (
        '<span class="nowrap">hall</span>/<wbr><span class="nowrap">&lt;b&gt;</span>'
    )
    assert isinstance(texts.place("x" * 200), Markup)


@pytest.mark.parametrize("ms", [0, SOME_MS, SOME_MS + 1, 4_102_444_800_000])
def test_moments_survive_the_way_to_text_and_back(ms: int) -> None:
    assert parse(rfc3339(ms)) == ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-01-05",
        "2026-01-05T08:00:00",
        "08:00Z",
        "now",
        "2026-13-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "1969-12-31T23:59:59Z",
        "9999-12-31T23:59:59-14:00",
    ],
)
def test_a_moment_without_an_offset_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="offset"):
        parse(text)


def test_a_plus_that_got_lost_in_a_query_is_found_again() -> None:
    assert parse("2026-01-05T09:00:00 01:00") == parse("2026-01-05T08:00:00Z")


def test_ticks_stand_at_round_local_times_also_when_summer_time_begins() -> None:
    # 2026-03-29 02:00 is 03:00 in Berlin.
    start = parse("2026-03-29T00:00:00+01:00")
    found = chart.ticks(start, start + 23 * HOUR_MS, BERLIN)
    assert [tick.words for tick in found] == [
        "29 Mar",
        "03:00",
        "06:00",
        "09:00",
        "12:00",
        "15:00",
        "18:00",
        "21:00",
        "30 Mar",
    ]
    assert found[1].x == pytest.approx(100 * 2 / 23, abs=0.01)
    assert found[-1].x == 100


@pytest.mark.parametrize("days", [0.02, 1, 7, 31, 366])
def test_no_axis_has_more_ticks_than_can_be_read(days: float) -> None:
    assert 0 < len(chart.ticks(SOME_MS, SOME_MS + int(days * 24 * HOUR_MS), BERLIN)) <= 14


def test_a_stop_of_a_second_in_a_month_can_still_be_seen_and_stays_inside() -> None:
    month = 30 * 24 * HOUR_MS
    interval = Interval(
        from_ms=month - 1000, to_ms=month, kind="down", open=True, ticket=None, device="printer-1"
    )
    (bar,) = chart.bars([interval], 0, month, BERLIN)
    assert bar.width == chart.MIN_WIDTH
    assert bar.x + bar.width <= 100
    assert bar.words.endswith("still on")


def stop(from_ms: int, to_ms: int, kind: str = "down", device: str = "printer-1") -> Interval:
    return Interval(from_ms=from_ms, to_ms=to_ms, kind=kind, open=False, ticket=str(from_ms), device=device)


def test_stops_that_would_be_drawn_over_each_other_are_one_bar_that_says_how_often() -> None:
    day = 24 * HOUR_MS
    often = [stop(at, at + 60_000) for at in (HOUR_MS, HOUR_MS + 90_000)]
    apart = [stop(2 * HOUR_MS, 2 * HOUR_MS + 60_000), stop(HOUR_MS + 60_000, HOUR_MS + 90_000, "unknown")]
    found = chart.bars(sorted([*often, *apart], key=lambda one: one.from_ms), 0, day, BERLIN)
    assert [(bar.kind, bar.words.split(", from")[0], bar.ticket is None) for bar in found] == [
        ("down", "down 2 times, 2 min 00 s", True),
        ("unknown", "unknown 30 s", False),
        ("down", "down 1 min 00 s", False),
    ]


@given(st.lists(st.tuples(st.integers(1, 9_000), st.integers(1, 9_000)), max_size=200))
def test_however_often_a_device_stopped_its_bars_cover_that_and_do_not_overlap(
    apart_and_long: list[tuple[int, int]],
) -> None:
    stops, at = [], 0
    for apart, long in apart_and_long:
        stops.append(stop(at + apart, at + apart + long))
        at += apart + long
    found = chart.bars(stops, 0, max(at, 1), BERLIN)
    for bar, after in pairwise(found):
        assert bar.x + bar.width <= after.x + 0.002 or after.x + after.width >= 99.999
    for one in stops:
        middle = 100 * (one.from_ms + one.to_ms) / 2 / at
        assert any(bar.x - 0.001 <= middle <= bar.x + bar.width + 0.001 for bar in found)


def test_a_timeline_of_many_devices_with_many_stops_draws_and_lists_so_many_and_says_how_many_not() -> None:
    lanes = 40
    intervals = {
        f"belt-{lane}": tuple(
            stop(at * 60_000, at * 60_000 + 1 + lane, device=f"belt-{lane}") for at in range(400)
        )
        for lane in range(lanes)
    }
    item = Item(
        key="",
        place="",
        down_ms=400,
        unknown_ms=0,
        planned_ms=0,
        observed_ms=24_000_000,
        window_ms=24_000_000,
        stops=400,
        open=False,
        intervals=(),
    )
    report = Report(
        site="north",
        by=By.DEVICE,
        from_ms=0,
        to_ms=24_000_000,
        timezone="UTC",
        as_of_ms=24_000_000,
        items=tuple(replace(item, key=key, intervals=own) for key, own in intervals.items()),
        total=item,
    )
    found = chart.chart(report, replace(report, by=By.FAULT), BERLIN)
    assert sum(len(lane.bars) for lane in found.lanes) <= chart.MAX_BARS
    assert (len(found.lanes), found.not_drawn) == (12, 28)
    assert len(found.listed) == chart.MAX_LISTED
    assert found.not_listed == lanes * 400 - chart.MAX_LISTED
    assert {one.device for one in found.listed} == {"belt-38", "belt-39"}
    assert len(found.by_device) == lanes


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["samples", "readings", "frames", "x"]), inner)
        ),
    )
)
def test_any_evidence_can_be_shown(found: object) -> None:
    given_evidence = found if isinstance(found, dict) else {"samples": found, "readings": [found]}
    shown = evidence.shown(given_evidence)
    assert shown is None or isinstance(shown.rest, str)


def test_an_hour_has_ticks_every_ten_minutes_and_a_lost_hour_has_one_tick() -> None:
    start = parse("2026-01-05T08:03:00+01:00")
    found = [tick.words for tick in chart.ticks(start, start + HOUR_MS, BERLIN)]
    assert found == ["08:10", "08:20", "08:30", "08:40", "08:50", "09:00"]
    # In the night of 2026-03-29 two o'clock is three o'clock in Berlin.
    night = parse("2026-03-29T01:00:00+01:00")
    found = [tick.words for tick in chart.ticks(night, night + 3 * HOUR_MS, BERLIN)]
    assert len(found) == len(set(found))
    assert found[:3] == ["01:00", "01:30", "03:00"]
