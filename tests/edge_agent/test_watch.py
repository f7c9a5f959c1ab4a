from __future__ import annotations

import asyncio
import itertools
import json
from contextlib import suppress
from pathlib import Path

import pytest
from rigs.journals import InMemory, at_ledger, limit_pages
from rigs.moments import NS_PER_S, HandClock, ids
from rigs.ports import wait_until
from rigs.readings import running
from rigs.watching import CONVEYOR, Floor, conveyor, watching

from edge_agent.clock import Clock
from edge_agent.journal import Journal, JournalError
from edge_agent.ledger import Ledger
from edge_agent.recorder import Recorder
from edge_agent.sample import Reading, Trouble
from edge_agent.watch import Watch
from edge_agent.wire import MAX_EVIDENCE_BYTES, read_row


async def test_a_reading_that_changes_something_is_durable_when_it_was_taken(tmp_path: Path) -> None:
    clock = HandClock()
    async with watching(tmp_path, clock) as floor:
        await floor.status(jam=False)
        clock.go(1)
        await floor.status(jam=True)
        (row,) = await floor.journal.open_occurrences()
        assert (row.device, row.component, row.fault, row.severity) == ("belt-1", "belt", "jam", 30)
        assert row.first_bad == row.raised == clock.stamp()
        assert row.severities[0].at == row.raised
        good = clock.go(7)
        await floor.status(jam=False)
        batch = await floor.journal.batch(max_rows=9, max_bytes=1 << 20)
        (sent,) = batch.rows
        assert isinstance(sent, dict)
        assert (sent["uid"], sent["rev"], sent["state"]) == (row.uid, 2, "closed")
        assert sent["cleared"]["mono_ns"] == good.mono_ns


async def test_a_raised_jam_carries_what_was_seen(tmp_path: Path) -> None:
    clock = HandClock()
    async with watching(tmp_path, clock) as floor:
        await floor.status(jam=False)
        await floor.voice(b"4012345678901")
        clock.go(1.5)
        await floor.status(jam=True)
        (row,) = await floor.journal.open_occurrences()
        assert row.evidence == {
            "samples": [{"signal": "jam", "value": True, "quality": "good", "age_ms": 0}],
        }


async def test_an_occurrence_says_what_was_learned_that_made_it_one(tmp_path: Path) -> None:
    clock = HandClock()
    learned = CONVEYOR.replace("s: 60}", "s: 60, learned: {at_least_s: 10}}")
    async with watching(tmp_path, clock, devices=[conveyor(text=learned)]) as floor:
        for _ in range(101):
            await floor.voice(b"x")
            clock.go(5)
        clock.go(10)
        await floor.look()
        (row,) = await floor.journal.open_occurrences()
        assert row.evidence is not None
        assert row.evidence["why"] == ["heard: silent for 15 s; usually for at most 5 s"]
        assert len(json.dumps(row.evidence)) <= MAX_EVIDENCE_BYTES


async def test_readings_that_change_nothing_write_nothing(tmp_path: Path) -> None:
    clock = HandClock()
    async with watching(tmp_path, clock) as floor:

        def changes(ledger: Ledger) -> int:
            return ledger._sql.total_changes

        before = await at_ledger(floor.journal, changes)
        for _ in range(50):
            clock.go(1)
            await floor.status()
            await floor.voice(b"x")
        assert await at_ledger(floor.journal, changes) == before


async def test_a_condition_is_not_called_known_before_its_fault_is_written(tmp_path: Path) -> None:
    """A head that was made meanwhile would tell that a jam of before the start has ended."""
    clock = HandClock()
    async with watching(tmp_path, clock) as floor:
        taken = asyncio.ensure_future(floor.status(jam=True))
        # It was decided on, and not yet handed to the journal.
        await asyncio.sleep(0)
        unsettled = floor.watch.unsettled()
        batch = await floor.journal.batch(max_rows=9, max_bytes=1 << 20)
        assert batch.open_uids or "belt-1|belt|jam" in unsettled
        await taken
        assert "belt-1|belt|jam" not in floor.watch.unsettled()


