"""Units that answer late, at the wrong time, twice or never: what is read is what was asked for.

Each register holds its own address, so that a value of another one shows. LATE_ANSWERS in the environment
says how many readings are looked at in each way of Modbus; ``make late-answers`` looks at 10,000.
"""

import asyncio
import os
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest
from rigs.ports import wait_until
from rigs.pty import Line
from rigs.readings import Readings, device, running, stamp

from edge_agent import schedule
from edge_agent.profile import ModbusRead
from edge_agent.sample import Reading, Trouble
from edge_agent.transports import modbus
from edge_agent.transports.modbus import Settings, Transport

READINGS = int(os.environ.get("LATE_ANSWERS", "200"))
TIMEOUT_S, QUIET_S = 0.05, 0.002
UNITS, ADDRESSES = (1, 2), (0, 1000, 2000)


@pytest.fixture(autouse=True)
def _everything_is_twenty_times_as_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "PROBE_MIN_S", 0.2)
    # As short against a timeout as it is in a warehouse, so that it hides nothing.
    monkeypatch.setattr(modbus, "QUIET_S", QUIET_S)


@dataclass(kw_only=True)
class Slow:
    """When an answer goes out, in timeouts after the request; each unit answers in order, one at a time."""

    random: Random = field(default_factory=lambda: Random(4))
    latest: float = 5.0
    late: int = 0
    _busy_until: dict[int, float] = field(default_factory=dict)

    def delay_s(self, unit: int) -> float | None:
        """From now on; None: never."""
        now = asyncio.get_running_loop().time()
        drawn = self.random.random()
        begun = max(now, self._busy_until.get(unit, 0.0))
        if drawn < 0.02:
            return None
        took = self.random.uniform(0.5, self.latest) if drawn < 0.1 else self.random.uniform(0.0, 0.3)
        took *= TIMEOUT_S
        self._busy_until[unit] = begun + took
        delay_s = begun + took - now
        self.late += delay_s > TIMEOUT_S
        return delay_s


class Counted(Readings):
    """Only what is wrong is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.right = 0
        self.wrong: list[Reading] = []
        self.missed = 0

    async def deliver(self, reading: Reading) -> None:
        address = int(reading.read)
        if reading.trouble is not None:
            self.missed += 1
            assert reading.trouble in (Trouble.NO_ANSWER, Trouble.WRONG_ANSWER), reading
        elif reading.payload == (int(reading.device) * 10_000 + address, address + 1):
            self.right += 1
        else:
            self.wrong.append(reading)


def contents(unit: int, address: int, count: int) -> bytes:
    """The first register says whose it is."""
    numbers = (unit * 10_000 + address, *range(address + 1, address + count))
    return bytes([3, 2 * count]) + struct.pack(f">{count}H", *numbers[:count])


def crc(frame: bytes) -> bytes:
    value = 0xFFFF
    for byte in frame:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
    return struct.pack("<H", value)


def devices(*, whole: bool):
    reads = {
        str(address): ModbusRead(
            function=3, address=address, count=2, every_s=0.001, timeout_s=TIMEOUT_S, whole=whole
        )
        for address in ADDRESSES
    }
    return [device(str(unit), dict(reads), unit=unit) for unit in UNITS]


def line_of(slow: Slow, say: Callable[[bytes], None]) -> Callable[[bytearray], Iterator[bytes]]:
    """Units on a serial line."""
    loop = asyncio.get_running_loop()

    def hear(heard: bytearray) -> Iterator[bytes]:
        while len(heard) >= 8:
            request = bytes(heard[:8])
            del heard[:8]
            assert crc(request[:6]) == request[6:]
            unit, _, address, count = struct.unpack(">BBHH", request[:6])
            frame = bytes([unit]) + contents(unit, address, count)
            delay_s = slow.delay_s(unit)
            if delay_s is not None:
                loop.call_later(delay_s, say, frame + crc(frame))
        yield from ()

    return hear


async def look(transport: Transport, readings: Counted, slow: Slow) -> None:
    async with running(transport.run()):
        await wait_until(lambda: readings.right + len(readings.wrong) >= READINGS, deadline_s=3000)
    assert readings.wrong == []
    # It was not for nothing.
    assert slow.late > READINGS / 100
    assert readings.missed > READINGS / 100
    print(f"{readings.right} right, 0 wrong, {slow.late} answers came late, {readings.missed} were missed")


# A unit whose requests all look alike and cannot be shortened is waited for twice its timeout, and no longer.
@pytest.mark.parametrize(("whole", "latest"), [(False, 5.0), (True, 1.8)])
async def test_no_late_answer_on_a_serial_line_is_taken_for_another(
    tmp_path: Path, whole: bool, latest: float
) -> None:
    line, readings, slow = Line(tmp_path / "line").plug(), Counted(), Slow(latest=latest)
    line.answers(line_of(slow, line.say))
    settings = Settings(name="bus", mode="rtu", port=str(line.path), baud=115_200)
    await look(Transport(settings, devices(whole=whole), readings.deliver, stamp), readings, slow)
    line.unplug()


@asynccontextmanager
async def served(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    connected: list[asyncio.StreamWriter],
) -> AsyncIterator[int]:
    """Its port. In the end all who are ``connected`` are cut off."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in connected:
            writer.transport.abort()


@asynccontextmanager
async def device_server(slow: Slow) -> AsyncIterator[int]:
    """Passes on what the units say to whoever is connected then."""
    connected: list[asyncio.StreamWriter] = []

    def say(frame: bytes) -> None:
        if connected:
            connected[-1].write(frame)

    hear = line_of(slow, say)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.append(writer)
        heard = bytearray()
        with suppress(ConnectionError):
            while chunk := await reader.read(4096):
                heard += chunk
                list(hear(heard))
        writer.close()

    async with served(serve, connected) as port:
        yield port


async def test_no_late_answer_through_a_device_server_is_taken_for_another() -> None:
    readings, slow = Counted(), Slow()
    async with device_server(slow) as port:
        settings = Settings(name="bus", mode="rtu_over_tcp", host="127.0.0.1", port=port)
        await look(Transport(settings, devices(whole=False), readings.deliver, stamp), readings, slow)


@asynccontextmanager
async def tcp_units(slow: Slow) -> AsyncIterator[int]:
    """Each unit answers in order, but one overtakes the other; some answers come twice."""
    loop = asyncio.get_running_loop()
    connected: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.append(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                request = await reader.readexactly(12)
                transaction, _, _, unit, _, address, count = struct.unpack(">HHHBBHH", request)
                pdu = contents(unit, address, count)
                frame = struct.pack(">HHHB", transaction, 0, len(pdu) + 1, unit) + pdu
                delay_s = slow.delay_s(unit)
                for _ in range(2 if transaction % 50 == 0 else 1):
                    if delay_s is not None:
                        loop.call_later(delay_s, writer.write, frame)
        writer.close()

    async with served(serve, connected) as port:
        yield port


async def test_no_late_answer_on_tcp_is_taken_for_another() -> None:
    readings, slow = Counted(), Slow()
    async with tcp_units(slow) as port:
        settings = Settings(name="bus", mode="tcp", host="127.0.0.1", port=port)
        await look(Transport(settings, devices(whole=False), readings.deliver, stamp), readings, slow)
