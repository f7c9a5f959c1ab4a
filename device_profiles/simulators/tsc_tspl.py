"""A label printer that answers <ESC>!? and <ESC>!S from its own state (TSC TTP-244 Plus manual, p. 97)."""

from __future__ import annotations

from collections.abc import Sequence

from device_profiles.simulators import serving
from device_profiles.simulators.serving import Outlet, Session, Simulator

STX, ETX, CRLF = 0x02, 0x03, b"\r\n"
STATUS_BITS = {
    "head_open": 0x01,
    "paper_jam": 0x02,
    "paper_out": 0x04,
    "ribbon_out": 0x08,
    "paused": 0x10,
    "printing": 0x20,
    "cover_open": 0x40,
    "ambient_temperature": 0x80,
}
# Each of the last three bytes of <ESC>!S is 40h and its flags.
FLAGS = 0x40
WARNING_BITS = {"buffer_full": 0x08, "reserved_warning": 0x20}
ERROR_BITS = {
    "head_hot": 0x01,
    "stepper_hot": 0x02,
    "reserved_error": 0x04,
    "cutter_jam": 0x08,
    "memory_full": 0x10,
}
MEDIA_BITS = {"paper_out": 0x01, "paper_jam": 0x02, "ribbon_out": 0x04, "ribbon_jam": 0x08}
NORMAL, PAUSED, PRINTER_ERROR, PRINTING, UNKNOWN = 0x40, 0x60, 0x45, 0x50, 0x5A


class TscPrinter(Simulator):
    """``has_details``: firmware V6.29 EZ or later, which knows <ESC>!S."""

    faults = (
        *STATUS_BITS,
        *WARNING_BITS,
        *ERROR_BITS,
        "ribbon_jam",
        "unknown_message",
        "error_without_cause",
        "mute",
    )

    def __init__(self, outlet: Outlet, *, has_details: bool = True) -> None:
        super().__init__()
        self.outlet = outlet
        self.has_details = has_details

    async def start(self) -> None:
        await self.outlet.start(self._session)

    async def stop(self) -> None:
        await self.outlet.stop()

    def _session(self) -> Session:
        return serving.replying({b"\x1b!?": self._status, b"\x1b!S": self._details})

    def _status(self) -> bytes:
        return b"" if self.has("mute") else bytes([self._flags(STATUS_BITS)])

    def _details(self) -> bytes:
        if self.has("mute") or not self.has_details:
            return b""
        flags = [FLAGS | self._flags(bits) for bits in (WARNING_BITS, ERROR_BITS, MEDIA_BITS)]
        return bytes([STX, self._message(), *flags, ETX]) + CRLF

    def _message(self) -> int:
        if self.has("unknown_message"):
            return UNKNOWN
        if self.has("paused"):
            return PAUSED
        wrong = {*MEDIA_BITS, *ERROR_BITS, "head_open", "cover_open", "error_without_cause"}
        if self._on & wrong:
            return PRINTER_ERROR
        return PRINTING if self.has("printing") else NORMAL

    def _flags(self, bits: dict[str, int]) -> int:
        return sum(bit for name, bit in bits.items() if self.has(name))


def main(argv: Sequence[str] | None = None) -> None:
    serving.run(TscPrinter(serving.arguments("A label printer that speaks TSPL", argv)))


if __name__ == "__main__":
    main()