async def test_a_device_that_is_gone_is_one_occurrence_and_the_rest_is_unknown(tmp_path: Path) -> None:
    clock = HandClock()
    async with watching(tmp_path, clock) as floor:
        await floor.status(jam=True)
        clock.go(1)
        await floor.trouble(Trouble.NO_LINK)
        clock.go(31)
        await floor.trouble(Trouble.NO_LINK)
        assert await floor.open() == ["belt-1 jam", "belt-1 unreachable"]
        assert floor.watch.devices_unreachable() == 1
        clock.go(5)
        await floor.status(jam=False)
        assert await floor.open() == []
        assert floor.watch.devices_unreachable() == 0


async def flicker(floor: Floor, clock: HandClock, times: int) -> None:
    for _ in range(times):
        await floor.status(jam=True)
        clock.go(2)
        await floor.status(jam=False)
        clock.go(3)


async def test_an_eye_that_flickers_is_one_open_occurrence_until_it_was_quiet(tmp_path: Path) -> None:
    clock = HandClock()
    async with watching(tmp_path, clock) as floor:
        await flicker(floor, clock, 10)
        (row,) = [row for row in await floor.journal.open_occurrences() if row.fault == "jam"]
        assert (row.count, row.is_paused, len(row.pauses or ())) == (8, True, 8)
        for seconds, still_open in ((896, True), (1, False)):
            clock.go(seconds)
            await floor.look()
            open_faults = [row.fault for row in await floor.journal.open_occurrences()]
            assert ("jam" in open_faults) is still_open


@pytest.mark.parametrize("reboots", [False, True])
async def test_what_pauses_at_a_restart_had_ended(tmp_path: Path, reboots: bool) -> None:
    clock, new_id = HandClock(), ids()
    async with watching(tmp_path, clock, new_id=new_id) as floor:
        await flicker(floor, clock, 4)
        gone_ns = clock.mono_ns - 3 * NS_PER_S
        (row,) = await floor.journal.open_occurrences()
    clock.reboot() if reboots else clock.go(30)
    async with watching(tmp_path, clock, new_id=new_id) as floor:
        assert await floor.journal.open_occurrences() == []
        batch = await floor.journal.batch(max_rows=20, max_bytes=1 << 20)
        (ended,) = [read_row(one) for one in batch.rows if isinstance(one, dict) and one["uid"] == row.uid]
        assert (ended.state, ended.reason, ended.count) == ("closed", "cleared", 2)
        assert ended.cleared is not None
        assert (ended.cleared.boot, ended.cleared.mono_ns) == (row.first_bad.boot, gone_ns)
        # What was not read yet is not known to be well.
        assert "belt-1|belt|jam" in floor.watch.unsettled()
        # It is there again: another one, for nobody waited for it.
        await floor.status(jam=True)
        (fresh,) = await floor.journal.open_occurrences()
        assert (fresh.fault, fresh.count, fresh.pauses) == ("jam", 1, None)


async def test_what_is_there_at_a_restart_goes_on_with_its_pauses_and_ends_with_the_next_good_sample(
    tmp_path: Path,
) -> None:
    clock, new_id = HandClock(), ids()
    async with watching(tmp_path, clock, new_id=new_id) as floor:
        await flicker(floor, clock, 4)
        await floor.status(jam=True)
        (row,) = await floor.journal.open_occurrences()
    clock.reboot()
    async with watching(tmp_path, clock, new_id=new_id) as floor:
        await floor.status(jam=True)
        (same,) = await floor.journal.open_occurrences()
        assert same == row
        clock.go(5)
        await floor.status(jam=False)
        assert await floor.journal.open_occurrences() == []


async def test_what_the_collector_closed_while_it_paused_begins_anew(tmp_path: Path) -> None:
    clock = HandClock()
    async with watching(tmp_path, clock) as floor:
        await flicker(floor, clock, 4)
        (row,) = await floor.journal.open_occurrences()
        await floor.watch.close_here([row.uid])
        assert await floor.journal.open_occurrences() == []
        await floor.status(jam=True)
        (fresh,) = await floor.journal.open_occurrences()
        assert (fresh.uid != row.uid, fresh.count) == (True, 1)


