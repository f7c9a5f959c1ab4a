"""A clock that a test moves by hand, and conditions and samples in one line each."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from edge_agent.profile import Condition
from edge_agent.sample import Quality, Sample, Value
from edge_agent.wire import Stamp

NS_PER_S = 1_000_000_000
# 2026-01-05T06:00:00Z, the start of an early shift.
MONDAY_MS = 1_767_592_800_000


class HandClock:
    """``stamp`` is what the product is given; the test says how time passes and what the wall shows."""

    def __init__(self, *, source: str = "ntp") -> None:
        self.mono_ns = 1_000 * NS_PER_S
        self.wall_ms = MONDAY_MS
        self.source = source
        self.boots = 1

    def stamp(self) -> Stamp:
        return Stamp(
            boot=f"{self.boots:032x}", mono_ns=self.mono_ns, wall_ms=max(0, self.wall_ms), source=self.source
        )

    def go(self, seconds: float) -> Stamp:
        self.mono_ns += round(seconds * NS_PER_S)
        self.wall_ms += round(seconds * 1000)
        return self.stamp()

    def jump(self, seconds: float) -> None:
        """Somebody sets the wall clock."""
        self.wall_ms += round(seconds * 1000)

    def reboot(self, seconds: float = 30.0) -> None:
        self.boots += 1
        self.mono_ns = 10 * NS_PER_S
        self.wall_ms += round(seconds * 1000)


def ids() -> Callable[[], str]:
    """What takes the place of random ids: 1, 2, 3 ..."""
    numbers = itertools.count(1)
    return lambda: f"{next(numbers):032x}"


def condition(when: dict[str, Any], **more: Any) -> Condition:
    given = {"fault": "jam", "component": "belt", "title": "Jam", "severity": "stop", "when": when}
    return Condition.model_validate(given | more)


def sample(signal: str, value: Value, at: Stamp, *, device: str = "belt-1") -> Sample:
    """None is a failed read."""
    quality = Quality.BAD if value is None else Quality.GOOD
    return Sample(device=device, signal=signal, value=value, quality=quality, at=at)
