"""A SINAMICS drive: ZSW1, measurements, fault and alarm numbers (V20 operating instructions, pp. 111-112)."""

from __future__ import annotations

from collections.abc import Sequence

from device_profiles.simulators import serving
from device_profiles.simulators.modbus import Registers

# 40110, 40342, 40400, 40408 and 40409, counted from 0.
ZSW1, FREQUENCY, FAULTS, ALARM, ALARM_NOW = 109, 341, 399, 407, 408
# Ready, enabled, no stop, control requested, under its torque limit, motor cool.
RUNNING = 0x2A37
SETS = {"tripped": 1 << 3, "no_number": 1 << 3, "alarm": 1 << 7}
# 0 is the fault.
CLEARS = {"coast_stop": 1 << 4, "quick_stop": 1 << 5, "torque_limit": 1 << 11, "motor_hot": 1 << 13}
A_FAULT, AN_ALARM = 452, 501


class Sinamics(Registers):
    """``powered`` off: the word is 0, as before the drive has come up. Its last fault stays in r0947."""

    faults = (*SETS, *CLEARS, "mute")

    def __init__(self, outlet: serving.Outlet, *, unit: int = 1, powered: bool = True) -> None:
        super().__init__(outlet, unit=unit)
        self.powered = powered

    def registers(self) -> dict[int, int]:
        word = RUNNING | sum({bit for name, bit in SETS.items() if self.has(name)})
        word &= ~sum(bit for name, bit in CLEARS.items() if self.has(name))
        fault = 0 if self.has("no_number") else A_FAULT
        return {
            ZSW1: word if self.powered else 0,
            ZSW1 + 1: 0x4000,
            **dict(zip(range(FREQUENCY, FREQUENCY + 5), (5000, 398, 560, 321, 250), strict=True)),
            **dict.fromkeys(range(FAULTS, FAULTS + 8), 0),
            FAULTS: fault,
            ALARM: AN_ALARM if self.has("alarm") else 0,
            ALARM_NOW: AN_ALARM if self.has("alarm") else 0,
        }


def main(argv: Sequence[str] | None = None) -> None:
    serving.run(Sinamics(serving.arguments("A SINAMICS drive, unit 1", argv)))


if __name__ == "__main__":
    main()
