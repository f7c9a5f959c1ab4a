"""RFC 3339 text to and from UTC milliseconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime

# A plus sign that nobody escaped arrives from a query string as a space.
LOST_PLUS = re.compile(r" (?=\d\d:\d\d$)")
# 9999-12-30: what is taken from a request can be printed again, in every time zone.
LAST_MS = 253_402_128_000_000


def rfc3339(ms: int) -> str:
    """2026-11-22T03:12:01.250Z"""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def rfc3339_or_none(ms: int | None) -> str | None:
    return None if ms is None else rfc3339(ms)


def parse(text: str) -> int:
    """Raises ValueError that says what was expected; a moment without an offset, or before 1970, is not
    one."""
    expected = "expected a moment with an offset, such as 2026-11-22T06:00:00+01:00 or 2026-11-22T05:00:00Z"
    try:
        moment = datetime.fromisoformat(LOST_PLUS.sub("+", text))
        ms = round(moment.timestamp() * 1000)
        if moment.tzinfo is None or len(text) < len("2026-11-22T05:00Z") or not 0 <= ms <= LAST_MS:
            raise ValueError
        return ms
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is not a moment; {expected}") from error
