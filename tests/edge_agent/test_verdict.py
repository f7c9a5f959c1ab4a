from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError
from rigs.moments import HandClock, sample

from edge_agent.profile import When
from edge_agent.sample import Quality
from edge_agent.verdict import Memory, Verdict, ask_of, dues, signals, windows

START_NS = HandClock().mono_ns
TRUTH: tuple[Verdict, ...] = (True, False, None)


def when(**given: Any) -> When:
    return When.model_validate(given)


def ask(given: When, *, active: bool = False, now_ns: int = START_NS, **values: Any) -> Verdict:
    memory = Memory(link_since_ns=START_NS)
    at = HandClock().stamp()
    memory.latest = {name: sample(name, value, at) for name, value in values.items()}
    return ask_of(given)(memory, now_ns, active)


def flag(name: str) -> dict[str, Any]:
    return {"is": {"signal": name, "value": True}}


def test_a_signal_that_was_never_read_or_failed_is_unknown() -> None:
    assert ask(when(**flag("jam"))) is None
    assert ask(when(**flag("jam")), jam=None) is None
    assert ask(when(above={"signal": "current", "limit": 5})) is None
    assert ask(when(bits={"signal": "word", "mask": 1})) is None
    assert ask(when(**{"in": {"signal": "code", "values": [1]}})) is None


@pytest.mark.parametrize(
    ("expected", "value", "verdict"),
    [
        (True, True, True),
        (True, False, False),
        (True, 1, False),
        (1, True, False),
        (1, 1.0, True),
        ("Offline", "Offline", True),
        ("1", 1, False),
    ],
)
def test_is_compares_values_of_one_kind(expected: Any, value: Any, verdict: bool) -> None:
    assert ask(when(**{"is": {"signal": "s", "value": expected}}), s=value) is verdict


def test_in_finds_one_of_several_codes() -> None:
    given = when(**{"in": {"signal": "code", "values": [4, 7]}})
    assert [ask(given, code=code) for code in (4, 5, 7)] == [True, False, True]


def test_bits_ask_for_any_bit_of_the_mask() -> None:
    given = when(bits={"signal": "word", "mask": 0b0110})
    assert [ask(given, word=word) for word in (0, 1, 2, 4, 7)] == [False, False, True, True, True]
    assert ask(given, word="2") is None


def test_uncertain_is_a_value_and_bad_is_none() -> None:
    memory = Memory(link_since_ns=START_NS)
    seen = sample("jam", True, HandClock().stamp())
    test = ask_of(when(**flag("jam")))
    memory.latest["jam"] = replace(seen, quality=Quality.UNCERTAIN)
    assert test(memory, START_NS, False) is True
    memory.latest["jam"] = replace(seen, quality=Quality.BAD)
    assert test(memory, START_NS, False) is None


def test_a_rule_is_unknown_as_long_as_what_it_needs_is_not_given() -> None:
    test = when(given={"that": flag("a"), "rule": flag("b")})
    for a, b in itertools.product(TRUTH, TRUTH):
        assert ask(test, a=a, b=b) is (b if a is True else None)
    assert signals(test) == {"a", "b"}


def test_silence_inside_of_given_counts_from_when_that_is_true() -> None:
    test = when(given={"that": flag("a"), "rule": {"no_data_s": {"signal": "b", "s": 5}}})
    memory, at = Memory(link_since_ns=START_NS), HandClock().stamp()
    ask, (due,) = ask_of(test), dues(test)

    def verdict(a: bool, after_s: float) -> Verdict:
        memory.latest["a"] = sample("a", a, at)
        return ask(memory, START_NS + round(after_s * 1e9), False)

    # The line stood still all night, and nothing was scanned.
    assert verdict(False, 36_000) is None
    assert due(memory, START_NS) is None
    assert verdict(True, 36_010) is None
    assert due(memory, START_NS) == START_NS + 36_015_000_000_000
    assert verdict(True, 36_014.999) is None
    assert verdict(True, 36_015) is True
    # It stopped for a moment: it has to move for as long again.
    assert verdict(False, 36_016) is None
    assert verdict(True, 36_017) is None
    assert verdict(True, 36_022) is True


def test_not_any_and_all_follow_kleene() -> None:
    for one, other in itertools.product(TRUTH, TRUTH):
        values = {"a": one, "b": other}
        expected_any = True if True in (one, other) else None if None in (one, other) else False
        expected_all = False if False in (one, other) else None if None in (one, other) else True
        assert ask(when(any=[flag("a"), flag("b")]), **values) is expected_any
        assert ask(when(all=[flag("a"), flag("b")]), **values) is expected_all
    for one in TRUTH:
        assert ask(when(**{"not": flag("a")}), a=one) is (None if one is None else not one)


def run(given: When, values: list[float], *, active: bool = False) -> list[Verdict]:
    """The verdicts on one value after the other, the condition following them at once."""
    memory, test, verdicts, at = Memory(link_since_ns=START_NS), ask_of(given), [], HandClock().stamp()
    for value in values:
        memory.latest["current"] = sample("current", value, at)
        verdict = test(memory, START_NS, active)
        verdicts.append(verdict)
        active = active if verdict is None else verdict
    return verdicts


