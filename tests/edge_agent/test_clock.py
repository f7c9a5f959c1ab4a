from __future__ import annotations

import time
from pathlib import Path

import pytest

from edge_agent.clock import EARLIEST_MS, Clock, trust


def test_a_stamp_tells_this_boot_and_both_clocks() -> None:
    clock = Clock()
    first, second = clock.stamp(), clock.stamp()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert first.boot == second.boot == boot.replace("-", "")
    assert first.mono_ns <= second.mono_ns <= time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    assert first.wall_ms <= second.wall_ms <= time.time_ns() // 1_000_000


@pytest.mark.parametrize(
    ("wall_ms", "floor_ms", "synchronised", "source"),
    [
        (0, 0, False, "none"),
        (EARLIEST_MS - 1, 0, True, "none"),
        (EARLIEST_MS, 0, False, "rtc"),
        (EARLIEST_MS, 0, True, "ntp"),
        (EARLIEST_MS + 5, EARLIEST_MS + 6, True, "none"),
        (EARLIEST_MS + 6, EARLIEST_MS + 6, False, "rtc"),
    ],
)
def test_a_wall_clock_before_what_is_already_past_was_never_set(
    wall_ms: int, floor_ms: int, synchronised: bool, source: str
) -> None:
    assert trust(wall_ms, floor_ms=floor_ms, synchronised=synchronised) == source


def test_a_clock_below_its_floor_is_not_trusted() -> None:
    clock = Clock()
    assert clock.stamp().source in ("rtc", "ntp")
    clock.floor_ms = time.time_ns() // 1_000_000 + 3_600_000
    assert clock.stamp().source == "none"