async def test_after_a_restart_what_was_open_stays_open_until_it_was_read(tmp_path: Path) -> None:
    clock, new_id = HandClock(), ids()
    async with watching(tmp_path, clock, new_id=new_id) as floor:
        await floor.status(jam=True)
        assert "belt-1|belt|jam" not in floor.watch.unsettled()
        (row,) = await floor.journal.open_occurrences()
    clock.reboot()
    async with watching(tmp_path, clock, new_id=new_id) as floor:
        assert sorted(floor.watch.unsettled()) == [
            "belt-1|belt|jam",
            "belt-1|belt|quiet",
            "belt-1|link|unreachable",
            "belt-1|motor|overload",
        ]
        assert await floor.journal.open_occurrences() == [row]
        clock.go(1)
        await floor.status(jam=True)
        assert await floor.journal.open_occurrences() == [row]
        assert sorted(floor.watch.unsettled()) == ["belt-1|belt|quiet"]
        clock.go(1)
        await floor.status(jam=False)
        assert await floor.open() == []


async def test_what_is_no_longer_configured_is_closed_as_not_watched(tmp_path: Path) -> None:
    clock, new_id = HandClock(), ids()
    both = [conveyor("belt-1"), conveyor("belt-2")]
    async with watching(tmp_path, clock, both, new_id) as floor:
        await floor.status(jam=True, device="belt-1")
        await floor.status(jam=True, device="belt-2")
    fewer = conveyor("belt-2", CONVEYOR.replace("fault: jam,", "fault: stuck,"))
    async with watching(tmp_path, clock, [fewer], new_id) as floor:
        assert await floor.open() == []
        batch = await floor.journal.batch(max_rows=9, max_bytes=1 << 20)
        assert [row["reason"] for row in batch.rows if isinstance(row, dict)] == ["not_watched"] * 2


async def test_what_the_collector_closed_is_unknown_until_it_was_read(tmp_path: Path) -> None:
    clock = HandClock()
    async with watching(tmp_path, clock) as floor:
        await floor.status(jam=True)
        (row,) = await floor.journal.open_occurrences()
        await floor.watch.close_here({row.uid, "f" * 32})
        assert await floor.open() == []
        assert "belt-1|belt|jam" in floor.watch.unsettled()
        clock.go(1)
        await floor.status(jam=True)
        (fresh,) = await floor.journal.open_occurrences()
        assert fresh.uid != row.uid
        assert "belt-1|belt|jam" not in floor.watch.unsettled()


async def test_what_the_collector_closed_and_is_over_stays_closed(tmp_path: Path) -> None:
    clock = HandClock()
    async with watching(tmp_path, clock) as floor:
        await floor.status(jam=True)
        (row,) = await floor.journal.open_occurrences()
        await floor.watch.close_here({row.uid})
        await floor.status(jam=False)
        assert await floor.open() == []
        batch = await floor.journal.batch(max_rows=9, max_bytes=1 << 20)
        (sent,) = batch.rows
        assert isinstance(sent, dict)
        assert (sent["uid"], sent["reason"]) == (row.uid, "closed_here")


async def test_a_closed_here_of_a_lost_device_is_raised_anew_while_it_is_lost(tmp_path: Path) -> None:
    clock = HandClock()
    async with watching(tmp_path, clock) as floor:
        await floor.trouble(Trouble.NO_LINK)
        clock.go(31)
        await floor.trouble(Trouble.NO_LINK)
        (row,) = await floor.journal.open_occurrences()
        await floor.watch.close_here({row.uid})
        clock.go(1)
        await floor.trouble(Trouble.NO_LINK)
        clock.go(31)
        await floor.trouble(Trouble.NO_LINK)
        assert await floor.open() == ["belt-1 unreachable"]


