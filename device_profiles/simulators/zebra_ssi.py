"""A handheld scanner that speaks Simple Serial Interface (DS2208 product reference guide, p. 110)."""

from __future__ import annotations

from collections.abc import Sequence

from device_profiles.simulators import serving
from device_profiles.simulators.serving import Outlet, Session, Simulator

DECODE_DATA, EVENT, REQUEST_REVISION, REPLY_REVISION = 0xF3, 0xF6, 0xA3, 0xA4
DECODER = 0
CONTINUED = 0x02
EAN_13 = 0x0B
# Said when the fault is switched on.
EVENTS = {"power_loss": 0x03, "parameter_error": 0x07, "defaults_set": 0x0A, "unknown_event": 0x55}
REVISION = b"NBRPUAAN"
CODE = b"4006381333931"


class SsiScanner(Simulator):
    """``pieces``: a code is sent in so many packets. It never minds that nobody acknowledges."""

    # garbled: each packet of a code has a wrong checksum.
    faults = (*EVENTS, "garbled", "mute")

    def __init__(self, outlet: Outlet, *, pieces: int = 1) -> None:
        super().__init__()
        self.outlet = outlet
        self.pieces = pieces
        # Too busy for questions when it is not.
        self.answers = True

    async def start(self) -> None:
        await self.outlet.start(self._session)

    async def stop(self) -> None:
        await self.outlet.stop()

    def set(self, fault: str, on: bool = True) -> None:
        """An event that ends is followed by a scan, as somebody works on."""
        super().set(fault, on)
        if fault in EVENTS and on:
            self._say(packet(EVENT, 0, bytes([EVENTS[fault]])))
        elif fault in EVENTS:
            self.scan()

    def scan(self, code: bytes = CODE) -> None:
        """Somebody pulls the trigger on a code."""
        data = bytes([EAN_13]) + code
        size = -(-len(data) // self.pieces)
        parts = [data[start : start + size] for start in range(0, len(data), size)]
        for part in parts:
            said = packet(DECODE_DATA, 0 if part is parts[-1] else CONTINUED, part)
            self._say(said[:-1] + bytes([said[-1] ^ 0xFF]) if self.has("garbled") else said)

    def _session(self) -> Session:
        return serving.replying({packet(REQUEST_REVISION, 0, b"", source=4): self._revision})

    def _revision(self) -> bytes:
        return b"" if self.has("mute") or not self.answers else packet(REPLY_REVISION, 0, REVISION)

    def _say(self, said: bytes) -> None:
        if not self.has("mute"):
            self.outlet.say(said)


def packet(opcode: int, status: int, data: bytes, *, source: int = DECODER) -> bytes:
    """As it is on the line: the checksum makes the sum of all 16 bits of it zero."""
    counted = bytes([4 + len(data), opcode, source, status]) + data
    return counted + (0x10000 - sum(counted)).to_bytes(2, "big")


def main(argv: Sequence[str] | None = None) -> None:
    serving.run(SsiScanner(serving.arguments("A scanner that speaks SSI", argv)))


if __name__ == "__main__":
    main()
