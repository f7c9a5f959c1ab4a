"""One seed: a floor, two gateways, a network and a collector, and a director who lets everything go wrong.

Chaos, then everything is mended, then a bounded number of quiet exchanges; what must hold is in ``laws``.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field, replace

from simulation import laws
from simulation.box import AgentLife, Box, Disk
from simulation.floor import Belt
from simulation.hub import EPOCH_MS, SITE, Hub
from simulation.ledger import Truth
from simulation.net import Net
from simulation.virtual import Killed, Loop, run

from collector.exchange import GatewayIdentity
from edge_agent.wire import MAX_ROWS

# Exchanges of each gateway after everything was mended, by which both sides have to agree.
QUIET_EXCHANGES = 12
QUIET_AT_LEAST_S = 60.0
QUIET_AT_MOST_S = 7_200.0


class BrokenLawError(AssertionError):
    """A promise does not hold; the text says which, when, and what happened before."""


@dataclass(slots=True, kw_only=True)
class Dials:
    """What goes wrong in this world, and how often. Each seed has a different part of it, so that one fault
    does not hide another.
    """

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

    @classmethod
    def of(cls, rng: random.Random) -> Dials:
        def maybe(probability: float, value: float) -> float:
            return value if rng.random() < probability else 0.0

        return cls(
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


@dataclass(slots=True)
class World:
    seed: int
    loud: bool = False
    rng: random.Random = field(init=False)
    dials: Dials = field(init=False)
    hub: Hub = field(init=False)
    net: Net = field(init=False)
    ledger: Truth = field(init=False)
    boxes: list[Box] = field(init=False)
    belts: dict[str, Belt] = field(init=False)
    laws: laws.Laws = field(init=False)
    loop: Loop | None = None
    focus: bool = False
    # Chaos is over: the network, the disks and the floor are well.
    quiet: bool = False
    # How much longer than planned everybody rests: a quiet month passes in a few exchanges.
    stretch: float = 1.0
    failure: BrokenLawError | None = None
    over: asyncio.Event | None = None
    # Set at the end of a long quiet time.
    woken: asyncio.Event | None = None
    figures: Counter[str] = field(default_factory=Counter)
    trail: list[str] = field(default_factory=list)
    turn_fuses: dict[int, Box] = field(default_factory=dict)
    # (gateway, belt) -> when it was last started without watching it.
    unwatched_at: dict[tuple[str, str], float] = field(default_factory=dict)
    backups: list[tuple[bytes, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.dials = Dials.of(self.rng)
        # Every fourth world is about histories that part: disks and databases that are put back all the time.
        self.focus = self.seed % 4 == 3
        if self.focus:
            self.dials = replace(
                self.dials, kills=True, restores=True, disks=True, leaps=False, poll_s=3.0, duration_s=600.0
            )
        self.ledger = Truth(rng=random.Random(self.rng.random()), poison=self.dials.poison)
        self.net = Net(self)
        gateways = [GatewayIdentity(id=f"g{n}", site=SITE, name=f"gw-{n}") for n in (1, 2)]
        watched = (
            [["belt-1", "belt-2"], ["belt-2", "belt-3"]]
            if self.dials.shared
            else [["belt-1", "belt-2"], ["belt-3"]]
        )
        self.belts = {name: Belt(name=name) for name in ("belt-1", "belt-2", "belt-3")}
        self.laws = laws.Laws(self)
        self.hub = Hub(
            gateways=gateways, after_commit=self.laws.after_commit, answered=self.laws.after_answer
        )
        self.boxes = [
            Box(self, gateway, belts, random.Random(self.rng.random()))
            for gateway, belts in zip(gateways, watched, strict=True)
        ]

    @property
    def now(self) -> float:
        assert self.loop is not None
        return self.loop.now

    @property
    def now_ms(self) -> int:
        return EPOCH_MS + round(self.now * 1000)

    def tell(self, what: str) -> None:
        line = f"{self.now:12.3f}  {what}"
        self.trail.append(line)
        if self.loud:
            print(line)

    def count(self, what: str) -> None:
        self.figures[what] += 1

    def fail(self, law: str, cause: BaseException | None = None) -> None:
        """Once: what comes after the first break means nothing."""
        if self.failure is None:
            self.failure = BrokenLawError(f"seed {self.seed}, at {self.now:.3f} s: {law}")
            self.failure.__cause__ = cause
            self.tell(f"BROKEN: {law} {cause or ''}")
            if self.over is not None:
                self.over.set()

    async def pause(self, seconds: float) -> None:
        """For so long, or until a long quiet time is over."""
        if self.stretch == 1.0:
            await asyncio.sleep(seconds)
        else:
            await self.unless_woken(asyncio.sleep(seconds * self.stretch))

    async def unless_woken(self, work: Coroutine[object, object, None]) -> None:
        assert self.woken is not None
        both = [asyncio.ensure_future(work), asyncio.ensure_future(self.woken.wait())]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in both:
                one.cancel()

    def exchanged(self, box: Box) -> None:
        self.laws.after_exchange(box)

    # --- the run ----------------------------------------------------------------------------------------

    def live(self) -> None:
        """Raises BrokenLawError."""
        run(self._live)
        if self.failure is not None:
            raise self.failure

    def digest(self) -> str:
        """The same for the same history."""
        told = "\n".join(self.trail) + str(sorted(self.figures.items()))
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    async def _live(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Loop)
        self.loop, self.over, self.woken = loop, asyncio.Event(), asyncio.Event()
        loop.each_turn = self._turn
        self.backups.append((self.hub.database.image(), self.now_ms))
        chaos = [asyncio.ensure_future(work) for work in (self._direct(), self._sweep())]
        boxes = [asyncio.ensure_future(self._tend(box)) for box in self.boxes]
        over = asyncio.ensure_future(self.over.wait())
        await asyncio.wait([over, chaos[0]], return_when=asyncio.FIRST_COMPLETED)
        if self.failure is None and (error := chaos[0].exception()) is not None:
            raise error
        if self.failure is None:
            await self._heal()
        for task in (*chaos, *boxes, over):
            task.cancel()
        for box in self.boxes:
            if box.life is not None:
                box.life.kill()

    def _turn(self) -> None:
        if self.turn_fuses and self.loop is not None:
            box = self.turn_fuses.pop(self.loop.turns, None)
            if box is not None and not self.quiet:
                box.kill("at an await")

    # --- chaos ------------------------------------------------------------------------------------------

    async def _direct(self) -> None:
        """Until the end of chaos."""
        until = self.now + self.dials.duration_s
        acts = self._acts()
        while self.now < until:
            await self.pause(self.rng.expovariate(1 / (self.dials.poll_s * 1.2)))
            if self.rng.random() < (0.35 if self.focus else 0.6):
                self._turn_a_belt()
            elif acts:
                await self.rng.choice(acts)()
            if self.failure is not None:
                return

    def _acts(self) -> list[object]:
        dials = self.dials
        acts: list[object] = []
        if dials.kills:
            acts += [self._kill] * 3
        if dials.partitions:
            acts += [self._partition] * 2
        if dials.restores:
            acts += [self._backup, self._backup, self._restore]
        if dials.clocks:
            acts += [self._clock]
        if dials.leaps:
            acts += [self._leap]
        if dials.cut_offs:
            acts += [self._cut_off]
        if dials.disks:
            acts += [self._copy_disk]
        return acts

    def _turn_a_belt(self) -> None:
        belt = self.rng.choice(list(self.belts.values()))
        fault = self.rng.choice(["jam", "jam", "overload"])
        belt.turn(fault, self.now)
        self.tell(f"{belt.name}: {fault} {'begins' if fault in belt.faults else 'ends'}")

    async def _kill(self) -> None:
        box = self.rng.choice(self.boxes)
        if box.life is None or box.life.dead:
            return
        how = self.rng.random()
        if how < 0.15:
            box.life.stop()
        elif how < 0.4:
            box.kill("at once")
        elif how < 0.7:
            box.disk.sql.fuse = self.rng.randrange(60)
        else:
            assert self.loop is not None
            self.turn_fuses[self.loop.turns + self.rng.randrange(1, 400)] = box

    async def _partition(self) -> None:
        box = self.rng.choice(self.boxes)
        seconds = self.rng.choice([30.0, 200.0, 200.0, 900.0])
        if self.rng.random() < 0.6:
            self.net.cut[box.gateway.id] = self.now + seconds
            self.tell(f"{box.gateway.name} is cut off for {seconds} s")
        else:
            self.net.deaf[box.gateway.id] = self.now + seconds
            self.tell(f"{box.gateway.name} hears no replies for {seconds} s")
        self.count("partitions")

    async def _backup(self) -> None:
        self.backups.append((self.hub.database.image(), self.now_ms))
        self.tell("a backup of the collector is made")

    async def _restore(self) -> None:
        image, made_ms = self.rng.choice(self.backups)
        self.hub.restore(image, self.now_ms)
        self.laws.restored()
        self.count("collector restores")
        self.tell(f"the collector is restored from a backup that is {(self.now_ms - made_ms) // 1000} s old")

    async def _clock(self) -> None:
        self.rng.choice(self.boxes).wall_jumps()

    async def _leap(self) -> None:
        """A long time in which little happens."""
        seconds = self.rng.choice([900.0, 2_400.0, 7_200.0, 86_400.0, 40 * 86_400.0])
        if self.rng.random() < 0.5:
            for box in self.boxes:
                if self.rng.random() < 0.7:
                    self.net.cut[box.gateway.id] = self.now + seconds
        self.tell(f"{seconds} s pass")
        self.count("leaps")
        self.stretch = max(1.0, seconds / 200)
        await asyncio.sleep(seconds)
        self.stretch = 1.0
        woken, self.woken = self.woken, asyncio.Event()
        assert woken is not None
        woken.set()

    async def _cut_off(self) -> None:
        belt = self.rng.choice(list(self.belts.values()))
        belt.cut_off = not belt.cut_off
        self.tell(f"{belt.name}: {'nobody can reach it' if belt.cut_off else 'can be reached again'}")

    async def _copy_disk(self) -> None:
        box = self.rng.choice(self.boxes)
        if not box.disk.sql.in_transaction:
            box.old_disks.append(box.disk.copy())
            self.tell(f"{box.gateway.name}: its disk is copied")

    async def _sweep(self) -> None:
        while True:
            await self.pause(self.rng.uniform(5, 25))
            if self.net.hub_down_until > self.now or self.failure is not None:
                continue
            if not self.quiet and self.rng.random() < self.dials.hub_kills:
                self.hub.database.fuse = self.rng.randrange(30)
            try:
                self.hub.sweep(self.now_ms)
            except Killed:
                self.net.hub_dies("within a sweep")
            except Exception as error:  # noqa: BLE001  # whatever it is, it is a finding
                self.fail("the collector's sweep crashed", error)
            self.hub.database.fuse = -1

    # --- a gateway's lives ------------------------------------------------------------------------------

    async def _tend(self, box: Box) -> None:
        try:
            box.power_up()
            while self.failure is None:
                life = box.start(self._configured(box))
                await life.ended.wait()
                box.disk.sql.fuse = -1
                if not self.quiet:
                    await self.pause(self.rng.choice([0.5, 5.0] if self.focus else [0.5, 5.0, 60.0, 200.0]))
                self._between_lives(box)
        except Exception as error:  # noqa: BLE001  # a mistake of the simulation itself
            self.fail("the simulation itself crashed", error)

    def _configured(self, box: Box) -> Sequence[str]:
        if self.quiet or not self.dials.reconfigures or self.rng.random() < 0.7:
            return box.belts
        watched = [name for name in box.belts if self.rng.random() < 0.6] or box.belts[:1]
        for name in box.belts:
            if name not in watched:
                self.unwatched_at[box.gateway.id, name] = self.now
        self.tell(f"{box.gateway.name} is configured to watch {watched}")
        return watched

    def _between_lives(self, box: Box) -> None:
        happens = self.rng.random()
        reboot = self.rng.random() < 0.5
        if self.dials.disks and not self.quiet:
            if happens < 0.15 and not self.focus:
                self.count("disks replaced")
                self.tell(f"{box.gateway.name} gets an empty disk")
                box.disk, reboot = Disk(), True
            elif happens < (0.8 if self.focus else 0.4) and box.old_disks:
                self.count("disks rolled back")
                self.tell(f"{box.gateway.name}: its disk is rolled back")
                box.disk, reboot = Disk(self.rng.choice(box.old_disks)), True
        if reboot:
            box.power_up()

    # --- the end ----------------------------------------------------------------------------------------

    async def _heal(self) -> None:
        self.tell("everything is mended")
        self.quiet, self.stretch = True, 1.0
        self.net.cut.clear()
        self.net.deaf.clear()
        self.turn_fuses.clear()
        self.hub.database.fuse = -1
        self.net.hub_down_until = self.now
        self.dials.poll_s = 2.0
        self.dials.slow_disk = 0.0
        self.dials.max_rows = MAX_ROWS
        assert self.over is not None
        for belt in self.belts.values():
            belt.cut_off = False
        for box in self.boxes:
            if self.dials.reconfigures and self.rng.random() < 0.4:
                # One belt is watched no more, for good.
                self.unwatched_at[box.gateway.id, box.belts[0]] = self.now
                box.belts = box.belts[1:] or box.belts
                self.tell(f"{box.gateway.name} watches {box.belts} from now on")
            box.disk.sql.fuse = -1
            if box.life is not None and box.life.forward is not None:
                box.life.forward._at_most_rows = box.life.forward._max_rows = MAX_ROWS
            if box.life is not None and not box.life.dead and list(box.life.belts) != list(box.belts):
                box.life.stop()
        began = self.now
        mended: dict[str, tuple[AgentLife, int, float]] = {}
        while self.failure is None:
            await asyncio.sleep(1.0)
            enough = self.now - began >= QUIET_AT_LEAST_S
            for box in self.boxes:
                life = box.life
                if life is None or life.dead or list(life.belts) != list(box.belts):
                    enough = False
                    continue
                if mended.get(box.gateway.id, (None,))[0] is not life:
                    mended[box.gateway.id] = (life, life.exchanges, self.now)
                _, exchanges, since = mended[box.gateway.id]
                # Many exchanges within a second are too few readings.
                enough = enough and life.exchanges - exchanges >= QUIET_EXCHANGES
                enough = enough and self.now - since >= QUIET_AT_LEAST_S
            if enough:
                break
            if self.now - began > QUIET_AT_MOST_S:
                self.fail("I3: the gateways do not exchange any more")
        if self.failure is None:
            # What was decided since the last heartbeat is still on its way.
            for _ in range(40):
                if self.laws.settled():
                    break
                await asyncio.sleep(1.0)
            self.laws.in_the_end()
