"""Moves one sync to the collector over HTTP and its reply back."""

from __future__ import annotations

import gzip
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

import httpx

from edge_agent.forward import CollectorAwayError, Post, Reply
from edge_agent.unreached import explain
from edge_agent.wire import LANE_HEADER, MAX_WIRE_BYTES, SYNC_PATH

GZIP_FROM_BYTES = 1 << 10
CONNECT_S = 5.0
# One message at a time: what waits for the connection waits for one that is lost.
POOL_S = 1.0
READ_S = 20.0
# A half-open connection is noticed after so long: unanswered bytes (tcp(7), TCP_USER_TIMEOUT), and idle
# seconds, then seconds between probes, then probes.
USER_TIMEOUT_MS = 10_000
KEEPALIVE_IDLE_S, KEEPALIVE_EVERY_S, KEEPALIVE_PROBES = 5, 2, 3


class Line:
    """The one connection of an agent to its collector, opened when it is needed. Its owner closes it.

    Trusts ``ca_file`` alone, or what the system trusts.
    """

    def __init__(self, ca_file: Path | None = None) -> None:
        self.ca_file = ca_file
        self._context = ssl.create_default_context(cafile=ca_file)
        self._client = _client(self._context)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._client.aclose()

    async def reply(self, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        """Raises httpx.HTTPError, OSError, CollectorAwayError."""
        with suppress(httpx.PoolTimeout):
            return await self._reply(url, body, headers)
        # Nobody else uses it: a message that was broken off while its answer was being put away has taken the
        # connection with it (httpx 0.28, httpcore 1.0), and no message would ever get another.
        lost, self._client = self._client, _client(self._context)
        await lost.aclose()
        return await self._reply(url, body, headers)

    async def _reply(self, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        request = self._client.build_request("POST", url, content=body, headers=headers)
        response = await self._client.send(request, stream=True)
        try:
            return Reply(
                status=response.status_code,
                body=await _bounded(response),
                retry_after_s=_seconds(response.headers.get("Retry-After")),
            )
        finally:
            await response.aclose()


def _client(context: ssl.SSLContext) -> httpx.AsyncClient:
    transport = httpx.AsyncHTTPTransport(
        verify=context,
        limits=httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=60.0),
        socket_options=[
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S),
            (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_EVERY_S),
            (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES),
            (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS),
        ],
    )
    timeout = httpx.Timeout(READ_S, connect=CONNECT_S, pool=POOL_S)
    return httpx.AsyncClient(transport=transport, timeout=timeout, trust_env=False)


def http_post(line: Line, url: str, credential: str, *, lane: str = "") -> Post:
    """``url``: of the collector, without a path. ``credential``: ``agw_<id>.<secret>``. ``lane``: as named
    before the message.
    """
    sync_url = url.rstrip("/") + SYNC_PATH

    async def post(body: bytes) -> Reply:
        headers = {
            "Authorization": f"Bearer {credential}",
            "Content-Type": "application/json",
            # Answers are small, and what is not compressed cannot explode.
            "Accept-Encoding": "identity",
        }
        if lane:
            headers[LANE_HEADER] = lane
        body, encoding = packed(body)
        headers |= encoding
        try:
            with suppress(httpx.RemoteProtocolError, httpx.ReadError):
                return await line.reply(sync_url, body, headers)
            # A kept connection was closed at the other end just then; a sync may be repeated.
            return await line.reply(sync_url, body, headers)
        except (httpx.HTTPError, OSError) as error:
            reached = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            raise CollectorAwayError(explain(url, error, ca_file=line.ca_file), reached=reached) from error

    return post


def packed(body: bytes) -> tuple[bytes, dict[str, str]]:
    """As it travels, and the header that says so, if it needs one."""
    if len(body) <= GZIP_FROM_BYTES:
        return body, {}
    return gzip.compress(body, compresslevel=6, mtime=0), {"Content-Encoding": "gzip"}


async def _bounded(response: httpx.Response) -> bytes:
    found = bytearray()
    async for chunk in response.aiter_raw():
        found += chunk
        if len(found) > MAX_WIRE_BYTES:
            raise CollectorAwayError(f"its answer is longer than {MAX_WIRE_BYTES} bytes")
    return bytes(found)


def _seconds(header: str | None) -> float | None:
    """Retry-After as a number of seconds; its other form, a date, is not for agents without a clock."""
    return float(header) if header is not None and header.isascii() and header.isdigit() else None
