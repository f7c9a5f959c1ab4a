"""What a serial bus gives its units, hours of it in simulated time: with a dead one, a slow one, too many."""

import asyncio
import itertools
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random

import pytest
from rigs.paced_line import OnLine, PacedLine, Unit, crc, registers
from rigs.readings import Readings, device, running, stamp
from simulation import virtual

from edge_agent.device import Device
from edge_agent.plan import plan
from edge_agent.profile import ModbusRead
from edge_agent.sample import Trouble
from edge_agent.transports.modbus import ASSUMED_RTU_ANSWER_S, Settings

TEN = range(1, 11)


def settings(baud: int = 19_200) -> Settings:
    return Settings(name="drives", mode="rtu", port="/dev/ttyS1", baud=baud)


def drives(every_s: float, *, count: int = 20, units: range = TEN) -> list[Device]:
    read = ModbusRead(function=3, address=8448, count=count, every_s=every_s, timeout_s=1.0)
    return [device(f"drive-{unit}", {"all": read}, unit=unit) for unit in units]


def in_simulated_time(story: Callable[[], Awaitable[None]]) -> None:
    async def told() -> None:
        ended.append(await story())

    ended: list[None] = []
    virtual.run(told)
    assert ended, "the story did not come to its end"


def read_in(readings: Readings, seen: int) -> Counter[str]:
    return Counter(reading.device for reading in readings[seen:] if reading.trouble is None)


@pytest.mark.parametrize("every_s", [1.0, 0.6])
def test_one_dead_unit_among_ten_leaves_the_others_nine_tenths_of_their_rate(every_s: float) -> None:
    async def story() -> None:
        line = PacedLine(settings(), {unit: Unit() for unit in TEN})
        bus, readings = drives(every_s), Readings()
        assert plan(line.settings, bus).load < 1
        async with running(OnLine(line, bus, readings.deliver, stamp).run()):
            await asyncio.sleep(300)
            well = read_in(readings, 0)
            assert min(well.values()) >= 0.99 * 300 / every_s
            line.units[5].dead = True
            # Each minute from then on, the one included in which it was found out.
            for _ in range(10):
                seen = len(readings)
                await asyncio.sleep(60)
                found = read_in(readings, seen)
                assert set(found) == {f"drive-{unit}" for unit in TEN if unit != 5}
                assert min(found.values()) >= 0.9 * 60 / every_s
            line.units[5].dead = False
            await asyncio.sleep(65)
            seen = len(readings)
            await asyncio.sleep(60)
            assert min(read_in(readings, seen)[one.id] for one in bus) >= 0.99 * 60 / every_s

    in_simulated_time(story)


def test_five_dead_units_together_leave_the_others_nine_tenths_of_their_rate() -> None:
    async def story() -> None:
        line = PacedLine(settings(), {unit: Unit(dead=unit > 5) for unit in TEN})
        readings = Readings()
        async with running(OnLine(line, drives(1.0), readings.deliver, stamp).run()):
            await asyncio.sleep(120)
            seen = len(readings)
            await asyncio.sleep(1200)
            found = read_in(readings, seen)
        assert len(found) == 5
        assert min(found.values()) >= 0.9 * 1200
        asked = [count for moment, unit, count in line.requests if unit > 5 and moment > 120]
        # One register each time, and seldom.
        assert set(asked) == {1}
        assert len(asked) <= 0.1 * 1200

    in_simulated_time(story)


def test_a_dead_unit_whose_answers_all_look_alike_does_not_hold_up_the_others() -> None:
    async def story() -> None:
        line = PacedLine(settings(), {unit: Unit() for unit in TEN})
        readings = Readings()
        # One register: no shorter question tells a late answer from the next one.
        async with running(OnLine(line, drives(0.5, count=1), readings.deliver, stamp).run()):
            await asyncio.sleep(60)
            line.units[5].dead = True
            await asyncio.sleep(120)
        # Longer than its timeout the line waits for nobody.
        moments = [moment for moment, _, _ in line.requests]
        assert max(later - sooner for sooner, later in itertools.pairwise(moments)) <= 1.1

    in_simulated_time(story)


def test_a_unit_that_becomes_slower_keeps_its_place() -> None:
    async def story() -> None:
        line = PacedLine(settings(), {unit: Unit() for unit in TEN})
        readings = Readings()
        async with running(OnLine(line, drives(2.0), readings.deliver, stamp).run()):
            await asyncio.sleep(300)
            line.units[5].answer_s = 0.5
            seen = len(readings)
            await asyncio.sleep(600)
        missed = [reading for reading in readings[seen:] if reading.trouble is not None]
        assert [(one.device, one.trouble) for one in missed] == [("drive-5", Trouble.NO_ANSWER)]
        assert min(read_in(readings, seen).values()) >= 0.99 * 300

    in_simulated_time(story)


