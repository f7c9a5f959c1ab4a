"""Reads JSON as ``wire.parse_json`` does, in half the time where a body is as agents write it.

What comes out again byte for byte as it went in had no key twice, no number that cannot be kept and nothing
that is not JSON: orjson writes each key once, as UTF-8, without a space. All else ``wire`` reads, with care.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from edge_agent import wire

# Nothing of JSON.
_UNSURE: Final = object()


def parse(body: bytes) -> Any:
    """Raises WireError."""
    wire.check_size(body)
    parsed = _as_agents_write(body)
    if parsed is _UNSURE:
        return wire.parse_json(body)
    wire.check_depth(parsed)
    return parsed


def _as_agents_write(body: bytes) -> Any:
    try:
        parsed = orjson.loads(body)
        return parsed if orjson.dumps(parsed) == body else _UNSURE
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return _UNSURE
