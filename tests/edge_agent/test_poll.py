"""Which reads share a request, and the shortest request that shows that a unit lives."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rigs.readings import device

from edge_agent.poll import asks, blocks, probes
from edge_agent.profile import ModbusRead, RequestRead


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


def test_a_device_that_answers_few_registers_is_asked_for_no_more_at_once() -> None:
    reads = {"a": registers(0, 20), "b": registers(20, 20), "c": registers(40, 6)}
    made = blocks(device("module", dict(reads), max_registers=45))
    assert [(block.address, block.count) for block in made] == [(0, 40), (40, 6)]


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


def probe_spans(*reads: ModbusRead) -> list[tuple[int, int, int]]:
    own = blocks(device("plc", {f"r{number}": read for number, read in enumerate(reads)}))
    return [(probe.function, probe.address, probe.count) for _, probe in probes(own)]


@pytest.mark.parametrize(
    ("reads", "expected"),
    [
        # One register of the block.
        ([registers(8448, 40)], [(3, 8448, 1)]),
        # An answer of one register could be that of the second block: two are asked for.
        ([registers(0, 40), registers(100, 1)], [(3, 0, 2), (3, 100, 1)]),
        # Another function answers otherwise.
        ([registers(0, 40), registers(100, 1, function=4)], [(3, 0, 1), (4, 100, 1)]),
        # 8 bits are one byte of the answer, as 1 bit is.
        ([registers(0, 40, function=1), registers(200, 8, function=1)], [(1, 0, 9), (1, 200, 8)]),
        # What is to be read whole is read whole.
        ([registers(1499, 21, whole=True)], [(3, 1499, 21)]),
        ([registers(7, 1)], [(3, 7, 1)]),
    ],
)
def test_a_probe_is_the_shortest_request_whose_answer_looks_like_no_other(
    reads: list[ModbusRead], expected: list[tuple[int, int, int]]
) -> None:
    assert probe_spans(*reads) == expected


@given(
    st.lists(
        st.builds(
            registers,
            st.integers(min_value=0, max_value=400),
            st.integers(min_value=1, max_value=60),
            function=st.sampled_from([1, 3, 4]),
            whole=st.booleans(),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_a_probe_asks_for_nothing_that_its_block_does_not_read(reads: list[ModbusRead]) -> None:
    own = blocks(device("plc", {f"r{number}": read for number, read in enumerate(reads)}))
    for block, probe in probes(own):
        assert (probe.device, probe.unit, probe.function) == (block.device, block.unit, block.function)
        assert (probe.address, probe.parts) == (block.address, ())
        assert probe.count <= block.count
        assert not block.whole or probe.count == block.count


def test_a_question_that_is_not_enabled_is_never_asked() -> None:
    reads = {"asked": RequestRead(send="?"), "kept": RequestRead(send="!", enabled=False)}
    assert [ask.read for ask in asks(device("scanner", dict(reads)))] == ["asked"]
