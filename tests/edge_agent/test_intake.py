"""While the disk stands still: buses go on, and what they brought is told as it was once it writes again."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice
from rigs.journals import at_ledger, limit_pages, opened
from rigs.moments import HandClock
from rigs.ports import free_port, listens, wait_until
from rigs.readings import running
from rigs.watching import CONVEYOR, Floor, conveyor, watching

from edge_agent import intake, profile
from edge_agent.clock import Clock
from edge_agent.device import Device
from edge_agent.journal import Journal, JournalError
from edge_agent.recorder import Recorder
from edge_agent.sample import Payload, Reading
from edge_agent.transports.modbus import Settings, Transport
from edge_agent.watch import Watch
from edge_agent.wire import Row, read_row

# Longer than anything here takes that does not wait for the disk.
AT_ONCE_S = 5.0


@asynccontextmanager
async def disk_stands_still(journal: Journal) -> AsyncIterator[None]:
    go_on = threading.Event()
    standing = asyncio.ensure_future(at_ledger(journal, lambda _: go_on.wait()))
    await asyncio.sleep(0)
    try:
        yield
    finally:
        go_on.set()
        await standing


class Polled(Floor):
    """What a transport would deliver that acknowledges nothing."""

    async def status(self, *, jam: bool = False, current: float = 1.0, device: str = "belt-1") -> None:
        await self.put("status", (f"{int(jam)},{current}".encode(),), device)

    async def put(self, read: str, payload: Payload, device: str = "belt-1") -> None:
        reading = Reading(device=device, read=read, at=self.clock.stamp(), payload=payload)
        async with asyncio.timeout(AT_ONCE_S):
            await self.watch.put(reading)


@asynccontextmanager
async def polling(folder: Path, clock: HandClock, *devices: Device) -> AsyncIterator[Polled]:
    async with watching(folder, clock, devices or None) as floor:
        yield Polled(floor.watch, floor.journal, clock)


async def rows(floor: Floor) -> list[Row]:
    batch = await floor.journal.batch(max_rows=99, max_bytes=1 << 20)
    return [read_row(row) for row in batch.rows]


async def test_what_came_while_the_disk_stood_still_is_told_in_its_order_and_with_its_times(
    tmp_path: Path,
) -> None:
    clock = HandClock()
    async with polling(tmp_path, clock) as floor:
        await floor.status()
        times = []
        async with disk_stands_still(floor.journal):
            for _ in range(3):
                raised = clock.go(900)
                await floor.status(jam=True)
                cleared = clock.go(3)
                await floor.status()
                times.append((raised.mono_ns, cleared.mono_ns))
            first_bad = clock.go(1)
            await floor.status(current=20.0)
            clock.go(5)
            await floor.status(current=20.0)
        await floor.watch.close()
        told = {
            fault: [row for row in await rows(floor) if row.fault == fault] for fault in ("jam", "overload")
        }
        assert [(row.raised.mono_ns, row.cleared and row.cleared.mono_ns) for row in told["jam"]] == times
        (overload,) = told["overload"]
        assert (overload.state, overload.first_bad.mono_ns) == ("open", first_bad.mono_ns)


async def test_nothing_is_taken_for_silent_of_which_something_waits(tmp_path: Path) -> None:
    """Its delays end with its readings, not with the time that passes while they wait."""
    clock = HandClock()
    async with polling(tmp_path, clock) as floor:
        await floor.put("voice", (b"x",))
        await floor.watch.close()
        async with disk_stands_still(floor.journal):
            await floor.status(jam=True)
            clock.go(50)
            await floor.put("voice", (b"x",))
            now = clock.go(50)
            assert not floor.late(), "who would look at what waits turns in circles"
            async with asyncio.timeout(AT_ONCE_S):
                await floor.watch.look(now)
        await floor.watch.close()
        assert await floor.look() == ["belt-1 jam"]
        clock.go(10)
        assert await floor.look() == ["belt-1 jam", "belt-1 quiet"]


async def test_what_fell_due_meanwhile_is_looked_at_as_soon_as_nothing_waits(tmp_path: Path) -> None:
    """On the real clock: nothing is delivered after the two readings."""
    clock = Clock()
    short = conveyor(text=CONVEYOR.replace("on_delay_s: 5", "on_delay_s: 0.2"))
    async with opened(tmp_path, clock) as journal:
        raised: list[str] = []
        journal.on_written = lambda rows: raised.extend(row.fault for row in rows)
        watch = await Watch.start([short], journal, Recorder([short]), clock.stamp)
        async with running(watch.run()):
            async with disk_stands_still(journal):
                for frame in (b"1,1.0", b"1,20"):
                    at = clock.stamp()
                    await watch.put(Reading(device="belt-1", read="status", at=at, payload=(frame,)))
                await asyncio.sleep(0.4)
            await wait_until(lambda: raised == ["jam", "overload"], what=f"{raised}")


async def test_what_could_not_be_written_is_written_once_there_is_room(tmp_path: Path) -> None:
    clock = HandClock()
    belts = [conveyor(f"belt-{number}") for number in range(40)]
    async with polling(tmp_path, clock, *belts) as floor:
        pages = await at_ledger(floor.journal, lambda ledger: limit_pages(ledger, 0))
        await at_ledger(floor.journal, lambda ledger: limit_pages(ledger, pages))
        for belt in belts:
            await floor.status(jam=True, device=belt.id)
        await floor.watch.close()
        assert len(await floor.open()) < 40
        await at_ledger(floor.journal, lambda ledger: limit_pages(ledger, pages + 100))
        assert await floor.look() == sorted(f"{belt.id} jam" for belt in belts)


async def test_a_disk_that_stands_too_long_holds_up_the_bus_and_nothing_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "MAX_WAITING", 3)
    clock = HandClock()
    async with polling(tmp_path, clock) as floor:
        async with disk_stands_still(floor.journal):
            for jam in (True, False, True):
                clock.go(900)
                await floor.status(jam=jam)
            clock.go(900)
            fourth = asyncio.ensure_future(floor.status(jam=False))
            _, waiting = await asyncio.wait({fourth}, timeout=0.1)
            assert waiting
        await fourth
        await floor.watch.close()
        assert [row.state for row in await rows(floor) if row.fault == "jam"] == ["closed", "closed"]


async def test_a_reading_that_cannot_be_taken_holds_up_neither_those_behind_it_nor_what_is_due(
    tmp_path: Path,
) -> None:
    clock = HandClock()
    async with polling(tmp_path, clock) as floor:
        clock.go(61)
        wrong: Any = None
        async with running(floor.watch.run()):
            await floor.put("status", wrong)
            await floor.watch.close()
            await wait_until(lambda: not floor.late(), what="the silence that is due")
            await floor.status(jam=True)
            await floor.watch.close()
        assert await floor.open() == ["belt-1 jam", "belt-1 quiet"]


async def test_what_cannot_be_understood_is_passed_over_where_it_would_come_again(tmp_path: Path) -> None:
    clock = HandClock()
    belts = [conveyor(f"belt-{number}") for number in range(40)]
    async with polling(tmp_path, clock, *belts) as floor:

        async def told(belt: Device, payload: Any) -> None:
            reading = Reading(device=belt.id, read="status", at=clock.stamp(), payload=payload)
            await floor.watch.put_durably(reading)

        async def all_jam() -> None:
            for belt in belts:
                await told(belt, (b"1,1.0",))

        await told(belts[0], None)
        await told(belts[0], (b"1,1.0",))
        assert await floor.open() == ["belt-0 jam"]
        # What could not be written has to come again.
        pages = await at_ledger(floor.journal, lambda ledger: limit_pages(ledger, 0))
        await at_ledger(floor.journal, lambda ledger: limit_pages(ledger, pages))
        with pytest.raises(JournalError):
            await all_jam()


DRIVE = """
schema: 1
name: drive
title: One register
maker: Nobody
models: [D1]
evidence: simulated
source: made for a test
transports: [modbus]
reads: {status: {function: 3, address: 0, count: 1, every_s: 0.05}}
signals: {jam: {read: status, register: 0, bit: 0, source: made for a test}}
conditions:
  - {component: belt, fault: jam, title: Jam, severity: stop, when: {is: {signal: jam, value: true}}}
