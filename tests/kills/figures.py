"""Counts kills and start times, and prints them as they come."""

from __future__ import annotations

import os
import statistics
from dataclasses import dataclass, field

# `make kill-test KILLS=300`; the suite makes do with fewer, on each database.
KILLS = int(os.environ.get("KILLS", "0"))
IN_THE_SUITE = 4
PRINT_EVERY = 25


@dataclass(slots=True, kw_only=True)
class Figures:
    what: str
    kills: int = 0
    # Kills before the program had said that it is ready.
    while_starting: int = 0
    # From the start of the process until it says that it is ready.
    start_s: list[float] = field(default_factory=list)
    # What the killed program had promised, at the last count.
    promised: int = 0

    def killed(self) -> None:
        self.kills += 1
        if KILLS and self.kills % PRINT_EVERY == 0:
            print(f"\n{self}", end="", flush=True)

    def __str__(self) -> str:
        starts = sorted(self.start_s) or [0.0]
        return (
            f"{self.what}: {self.kills} kills ({self.while_starting} before it was ready), "
            f"{self.promised} occurrences promised, none lost or doubled; started in "
            f"{statistics.median(starts):.2f} s (median), {starts[-1]:.2f} s (longest)"
        )
