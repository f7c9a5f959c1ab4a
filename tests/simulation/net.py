"""The network between gateways and collectors: it loses, delays, doubles and reorders, and a collector may
die while it works.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from simulation import skew
from simulation.hub import Collector
from simulation.virtual import LIFE, Killed

from collector.guard import DATABASE_RETRY_S
from collector.ingest import StreamRefusedError
from collector.store import DATABASE_AWAY
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A message that has reached a collector. ``reply``: None when nobody waits for it any more."""

    box: Box
    body: bytes
    reply: asyncio.Future[Reply] | None


class Net:
    def __init__(self, world: World, rng: random.Random) -> None:
        self.world = world
        # By box: until when nothing comes through, and until when only replies are lost.
        self.cut: dict[str, float] = {}
        self.deaf: dict[str, float] = {}
        # By box: so long is what it says on its way.
        self.late: dict[str, float] = {}
        # Which collector, and when its writer turns to what waits.
        self.rng = rng

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
        body = world.ledger.spoil(box, skew.said(body, box.version))
        world.laws.sent(body)
        if self.cut.get(box.name, 0.0) > world.now:
            world.count("requests into a partition")
        elif chaos and rng.random() < dials.lose:
            world.count("requests lost")
        else:
            loop.call_later(self.late.get(box.name) or self._way(), self._arrive, box, body, reply)
        if chaos and rng.random() < dials.double:
            world.count("requests doubled")
            for _ in range(rng.choice([1, 1, 3])):
                loop.call_later(self._late(), self._arrive, box, body, None)
        try:
            async with asyncio.timeout(PATIENCE_S):
                answer = await reply
        except TimeoutError as error:
            raise CollectorAwayError("no reply in time") from error
        return replace(answer, body=skew.heard(answer.body, box.version))

    def _way(self) -> float:
        world = self.world
        if world.quiet or world.rng.random() > world.dials.delay:
            return WAY_S * (0.5 + world.rng.random())
        return world.rng.choice([0.2, 0.9, 5.0, 19.0, 40.0, 300.0]) * world.rng.random()

    def _late(self) -> float:
        return self.world.rng.choice([0.0, 1.0, 30.0, 300.0, 3_000.0]) * self.world.rng.random()

    def collector(self) -> Collector | None:
        """To which the balancer sends a request; None when that one is down."""
        up = [one for one in self.world.collectors if one.down_until <= self.world.now]
        noticed = up and self.rng.random() < 0.8
        chosen = self.rng.choice(up if noticed else self.world.collectors)
        return chosen if chosen in up else None

    def _arrive(self, box: Box, body: bytes, reply: asyncio.Future[Reply] | None) -> None:
        LIFE.set(None)
        world = self.world
        if world.failure is not None:
            return
        collector = self.collector()
        if collector is None:
            if reply is not None and not reply.done():
                reply.set_exception(CollectorAwayError("connection refused"))
            return
        collector.waiting.append(Job(box=box, body=body, reply=reply))
        if world.dials.group_s == 0.0 or world.quiet:
            self._work_off(collector)
        elif len(collector.waiting) == 1:
            loop = asyncio.get_running_loop()
            loop.call_later(self.rng.uniform(0, world.dials.group_s), self._work_off, collector)

    def _work_off(self, collector: Collector) -> None:
        """All that waits for its writer, in one transaction."""
        LIFE.set(None)
        world = self.world
        jobs, collector.waiting = collector.waiting, []
        if not jobs or world.failure is not None:
            return
        for job, answer in zip(jobs, self._answers(collector, jobs), strict=True):
            if answer is None or job.reply is None:
                continue
            if self.deaf.get(job.box.name, 0.0) > world.now or (
                not world.quiet and world.rng.random() < world.dials.lose
            ):
                world.count("replies lost")
                continue
            asyncio.get_running_loop().call_later(self._way(), self._deliver, job.reply, answer)

    def _answers(self, collector: Collector, jobs: Sequence[Job]) -> Sequence[Reply | None]:
        """None: the collector died of it."""
        world, hub = self.world, self.world.hub
        dies_after = False
        if not world.quiet and world.rng.random() < world.dials.hub_kills:
            dies_after = world.rng.random() < 0.4
            hub.database.fuse = -1 if dies_after else world.rng.randrange(60 * len(jobs))
        try:
            answers = hub.syncs(
                [(job.box.gateway, job.body) for job in jobs],
                world.now_ms + collector.clock_error_ms,
                collector.behind_ms,
            )
        except Killed:
            self.dies(collector, "within a transaction")
            return [None] * len(jobs)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is a finding
            world.fail("the collector crashed on a message", error)
            return [None] * len(jobs)
        if not world.quiet and world.dials.hub_kills:
            hub.database.fuse = -1
        if dies_after or world.dies_after_its_commit():
            self.dies(collector, "after a commit, before its answer")
            return [None] * len(jobs)
        if world.dials.forged and self.rng.random() < 0.1:
            self._forge(jobs[-1])
        if len(jobs) > 1:
            world.count("messages that shared a commit", len(jobs))
        return [self._reply(collector, answer) for answer in answers]

    def _forge(self, job: Job) -> None:
        """The same message with the credential of another gateway."""
        world, hub = self.world, self.world.hub
        (other,) = (one for one in hub.gateways if one != job.box.gateway)
        if wire.decode_sync(job.body).stream not in hub.positions():
            return
        world.count("messages under a foreign credential")
        before = hub.database.raw.total_changes
        (answer,) = hub.syncs([(other, job.body)], world.now_ms)
        if not isinstance(answer, StreamRefusedError) or hub.database.raw.total_changes != before:
            world.fail(f"C1: a message under a foreign credential was answered with {answer}")

    def _reply(self, collector: Collector, answer: wire.SyncAnswer | BaseException) -> Reply | None:
        if isinstance(answer, wire.SyncAnswer):
            return Reply(status=200, body=skew.answered(wire.encode(answer), collector.version))
        if isinstance(answer, DATABASE_AWAY):
            self.world.count("messages refused by a full disk")
            return Reply(status=503, retry_after_s=DATABASE_RETRY_S)
        self.world.fail("the collector refused or crashed on a message", answer)
        return None

    def dies(self, collector: Collector, why: str) -> None:
        world = self.world
        world.count("collector kills")
        world.tell(f"collector {collector.number} is killed {why}")
        collector.down_until = world.now + world.rng.choice([0.0, 1.0, 20.0, 90.0])
        collector.waiting.clear()

    @staticmethod
    def _deliver(reply: asyncio.Future[Reply], answer: Reply) -> None:
        if not reply.done():
            reply.set_result(answer)


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
