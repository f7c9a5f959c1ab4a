"""Modbus RTU units on a real pseudo-terminal, a program of its own: they answer as late as a line of that
baud rate would let them. Each register holds its address.

``python -m rigs.paced_units PATH BAUD UNITS``; a line ``dead N`` or ``well N`` on its input changes a unit.
"""

from __future__ import annotations

import asyncio
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from rigs.pty import Line

# 8N1
BITS_A_BYTE = 10
ANSWER_S = 0.02
REQUEST_BYTES = 8


def crc(frame: bytes) -> bytes:
    """Modbus over serial line 1.02, 6.2.2."""
    value = 0xFFFF
    for byte in frame:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
    return struct.pack("<H", value)


async def main(path: Path, baud: int, units: int) -> None:
    loop = asyncio.get_running_loop()
    line, dead = Line(path), set[int]()
    byte_s = BITS_A_BYTE / baud

    def hear(heard: bytearray) -> Iterator[bytes]:
        while len(heard) >= REQUEST_BYTES:
            unit, function, address, count = struct.unpack(">BBHH", heard[:6])
            del heard[:REQUEST_BYTES]
            if unit in dead or not 1 <= unit <= units:
                continue
            frame = bytes([unit, function, 2 * count])
            frame += struct.pack(f">{count}H", *range(address, address + count))
            frame += crc(frame)
            loop.call_later((REQUEST_BYTES + len(frame)) * byte_s + ANSWER_S, line.say, frame)
        yield from ()

    line.plug().answers(hear)
    print("ready", flush=True)
    while words := (await asyncio.to_thread(sys.stdin.readline)).split():
        (dead.add if words[0] == "dead" else dead.discard)(int(words[1]))
    line.unplug()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
