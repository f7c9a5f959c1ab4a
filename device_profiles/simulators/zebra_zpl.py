"""A label printer that answers ~HS, ~HQES, ~HQOD and ~HQPH from its own state, as the ZPL II guide says."""

from __future__ import annotations

from collections.abc import Sequence

from device_profiles.simulators import serving
from device_profiles.simulators.serving import Outlet, Session, Simulator

STX, ETX, CRLF = b"\x02", b"\x03", b"\r\n"

# ZPL guide, ~HQ, table 8 and 9.
ERROR_BITS = {
    "paper_out": 0x1,
    "ribbon_out": 0x2,
    "head_open": 0x4,
    "cutter_fault": 0x8,
    "over_temperature": 0x10,
    "motor_over_temperature": 0x20,
    "bad_head_element": 0x40,
    "head_not_detected": 0x80,
    "invalid_firmware_configuration": 0x100,
    "thermistor_open": 0x200,
    "retract_jam": 0x1000,
    "presenter_stopped": 0x2000,
    "feed_error": 0x4000,
    "path_not_clear": 0x8000,
    "paused": 0x10000,
    "retract_timeout": 0x20000,
    "black_mark_calibration": 0x40000,
    "black_mark_not_found": 0x80000,
    # In no table: what a newer firmware might send.
    "unknown_error": 0x800,
}
WARNING_BITS = {
    "calibrate_media": 0x1,
    "clean_head": 0x2,
    "replace_head": 0x4,
    "paper_near_end": 0x8,
    "unknown_warning": 0x1000,
}
# What ~HS alone knows.
HS_ONLY = ("buffer_full", "diagnostic_mode", "partial_format", "ram_corrupt", "under_temperature")
# The guide: in these the printer may leave ~HS unanswered.
MUTING = ("paper_out", "ribbon_out", "head_open", "over_temperature")


class ZebraPrinter(Simulator):
    """``mutes``: silent on ~HS in the faults for which the guide allows it. ``has_hqes``: newer firmware."""

    faults = (*ERROR_BITS, *WARNING_BITS, *HS_ONLY, "mute")

    def __init__(
        self,
        outlet: Outlet,
        *,
        mutes: bool = False,
        has_hqes: bool = True,
        password: int = 0,
        direct: bool = False,
    ) -> None:
        super().__init__()
        self.outlet = outlet
        self.mutes = mutes
        self.has_hqes = has_hqes
        self.password = password
        # Direct thermal: without a ribbon.
        self.direct = direct
        self.labels_remaining = 0
        # How far the printer, the head that is fitted and those before it have run.
        self.inches = 8560
        self.head_inches = 1489
        self.earlier_heads = (7071,)
        self.since_cleaned = 257

    async def start(self) -> None:
        await self.outlet.start(self._session)

    async def stop(self) -> None:
        await self.outlet.stop()

    def _session(self) -> Session:
        return serving.replying(
            {
                b"~HS": self._host_status,
                b"~HQES": self._errors_and_warnings,
                b"~HQOD": self._odometer,
                b"~HQPH": self._head_life,
            }
        )

    def _host_status(self) -> bytes:
        if self.has("mute") or (self.mutes and any(map(self.has, MUTING))):
            return b""
        flag = {name: int(self.has(name)) for name in self.faults}
        line_1 = (
            f"030,{flag['paper_out']},{flag['paused']},0308,000,{flag['buffer_full']},{flag['diagnostic_mode']},"
            f"{flag['partial_format']},000,{flag['ram_corrupt']},{flag['under_temperature']},"
            f"{flag['over_temperature']}"
        )
        line_2 = (
            f"001,0,{flag['head_open']},{flag['ribbon_out']},{int(not self.direct)},2,6,0,"
            f"{self.labels_remaining:08d},1,000"
        )
        line_3 = f"{self.password:04d},0"
        return b"".join(STX + line.encode() + ETX + CRLF for line in (line_1, line_2, line_3))

    def _errors_and_warnings(self) -> bytes:
        if self.has("mute") or not self.has_hqes:
            return b""
        rows = (("ERRORS:  ", ERROR_BITS), ("WARNINGS:", WARNING_BITS))
        text = "\r\n  PRINTER STATUS"
        for title, bits in rows:
            word = sum(bit for name, bit in bits.items() if self.has(name))
            text += f"\r\n   {title}        {int(word > 0)} {word >> 32:08X} {word & 0xFFFFFFFF:08X}"
        return STX + text.encode() + b" " + ETX + CRLF

    def _odometer(self) -> bytes:
        counters = ("TOTAL NONRESETTABLE:", "USER RESETTABLE CNTR1:", "USER RESETTABLE CNTR2:")
        return self._said("  PRINT METERS", *(f'   {counter:<23}{self.inches:>10} "' for counter in counters))

    def _head_life(self) -> bytes:
        history = (self.head_inches, *self.earlier_heads)
        return self._said(
            f'  LAST CLEANED:{self.since_cleaned:>18} "',
            "  HEAD LIFE HISTORY",
            "   #   DISTANCE",
            *(f'   {number}:{inches:>11} "' for number, inches in enumerate(history, 1)),
        )

    def _said(self, *lines: str) -> bytes:
        if self.has("mute") or not self.has_hqes:
            return b""
        return STX + b"".join(CRLF + line.encode() for line in lines) + CRLF + ETX + CRLF


def main(argv: Sequence[str] | None = None) -> None:
    serving.run(ZebraPrinter(serving.arguments("A Zebra label printer", argv)))


if __name__ == "__main__":
    main()
