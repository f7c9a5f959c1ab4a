from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.wire import Severity, WireError, decode_sync, parse_json, read_row, unpacked

GOLDEN = Path(__file__).parents[1] / "wire" / "v1" / "raise-and-clear.json"
MESSAGE: dict[str, Any] = json.loads(GOLDEN.read_text())["exchanges"][-1]["request"]
ROW: dict[str, Any] = MESSAGE["rows"][0]
ROLLED_UP: dict[str, Any] = json.loads((GOLDEN.parent / "rolled-up.json").read_text())["exchanges"][-1][
    "request"
]["rows"][0]

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)

# Names that mean something to the classes behind the messages, too.
NAMES = st.text(max_size=6) | st.sampled_from(
    ["key", "model_dump", "model_config", "__class__", "__dict__", "__slots__", "from_", "copy", "self"]
)


def paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [here] if here else []
    if isinstance(value, dict):
        for key, inner in value.items():
            found += paths(inner, (*here, key))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            found += paths(inner, (*here, place))
    return found


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    value = copy.deepcopy(value)
    inside = value
    for step in path[:-1]:
        inside = inside[step]
    inside[path[-1]] = new
    return value


def refusal(read: Callable[[Any], object], raw: Any) -> str | None:
    """Why it is refused; None when it is read. Anything but a refusal is a crash, and fails the test."""
    try:
        read(raw)
    except WireError as error:
        return str(error)
    return None


@given(path=st.sampled_from(paths(ROW)), new=ANYTHING)
def test_a_row_with_anything_in_it_is_read_or_refused(path: tuple[Any, ...], new: Any) -> None:
    assert refusal(read_row, changed(ROW, path, new)) != ""


@given(path=st.sampled_from(paths(ROLLED_UP)), new=ANYTHING)
def test_a_roll_up_with_anything_in_it_is_unpacked_or_refused(path: tuple[Any, ...], new: Any) -> None:
    assert refusal(lambda raw: unpacked(read_row(raw)), changed(ROLLED_UP, path, new)) != ""


CHATTERING: dict[str, Any] = json.loads((GOLDEN.parent / "chattering.json").read_text())["exchanges"][0][
    "request"
]["rows"][0]


@given(path=st.sampled_from(paths(CHATTERING)), new=ANYTHING)
def test_a_row_that_pauses_with_anything_in_it_is_read_or_refused(path: tuple[Any, ...], new: Any) -> None:
    assert refusal(read_row, changed(CHATTERING, path, new)) != ""


@pytest.mark.parametrize(
    "pauses",
    [
        [],
        [[5]],
        [[5, 4]],
        [[1, 3], [2, 4]],
        [[1, None], [2, 4]],
        [[-1, 4]],
        [[1.0, 4]],
        [[n, n] for n in range(257)],
    ],
    ids=lambda pauses: str(pauses)[:20],
)
def test_pauses_that_cannot_have_been_are_refused(pauses: list[Any]) -> None:
    with pytest.raises(WireError, match="pauses"):
        read_row(CHATTERING | {"pauses": pauses})


def test_an_earlier_agent_may_end_what_pauses_and_leave_its_last_pause_as_it_is() -> None:
    assert read_row(CHATTERING).is_paused
    ended = read_row(CHATTERING | {"state": "closed", "cleared": CHATTERING["raised"]})
    assert (ended.is_paused, ended.pauses) == (False, read_row(CHATTERING).pauses)


@given(
    path=st.sampled_from([path for path in paths(ROW) if isinstance(path[-1], str)]), name=NAMES, new=ANYTHING
)
def test_a_row_with_any_further_field_is_read_or_refused(path: tuple[Any, ...], name: str, new: Any) -> None:
    assert refusal(read_row, changed(ROW, (*path[:-1], name), new)) != ""


@given(path=st.sampled_from(paths(MESSAGE)), new=ANYTHING)
def test_a_message_with_anything_in_it_is_read_or_refused(path: tuple[Any, ...], new: Any) -> None:
    assert refusal(decode_sync, json.dumps(changed(MESSAGE, path, new)).encode()) != ""


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    assert refusal(decode_sync, body) != ""


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": 1, "a": 2}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'"\\ud800"',
        b"\xff",
        b"[" * 100_000,
        b"[" * 40 + b"]" * 40,
        b"9" * 5_000,
        b"",
    ],
    ids=lambda body: repr(body[:12]),
)
def test_the_traps_of_json_are_refused(body: bytes) -> None:
    with pytest.raises(WireError):
        parse_json(body)


def test_every_field_of_a_later_version_may_be_there() -> None:
    row = ROW | {"first_bad": ROW["first_bad"] | {"drift_ppm": 12}, "shift": "night"}
    assert read_row(row).first_bad == read_row(ROW).first_bad


@pytest.mark.parametrize(
    ("number", "band"),
    [
        (0, "notice"),
        (10, "notice"),
        (19, "notice"),
        (20, "degraded"),
        (29, "degraded"),
        (30, "stop"),
        (999, "stop"),
    ],
)
def test_an_unknown_severity_takes_the_band_below_it(number: int, band: str) -> None:
    assert Severity.band(number).word == band
