"""A label printer that answers <SOH>A, <SOH>a and <SOH>e from its own state (DPL manual, p. 18)."""

from __future__ import annotations

from collections.abc import Sequence

from device_profiles.simulators import serving
from device_profiles.simulators.serving import Outlet, Session, Simulator

CR = b"\r"
# In the order of the answer; a to h are all that <SOH>A says.
FLAGS = (
    "interpreter_busy",
    "paper_out",
    "ribbon_out",
    "printing_batch",
    "printing",
    "paused",
    "label_presented",
    "rewinder_fault",
    "cutter_fault",
    "flag_j",
)
FLAGS_OF_A = 8
GROUPS = 3


class DplPrinter(Simulator):
    """``has_extended``: knows <SOH>a. ``longer``: a firmware whose answers have flags beyond the manual."""

    # just_reset: it says R before its next answer, once.
    faults = (*FLAGS, "just_reset", "mute")

    def __init__(self, outlet: Outlet, *, has_extended: bool = True, longer: bool = False) -> None:
        super().__init__()
        self.outlet = outlet
        self.has_extended = has_extended
        self.longer = longer
        self.labels_in_batch = 0

    async def start(self) -> None:
        await self.outlet.start(self._session)

    async def stop(self) -> None:
        await self.outlet.stop()

    def job_done(self) -> None:
        """The printer says so by itself."""
        self.outlet.say(b"T" + CR)

    def _session(self) -> Session:
        return serving.replying(
            {b"\x01A": self._status, b"\x01a": self._extended, b"\x01e": lambda: self._said(self._batch())}
        )

    def _status(self) -> bytes:
        return self._said(self._flags(FLAGS_OF_A) + ("NN" if self.longer else ""))

    def _extended(self) -> bytes:
        if not self.has_extended:
            return b""
        flags = self._flags(FLAGS_OF_A * GROUPS)
        groups = [flags[start : start + FLAGS_OF_A] for start in range(0, len(flags), FLAGS_OF_A)]
        return self._said(":".join(groups) + (":NN" if self.longer else ""))

    def _batch(self) -> str:
        return f"{self.labels_in_batch:04d}"

    def _flags(self, count: int) -> str:
        return "".join("Y" if self.has(flag) else "N" for flag in FLAGS[:count]).ljust(count, "N")

    def _said(self, text: str) -> bytes:
        if self.has("mute"):
            return b""
        reset = b"R" if self.has("just_reset") else b""
        self.set("just_reset", False)
        return reset + text.encode() + CR


def main(argv: Sequence[str] | None = None) -> None:
    serving.run(DplPrinter(serving.arguments("A label printer that speaks DPL", argv)))


if __name__ == "__main__":
    main()
