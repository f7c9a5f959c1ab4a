"""What was recorded around a raise becomes a chart and a list, whatever it is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.pages.around import Line, recording
from collector.store.evidence import Kept

BEFORE: dict[str, Any] = {
    "from_ms": -60_000,
    "to_ms": 0,
    "signals": [
        {
            "signal": "current",
            "points": [[-60_000, "3.5"], [-30_000, None], [-20_000, 4], [-5_000, "9.5"]],
            "limits": ["8"],
        },
        {"signal": "running", "points": [[-60_000, True]]},
        {"signal": "state", "points": [[-60_000, "ready"], [-1_000, "jammed"]]},
    ],
    "readings": [
        {
            "read": "status",
            "at_ms": -20_000,
            "until_ms": -6_000,
            "times": 15,
            "frames": ["0,4"],
            "means": {"current": 4},
        },
        {"read": "status", "at_ms": -5_000, "until_ms": 0, "frames": ["0,9.5"]},
    ],
    "reads": {"status": "S?\\x0d"},
}
AFTER: dict[str, Any] = {
    "from_ms": 0,
    "to_ms": 10_000,
    "signals": [{"signal": "current", "points": [[0, "9.5"], [6_000, "3.5"]], "limits": ["8"]}],
    "readings": [
        {"read": "status", "at_ms": -5_000, "until_ms": 5_000, "times": 11, "frames": ["0,9.5"]},
        {
            "read": "status",
            "at_ms": 6_000,
            "trouble": "no answer",
            "detail": "nothing within 1 s",
            "means": {"current": None},
        },
    ],
}


def shown(**parts: dict[str, Any] | None) -> Any:
    kept = [Kept(part=name, evidence=evidence) for name, evidence in parts.items()]
    return recording(kept, on_delay_ms=3_000)


def test_before_and_after_are_one_chart_with_the_raise_marked() -> None:
    found = shown(before=BEFORE, after=AFTER)
    assert (found.began_x, found.raised_x) == (81.43, 85.71)
    current, running, state = found.tracks
    assert (current.signal, current.at_raise, current.top, current.bottom) == ("current", "9.5", "9.5", "3.5")
    # It breaks where the value could not be read, and goes on over the raise.
    assert current.path == "M0 93.1H42.86M57.14 85.92H78.57V6.9H94.29V93.1H100"
    assert [(gap.x, gap.width) for gap in current.gaps] == [(42.86, 14.28)]
    assert [(limit.words, 0 < limit.y < 50) for limit in current.limits] == [("8", True)]
    assert [(span.words, span.on) for span in running.spans] == [("yes", True)]
    assert [span.words for span in state.spans] == ["ready", "jammed"]
    assert (running.at_raise, state.at_raise) == ("yes", "jammed")
    assert [tick.words for tick in found.ticks] == [
        "−60 s",
        "−50 s",
        "−40 s",
        "−30 s",
        "−20 s",
        "−10 s",
        "+10 s",
    ]


def test_the_table_says_the_same_in_order() -> None:
    found = shown(before=BEFORE, after=AFTER)
    assert [(one.when, one.signal, one.value) for one in found.changes] == [
        ("−60.0 s", "current", "3.5"),
        ("−60.0 s", "running", "yes"),
        ("−60.0 s", "state", "ready"),
        ("−30.0 s", "current", "not readable"),
        ("−20.0 s", "current", "4"),
        ("−5.0 s", "current", "9.5"),
        ("−1.0 s", "state", "jammed"),
        ("+6.0 s", "current", "3.5"),
    ]


def test_a_reading_that_goes_on_over_the_raise_is_told_once() -> None:
    found = shown(before=BEFORE, after=AFTER)
    assert [(one.when, one.asked, [line.text for line in one.lines], one.trouble) for one in found.near] == [
        ("−20.0 s to −6.0 s (15×)", "S?\\x0d", ["0,4"], ""),
        ("−5.0 s to +5.0 s (11×)", "", ["0,9.5"], ""),
        ("+6.0 s", "", [], "no answer: nothing within 1 s"),
    ]
    assert [one.means for one in found.near] == [(("current", "4"),), (), ()]
    assert [one.after for one in found.near] == [False, False, True]


def test_readings_far_from_the_raise_are_kept_apart() -> None:
    many = [{"read": "scan", "at_ms": at_ms, "frames": ["x"]} for at_ms in range(-20_000, 10_000, 1_000)]
    found = shown(before={"from_ms": -60_000, "to_ms": 0, "readings": many})
    assert (len(found.earlier), len(found.near), len(found.later)) == (15, 10, 5)
    assert found.near[5].when == "at the raise"


def test_two_scans_of_one_moment_are_two() -> None:
    twice = [{"read": "scan", "at_ms": -100, "frames": [text]} for text in ("a", "b")]
    found = shown(before={"from_ms": -60_000, "to_ms": 0, "readings": twice})
    assert [one.lines[0].text for one in found.near] == ["a", "b"]


def test_without_the_before_the_after_is_shown_from_the_raise_on() -> None:
    found = shown(before=None, after=AFTER)
    assert found.raised_x == 0
    assert found.notes == ("What was recorded before the raise was given up: there was no room for it.",)
    assert [track.signal for track in found.tracks] == ["current"]


def test_what_was_given_up_is_said_and_nothing_is_nothing() -> None:
    assert shown(before=None, after=None).notes == (
        "What was recorded before the raise was given up: there was no room for it.",
        "What was recorded after the raise was given up: there was no room for it.",
    )
    assert recording([], on_delay_ms=0) is None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain, with \u00e4", Line(text="plain, with \u00e4")),
        ("\\x02A\\\\\\x03", Line(text="\\x02A\\\\\\x03", hex="02 41 5c 03")),
        ("\\xf3[redacted]", Line(text="\\xf3[redacted]", hex="f3 [redacted]")),
        ("\\x1b\\u202eb", Line(text="\\x1b\\u202eb", hex="1b e2 80 ae 62")),
        ("\\x00 cut\u2026", Line(text="\\x00 cut\u2026")),
    ],
)
def test_a_line_with_other_bytes_than_letters_is_spelled_out(text: str, line: Line) -> None:
    found = shown(before={"readings": [{"read": "r", "at_ms": -1, "frames": [text]}]})
    assert found.near[0].lines == (line,)


WORDS = st.sampled_from(
    [
        "from_ms",
        "to_ms",
        "signals",
        "signal",
        "points",
        "limits",
        "readings",
        "read",
        "at_ms",
        "until_ms",
        "times",
        "frames",
        "means",
        "reads",
        "trouble",
    ]
)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=9)
        | st.sampled_from(["1e300", "-1e308", "nan", "\\U00110000"]),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    )
)
def test_anything_can_be_shown(found: object) -> None:
    told = (
        found
        if isinstance(found, dict)
        else {"signals": [{"signal": "x", "points": [[-5, found], [0, 1], [1, "1e308"]]}]}
    )
    recording([Kept(part="before", evidence=told), Kept(part="x", evidence=told)], on_delay_ms=-5)
