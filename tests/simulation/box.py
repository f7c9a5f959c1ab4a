"""A gateway: a disk, a clock that may be wrong, and the real agent on it, which can be killed at any
statement and at any await.
"""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from simulation import evidence
from simulation.evidence import Shelf
from simulation.floor import conveyor
from simulation.hub import EPOCH_MS
from simulation.skew import Version
from simulation.virtual import LIFE, Killed, Life

from collector.exchange import GatewayIdentity
from edge_agent import clock, journal_file, roots
from edge_agent.forward import Forwarder
from edge_agent.inventory import inventory
from edge_agent.journal import Journal, JournalError
from edge_agent.journal_caps import Given
from edge_agent.ledger import Ledger
from edge_agent.recorder import Recorder
from edge_agent.sample import Reading, Trouble
from edge_agent.watch import Watch
from edge_agent.wire import Health, Severity, SeverityChange, Stamp

if TYPE_CHECKING:
    from simulation.world import World

T = TypeVar("T")
NS = 1_000_000_000
# So much of a boot is over when the agent starts.
BOOT_S = 10.0
LIMIT = "PRAGMA max_page_count ="


class _Statements(sqlite3.Connection):
    """Raises Killed in place of a statement when its fuse has burnt, or after it: a commit on which the power
    went may be there or not.
    """

    fuse = -1
    after = False
    # When the disk is full: how large the file is.
    pages: int | None = None

    def execute(self, *given: Any) -> sqlite3.Cursor:  # type: ignore[override]
        if self.pages is not None and given[0].startswith(LIMIT):
            given = (f"{LIMIT} {min(self.pages, int(given[0].removeprefix(LIMIT)))}", *given[1:])
        if self.fuse > 0:
            self.fuse -= 1
        elif self.fuse == 0:
            self.fuse = -1
            if self.after:
                super().execute(*given)
            raise Killed
        return super().execute(*given)


class Disk:
    """The journal's file, in memory. What was committed survives; copies of it can be made and put back."""

    def __init__(self, copied: tuple[bytes, dict[str, dict[str, Any]]] | None = None) -> None:
        self.sql: _Statements = sqlite3.connect(":memory:", isolation_level=None, factory=_Statements)
        self.sql.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        # The newest form of all that was ever committed to it, whether it is still there or not.
        self.committed: dict[str, dict[str, Any]] = {}
        self.limit = 0
        if copied is not None:
            self.sql.deserialize(copied[0])
            self.committed = dict(copied[1])
        journal_file._migrate(Path("journal.db"), self.sql)

    def copy(self) -> tuple[bytes, dict[str, dict[str, Any]]]:
        return self.sql.serialize(), dict(self.committed)

    def rows(self, after: int = 0) -> list[dict[str, Any]]:
        found = sqlite3.Connection.execute(
            self.sql, "SELECT body FROM occurrence WHERE mod_seq > ? ORDER BY mod_seq", (after,)
        )
        return [json.loads(body) for (body,) in found]

    def has_room(self, room: bool) -> None:
        """Whether it takes more than is on it already."""
        ask = sqlite3.Connection.execute
        (limit,) = ask(self.sql, "PRAGMA max_page_count").fetchone()
        if room and self.sql.pages is not None:
            ask(self.sql, f"{LIMIT} {self.limit}")
            self.sql.pages = None
        elif not room and self.sql.pages is None:
            (self.sql.pages,) = ask(self.sql, "PRAGMA page_count").fetchone()
            self.limit = limit
            ask(self.sql, f"{LIMIT} {self.sql.pages}")

    @property
    def full(self) -> bool:
        return self.sql.pages is not None

    def uids(self) -> set[str]:
        """Of all that is on it, in roll-ups too."""
        rows = self.rows()
        return {row["uid"] for row in rows} | {one["uid"] for row in rows for one in row.get("members") or ()}

    def counted(self) -> Counter[str]:
        """What it has given up."""
        return Counter(dict(sqlite3.Connection.execute(self.sql, "SELECT name, count FROM counter")))

    def pages(self) -> int:
        return int(sqlite3.Connection.execute(self.sql, "PRAGMA page_count").fetchone()[0])

    def cursor(self) -> tuple[str, int, int]:
        found = sqlite3.Connection.execute(self.sql, "SELECT id, cursor_seq, head_seq FROM stream").fetchone()
        return (found[0], found[1], found[2])


