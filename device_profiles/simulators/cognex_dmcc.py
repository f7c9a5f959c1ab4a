"""A DataMan reader that answers one DMCC command (DMCC reference; communications guide, pp. 18-19)."""

from __future__ import annotations

from collections.abc import Sequence

from device_profiles.simulators import serving
from device_profiles.simulators.serving import Outlet, Session, Simulator

CRLF = b"\r\n"
STATUSES = {
    "offline": 105,
    "rejects": 104,
    "error": 100,
    "unknown_command": 101,
    "unknown_status": 42,
}
OK, READ = 0, 1
DEVICE_TYPE = "DataMan"


class DataMan(Simulator):
    """``header``: what stands before the status of its answers, without or with checksum and id."""

    faults = (*STATUSES, "mute")

    def __init__(self, outlet: Outlet, *, header: str = "||") -> None:
        super().__init__()
        self.outlet = outlet
        self.header = header

    async def start(self) -> None:
        await self.outlet.start(self._session)

    async def stop(self) -> None:
        await self.outlet.stop()

    def result(self, code: str, *, framed: bool) -> None:
        """A code was read: a plain line, or the reader's own message with status 1."""
        self.outlet.say((self._message(READ, code) if framed else code.encode()) + CRLF)

    def _session(self) -> Session:
        return serving.replying({b"||>GET DEVICE.TYPE\r\n": self._device_type})

    def _device_type(self) -> bytes:
        if self.has("mute"):
            return b""
        status = next((code for fault, code in STATUSES.items() if self.has(fault)), OK)
        return self._message(status, DEVICE_TYPE if status == OK else "") + CRLF

    def _message(self, status: int, data: str) -> bytes:
        return f"{self.header}[{status}]{data}".encode()


def main(argv: Sequence[str] | None = None) -> None:
    serving.run(DataMan(serving.arguments("A DataMan reader", argv)))


if __name__ == "__main__":
    main()
