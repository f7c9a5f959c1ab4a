"""Evidence on its way: after the rows, never in their way, and the same again does no harm."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from rigs.moments import HandClock
from rigs.ports import wait_until
from rigs.readings import running
from rigs.site import Site, forwarder
from rigs.watching import Floor, conveyor, watching
from structlog.testing import capture_logs

from edge_agent import wire
from edge_agent.evidence import Evidence, Thread, Window
from edge_agent.evidence_file import FILE
from edge_agent.evidence_lane import MOST_BYTES, EvidenceLane
from edge_agent.forward import CollectorAwayError, Forwarder, Reply, Rest
from edge_agent.recorder import Recorder

MIB = 1 << 20
JAM = "v1|north|belt-1|belt|jam"


class Line:
    """A gateway and its collector. ``answer`` may stand in for what the collector says to evidence."""

    def __init__(self, floor: Floor, evidence: Evidence, site: Site, clock: HandClock) -> None:
        self.floor, self.evidence, self.site, self.clock = floor, evidence, site, clock
        self.answer: Callable[[], Reply | Exception] | None = None
        self.said: list[wire.EvidenceRequest] = []
        # While it is clear an answer does not come.
        self.way = asyncio.Event()
        self.way.set()
        self.lane = EvidenceLane(evidence, self.post, stamp=clock.stamp, random=random.Random(1))
        self.forward: Forwarder = forwarder(
            floor.journal, floor.watch, site, random.Random(1), aside=self.lane
        )

    async def post(self, body: bytes) -> Reply:
        message = wire.decode_message(body)
        assert isinstance(message, wire.EvidenceRequest)
        self.said.append(message)
        await self.way.wait()
        made = self.answer() if self.answer is not None else await self.site.post_evidence(body)
        if isinstance(made, Exception):
            raise made
        return made

    async def jam(self, times: int = 1, *, apart_s: float = 1) -> None:
        for _ in range(times):
            await self.floor.status(jam=True)
            self.clock.go(1)
            await self.floor.status()
            self.clock.go(apart_s)
        async with running(self.evidence.run()):
            await wait_until(lambda: self.evidence.figures["evidence_waiting"] > 0)
            await asyncio.sleep(0.05)

    async def idle(self) -> Rest:
        """The rows are told."""
        while not (rest := await self.forward.exchange()).idle:
            pass
        return rest

    async def settled(self) -> None:
        """So is all that is to be told beside them."""
        async with running(self.forward._rest(await self.idle())):
            await wait_until(lambda: self.evidence.figures["evidence_waiting"] == 0)

    async def says(self, *answers: Reply | Exception) -> None:
        """Run the lane until it has given these answers, then look for a moment."""
        left = list(answers)
        self.answer = lambda: left.pop(0)
        before = len(self.said)
        async with running(self.lane.run()):
            await wait_until(lambda: len(self.said) >= before + len(answers))
            await asyncio.sleep(0.05)
        self.answer = None


@asynccontextmanager
async def line(folder: Path) -> AsyncIterator[Line]:
    clock, devices = HandClock(), [conveyor()]
    recorder = Recorder(devices)
    async with watching(folder, clock, devices, recorder=recorder) as floor:
        evidence = Evidence(
            recorder,
            devices,
            Thread(folder, max_bytes=4 * MIB),
            clock.stamp,
            window=Window(before_s=60, after_s=10),
        )
        floor.journal.on_written = evidence.written
        yield Line(floor, evidence, Site(folder, clock), clock)
        await evidence.close()


@pytest.mark.parametrize("damage", ["part = 'be&ore'", "uid = x'ff'", "uid = 'none'"])
async def test_a_part_whose_name_was_damaged_keeps_no_other_waiting(tmp_path: Path, damage: str) -> None:
    async with line(tmp_path) as gateway:
        await gateway.jam(2, apart_s=30)
        with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as sql:
            sql.execute(f"UPDATE part SET {damage} WHERE seq = 1")
        with capture_logs() as told:
            await gateway.settled()
        # What was before the second, and after the first.
        assert gateway.site.evidence() == {(JAM, "before"), (JAM, "after")}
        assert gateway.evidence.figures["evidence_given_up"] == 1
        assert [one["event"] for one in told if one["log_level"] == "error"] == [
            "evidence is damaged and cannot be told"
        ]


async def test_evidence_follows_its_occurrence(tmp_path: Path) -> None:
    async with line(tmp_path) as gateway:
        await gateway.jam()
        assert gateway.site.evidence() == set()
        await gateway.settled()
        assert gateway.site.evidence() == {(JAM, "before")}
        gateway.clock.go(20)
        async with running(gateway.evidence.run()):
            await wait_until(lambda: gateway.evidence.figures["evidence_waiting"] == 1)
        await gateway.settled()
        assert gateway.site.evidence() == {(JAM, "before"), (JAM, "after")}


async def test_rows_break_off_a_message_of_evidence_and_it_is_told_again(tmp_path: Path) -> None:
    async with line(tmp_path) as gateway:
        await gateway.jam()
        rest = await gateway.idle()
        gateway.way.clear()
        resting = asyncio.create_task(gateway.forward._rest(rest))
        await wait_until(lambda: len(gateway.said) == 1)
        await gateway.floor.status(jam=True)
        await resting
        messages = len(gateway.site.messages)
        await gateway.forward.exchange()
        assert [row["state"] for row in gateway.site.messages[messages].rows] == ["open"]
        assert gateway.site.evidence() == set()
        gateway.way.set()
        await gateway.settled()
        assert (JAM, "before") in gateway.site.evidence()


async def test_while_there_are_rows_to_tell_no_evidence_is_told(tmp_path: Path) -> None:
    async with line(tmp_path) as gateway:
        # Too seldom for one occurrence that comes and goes.
        await gateway.jam(100, apart_s=1200)
        gateway.forward._max_rows = gateway.forward._at_most_rows = 3
        rests = []
        while True:
            rest = await gateway.forward.exchange()
            rests.append(rest)
            if rest.idle:
                break
            await gateway.forward._rest(rest)
        assert len(rests) > 30
        assert gateway.said == []


async def test_a_lost_reply_and_a_lost_request_lose_nothing(tmp_path: Path) -> None:
    async with line(tmp_path) as gateway:
        await gateway.jam(3)
        rng, lossy = random.Random(5), [True]
        gateway.site.loses_request = lambda: lossy[0] and rng.random() < 0.4
        gateway.site.loses_reply = lambda: lossy[0] and rng.random() < 0.4
        async with running(gateway.lane.run()):
            for _ in range(200):
                gateway.clock.go(300)
                await asyncio.sleep(0.002)
        lossy[0] = False
        gateway.clock.go(3_600)
        await gateway.settled()
        assert gateway.site.evidence() == {(JAM, "before")}


async def test_an_older_collector_refuses_the_lane_and_gets_the_rows(tmp_path: Path) -> None:
    async with line(tmp_path) as gateway:
        await gateway.jam()
        with capture_logs() as logs:
            await gateway.says(Reply(status=400))
            await gateway.says()
        assert len(gateway.said) == 1
        assert len([one for one in logs if "takes no evidence" in one["event"]]) == 1
        await gateway.forward.exchange()
        assert gateway.site.tickets(JAM) == 1
        # It was away, and perhaps is a newer one.
        gateway.site.loses_request = lambda: True
        await gateway.forward.exchange()
        gateway.site.loses_request = lambda: False
        await gateway.settled()
        assert gateway.site.evidence() == {(JAM, "before")}


async def test_a_busy_collector_gets_it_later_and_the_feed_does_not_wait(tmp_path: Path) -> None:
    async with line(tmp_path) as gateway:
        await gateway.jam()
        await gateway.says(Reply(status=503, retry_after_s=100.0))
        await gateway.says()
        assert len(gateway.said) == 1
        await gateway.floor.status(jam=True)
        await gateway.forward.exchange()
        assert gateway.site.open_tickets() == [JAM]
        gateway.clock.go(250)
        await gateway.settled()
        assert (JAM, "before") in gateway.site.evidence()


@pytest.mark.parametrize(
    "answer",
    [Reply(status=500), Reply(status=403), Reply(status=200, body=b"?"), CollectorAwayError("no way")],
)
async def test_whatever_the_collector_says_it_is_tried_again_later(
    tmp_path: Path, answer: Reply | Exception
) -> None:
    async with line(tmp_path) as gateway:
        await gateway.jam()
        await gateway.says(answer)
        gateway.clock.go(3_600)
        await gateway.settled()
        assert gateway.site.evidence() == {(JAM, "before")}


async def test_too_much_at_once_is_told_in_smaller_messages(tmp_path: Path) -> None:
    async with line(tmp_path) as gateway:
        await gateway.jam(40)
        left = 3

        def answer() -> Reply:
            nonlocal left
            left -= 1
            return Reply(status=413)

        gateway.answer = answer
        async with running(gateway.lane.run()):
            await wait_until(lambda: left <= 0)
            gateway.answer = lambda: Reply(status=503, retry_after_s=1.0)
        assert gateway.lane._max_bytes <= MOST_BYTES // 8
        gateway.answer = None
        gateway.clock.go(3_600)
        await gateway.settled()
        assert (JAM, "before") in gateway.site.evidence()


async def test_a_collector_that_was_restored_gets_its_evidence_again(tmp_path: Path) -> None:
    async with line(tmp_path) as gateway:
        backup = gateway.site.backup()
        await gateway.jam()
        await gateway.settled()
        gateway.site.restore(backup)
        assert gateway.site.evidence() == set()
        await gateway.forward.exchange()
        gateway.clock.go(60)
        await gateway.settled()
        await gateway.settled()
        assert gateway.site.evidence() == {(JAM, "before")}


async def test_an_error_of_its_own_stops_no_row(tmp_path: Path) -> None:
    async with line(tmp_path) as gateway:
        await gateway.jam()
        await gateway.says(RuntimeError("a bug"))
        await gateway.floor.status(jam=True)
        await gateway.forward.exchange()
        assert gateway.site.open_tickets() == [JAM]
