"""An Altivar 320 drive: status word, measurements, state and last fault (ACOPOSinverter P76, registers)."""

from __future__ import annotations

from collections.abc import Sequence

from device_profiles.simulators import serving
from device_profiles.simulators.modbus import Registers

ETA, RFR, LCR, OTR, ETI, ULN, THD, HMIS, LFT, THR = 3201, 3202, 3204, 3205, 3206, 3207, 3209, 3240, 7121, 9630
RUNNING, FAULT, WARNING = 0x0027, 0x0028, 0x0080
FAULT_CODES = {
    "motor_overload": 17,
    "jam": 101,
    "belt_broken": 100,
    "motor_stalled": 148,
    "torque_limit": 44,
    "load_varies": 76,
    "motor_short": 23,
    "ground_short": 32,
    "motor_phase_lost": 20,
    "motor_hot": 50,
    "overspeed": 24,
    "encoder_lost": 11,
    "over_current": 9,
    "drive_hot": 16,
    "dc_over_voltage": 18,
    "mains_over_voltage": 19,
    "mains_phase_lost": 21,
    "under_voltage": 22,
    "brake": 35,
    "brake_resistor": 70,
    "external": 8,
    "modbus_lost": 5,
    "input_lost": 71,
    "safety": 107,
    "contactor": 58,
    "configuration": 3,
    "igbt": 67,
    # In no table.
    "unknown_code": 13,
}
# HMIS, where no fault is.
STATES = {"no_mains": 11, "torque_off": 30, "under_voltage_alarm": 17}
HMIS_RUNNING, HMIS_FAULT = 4, 23


class Altivar(Registers):
    """A conveyor's drive at 50 Hz. The code of its last fault stays in LFT."""

    faults = (*FAULT_CODES, *STATES, "warning", "mute")

    def __init__(self, outlet: serving.Outlet, *, unit: int = 1) -> None:
        super().__init__(outlet, unit=unit)
        self._last_fault = 0

    def set(self, fault: str, on: bool = True) -> None:
        super().set(fault, on)
        if on and fault in FAULT_CODES:
            self._last_fault = FAULT_CODES[fault]

    def registers(self) -> dict[int, int]:
        tripped = bool(self._on & FAULT_CODES.keys())
        state = next((number for name, number in STATES.items() if self.has(name)), HMIS_RUNNING)
        return {
            ETA: (FAULT if tripped else RUNNING) | (WARNING if self.has("warning") else 0),
            RFR: 0 if tripped else 500,
            LCR: 0 if tripped else 32,
            OTR: 450,
            ETI: 0,
            ULN: 4000,
            THD: 60,
            HMIS: HMIS_FAULT if tripped else state,
            LFT: self._last_fault,
            THR: 70,
        }


def main(argv: Sequence[str] | None = None) -> None:
    serving.run(Altivar(serving.arguments("An Altivar drive, unit 1", argv)))


if __name__ == "__main__":
    main()
