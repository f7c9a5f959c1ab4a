"""Bytes to and from an open port or connection, on its descriptor in the event loop, never blocking it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from edge_agent.bus import LinkError

CHUNK_BYTES = 4096
# More than this lying around unread is a device that talks without end: the rest is left for later.
DRAIN_BYTES = 16 << 10
# A tty may call itself writable and still take nothing; looking again at once would only burn the processor.
FULL_PAUSE_S = 0.02


class DeafPeerError(Exception):
    """The link is up, and the other side does not take what we send."""


class Link:
    """One open descriptor, non-blocking. ``close`` and ``drop_output`` are what its kind needs for that.

    An empty read means that the other side is gone: a serial port must be set so (VMIN 1).
    """

    def __init__(
        self,
        fd: int,
        *,
        close: Callable[[], None],
        explain: Callable[[OSError | None], str],
        drop_output: Callable[[], None] | None = None,
    ) -> None:
        self._fd = fd
        self._close = close
        self._explain = explain
        self._drop_output = drop_output
        self._loop = asyncio.get_running_loop()
        # Who waits for something to read. The loop goes on looking between two waits, which is cheaper than
        # to begin anew each time, until something comes that nobody waits for.
        self._waiting: asyncio.Future[bool] | None = None
        self._looking = False

    async def read(self) -> bytes:
        """What came next. Raises LinkError. Gives way to the loop each time, however fast they come."""
        while True:
            await self._readable(None)
            if chunk := self._read_now():
                return chunk

    async def read_within(self, seconds: float) -> bytes | None:
        """As ``read``; None when nothing came in time."""
        until = self._loop.time() + seconds
        while await self._readable(max(0.0, until - self._loop.time())):
            if chunk := self._read_now():
                return chunk
        return None

    def drain(self) -> bytes:
        """What has come already. Raises LinkError."""
        found = bytearray()
        while len(found) < DRAIN_BYTES and (chunk := self._read_now()):
            found += chunk
        return bytes(found)

    async def write(self, data: bytes, within_s: float) -> None:
        """Raises LinkError, or DeafPeerError when it was not taken in time; a part of it may have gone."""
        rest = memoryview(data)
        if not (rest := rest[self._write_now(rest) :]):
            return
        try:
            async with asyncio.timeout(within_s):
                while rest:
                    await self._writable()
                    await asyncio.sleep(FULL_PAUSE_S)
                    rest = rest[self._write_now(rest) :]
        except TimeoutError as error:
            raise DeafPeerError from error

    def drop_output(self) -> bool:
        """Forget what was written and not yet taken. False when this kind of link cannot: open it anew."""
        if self._drop_output is None:
            return False
        self._drop_output()
        return True

    def close(self) -> None:
        self._look_away()
        self._close()

    async def _readable(self, seconds: float | None) -> bool:
        """Whether there may be something to read; False when the time is over."""
        waiting: asyncio.Future[bool] = self._loop.create_future()
        self._waiting = waiting
        if not self._looking:
            self._loop.add_reader(self._fd, self._look)
            self._looking = True
        timer = None if seconds is None else self._loop.call_later(seconds, _settle, waiting, False)
        try:
            return await waiting
        finally:
            self._waiting = None
            if timer is not None:
                timer.cancel()

    def _look(self) -> None:
        if self._waiting is None:
            self._look_away()
        else:
            _settle(self._waiting, True)

    def _look_away(self) -> None:
        if self._looking:
            self._loop.remove_reader(self._fd)
            self._looking = False

    def _read_now(self) -> bytes | None:
        try:
            chunk = os.read(self._fd, CHUNK_BYTES)
        except BlockingIOError:
            return None
        except OSError as error:
            raise LinkError(self._explain(error)) from error
        if not chunk:
            raise LinkError(self._explain(None))
        return chunk

    def _write_now(self, data: memoryview) -> int:
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise LinkError(self._explain(error)) from error

    async def _writable(self) -> None:
        ready = self._loop.create_future()
        self._loop.add_writer(self._fd, _settle, ready, True)
        try:
            await ready
        finally:
            self._loop.remove_writer(self._fd)


def _settle(waiting: asyncio.Future[bool], outcome: bool) -> None:
    if not waiting.done():
        waiting.set_result(outcome)
