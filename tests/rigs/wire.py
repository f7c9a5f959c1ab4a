"""The wire between a device and the agent, with the moods that wires have.

The device at the far end is whole and real: a simulator, a broker, somebody else's server. What it says to
the agent passes here, and what the agent says to it. A *mood* says what becomes of each chunk; ``happened``
counts how often it did what it is for, so that a test knows that it was put to the test.

A line (serial, or the serial side of a device server) loses bytes. TCP never hands over a stream with holes:
what a bad network does to it is that chunks come late and torn, and that connections break.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import struct
import tty
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random

from rigs.ports import LOOK_AGAIN_S, PATIENCE_S, free_port

CHUNK = 4096
# Of 1,000 bytes so many are lost.
LOST_OF_1000 = 12
LATE_AT_MOST_S = 0.05
# Of 100 chunks so many find their connection broken.
BROKEN_OF_100 = 8
UNPLUGGED_FOR_S = 0.15

# What becomes of a chunk: bytes go on, a number is a pause in seconds, BREAK ends this connection, UNPLUG the
# whole wire for a while.
BREAK, UNPLUG = "break", "unplug"
Piece = bytes | float | str


class Mood:
    """Plain: everything arrives as it was said."""

    happened = 0

    def pieces(self, chunk: bytes, *, to_agent: bool) -> Sequence[Piece]:
        self.happened += 1
        return [chunk]


class OneByteAtATime(Mood):
    def pieces(self, chunk: bytes, *, to_agent: bool) -> Sequence[Piece]:
        self.happened += len(chunk)
        return [bytes([byte]) for byte in chunk]


class LossyLine(Mood):
    """Bytes are lost, in both directions."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def pieces(self, chunk: bytes, *, to_agent: bool) -> Sequence[Piece]:
        kept = bytes(byte for byte in chunk if self._random.randrange(1000) >= LOST_OF_1000)
        self.happened += len(chunk) - len(kept)
        return [kept]


class NoisyLine(LossyLine):
    """Bytes are lost, and of others a bit is turned: only a checksum tells."""

    def pieces(self, chunk: bytes, *, to_agent: bool) -> Sequence[Piece]:
        (kept,) = super().pieces(chunk, to_agent=to_agent)
        assert isinstance(kept, bytes)
        noisy = bytes(
            byte ^ 1 << self._random.randrange(8) if self._random.randrange(1000) < LOST_OF_1000 else byte
            for byte in kept
        )
        self.happened += sum(one != other for one, other in zip(kept, noisy, strict=True))
        return [noisy]


class LossyNetwork(Mood):
    """Chunks are torn and late, and now and then a connection breaks in the middle of one."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def pieces(self, chunk: bytes, *, to_agent: bool) -> Sequence[Piece]:
        cut = self._random.randrange(len(chunk))
        late_s = self._random.uniform(0, LATE_AT_MOST_S)
        if self._random.randrange(100) < BROKEN_OF_100:
            self.happened += 1
            return [chunk[:cut], late_s, BREAK]
        return [chunk[:cut], late_s, chunk[cut:]]


class UnpluggedInTheMiddle(Mood):
    """Every few answers the wire is pulled while one is on its way, and plugged in again soon."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._left = self._random.randrange(2, 5)

    def pieces(self, chunk: bytes, *, to_agent: bool) -> Sequence[Piece]:
        if not to_agent:
            return [chunk]
        self._left -= 1
        if self._left > 0:
            return [chunk]
        self._left = self._random.randrange(2, 5)
        self.happened += 1
        return [chunk[: self._random.randrange(len(chunk))], UNPLUG]


class Wire(ABC):
    """Moods may be changed at any time. ``async with`` plugs it in."""

    def __init__(self) -> None:
        self.mood = Mood()
        self._at_work: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Wire:
        await self.plug()
        return self

    async def __aexit__(self, *_: object) -> None:
        while self._at_work:
            for task in self._at_work:
                task.cancel()
            await asyncio.wait(self._at_work)
        await self.unplug()

    @abstractmethod
    async def plug(self) -> None:
        """Under the same name as before."""

    @abstractmethod
    async def unplug(self) -> None:
        """Gone, as seen by the agent."""

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._at_work.add(task)
        task.add_done_callback(self._at_work.discard)
        return task

    async def _pass(self, chunk: bytes, say: Callable[[bytes], object], *, to_agent: bool) -> bool:
        """False: nothing more goes this way."""
        for piece in self.mood.pieces(chunk, to_agent=to_agent):
            if isinstance(piece, bytes):
                if piece:
                    say(piece)
                # A turn of the loop between two pieces, so that they travel alone.
                await asyncio.sleep(0)
            elif isinstance(piece, float):
                await asyncio.sleep(piece)
            else:
                if piece == UNPLUG:
                    self._start(self._out_and_in())
                return False
        return True

    async def _out_and_in(self) -> None:
        await self.unplug()
        await asyncio.sleep(UNPLUGGED_FOR_S)
        await self.plug()