# By 11 an answer is lost in another's; the next one is not that to what was asked a minute before.
@pytest.mark.parametrize("seed", [1, 11])
def test_a_unit_that_is_always_too_late_is_said_to_be_late_and_not_only_silent(seed: int) -> None:
    async def story() -> None:
        line = PacedLine(settings(), {1: Unit(answer_s=1.4), 2: Unit()})
        readings = Readings()
        both = drives(1.0, units=range(1, 3))
        async with running(OnLine(line, both, readings.deliver, stamp, random=Random(seed)).run()):
            await asyncio.sleep(300)
        told = {one.detail for one in readings.of(device="drive-1") if "timeout_s" in one.detail}
        assert len(told) == 1
        last = readings.of(device="drive-1")[-1]
        assert last.trouble is Trouble.NO_ANSWER
        assert last.detail == (
            "no answer within 1 s; its last answer came after 1.4 s: timeout_s is too short for it"
        )
        # It is left alone all the same.
        assert read_in(readings, 0)["drive-2"] >= 0.9 * 300

    in_simulated_time(story)


def test_a_unit_that_refuses_a_short_question_has_shown_that_it_lives() -> None:
    def says(request: bytes) -> bytes | None:
        unit, _, address, count = struct.unpack(">BBHH", request[:6])
        frame = bytes([unit, 0x83, 3])
        return registers(unit, address, count) if count == 20 else frame + crc(frame)

    async def story() -> None:
        fussy = Unit(says=says)
        line = PacedLine(settings(), {1: fussy, 2: Unit()})
        readings = Readings()
        async with running(OnLine(line, drives(1.0, units=range(1, 3)), readings.deliver, stamp).run()):
            await asyncio.sleep(30)
            fussy.dead = True
            await asyncio.sleep(1.5)
            fussy.dead = False
            seen = len(readings)
            await asyncio.sleep(30)
        assert (1, 1) in {(unit, count) for _, unit, count in line.requests}
        assert set(readings.troubles()) == {Trouble.NO_ANSWER}
        assert read_in(readings, seen)["drive-1"] >= 28

    in_simulated_time(story)


def test_one_slow_answer_among_many_is_missed_once_and_known_from_then_on() -> None:
    async def story() -> None:
        drive = Unit()
        line = PacedLine(settings(), {1: drive, 2: Unit()})
        readings = Readings()
        async with running(OnLine(line, drives(1.0, units=range(1, 3)), readings.deliver, stamp).run()):
            for _ in range(20):
                await asyncio.sleep(100)
                drive.answer_s = 0.4
                await asyncio.sleep(1)
                drive.answer_s = 0.02
        assert len(readings.troubles()) <= 1

    in_simulated_time(story)


@pytest.mark.parametrize("baud", [9_600, 19_200, 115_200])
def test_what_check_predicts_is_what_the_line_takes(baud: int) -> None:
    async def story() -> None:
        line = PacedLine(settings(baud), {unit: Unit(answer_s=ASSUMED_RTU_ANSWER_S) for unit in TEN})
        bus, readings = drives(2.0), Readings()
        transport = OnLine(line, bus, readings.deliver, stamp)
        async with running(transport.run()):
            await asyncio.sleep(130)
        gave = transport.service()
        assert gave is not None
        assert gave.cycle_s == pytest.approx(plan(line.settings, bus).cycle_s, rel=0.1)
        assert gave.kept == gave.due

    in_simulated_time(story)


def test_what_check_calls_too_much_is_too_much_and_the_bus_says_so() -> None:
    async def story() -> None:
        line = PacedLine(settings(9_600), {unit: Unit(answer_s=ASSUMED_RTU_ANSWER_S) for unit in TEN})
        bus, readings = drives(0.5), Readings()
        load = plan(line.settings, bus).load
        assert load > 1.3
        transport = OnLine(line, bus, readings.deliver, stamp)
        async with running(transport.run()):
            await asyncio.sleep(130)
        gave = transport.service()
        assert gave is not None
        assert gave.is_behind
        assert gave.kept / gave.due == pytest.approx(1 / load, rel=0.1)
        # Nobody starves.
        assert max(read_in(readings, 0).values()) - min(read_in(readings, 0).values()) <= 2

    in_simulated_time(story)
