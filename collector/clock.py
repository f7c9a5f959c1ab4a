"""The collector's only clock: UTC in integer milliseconds, and monotonic seconds for limits."""

from __future__ import annotations

import time


def now_ms() -> int:
    """UTC, milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def monotonic_s() -> float:
    """Seconds that never jump; only differences mean anything."""
    return time.monotonic()
