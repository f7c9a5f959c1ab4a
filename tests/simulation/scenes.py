"""Worlds in which little goes wrong, but just that which seeds seldom bring together."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from simulation.box import Box, Disk
from simulation.dials import TINY
from simulation.people import Wanted
from simulation.skew import Version
from simulation.small import calm
from simulation.world import World

from collector import redating
from collector.store import tables
from collector.tickets import Acknowledge, Reopen, Resolve
from edge_agent import wire
from edge_agent.forward import CollectorAwayError, Reply
from edge_agent.journal_caps import Given
from edge_agent.wire import CLOCK, CLONED, Lane

# (when, belt, fault): a fault begins, or ends if it is there.
Turns = Sequence[tuple[float, str, str]]
# What ``Disk.copy`` makes.
Image = tuple[bytes, dict[str, dict[str, Any]]]
# For so long a scene waits for what has to come, in simulated time; more in a long quiet time.
WAITS_S = 3_600.0


@dataclass(slots=True)
class Scene(World):
    def __post_init__(self) -> None:
        World.__post_init__(self)
        calm(self, poll_s=1.0, duration_s=0.0)
        self.director.direct = self.play  # type: ignore[method-assign]

    async def play(self) -> None:
        raise NotImplementedError

    async def pass_quietly(self, seconds: float, *, stretch: float) -> None:
        self.stretch = stretch
        await asyncio.sleep(seconds)
        self.stretch = 1.0
        woken, self.woken = self.woken, asyncio.Event()
        assert woken is not None
        woken.set()

    async def until(self, so: Callable[[], bool], *, look_every_s: float = 0.01) -> None:
        """Fails the scene when it does not come."""
        waits_s = WAITS_S * self.stretch
        end = self.now + waits_s
        while not so():
            if self.now > end:
                self.fail(f"what {type(self).__name__} waits for has not come in {waits_s / 60:.0f} minutes")
                return
            await asyncio.sleep(look_every_s)

    async def turn(self, turns: Turns) -> None:
        for at, name, fault in turns:
            await asyncio.sleep(at - self.now)
            self.belts[name].turn(fault, self.now)

    async def jam_seldom(self, times: int) -> None:
        """Too seldom for one fault that comes and goes (chatter.py), each time for several rare readings."""
        self.stretch = 40.0
        await self.turn([(self.now + 455.0 * number, "belt-1", "jam") for number in range(2 * times)])
        await self.pass_quietly(0.0, stretch=1.0)


@dataclass(slots=True)
class TwoBoxes(Scene):
    """A copy of a gateway's disk runs in a second box for ten minutes: somebody has to be told, nothing that
    was sent is lost, and one box alone converges again.
    """

    async def play(self) -> None:
        box = self.boxes[0]
        await self.turn([(5.0, "belt-1", "jam")])
        await asyncio.sleep(25.0)
        twin = box.clone(random.Random(1))
        self.cloned[box.gateway.id] = float("inf")
        self.begin(twin)
        await self.turn([(90.0, "belt-1", "jam"), (200.0, "belt-2", "overload"), (400.0, "belt-3", "jam")])
        await asyncio.sleep(230.0)
        told = self.hub.database.raw.execute(
            "SELECT count(*) FROM ticket WHERE device = ? AND fault = ?", (box.gateway.name, CLONED)
        ).fetchone()
        if told != (1,):
            self.fail(f"C7: two boxes spoke as {box.gateway.name}, there are {told[0]} tickets that say so")
        await self.turn([(632.0, "belt-1", "jam")])
        self.director.part(box, twin, clone_stays=self.seed % 2 == 0)


@dataclass(slots=True)
class TwoHistories(Scene):
    """A disk is rolled back while nobody listens, and later the database too: to a position that the other
    history of that disk has sent, which lies below the cursor of this one.
    """

    async def play(self) -> None:
        box, empty = self.boxes[0], self.backups[0]
        await asyncio.sleep(4.0)
        copied = box.disk.copy()
        await self.turn([(5.0 + 3 * number, "belt-1", "jam") for number in range(4)])
        await asyncio.sleep(10.0)
        self.back_up()
        box.dark = True
        box.kill("for good")
        box.disk = Disk(copied)
        self.restore(empty)
        self.net.cut[box.name] = self.now + 30.0
        await self.turn([(30.0 + 4 * number, "belt-1", "jam") for number in range(8)])
        await asyncio.sleep(30.0)
        self.restore(self.backups[1])
        await asyncio.sleep(5.0)


@dataclass(slots=True)
class LongSilence(Scene):
    """What happened before forty days without network is told after them."""

    async def play(self) -> None:
        box = self.boxes[0]
        self.net.cut[box.name] = float("inf")
        await self.turn([(5.0, "belt-1", "jam"), (9.0, "belt-1", "jam"), (12.0, "belt-2", "jam")])
        await asyncio.sleep(5.0)
        # An anchor each four days, and one pruning in five of them.
        await self.pass_quietly(40 * 86_400.0, stretch=5_760.0)
        self.net.cut.clear()
        await asyncio.sleep(30.0)


@dataclass(slots=True)
class EverybodyWakes(Scene):
    """A jam goes on while its gateway gets an empty disk and reaches nothing; then the first reading and the
    next message fall into one moment.
    """

    async def play(self) -> None:
        box = self.boxes[0]
        box.belts = ["belt-1"]
        await asyncio.sleep(2.0)
        box.dark = True
        box.kill("to be set up anew")
        await self.turn([(4.0, "belt-1", "jam")])
        await asyncio.sleep(20.0)
        self.belts["belt-1"].cut_off = True
        box.dark = True
        box.kill("for good")
        box.disk = Disk()
        await asyncio.sleep(60.0)
        # The next reading is far away, and messages go on.
        self.dials.poll_s = 500.0
        await asyncio.sleep(5.0)
        self.stretch = 10.0
        await asyncio.sleep(1_000.0)
        self.belts["belt-1"].cut_off = False
        # A reading may fail.
        for _ in range(3):
            await self.pass_quietly(0.0, stretch=10.0)
            self.stretch = 10.0
            await asyncio.sleep(30.0)
        self.dials.poll_s = 1.0
        await self.pass_quietly(0.0, stretch=1.0)


@dataclass(slots=True)
class FullJournal(Scene):
    """A belt jams a hundred times while its gateway is cut off, and another has one fault for long: more than
    the journal holds. All of it is there in the end, rolled up, or told as lost.
    """

    def __post_init__(self) -> None:
        Scene.__post_init__(self)
        self.dials.caps = TINY

    async def play(self) -> None:
        box = self.boxes[0]
        await self.turn([(2.0, "belt-2", "overload")])
        await asyncio.sleep(8.0)
        self.net.cut[box.name] = float("inf")
        await self.jam_seldom(100)
        self.net.cut.clear()
        await asyncio.sleep(30.0)

    async def _heal(self) -> None:
        await World._heal(self)
        given_up = self.boxes[0].disk.counted()
        if not (given_up[Given.ROWS_ROLLED_UP] and given_up[Given.ROWS_DROPPED]):
            self.fail("nothing was rolled up, or nothing dropped: the scene plays nothing")


@dataclass(slots=True)
class LossToldAgain(Scene):
    """A full disk makes a gateway drop what nobody has yet, and it says so. Then it begins a new stream, the
    database is put back to before all that, and it begins another stream: told each time, counted once.
    """

    def __post_init__(self) -> None:
        Scene.__post_init__(self)
        self.dials.full_disks = True

    async def play(self) -> None:
        box, empty = self.boxes[0], self.backups[0]
        await asyncio.sleep(5.0)
        self.net.cut[box.name] = float("inf")
        box.disk.has_room(False)
        await self.jam_seldom(20)
        box.disk.has_room(True)
        self.net.cut.clear()
        await self.until(self.laws.settled)
        if not self.dropped[box.gateway.id]:
            self.fail("nothing was dropped: the scene plays nothing")
        await self._new_stream(box)
        self.restore(empty)
        # Until its next heartbeat at least.
        await asyncio.sleep(20.0)
        await self._new_stream(box)

    async def _new_stream(self, box: Box) -> None:
        assert box.life is not None
        assert box.life.journal is not None
        await box.life.journal.new_stream()
        await self.until(self.laws.settled)


@dataclass(slots=True)
class LatePresent(Scene):
    """The present is told in several messages ahead of a history that does not move meanwhile. A fault begins
    after the first of them, and that comes once more when the fault has been told.
    """

    early: bytes = b""
    told_late: bool = False

    def __post_init__(self) -> None:
        Scene.__post_init__(self)
        self.dials.max_rows = 1

    async def play(self) -> None:
        box, post = self.boxes[0], self.net.post

        async def doubled(sender: Box, body: bytes) -> Reply:
            reply = await post(sender, body)
            message = wire.decode_sync(body)
            if sender is not box or message.lane is not Lane.PRESENT or self.told_late:
                return reply
            if not self.early:
                self.early = body
                self.belts["belt-2"].turn("jam", self.now)
                # The reply takes as long as it takes to notice that.
                await asyncio.sleep(5.0)
            elif any(raw["device"] == "belt-2" for raw in message.rows):
                self.told_late = True
                self.net._arrive(box, self.early, None)
            return reply

        self.net.post = doubled  # type: ignore[method-assign]
        await asyncio.sleep(5.0)
        self.net.cut[box.name] = float("inf")
        await self.turn([(8.0 + 3 * number, "belt-1", "jam") for number in range(7)])
        await self.turn([(30.0, "belt-1", "overload")])
        await asyncio.sleep(10.0)
        self.net.cut.clear()
        await asyncio.sleep(60.0)
        if not self.told_late:
            self.fail("no present came late: the scene plays nothing")


@dataclass(slots=True)
class LateHead(Scene):
    """The first message of the history is under way for long. Meanwhile another fault begins and is told
    ahead; then that message arrives, and its head does not name it.
    """

    early: bytes = b""
    told_late: bool = False

    def __post_init__(self) -> None:
        Scene.__post_init__(self)
        self.dials.max_rows = 1

    async def play(self) -> None:
        box, post = self.boxes[0], self.net.post

        async def held_up(sender: Box, body: bytes) -> Reply:
            message = wire.decode_sync(body)
            if sender is not box or self.told_late:
                return await post(sender, body)
            if message.lane is Lane.FEED and message.rows:
                self.early = self.early or body
                raise CollectorAwayError("no reply in time")
            reply = await post(sender, body)
            if any(raw["fault"] == "overload" for raw in message.rows):
                self.told_late = True
                self.net._arrive(box, self.early, None)
            return reply

        self.net.post = held_up  # type: ignore[method-assign]
        await self.turn([(30.0, "belt-1", "jam")])
        await self.until(lambda: self.early != b"")
        self.belts["belt-1"].turn("overload", self.now)
        await asyncio.sleep(90.0)
        if not self.told_late:
            self.fail("no head came late: the scene plays nothing")


@dataclass(slots=True)
class LateWords(Scene):
    """Messages of boxes that were replaced meanwhile are on their way for long. The first say, of a stream
    that was never heard of, that nothing is wrong; the others tell of a fault that is over. The first words
    of another gateway are late, too: its clock is right.
    """

    async def play(self) -> None:
        self.dials.focus = True
        box, other = self.boxes
        self.net.late[other.name] = 60.0
        # Until then it has read everything.
        self.net.cut[box.name] = 20.0
        await asyncio.sleep(20.0)
        self.net.late[box.name] = 100.0
        await asyncio.sleep(25.0)
        del self.net.late[other.name]
        await asyncio.sleep(15.0)
        self._replace(box)
        await self.turn([(70.0, "belt-1", "jam")])
        await asyncio.sleep(110.0)
        self.net.late[box.name] = 100.0
        await self.turn([(182.0, "belt-2", "jam")])
        await asyncio.sleep(30.0)
        self._replace(box)
        await self.turn([(213.0, "belt-2", "jam")])
        await asyncio.sleep(120.0)

    def _replace(self, box: Box) -> None:
        """By one with an empty disk."""
        del self.net.late[box.name]
        put_back(box, Disk().copy())


@dataclass(slots=True)
class WorseAndBetter(Scene):
    """Faults get worse and better while they go on, as an agent of a later version tells it; and of one of
    them a disk that was rolled back tells more than the collector knows, though it has ended.
    """

    async def play(self) -> None:
        self.dials.focus = True
        box = self.boxes[0]
        box.version = Version.LATER
        await self.turn([(5.0, "belt-1", "jam")])
        await asyncio.sleep(5.0)
        young = box.disk.copy()
        await self._worsen(box, 20.0, times=4)
        worse = box.disk.copy()
        await self.turn([(self.now + 1.0, "belt-1", "jam"), (self.now + 20.0, "belt-1", "jam")])
        await asyncio.sleep(20.0)
        # It has ended in the sixth form, and goes on in the ninth.
        self.net.cut[box.name] = self.now + 40.0
        await self._put_back(box, worse)
        await self._worsen(box, 5.0, times=4)
        await asyncio.sleep(60.0)
        # It went on in the fifth when its disk was lost, and ends in the second.
        self.restore(self.backups[0])
        await self._put_back(box, worse)
        await asyncio.sleep(40.0)
        await self._put_back(box, Disk().copy())
        await asyncio.sleep(40.0)
        self.belts["belt-1"].turn("jam", self.now)
        await self._put_back(box, young)
        # And one that is held in its newest form, whatever the others look like.
        self.belts["belt-2"].turn("jam", self.now)
        await asyncio.sleep(40.0)
        await self._worsen(box, 20.0, times=6)

    async def _worsen(self, box: Box, every_s: float, *, times: int) -> None:
        for _ in range(times):
            if box.life is not None:
                box.life.worsen()
            await asyncio.sleep(every_s)

    async def _put_back(self, box: Box, disk: Image) -> None:
        put_back(box, disk)
        await asyncio.sleep(10.0)


@dataclass(slots=True)
class TwoDisks(Scene):
    """Two copies of one disk, of which each has sent what the other does not know, and a database that was
    put back to before that.
    """

    async def play(self) -> None:
        self.dials.focus = True
        box = self.boxes[0]
        await asyncio.sleep(4.0)
        self.back_up()
        young = box.disk.copy()
        await self.turn([(5.0, "belt-1", "jam"), (8.0, "belt-1", "jam")])
        await asyncio.sleep(6.0)
        grown = box.disk.copy()
        self.restore(self.backups[1])
        put_back(box, young)
        # One row more than the other has; less than that will have, when it tells that it did not run.
        await self.turn([(30.0, "belt-2", "jam")])
        await asyncio.sleep(20.0)
        put_back(box, grown)
        await asyncio.sleep(60.0)


@dataclass(slots=True)
class Unreadable(Scene):
    """The row of one fault is garbled on its way; the row of another is such that it can never be read, and
    what was held of that fault was on a disk that is gone.
    """

    async def play(self) -> None:
        self.dials.focus = True
        box = self.boxes[0]
        await self.turn([(5.0, "belt-1", "jam")])
        await asyncio.sleep(5.0)
        # The first attempt is lost, the next one is not.
        self.net.cut[box.name] = self.now + 18.0
        put_back(box, Disk().copy())
        await asyncio.sleep(16.0)
        (row,) = box.disk.rows()
        self.ledger.spoilt[row["uid"], row["rev"]] = 0
        await asyncio.sleep(30.0)
        self.net.cut[box.name] = self.now + 18.0
        await self.turn([(self.now + 1.0, "belt-2", "jam")])
        await asyncio.sleep(15.0)
        self.ledger.garbled.add(box.disk.rows()[-1]["uid"])
        await asyncio.sleep(60.0)
        if not self.ledger.were_garbled:
            self.fail("no row was garbled: the scene plays nothing")


@dataclass(slots=True)
class Garbled(Scene):
    """A fault comes and goes; the row that tells that it is there again is garbled on its way, and the answer
    to it is lost.
    """

    async def play(self) -> None:
        box = self.boxes[0]
        await self.turn([(5.0 + 3 * number, "belt-1", "jam") for number in range(8)])
        await asyncio.sleep(5.0)
        self.net.cut[box.name] = self.now + 18.0
        await self.turn([(self.now + 1.0, "belt-1", "jam")])
        await asyncio.sleep(15.0)
        (row,) = (row for row in box.disk.rows() if row["state"] == "open")
        self.ledger.garbled.add(row["uid"])
        self.net.deaf[box.name] = self.now + 60.0
        await asyncio.sleep(120.0)
        if "pauses" not in row or not self.ledger.were_garbled:
            self.fail("no row of what comes and goes was garbled: the scene plays nothing")


@dataclass(slots=True)
class ToldAhead(Scene):
    """A present was told far ahead of the history, by a disk that is rolled back before the history is told.
    What it was about is over then.
    """

    async def play(self) -> None:
        self.dials.focus, self.dials.max_rows = True, 1
        box = self.boxes[0]
        await asyncio.sleep(5.0)
        young = box.disk.copy()
        self.net.cut[box.name] = self.now + 60.0
        await self.turn([(8.0 + 3 * number, "belt-1", "jam") for number in range(12)])
        await self.turn([(50.0, "belt-2", "jam")])
        await self.until(lambda: self.figures["presents ahead of history, ok"] > 0)
        put_back(box, young)
        self.belts["belt-2"].turn("jam", self.now)
        await asyncio.sleep(60.0)


@dataclass(slots=True)
class OldLook(Scene):
    """Two acknowledge what was on the screen, one of them without saying what it was; the fault has gone and
    returned since.
    """

    async def play(self) -> None:
        self.people.enrol()
        alice = self.people.persons[0]
        await self.turn([(5.0, "belt-1", "jam")])
        await asyncio.sleep(5.0)
        self.people._look(alice)
        ((ticket_id, look),) = alice.seen.items()
        given = Acknowledge(given_ms=self.now_ms)
        await self.turn([(12.0, "belt-1", "jam"), (20.0, "belt-1", "jam")])
        await asyncio.sleep(5.0)
        for person, seen in zip(self.people.persons, (look, replace(look, version=None)), strict=False):
            wanted = Wanted(actor=person.actor, ticket_id=ticket_id, command=given, key="a" * 32, look=seen)
            if not self.people._arrives(wanted):
                self.fail("nobody answered: the scene plays nothing")


@dataclass(slots=True)
class NotFixed(Scene):
    """A lead says that what has ended is not fixed. A quarter of an hour later the fault is there again for a
    moment, and a quarter of an hour after that.
    """

    async def play(self) -> None:
        self.people.enrol()
        lea = self.people.persons[2]
        await self.turn([(5.0, "belt-1", "jam"), (12.0, "belt-1", "jam")])
        await asyncio.sleep(5.0)
        self.people._look(lea)
        ((ticket_id, look),) = lea.seen.items()
        reopen = Reopen(note="it squeals")
        wanted = Wanted(actor=lea.actor, ticket_id=ticket_id, command=reopen, key="a" * 32, look=look)
        if not self.people._arrives(wanted):
            self.fail("nobody answered: the scene plays nothing")
        for _ in range(2):
            await self.pass_quietly(900.0, stretch=40.0)
            await self.turn([(self.now, "belt-1", "jam"), (self.now + 10.0, "belt-1", "jam")])
            await asyncio.sleep(5.0)


@dataclass(slots=True)
class Overridden(Scene):
    """A lead resolves what is reported; a day later it is reported still."""

    async def play(self) -> None:
        self.people.enrol()
        lea = self.people.persons[2]
        await self.turn([(5.0, "belt-1", "jam")])
        await asyncio.sleep(5.0)
        self.people._look(lea)
        ((ticket_id, look),) = lea.seen.items()
        done = Resolve(note="it squeals", override=True)
        wanted = Wanted(actor=lea.actor, ticket_id=ticket_id, command=done, key="a" * 32, look=look)
        if not self.people._arrives(wanted):
            self.fail("nobody answered: the scene plays nothing")
        await self.pass_quietly(25 * 3_600.0, stretch=2_000.0)
        await asyncio.sleep(30.0)


@dataclass(slots=True)
class LookBeforeARestore(Scene):
    """Somebody acknowledges what was on the screen before the database was put back; the fault has returned
    since, and what happened is told anew in one message.
    """

    async def play(self) -> None:
        self.people.enrol()
        alice = self.people.persons[0]
        await self.turn([(5.0, "belt-1", "jam")])
        await asyncio.sleep(3.0)
        self.back_up()
        await self.turn([(10.0, "belt-1", "jam"), (16.0, "belt-1", "jam"), (22.0, "belt-1", "jam")])
        await asyncio.sleep(6.0)
        self.people._look(alice)
        ((ticket_id, look),) = alice.seen.items()
        given = Acknowledge(given_ms=self.now_ms)
        await self.turn([(30.0, "belt-1", "jam")])
        await asyncio.sleep(6.0)
        self.restore(self.backups[-1])
        await asyncio.sleep(30.0)
        wanted = Wanted(actor=alice.actor, ticket_id=ticket_id, command=given, key="a" * 32, look=look)
        if not self.people._arrives(wanted):
            self.fail("nobody answered: the scene plays nothing")


@dataclass(slots=True)
class SilentBoots(Scene):
    """Two boots that never spoke lie between two that did, long after the first of these. The clock of one
    was never set, that of the other is a month ahead; what is told of them comes row by row.
    """

    wall_error_ms: int = 0

    async def play(self) -> None:
        self.dials.max_rows = 1
        box = self.boxes[0]
        await asyncio.sleep(70.0)
        self.net.cut[box.name] = float("inf")
        for error_ms in (-self.now_ms, 30 * 86_400_000, 0):
            self.wall_error_ms, box.dark = error_ms, True
            box.kill("as the power goes")
            await self.pass_quietly(1_000.0, stretch=10_000.0)
            await self.turn([(self.now + 5.0, "belt-1", "jam"), (self.now + 15.0, "belt-1", "jam")])
            await asyncio.sleep(60.0)
        self.net.cut.clear()
        # No message is quicker than the first: none says better when its boot was.
        self.net.late[box.name], exchanges = 0.001, box.exchanges
        await self.until(lambda: box.exchanges > exchanges)
        self.net.late[box.name] = 0.5
        await asyncio.sleep(90.0)
        for row in (one for one in self.hub.all_of(tables.occurrence) if not one["minted"]):
            off_ms = row["start_ms"] - box.truth_ms(row["row"]["first_bad"])
            if abs(off_ms) > row["error_ms"] + 1_000:
                self.fail(f"I12: {row['uid']} is off by {off_ms:.0f} ms, stated {row['error_ms']}")

    def _between_lives(self, box: Box) -> None:
        World._between_lives(self, box)
        boot = box.boots[box.boot]
        boot.wall_error_ms, boot.synchronised = self.wall_error_ms, self.wall_error_ms == 0


@dataclass(slots=True)
class LateHour(Scene):
    """Of one hour there are only messages that were late, and a fault in it."""

    async def play(self) -> None:
        box = self.boxes[0]
        await asyncio.sleep(60.0)
        self.net.cut[box.name] = float("inf")
        await self.pass_quietly(3_700.0, stretch=100.0)
        self.net.cut.clear()
        self.net.late[box.name] = 100.0
        await self.turn([(self.now + 5.0, "belt-1", "jam"), (self.now + 15.0, "belt-1", "jam")])
        await asyncio.sleep(60.0)
        self.net.late.clear()
        self.net.cut[box.name] = float("inf")
        await self.pass_quietly(3_700.0, stretch=100.0)
        self.net.cut.clear()
        await asyncio.sleep(60.0)


@dataclass(slots=True)
class LateClock(Scene):
    """A clock goes wrong, and stays so. What was sent before that comes when the ticket of it is there."""

    async def play(self) -> None:
        box = self.boxes[0]
        await asyncio.sleep(20.0)
        # For as long as it takes until something is sent.
        self.net.late[box.name] = 200.0
        await asyncio.sleep(25.0)
        self.net.late.clear()
        boot = box.boots[box.boot]
        boot.wall_error_ms, boot.synchronised = 86_400_000, False
        box._wall_is_off()
        await asyncio.sleep(300.0)
        told = self.hub.database.raw.execute(
            "SELECT count(*) FROM occurrence WHERE device = ? AND fault = ?", (box.gateway.name, CLOCK)
        ).fetchone()
        if told != (1,):
            self.fail(f"clock: that of {box.gateway.name} went wrong once, it is told {told[0]} times")


@dataclass(slots=True)
class BehindAtFirst(Scene):
    """The collector's own clock is 40 minutes behind until its time server answers. What had begun by then
    goes on, and nobody is heard in that hour again for long.
    """

    async def play(self) -> None:
        behind_ms = 2_400_000
        (collector,) = self.collectors
        collector.clock_error_ms = -behind_ms
        await self.turn([(5.0, "belt-1", "jam"), (15.0, "belt-1", "jam"), (20.0, "belt-1", "jam")])
        await self.until(self.laws.settled)
        await asyncio.sleep(20.0)
        collector.clock_error_ms, collector.behind_ms = 0, (behind_ms,)
        await asyncio.sleep(60.0)
        await self.pass_quietly(3_700.0, stretch=100.0)
        await self.turn([(self.now + 5.0, "belt-1", "jam"), (self.now + 15.0, "belt-2", "jam")])
        await asyncio.sleep(60.0)


@dataclass(slots=True)
class BetterAndBetter(Scene):
    """Much has happened in an hour of which there are only late messages; then there is a better one, and
    while what it moves is dated slice by slice there is a still better one.
    """

    async def play(self) -> None:
        redating.AT_ONCE = 3
        box = self.boxes[0]
        self.net.late[box.name] = 15.0
        await self.until(lambda: all(one.boot for one in self.boxes))
        # Where a crystal drifts each message is a little better than the one before.
        for one in self.boxes:
            one.boots[one.boot].drift = 0.0
        # Each of four faults too seldom for one that comes and goes.
        faults = [(belt, fault) for belt in box.belts for fault in ("jam", "overload")]
        await self.turn([(20.0 + 6 * number, *faults[number % len(faults)]) for number in range(24)])
        await self.until(self.laws.settled)
        await self.until(lambda: not self._due())
        self.net.late[box.name] = 8.0
        await self.until(lambda: bool(self._due()))
        (begun,) = self._due()
        await self.until(lambda: self._due() != [begun])
        # One message, and none that is better.
        self.net.late[box.name], exchanges = 0.01, box.exchanges
        await self.until(lambda: box.exchanges > exchanges)
        self.net.late[box.name] = 0.5
        await asyncio.sleep(90.0)

    def _due(self) -> list[Any]:
        """Of its gateway."""
        return self.hub.database.raw.execute(
            "SELECT boot, hour, from_ms FROM dates_due WHERE gateway_id = ?", (self.boxes[0].gateway.id,)
        ).fetchall()


@dataclass(slots=True)
class FewerBelts(Scene):
    """An agent comes back and watches a belt no more that had jammed."""

    async def play(self) -> None:
        box = self.boxes[0]
        await self.turn([(5.0, "belt-1", "jam")])
        await asyncio.sleep(10.0)
        self.unwatched_at[box.gateway.id, "belt-1"] = self.now
        box.belts = ["belt-2"]
        box.kill("to be configured anew")
        await asyncio.sleep(30.0)


@dataclass(slots=True)
class TwoSilences(Scene):
    """A gateway comes back from a silence, cannot read the belt that had jammed, and falls silent again."""

    async def play(self) -> None:
        box, belt = self.boxes[0], self.belts["belt-1"]
        await self.turn([(5.0, belt.name, "jam")])
        await asyncio.sleep(10.0)
        self.net.cut[box.name] = self.now + 120.0
        await asyncio.sleep(100.0)
        belt.cut_off = True
        box.kill("while nobody hears it")
        await asyncio.sleep(90.0)
        self.net.cut[box.name] = self.now + 120.0
        await asyncio.sleep(150.0)
        belt.cut_off = False
        await asyncio.sleep(30.0)
        if self.figures["gateways called silent"] != 2:
            self.fail("it was not silent twice: the scene plays nothing")


@dataclass(slots=True)
class StrangersEvidence(Scene):
    """What was recorded around many short jams is told under the credential of the other gateway, too."""

    async def play(self) -> None:
        self.dials.evidence = True
        for box in self.boxes:
            box.kill("to record from now on")
        await asyncio.sleep(5.0)
        for turn in range(12):
            await self.turn([(self.now + 20.0 + turn % 3, "belt-1", "jam")])
            await asyncio.sleep(10.0)


def put_back(box: Box, disk: Image) -> None:
    """The box begins anew with that disk."""
    box.dark = True
    box.kill("for good")
    box.disk = Disk(disk)


@dataclass(slots=True)
class DeadBus(Scene):
    """All belts of a gateway are lost at once, while the agent is killed and the network comes and goes; one
    of them stays lost when the others are back. A message has room for one row.
    """

    def __post_init__(self) -> None:
        Scene.__post_init__(self)
        self.dials.max_rows = 1

    async def play(self) -> None:
        box, other = self.boxes
        # The other one sees none of its belts.
        other.belts = ["belt-3"]
        other.kill("to be set up anew")
        own = [self.belts[name] for name in box.belts]
        await asyncio.sleep(5.0)
        for belt in own:
            belt.cut_off = True
        await asyncio.sleep(20.0)
        box.kill("while its bus is silent")
        await self.until(lambda: self.hidden() == len(own), look_every_s=0.1)
        box.kill("while its bus is down")
        self.net.cut[box.name] = self.now + 30.0
        await asyncio.sleep(50.0)
        assert self.hidden() == len(own), "all belts are explained by their bus"
        for belt in own[1:]:
            belt.cut_off = False
        await self.until(lambda: self.hidden() == 1, look_every_s=0.1)
        box.kill("while one belt may still come back")
        # What is still lost stands by itself.
        alone = [f"{own[0].name} unreachable"]
        await self.until(lambda: (self.names(), self.hidden()) == (alone, 0), look_every_s=0.1)
        own[0].cut_off = False
        await asyncio.sleep(20.0)

    def names(self) -> list[str]:
        found = self.hub.all_of(tables.ticket)
        return [f"{t['device']} {t['fault']}" for t in found if t["condition"] == "active"]

    def hidden(self) -> int:
        """Of open tickets."""
        found = self.hub.all_of(tables.ticket)
        return sum(t["condition"] != "cleared" and (t["because"] is not None or t["waits"]) for t in found)


SCENES = (
    DeadBus,
    TwoBoxes,
    TwoHistories,
    LateWords,
    LatePresent,
    LateHead,
    WorseAndBetter,
    TwoDisks,
    Unreadable,
    Garbled,
    ToldAhead,
    OldLook,
    NotFixed,
    Overridden,
    LookBeforeARestore,
    SilentBoots,
    LateHour,
    LateClock,
    BehindAtFirst,
    BetterAndBetter,
    FewerBelts,
    LossToldAgain,
    TwoSilences,
    StrangersEvidence,
    EverybodyWakes,
    LongSilence,
    FullJournal,
)
