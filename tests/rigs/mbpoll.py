"""mbpoll, a Modbus master of its own: what it reads is what a device says to somebody else than us."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import termios
from pathlib import Path

# mbpoll's number of a table, by the Modbus function that reads it.
TABLES = {1: "0", 2: "1", 3: "4", 4: "3"}
# The most it takes: an answer that comes after its patience it would take for the next one.
PATIENCE_S = "10"
# Whoever asked on this line before us may have left without his answer, which mbpoll would take for its own.
ANSWERED_S = 0.2
LINE = re.compile(r"^\[(\d+)\]:\s+(\S+)", re.MULTILINE)


async def read(
    place: int | Path, unit: int, function: int, address: int, count: int, *, kind: str = ""
) -> list[float] | str:
    """``place``: a TCP port or the path of a line. ``kind``: "float" reads 32-bit numbers, "float -B" those
    with the high word first. What is not read is told in mbpoll's own words.
    """
    found = shutil.which("mbpoll")
    assert found, "mbpoll is not installed: make peers"
    # Without a kind in hexadecimal: decimal numbers it also shows signed.
    shown = "hex" if function > 2 and not kind else kind.split()[0] if kind else ""
    what = ["-a", str(unit), "-t", f"{TABLES[function]}:{shown}".rstrip(":"), "-0"]
    what += ["-r", str(address), "-c", str(count), "-1", "-q", "-o", PATIENCE_S, *kind.split()[1:]]
    if isinstance(place, int):
        where = ["-m", "tcp", "-p", str(place), "127.0.0.1"]
    else:
        await asyncio.sleep(ANSWERED_S)
        _drain(place)
        where = ["-m", "rtu", "-b", "115200", "-P", "none", str(place)]
    program = await asyncio.create_subprocess_exec(
        found, *what, *where, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    said, complaint = await program.communicate()
    if program.returncode != 0:
        return complaint.decode().strip().rpartition(": ")[2]
    values = dict(LINE.findall(said.decode()))
    assert [int(number) for number in values] == list(range(address, address + len(values))), said
    return [float(value) if shown == "float" else int(value, 0) for value in values.values()]


def _drain(line: Path) -> None:
    descriptor = os.open(line, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        termios.tcflush(descriptor, termios.TCIFLUSH)
    finally:
        os.close(descriptor)
