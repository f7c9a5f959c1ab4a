"""A profile's examples are believed only when everything happens as they say."""

from __future__ import annotations

import pytest

from edge_agent import proof
from edge_agent.profile import ProfileError

LAMP = """\
schema: 1
name: lamp
title: A lamp
maker: Somebody
models: [one]
evidence: simulated
source: Manual 9
transports: [modbus]
reads:
  block: {function: 3, address: 10, count: 2}
signals:
  burnt: {read: block, register: 10, bit: 0, source: p. 1}
  lit: {read: block, register: 11, bit: 0, source: p. 2}
conditions:
  - fault: burnt
    component: bulb
    title: Burnt out
    severity: degraded
    on_delay_s: 5
    off_delay_s: 2
    when: {is: {signal: burnt, value: true}}
examples:
  - condition: bulb/burnt
    trips: {block: {10: 1}}
    clears: {block: [0, 1]}
"""


def told(was: str = "", becomes: str = "") -> tuple[str, ...]:
    assert was in LAMP
    found = proof.problems(LAMP.replace(was, becomes, 1) if was else LAMP, name="lamp")
    return tuple(map(str, found))


def test_examples_that_are_true_are_a_proof() -> None:
    assert told() == ()


@pytest.mark.parametrize(
    ("was", "becomes", "says"),
    [
        ("trips: {block: {10: 1}}", "trips: {block: {10: 2}}", "what trips it does not raise it"),
        ("clears: {block: [0, 1]}", "clears: {block: [1, 1]}", "what clears it already raises it"),
        (
            "clears: {block: [0, 1]}",
            "clears: [{after_s: 60}]",
            "what clears it does not clear it",
        ),
        (
            "when: {is: {signal: burnt, value: true}}",
            "when: {is: {signal: burnt, value: false}}",
            "what trips it does not raise it",
        ),
    ],
)
def test_an_example_that_is_not_true_is_named_with_what_did_not_happen(
    was: str, becomes: str, says: str
) -> None:
    assert f"line 23: examples[0] (bulb/burnt): {says}" in told(was, becomes)


def test_a_condition_without_an_example_is_named() -> None:
    assert told(LAMP[LAMP.index("examples:") :], "") == ("line 15: conditions: bulb/burnt has no example",)


def test_an_example_may_set_what_a_device_would_set() -> None:
    own = "    set: {signals: {burnt: {bit: 3}}}\n    trips: {block: {10: 8}}"
    assert told("    trips: {block: {10: 1}}", own) == ()


def test_a_profile_that_is_not_valid_is_refused_before() -> None:
    with pytest.raises(ProfileError):
        told("value: true", "value: yes")
