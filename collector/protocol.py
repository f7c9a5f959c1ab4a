"""Moves HTTP: the quick parser of uvicorn, and an end for headers, trailers and chunks that have none."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Of one request, what is not its body.
MAX_OVERHEAD_BYTES = 64 << 10
# A body in chunks of one byte has six bytes around each of them.
OVERHEAD_OF_BODY = 8


class Protocol(HttpToolsProtocol):
    """The parser holds what it has not finished in memory, however much that is; here it is counted."""

    _overhead = 0
    _body = 0

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
