"""Which reads share a request, when each is due, and what a silent unit may cost."""

import itertools
import re
from collections.abc import Iterable
from random import Random
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rigs.readings import device

from edge_agent.poll import Block, Line, Schedule, apart, asks, blocks, plan
from edge_agent.profile import IppRead, ListenRead, ModbusRead, RequestRead, TopicRead


def registers(
    address: int, count: int, *, function: int = 3, every_s: float = 1.0, **more: object
) -> ModbusRead:
    return ModbusRead.model_validate(
        {"function": function, "address": address, "count": count, "every_s": every_s, **more}
    )


def spans(reads: Iterable[ModbusRead]) -> list[tuple[int, int, int]]:
    made = blocks(device("plc", {f"r{number}": read for number, read in enumerate(reads)}))
    return [(block.function, block.address, block.count) for block in made]


@pytest.mark.parametrize(
    ("reads", "expected"),
    [
        ([registers(0, 4)], [(3, 0, 4)]),
        ([registers(0, 4), registers(4, 4)], [(3, 0, 8)]),
        ([registers(10, 2), registers(0, 4)], [(3, 0, 12)]),
        # A hole of eight is read along, one of nine is not.
        ([registers(0, 4), registers(12, 4)], [(3, 0, 16)]),
        ([registers(0, 4), registers(13, 4)], [(3, 0, 4), (3, 13, 4)]),
        # One answer carries 125 registers.
        ([registers(0, 100), registers(100, 25)], [(3, 0, 125)]),
        ([registers(0, 100), registers(100, 26)], [(3, 0, 100), (3, 100, 26)]),
        # Overlaps and a block inside another.
        ([registers(0, 10), registers(2, 3), registers(9, 4)], [(3, 0, 13)]),
        # Different function or interval.
        ([registers(0, 4), registers(4, 4, function=4)], [(3, 0, 4), (4, 4, 4)]),
        ([registers(0, 4), registers(4, 4, every_s=5)], [(3, 0, 4), (3, 4, 4)]),
        # A device that wants its block alone.
        ([registers(1500, 8, whole=True), registers(1508, 2)], [(3, 1500, 8), (3, 1508, 2)]),
        ([registers(0, 2), registers(2, 8, whole=True)], [(3, 0, 2), (3, 2, 8)]),
        # Bits.
        ([registers(0, 8, function=2), registers(72, 8, function=2)], [(2, 0, 80)]),
        ([registers(0, 8, function=2), registers(73, 8, function=2)], [(2, 0, 8), (2, 73, 8)]),
        ([registers(0, 1990, function=1), registers(1990, 20, function=1)], [(1, 0, 1990), (1, 1990, 20)]),
    ],
)
def test_near_reads_of_one_kind_share_a_request(
    reads: list[ModbusRead], expected: list[tuple[int, int, int]]
) -> None:
    assert spans(reads) == expected