"""


async def test_a_bus_is_polled_on_while_the_disk_stands_still(tmp_path: Path) -> None:
    port, clock, polls, jammed = free_port(), Clock(), Counter[str](), False

    async def answer(*asked: Any) -> None:
        registers: list[int] = asked[4]
        registers[0] = int(jammed)

    memory = SimData(0, values=[0], datatype=DataType.REGISTERS)
    plcs = [SimDevice(unit, simdata=memory, action=answer) for unit in (1, 2)]
    server = ModbusTcpServer(plcs, address=("127.0.0.1", port))
    drive = profile.parse(DRIVE, name="drive", overlay=None)
    drives = [Device(id=f"drive-{unit}", place="", bus="bus", profile=drive, unit=unit) for unit in (1, 2)]
    async with opened(tmp_path, clock) as journal, running(server.serve_forever()):  # type: ignore[arg-type]
        await wait_until(lambda: listens(port))
        watch = await Watch.start(drives, journal, Recorder(drives), clock.stamp)

        async def deliver(reading: Reading) -> None:
            await watch.put(reading)
            polls[reading.device] += 1

        settings = Settings(name="bus", mode="tcp", host="127.0.0.1", port=port)
        async with running(Transport(settings, drives, deliver, clock.stamp).run()):
            async with disk_stands_still(journal):
                jammed = True
                before = polls.copy()
                await wait_until(lambda: all(polls[one.id] >= before[one.id] + 20 for one in drives))
            await watch.close()
            raised = await journal.open_occurrences()
            assert [row.key for row in raised] == ["drive-1|belt|jam", "drive-2|belt|jam"]
        await server.shutdown()
