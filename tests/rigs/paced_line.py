"""A serial line with Modbus units in simulated time: a byte takes what it takes at the baud rate, a unit its
own time to answer, and who talks at the same time is garbled.

For ``simulation.virtual``: an hour of a line is a second here, and the same each time.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from edge_agent.bus.link import Link
from edge_agent.device import Device
from edge_agent.sample import Deliver
from edge_agent.transports.modbus import Settings, Transport
from edge_agent.wire import Stamp


@dataclass(kw_only=True)
class Unit:
    """What it answers: each register holds its address."""

    answer_s: float = 0.02
    dead: bool = False
    # Takes what is said to it and returns the answer, where it is not as usual.
    says: Callable[[bytes], bytes | None] | None = None


class PacedLine:
    def __init__(self, settings: Settings, units: dict[int, Unit]) -> None:
        self.settings = settings
        self.units = units
        self.requests: list[tuple[float, int, int]] = []
        self.collisions = 0
        self._heard = asyncio.Queue[bytes]()
        self._busy_until = 0.0
        self._answer_begins: float | None = None

    # --- what the agent sees of it: a link ---

    async def read_within(self, seconds: float) -> bytes | None:
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                return await self._heard.get()
        except TimeoutError:
            return None

    def drain(self) -> bytes:
        found = b""
        while not self._heard.empty():
            found += self._heard.get_nowait()
        return found

    async def write(self, data: bytes, within_s: float) -> None:
        loop = asyncio.get_running_loop()
        if self._busy_until > loop.time():
            self.collisions += 1
            data = b""
        unit, _, address, count = struct.unpack(">BBHH", data[:6]) if data else (0, 0, 0, 0)
        self.requests.append((loop.time(), unit, count))
        whose = self.units.get(unit)
        if whose is None or whose.dead:
            return
        answer = whose.says(data) if whose.says else registers(unit, address, count)
        if answer is None:
            return
        begins_s = len(data) * self.settings.byte_s + whose.answer_s
        loop.call_later(begins_s, self._begin, answer)

    def drop_output(self) -> bool:
        return True

    def close(self) -> None:
        pass

    def _begin(self, answer: bytes) -> None:
        loop = asyncio.get_running_loop()
        took_s = len(answer) * self.settings.byte_s
        if self._busy_until > loop.time():
            self.collisions += 1
            answer = bytes(byte ^ 0x55 for byte in answer)
        self._busy_until = loop.time() + took_s
        loop.call_later(took_s, self._heard.put_nowait, answer)


class OnLine(Transport):
    """The real transport, opened on a paced line."""

    def __init__(
        self,
        line: PacedLine,
        devices: Sequence[Device],
        deliver: Deliver,
        stamp: Callable[[], Stamp],
        *,
        random: Random | None = None,
    ) -> None:
        super().__init__(line.settings, devices, deliver, stamp, random=random)
        self._line = line

    async def _open(self) -> Link:
        return self._line  # type: ignore[return-value]


def registers(unit: int, address: int, count: int) -> bytes:
    frame = bytes([unit, 3, count * 2]) + struct.pack(f">{count}H", *range(address, address + count))
    return frame + crc(frame)


def crc(frame: bytes) -> bytes:
    """Modbus over serial line 1.02, 6.2.2, bit by bit: shares nothing with what it tests."""
    value = 0xFFFF
    for byte in frame:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
    return struct.pack("<H", value)
