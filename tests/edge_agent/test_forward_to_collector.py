"""The real parts of the agent against the real ingest, over a network and disks that spoil what they can."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from rigs.moments import HandClock, ids
from rigs.site import Site, forwarder
from rigs.watching import CONVEYOR, conveyor, watching

from edge_agent.device import Device
from edge_agent.journal import FILE

DEVICES = ("belt-1", "belt-2", "belt-3")
STEPS = 60
QUIET_EXCHANGES = 15
SEEDS = 16


async def test_a_jam_becomes_an_active_ticket_and_its_end_clears_it(tmp_path: Path) -> None:
    clock = HandClock()
    site = Site(tmp_path, clock)
    async with watching(tmp_path, clock) as floor:
        forward = forwarder(floor.journal, floor.watch, site, random.Random(1))
        await floor.status(jam=True)
        await forward.exchange()
        assert site.open_tickets() == ["v1|north|belt-1|belt|jam"]
        clock.go(30)
        await floor.status(jam=False)
        await forward.exchange()
        assert site.open_tickets() == []


async def test_the_collector_asks_for_the_inventory_and_gets_it(tmp_path: Path) -> None:
    clock = HandClock()
    site = Site(tmp_path, clock)
    async with watching(tmp_path, clock) as floor:
        forward = forwarder(floor.journal, floor.watch, site, random.Random(1))
        for _ in range(3):
            await forward.exchange()
        assert [message.inventory is not None for message in site.messages] == [False, True, False]
        assert [answer.want_inventory for answer in site.answers] == [True, False, False]


async def test_a_jam_that_is_not_read_again_after_a_restart_keeps_its_ticket(tmp_path: Path) -> None:
    clock, new_id = HandClock(), ids()
    site = Site(tmp_path, clock)
    async with watching(tmp_path, clock, new_id=new_id) as floor:
        await floor.status(jam=True)
        await forwarder(floor.journal, floor.watch, site, random.Random(1)).exchange()
    # The card is replaced: the new journal knows nothing of the jam that is still there.
    for name in (FILE, f"{FILE}-wal", f"{FILE}-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    clock.reboot()
    async with watching(tmp_path, clock, new_id=new_id) as floor:
        forward = forwarder(floor.journal, floor.watch, site, random.Random(1))
        for _ in range(3):
            await forward.exchange()
        assert site.open_tickets() == ["v1|north|belt-1|belt|jam"]
        await floor.status(jam=True)
        for _ in range(3):
            await forward.exchange()
        assert site.open_tickets() == ["v1|north|belt-1|belt|jam"]
        await floor.status(jam=False)
        for _ in range(3):
            await forward.exchange()
        assert site.open_tickets() == []


@pytest.mark.parametrize(
    ("still_jammed", "read_after_s", "tickets"),
    [(True, 1, 1), (True, 3_600, 2), (False, 1, 1), (None, 0, 1)],
    ids=["still-there", "still-there-an-hour-later", "gone", "not-read-again"],
)
async def test_what_the_collector_has_closed_is_closed_at_the_edge_and_raised_anew_if_it_is_there(
    tmp_path: Path, still_jammed: bool | None, read_after_s: int, tickets: int
) -> None:
    """E7. Another box takes the place of this one, finds the belt well, and is replaced by the first."""
    clock, new_id = HandClock(), ids()
    site = Site(tmp_path, clock)
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    async with watching(first, clock, new_id=new_id) as floor:
        await floor.status(jam=True)
        await forwarder(floor.journal, floor.watch, site, random.Random(1)).exchange()
        (uid,) = site.open_uids()
    clock.reboot(20)
    async with watching(second, clock, new_id=new_id) as floor:
        await floor.status(jam=False)
        forward = forwarder(floor.journal, floor.watch, site, random.Random(2))
        for _ in range(4):
            await forward.exchange()
        assert (site.open_uids(), site.ended(uid)) == ({}, "reconciled")
    clock.reboot(20)
    async with watching(first, clock, new_id=new_id) as floor:
        forward = forwarder(floor.journal, floor.watch, site, random.Random(3))
        for _ in range(6):
            clock.go(15)
            await forward.exchange()
        assert [uid] in [answer.closed_here for answer in site.answers]
        assert await floor.open() == []
        assert site.ended(uid) == "closed_here"
        # Nobody knows until it is read.
        assert "belt-1|belt|jam" in floor.watch.unsettled()
        assert site.open_tickets() == []
        clock.go(read_after_s)
        if still_jammed is not None:
            await floor.status(jam=still_jammed)
            assert "belt-1|belt|jam" not in floor.watch.unsettled()
        await forward.exchange()
        assert uid not in site.open_uids()
        assert site.tickets("v1|north|belt-1|belt|jam") == tickets
        assert ("v1|north|belt-1|belt|jam" in site.open_tickets()) is bool(still_jammed)
        assert site.answers[-1].closed_here == []


def device(name: str) -> Device:
    """Two conveyors that raise at once, and one that takes its time."""
    delayed = CONVEYOR.replace("value: true}}}", "value: true}}, on_delay_s: 4, off_delay_s: 3}")
    return conveyor(name, delayed if name == "belt-3" else CONVEYOR)


class Chaos:
    """One seed: what happens on the floor, to the network, to the agent, to its disk and to the collector."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.data = folder / "data"
        self.data.mkdir()
        self.folder = folder
        self.clock, self.new_id = HandClock(), ids()
        self.site = Site(folder, self.clock)
        self.site.loses_request = lambda: self.rng.random() < 0.2
        self.site.loses_reply = lambda: self.rng.random() < 0.2
        self.disks: list[Path] = []
        # The truth: which belt is jammed, when it last was not, when each occurrence was raised, and how old
        # the oldest is for which a ticket is active.
        self.step = 0
        self.jams = dict.fromkeys(DEVICES, False)
        self.well_at = dict.fromkeys(DEVICES, 0)
        self.raised_at: dict[str, int] = {}
        self.active_since: dict[str, int] = {}
        self.backups = [(self.site.backup(), self.active_since)]

    async def run(self) -> None:
        while self.step < STEPS:
            await self.one_life(self.rng.randrange(1, 20))
            self.between_lives()
        self.site.loses_request = self.site.loses_reply = lambda: False
        await self.heal()

    async def one_life(self, steps: int) -> None:
        async with watching(self.data, self.clock, [device(n) for n in DEVICES], self.new_id) as floor:
            await floor.journal.start("gw-1")
            forward = forwarder(floor.journal, floor.watch, self.site, self.rng)
            for _ in range(steps):
                self.step += 1
                self.clock.go(self.rng.choice([0.1, 1, 20, 70]))
                if self.rng.random() < 0.4:
                    self.turn(self.rng.choice(DEVICES))
                if self.rng.random() < 0.7:
                    name = self.rng.choice(DEVICES)
                    await floor.status(jam=self.jams[name], device=name)
                    for row in await floor.journal.open_occurrences():
                        self.raised_at.setdefault(row.uid, self.step)
                if self.rng.random() < 0.7:
                    await forward.exchange()
                    self.no_ticket_cleared_while_its_belt_was_jammed()

    def turn(self, name: str) -> None:
        """The belt jams, or somebody clears it."""
        if not self.jams[name]:
            self.well_at[name] = self.step
        self.jams[name] = not self.jams[name]

    def between_lives(self) -> None:
        """The agent is down."""
        happens = self.rng.random()
        if happens < 0.2:
            self.disks.append(self.folder / f"disk-{len(self.disks)}")
            shutil.copytree(self.data, self.disks[-1])
        elif happens < 0.4 and self.disks:
            shutil.rmtree(self.data)
            shutil.copytree(self.rng.choice(self.disks), self.data)
        elif happens < 0.5:
            shutil.rmtree(self.data)
            self.data.mkdir()
        if self.rng.random() < 0.2:
            self.backups.append((self.site.backup(), self.active_since))
        elif self.rng.random() < 0.2:
            backup, self.active_since = self.rng.choice(self.backups)
            self.site.restore(backup)
        self.clock.reboot(self.rng.choice([1, 100, 10_000]))
        self.clock.jump(self.rng.choice([0, 0, 3_600, -3_600]))

    def no_ticket_cleared_while_its_belt_was_jammed(self) -> None:
        """I7."""
        before, self.active_since = self.active_since, {}
        for uid, key in self.site.open_uids().items():
            if key.endswith("|belt|jam"):
                self.active_since[key] = min(
                    self.active_since.get(key, STEPS * 2), self.raised_at.get(uid, 0)
                )
        for key in before.keys() - self.active_since.keys():
            name = key.split("|")[2]
            well_at = self.well_at[name] if self.jams[name] else self.step
            assert well_at >= before[key], f"{key} was cleared though {name} was jammed all the time"

    async def heal(self) -> None:
        async with watching(self.data, self.clock, [device(n) for n in DEVICES], self.new_id) as floor:
            forward = forwarder(floor.journal, floor.watch, self.site, self.rng)
            for _ in range(QUIET_EXCHANGES):
                self.clock.go(15)
                for name in DEVICES:
                    await floor.status(jam=self.jams[name], device=name)
                    await floor.voice(b"x", device=name)
                await forward.exchange()
                self.no_ticket_cleared_while_its_belt_was_jammed()
            here = await floor.journal.open_occurrences()
            jammed = sorted(f"v1|north|{name}|belt|jam" for name, jam in self.jams.items() if jam)
            assert sorted(f"v1|north|{row.key}" for row in here) == jammed
            assert self.site.open_uids().keys() == {row.uid for row in here}
            assert self.site.open_tickets() == jammed
            # Nothing that is left on this disk is missing there.
            batch = await floor.journal.batch(max_rows=1, max_bytes=1)
            assert (batch.waiting, batch.from_[0]) == (0, batch.head_seq)


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_whatever_is_lost_or_rolled_back_both_sides_agree_in_the_end(tmp_path: Path, seed: int) -> None:
    chaos = Chaos(tmp_path, seed)
    try:
        await chaos.run()
    finally:
        chaos.site.store.close()
