from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from rigs.moments import HandClock
from rigs.ports import wait_until
from rigs.readings import running
from rigs.watching import Floor, conveyor, watching

from edge_agent import evidence as module
from edge_agent.evidence import Evidence, Thread, Window
from edge_agent.journal import Journal
from edge_agent.recorder import Recorder
from edge_agent.wire import MAX_PARTS, Outcome, read_part

MIB = 1 << 20


class Desk:
    """A watch whose journal is heard by the recorder of evidence."""

    def __init__(self, floor: Floor, evidence: Evidence) -> None:
        self.floor, self.evidence = floor, evidence
        self.short = False

    async def parts(self) -> dict[tuple[str, str], Any]:
        return {(one.uid, one.part): one.evidence for one in await self.evidence.waiting(MIB)}

    async def until(self, count: int) -> dict[tuple[str, str], Any]:
        """Look at what is due until there are so many parts."""
        async with running(self.evidence.run()):
            await wait_until(
                lambda: self.evidence.figures["evidence_waiting"] >= count, what=f"{count} parts"
            )
        return await self.parts()

    @property
    def journal(self) -> Journal:
        return self.floor.journal


@asynccontextmanager
async def desk(folder: Path, clock: HandClock) -> AsyncIterator[Desk]:
    devices = [conveyor()]
    recorder = Recorder(devices)
    async with watching(folder, clock, devices, recorder=recorder) as floor:
        keeper = Thread(folder, max_bytes=MIB)
        here: list[Desk] = []
        evidence = Evidence(
            recorder,
            devices,
            keeper,
            clock.stamp,
            window=Window(before_s=60, after_s=10),
            is_short=lambda: here[0].short,
        )
        here.append(Desk(floor, evidence))
        floor.journal.on_written = evidence.written
        yield here[0]
        await evidence.close()


async def test_a_raise_leaves_what_was_before_it_and_shortly_after_what_came_then(tmp_path: Path) -> None:
    clock = HandClock()
    async with desk(tmp_path, clock) as here:
        await here.floor.status()
        clock.go(2)
        await here.floor.status(jam=True)
        (row,) = await here.journal.open_occurrences()
        parts = await here.until(1)
        assert list(parts) == [(row.uid, "before")]
        before = parts[row.uid, "before"]
        assert before["signals"] == [{"signal": "jam", "points": [[-2000, False], [0, True]]}]
        assert [one["at_ms"] for one in before["readings"]] == [-2000, 0]
        clock.go(4)
        await here.floor.status()
        clock.go(6)
        parts = await here.until(2)
        after = parts[row.uid, "after"]
        assert after["signals"] == [{"signal": "jam", "points": [[0, True], [4000, False]]}]
        assert [one["at_ms"] for one in after["readings"]] == [4000]
        for (uid, part), evidence in parts.items():
            read_part({"uid": uid, "part": part, "evidence": evidence})


async def test_an_agent_that_dies_in_between_has_no_after(tmp_path: Path) -> None:
    clock = HandClock()
    async with desk(tmp_path, clock) as here:
        await here.floor.status(jam=True)
        await here.until(1)
    async with desk(tmp_path, clock) as here:
        clock.go(60)
        async with running(here.evidence.run()):
            await wait_until(lambda: here.evidence.figures["evidence_waiting"] == 1)
        assert [part for _, part in await here.parts()] == ["before"]


async def test_what_was_raised_just_before_the_end_is_recorded_at_the_end(tmp_path: Path) -> None:
    clock = HandClock()
    async with desk(tmp_path, clock) as here:
        await here.floor.status(jam=True)
    async with desk(tmp_path, clock) as here:
        assert [part for _, part in await here.parts()] == ["before"]


async def test_nothing_of_it_can_hold_up_a_raise(tmp_path: Path) -> None:
    """Its task does not even run."""
    clock = HandClock()
    async with desk(tmp_path, clock) as here:
        for _ in range(20):
            await here.floor.status(jam=True)
            clock.go(1)
            await here.floor.status()
            clock.go(1)
        rows = (await here.journal.batch(max_rows=99, max_bytes=MIB)).rows
        assert sum(row["count"] for row in rows) == 20


async def test_on_a_full_disk_nothing_is_recorded_and_the_ticket_hears_of_it(tmp_path: Path) -> None:
    clock = HandClock()
    async with desk(tmp_path, clock) as here:
        here.short = True
        await here.floor.status(jam=True)
        async with running(here.evidence.run()):
            await wait_until(lambda: here.evidence.figures["evidence_given_up"] == 1)
        (row,) = await here.journal.open_occurrences()
        assert await here.parts() == {(row.uid, "before"): None}


async def test_what_the_agent_says_of_itself_has_no_evidence_of_this_kind(tmp_path: Path) -> None:
    clock = HandClock()
    async with desk(tmp_path, clock) as here:
        await here.journal.start("gw1")
        clock.go(60)
        await here.journal.anchor()
        clock.go(60)
        await here.journal.start("gw1")
        async with running(here.evidence.run()):
            await asyncio.sleep(0.05)
        assert await here.parts() == {}


async def test_more_raises_than_can_be_recorded_are_counted(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "MAX_JOBS", 3)
    clock = HandClock()
    async with desk(tmp_path, clock) as here:
        for _ in range(6):
            await here.floor.status(jam=True)
            clock.go(0.1)
            await here.floor.status()
            clock.go(0.1)
        await here.until(1)
        assert here.evidence.figures["evidence_given_up"] > 0


async def test_what_the_collector_has_waits_no_more_and_what_it_does_not_know_waits_a_while(
    tmp_path: Path,
) -> None:
    clock = HandClock()
    async with desk(tmp_path, clock) as here:
        for _ in range(3):
            await here.floor.status(jam=True)
            clock.go(1)
            await here.floor.status()
            clock.go(1)
        await here.until(3)
        parts = await here.evidence.waiting(MIB)
        assert len(parts) == 3 <= MAX_PARTS
        await here.evidence.told(parts, [Outcome.HELD, Outcome.UNKNOWN, "a word of a later version"])
        assert await here.parts() == {}
        clock.go(3_600)
        assert [one.seq for one in await here.evidence.waiting(MIB)] == [parts[1].seq]
        await here.evidence.send_again()
        assert len(await here.evidence.waiting(MIB)) == 3


async def test_two_hundred_raises_at_once_leave_the_others_their_turn(tmp_path: Path) -> None:
    """A bus that goes down: the loop is never held for longer than one excerpt takes."""
    clock = HandClock()
    async with desk(tmp_path, clock) as here:
        longest: list[int] = []
        build: Callable[..., Any] = here.evidence._excerpt

        def counted(job: Any) -> Any:
            longest[-1] += 1
            return build(job)

        here.evidence._excerpt = counted  # type: ignore[method-assign]

        async def others() -> None:
            while True:
                longest.append(0)
                await asyncio.sleep(0)

        for _ in range(200):
            await here.floor.status(jam=True)
            await here.floor.status()
            # So seldom that each is one of its own.
            clock.go(1_000)
        async with running(others()):
            await here.until(200)
        assert sum(longest) >= 200
        assert max(longest) == 1