@dataclass(slots=True, kw_only=True)
class Boot:
    at: float
    # The wall clock shows so much more than the truth.
    wall_error_ms: int
    synchronised: bool
    drift: float


@dataclass(slots=True)
class Box:
    world: World
    gateway: GatewayIdentity
    belts: Sequence[str]
    rng: random.Random
    disk: Disk = field(default_factory=Disk)
    old_disks: list[tuple[bytes, dict[str, dict[str, Any]]]] = field(default_factory=list)
    boots: dict[str, Boot] = field(default_factory=dict)
    boot: str = ""
    life: AgentLife | None = None
    exchanges: int = 0
    shelf: Shelf | None = None
    version: Version = Version.SAME
    # A second box that runs on a copy of the same disk, with the same credential.
    is_clone: bool = False
    # Switched off for good.
    off: bool = False
    # The power went, not only the agent.
    dark: bool = False

    @property
    def name(self) -> str:
        return f"{self.gateway.name}{' (clone)' if self.is_clone else ''}"

    def clone(self, rng: random.Random) -> Box:
        """Its stamps are of the same boots, as far as those are common history."""
        return Box(
            self.world,
            self.gateway,
            self.belts,
            rng,
            disk=Disk(self.disk.copy()),
            boots=self.boots,
            is_clone=True,
        )

    def stamp(self, floor_ms: int = 0) -> Stamp:
        boot = self.boots[self.boot]
        mono_s = BOOT_S + (self.world.now - boot.at) * (1 + boot.drift)
        true_ms = self.world.now_ms
        wall_ms = max(0, true_ms + boot.wall_error_ms)
        source = clock.trust(wall_ms, floor_ms=floor_ms, synchronised=boot.synchronised)
        return Stamp(boot=self.boot, mono_ns=round(mono_s * 1e6) * 1000, wall_ms=wall_ms, source=source)

    def truth_ms(self, stamp: dict[str, Any]) -> float:
        """When that was, as only the world knows it."""
        boot = self.boots[stamp["boot"]]
        return EPOCH_MS + 1000 * (boot.at + (stamp["mono_ns"] / NS - BOOT_S) / (1 + boot.drift))

    def power_up(self) -> None:
        self.boot = f"{self.rng.getrandbits(128):032x}"
        kind = self.rng.random()
        wrong = self.world.dials.clocks
        if not wrong or kind < 0.4:
            error_ms, synchronised = self.rng.randrange(-500, 500), True
        elif kind < 0.6:
            error_ms, synchronised = -self.world.now_ms + self.rng.randrange(0, 60_000), False
        elif kind < 0.8:
            error_ms, synchronised = self.rng.randrange(-3_000_000, 3_000_000), False
        else:
            error_ms, synchronised = self.rng.choice([-1, 1]) * 30 * 86_400_000, False
        drift = self.rng.uniform(-9e-5, 9e-5)
        self.boots[self.boot] = Boot(
            at=self.world.now, wall_error_ms=error_ms, synchronised=synchronised, drift=drift
        )
        self._wall_is_off()
        self.world.tell(f"{self.name} boots, wall clock off by {error_ms} ms")

    def wall_jumps(self) -> None:
        boot = self.boots[self.boot]
        if self.rng.random() < 0.3:
            boot.wall_error_ms, boot.synchronised = self.rng.randrange(-500, 500), True
        else:
            days = self.rng.choice([-30, 30, 1, -1])
            boot.wall_error_ms, boot.synchronised = days * 86_400_000, False
        self._wall_is_off()
        self.world.tell(f"{self.name}: wall clock jumps, now off by {boot.wall_error_ms} ms")

    def _wall_is_off(self) -> None:
        errors = self.world.wall_errors[self.gateway.id]
        errors.append((self.world.now, self.boots[self.boot].wall_error_ms))

    def new_id(self) -> str:
        return f"{self.rng.getrandbits(128):032x}"

    def start(self, belts: Sequence[str]) -> AgentLife:
        self.life = AgentLife(self, belts)
        return self.life

    @property
    def unsettled(self) -> bool:
        """Whether its agent is about to find out how something is."""
        watch = None if self.life is None else self.life.watch
        return watch is not None and bool(watch.unsettled())

    def kill(self, why: str) -> None:
        if self.life is not None and not self.life.dead:
            self.world.tell(f"{self.name} is killed {why}")
            self.world.count("agent kills")
            self.life.kill()