@given(
    st.lists(
        st.builds(
            registers,
            st.integers(min_value=0, max_value=400),
            st.integers(min_value=1, max_value=125),
            function=st.sampled_from([3, 4]),
            every_s=st.sampled_from([1.0, 5.0]),
            whole=st.booleans(),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_every_read_is_found_once_at_its_own_address_in_a_request_that_a_device_may_answer(
    reads: list[ModbusRead],
) -> None:
    named = {f"r{number}": read for number, read in enumerate(reads)}
    made = blocks(device("plc", dict(named)))
    for block in made:
        assert block.count <= 125
        for part in block.parts:
            read = named[part.read]
            assert (block.address + part.offset, part.count) == (read.address, read.count)
            assert part.offset + part.count <= block.count
            assert (block.function, block.every_s) == (read.function, read.every_s)
            assert len(block.parts) == 1 or not read.whole
    assert sorted(part.read for block in made for part in block.parts) == sorted(named)


def test_a_shared_request_that_is_refused_comes_apart_into_its_reads() -> None:
    (shared,) = blocks(device("plc", {"status": registers(10, 2), "speed": registers(14, 1)}))
    assert [(one.address, one.count, one.parts[0].read) for one in apart(shared)] == [
        (10, 2, "status"),
        (14, 1, "speed"),
    ]


def poll(device: str, every_s: float = 1.0, timeout_s: float = 1.0, address: int = 0) -> Block:
    return Block(
        device=device,
        unit=1,
        function=3,
        address=address,
        count=1,
        every_s=every_s,
        timeout_s=timeout_s,
        parts=(),
    )


def due(schedule: Schedule[Block]) -> tuple[float, Block]:
    found = schedule.next()
    assert found is not None
    return found


def test_a_bus_without_requests_has_nothing_due() -> None:
    empty: list[Block] = []
    assert Schedule(empty, now=0.0, random=Random(1)).next() is None


def test_a_late_poll_does_not_shift_the_next_one() -> None:
    one = poll("a")
    schedule = Schedule([one], now=100.0, random=Random(1))
    schedule.asked(one, 100.7)
    assert due(schedule)[0] == 101.0


def test_missed_cycles_are_skipped_not_queued() -> None:
    one = poll("a")
    schedule = Schedule([one], now=100.0, random=Random(1))
    schedule.asked(one, 107.2)
    assert due(schedule)[0] == 108.0


@given(
    every=st.floats(min_value=0.01, max_value=3600),
    late=st.floats(min_value=0, max_value=1e6),
    start=st.floats(min_value=0, max_value=1e7),
)
def test_the_next_time_always_lies_ahead_and_at_most_one_interval(
    every: float, late: float, start: float
) -> None:
    one = poll("a", every_s=every)
    schedule = Schedule([one], now=start, random=Random(1))
    schedule.asked(one, start + late)
    assert 0 < due(schedule)[0] - (start + late) <= every * 1.001 + 1e-6


def test_on_a_bus_that_is_too_slow_every_poll_still_gets_its_turn() -> None:
    polls = [poll("a", 0.1, address=1), poll("b", 0.2, address=2), poll("c", 1.0, address=3)]
    schedule = Schedule(polls, now=0.0, random=Random(1))
    now, turns = 0.0, {"a": 0, "b": 0, "c": 0}
    for _ in range(60):
        moment, one = due(schedule)
        now = max(now, moment)
        schedule.asked(one, now)
        turns[one.device] += 1
        now += 0.5
        schedule.answered(one, now)
    assert min(turns.values()) >= 10


def play(
    schedule: Schedule[Block], dead: set[str], until: float, answer_s: float = 0.01
) -> list[tuple[float, str]]:
    """Ask what is due; a dead unit costs its timeout, twice as on RTU. Returns when each request began."""
    now, asked = 0.0, []
    while True:
        moment, one = due(schedule)
        now = max(now, moment)
        if now > until:
            return asked
        schedule.asked(one, now)
        asked.append((now, one.device))
        if one.device in dead:
            now += one.timeout_s * 2
            schedule.silent(one, now)
        else:
            now += answer_s
            schedule.answered(one, now)


def test_a_dead_unit_costs_its_neighbours_at_most_a_tenth() -> None:
    polls = [poll("well", 0.5), *(poll("dead", 0.5, address=n) for n in range(3))]
    schedule = Schedule(polls, now=0.0, random=Random(1), timeouts_lost=2)
    asked = play(schedule, {"dead"}, until=1000.0)
    probes = [moment for moment, device in asked if device == "dead" and moment > 30]
    assert len(probes) * 2.0 <= 100
    assert all(30 <= later - sooner <= 64 for sooner, later in itertools.pairwise(probes))
    assert len({round(later - sooner, 3) for sooner, later in itertools.pairwise(probes)}) > 3
    assert sum(device == "well" for _, device in asked) >= 0.9 * 2000


def test_twenty_dead_units_together_cost_at_most_a_tenth() -> None:
    polls = [poll("well", 1.0), *(poll(f"dead-{n}", 1.0) for n in range(20))]
    schedule = Schedule(polls, now=0.0, random=Random(1), timeouts_lost=2)
    asked = play(schedule, {f"dead-{n}" for n in range(20)}, until=5000.0)
    settled = [device for moment, device in asked if moment > 1000]
    assert sum(device != "well" for device in settled) * 2.0 <= 0.1 * 4000 * 1.05
    assert sum(device == "well" for device in settled) >= 0.85 * 4000


def test_a_unit_is_given_up_only_after_three_silent_rounds_and_a_silent_round_costs_one_timeout() -> None:
    polls = [poll("well", 10.0), poll("dead", 10.0, address=1), poll("dead", 10.0, address=2)]
    schedule = Schedule(polls, now=0.0, random=Random(1))
    asked = play(schedule, {"dead"}, until=29.0)
    assert [device for _, device in asked].count("dead") == 3
    assert schedule.quarantined("dead")
    assert not schedule.quarantined("well")


def test_one_answer_ends_the_quarantine_and_everything_is_read_at_once() -> None:
    first, second = poll("back", 10.0, address=1), poll("back", 10.0, address=2)
    schedule = Schedule([poll("well", 1000.0), first, second], now=0.0, random=Random(1))
    play(schedule, {"back"}, until=25.0)
    moment, probe = due(schedule)
    assert schedule.quarantined("back")
    schedule.asked(probe, moment)
    assert schedule.answered(probe, moment + 0.1)
    assert not schedule.quarantined("back")
    following, other = due(schedule)
    assert (following, {probe.address, other.address}) == (moment + 0.1, {1, 2})


def test_a_unit_alone_on_its_bus_keeps_its_rate_but_counts_as_silent() -> None:
    alone = poll("alone", 1.0)
    schedule = Schedule([alone], now=0.0, random=Random(1))
    verdicts = []
    for now in range(4):
        schedule.asked(alone, float(now))
        verdicts.append(schedule.silent(alone, now + 0.5))
    assert verdicts == [False, False, True, True]
    assert due(schedule)[0] == 4.0


def test_a_unit_that_leaves_out_one_of_its_answers_is_not_given_up() -> None:
    deaf, well = poll("odd", 1.0, address=1), poll("odd", 1.0, address=2)
    schedule = Schedule([deaf, well, poll("neighbour", 1.0)], now=0.0, random=Random(1))
    now, answered = 0.0, 0
    while now < 60:
        moment, one = due(schedule)
        now = max(now, moment)
        schedule.asked(one, now)
        if one is deaf:
            schedule.silent(one, now + 0.2)
        else:
            answered += one is well
            schedule.answered(one, now)
    assert not schedule.quarantined("odd")
    assert answered >= 25


def test_requests_that_came_apart_are_asked_in_place_of_the_shared_one() -> None:
    (shared,) = blocks(device("plc", {"status": registers(10, 2), "speed": registers(14, 1)}))
    schedule = Schedule([shared], now=0.0, random=Random(1))
    schedule.asked(shared, 0.0)
    pieces = apart(shared)
    schedule.replace(shared, pieces, 0.1)
    now = 0.1
    for expected in pieces:
        moment, one = due(schedule)
        assert (moment, one) == (0.1, expected)
        schedule.asked(one, now)
    assert due(schedule)[0] == 1.0


def bus(line: Line) -> SimpleNamespace:
    return SimpleNamespace(name="drives", line=line)


RTU = Line(words="Modbus RTU on /dev/ttyS1, 9600 baud 8N1", byte_s=10 / 9600, request_s=0.02, framing_bytes=6)


def test_the_plan_says_what_is_read_how_often_and_what_it_costs() -> None:
    drive = device("drive-1", {"status": registers(8448, 2), "speed": registers(8451, 1)}, unit=5)
    text = plan(bus(RTU), [drive]).lines()
    assert text == [
        "Modbus RTU on /dev/ttyS1, 9600 baud 8N1",
        "drive-1 unit 5: holding registers 8448-8451 (status, speed in one request) every 1 s, about 42 ms",
        "everything once takes about 42 ms (assumed: 20 ms for the device to answer); 4% of the line is used",
    ]


def test_the_plan_says_in_words_that_a_line_cannot_carry_it() -> None:
    many = [device(f"drive-{n}", {"all": registers(0, 120)}, unit=n) for n in range(1, 9)]
    found = plan(bus(RTU), many)
    assert found.load > 1
    assert "cannot carry it" in found.lines()[-1]
    # Numbers as a person would say them.
    assert not re.search(r"\d\.\d\d", " ".join(found.lines()))


def test_the_plan_warns_of_a_line_that_is_nearly_full() -> None:
    some = [device(f"drive-{n}", {"all": registers(0, 120)}, unit=n) for n in range(1, 4)]
    assert "nearly full" in plan(bus(RTU), some).lines()[-1]


def test_the_plan_names_what_is_asked_listened_to_and_subscribed() -> None:
    line = Line(words="any")
    printer = device("printer", {"hs": RequestRead(send="~HS", frames=3, every_s=5)}, framing="stx_etx")
    scanner = device("scanner", {"scan": ListenRead(listen=True)}, framing="line")
    beacon = device("beacon", {"presence": TopicRead(topic="tele/{topic}/LWT")}, topic="dock-7")
    queue = device("queue", {"all": IppRead(attributes=("printer-state", "queued-job-count"))})
    assert plan(bus(line), [printer, scanner, beacon, queue]).lines() == [
        "any",
        "printer: asks (hs) every 5 s, about 10 ms",
        "queue: asks for 2 attributes (all) every 10 s, about 10 ms",
        "scanner: listens (scan)",
        "beacon: tele/dock-7/LWT (presence), QoS 1",
        "everything once takes about 20 ms (assumed: 10 ms for the device to answer); 0% of the line is used",
    ]


def test_a_question_that_is_not_enabled_is_never_asked() -> None:
    reads = {"asked": RequestRead(send="?"), "kept": RequestRead(send="!", enabled=False)}
    assert [ask.read for ask in asks(device("scanner", dict(reads)))] == ["asked"]
