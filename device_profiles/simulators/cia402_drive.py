"""A drive with the CiA 402 status word and error code, at registers of your choice (SEW 0x8100-02)."""

from __future__ import annotations

from collections.abc import Sequence

from device_profiles.simulators import serving
from device_profiles.simulators.modbus import Registers

RUNNING, FAULT, FAULT_REACTION, QUICK_STOP, WARNING = 0x0627, 0x0608, 0x060F, 0x0607, 0x0080
ERROR_CODES = {
    "over_current": 0x2310,
    "over_voltage": 0x3210,
    "too_hot": 0x4210,
    "hardware": 0x5441,
    "software": 0x6100,
    "blocked": 0x7121,
    "encoder": 0x7301,
    "communication": 0x7510,
    "monitoring": 0x8110,
    "external": 0x9000,
    "any_fault": 0x1000,
    "makers_fault": 0xFF84,
}


class CiaDrive(Registers):
    """``reacts``: it stays in the fault reaction and never gets to the fault. The last code stays."""

    faults = (*ERROR_CODES, "quick_stop", "warning", "mute")

    def __init__(
        self,
        outlet: serving.Outlet,
        *,
        unit: int = 1,
        status: int = 3201,
        error: int = 8606,
        reacts: bool = False,
    ) -> None:
        super().__init__(outlet, unit=unit)
        self.addresses = (status, error)
        self.reacts = reacts
        self._last_code = 0

    def set(self, fault: str, on: bool = True) -> None:
        super().set(fault, on)
        if on and fault in ERROR_CODES:
            self._last_code = ERROR_CODES[fault]

    def registers(self) -> dict[int, int]:
        word = QUICK_STOP if self.has("quick_stop") else RUNNING
        if self._on & ERROR_CODES.keys():
            word = FAULT_REACTION if self.reacts else FAULT
        status, error = self.addresses
        return {status: word | (WARNING if self.has("warning") else 0), error: self._last_code}


def main(argv: Sequence[str] | None = None) -> None:
    serving.run(CiaDrive(serving.arguments("A drive with CiA 402, unit 1", argv)))


if __name__ == "__main__":
    main()