class AgentLife(Life):
    """The agent as ``agent.py`` wires it, from its start to its kill or its orderly end."""

    def __init__(self, box: Box, belts: Sequence[str]) -> None:
        super().__init__()
        self.box, self.belts = box, belts
        self.floor_ms = 0
        self.exchanges = 0
        self.watch: Watch | None = None
        self.journal: Journal | None = None
        self.forward: Forwarder | None = None
        self._stopping = asyncio.Event()
        token = LIFE.set(self)
        self.main = asyncio.ensure_future(self._main())
        LIFE.reset(token)

    def stamp(self) -> Stamp:
        return self.box.stamp(self.floor_ms)

    def stop(self) -> None:
        """SIGTERM."""
        self._stopping.set()

    def worsen(self) -> None:
        """An agent of a later version finds the faults that it has told to be worse than it said, or less."""
        token = LIFE.set(self)
        self.worsening = asyncio.ensure_future(self._worsen())
        LIFE.reset(token)

    async def _worsen(self) -> None:
        if self.journal is not None:
            with suppress(JournalError):
                await self.journal._do(lambda ledger: worsen(ledger, self.stamp()))

    async def _main(self) -> None:
        world = self.box.world
        try:
            await self._run()
        except (Killed, asyncio.CancelledError):
            self.kill()
        except JournalError as error:
            # On a slow disk there may be room again by the time it is heard that there was none.
            if (self.box.disk.full or "disk is full" in str(error)) and not self.dead:
                world.count("agents that a full disk ended")
            elif not self.dead:
                world.fail(f"{self.box.name}: the agent crashed", error)
        except BaseException as error:  # noqa: BLE001  # whatever it is, it is a finding
            if not self.dead:
                world.fail(f"{self.box.name}: the agent crashed", error)
        finally:
            self.dead = True
            self.ended.set()

    async def _run(self) -> None:
        box, world = self.box, self.box.world
        journal = Journal(DiskWriter(self), stamp=self.stamp)
        self.journal = journal
        anchor = await journal.start(box.gateway.name)
        self.floor_ms = anchor.wall_ms if anchor else 0
        world.laws.after_start(box, anchor)
        devices = [conveyor(name) for name in self.belts]
        recorder, tree = Recorder(devices), roots.tree(box.gateway.name, devices, {})
        watch = await Watch.start(devices, journal, recorder, self.stamp, tree=tree)
        self.watch = watch
        records, aside = evidence.begin(self, recorder, devices) if world.dials.evidence else (None, None)
        if records is not None:
            journal.on_written = records.written
        forward = Forwarder(
            journal,
            self._post,
            inventory=inventory(devices),
            unsettled=watch.unsettled,
            health=Health,
            on_closed_here=watch.close_here,
            stamp=self.stamp,
            random=box.rng,
            max_rows=world.dials.max_rows,
            aside=aside,
        )
        self.forward = forward
        parts = [
            asyncio.ensure_future(part)
            for part in (
                self._supervise(watch.run),
                self._supervise(lambda: self._anchor(journal)),
                self._supervise(lambda: self._forward(forward)),
                self._supervise(lambda: self._poll(watch)),
                *((self._supervise(records.run),) if records is not None else ()),
            )
        ]
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait([*parts, stopping], return_when=asyncio.FIRST_COMPLETED)
            for part in parts:
                if part.done() and not part.cancelled() and (error := part.exception()) is not None:
                    raise error
        finally:
            for part in (*parts, stopping):
                part.cancel()
        await asyncio.wait(parts)
        world.tell(f"{box.name} stops in order")
        await journal.close()

    async def _supervise(self, work: Callable[[], Any]) -> None:
        while True:
            try:
                await work()
            except JournalError:
                if self.journal is None or self.journal.broken or self.dead:
                    raise
            await asyncio.sleep(1.0)

    async def _anchor(self, journal: Journal) -> None:
        turn = 0
        while True:
            await self.box.world.pause(60)
            await journal.anchor()
            turn += 1
            if turn % 5 == 0:
                await journal.prune()

    async def _forward(self, forward: Forwarder) -> None:
        world = self.box.world
        while True:
            rest = await forward.exchange()
            self.exchanges += 1
            self.box.exchanges += 1
            world.exchanged(self.box)
            if world.stretch == 1.0:
                await forward._rest(rest)
            else:
                await world.unless_woken(forward._rest(replace(rest, seconds=rest.seconds * world.stretch)))

    async def _poll(self, watch: Watch) -> None:
        world, rng = self.box.world, self.box.rng
        while True:
            name = rng.choice(self.belts)
            belt = world.belts[name]
            lost = belt.cut_off or (not world.quiet and rng.random() < 0.05)
            reading = Reading(
                device=name,
                read="status",
                at=self.stamp(),
                payload=() if lost else (belt.line,),
                trouble=rng.choice([Trouble.NO_ANSWER, Trouble.NO_LINK]) if lost else None,
            )
            await watch.take(reading)
            await world.pause(rng.uniform(0, 2 * world.dials.poll_s))

    async def _post(self, body: bytes) -> Any:
        return await self.box.world.net.post(self.box, body)


