"""A PowerFlex 525 drive on Modbus RTU: logic status, fault code, measurements (520-UM001K, appendix C)."""

from __future__ import annotations

from collections.abc import Sequence

from device_profiles.simulators import serving
from device_profiles.simulators.modbus import (
    HOLDING_REGISTERS,
    ILLEGAL_ADDRESS,
    ILLEGAL_FUNCTION,
    ModbusServer,
    RefusedError,
)
from device_profiles.simulators.serving import Outlet, Simulator

FIRST_REGISTER = 0x2100
READY, ACTIVE, FORWARD, ROTATING, FAULTED, AT_REFERENCE = (1 << bit for bit in (0, 1, 2, 3, 7, 8))
FAULT_CODES = {
    "auxiliary_input": 2,
    "power_loss": 3,
    "under_voltage": 4,
    "over_voltage": 5,
    "motor_stalled": 6,
    "motor_overload": 7,
    "heatsink_hot": 8,
    "control_hot": 9,
    "over_current": 12,
    "ground_fault": 13,
    "load_loss": 15,
    "output_phase_loss": 21,
    "analog_input_loss": 29,
    "restarts_used_up": 33,
    "phase_u_to_ground": 38,
    "phases_uv_short": 41,
    "parameters_defaulted": 48,
    "safety_open": 59,
    "drive_overload": 64,
    "power_unit": 70,
    "dsi_network_loss": 71,
    "encoder_loss": 91,
    "autotune_failed": 80,
    "function_loss": 94,
    "safety_hardware": 111,
    "io_board": 122,
    "flash_update": 125,
    # In no table.
    "unknown_code": 199,
}


class PowerFlex(Simulator):
    """A drive with its motor at 50 Hz. One fault at a time is on its display: the newest.

    ``keeps_code``: the code stays in 2101h after the fault is gone, as in the drive's fault history.
    """

    faults = (*FAULT_CODES, "mute")

    def __init__(self, *, keeps_code: bool = True) -> None:
        super().__init__()
        self.keeps_code = keeps_code
        self._code = 0

    def set(self, fault: str, on: bool = True) -> None:
        super().set(fault, on)
        active = [name for name in FAULT_CODES if name in self._on]
        if on and fault in FAULT_CODES:
            self._code = FAULT_CODES[fault]
        elif active:
            self._code = FAULT_CODES[active[0]]
        elif not self.keeps_code:
            self._code = 0

    async def start(self) -> None:
        """A drive has no line of its own: ``PowerFlexLine`` has."""

    async def stop(self) -> None:
        """As ``start``."""

    def read(self, function: int, address: int, count: int) -> list[int] | None:
        if self.has("mute"):
            return None
        if function != HOLDING_REGISTERS:
            raise RefusedError(ILLEGAL_FUNCTION)
        registers = self._registers()
        start = address - FIRST_REGISTER
        if start < 0 or start + count > len(registers):
            raise RefusedError(ILLEGAL_ADDRESS)
        return registers[start : start + count]

    def _registers(self) -> list[int]:
        if self._on & FAULT_CODES.keys():
            return [FAULTED, self._code, 5000, 0, 0, 325, 0]
        running = READY | ACTIVE | FORWARD | ROTATING | AT_REFERENCE
        # 50.00 Hz wanted and put out, 3.21 A, 325 V on the bus, 229.8 V put out.
        return [running, self._code, 5000, 5000, 321, 325, 2298]


class PowerFlexLine(Simulator):
    """Drives that share one line. Faults are named for the first drive, or ``UNIT.fault``."""

    def __init__(self, outlet: Outlet, units: Sequence[int] = (1,)) -> None:
        super().__init__()
        self.outlet = outlet
        self.drives = {unit: PowerFlex() for unit in units}
        self.server = ModbusServer(outlet, self.drives)
        self._first = units[0]
        self.faults = (
            *PowerFlex.faults,
            *(f"{unit}.{fault}" for unit in units[1:] for fault in PowerFlex.faults),
        )

    def set(self, fault: str, on: bool = True) -> None:
        super().set(fault, on)
        unit, dot, name = fault.partition(".")
        self.drives[int(unit) if dot else self._first].set(name if dot else fault, on)

    async def start(self) -> None:
        await self.server.start()

    async def stop(self) -> None:
        await self.server.stop()


def main(argv: Sequence[str] | None = None) -> None:
    serving.run(PowerFlexLine(serving.arguments("A PowerFlex drive, unit 1", argv)))


if __name__ == "__main__":
    main()