async def test_a_closed_here_of_what_nobody_reads_again_is_raised_anew_by_itself(tmp_path: Path) -> None:
    """A bus tells once that its link is gone; silence says nothing at all."""
    clock = HandClock()
    async with watching(tmp_path, clock) as floor:
        await floor.voice(b"x")
        clock.go(61)
        await floor.status()
        await floor.trouble(Trouble.NO_LINK, "status", "voice", device="belt-1")
        clock.go(31)
        assert await floor.look() == ["belt-1 quiet", "belt-1 unreachable"]
        rows = await floor.journal.open_occurrences()
        await floor.watch.close_here({row.uid for row in rows})
        assert await floor.look() == []
        clock.go(31)
        assert await floor.look() == ["belt-1 unreachable"]
        await floor.reading("voice", "belt-1")
        clock.go(61)
        assert await floor.look() == ["belt-1 quiet"]
        (row,) = await floor.journal.open_occurrences()
        await floor.watch.close_here({row.uid})
        assert await floor.look() == ["belt-1 quiet"]
        assert (await floor.journal.open_occurrences())[0].uid != row.uid


async def test_a_change_that_could_not_be_written_is_made_with_the_next_reading(tmp_path: Path) -> None:
    clock = HandClock()
    devices = [conveyor(f"belt-{number}") for number in range(40)]
    async with watching(tmp_path, clock, devices) as floor:
        pages = await at_ledger(floor.journal, lambda ledger: limit_pages(ledger, 0))
        await at_ledger(floor.journal, lambda ledger: limit_pages(ledger, pages))
        refused = []
        for device in devices:
            try:
                await floor.status(jam=True, device=device.id)
            except JournalError:
                refused.append(device.id)
        assert refused
        assert {f"{device}|belt|jam" for device in refused} < set(floor.watch.unsettled())
        await at_ledger(floor.journal, lambda ledger: limit_pages(ledger, pages + 100))
        for device_id in refused:
            await floor.status(jam=True, device=device_id)
        assert len(await floor.open()) == len(devices)


async def test_a_change_that_could_not_be_written_is_made_by_time_alone_when_nothing_is_read(
    tmp_path: Path,
) -> None:
    """A quiet that began while the disk was full: no reading will ever bring it up again."""
    clock = HandClock()
    async with watching(tmp_path, clock, [conveyor(f"belt-{number}") for number in range(40)]) as floor:
        pages = await at_ledger(floor.journal, lambda ledger: limit_pages(ledger, 0))
        await at_ledger(floor.journal, lambda ledger: limit_pages(ledger, pages))
        due = clock.go(60)
        with pytest.raises(JournalError):
            async with running(floor.watch.run()) as watching_time:
                await asyncio.wait({watching_time})
        assert len(await floor.open()) < 40
        await at_ledger(floor.journal, lambda ledger: limit_pages(ledger, pages + 100))
        clock.go(5)
        async with running(floor.watch.run()):
            await wait_until(lambda: not floor.late(), what="all are raised")
        rows = await floor.journal.open_occurrences()
        assert len(rows) == 40
        assert {row.raised.mono_ns for row in rows} == {due.mono_ns}


async def test_a_stop_while_the_disk_is_full_is_a_stop(tmp_path: Path) -> None:
    """What the journal refuses must not hide that the reading was cancelled, or its bus would go on."""
    clock = HandClock()
    devices = [conveyor(f"belt-{number}") for number in range(40)]
    async with watching(tmp_path, clock, devices) as floor:
        pages = await at_ledger(floor.journal, lambda ledger: limit_pages(ledger, 0))
        await at_ledger(floor.journal, lambda ledger: limit_pages(ledger, pages))
        for device in devices:
            with suppress(JournalError):
                await floor.status(jam=True, device=device.id)
        assert "belt-39 jam" not in await floor.open()
        for turn in range(60):
            reading = asyncio.create_task(floor.status(jam=True, device="belt-39"))
            for _ in range(turn % 8):
                await asyncio.sleep(0)
            if reading.cancel():
                await asyncio.wait({reading})
                assert reading.cancelled(), turn
        await at_ledger(floor.journal, lambda ledger: limit_pages(ledger, pages + 100))
        await floor.status(jam=True, device="belt-39")
        assert "belt-39 jam" in await floor.open()