def worsen(ledger: Ledger, now: Stamp) -> None:
    """The form between the first and the last that no agent writes yet, and any collector takes."""
    for row in ledger.open_rows():
        severity = Severity.DEGRADED if row.severity == Severity.STOP else Severity.STOP
        steps = [*row.severities, SeverityChange(severity=severity, at=now)]
        changed = {"rev": row.rev + 1, "severity": severity, "severities": steps}
        ledger._store(row.model_copy(update=changed | {"mod_seq": ledger._next_seq()}), now)


class DiskWriter:
    """The journal's writer on a disk that takes its time. The agent may die before, in and after a commit."""

    def __init__(self, life: AgentLife) -> None:
        self.life = life
        self.disk = life.box.disk
        self.ledger: Ledger | None = None
        self.seen = 0
        self.dropped = self._counted()

    async def run(self, work: Callable[[Ledger], T]) -> T:
        world, rng = self.life.box.world, self.life.box.rng
        if rng.random() < world.dials.slow_disk:
            await asyncio.sleep(rng.choice([0.01, 0.3, 3.0]))
        if self.life.dead:
            raise Killed
        try:
            if self.ledger is None:
                caps = world.dials.caps
                self.ledger = Ledger(self.disk.sql, new_id=self.life.box.new_id, caps=caps)
                self.seen = self.ledger.head_seq
            done = work(self.ledger)
        except Killed:
            with suppress(sqlite3.Error):
                sqlite3.Connection.execute(self.disk.sql, "ROLLBACK")
            self._note(self.disk.cursor()[2] if self.ledger else self.seen)
            self.life.box.kill("at a statement of its journal")
            raise
        self._note(self.ledger.head_seq)
        world.laws.bounded(self.life.box)
        if rng.random() < world.dials.slow_disk:
            await asyncio.sleep(rng.choice([0.0, 0.01, 3.0]))
        if self.life.dead:
            raise Killed
        return done

    def _counted(self) -> int:
        return self.disk.counted()[Given.OCCURRENCES_DROPPED]

    def _note(self, head_seq: int) -> None:
        """What is durable from now on, whether anybody was told or not."""
        before, self.dropped = self.dropped, self._counted()
        self.life.box.world.dropped[self.life.box.gateway.id] += self.dropped - before
        if head_seq != self.seen:
            fresh = self.disk.rows(after=self.seen)
            self.seen = head_seq
            self.disk.committed |= {row["uid"]: row for row in fresh}
            self.life.box.world.ledger.write(self.life.box, fresh)

    async def close(self) -> None:
        return None
