"""Evidence in a simulated world: a file that may be lost, a way that is worse than that of rows, and the law
that what is held belongs where it hangs.
"""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import zlib
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from simulation.virtual import Killed
from sqlalchemy import select

from collector import evidence
from collector.store import DATABASE_AWAY, tables
from edge_agent import wire
from edge_agent.evidence import Evidence, Window
from edge_agent.evidence_file import _SCHEMA, EvidenceFile, NewPart
from edge_agent.evidence_lane import EvidenceLane
from edge_agent.forward import CollectorAwayError, Reply

if TYPE_CHECKING:
    from simulation.box import AgentLife, Box
    from simulation.world import World

    from edge_agent.device import Device
    from edge_agent.recorder import Recorder

T = TypeVar("T")
# What the client waits for a reply.
PATIENCE_S = 20.0
# Some dozens of parts.
CAP = 40 * 4096


class Shelf(EvidenceFile):
    """In memory; it outlives the agent."""

    def __init__(self, heard: Callable[[NewPart], None]) -> None:
        super().__init__(Path("evidence.db"), max_bytes=CAP)
        self._heard = heard
        self.memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self.memory.executescript(_SCHEMA)

    def write(self, parts: Sequence[NewPart], closed: Collection[str] = ()) -> None:
        for part in parts:
            self._heard(part)
        super().write(parts, closed)

    def _connection(self) -> sqlite3.Connection:
        return self.memory


class Keeper:
    """The agent may die before a piece of work or after it."""

    def __init__(self, life: AgentLife, rng: random.Random) -> None:
        self._life, self._rng = life, rng

    async def run(self, work: Callable[[EvidenceFile], T]) -> T:
        if self._rng.random() < 0.1:
            await asyncio.sleep(self._rng.choice([0.01, 1.0, 30.0]))
        if self._life.dead:
            raise Killed
        shelf = self._life.box.shelf
        assert shelf is not None
        return work(shelf)

    async def close(self) -> None:
        return None


def begin(life: AgentLife, recorder: Recorder, devices: list[Device]) -> tuple[Evidence, EvidenceLane]:
    box = life.box
    rng = random.Random(f"evidence of {box.name} {box.world.seed} {len(box.boots)}")
    if box.shelf is not None and rng.random() < 0.1:
        box.shelf = None
        box.world.count("files of evidence that were lost")
    box.shelf = box.shelf or Shelf(
        lambda part: box.world.recorded[box.gateway.id, part.uid, part.part].append(part.evidence)
    )
    made = Evidence(recorder, devices, Keeper(life, rng), life.stamp, window=Window(before_s=60, after_s=10))
    way = Way(box, rng)
    return made, EvidenceLane(made, way.post, stamp=life.stamp, random=rng)


class Way:
    """To the collectors and back. It may well be that nothing comes through, even when all else is well."""

    def __init__(self, box: Box, rng: random.Random) -> None:
        self._box, self._rng = box, rng
        self._hangs = random.Random(f"the way of evidence {box.world.seed}").random() < 0.3

    async def post(self, body: bytes) -> Reply:
        box, world, rng = self._box, self._box.world, self._rng
        world.count("messages of evidence")
        await asyncio.sleep(0.02 + rng.random())
        chaos = not world.quiet
        if self._hangs or (chaos and rng.random() < 0.1):
            await asyncio.sleep(PATIENCE_S)
            raise CollectorAwayError("no reply in time")
        if world.net.cut.get(box.name, 0.0) > world.now or (chaos and rng.random() < 0.2):
            raise CollectorAwayError("connection refused")
        if chaos and rng.random() < 0.1:
            return Reply(status=rng.choice([429, 503, 413, 500]), retry_after_s=rng.choice([10.0, None]))
        replies = [self._arrive(body) for _ in range(rng.choice([1, 1, 2]) if chaos else 1)]
        if chaos and rng.random() < 0.2:
            raise CollectorAwayError("the reply was lost")
        return replies[-1]

    def _arrive(self, body: bytes) -> Reply:
        box, world = self._box, self._box.world
        message = wire.decode_message(body)
        assert isinstance(message, wire.EvidenceRequest)
        hub, parts = world.hub, evidence.read(message)
        others = [one for one in hub.gateways if one != box.gateway]
        for gateway in (*(others if self._rng.random() < 0.5 else ()), box.gateway):
            try:
                taken = hub.database.write(
                    lambda c, gateway=gateway: evidence.take(c, gateway, parts, world.now_ms)  # type: ignore[misc]
                )
            except Killed:
                raise CollectorAwayError("the collector died") from None
            except DATABASE_AWAY:
                return Reply(status=503, retry_after_s=10.0)
        law(world)
        return Reply(status=200, body=wire.encode(taken.answer))


def law(world: World) -> None:
    """Each part that is held hangs at an occurrence of the gateway that recorded it, and is what that was."""
    owners = {one.uid: one.gateway_id for one in world.hub.occurrences().values()}
    for row in world.hub.read(select(tables.evidence)):
        uid, part, gateway_id = row["uid"], row["part"], row["gateway_id"]
        if owners.get(uid) != gateway_id:
            world.fail(f"evidence of {gateway_id} hangs at an occurrence of {owners.get(uid)}")
        told = None if row["body"] is None else json.loads(zlib.decompress(row["body"]))
        if told is not None and told not in world.recorded[gateway_id, uid, part]:
            world.fail(f"{part} of {uid} is not what was recorded there")
    world.figures["parts of evidence held at most"] = max(
        world.figures["parts of evidence held at most"], len(world.hub.all_of(tables.evidence))
    )
