"""The quick way to read a body says what the careful one says."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.parsing import parse
from edge_agent.wire import MAX_DEPTH, WireError, parse_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=20,
)
TRAPS = (
    b'{"a":1,"a":1}',
    b'{"a":1,"\\u0061":1}',
    b'[{"b":{"a":1,"a":2}}]',
    b"[NaN]",
    b"[-Infinity]",
    b"[1e999]",
    b"[-0]",
    b"[-0.0]",
    b"[1E5]",
    b"[1.0]",
    b"[18446744073709551615]",
    b"[18446744073709551616]",
    b"[" + b"9" * 400 + b"]",
    b'["\\ud800"]',
    b'["\\ud83d\\ude00"]',
    b'["\\u0000"]',
    b'["\xed\xa0\x80"]',
    b'["\xff"]',
    b"\xef\xbb\xbf[]",
    b"[01]",
    b"[1,]",
    b"",
    b"[] []",
    b" []",
    b"[" * MAX_DEPTH + b"]" * MAX_DEPTH,
    b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
    b"[" * (MAX_DEPTH + 2) + b"]" * (MAX_DEPTH + 2),
    b"[" * 300 + b"]" * 300,
    b"[" * 5_000 + b"]" * 5_000,
    b"[" + b"0," * 200_001 + b"0]",
)


def outcome(read: Any, body: bytes) -> str:
    """With the kinds of all numbers: 1 and 1.0 are equal, and so are 0 and -0.0."""
    try:
        return repr(read(body))
    except WireError as error:
        return f"refused: {error}"


@pytest.mark.parametrize("body", TRAPS, ids=lambda body: repr(body[:24]))
def test_no_trap_is_read_otherwise(body: bytes) -> None:
    assert outcome(parse, body) == outcome(parse_json, body)


@given(VALUES, st.sampled_from(["compact", "spaced", "orjson"]))
def test_whatever_is_json_is_read_alike(value: Any, how: str) -> None:
    if how == "orjson":
        try:
            body = orjson.dumps(value)
        except TypeError:  # an integer beyond 64 bits
            how = "compact"
    if how != "orjson":
        separators = (",", ":") if how == "compact" else (", ", ": ")
        body = json.dumps(value, ensure_ascii=how == "spaced", separators=separators).encode()
    assert outcome(parse, body) == outcome(parse_json, body)


@given(VALUES, st.data())
def test_a_body_that_was_broken_on_the_way_is_read_alike(value: Any, data: st.DataObject) -> None:
    body = bytearray(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.sampled_from(b'"{}[],:0-e.\\u '))
    assert outcome(parse, bytes(body)) == outcome(parse_json, bytes(body))
