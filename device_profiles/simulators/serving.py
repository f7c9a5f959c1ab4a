"""Where a simulated device is plugged in: a pseudo-terminal with a lasting name, or a TCP port; with moods.

A simulator knows its protocol and nothing of lines: for each client it makes a *session*, a function from
what the client said to what the device says back. Here those bytes are moved, honestly or in one of the moods
that real lines have: one byte at a time, silent, deaf, unplugged.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tty
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

Session = Callable[[bytes], bytes]
# What a device says to one query.
Answer = Callable[[], bytes]
CHUNK = 4096


class Outlet(ABC):
    """One place to plug a device into. Moods may be changed at any time."""

    def __init__(self) -> None:
        # Each byte is written alone.
        self.one_byte_at_a_time = False
        # Hears, and says nothing.
        self.silent = False
        self._deaf = False
        self._new_session: Callable[[], Session] = lambda: lambda _: b""

    @property
    def deaf(self) -> bool:
        """Stopped reading: whoever writes to it blocks in the end."""
        return self._deaf

    @deaf.setter
    def deaf(self, deaf: bool) -> None:
        self._deaf = deaf
        self._heed()

    async def start(self, new_session: Callable[[], Session]) -> None:
        self._new_session = new_session
        await self.replug()

    async def stop(self) -> None:
        await self.unplug()

    @abstractmethod
    async def unplug(self) -> None:
        """Gone: clients lose their connection and find no new one."""

    @abstractmethod
    async def replug(self) -> None:
        """Back under the same name."""

    @abstractmethod
    def say(self, data: bytes) -> None:
        """To whoever listens; nobody listens, nobody hears."""

    @abstractmethod
    def _heed(self) -> None:
        """The deaf mood has changed."""

    def _pieces(self, data: bytes) -> list[bytes]:
        if self.silent:
            return []
        return [bytes([byte]) for byte in data] if self.one_byte_at_a_time else [data]


class Tcp(Outlet):
    """A port on this machine; any number of clients. ``port`` 0 takes a free one, known after the start."""

    def __init__(self, port: int = 0, host: str = "127.0.0.1") -> None:
        super().__init__()
        self.host = host
        self.port = port
        self._server: asyncio.Server | None = None
        self._clients: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}
        self._hears = asyncio.Event()

    async def unplug(self) -> None:
        if self._server is None:
            return
        self._server.close()
        talks = [talk for talk in self._clients.values() if talk is not None]
        for writer in self._clients:
            writer.transport.abort()
        for talk in talks:
            talk.cancel()
        await asyncio.gather(*talks, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    async def replug(self) -> None:
        self._heed()
        # A small limit: a deaf device must not swallow megabytes.
        self._server = await asyncio.start_server(self._serve, self.host, self.port, limit=CHUNK)
        self.port = self._server.sockets[0].getsockname()[1]

    def say(self, data: bytes) -> None:
        for writer in self._clients:
            for piece in self._pieces(data):
                writer.write(piece)

    def _heed(self) -> None:
        if self.deaf:
            self._hears.clear()
        else:
            self._hears.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients[writer] = asyncio.current_task()
        answer = self._new_session()
        try:
            while chunk := await reader.read(CHUNK):
                await self._hears.wait()
                for piece in self._pieces(answer(chunk)):
                    writer.write(piece)
                    await writer.drain()
                    # A turn of the loop between two bytes, so that they travel alone.
                    await asyncio.sleep(0)
        except ConnectionError:
            return
        except asyncio.CancelledError:
            # The server is being closed; asyncio would log this as an error of the client's.
            return
        finally:
            del self._clients[writer]
            writer.close()


class Pty(Outlet):
    """A pseudo-terminal. ``path`` is a symbolic link that is there while the device is plugged in."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._ours: int | None = None
        # Held open, or the line would hang up whenever a client closes it.
        self._theirs: int | None = None
        self._answer: Session = lambda _: b""

    async def unplug(self) -> None:
        if self._ours is None or self._theirs is None:
            return
        asyncio.get_running_loop().remove_reader(self._ours)
        os.close(self._ours)
        os.close(self._theirs)
        self._ours = self._theirs = None
        self.path.unlink(missing_ok=True)

    async def replug(self) -> None:
        if self._ours is not None:
            return
        self._ours, self._theirs = os.openpty()
        tty.setraw(self._theirs)
        os.set_blocking(self._ours, False)
        self._answer = self._new_session()
        self._heed()
        fresh = self.path.with_name(self.path.name + ".new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(os.ttyname(self._theirs))
        fresh.replace(self.path)

    def say(self, data: bytes) -> None:
        for piece in self._pieces(data):
            # As on a real line, what nobody takes in time is lost.
            with suppress(BlockingIOError):
                if self._ours is not None:
                    os.write(self._ours, piece)

    def _heed(self) -> None:
        if self._ours is None:
            return
        if self.deaf:
            asyncio.get_running_loop().remove_reader(self._ours)
        else:
            asyncio.get_running_loop().add_reader(self._ours, self._hear)

    def _hear(self) -> None:
        if self._ours is None:
            return
        with suppress(BlockingIOError):
            self.say(self._answer(os.read(self._ours, CHUNK)))


def replying(answers: Mapping[bytes, Answer]) -> Session:
    """A device that finds its queries in whatever is said to it, and answers each in its turn."""
    heard = bytearray()
    longest = max(map(len, answers))

    def take(chunk: bytes) -> bytes:
        heard.extend(chunk)
        said = b""
        while found := [(at, query) for query in answers if (at := heard.find(query)) >= 0]:
            at, query = min(found)
            del heard[: at + len(query)]
            said += answers[query]()
        # What is left may be the beginning of a query.
        del heard[: max(0, len(heard) - longest + 1)]
        return said

    return take


class Simulator(ABC):
    """A device with named faults that can be switched on and off while it runs."""

    # What ``set`` knows.
    faults: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._on: set[str] = set()

    def set(self, fault: str, on: bool = True) -> None:
        """Raises KeyError for a fault that this device does not know."""
        if fault not in self.faults:
            raise KeyError(f"{fault}; there are: {', '.join(self.faults)}")
        if on:
            self._on.add(fault)
        else:
            self._on.discard(fault)

    def has(self, fault: str) -> bool:
        return fault in self._on

    @abstractmethod
    async def start(self) -> None: ...

    @abstractmethod
    async def stop(self) -> None: ...


# --- trying a profile without hardware ----------------------------------------------------------------------


def arguments(what: str, argv: Sequence[str] | None) -> Outlet:
    """``--tcp HOST:PORT`` or ``--pty PATH`` of a simulator's command line."""
    parser = argparse.ArgumentParser(description=f"{what}. Type a fault's name and on or off.")
    add_places(parser)
    return place(parser.parse_args(argv))


def add_places(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--tcp", metavar="HOST:PORT", help="listen there, for example 127.0.0.1:9100")
    group.add_argument("--pty", metavar="PATH", type=Path, help="make a pseudo-terminal of that name")


def place(options: argparse.Namespace) -> Outlet:
    if options.pty is not None:
        return Pty(options.pty)
    host, _, port = str(options.tcp).rpartition(":")
    return Tcp(int(port), host or "127.0.0.1")


def run(simulator: Simulator) -> None:
    """Serve until the end of the input or Ctrl-C; switch faults as typed."""
    with suppress(KeyboardInterrupt):
        asyncio.run(_run(simulator))


async def _run(simulator: Simulator) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    await simulator.start()
    _tell(f"Ready. Faults: {' '.join(simulator.faults)}")
    typed = sys.stdin.fileno()
    # Nobody types into a file or /dev/null, and neither can be waited for.
    with suppress(PermissionError):
        loop.add_reader(typed, _listener(simulator, typed, ended))
    await ended.wait()
    loop.remove_reader(typed)
    await simulator.stop()


def _listener(simulator: Simulator, typed: int, ended: asyncio.Event) -> Callable[[], None]:
    heard = bytearray()

    def hear() -> None:
        chunk = os.read(typed, CHUNK)
        heard.extend(chunk)
        *lines, rest = heard.split(b"\n")
        heard[:] = rest
        for line in lines:
            _obey(simulator, line.decode(errors="replace"))
        if not chunk:
            ended.set()

    return hear


def _obey(simulator: Simulator, line: str) -> None:
    match line.split():
        case [fault, ("on" | "off") as switch]:
            try:
                simulator.set(fault, switch == "on")
            except KeyError as error:
                _tell(f"unknown fault: {error.args[0]}")
        case ["faults"]:
            _tell("\n".join(f"{fault}{' on' if simulator.has(fault) else ''}" for fault in simulator.faults))
        case []:
            pass
        case _:
            _tell("type: FAULT on, FAULT off, or faults")


def _tell(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
