"""Moves HTTP: the quick parser of uvicorn, and an end for headers, trailers and chunks that have none."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Of one request, what is not its body.
MAX_OVERHEAD_BYTES = 64 << 10
# A body in chunks of one byte has six bytes around each of them.
OVERHEAD_OF_BODY = 8


class Protocol(HttpToolsProtocol):
    """The parser holds what it has not finished in memory, however much that is; here it is counted."""

    _overhead = 0
    _body = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.transport = _InOnePiece(transport, self.loop)  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        before = self._body
        self._overhead += len(data)
        super().data_received(data)
        self._overhead -= max(0, self._body - before)
        allowed = MAX_OVERHEAD_BYTES + OVERHEAD_OF_BODY * self._body
        if self._overhead > allowed and not self.transport.is_closing():
            self.send_400_response("Request too large.")

    def on_body(self, body: bytes) -> None:
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._overhead = 0
        self._body = 0
        super().on_message_complete()


class _InOnePiece:
    """The transport as uvicorn uses it. Head and body of an answer are written one after the other; they go
    in one packet, by one call of the system. A head whose body comes later goes at the end of its step.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        self._held.append(data)
        if len(self._held) > 1:
            self._flush()
        else:
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        held, self._held = self._held, []
        if held and not self._transport.is_closing():
            self._transport.writelines(held)
