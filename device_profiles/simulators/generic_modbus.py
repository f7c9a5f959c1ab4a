"""Some Modbus device: one value and one word, at registers of your choice."""

from __future__ import annotations

from collections.abc import Sequence

from device_profiles.simulators import serving
from device_profiles.simulators.modbus import Registers

NORMAL, HIGH, LOW = 50, 90, 10
FAULT_BIT, FAULT_CODE = 0x0080, 17


class SomeDevice(Registers):
    faults = ("high", "low", "bit", "code", "mute")

    def __init__(self, outlet: serving.Outlet, *, unit: int = 1, value: int = 0, word: int = 1) -> None:
        super().__init__(outlet, unit=unit)
        self.addresses = (value, word)

    def registers(self) -> dict[int, int]:
        value, word = self.addresses
        return {
            value: HIGH if self.has("high") else LOW if self.has("low") else NORMAL,
            word: FAULT_BIT if self.has("bit") else FAULT_CODE if self.has("code") else 0,
        }


def main(argv: Sequence[str] | None = None) -> None:
    serving.run(SomeDevice(serving.arguments("Some Modbus device, unit 1", argv)))


if __name__ == "__main__":
    main()
