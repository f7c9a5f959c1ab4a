"""A receipt printer that answers DLE EOT 1 to 4 from its own state (Epson TM-L90 and TM-U375 manuals)."""

from __future__ import annotations

from collections.abc import Sequence

from device_profiles.simulators import serving
from device_profiles.simulators.serving import Outlet, Session, Simulator

# Bits 1 and 4 of every status byte.
ALWAYS = 0x12
OFFLINE = 0x08
COVER_OPEN, FED_BY_BUTTON, PAPER_END_STOP, ERROR = 0x04, 0x08, 0x20, 0x40
ERROR_CAUSES = {
    "recoverable_error": 0x04,
    "cutter_error": 0x08,
    "unrecoverable_error": 0x20,
    "head_hot": 0x40,
}
NEAR_END, END = 0x0C, 0x60
# Device id of the automatic status (bits 0, 1, 4, 7 are 0 0 1 0), then three bytes with bits 4 and 7 clear.
AUTOMATIC_STATUS = b"\x10\x00\x00\x0f"
XOFF = b"\x13"


class EscPosPrinter(Simulator):
    """``noisy``: an automatic status and an XOFF before each answer. ``liar``: open, it says no paper."""

    faults = (
        "cover_open",
        "paper_out",
        "paper_near_end",
        *ERROR_CAUSES,
        "unknown_error",
        "offline",
        "feed_button",
        "mute",
    )

    def __init__(self, outlet: Outlet, *, noisy: bool = False, liar: bool = False) -> None:
        super().__init__()
        self.outlet = outlet
        self.noisy = noisy
        self.liar = liar

    async def start(self) -> None:
        await self.outlet.start(self._session)

    async def stop(self) -> None:
        await self.outlet.stop()

    def _session(self) -> Session:
        answers = (self._printer, self._offline, self._error, self._roll)
        return serving.replying(
            {bytes([0x10, 0x04, n]): self._saying(answer) for n, answer in enumerate(answers, 1)}
        )

    def _saying(self, answer: serving.Answer) -> serving.Answer:
        def say() -> bytes:
            if self.has("mute"):
                return b""
            return (AUTOMATIC_STATUS + XOFF if self.noisy else b"") + answer()

        return say

    def _printer(self) -> bytes:
        busy = self._on - {"paper_near_end"}
        return bytes([ALWAYS | (OFFLINE if busy else 0)])

    def _offline(self) -> bytes:
        flags = COVER_OPEN if self.has("cover_open") else 0
        flags |= FED_BY_BUTTON if self.has("feed_button") else 0
        flags |= PAPER_END_STOP if self.has("paper_out") else 0
        flags |= ERROR if self._on & {*ERROR_CAUSES, "unknown_error"} else 0
        return bytes([ALWAYS | flags])

    def _error(self) -> bytes:
        return bytes([ALWAYS | sum(bit for name, bit in ERROR_CAUSES.items() if self.has(name))])

    def _roll(self) -> bytes:
        end = self.has("paper_out") or (self.liar and self.has("cover_open"))
        near = end or self.has("paper_near_end")
        return bytes([ALWAYS | (NEAR_END if near else 0) | (END if end else 0)])


def main(argv: Sequence[str] | None = None) -> None:
    serving.run(EscPosPrinter(serving.arguments("A printer that speaks ESC/POS", argv)))


if __name__ == "__main__":
    main()
