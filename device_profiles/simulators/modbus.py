"""A small Modbus server of our own, TCP and RTU: two ends on one library would share its mistakes.

Written from the Modbus Application Protocol V1.1b3 (functions, exceptions), the Messaging Guide V1.0b (MBAP
header) and Modbus over Serial Line V1.02 (RTU frame, CRC). It only answers reads.
"""

from __future__ import annotations

import struct
from abc import abstractmethod
from collections.abc import Mapping
from typing import Protocol

from device_profiles.simulators.serving import Outlet, Session, Simulator, Tcp

ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE = 1, 2, 3
COILS, DISCRETE_INPUTS, HOLDING_REGISTERS, INPUT_REGISTERS = 1, 2, 3, 4
# unit, function, address, count, CRC
RTU_REQUEST_BYTES = 8
MBAP_BYTES = 7


class RefusedError(Exception):
    """The device answers with this Modbus exception code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exception {code}")
        self.code = code


class Unit(Protocol):
    def read(self, function: int, address: int, count: int) -> list[int] | None:
        """The values, or None to stay silent. Raises RefusedError."""


class ModbusServer:
    """Units on one line or behind one port. On a pty it speaks RTU, on a port TCP; ``rtu`` overrules."""

    def __init__(self, outlet: Outlet, units: Mapping[int, Unit], *, rtu: bool | None = None) -> None:
        self.outlet = outlet
        self.units = units
        self.rtu = not isinstance(outlet, Tcp) if rtu is None else rtu
        # (unit, function, address, count) of every request that was understood.
        self.requests: list[tuple[int, int, int, int]] = []

    async def start(self) -> None:
        await self.outlet.start(self._rtu_session if self.rtu else self._tcp_session)

    async def stop(self) -> None:
        await self.outlet.stop()

    def _tcp_session(self) -> Session:
        heard = bytearray()

        def take(chunk: bytes) -> bytes:
            heard.extend(chunk)
            said = b""
            while len(heard) >= MBAP_BYTES + 1:
                transaction, protocol, length, unit = struct.unpack_from(">HHHB", heard)
                if len(heard) < MBAP_BYTES - 1 + length:
                    break
                request = bytes(heard[MBAP_BYTES : MBAP_BYTES - 1 + length])
                del heard[: MBAP_BYTES - 1 + length]
                if protocol != 0:
                    continue
                if (answer := self._answer(unit, request)) is not None:
                    said += struct.pack(">HHHB", transaction, 0, len(answer) + 1, unit) + answer
            return said

        return take

    def _rtu_session(self) -> Session:
        heard = bytearray()

        def take(chunk: bytes) -> bytes:
            heard.extend(chunk)
            said = b""
            while len(heard) >= RTU_REQUEST_BYTES:
                request = bytes(heard[:RTU_REQUEST_BYTES])
                if crc(request[:-2]) != request[-2:]:
                    # A real slave waits for a pause of 3.5 characters; here any byte may begin a request.
                    del heard[0]
                    continue
                del heard[:RTU_REQUEST_BYTES]
                if (answer := self._answer(request[0], request[1:-2])) is not None:
                    said += request[:1] + answer + crc(request[:1] + answer)
            return said

        return take

    def _answer(self, unit: int, request: bytes) -> bytes | None:
        """Function and data of the answer; None: nobody of that number here, or it is silent."""
        if unit not in self.units or not request:
            return None
        function = request[0]
        try:
            if function not in (COILS, DISCRETE_INPUTS, HOLDING_REGISTERS, INPUT_REGISTERS):
                raise RefusedError(ILLEGAL_FUNCTION)
            if len(request) != 5:
                raise RefusedError(ILLEGAL_VALUE)
            address, count = struct.unpack_from(">HH", request, 1)
            self.requests.append((unit, function, address, count))
            of_bits = function in (COILS, DISCRETE_INPUTS)
            if not 1 <= count <= (2000 if of_bits else 125):
                raise RefusedError(ILLEGAL_VALUE)
            values = self.units[unit].read(function, address, count)
        except RefusedError as refused:
            return bytes([function | 0x80, refused.code])
        if values is None:
            return None
        content = _bits(values) if of_bits else struct.pack(f">{count}H", *values)
        return bytes([function, len(content)]) + content


class Registers(Simulator):
    """A device with registers here and there: it refuses every read that goes beyond them."""

    # Which function reads them.
    function = HOLDING_REGISTERS

    def __init__(self, outlet: Outlet, *, unit: int = 1) -> None:
        super().__init__()
        self.outlet = outlet
        self.server = ModbusServer(outlet, {unit: self})

    @abstractmethod
    def registers(self) -> dict[int, int]:
        """By address on the wire."""

    async def start(self) -> None:
        await self.server.start()

    async def stop(self) -> None:
        await self.server.stop()

    def read(self, function: int, address: int, count: int) -> list[int] | None:
        if self.has("mute"):
            return None
        if function != self.function:
            raise RefusedError(ILLEGAL_FUNCTION)
        registers = self.registers()
        wanted = range(address, address + count)
        if not registers.keys() >= set(wanted):
            raise RefusedError(ILLEGAL_ADDRESS)
        return [registers[one] for one in wanted]


def crc(frame: bytes) -> bytes:
    """CRC-16 with polynomial A001h, low byte first (Modbus over Serial Line V1.02, 6.2.2)."""
    remainder = 0xFFFF
    for byte in frame:
        remainder ^= byte
        for _ in range(8):
            remainder = remainder >> 1 ^ (0xA001 if remainder & 1 else 0)
    return remainder.to_bytes(2, "little")


def _bits(values: list[int]) -> bytes:
    packed = sum(1 << number for number, value in enumerate(values) if value)
    return packed.to_bytes((len(values) + 7) // 8, "little")