# Classic BPF, "return 0": the kernel drops the packet before TCP has seen it, so nothing acknowledges it
# (socket(7), SO_ATTACH_FILTER; linux/filter.h). Needs no rights.
SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
DROP_ALL = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
DROP_ALL_PROGRAM = struct.pack("HP", 1, ctypes.addressof(DROP_ALL))


class TcpWire(Wire):
    """``port`` leads to another one on this machine."""

    def __init__(self, to_port: int) -> None:
        super().__init__()
        self.port = free_port()
        # Connections that the agent has made so far.
        self.connections = 0
        self._to_port = to_port
        self._server: asyncio.Server | None = None
        self._ends: set[asyncio.StreamWriter] = set()
        self._near: set[asyncio.StreamWriter] = set()
        self._stuck = False
        self._dark = False

    async def plug(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self._server is None:
                # While it was unplugged somebody's own connection may have been given the port.
                with suppress(OSError):
                    self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
                await asyncio.sleep(LOOK_AGAIN_S)
        if self._dark:
            self._filter(self._server.sockets[0], on=True)

    async def unplug(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for end in list(self._ends):
            end.transport.abort()

    def get_stuck(self, stuck: bool = True) -> None:
        """The far side hangs: connections stay and are made, its kernel acknowledges, nothing passes."""
        self._stuck = stuck

    def go_dark(self, dark: bool = True) -> None:
        """Half open: no packet gets through in either direction, and nobody is told."""
        self._dark = dark
        for end in self._near:
            self._filter(end.get_extra_info("socket"), on=dark)
        if self._server is not None:
            self._filter(self._server.sockets[0], on=dark)

    @staticmethod
    def _filter(end: socket.socket, *, on: bool) -> None:
        if on:
            end.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, DROP_ALL_PROGRAM)
        else:
            end.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._ends.add(writer)
        self._near.add(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to_port)
        except OSError:
            self._end(writer)
            return
        self._ends.add(far_writer)
        both = (writer, far_writer)
        self._start(self._carry(reader, far_writer, both, to_agent=False))
        self._start(self._carry(far_reader, writer, both, to_agent=True))

    async def _carry(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        both: tuple[asyncio.StreamWriter, ...],
        *,
        to_agent: bool,
    ) -> None:
        def say(piece: bytes) -> None:
            # The other direction may have ended both.
            if not sink.is_closing():
                sink.write(piece)

        try:
            with suppress(ConnectionError):
                while chunk := await source.read(CHUNK):
                    if self._stuck or self._dark:
                        continue
                    if not await self._pass(chunk, say, to_agent=to_agent):
                        # What was said so far gets through before the end does.
                        await sink.drain()
                        break
        finally:
            self._end(*both)

    def _end(self, *ends: asyncio.StreamWriter) -> None:
        for end in ends:
            self._ends.discard(end)
            self._near.discard(end)
            end.transport.abort()


class PtyWire(Wire):
    """``path`` leads to ``far``, the path of another pseudo-terminal."""

    def __init__(self, path: Path, far: Path) -> None:
        super().__init__()
        self.path = path
        self._far_path = far
        self._far: int | None = None
        self._ours: int | None = None
        # Held open, or the line would hang up whenever the agent closes it.
        self._theirs: int | None = None
        self._carrying: list[asyncio.Task[None]] = []

    async def plug(self) -> None:
        self._far = os.open(self._far_path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(self._far)
        self._ours, self._theirs = os.openpty()
        tty.setraw(self._theirs)
        os.set_blocking(self._ours, False)
        self.path.symlink_to(os.ttyname(self._theirs))
        self._carrying = [
            self._start(self._carry(self._ours, self._far, to_agent=False)),
            self._start(self._carry(self._far, self._ours, to_agent=True)),
        ]

    async def unplug(self) -> None:
        for task in self._carrying:
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)
        self._carrying = []
        self.path.unlink(missing_ok=True)
        for fd in (self._far, self._ours, self._theirs):
            if fd is not None:
                os.close(fd)
        self._far = self._ours = self._theirs = None

    async def _carry(self, source: int, sink: int, *, to_agent: bool) -> None:
        def say(piece: bytes) -> None:
            # As on a real line, what nobody takes in time is lost.
            with suppress(BlockingIOError):
                os.write(sink, piece)

        while await self._pass(await _read(source), say, to_agent=to_agent):
            pass


async def _read(fd: int) -> bytes:
    loop = asyncio.get_running_loop()
    while True:
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_reader(fd, lambda: ready.done() or ready.set_result(None))  # noqa: B023
        try:
            await ready
        finally:
            loop.remove_reader(fd)
        with suppress(BlockingIOError):
            return os.read(fd, CHUNK)
