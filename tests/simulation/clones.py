"""A world in which nothing goes wrong but that a copy of a gateway's disk runs in a second box for ten
minutes: somebody has to be told, nothing that was sent is lost, and one box alone converges again.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

from simulation.small import calm
from simulation.world import World

from edge_agent.wire import CLONED

TURNS = (
    (5.0, "belt-1", "jam"),
    (90.0, "belt-1", "jam"),
    (200.0, "belt-2", "overload"),
    (400.0, "belt-3", "jam"),
)
COPIED_AT_S, ENDS_AT_S = 30.0, 630.0


@dataclass(slots=True)
class TwoBoxes(World):
    def __post_init__(self) -> None:
        World.__post_init__(self)
        calm(self, poll_s=1.0, duration_s=ENDS_AT_S)
        self.director.direct = self._direct  # type: ignore[method-assign]

    async def _direct(self) -> None:
        turning = asyncio.ensure_future(self._turn_belts())
        box = self.boxes[0]
        await asyncio.sleep(COPIED_AT_S)
        twin = box.clone(random.Random(1))
        self.cloned[box.gateway.id] = float("inf")
        self.begin(twin)
        await turning
        await asyncio.sleep(ENDS_AT_S - self.now)
        told = self.hub.database.raw.execute(
            "SELECT count(*) FROM ticket WHERE device = ? AND fault = ?", (box.gateway.name, CLONED)
        ).fetchone()
        if told != (1,):
            self.fail(f"C7: two boxes spoke as {box.gateway.name}, there are {told[0]} tickets that say so")
        self.director.part(box, twin, clone_stays=True)

    async def _turn_belts(self) -> None:
        for at, name, fault in TURNS:
            await asyncio.sleep(at - self.now)
            self.belts[name].turn(fault, self.now)
