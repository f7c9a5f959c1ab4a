"""Lets everything go wrong, one thing after another, as the dials of its world say."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from simulation.hub import Collector
from simulation.skew import Version

if TYPE_CHECKING:
    from simulation.box import Box
    from simulation.world import World

Act = Callable[[], Awaitable[None]]


class Director:
    def __init__(self, world: World) -> None:
        self.world = world
        self.rng = world.rng
        # Of its own, so that what is added leaves the other draws of a seed as they were.
        self.more = random.Random(f"director of {world.seed}")

    async def direct(self) -> None:
        """Until the end of chaos."""
        world, dials = self.world, self.world.dials
        until = world.now + dials.duration_s
        acts, added = self._acts(), self._added()
        while world.now < until:
            await world.pause(self.rng.expovariate(1 / (dials.poll_s * 1.2)))
            if self.rng.random() < (0.35 if dials.focus else 0.6):
                self._turn_a_belt()
            elif acts:
                await self.rng.choice(acts)()
            if added and self.more.random() < 0.15:
                await self.more.choice(added)()
            if world.failure is not None:
                return

    def _acts(self) -> list[Act]:
        dials = self.world.dials
        acts: list[Act] = []
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

    def _added(self) -> list[Act]:
        dials = self.world.dials
        acts: list[Act] = []
        if dials.clones:
            acts += [self._clone]
        if dials.power_cuts:
            acts += [self._power_cut]
        if dials.full_disks:
            acts += [self._fill_an_agents_disk, self._fill_the_collectors_disk]
        if dials.versions:
            acts += [self._change_versions, self._worsen]
        if dials.collectors > 1:
            acts += [self._kill_a_collector]
        return acts

    # --- the floor

    def _turn_a_belt(self) -> None:
        belt = self.rng.choice(list(self.world.belts.values()))
        fault = self.rng.choice(["jam", "jam", "overload"])
        belt.turn(fault, self.world.now)
        self.world.tell(f"{belt.name}: {fault} {'begins' if fault in belt.faults else 'ends'}")

    async def _cut_off(self) -> None:
        belt = self.rng.choice(list(self.world.belts.values()))
        belt.cut_off = not belt.cut_off
        self.world.tell(f"{belt.name}: {'nobody can reach it' if belt.cut_off else 'can be reached again'}")

    # --- agents

    async def _kill(self) -> None:
        world = self.world
        box = self.rng.choice(world.boxes)
        if box.life is None or box.life.dead:
            return
        how = self.rng.random()
        if how < 0.15:
            box.life.stop()
        elif how < 0.4:
            box.kill("at once")
        elif how < 0.7:
            box.disk.sql.fuse = self.rng.randrange(60)
            box.disk.sql.after = self.more.random() < 0.5
        else:
            assert world.loop is not None
            world.turn_fuses[world.loop.turns + self.rng.randrange(1, 400)] = box

    async def _clock(self) -> None:
        self.rng.choice(self.world.boxes).wall_jumps()

    async def _copy_disk(self) -> None:
        box = self.rng.choice(self.world.boxes)
        if not box.disk.sql.in_transaction:
            box.old_disks.append(box.disk.copy())
            self.world.tell(f"{box.name}: its disk is copied")

    async def _clone(self) -> None:
        world = self.world
        box = self.more.choice(world.boxes)
        if box.disk.sql.in_transaction or box.disk.full or len(world.boxes) > 2:
            return
        twin = box.clone(random.Random(self.more.random()))
        world.tell(f"{box.name}: a copy of its disk runs in a second box")
        world.count("disks cloned")
        world.cloned[box.gateway.id] = float("inf")
        world.begin(twin)
        asyncio.get_running_loop().call_later(
            self.more.choice([20.0, 90.0, 300.0]), self.part, box, twin, self.more.random() < 0.5
        )

    def part(self, box: Box, twin: Box, clone_stays: bool) -> None:
        """One of the two is switched off for good; its disk is gone."""
        world = self.world
        if twin.off:
            return
        world.tell(f"{(box if clone_stays else twin).name} is switched off")
        twin.off = True
        world.cloned[box.gateway.id] = world.now
        world.boxes.remove(twin)
        twin.kill("for good")
        if clone_stays:
            box.kill("for good")
            box.disk.sql.fuse = -1
            box.disk, box.dark = twin.disk, True
            box.old_disks.clear()

    async def _fill_an_agents_disk(self) -> None:
        world = self.world
        disk = self.more.choice(world.boxes).disk
        disk.has_room(False)
        world.count("agents' disks full")
        world.tell("an agent's disk is full")
        asyncio.get_running_loop().call_later(self.more.choice([5.0, 60.0, 400.0]), disk.has_room, True)

    async def _change_versions(self) -> None:
        """Everybody is upgraded and downgraded as it comes."""
        world = self.world
        for one in (*world.boxes, *world.collectors):
            one.version = self.more.choice(list(Version))

    async def _worsen(self) -> None:
        box = self.more.choice(self.world.boxes)
        if box.life is not None and not box.life.dead:
            self.world.tell(f"{box.name}: what is open gets worse or better")
            self.world.count("severities changed")
            box.life.worsen()

    # --- what is between them

    async def _partition(self) -> None:
        world = self.world
        box = self.rng.choice(world.boxes)
        seconds = self.rng.choice([30.0, 200.0, 200.0, 900.0])
        if self.rng.random() < 0.6:
            world.net.cut[box.name] = world.now + seconds
            world.tell(f"{box.name} is cut off for {seconds} s")
        else:
            world.net.deaf[box.name] = world.now + seconds
            world.tell(f"{box.name} hears no replies for {seconds} s")
        world.count("partitions")

    # --- collectors

    async def _backup(self) -> None:
        self.world.back_up()
        self.world.tell("a backup of the database is made")

    async def _restore(self) -> None:
        world = self.world
        backup = self.rng.choice(world.backups)
        world.restore(backup)
        world.count("collector restores")
        world.tell(f"the database is restored from a backup that is {world.now - backup.at:.0f} s old")

    async def _kill_a_collector(self) -> None:
        self._stop(self.more.choice(self.world.collectors), "at once")

    def _stop(self, collector: Collector, why: str) -> None:
        if collector.down_until <= self.world.now:
            self.world.net.dies(collector, why)

    async def _fill_the_collectors_disk(self) -> None:
        world = self.world
        database = world.hub.database
        if database.raw.in_transaction:
            return
        database.has_room(False)
        world.count("collectors' disks full")
        world.tell("the disk of the collectors is full")
        asyncio.get_running_loop().call_later(self.more.choice([5.0, 60.0, 400.0]), database.has_room, True)

    # --- everybody

    async def _power_cut(self) -> None:
        """In the whole hall, or only where the gateways are."""
        world = self.world
        world.tell("the power goes")
        world.count("power cuts")
        for box in list(world.boxes):
            if self.more.random() < 0.8:
                # On its next commit, which is there or not; or at once.
                if self.more.random() < 0.5:
                    box.disk.sql.fuse, box.disk.sql.after = self.more.randrange(8), self.more.random() < 0.5
                else:
                    box.kill("as the power goes")
                box.dark = True
        if self.more.random() < 0.5:
            for collector in world.collectors:
                self._stop(collector, "as the power goes")

    async def _leap(self) -> None:
        """A long time in which little happens."""
        world = self.world
        seconds = self.rng.choice([900.0, 2_400.0, 7_200.0, 86_400.0, 40 * 86_400.0])
        if self.rng.random() < 0.5:
            for box in world.boxes:
                if self.rng.random() < 0.7:
                    world.net.cut[box.name] = world.now + seconds
        world.tell(f"{seconds} s pass")
        world.count("leaps")
        world.stretch = max(1.0, seconds / 200)
        await asyncio.sleep(seconds)
        world.stretch = 1.0
        woken, world.woken = world.woken, asyncio.Event()
        assert woken is not None
        woken.set()
