"""One short history, and a kill at every point of it in turn.

At each statement of the agent's journal, before it and after it, in its first life and in its next; at each
turn of the event loop; at each statement of the collector, and after each of its commits. Wherever it was,
both sides have to agree soon after.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from enum import StrEnum

from simulation.box import Box
from simulation.dials import Dials
from simulation.world import World

from edge_agent.wire import MAX_ROWS

# Far behind the last statement of the history.
NEVER = 1 << 30
# (when, belt, fault): a fault begins, or ends if it is there.
HISTORY = (
    (1.0, "belt-1", "jam"),
    (4.0, "belt-2", "overload"),
    (9.0, "belt-1", "jam"),
    (13.0, "belt-1", "jam"),
    (24.0, "belt-2", "overload"),
    (26.0, "belt-3", "jam"),
)
# The agent is killed once in any case, so that its start with a journal that has something in it is a part.
KILLED_AT_S = 16.0
ENDS_AT_S = 30.0


class Where(StrEnum):
    FIRST_LIFE = "at a statement of the agent's first life"
    FIRST_LIFE_AFTER = "after a statement of the agent's first life"
    NEXT_LIFE = "at a statement of the agent's next life"
    NEXT_LIFE_AFTER = "after a statement of the agent's next life"
    TURN = "at a turn of the event loop"
    COLLECTOR = "at a statement of the collector"
    ANSWER = "after a commit of the collector, before its answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    where: Where
    number: int


@dataclass(slots=True)
class Small(World):
    """``point``: None for the history as it is, which counts how many points of each kind there are."""

    point: Point | None = None
    counted: dict[Where, int] = field(default_factory=dict)
    answers: int = 0
    armed_again: bool = False
    quiet_exchanges: int = 3

    def __post_init__(self) -> None:
        World.__post_init__(self)
        calm(self, poll_s=1.0, duration_s=ENDS_AT_S, max_rows=2)
        self.director.direct = self._direct  # type: ignore[method-assign]

    async def _direct(self) -> None:
        box = self.boxes[0]
        self._arm(box, Where.FIRST_LIFE, Where.FIRST_LIFE_AFTER)
        self.hub.database.fuse = self._number(Where.COLLECTOR)
        assert self.loop is not None
        self.turn_fuses[self.loop.turns + self._number(Where.TURN)] = box
        began = self.loop.turns
        for at, name, fault in HISTORY:
            if self.now <= KILLED_AT_S < at:
                await asyncio.sleep(KILLED_AT_S - self.now)
                self._count(box, Where.FIRST_LIFE, Where.FIRST_LIFE_AFTER)
                box.kill("as the history has it")
            await asyncio.sleep(at - self.now)
            self.belts[name].turn(fault, self.now)
        await asyncio.sleep(ENDS_AT_S - self.now)
        self._count(box, Where.NEXT_LIFE, Where.NEXT_LIFE_AFTER)
        self.counted[Where.COLLECTOR] = NEVER - self.hub.database.fuse
        self.counted[Where.TURN] = self.loop.turns - began
        self.counted[Where.ANSWER] = self.answers
        self.hub.database.fuse = -1

    def dies_after_its_commit(self) -> bool:
        self.answers += 1
        return self._number(Where.ANSWER) == self.answers - 1

    def _between_lives(self, box: Box) -> None:
        if box is self.boxes[0] and not self.armed_again:
            self.armed_again = True
            self._arm(box, Where.NEXT_LIFE, Where.NEXT_LIFE_AFTER)

    def _arm(self, box: Box, before: Where, after: Where) -> None:
        box.disk.sql.after = self.point is not None and self.point.where is after
        box.disk.sql.fuse = min(self._number(before), self._number(after))

    def _count(self, box: Box, *where: Where) -> None:
        self.counted |= dict.fromkeys(where, NEVER - box.disk.sql.fuse)

    def _number(self, where: Where) -> int:
        return self.point.number if self.point is not None and self.point.where is where else NEVER


def calm(world: World, **dials: float) -> None:
    """Nothing goes wrong in it by itself."""
    plain = [one for one in fields(Dials) if one.type != "Caps"]
    still = {one.name: type(getattr(world.dials, one.name))(0) for one in plain}
    world.dials = Dials(**still | {"max_rows": MAX_ROWS, "collectors": 1} | dials)  # type: ignore[arg-type]
    world.collectors = world.collectors[:1]
    world.collectors[0].clock_error_ms = 0
    world.ledger.poison = 0.0


def points() -> Iterator[Point]:
    """All of the history, in order."""
    whole = Small(0)
    whole.live()
    for where in Where:
        assert whole.counted[where] > 3, where
        yield from (Point(where=where, number=number) for number in range(whole.counted[where]))


def kill_at(point: Point) -> None:
    """Raises BrokenLawError."""
    world = Small(0, point=point)
    world.live()