async def test_whenever_a_reading_is_cancelled_what_was_refused_is_decided_anew() -> None:
    """Also between the refusal and the moment when its reading hears of it, and also twice."""
    clock, disk = HandClock(), InMemory(ids())
    devices = [conveyor(f"belt-{number}") for number in range(40)]
    journal = Journal(disk, stamp=clock.stamp)
    try:
        floor = Floor(await Watch.start(devices, journal, Recorder(devices), clock.stamp), journal, clock)
        limit_pages(disk.ledger, limit_pages(disk.ledger, 0))
        for device in devices:
            with suppress(JournalError):
                await floor.status(jam=True, device=device.id)
        assert "belt-39 jam" not in await floor.open()
        for steps, times in itertools.product(range(30), (1, 2)):
            reading = asyncio.create_task(floor.status(jam=True, device="belt-39"))
            for _ in range(steps):
                await asyncio.sleep(0)
            for _ in range(times):
                reading.cancel()
                await asyncio.sleep(0)
            await asyncio.wait({reading})
            assert not floor.watch._watched["belt-39"].detector.phases["belt/jam"].active, (steps, times)
        assert not reading.cancelled(), "it takes more steps"
        limit_pages(disk.ledger, 10_000)
        await floor.status(jam=True, device="belt-39")
        assert "belt-39 jam" in await floor.open()
    finally:
        await journal.close()


async def test_a_cancelled_reading_leaves_detector_and_journal_at_one(tmp_path: Path) -> None:
    clock = HandClock()
    async with watching(tmp_path, clock) as floor:
        for turn in range(60):
            clock.go(0.1)
            reading = asyncio.create_task(floor.status(jam=turn % 2 == 0))
            for _ in range(turn % 7):
                await asyncio.sleep(0)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            clock.go(0.1)
            jam = turn % 3 == 0
            await floor.status(jam=jam)
            assert await floor.open() == ["belt-1 jam"] * jam


async def test_readings_of_one_device_are_worked_off_in_their_order(tmp_path: Path) -> None:
    clock = HandClock()
    async with watching(tmp_path, clock) as floor:
        for turn in range(20):
            clock.go(1)
            await asyncio.gather(floor.status(jam=True), floor.status(jam=False))
            assert await floor.open() == [], turn
        batch = await floor.journal.batch(max_rows=99, max_bytes=1 << 20)
        assert sum(read_row(row).count for row in batch.rows) == 20


async def test_a_deadline_raises_by_itself_when_its_time_has_come(tmp_path: Path) -> None:
    """On the real clock: nothing is delivered after the first reading."""
    clock = Clock()
    text = CONVEYOR.replace("on_delay_s: 5", "on_delay_s: 0.2")
    devices = [conveyor(text=text)]
    journal = await Journal.open(tmp_path, new_id=ids(), stamp=clock.stamp)
    try:
        watch = await Watch.start(devices, journal, Recorder(devices), clock.stamp)
        async with running(watch.run()):
            await asyncio.sleep(0)
            began = clock.stamp()
            await watch.take(Reading(device="belt-1", read="status", at=began, payload=(b"0,12.5",)))
            await wait_until(journal.changed.is_set, what="the overload is raised")
        (row,) = await journal.open_occurrences()
        assert row.fault == "overload"
        assert row.first_bad == began
        assert row.raised.mono_ns == began.mono_ns + 200_000_000
    finally:
        await journal.close()


async def test_a_standstill_of_the_agent_is_no_silence_of_its_devices(tmp_path: Path) -> None:
    """Stopped or suspended, we hear nothing; what the scanner said meanwhile waits on the line."""
    clock, new_id = HandClock(), ids()
    async with watching(tmp_path, clock, new_id=new_id) as floor, running(floor.watch.run()):
        await floor.voice(b"x")
        await floor.status(current=20.0)
        await asyncio.sleep(0)
        clock.go(300)
        await floor.voice(b"y")
        assert await floor.open() == []
        clock.go(4)
        await floor.status(current=20.0)
        assert await floor.open() == []
        clock.go(1)
        await floor.status(current=20.0)
        assert await floor.open() == ["belt-1 overload"]
    async with watching(tmp_path, clock, new_id=new_id) as floor:
        await floor.voice(b"x")
        clock.go(60)
        assert await floor.look() == ["belt-1 overload", "belt-1 quiet"]
