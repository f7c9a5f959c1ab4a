"""Our own Modbus server against somebody else's client, and against the mistakes that a master can make."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path

import pytest
from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient

from device_profiles.simulators.modbus import ModbusServer, RefusedError, crc
from device_profiles.simulators.serving import Pty, Tcp


class Counting:
    """Register n holds n; bit n is set when n is odd; nothing at and behind address 100."""

    def read(self, function: int, address: int, count: int) -> list[int] | None:
        if address + count > 100:
            raise RefusedError(2)
        values = list(range(address, address + count))
        return [value % 2 for value in values] if function in (1, 2) else values


def test_the_checksum_is_that_of_the_standard() -> None:
    # Modbus over Serial Line V1.02, 6.2.2: the CRC of 02 07 is 1241h, low byte first.
    assert crc(b"\x02\x07") == b"\x41\x12"


@pytest.mark.parametrize("one_byte_at_a_time", [False, True])
async def test_another_vendors_client_reads_it_over_tcp(one_byte_at_a_time: bool) -> None:
    outlet = Tcp()
    outlet.one_byte_at_a_time = one_byte_at_a_time
    server = ModbusServer(outlet, {7: Counting()})
    await server.start()
    client = AsyncModbusTcpClient("127.0.0.1", port=outlet.port, timeout=10, retries=0)
    assert await client.connect()
    assert (await client.read_holding_registers(90, count=10, device_id=7)).registers == list(range(90, 100))
    assert (await client.read_input_registers(0, count=3, device_id=7)).registers == [0, 1, 2]
    assert (await client.read_coils(1, count=9, device_id=7)).bits[:9] == [True, False] * 4 + [True]
    assert (await client.read_holding_registers(91, count=10, device_id=7)).exception_code == 2
    assert (await client.write_register(1, 1, device_id=7)).exception_code == 1
    client.close()
    await server.stop()


@pytest.mark.parametrize("one_byte_at_a_time", [False, True])
async def test_another_vendors_client_reads_it_over_a_serial_line(
    tmp_path: Path, one_byte_at_a_time: bool
) -> None:
    outlet = Pty(tmp_path / "line")
    outlet.one_byte_at_a_time = one_byte_at_a_time
    server = ModbusServer(outlet, {3: Counting(), 4: Counting()})
    await server.start()
    client = AsyncModbusSerialClient(str(outlet.path), baudrate=115_200, timeout=10, retries=0)
    assert await client.connect()
    for unit in (3, 4):
        answer = await client.read_holding_registers(10, count=5, device_id=unit)
        assert answer.registers == [10, 11, 12, 13, 14]
    assert (await client.read_holding_registers(100, count=1, device_id=3)).exception_code == 2
    client.close()
    await server.stop()


async def test_noise_between_requests_and_a_wrong_checksum_get_no_answer() -> None:
    server = ModbusServer(Tcp(), {1: Counting()}, rtu=True)
    await server.start()
    assert isinstance(server.outlet, Tcp)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.outlet.port)
    good = struct.pack(">BBHH", 1, 3, 5, 1)
    for_nobody = struct.pack(">BBHH", 9, 3, 5, 1)
    writer.write(b"\xff\x00" + good + b"\x00\x00" + for_nobody + crc(for_nobody) + good + crc(good))
    answer = await asyncio.wait_for(reader.readexactly(7), 30)
    assert answer == b"\x01\x03\x02\x00\x05" + crc(b"\x01\x03\x02\x00\x05")
    assert server.requests == [(1, 3, 5, 1)]
    writer.close()
    await server.stop()
