"""A SATO label printer that answers ENQ with status 3 or 4 (E-series programming reference, pp. 7-9)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from device_profiles.simulators import serving
from device_profiles.simulators.serving import Outlet, Session, Simulator

STX, ETX, ENQ = b"\x02", b"\x03", 0x05
# <ESC>A begins a label, <ESC>Z ends it.
LABEL_BEGINS, LABEL_ENDS = b"\x1bA", b"\x1bZ"
# The first that is on is shown.
STATUSES = {
    "head_open": "b",
    "paper_out": "c",
    "ribbon_out": "d",
    "media_error": "e",
    "sensor_error": "f",
    "head_error": "g",
    "memory_error": "i",
    "cutter_error": "j",
    "machine_error": "k",
    "buffer_full": "a",
    "unknown_status": "h",
    "offline": "0",
    "print_stopped": "E",
    "buffer_near_full": "C",
    "ribbon_near_end": "B",
}
READY = "A"
JOB = "ORDER 4711"


class SatoPrinter(Simulator):
    """``status`` 3 or 4; ``size_first``: "Legacy Status" on LAN, four bytes with the size before each answer.

    An ENQ inside a label spoils it, as the maker warns: ``spoiled`` counts those.
    """

    faults = (*STATUSES, "mute")

    def __init__(self, outlet: Outlet, *, status: int = 3, size_first: bool = False) -> None:
        super().__init__()
        self.outlet = outlet
        self.status = status
        self.size_first = size_first
        self.labels = 0
        self.spoiled = 0

    async def start(self) -> None:
        await self.outlet.start(self._session)

    async def stop(self) -> None:
        await self.outlet.stop()

    def _session(self) -> Session:
        line = _Line(self)
        return line.take

    def answer(self) -> bytes:
        if self.has("mute"):
            return b""
        shown = next((status for fault, status in STATUSES.items() if self.has(fault)), READY)
        text = f"  {shown}000000" + (f"{JOB:<16}" if self.status == 4 else "")
        answer = STX + text.encode() + ETX
        return len(answer).to_bytes(4, "big") + answer if self.size_first else answer


class _Line:
    """What one client says: labels, and requests between them."""

    def __init__(self, printer: SatoPrinter) -> None:
        self._printer = printer
        self._label = bytearray()

    def take(self, chunk: bytes) -> bytes:
        return b"".join(map(self._take, chunk))

    def _take(self, byte: int) -> bytes:
        if byte == ENQ:
            self._printer.spoiled += self._label.startswith(LABEL_BEGINS)
            return self._printer.answer()
        self._label.append(byte)
        if self._label.endswith(LABEL_ENDS):
            self._printer.labels += 1
            self._label.clear()
        return b""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="A SATO printer. Type a fault's name and on or off.")
    serving.add_places(parser)
    parser.add_argument("--status", type=int, choices=[3, 4], default=3, help="status 3, or 4 with the job")
    options = parser.parse_args(argv)
    serving.run(SatoPrinter(serving.place(options), status=options.status))


if __name__ == "__main__":
    main()
