"""A stand-in for a device that is not here: a program beside this one that says what an example says.

It is told over its standard input (``device_profiles/simulators/stand_in.py``) and shares no code with the
agent, so that the profile's reads go over a real line to somebody else.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edge_agent.profile import (
    ExamplePayload,
    ListenRead,
    ModbusRead,
    NoAnswer,
    Profile,
    RequestRead,
    TopicRead,
    to_bytes,
)

MODULE = "device_profiles.simulators.stand_in"
TRANSPORTS = ("serial", "tcp", "modbus", "mqtt")
SAYS_WITHIN_S = 10.0
BROKER_WITHIN_S = 10.0


class StandInError(Exception):
    """The text says what is missing."""


class StandIn:
    """One device of a profile. ``bus`` is the ``[[bus]]`` on which it is found."""

    def __init__(self, process: asyncio.subprocess.Process, bus: Mapping[str, Any]) -> None:
        self.bus = bus
        self._process = process
        # Of a map of topics.
        self._texts: dict[str, str] = {}

    async def answers(self, profile: Profile, payloads: Mapping[str, ExamplePayload]) -> None:
        """From now on it says this to whoever asks, and else nothing. Raises StandInError."""
        asks = {name: one for name, one in profile.reads.items() if isinstance(one, RequestRead)}
        if asks:
            known = {name: read for name, read in asks.items() if name in payloads}
            await self._tell(
                answers={read.request.hex(): _said(profile, payloads[name]) for name, read in known.items()}
            )
        if any(isinstance(profile.reads[name], ModbusRead) for name in payloads):
            await self._tell(registers=_registers(profile, payloads))

    async def says(self, profile: Profile, name: str, payload: ExamplePayload, topic: str) -> None:
        """What nobody asks for. Raises StandInError."""
        read = profile.reads[name]
        if isinstance(read, ListenRead):
            await self._tell(say=_said(profile, payload))
        elif isinstance(read, TopicRead):
            where = read.topic.replace("{topic}", topic)
            said = self._texts_by_topic(where, payload) if read.format == "map" else {where: str(payload)}
            for one, text in said.items():
                await self._tell(publish={"topic": one, "payload": text.encode().hex()})

    def _texts_by_topic(self, where: str, payload: ExamplePayload) -> dict[str, str]:
        """What of the texts is new, an empty one for what is over; one at least, or nothing would come."""
        texts: dict[str, str] = json.loads(str(payload))["texts"]
        over = [key for key in self._texts if key not in texts]
        new = {key: text for key, text in texts.items() if self._texts.get(key) != text}
        self._texts = texts
        said = dict.fromkeys(over, "") | new or texts or {"none": ""}
        return {where.replace("+", key, 1): text for key, text in said.items()}

    async def _tell(self, **command: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        await _line(self._process, "ok")


@asynccontextmanager
async def standing_in(transport: str, broker: str | None = None) -> AsyncIterator[StandIn]:
    """A stand-in that can be found over one of ``TRANSPORTS``. Raises StandInError."""
    if find_spec("device_profiles") is None or find_spec(MODULE) is None:
        raise StandInError("the folder device_profiles, whose simulator stands in, is not installed here")
    with tempfile.TemporaryDirectory() as folder:
        if transport == "serial":
            port = Path(folder) / "device"
            async with _program("--pty", str(port)) as (process, _):
                yield StandIn(process, {"transport": transport, "port": str(port)})
        elif transport in ("tcp", "modbus"):
            more = ["--modbus"] if transport == "modbus" else []
            async with _program("--tcp", "127.0.0.1:0", *more) as (process, number):
                yield StandIn(process, {"transport": transport, "host": "127.0.0.1", "port": number})
        else:
            async with _broker(Path(folder), broker) as where, _program("--broker", where) as (process, _):
                host, _, number_text = where.rpartition(":")
                yield StandIn(process, {"transport": transport, "host": host, "port": int(number_text)})


@asynccontextmanager
async def _program(*words: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", MODULE, *words),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        # Ctrl-C is for us; it ends when its input does.
        start_new_session=True,
    )
    try:
        ready = await _line(process, "ready")
        yield process, int(ready.split()[1])
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _line(process: asyncio.subprocess.Process, expected: str) -> str:
    assert process.stdout is not None
    try:
        line = (await asyncio.wait_for(process.stdout.readline(), SAYS_WITHIN_S)).decode()
    except TimeoutError:
        line = ""
    if not line.startswith(expected):
        raise StandInError(f"the stand-in does not answer ({line.strip() or 'nothing'})")
    return line


@asynccontextmanager
async def _broker(folder: Path, named: str | None) -> AsyncIterator[str]:
    """``HOST:PORT`` of the one that was named, or of a mosquitto of our own."""
    if named is not None:
        if not named.rpartition(":")[2].isdigit():
            raise StandInError(f"--broker {named}: HOST:PORT is expected")
        yield named
        return
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    program = shutil.which("mosquitto", path=path)
    if program is None:
        raise StandInError(
            "an MQTT profile needs a broker: install mosquitto, or name one with --broker HOST:PORT"
        )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = folder / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n")
    process = await asyncio.create_subprocess_exec(
        *(program, "-c", str(config)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        await asyncio.wait_for(_listens(port), BROKER_WITHIN_S)
        yield f"127.0.0.1:{port}"
    except TimeoutError as error:
        raise StandInError(f"{program} does not start") from error
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _listens(port: int) -> None:
    while True:
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(0.05)


def _said(profile: Profile, payload: ExamplePayload) -> str | None:
    """Frames as they come over the line, in hexadecimal; None for silence."""
    if isinstance(payload, NoAnswer):
        return None
    assert isinstance(payload, tuple)
    framing = import_module(f"edge_agent.framing.{profile.framing}")
    return b"".join(framing.wrapped(to_bytes(str(frame))) for frame in payload).hex()


def _registers(profile: Profile, payloads: Mapping[str, ExamplePayload]) -> dict[str, dict[str, int]] | None:
    """By function and address; None for silence."""
    found: dict[str, dict[str, int]] = {}
    for name, payload in payloads.items():
        read = profile.reads[name]
        if isinstance(payload, NoAnswer):
            return None
        assert isinstance(read, ModbusRead)
        assert isinstance(payload, dict | tuple)
        numbers = payload if isinstance(payload, dict) else dict(enumerate(payload, read.address))
        found.setdefault(str(read.function), {}).update(
            {str(address): number for address, number in numbers.items() if isinstance(number, int)}
        )
    return found
