"""Keeps SQLite to one writing process: a lock on the data directory, and a socket by which commands
reach its holder. In the file of the lock stands which PostgreSQL it is when it is no SQLite: commands are
not told what the holder was told.

One order is one connection: a line of JSON there, a line of JSON back. The socket lies in the data
directory (0700) and is 0600; whoever can open it can read the database anyway. Its path goes through a
descriptor of the directory, because a socket's name has at most 107 bytes and a directory's has not.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import structlog
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from collector import admin
from collector.config import LOCK_NAME, SOCKET_NAME
from collector.owner import hand_over

MAX_LINE_BYTES = 64 << 10
ANSWER_WITHIN_S = 30.0
UNKNOWN = "the collector is of another version than this command and does not know such an order: restart it"

log = structlog.get_logger()

Perform = Callable[[admin.AnyOrder], Awaitable[admin.Answer]]


class UnreachableError(Exception):
    """Somebody holds the data directory and does not answer."""


class DataDirectory:
    """Owns the lock while it lives; ``holder`` is false when another process has it."""

    def __init__(self, path: Path) -> None:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = path
        self._lock = os.open(path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        hand_over(self._lock, path)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.holder = False
        else:
            self.holder = True

    def note(self, database: str) -> None:
        """For ``noted``; empty when it is SQLite. The holder's to say."""
        text = database.encode()
        os.pwrite(self._lock, text, 0)
        os.ftruncate(self._lock, len(text))

    def close(self) -> None:
        os.close(self._lock)


def noted(directory: Path) -> str:
    """The PostgreSQL of the collector that runs, or was started last, on this directory; empty when it is
    SQLite, or there was none. Raises OSError.
    """
    try:
        return (directory / LOCK_NAME).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def listen(directory: Path) -> socket.socket:
    """The caller holds the lock, so what lies there is a leftover."""
    with _socket_path(directory) as path:
        with contextlib.suppress(FileNotFoundError):
            Path(path).unlink()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        Path(path).chmod(0o600)
    listener.setblocking(False)
    return listener


async def serve(listener: socket.socket, perform: Perform) -> asyncio.Server:
    """Take orders until the server is closed."""
    return await asyncio.start_unix_server(_Clerk(perform).take, sock=listener, limit=MAX_LINE_BYTES)


def ask(directory: Path, order: admin.AnyOrder) -> admin.Answer:
    """Have the running server perform it. Raises OrderError when it refuses, UnreachableError when
    nobody answers."""
    try:
        with _socket_path(directory) as path, socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(ANSWER_WITHIN_S)
            channel.connect(path)
            channel.sendall(admin.ORDER.dump_json(order) + b"\n")
            line = b""
            while not line.endswith(b"\n") and (chunk := channel.recv(65_536)):
                line += chunk
        answer: admin.Answer = json.loads(line)
    except (OSError, ValueError) as error:
        raise UnreachableError(f"a collector holds {directory} and does not answer ({error})") from error
    if "refused" in answer:
        raise admin.OrderError(str(answer["refused"]))
    return answer


class _Clerk:
    def __init__(self, perform: Perform) -> None:
        self._perform = perform

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            # ValueError: a line longer than the limit.
            with contextlib.suppress(ConnectionError, ValueError):
                writer.write(json.dumps(await self._answer(await reader.readline())).encode() + b"\n")
                await writer.drain()
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> admin.Answer:
        try:
            order = admin.ORDER.validate_json(line)
            answer = await self._perform(order)
        except ValidationError:
            # A command of this version sends what it has checked itself.
            return {"refused": UNKNOWN}
        except admin.OrderError as error:
            return {"refused": str(error)}
        except SQLAlchemyError as error:
            log.error("an order of the command line failed", error=str(error))
            return {"refused": "the database does not take this now; the collector's log says why"}
        log.info("an order of the command line was carried out", order=order.do)
        return answer


@contextlib.contextmanager
def _socket_path(directory: Path) -> Iterator[str]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET_NAME}"
    finally:
        os.close(descriptor)
