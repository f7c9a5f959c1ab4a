"""libmodbus, the C library: as the device that our transport reads, as the client of our simulators."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rigs import libmodbus, socat
from rigs.ports import free_port
from rigs.readings import Readings, device, running, stamp

from device_profiles.simulators.modbus import ModbusServer, RefusedError
from device_profiles.simulators.serving import Outlet, Pty, Tcp
from edge_agent.profile import ModbusRead
from edge_agent.sample import Trouble
from edge_agent.transports.modbus import Settings, Transport

HELD = {
    "coils": (1, [int(n % 3 == 0) for n in range(64)]),
    "inputs": (2, [int(n % 5 == 0) for n in range(64)]),
    "holding": (3, [1000 + n for n in range(64)]),
    "input_registers": (4, [7 * n for n in range(64)]),
}
WHERE = {"coils": (1, 17), "inputs": (3, 30), "holding": (0, 64), "input_registers": (60, 4)}


def read(function: int, address: int, count: int) -> ModbusRead:
    return ModbusRead(function=function, address=address, count=count, every_s=0.05, timeout_s=2)


@contextmanager
def over_tcp(folder: Path) -> Iterator[Settings]:
    port = free_port()
    with libmodbus.server(port):
        yield Settings(name="bus", host="127.0.0.1", port=port)


@contextmanager
def over_a_line(folder: Path) -> Iterator[Settings]:
    with socat.cable(folder / "ours", folder / "theirs"), libmodbus.server(folder / "theirs"):
        yield Settings(name="bus", mode="rtu", port=str(folder / "ours"), baud=115_200)


@contextmanager
def behind_a_device_server(folder: Path) -> Iterator[Settings]:
    with (
        socat.cable(folder / "its", folder / "theirs"),
        libmodbus.server(folder / "theirs"),
        socat.device_server(folder / "its") as port,
    ):
        yield Settings(name="bus", mode="rtu_over_tcp", host="127.0.0.1", port=port)


WAYS = [over_tcp, over_a_line, behind_a_device_server]


@pytest.mark.parametrize("way", WAYS)
async def test_what_libmodbus_holds_is_what_the_transport_reads(way, tmp_path: Path) -> None:
    readings = Readings()
    reads = {name: read(HELD[name][0], *WHERE[name]) for name in HELD}
    with way(tmp_path) as settings:
        plc = device("plc", dict(reads), unit=libmodbus.UNIT)
        async with running(Transport(settings, [plc], readings.deliver, stamp).run()):
            for name in HELD:
                await readings.until(3, name)
    assert readings.troubles() == []
    for name, (_, held) in HELD.items():
        address, count = WHERE[name]
        assert set(readings.payloads(name)) == {tuple(held[address : address + count])}


@pytest.mark.parametrize("way", WAYS)
async def test_a_register_that_libmodbus_refuses_costs_its_own_read_alone(way, tmp_path: Path) -> None:
    readings = Readings()
    reads = {"there": read(3, 60, 2), "missing": read(3, 64, 2)}
    with way(tmp_path) as settings:
        plc = device("plc", dict(reads), unit=libmodbus.UNIT)
        async with running(Transport(settings, [plc], readings.deliver, stamp).run()):
            await readings.until(3, "there")
            refused = await readings.until_trouble(Trouble.WRONG_ANSWER)
    assert (refused.read, refused.detail) == ("missing", "exception 2: illegal data address")
    assert set(readings.payloads("there")) == {(1060, 1061)}
    assert readings.troubles("there") == []


# --- libmodbus as the client of our simulators --------------------------------------------------------------


class Counting:
    """Register n holds n, bit n is set when n is odd; nothing at and behind address 100."""

    def read(self, function: int, address: int, count: int) -> list[int] | None:
        if address + count > 100:
            raise RefusedError(2)
        return [n % 2 if function in (1, 2) else n for n in range(address, address + count)]


@pytest.mark.parametrize("line", ["tcp", "rtu"])
@pytest.mark.parametrize("one_byte_at_a_time", [False, True])
async def test_libmodbus_reads_our_server(line: str, one_byte_at_a_time: bool, tmp_path: Path) -> None:
    outlet: Outlet = Tcp() if line == "tcp" else Pty(tmp_path / "line")
    outlet.one_byte_at_a_time = one_byte_at_a_time
    server = ModbusServer(outlet, {7: Counting()})
    await server.start()
    place = outlet.port if isinstance(outlet, Tcp) else tmp_path / "line"
    for function in (1, 2):
        assert await libmodbus.read(place, 7, function, 1, 9) == [1, 0] * 4 + [1]
    for function in (3, 4):
        assert await libmodbus.read(place, 7, function, 90, 10) == list(range(90, 100))
        assert await libmodbus.read(place, 7, function, 91, 10) == "Illegal data address"
    assert await libmodbus.read(place, 8, 3, 0, 1) == "Connection timed out"
    await server.stop()
