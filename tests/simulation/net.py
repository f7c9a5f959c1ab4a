"""The network between gateways and the collector: it loses, delays, doubles and reorders, and the collector
may die while it works.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from simulation.virtual import LIFE, Killed

from collector.ingest import StreamRefusedError
from edge_agent import wire
from edge_agent.forward import CollectorAwayError, Reply

if TYPE_CHECKING:
    from simulation.box import Box
    from simulation.world import World

# What the client waits for a reply (post.READ_S).
PATIENCE_S = 20.0
WAY_S = 0.02
# Of the ways to spoil a row, the one after which nobody can tell which condition it is about.
NAMELESS = 2


class Net:
    def __init__(self, world: World) -> None:
        self.world = world
        # By gateway: until when nothing comes through, and until when only replies are lost.
        self.cut: dict[str, float] = {}
        self.deaf: dict[str, float] = {}
        self.hub_down_until = 0.0

    async def post(self, box: Box, body: bytes) -> Reply:
        world, rng, dials = self.world, self.world.rng, self.world.dials
        world.count("requests")
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Reply] = loop.create_future()
        chaos = not world.quiet
        if chaos and rng.random() < dials.shed:
            await asyncio.sleep(WAY_S)
            return Reply(
                status=rng.choice([429, 503, 503, 500, 502]), retry_after_s=rng.choice([1.0, 3.0, None])
            )
        body = world.ledger.spoil(box, body)
        if self.cut.get(box.gateway.id, 0.0) > world.now:
            world.count("requests into a partition")
        elif chaos and rng.random() < dials.lose:
            world.count("requests lost")
        else:
            loop.call_later(self._way(), self._arrive, box, body, reply)
        if chaos and rng.random() < dials.double:
            world.count("requests doubled")
            for _ in range(rng.choice([1, 1, 3])):
                loop.call_later(self._late(), self._arrive, box, body, None)
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await reply
        except TimeoutError as error:
            raise CollectorAwayError("no reply in time") from error

    def _way(self) -> float:
        world = self.world
        if world.quiet or world.rng.random() > world.dials.delay:
            return WAY_S * (0.5 + world.rng.random())
        return world.rng.choice([0.2, 0.9, 5.0, 19.0, 40.0, 300.0]) * world.rng.random()

    def _late(self) -> float:
        return self.world.rng.choice([0.0, 1.0, 30.0, 300.0, 3_000.0]) * self.world.rng.random()

    def _arrive(self, box: Box, body: bytes, reply: asyncio.Future[Reply] | None) -> None:
        LIFE.set(None)
        world, rng = self.world, self.world.rng
        if world.failure is not None:
            return
        if self.hub_down_until > world.now:
            if reply is not None and not reply.done():
                reply.set_exception(CollectorAwayError("connection refused"))
            return
        answer = self._worked_off(box, body)
        if answer is None or reply is None:
            return
        if self.deaf.get(box.gateway.id, 0.0) > world.now or (
            not world.quiet and rng.random() < world.dials.lose
        ):
            world.count("replies lost")
            return
        asyncio.get_running_loop().call_later(self._way(), self._deliver, reply, answer)

    def _worked_off(self, box: Box, body: bytes) -> bytes | None:
        """The answer; None when the collector died of it."""
        world, hub = self.world, self.world.hub
        dies_after = False
        if not world.quiet and world.rng.random() < world.dials.hub_kills:
            dies_after = world.rng.random() < 0.4
            hub.database.fuse = -1 if dies_after else world.rng.randrange(60)
        try:
            answer = hub.sync(box.gateway, body, world.now_ms)
        except Killed:
            self.hub_dies("within a transaction")
            return None
        except StreamRefusedError as error:
            world.fail("C1: a gateway's own stream was refused", error)
            return None
        except Exception as error:  # noqa: BLE001  # whatever it is, it is a finding
            world.fail("the collector crashed on a message", error)
            return None
        hub.database.fuse = -1
        if dies_after:
            self.hub_dies("after a commit, before its answer")
            return None
        return wire.encode(answer)

    def hub_dies(self, why: str) -> None:
        self.world.count("collector kills")
        self.world.tell(f"the collector is killed {why}")
        self.hub_down_until = self.world.now + self.world.rng.choice([0.0, 1.0, 20.0, 90.0])
        self.world.hub.started_ms = round(self.world.now_ms + 1000 * (self.hub_down_until - self.world.now))

    @staticmethod
    def _deliver(reply: asyncio.Future[Reply], answer: bytes) -> None:
        if not reply.done():
            reply.set_result(Reply(status=200, body=answer))


def spoilt(row: dict[str, Any], how: int) -> dict[str, Any]:
    """A row that cannot be read, as a broken or a much newer agent would send it."""
    if how == 0:
        return row | {"title": "x" * 300}
    if how == 1:
        return row | {"severity": "high"}
    if how == NAMELESS:
        return row | {"device": "../etc"}
    return {key: value for key, value in row.items() if key != "first_bad"}


def with_rows(body: bytes, change: Any) -> bytes:
    message = json.loads(body)
    message["rows"] = [change(row) for row in message["rows"]]
    return json.dumps(message).encode()
