"""Lets programs on this gateway hear what the running agent reads, so that a port need not be opened twice.

A socket in the data folder, for the agent's user and root. Whoever connects says in one line of JSON which
devices it wants (``{"devices": []}``: all) and gets a trace, line by line, until it says no more (shuts its
side down): then it gets the rest. A listener that is too slow misses readings and is told how many; the agent
never waits for it.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from edge_agent.config import ConfigError, Settings
from edge_agent.recording import Recording, beating
from edge_agent.sample import Again, Deliver, Reading
from edge_agent.trace import MAX_LINE_BYTES
from edge_agent.wire import Stamp

SOCKET = "readings.sock"
MOVE_EVERY_S = 0.25
MAX_REQUEST_BYTES = 64 << 10
MAX_LISTENERS = 8

log = structlog.get_logger()


class TapError(Exception):
    """The text says why the agent's readings cannot be had."""


class Tap:
    """Stands between the transports and what takes their readings."""

    def __init__(self, settings: Settings, stamp: Callable[[], Stamp]) -> None:
        self._settings = settings
        self._stamp = stamp
        self._listeners: set[Recording] = set()
        self._telling: set[asyncio.Task[Any]] = set()

    def before(self, deliver: Deliver) -> Deliver:
        """The same, heard here first."""

        async def heard(reading: Reading) -> None:
            for listener in self._listeners:
                listener.take(reading)
            await deliver(reading)

        return heard

    def beside(self, again: Again) -> Again:
        """The same, and what it takes is heard here."""

        def heard(readings: Sequence[Reading], at: Stamp) -> bool:
            taken = again(readings, at)
            if taken:
                for listener in self._listeners:
                    for reading in readings:
                        listener.take(replace(reading, at=at))
            return taken

        return heard

    async def run(self) -> None:
        """Until cancelled. Without a socket the agent runs as well."""
        try:
            listening = await asyncio.to_thread(_listening, self._settings.agent.data_dir)
        except OSError as error:
            log.warning("nobody can record what this agent reads", why=str(error))
            await asyncio.Event().wait()
            return
        server = await asyncio.start_unix_server(self._serve, sock=listening, limit=MAX_REQUEST_BYTES)
        try:
            await server.serve_forever()
        finally:
            server.close()
            for telling in self._telling:
                telling.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        telling = asyncio.current_task()
        assert telling is not None
        self._telling.add(telling)
        try:
            await self._tell(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            # The agent stops, or the listener did; asyncio would log either as an error of ours.
            return
        finally:
            self._telling.discard(telling)
            writer.close()

    async def _tell(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            listener = Recording(self._settings, self._stamp(), _wanted(await reader.readline()))
            if len(self._listeners) >= MAX_LISTENERS:
                raise ConfigError(f"{MAX_LISTENERS} listen already")
        except (ConfigError, ValueError) as error:
            writer.write(json.dumps({"error": str(error)}).encode() + b"\n")
            await writer.drain()
            return
        log.info("somebody records what devices say", listeners=len(self._listeners) + 1)
        self._listeners.add(listener)
        hung_up = asyncio.ensure_future(reader.read(1))
        beat = asyncio.ensure_future(beating(listener, self._stamp))
        try:
            while not hung_up.done():
                writer.write(listener.taken())
                await writer.drain()
                await asyncio.wait({hung_up}, timeout=MOVE_EVERY_S)
            self._listeners.discard(listener)
            listener.end(self._stamp())
            writer.write(listener.taken())
            await writer.drain()
        finally:
            hung_up.cancel()
            beat.cancel()
            self._listeners.discard(listener)
            log.info("the recording has ended", listeners=len(self._listeners))


@asynccontextmanager
async def listening(
    data_dir: Path, devices: Sequence[str]
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter] | None]:
    """The trace of the agent that runs on ``data_dir``; None when none runs. Raises TapError."""
    try:
        connected = await asyncio.to_thread(_connected, data_dir)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        yield None
        return
    except PermissionError as error:
        raise TapError(
            f"{data_dir / SOCKET}: may not be opened; run this as root or as the agent's user"
        ) from error
    except OSError as error:
        raise TapError(f"{data_dir / SOCKET}: {error.strerror or error}") from error
    reader, writer = await asyncio.open_unix_connection(sock=connected, limit=MAX_LINE_BYTES)
    try:
        writer.write(json.dumps({"devices": list(devices)}).encode() + b"\n")
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def _wanted(request: bytes) -> list[str]:
    """Raises ValueError."""
    found = json.loads(request)
    devices = found.get("devices") if isinstance(found, dict) else None
    if not isinstance(devices, list) or not all(isinstance(one, str) for one in devices):
        raise ValueError('expected {"devices": [...]}')
    return devices


def _listening(data_dir: Path) -> socket.socket:
    path = data_dir / SOCKET
    path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX)
    try:
        with _short(data_dir) as short:
            made.bind(short)
        # Nobody can connect before it listens.
        path.chmod(0o600)
    except BaseException:
        made.close()
        raise
    made.setblocking(False)
    return made


def _connected(data_dir: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    try:
        with _short(data_dir) as short:
            made.connect(short)
    except BaseException:
        made.close()
        raise
    made.setblocking(False)
    return made


@contextmanager
def _short(data_dir: Path) -> Iterator[str]:
    """A name of the socket that fits: unix(7) has room for 107 bytes."""
    folder = os.open(data_dir, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{SOCKET}"
    finally:
        os.close(folder)
