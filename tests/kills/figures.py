"""Counts kills and start times, prints how far it is, and keeps what is printed as one table at the end."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

# `make kill-test KILLS=300`; the suite makes do with fewer, on each database.
KILLS = int(os.environ.get("KILLS", "0"))
IN_THE_SUITE = 4
PRINT_EVERY = 25
# What is promised of a restart on an idle machine; counted, because a busy one keeps no time.
QUICK_S = 5.0


@dataclass(slots=True, kw_only=True)
class Figures:
    what: str
    kills: int = 0
    # Kills before the program had said that it is ready.
    while_starting: int = 0
    # Of the PostgreSQL server, at once.
    database_kills: int = 0
    # From the start of the process until it says that it is ready.
    start_s: list[float] = field(default_factory=list)
    # Occurrences that the killed program had said to be safe, at the last count.
    promised: int = 0
    lost: int = 0
    # More than once, or not as they were told.
    doubled: int = 0

    def __post_init__(self) -> None:
        EVERYTHING.append(self)

    def killed(self) -> None:
        self.kills += 1
        if KILLS and self.kills % PRINT_EVERY == 0:
            print(f"\n{self.what}: {self.kills} kills, {self.promised} promised", end="", flush=True)


# In the order in which they were begun.
EVERYTHING: list[Figures] = []


def table(all_figures: Sequence[Figures]) -> str:
    shown = Table(box=None, pad_edge=False)
    heads = ("kill -9 of", "kills", "before ready", "of its database", "promised", "lost", "doubled")
    for head in (*heads, "restart p50", "p95", "longest", f"over {QUICK_S:g} s"):
        shown.add_column(head, justify="left" if head == heads[0] else "right")
    for one in all_figures:
        starts = sorted(one.start_s) or [0.0]
        numbers = (one.kills, one.while_starting, one.database_kills, one.promised, one.lost, one.doubled)
        times = (statistics.median(starts), starts[int(0.95 * (len(starts) - 1))], starts[-1])
        slow = sum(start > QUICK_S for start in starts)
        shown.add_row(one.what, *map(str, numbers), *(f"{time:.2f} s" for time in times), str(slow))
    console = Console(width=150, color_system=None)
    with console.capture() as captured:
        console.print(shown)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())
