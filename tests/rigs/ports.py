"""Free ports, and waiting for something to become true without guessing how long it takes."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

# Long enough for a loaded machine; a test that passes never waits for it.
PATIENCE_S = 30.0
LOOK_AGAIN_S = 0.01


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def drops_whoever_knocks(port: int = 0) -> Iterator[int]:
    """The queue of this port is full: the kernel drops what would open a connection, and says nothing."""
    with ExitStack() as held, socket.create_server(("127.0.0.1", port), backlog=0) as server:
        for _ in range(4):
            knocking = held.enter_context(socket.socket())
            knocking.setblocking(False)
            knocking.connect_ex(server.getsockname())
        yield server.getsockname()[1]


async def wait_until(true: Callable[[], object], deadline_s: float = PATIENCE_S, what: str = "") -> None:
    """Look until ``true()`` is; AssertionError after ``deadline_s``."""
    end = time.monotonic() + deadline_s
    while not true():
        assert time.monotonic() < end, f"not within {deadline_s:g} s: {what or true}"
        await asyncio.sleep(LOOK_AGAIN_S)


def wait_until_now(true: Callable[[], object], deadline_s: float = PATIENCE_S, what: str = "") -> None:
    """The same outside of an event loop."""
    end = time.monotonic() + deadline_s
    while not true():
        assert time.monotonic() < end, f"not within {deadline_s:g} s: {what or true}"
        time.sleep(LOOK_AGAIN_S)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
