"""Text devices behind a TCP port: label printers on 9100, scanners, serial device servers."""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from typing import Annotated, Literal

from pydantic import Field

from edge_agent.bus import LinkError
from edge_agent.bus.link import Link
from edge_agent.bus.stream import Stream, TextSettings
from edge_agent.poll import Line
from edge_agent.transports import host_adapter
from edge_agent.unreached import explain

CONNECT_TIMEOUT_S = 5.0
# A peer that vanished without a word is noticed after about 10 s: sent bytes by the user timeout, an idle
# connection by keepalives (first after 5 s, then each 2 s, 3 of them).
USER_TIMEOUT_MS = 10_000
KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
)


class Settings(TextSettings):
    transport: Literal["tcp"] = "tcp"
    host: Annotated[str, Field(min_length=1, description="name or address of the device")]
    port: Annotated[int, Field(ge=1, le=65_535)]

    @property
    def line(self) -> Line:
        return Line(words=f"TCP {self.host}:{self.port}")

    @property
    def adapter(self) -> str:
        return host_adapter(self.host)


class Transport(Stream):
    _settings: Settings

    async def open(self) -> Link:
        return await open_connection(self._settings.host, self._settings.port)


async def open_connection(host: str, port: int) -> Link:
    """Raises LinkError with words for a technician."""
    where = f"{host}:{port}"
    loop = asyncio.get_running_loop()
    refusal: OSError | None = None
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            for family, kind, protocol, _, address in found:
                try:
                    # An address that swallows what is sent leaves time for the others.
                    async with asyncio.timeout(CONNECT_TIMEOUT_S / len(found)):
                        connected = await _connect(loop, socket.socket(family, kind, protocol), address)
                except OSError as error:  # TimeoutError is one
                    refusal = error
                else:
                    return Link(connected.fileno(), close=connected.close, explain=partial(explain, where))
    except (OSError, UnicodeError) as error:  # a name that cannot be one is a UnicodeError
        raise LinkError(explain(where, error)) from error
    raise LinkError(explain(where, refusal))


async def _connect(
    loop: asyncio.AbstractEventLoop, candidate: socket.socket, address: tuple[object, ...]
) -> socket.socket:
    try:
        candidate.setblocking(False)
        notice_silence(candidate)
        await loop.sock_connect(candidate, address)
    except BaseException:
        candidate.close()
        raise
    return candidate


def notice_silence(connection: socket.socket) -> None:
    """Have the kernel end a connection whose peer vanished, also one on which nothing is said."""
    for level, option, value in KEEPALIVE:
        connection.setsockopt(level, option, value)
