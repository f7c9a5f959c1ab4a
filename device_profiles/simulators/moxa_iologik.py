"""A remote I/O block with 16 digital inputs and 8 counters (ioLogik E1200 manual, appendix A)."""

from __future__ import annotations

from collections.abc import Sequence

from device_profiles.simulators import serving
from device_profiles.simulators.modbus import INPUT_REGISTERS, Registers

# 30049 and 30017, counted from 0.
DI_WORD, COUNTERS = 0x30, 0x10
CHANNELS, COUNTED = 16, 8


class IoLogik(Registers):
    """All inputs are on, as closed chains and clear photo-eyes are, but those whose fault is."""

    function = INPUT_REGISTERS
    faults = (*(f"input_{number}_off" for number in range(CHANNELS)), "mute")

    def __init__(self, outlet: serving.Outlet, *, unit: int = 1) -> None:
        super().__init__(outlet, unit=unit)
        self.counts = [0] * COUNTED

    def registers(self) -> dict[int, int]:
        inputs = sum(1 << number for number in range(CHANNELS) if not self.has(f"input_{number}_off"))
        words = [word for count in self.counts for word in divmod(count, 1 << 16)]
        return {DI_WORD: inputs, **dict(enumerate(words, COUNTERS))}


def main(argv: Sequence[str] | None = None) -> None:
    serving.run(IoLogik(serving.arguments("A remote I/O block, unit 1", argv)))


if __name__ == "__main__":
    main()
