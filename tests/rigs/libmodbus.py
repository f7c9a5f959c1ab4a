"""libmodbus at the other end: a server for our transport, a client for our simulators."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAM = Path(__file__).with_name("libmodbus_program.py")
UNIT = 5


@contextmanager
def server(place: int | Path) -> Iterator[None]:
    """Behind a TCP port, or on a serial line as UNIT; ``libmodbus_program`` says what it holds."""
    kind = ["tcp", str(place)] if isinstance(place, int) else ["rtu", str(place), str(UNIT)]
    program = subprocess.Popen([sys.executable, PROGRAM, "serve", *kind], stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    try:
        assert program.stdout.readline() == "ready\n", "is libmodbus5 installed? make peers"
        yield
    finally:
        program.kill()
        program.communicate()


async def read(place: int | Path, unit: int, function: int, address: int, count: int) -> list[int] | str:
    """The values, or why there are none in the library's words."""
    kind = ["tcp", str(place)] if isinstance(place, int) else ["rtu", str(place)]
    numbers = [str(number) for number in (unit, function, address, count)]
    program = await asyncio.create_subprocess_exec(
        sys.executable, PROGRAM, "read", *kind, *numbers, stdout=subprocess.PIPE
    )
    said, _ = await program.communicate()
    assert program.returncode == 0
    found: list[int] | dict[str, str] = json.loads(said)
    return found if isinstance(found, list) else found["refused"]
