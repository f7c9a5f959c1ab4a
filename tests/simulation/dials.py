"""What goes wrong in a world, and how often. Each seed has a different part of it, so that one fault does not
hide another.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from collector.redating import AT_ONCE
from edge_agent.journal_caps import Caps

# Journals that are full after some dozens of rows, and some of them of evidence before that.
SMALL = Caps(journal_bytes=42 * 4096, evidence_bytes=6 * 1024)
TINY = Caps(journal_bytes=38 * 4096, evidence_bytes=64 * 1024)


@dataclass(slots=True, kw_only=True)
class Dials:
    lose: float
    double: float
    delay: float
    shed: float
    slow_disk: float
    hub_kills: float
    poison: float
    kills: bool
    restores: bool
    disks: bool
    partitions: bool
    clocks: bool
    leaps: bool
    cut_offs: bool
    reconfigures: bool
    shared: bool
    # In a message: where it is few, the present often goes ahead of the history.
    max_rows: int
    poll_s: float
    duration_s: float
    # How many collectors there are, how far their clocks are apart, for how long a writer gathers messages.
    collectors: int = 1
    clocks_apart_ms: int = 0
    group_s: float = 0.0
    clones: bool = False
    power_cuts: bool = False
    full_disks: bool = False
    versions: bool = False
    people: bool = False
    forged: bool = False
    evidence: bool = False
    caps: Caps = Caps()  # noqa: RUF009  # frozen
    # Of what is dated anew a transaction takes so much; what is more waits for sweeps.
    dated_at_once: int = AT_ONCE
    # Every fourth world is about histories that part: disks and databases that are put back all the time.
    focus: bool = False

    @classmethod
    def of(cls, seed: int, rng: random.Random) -> Dials:
        def maybe(probability: float, value: float) -> float:
            return value if rng.random() < probability else 0.0

        drawn = cls(
            lose=maybe(0.6, 0.15),
            double=maybe(0.6, 0.12),
            delay=maybe(0.6, 0.3),
            shed=maybe(0.3, 0.2),
            slow_disk=maybe(0.4, 0.2),
            hub_kills=maybe(0.6, 0.06),
            poison=maybe(0.25, 0.08),
            kills=rng.random() < 0.8,
            restores=rng.random() < 0.6,
            disks=rng.random() < 0.6,
            partitions=rng.random() < 0.6,
            clocks=rng.random() < 0.6,
            leaps=rng.random() < 0.4,
            cut_offs=rng.random() < 0.4,
            reconfigures=rng.random() < 0.3,
            shared=rng.random() < 0.5,
            max_rows=rng.choice([1, 3, 500, 500]),
            poll_s=rng.choice([3.0, 8.0, 15.0]),
            duration_s=rng.choice([300.0, 900.0, 1500.0]),
        )
        # Of its own, so that what is added here leaves the other draws of a seed as they were.
        more = random.Random(f"more of {seed}")
        drawn = replace(
            drawn,
            collectors=more.choice([1, 1, 2, 3]),
            clocks_apart_ms=more.choice([0, 0, 500, 3_000]),
            group_s=more.choice([0.0, 0.0, 0.05, 2.0]),
            clones=more.random() < 0.2,
            power_cuts=more.random() < 0.3,
            full_disks=more.random() < 0.25,
            versions=more.random() < 0.3,
            people=more.random() < 0.5,
            forged=more.random() < 0.2,
            caps=more.choice([Caps(), Caps(), SMALL, TINY]),
            dated_at_once=more.choice([AT_ONCE, AT_ONCE, 3]),
            evidence=random.Random(f"evidence of {seed}").random() < 0.25,
        )
        if drawn.collectors == 1:
            drawn = replace(drawn, clocks_apart_ms=0)
        if seed % 4 == 3:
            drawn = replace(
                drawn,
                focus=True,
                kills=True,
                restores=True,
                disks=True,
                leaps=False,
                poll_s=3.0,
                duration_s=600.0,
            )
        return drawn
