"""An ABB drive with the ABB Drives profile: status word and last fault (ACS355 manual, p. 313)."""

from __future__ import annotations

from collections.abc import Sequence

from device_profiles.simulators import serving
from device_profiles.simulators.modbus import Registers

# 40004 and 40401, counted from 0.
STATUS_WORD, LAST_FAULT = 3, 400
RUNNING, TRIPPED = 0x0237, 0x0238
# Bits that a fault sets in the status word, and those that it clears.
SETS = {"alarm": 1 << 7, "fieldbus_error": 1 << 15}
CLEARS = {"coast_stop": 1 << 4, "emergency_stop": 1 << 5}
# ACS550-02, p. 259.
FAULT_CODES = {
    "over_current": 1,
    "dc_over_voltage": 2,
    "drive_hot": 3,
    "motor_short": 4,
    "dc_under_voltage": 6,
    "input_lost": 7,
    "motor_hot": 9,
    "panel_lost": 10,
    "id_run": 11,
    "motor_stalled": 12,
    "external": 14,
    "ground_fault": 16,
    "power_board": 20,
    "mains_phase_lost": 22,
    "encoder": 23,
    "overspeed": 24,
    "unknown_code": 5,
}


class AbbDrive(Registers):
    """``other_profile``: parameter 5305 is not ABB DRV, so the status word stays 0."""

    faults = (*FAULT_CODES, *SETS, *CLEARS, "mute")

    def __init__(self, outlet: serving.Outlet, *, unit: int = 1, other_profile: bool = False) -> None:
        super().__init__(outlet, unit=unit)
        self.other_profile = other_profile
        self._last_fault = 0

    def set(self, fault: str, on: bool = True) -> None:
        super().set(fault, on)
        if on and fault in FAULT_CODES:
            self._last_fault = FAULT_CODES[fault]

    def registers(self) -> dict[int, int]:
        word = TRIPPED if self._on & FAULT_CODES.keys() else RUNNING
        word |= sum(bit for name, bit in SETS.items() if self.has(name))
        word &= ~sum(bit for name, bit in CLEARS.items() if self.has(name))
        return {STATUS_WORD: 0 if self.other_profile else word, LAST_FAULT: self._last_fault}


def main(argv: Sequence[str] | None = None) -> None:
    serving.run(AbbDrive(serving.arguments("An ABB drive, unit 1", argv)))


if __name__ == "__main__":
    main()