def test_a_deadband_holds_the_answer_until_the_value_has_left_it() -> None:
    above = when(above={"signal": "current", "limit": 10, "deadband": 2})
    assert run(above, [9, 10, 10.1, 9, 8, 7.9, 9]) == [False, False, True, True, True, False, False]
    below = when(below={"signal": "current", "limit": 10, "deadband": 2})
    assert run(below, [11, 10, 9.9, 11, 12, 12.1, 11]) == [False, False, True, True, True, False, False]


def test_without_a_deadband_the_limit_itself_is_not_over_it() -> None:
    assert run(when(above={"signal": "current", "limit": 10}), [10, 10.1, 10]) == [False, True, False]


def test_inside_the_band_after_a_restart_the_answer_is_what_the_condition_is() -> None:
    above: dict[str, Any] = {"above": {"signal": "current", "limit": 10, "deadband": 2}}
    for active in (True, False):
        assert run(when(**above), [9], active=active) == [active]
        assert run(when(**{"not": above}), [9], active=active) == [active]


def test_what_is_not_a_number_is_over_no_limit() -> None:
    above = when(above={"signal": "current", "limit": 10})
    assert ask(above, current="hot") is None
    assert ask(above, current=float("nan")) is None


def test_silence_is_unknown_until_it_has_lasted_and_without_a_link() -> None:
    given = when(no_data_s={"signal": "scan", "s": 60})
    memory, test = Memory(link_since_ns=START_NS), ask_of(given)
    assert test(memory, START_NS + 59_999_999_999, False) is None
    assert test(memory, START_NS + 60_000_000_000, False) is True
    memory.last_good_ns["scan"] = START_NS + 5
    assert test(memory, START_NS + 60_000_000_004, False) is False
    assert test(memory, START_NS + 60_000_000_005, False) is True
    memory.link_since_ns = None
    assert test(memory, START_NS + 60_000_000_005, False) is None
    # The link is back: what was heard before it went says nothing about now.
    memory.link_since_ns = START_NS + 61_000_000_000
    assert test(memory, START_NS + 62_000_000_000, False) is None


def test_a_share_is_unknown_before_there_are_enough_samples() -> None:
    given = when(share={"signal": "no_read", "value": True, "of_last": 4, "above": 0.5, "at_least": 3})
    memory, test, at = Memory(link_since_ns=START_NS), ask_of(given), HandClock().stamp()
    (remembered,) = windows(given)
    window = memory.windows[remembered.key] = remembered.make(START_NS)
    verdicts = []
    for hit in (True, True, True, False, False, False):
        memory.latest["no_read"] = sample("no_read", hit, at)
        window.put(hit, START_NS)
        verdicts.append(test(memory, START_NS, False))
    # 3 of 3, 3 of 4, then 2 and 1 of the last 4.
    assert verdicts == [None, None, True, True, False, False]
    memory.latest["no_read"] = sample("no_read", None, at)
    assert test(memory, START_NS, False) is None


def test_a_when_knows_what_it_looks_at() -> None:
    given = when(
        all=[
            flag("running"),
            {"not": {"above": {"signal": "speed", "limit": 1}}},
            {"any": [{"no_data_s": {"signal": "scan", "s": 2.5}}, flag("blocked")]},
        ]
    )
    assert signals(given) == {"running", "speed", "scan", "blocked"}
    memory = Memory(link_since_ns=START_NS)
    assert [due(memory, START_NS) for due in dues(given)] == [START_NS + 2_500_000_000]


def test_rules_that_ask_the_same_share_what_is_remembered_and_true_is_not_1() -> None:
    share = {"signal": "no_read", "of_last": 4, "above": 0.5}
    (one,), (other,), (number,) = (windows(when(share=share | {"value": v})) for v in (True, True, 1))
    assert one.key == other.key != number.key


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"stuck_s": {"signal": "s", "s": 0}}, "greater than 0"),
        (
            {"no_data_s": {"signal": "s", "s": 60, "learned": {"at_least_s": 60}}},
            "learned.at_least_s: less than s, 60, is expected",
        ),
        ({"share": {"signal": "s", "value": 1, "above": 0.5}}, "exactly one of of_last, of_last_s"),
        (
            {"share": {"signal": "s", "value": 1, "above": 0.5, "of_last": 5, "of_last_s": 5}},
            "exactly one of of_last, of_last_s",
        ),
        ({"rate": {"signal": "s", "of_last_s": 60}}, "exactly one of above, below"),
        ({"rate": {"signal": "s", "of_last_s": 60, "above": 1, "below": 2}}, "exactly one of above, below"),
        ({"rate": {"signal": "s", "of_last_s": 60, "above": 1, "per": "day"}}, "'s', 'min' or 'h'"),
        (
            {"rate": {"signal": "s", "of_last_s": 60, "above": 1, "value": True, "modulus": 256}},
            "modulus: is for a counter",
        ),
        (
            {"rate": {"signal": "s", "of_last_s": 3_600, "above": 10, "per": "s", "value": True}},
            "of_last_s: at most 10000 samples",
        ),
    ],
)
def test_what_cannot_be_asked_is_refused_with_what_was_expected(given: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        when(**given)
