"""Modbus over TCP and over pseudo-terminals: against pymodbus' server, and against peers that misbehave."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from pymodbus.datastore import ModbusDeviceContext, ModbusSequentialDataBlock, ModbusServerContext
from pymodbus.framer import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from rigs.ports import drops_whoever_knocks, free_port, listens, wait_until
from rigs.pty import Line
from rigs.readings import Readings, TickedReadings, device, running, stamp

from edge_agent.device import Device
from edge_agent.poll import Block
from edge_agent.profile import ModbusRead
from edge_agent.sample import Reading, Trouble
from edge_agent.transports import tcp
from edge_agent.transports.modbus import Miss, Settings, Transport, judge
from edge_agent.wire import Stamp

HOLDING = [1000 + n for n in range(64)]
BITS = [n % 3 == 0 for n in range(40)]


def read(address: int, count: int, *, function: int = 3, **more: object) -> ModbusRead:
    keys = {"function": function, "address": address, "count": count, "every_s": 0.05, "timeout_s": 0.3}
    return ModbusRead.model_validate(keys | more)


def over_tcp(port: int, readings: Readings, *devices: Device, mode: str = "tcp") -> Transport:
    settings = Settings(name="bus", mode=mode, host="127.0.0.1", port=port)
    return Transport(settings, devices, readings.deliver, stamp)


def over_line(line: Line, readings: Readings, *devices: Device) -> Transport:
    settings = Settings(name="bus", mode="rtu", port=str(line.path), baud=115_200)
    return Transport(settings, devices, readings.deliver, stamp)


def plc_memory() -> ModbusServerContext:
    def block(values: list[int] | list[bool]) -> ModbusSequentialDataBlock:
        return ModbusSequentialDataBlock(1, values)

    memory = ModbusDeviceContext(
        di=block(BITS), co=block(BITS[1:]), hr=block(HOLDING), ir=block([7 * n for n in range(64)])
    )
    return ModbusServerContext(devices={5: memory})


@asynccontextmanager
async def plc(port: int, framer: FramerType = FramerType.SOCKET) -> AsyncIterator[None]:
    server = ModbusTcpServer(plc_memory(), framer=framer, address=("127.0.0.1", port))
    serving = asyncio.create_task(server.serve_forever())
    await wait_until(lambda: listens(port))
    try:
        yield
    finally:
        await server.shutdown()
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving


EVERY_KIND = {
    "coils": read(0, 10, function=1),
    "inputs": read(3, 17, function=2),
    "holding": read(8, 4, function=3),
    "input_registers": read(1, 2, function=4),
}


def assert_every_kind_is_right(readings: Readings) -> None:
    assert readings.troubles() == []
    assert set(readings.payloads("coils")) == {tuple(int(bit) for bit in BITS[1:11])}
    assert set(readings.payloads("inputs")) == {tuple(int(bit) for bit in BITS[3:20])}
    assert set(readings.payloads("holding")) == {(1008, 1009, 1010, 1011)}
    assert set(readings.payloads("input_registers")) == {(7, 14)}


@pytest.mark.parametrize(("mode", "framer"), [("tcp", FramerType.SOCKET), ("rtu_over_tcp", FramerType.RTU)])
async def test_bits_and_registers_arrive_as_many_as_asked_over_the_network(
    mode: str, framer: FramerType
) -> None:
    port, readings = free_port(), Readings()
    async with plc(port, framer):
        work = over_tcp(port, readings, device("plc", dict(EVERY_KIND), unit=5), mode=mode).run()
        async with running(work):
            for name in EVERY_KIND:
                await readings.until(2, name)
    assert_every_kind_is_right(readings)


async def test_bits_and_registers_arrive_as_many_as_asked_over_a_serial_line(tmp_path: Path) -> None:
    ours, theirs = Line(tmp_path / "ours").plug(), Line(tmp_path / "theirs").plug()

    def pass_to(other: Line, heard: bytearray) -> Iterator[bytes]:
        other.say(bytes(heard))
        heard.clear()
        yield from ()

    ours.answers(partial(pass_to, theirs))
    theirs.answers(partial(pass_to, ours))
    server = ModbusSerialServer(plc_memory(), framer=FramerType.RTU, port=str(theirs.path), baudrate=115_200)
    await server.listen()
    readings = Readings()
    async with running(over_line(ours, readings, device("plc", dict(EVERY_KIND), unit=5)).run()):
        for name in EVERY_KIND:
            await readings.until(2, name)
    await server.shutdown()
    assert_every_kind_is_right(readings)
    ours.unplug()
    theirs.unplug()


async def test_reads_that_share_a_request_each_get_their_own_part() -> None:
    port, readings = free_port(), Readings()
    near = {"first": read(0, 2), "second": read(5, 3)}
    async with plc(port), running(over_tcp(port, readings, device("plc", dict(near), unit=5)).run()):
        await readings.until(1, "first")
        await readings.until(1, "second")
    assert readings.payloads("first")[0] == (1000, 1001)
    assert readings.payloads("second")[0] == (1005, 1006, 1007)


@pytest.mark.parametrize("taken", [True, False])
async def test_what_came_as_before_is_offered_as_a_whole_and_told_again_only_if_it_is_not_taken_so(
    taken: bool,
) -> None:
    port, readings, offered = free_port(), Readings(), list[tuple[Sequence[Reading], Stamp]]()

    def again(whole: Sequence[Reading], at: Stamp) -> bool:
        offered.append((whole, at))
        return taken

    near = device("plc", {"first": read(0, 2), "second": read(5, 3)}, unit=5)
    settings = Settings(name="bus", host="127.0.0.1", port=port)
    async with plc(port), running(Transport(settings, [near], readings.deliver, stamp, again=again).run()):
        await wait_until(lambda: len(offered) >= 3, what="three answers that came as before")
    assert {tuple(one.payload for one in whole) for whole, _ in offered} == {
        ((1000, 1001), (1005, 1006, 1007))
    }
    assert all(one.at.mono_ns < at.mono_ns for whole, at in offered for one in whole)
    assert len(readings) == (2 if taken else 2 + 2 * len(offered))


async def test_a_register_that_does_not_exist_costs_its_own_read_and_not_its_neighbours() -> None:
    port, readings = free_port(), Readings()
    near = {"there": read(60, 2), "missing": read(66, 2)}
    async with plc(port), running(over_tcp(port, readings, device("plc", dict(near), unit=5)).run()):
        await readings.until(2, "there")
        refused = await readings.until_trouble(Trouble.WRONG_ANSWER)
    assert (refused.read, refused.detail) == ("missing", "exception 2: illegal data address")
    assert readings.troubles("there") == []


async def test_a_register_that_is_missing_inside_a_read_is_found_and_costs_no_other_its_value(
    tmp_path: Path,
) -> None:
    line = Line(tmp_path / "line").plug()
    missing, asked = {107}, []

    def answer(unit: int, address: int, count: int) -> list[tuple[float, bytes]]:
        asked.append((address, count))
        if missing & set(range(address, address + count)):
            return [(0.0, rtu(bytes([unit, 0x83, 2])))]
        return [(0.0, good(unit, address, count))]

    line.answers(slave(line, answer))
    readings = Readings()
    reads = {"all": read(100, 20), "next": read(122, 2)}
    async with running(over_line(line, readings, device("drive", dict(reads))).run()):
        await readings.until(3, "all")
        await readings.until(3, "next")
    values = tuple(None if address in missing else address for address in range(100, 120))
    assert set(readings.payloads("all")) == {values}
    assert set(readings.payloads("next")) == {(122, 123)}
    assert readings.troubles() == []
    # Found once, and then read around in two requests.
    assert asked[-4:-2] == asked[-2:] or asked[-5:-3] == asked[-3:-1]
    assert set(asked[-4:]) == {(100, 7), (108, 16)}
    line.unplug()


async def test_a_device_that_answers_few_registers_at_once_is_read_in_pieces() -> None:
    asked = set()

    def answer(transaction: int, unit: int, address: int, count: int) -> list[bytes | float]:
        asked.add((address, count))
        return [mbap(transaction, unit, registers_pdu(address, count))]

    readings = Readings()
    one = device("module", {"all": read(0, 100)}, max_registers=45)
    async with tcp_peer(answer) as port, running(over_tcp(port, readings, one).run()):
        await readings.until(2)
    assert asked == {(0, 45), (45, 45), (90, 10)}
    assert set(readings.payloads()) == {tuple(range(100))}


async def test_a_device_that_answers_few_registers_at_once_is_asked_for_no_more_after_a_refusal() -> None:
    starting, asked = True, set[tuple[int, int]]()

    def answer(transaction: int, unit: int, address: int, count: int) -> list[bytes | float]:
        asked.add((address, count))
        return [mbap(transaction, unit, b"\x83\x02" if starting else registers_pdu(address, count))]

    readings = Readings()
    one = device("module", {"all": read(0, 100)}, max_registers=45)
    async with tcp_peer(answer) as port, running(over_tcp(port, readings, one).run()):
        await readings.until_trouble(Trouble.WRONG_ANSWER, count=3)
        starting = False
        await readings.until(2)
    assert asked == {(0, 45), (45, 45), (90, 10)}
    assert set(readings.payloads()) == {tuple(range(100))}


async def test_a_block_that_is_to_be_read_whole_is_never_split() -> None:
    asked = set()

    def answer(transaction: int, unit: int, address: int, count: int) -> list[bytes | float]:
        asked.add((address, count))
        return [mbap(transaction, unit, b"\x83\x02")]

    readings = Readings()
    one = device("module", {"zpa": read(1499, 21, whole=True)})
    async with tcp_peer(answer) as port, running(over_tcp(port, readings, one).run()):
        await readings.until_trouble(Trouble.WRONG_ANSWER, count=5)
    assert asked == {(1499, 21)}


async def test_a_device_that_refused_everything_while_it_started_is_read_as_soon_as_it_answers() -> None:
    starting = True

    def answer(transaction: int, unit: int, address: int, count: int) -> list[bytes | float]:
        return [mbap(transaction, unit, b"\x83\x02" if starting else registers_pdu(address, count))]

    readings = Readings()
    async with (
        tcp_peer(answer) as port,
        running(over_tcp(port, readings, device("plc", {"a": read(0, 4), "b": read(6, 2)})).run()),
    ):
        await readings.until_trouble(Trouble.WRONG_ANSWER, count=6)
        starting = False
        await readings.until(3, "b")
    assert set(readings.payloads("a")) == {(0, 1, 2, 3)}


async def test_a_unit_that_became_slower_is_missed_once_and_not_called_dead(tmp_path: Path) -> None:
    line = Line(tmp_path / "line").plug()
    slow_s = 0.0

    def answer(unit: int, address: int, count: int) -> list[tuple[float, bytes]]:
        return [(slow_s if unit == 2 else 0.0, good(unit, address, count))]

    line.answers(slave(line, answer))
    units = {
        name: device(name, {"all": read(0, 4, timeout_s=5.0)}, unit=unit)
        for name, unit in (("quick", 1), ("slower", 2))
    }
    readings = Readings()
    async with running(over_line(line, readings, *units.values()).run()):
        await readings.until(20, of="slower")
        # Ten times what was learned, and far less than what the profile allows.
        slow_s = 0.6
        await readings.until_trouble(Trouble.NO_ANSWER, of="slower")
        before = len(readings.payloads(of="slower"))
        await readings.until(before + 3, of="slower")
    assert set(readings.troubles(of="slower")) == {Trouble.NO_ANSWER}
    assert set(readings.payloads()) == {(0, 1, 2, 3)}
    line.unplug()


async def test_a_plc_that_is_switched_off_and_on_again_is_no_link_and_then_well() -> None:
    port, readings = free_port(), Readings()
    async with running(over_tcp(port, readings, device("plc", {"all": read(0, 2)}, unit=5)).run()):
        await readings.until_trouble(Trouble.NO_LINK)
        async with plc(port):
            await readings.until(2)
        await readings.until_trouble(Trouble.NO_LINK, count=2)
        before = len(readings.payloads())
        async with plc(port):
            await readings.until(before + 2)


# --- peers that misbehave --------------------------------------------------------------------------------


def crc(frame: bytes) -> bytes:
    """Modbus over serial line 1.02, 6.2.2, bit by bit: shares nothing with what it tests."""
    value = 0xFFFF
    for byte in frame:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
    return struct.pack("<H", value)


def rtu(frame: bytes) -> bytes:
    return frame + crc(frame)


def good(unit: int, address: int, count: int) -> bytes:
    """Each register holds its own address."""
    return rtu(bytes([unit, 3, count * 2]) + struct.pack(f">{count}H", *range(address, address + count)))


Answer = Callable[[int, int, int], list[tuple[float, bytes]]]


def slave(line: Line, answer: Answer) -> Callable[[bytearray], Iterator[bytes]]:
    """``answer(unit, address, count)`` says what goes out after how many seconds."""
    loop = asyncio.get_running_loop()

    def hear(heard: bytearray) -> Iterator[bytes]:
        while len(heard) >= 8:
            request = bytes(heard[:8])
            del heard[:8]
            assert crc(request[:6]) == request[6:]
            unit, function, address, count = struct.unpack(">BBHH", request[:6])
            assert function == 3
            for delay_s, frame in answer(unit, address, count):
                if delay_s:
                    loop.call_later(delay_s, line.say, frame)
                else:
                    yield frame

    return hear


@pytest.mark.parametrize("late_every", [2, 3])
async def test_a_late_rtu_answer_is_never_taken_for_the_next_request(tmp_path: Path, late_every: int) -> None:
    line = Line(tmp_path / "line").plug()
    asked = 0

    def answer(unit: int, address: int, count: int) -> list[tuple[float, bytes]]:
        nonlocal asked
        asked += 1
        # Too late by a fifth of the timeout, or in its middle: the late one would be there first.
        return [(0.36 if asked % late_every == 0 and asked < 8 else 0.15, good(unit, address, count))]

    line.answers(slave(line, answer))
    # Same unit, function and length: nothing in the answers tells them apart.
    reads = {str(address): read(address, 2, timeout_s=0.3, whole=True) for address in (0, 100, 200)}
    readings = Readings()
    async with running(over_line(line, readings, device("drive", dict(reads))).run()):
        for name in reads:
            await readings.until(3, name)
    assert Trouble.NO_ANSWER in readings.troubles()
    for name in reads:
        assert set(readings.payloads(name)) == {(int(name), int(name) + 1)}
    line.unplug()


@pytest.mark.parametrize(
    ("frame", "detail"),
    [
        (good(6, 0, 2), "unit 6 answered while unit 5 was asked"),
        (rtu(bytes([5, 4, 4, 0, 1, 0, 2])), "answered function 4 while 3 was asked"),
        (good(5, 0, 1), "answered 2 bytes where 4 were expected"),
        (good(5, 0, 3), "answered 6 bytes where 4 were expected"),
        (rtu(bytes([5, 0x83, 1])), "exception 1: illegal function"),
        (rtu(bytes([5, 0x83, 6])), "exception 6: device busy"),
        (rtu(bytes([5, 0x83, 0x21])), "exception 33: known to its maker alone"),
        (rtu(bytes([5, 0x84, 2])), "answered function 132 while 3 was asked"),
        (good(5, 0, 2)[:-1] + b"\x00", "9 bytes came and no valid frame"),
        (good(5, 0, 2)[:6], "6 bytes came and no valid frame"),
        (b"\xff" * 40, "40 bytes came and no valid frame"),
    ],
)
async def test_an_rtu_answer_that_is_not_the_one_asked_for_is_a_wrong_answer(
    tmp_path: Path, frame: bytes, detail: str
) -> None:
    line = Line(tmp_path / "line").plug()
    bad = True

    def answer(unit: int, address: int, count: int) -> list[tuple[float, bytes]]:
        return [(0.0, frame if bad else good(unit, address, count))]

    line.answers(slave(line, answer))
    readings = Readings()
    one = device("drive", {"all": read(0, 2, timeout_s=0.1)}, unit=5)
    async with running(over_line(line, readings, one).run()):
        first = await readings.until_trouble(Trouble.WRONG_ANSWER)
        assert first.detail.startswith(detail)
        assert readings.payloads() == []
        bad = False
        await readings.until(2)
    assert set(readings.payloads()) == {(0, 1)}
    line.unplug()


@pytest.mark.parametrize(("code", "trouble"), [(10, Trouble.OFFLINE), (11, Trouble.NO_ANSWER)])
async def test_a_gateway_says_that_it_cannot_reach_a_unit_or_that_the_unit_is_silent(
    tmp_path: Path, code: int, trouble: Trouble
) -> None:
    line = Line(tmp_path / "line").plug()
    line.answers(slave(line, lambda unit, address, count: [(0.0, rtu(bytes([unit, 0x83, code])))]))
    readings = Readings()
    async with running(over_line(line, readings, device("drive", {"all": read(0, 2)})).run()):
        first = await readings.until_trouble(trouble)
    assert first.detail.startswith(f"exception {code}: gateway")
    line.unplug()


async def test_an_rtu_answer_that_comes_byte_by_byte_is_put_together(tmp_path: Path) -> None:
    line = Line(tmp_path / "line").plug()
    line.answers(
        slave(line, lambda unit, address, count: [(0.0, bytes([b])) for b in good(unit, address, count)])
    )
    readings = Readings()
    async with running(over_line(line, readings, device("drive", {"all": read(0, 8)})).run()):
        await readings.until(3)
    assert set(readings.payloads()) == {tuple(range(8))}
    assert readings.troubles() == []
    line.unplug()


async def test_a_dead_drive_is_left_alone_while_its_neighbour_keeps_going(tmp_path: Path) -> None:
    line = Line(tmp_path / "line").plug()
    asked: list[int] = []
    counts: list[int] = []

    def answer(unit: int, address: int, count: int) -> list[tuple[float, bytes]]:
        asked.append(unit)
        counts.extend([count] if unit == 2 else [])
        return [] if unit == 2 else [(0.0, good(unit, address, count))]

    line.answers(slave(line, answer))
    well = device("well", {"all": read(0, 2, timeout_s=0.1)}, unit=1)
    dead = device("dead", {"a": read(0, 2, timeout_s=0.1), "b": read(100, 2, timeout_s=0.1)}, unit=2)
    readings = Readings()
    async with running(over_line(line, readings, well, dead).run()):
        await readings.until_trouble(Trouble.NO_ANSWER, count=4, of="dead")
        asked.clear()
        before = len(readings.payloads(of="well"))
        await readings.until(before + 20, of="well")
    assert asked.count(2) == 0
    # Asked once as it is, then by one register, then left alone.
    assert counts == [2, 1, 1]
    # Given up as a whole: every read of it says so.
    assert {reading.read for reading in readings.of(device="dead")} == {"a", "b"}
    assert readings.troubles(of="well") == []
    line.unplug()


async def test_a_serial_line_that_is_pulled_and_plugged_is_no_link_and_then_well(tmp_path: Path) -> None:
    line = Line(tmp_path / "line").plug()
    line.answers(slave(line, lambda *asked: [(0.0, good(*asked))]))
    readings = Readings()
    two = [device(name, {"all": read(0, 2)}, unit=unit) for name, unit in (("a", 1), ("b", 2))]
    async with running(over_line(line, readings, *two).run()):
        await readings.until(1, of="b")
        line.unplug()
        for name in ("a", "b"):
            await readings.until_trouble(Trouble.NO_LINK, of=name)
        before = len(readings.payloads(of="b"))
        line.plug()
        await readings.until(before + 2, of="b")
    line.unplug()


async def test_a_line_that_takes_nothing_does_not_hold_up_the_loop(tmp_path: Path) -> None:
    line = Line(tmp_path / "line").plug(reads=False)
    readings = TickedReadings()
    one = device("drive", {"all": read(0, 2, every_s=0.001, timeout_s=0.2)})
    async with running(readings.loop.run()), running(over_line(line, readings, one).run()):
        await readings.until_trouble(Trouble.NO_ANSWER, count=5)
    assert readings.rounds_between() > 20
    line.unplug()


def mbap(transaction: int, unit: int, pdu: bytes) -> bytes:
    return struct.pack(">HHHB", transaction, 0, len(pdu) + 1, unit) + pdu


def registers_pdu(address: int, count: int) -> bytes:
    return bytes([3, count * 2]) + struct.pack(f">{count}H", *range(address, address + count))


@asynccontextmanager
async def tcp_peer(answer: Callable[[int, int, int, int], list[bytes | float]]) -> AsyncIterator[int]:
    """``answer(transaction, unit, address, count)``: bytes go out, a number is a pause in seconds."""
    serving: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                request = await reader.readexactly(12)
                transaction, _, _, unit, _, address, count = struct.unpack(">HHHBBHH", request)
                for piece in answer(transaction, unit, address, count):
                    if isinstance(piece, bytes):
                        writer.write(piece)
                    else:
                        await asyncio.sleep(piece)
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for task in serving:
        assert task is not None
        task.cancel()
    await asyncio.gather(*(task for task in serving if task is not None), return_exceptions=True)


async def test_a_late_tcp_answer_is_told_by_its_transaction_and_dropped() -> None:
    asked = 0

    def answer(transaction: int, unit: int, address: int, count: int) -> list[bytes | float]:
        nonlocal asked
        asked += 1
        late = 0.25 if asked == 2 else 0.0
        return [late, mbap(transaction, unit, registers_pdu(address, count))]

    reads = {str(address): read(address, 2, timeout_s=0.2, whole=True) for address in (0, 100, 200)}
    readings = Readings()
    one = device("plc", dict(reads))
    async with tcp_peer(answer) as port, running(over_tcp(port, readings, one).run()):
        for name in reads:
            await readings.until(4, name)
    assert set(readings.troubles()) == {Trouble.NO_ANSWER}
    for name in reads:
        assert set(readings.payloads(name)) == {(int(name), int(name) + 1)}


@pytest.mark.parametrize(
    ("made", "detail"),
    [
        (lambda t, u, a, n: mbap(t, u + 1, registers_pdu(a, n)), "unit 6 answered while unit 5 was asked"),
        (lambda t, u, a, n: mbap(t, u, bytes([4, 4, 0, 0, 0, 0])), "answered function 4 while 3 was asked"),
        (lambda t, u, a, n: mbap(t, u, registers_pdu(a, n - 1)), "answered 2 bytes where 4 were expected"),
        # The byte count says one thing, the frame another.
        (lambda t, u, a, n: mbap(t, u, b"\x03\x04\x00\x01"), "answered 2 bytes and says 4 where"),
        (
            lambda t, u, a, n: mbap(t, u, b"\x03\x02\x00\x01\x00\x02"),
            "answered 4 bytes and says 2 where",
        ),
        (lambda t, u, a, n: mbap(t, u, b"\x83\x04"), "exception 4: device failure"),
        (lambda t, u, a, n: mbap(t + 1, u, registers_pdu(a, n)), "13 bytes came and no valid frame"),
        (lambda t, u, a, n: b"HTTP/1.1 400 Bad Request\r\n\r\n", "28 bytes came and no valid frame"),
        (lambda t, u, a, n: b"\x00" * 5000, ""),
    ],
)
async def test_a_tcp_answer_that_is_not_the_one_asked_for_is_a_wrong_answer(made, detail: str) -> None:
    bad = True

    def answer(transaction: int, unit: int, address: int, count: int) -> list[bytes | float]:
        if bad:
            return [made(transaction, unit, address, count)]
        return [mbap(transaction, unit, registers_pdu(address, count))]

    readings = Readings()
    one = device("plc", {"all": read(0, 2, timeout_s=0.1)}, unit=5)
    async with tcp_peer(answer) as port, running(over_tcp(port, readings, one).run()):
        first = await readings.until_trouble(Trouble.WRONG_ANSWER)
        assert first.detail.startswith(detail)
        assert readings.payloads() == []
        bad = False
        await readings.until(2)
    assert set(readings.payloads()) == {(0, 1)}


async def test_liveness_comes_from_answers_not_from_a_connection_that_still_looks_open() -> None:
    answers = True

    def answer(transaction: int, unit: int, address: int, count: int) -> list[bytes | float]:
        return [mbap(transaction, unit, registers_pdu(address, count))] if answers else []

    readings = Readings()
    one = device("plc", {"all": read(0, 2, timeout_s=0.05)})
    async with tcp_peer(answer) as port, running(over_tcp(port, readings, one).run()):
        await readings.until(1)
        answers = False
        await readings.until_trouble(Trouble.NO_ANSWER, count=5)
        answers = True
        before = len(readings.payloads())
        await readings.until(before + 1)
    assert Trouble.NO_LINK not in readings.troubles()


async def test_a_connection_behind_which_everything_is_dropped_is_noticed_from_the_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tcp, "CONNECT_TIMEOUT_S", 0.3)
    port, answers, readings = free_port(), True, Readings()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                transaction, _, _, unit, _, address, count = struct.unpack(
                    ">HHHBBHH", await reader.readexactly(12)
                )
                if answers:
                    writer.write(mbap(transaction, unit, registers_pdu(address, count)))
        writer.transport.abort()

    one = device("plc", {"all": read(0, 2, timeout_s=0.1)})
    server = await asyncio.start_server(serve, "127.0.0.1", port)
    async with running(over_tcp(port, readings, one).run()):
        await readings.until(2)
        # The connection stays open as far as anybody can see, and whoever knocks anew is not heard.
        answers = False
        server.close()
        with drops_whoever_knocks(port):
            await readings.until_trouble(Trouble.NO_ANSWER, count=2)
            gone = await readings.until_trouble(Trouble.NO_LINK)
        assert gone.detail.endswith("does not answer: switched off, or the network is down?")
        answers = True
        before = len(readings.payloads())
        server = await asyncio.start_server(serve, "127.0.0.1", port)
        await readings.until(before + 2)
    server.close()


BLOCK = Block(device="d", unit=5, function=3, address=0, count=2, every_s=1.0, timeout_s=1.0, parts=())


@given(unit=st.integers(min_value=0, max_value=255), pdu=st.binary(min_size=1, max_size=260))
def test_any_answer_is_either_the_values_asked_for_or_a_miss_in_words(unit: int, pdu: bytes) -> None:
    found = judge(BLOCK, unit, pdu)
    if isinstance(found, Miss):
        assert found.detail
    else:
        assert (unit, len(pdu), len(found)) == (5, 6, 2)


@given(noise=st.binary(max_size=300))
async def test_no_noise_on_the_line_raises(noise: bytes) -> None:
    settings = Settings(name="bus", mode="rtu", port="/dev/null")
    outcome = await Transport(settings, [], Readings().deliver, stamp)._answer(Noise(noise), BLOCK, 1.0)
    assert isinstance(outcome, Miss)


class Noise:
    """A link that brings these bytes and then nothing."""

    def __init__(self, noise: bytes) -> None:
        self._rest = noise

    async def read_within(self, seconds: float) -> bytes | None:
        chunk, self._rest = self._rest[:7], self._rest[7:]
        return chunk or None


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"mode": "rtu", "port": 502}, "needs the path of a serial port"),
        ({"mode": "rtu", "port": "/dev/ttyS0", "host": "10.0.0.1"}, "mode rtu has none"),
        ({"mode": "tcp", "port": 502}, "host: mode tcp needs"),
        ({"mode": "tcp", "host": "10.0.0.1", "port": "/dev/ttyS0"}, "needs a TCP port"),
        ({"mode": "tcp", "host": "10.0.0.1", "baud": 9600}, "baud: only mode rtu"),
        ({"mode": "ascii", "host": "10.0.0.1"}, "mode"),
        ({"host": "10.0.0.1", "timeout": 3}, "timeout"),
    ],
)
def test_a_wrong_setting_is_refused_in_words(keys: dict[str, object], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        Settings.model_validate({"name": "bus", "transport": "modbus"} | keys)


@pytest.mark.parametrize(
    "story",
    [
        test_a_late_tcp_answer_is_told_by_its_transaction_and_dropped,
        test_reads_that_share_a_request_each_get_their_own_part,
    ],
)
def test_it_is_the_same_on_the_loop_that_the_agent_runs_on(story) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(story())
