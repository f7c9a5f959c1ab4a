"""YAML without its traps: what is taken, what is refused, and that the refusal names the line."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.plain_yaml import MAX_BYTES, MAX_DEPTH, PlainYamlError, load


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1", {"a": 1}),
        ("a: -0x1F", None),
        ("a: 0x1F", {"a": 31}),
        ("a: 1.50", {"a": 1.5}),
        ("a: 1.5e+3", {"a": 1500.0}),
        ("a: true", {"a": True}),
        ("a: ~", {"a": None}),
        ("a:", {"a": None}),
        ("a: ~HS", {"a": "~HS"}),
        ("a: 'no'", {"a": "no"}),
        ('a: "12:30:45"', {"a": "12:30:45"}),
        ("a: text with: colon", None),
        ("a: >-\n  one\n  two", {"a": "one two"}),
        ("1500: x", {1500: "x"}),
        ("[1, [two, {three: 3}]]", [1, ["two", {"three": 3}]]),
        ("", None),
    ],
)
def test_plain_values_are_what_they_look_like(text: str, value: object) -> None:
    if value is None and text not in ("", "a:"):
        with pytest.raises(PlainYamlError):
            load(text)
    else:
        assert load(text).value == value


@pytest.mark.parametrize(
    "trap",
    [
        *("no", "No", "NO", "yes", "on", "off", "Off"),
        *("12:30:45", "1:30", "017", "0o17", "0b101", "1_000", "+0x1"),
        *("1e3", "-2E5", "1.e+3", ".5", ".inf", "-.INF", ".nan", "1:30.5"),
        *("2024-01-31", "2024-01-31 10:00:00"),
        *("=", "<<"),
        "9" * 5_000,
    ],
)
def test_a_word_that_yaml_reads_as_something_else_has_to_be_quoted(trap: str) -> None:
    with pytest.raises(PlainYamlError, match=r"^line 2: .* quote it"):
        load(f"first: 1\nvalue: {trap}\n")
    assert load(f"value: '{trap}'").value == {"value": trap}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: &x 2", "line 2: anchor &x"),
        ("a: &x 1\nb: *x", "line 1: anchor"),
        ("a: 1\nb: *x", "line 2: alias"),
        ("a: 1\nb: !!str 2", "line 2: tag tag:yaml.org,2002:str"),
        ("a: !!python/object/apply:os.system [id]", "line 1: tag"),
        ("a: 1\nb: 2\na: 3", "line 3: key 'a' stands twice"),
        ("a: {b: 1, b: 2}", "line 1: key 'b' stands twice"),
        ("true: 1", "line 1: a key must be a text"),
        ("1.5: 1", "line 1: a key must be a text"),
        ("? [a, b]\n: 1", "line 1: a key must be a text"),
        ("<<: {a: 1}", "line 1: <<"),
        ("a: 1\n---\nb: 2", "line 2: a second document"),
        ("a: 1\n  b: 2", "line 2: not YAML"),
        ("a: 1\nb: [1, 2\n", "line 3: not YAML"),
        ("a: '\x00'", "line 1: not YAML"),
        ("[" * (MAX_DEPTH + 1), f"line 1: nested deeper than {MAX_DEPTH}"),
        # PyYAML itself would look for what comes after a thousand brackets first.
        ("[" * (MAX_DEPTH + 1) + "@", f"line 1: nested deeper than {MAX_DEPTH}"),
        ("x" * (MAX_BYTES + 1), "line 1: more than 64 KiB"),
    ],
)
def test_what_could_harm_or_mean_two_things_is_refused_with_its_line(text: str, problem: str) -> None:
    with pytest.raises(PlainYamlError) as refused:
        load(text)
    assert str(refused.value).startswith(problem)


def test_an_alias_bomb_is_refused_before_anything_is_built() -> None:
    rows = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    with pytest.raises(PlainYamlError, match="anchor"):
        load("\n".join(rows))


def test_every_value_knows_its_line_and_column() -> None:
    at = load("a:\n  b:\n    - 1\n    - c: 2\n").places
    assert [at["a",], at["a", "b"], at["a", "b", 1], at["a", "b", 1, "c"]] == [(1, 1), (2, 3), (4, 7), (4, 7)]


@given(st.text(max_size=200) | st.text(alphabet="ab:-[]{}&*!|>'\"#%@`?, \n\t0123", max_size=120))
def test_any_text_is_plain_or_refused(text: str) -> None:
    # Whatever else it raises fails the test.
    with suppress(PlainYamlError):
        load(text)
