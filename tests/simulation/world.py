"""One seed: a floor, gateways, a network, collectors and people, and a director who lets everything go wrong.

Chaos, then everything is mended, then a bounded number of quiet exchanges; what must hold is in ``laws``.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field

from simulation import laws
from simulation.box import AgentLife, Box, Disk
from simulation.dials import Dials
from simulation.director import Director
from simulation.floor import Belt
from simulation.hub import EPOCH_MS, SITE, Collector, Hub
from simulation.laws import Memory
from simulation.ledger import Truth
from simulation.net import Net
from simulation.people import People
from simulation.skew import Version
from simulation.virtual import Killed, Loop, run

from collector import redating
from collector.exchange import GatewayIdentity
from collector.store import DATABASE_AWAY
from edge_agent.wire import MAX_ROWS

# Exchanges of each gateway after everything was mended, by which both sides have to agree.
QUIET_EXCHANGES = 12
QUIET_AT_LEAST_S = 60.0
QUIET_AT_MOST_S = 7_200.0


class BrokenLawError(AssertionError):
    """A promise does not hold; the text says which, when, and what happened before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    at: float
    image: bytes
    # What the laws knew of it.
    memory: Memory


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
    director: Director = field(init=False)
    people: People = field(init=False)
    quiet_exchanges: int = QUIET_EXCHANGES
    collectors: list[Collector] = field(init=False)
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
    # Gateway -> by how much the wall clocks of its boxes were off, and from when on.
    wall_errors: dict[str, list[tuple[float, int]]] = field(default_factory=lambda: defaultdict(list))
    # Gateway -> how many occurrences its disks have dropped, those that were put back or copied included.
    dropped: Counter[str] = field(default_factory=Counter)
    # Gateways of which a second box ran, and until when.
    cloned: dict[str, float] = field(default_factory=dict)
    # (gateway, uid, part) -> what was ever recorded there; None: given up at once.
    recorded: dict[tuple[str, str, str], list[object]] = field(default_factory=lambda: defaultdict(list))
    backups: list[Backup] = field(default_factory=list)
    # The lives of the boxes.
    tended: list[asyncio.Task[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.dials = Dials.of(self.seed, self.rng)
        redating.AT_ONCE = self.dials.dated_at_once
        self.ledger = Truth(rng=random.Random(self.rng.random()), poison=self.dials.poison)
        more = random.Random(f"world {self.seed}")
        self.net = Net(self, random.Random(more.random()))
        apart_ms = self.dials.clocks_apart_ms
        self.collectors = [
            Collector(number=number, clock_error_ms=more.randint(-apart_ms, apart_ms))
            for number in range(1, self.dials.collectors + 1)
        ]
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
        self.people = People(self)
        self.director = Director(self)
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

    def count(self, what: str, times: int = 1) -> None:
        self.figures[what] += times

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

    def dies_after_its_commit(self) -> bool:
        """Whether a collector does, at a place that a history has chosen."""
        return False

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
        if self.dials.people:
            self.people.enrol()
        self.back_up()
        chaos = [
            asyncio.ensure_future(work)
            for work in (self.director.direct(), *(self._sweep(one) for one in self.collectors))
        ]
        people = [asyncio.ensure_future(self.people.work())] if self.dials.people else []
        for box in list(self.boxes):
            self.begin(box, new=False)
        over = asyncio.ensure_future(self.over.wait())
        await asyncio.wait([over, chaos[0]], return_when=asyncio.FIRST_COMPLETED)
        if self.failure is None and (error := chaos[0].exception()) is not None:
            raise error
        for task in people:
            task.cancel()
        if self.failure is None:
            await self._heal()
        for task in (*chaos, *self.tended, over):
            task.cancel()
        for box in self.boxes:
            if box.life is not None:
                box.life.kill()

    def begin(self, box: Box, *, new: bool = True) -> None:
        if new:
            self.boxes.append(box)
        self.tended.append(asyncio.ensure_future(self._tend(box)))

    def back_up(self) -> None:
        self.backups.append(
            Backup(at=self.now, image=self.hub.database.image(), memory=self.laws.memory.copy())
        )

    def restore(self, backup: Backup) -> None:
        """All collectors stop, the database is put back, all start again."""
        self.hub.restore(backup.image)
        for collector in self.collectors:
            collector.waiting.clear()
        self.laws.restored(backup.memory.copy(), backup.at)

    def _turn(self) -> None:
        if self.turn_fuses and self.loop is not None:
            box = self.turn_fuses.pop(self.loop.turns, None)
            if box is not None and not self.quiet:
                box.kill("at an await")

    async def _sweep(self, collector: Collector) -> None:
        while True:
            # Each of them is right in thinking that somebody listens without a break.
            await self.pause(self.rng.uniform(4, 11) * len(self.collectors))
            if collector.down_until > self.now or self.failure is not None:
                continue
            if not self.quiet and self.rng.random() < self.dials.hub_kills:
                self.hub.database.fuse = self.rng.randrange(30)
            try:
                now_ms = self.now_ms + collector.clock_error_ms
                self.laws.after_sweep(now_ms, self.hub.sweep(now_ms))
            except Killed:
                self.net.dies(collector, "within a sweep")
            except DATABASE_AWAY:
                self.count("sweeps refused by a full disk")
            except Exception as error:  # noqa: BLE001  # whatever it is, it is a finding
                self.fail("a collector's sweep crashed", error)
            if self.dials.hub_kills:
                self.hub.database.fuse = -1

    def _date_all(self) -> None:
        """What was left for later. Nothing leaves anything for later now."""
        for _ in range(2_000):
            if self.hub.database.raw.execute("SELECT 1 FROM dates_due").fetchone() is None:
                return
            self.laws.after_sweep(self.now_ms, self.hub.sweep(self.now_ms))
        self.fail("I12: dates are never set right")

    # --- a gateway's lives ------------------------------------------------------------------------------

    async def _tend(self, box: Box) -> None:
        try:
            box.power_up()
            while self.failure is None and not box.off:
                life = box.start(self._configured(box))
                await life.ended.wait()
                box.disk.sql.fuse = -1
                if not self.quiet:
                    near = [0.5, 5.0] if self.dials.focus else [0.5, 5.0, 60.0, 200.0]
                    await self.pause(self.rng.choice(near))
                elif box.disk.full:
                    await self.pause(1.0)
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
        self.tell(f"{box.name} is configured to watch {watched}")
        return watched

    def _between_lives(self, box: Box) -> None:
        happens = self.rng.random()
        reboot = self.rng.random() < 0.5
        reboot, box.dark = reboot or box.dark, False
        if self.dials.disks and not self.quiet and not box.is_clone:
            if happens < 0.15 and not self.dials.focus:
                self.count("disks replaced")
                self.tell(f"{box.name} gets an empty disk")
                box.disk, reboot = Disk(), True
            elif happens < (0.8 if self.dials.focus else 0.4) and box.old_disks:
                self.count("disks rolled back")
                self.tell(f"{box.name}: its disk is rolled back")
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
        for collector in self.collectors:
            collector.down_until = self.now
            collector.version = Version.SAME
        self.hub.database.has_room(True)
        for twin in [box for box in self.boxes if box.is_clone]:
            whole = next(box for box in self.boxes if box.gateway == twin.gateway)
            self.director.part(whole, twin, clone_stays=False)
        self.dials.poll_s = 2.0
        self.dials.slow_disk = 0.0
        self.dials.max_rows = MAX_ROWS
        assert self.over is not None
        for belt in self.belts.values():
            belt.cut_off = False
        for box in self.boxes:
            box.version = Version.SAME
            box.disk.has_room(True)
            if self.dials.reconfigures and self.rng.random() < 0.7:
                # One belt is watched no more, for good.
                self.unwatched_at[box.gateway.id, box.belts[0]] = self.now
                box.belts = box.belts[1:] or box.belts
                self.tell(f"{box.name} watches {box.belts} from now on")
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
                enough = enough and life.exchanges - exchanges >= self.quiet_exchanges
                enough = enough and self.now - since >= QUIET_AT_LEAST_S
            if enough:
                break
            if self.now - began > QUIET_AT_MOST_S:
                self.fail("I3: the gateways do not exchange any more")
        if self.failure is None:
            self._date_all()
            # What was decided since the last heartbeat is still on its way.
            for _ in range(40):
                if self.laws.settled():
                    break
                await asyncio.sleep(1.0)
            self.laws.in_the_end()
