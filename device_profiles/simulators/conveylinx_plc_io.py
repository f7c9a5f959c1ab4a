"""A ConveyLinx module in PLC I/O mode behind Modbus: ConveyStop, heartbeat, two motors, assembly 4:1700."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from device_profiles.simulators import serving
from device_profiles.simulators.conveylinx import MAX_REGISTERS
from device_profiles.simulators.modbus import (
    HOLDING_REGISTERS,
    ILLEGAL_ADDRESS,
    ILLEGAL_FUNCTION,
    ILLEGAL_VALUE,
    ModbusServer,
    RefusedError,
)
from device_profiles.simulators.serving import Outlet, Simulator

# Register 4:1700 in the guide's counting.
ASSEMBLY = 1699
ASSEMBLY_REGISTERS = 25
STOPS = {
    "stop_other_button": 5,
    "stop_module_lost": 6,
    "stop_plc_lost": 7,
    "stop_left_button": 8,
    "stop_right_button": 9,
    "stop_plc_command": 10,
    # In no table.
    "unknown_stop_bit": 12,
}
MOTOR = {
    "digital": 2,
    "board_hot": 5,
    "over_voltage": 6,
    "low_voltage": 7,
    "hot": 8,
    "over_current": 9,
    "short": 10,
    "missing": 11,
    "overload": 12,
    "stalled": 13,
    "hall_error": 14,
    "unknown_bit": 4,
}
SIDES = ("left", "right")
HEARTBEAT = 1 << 15
# On for so long, then off for so long.
HEARTBEAT_S = 2.0


class ConveyLinxPlcIo(Simulator):
    """``hung``: it answers, and its heartbeat stands still. ``clock``: monotonic seconds."""

    faults = (*STOPS, *(f"{side}_{fault}" for side in SIDES for fault in MOTOR), "hung", "mute")

    def __init__(self, outlet: Outlet, *, unit: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.outlet = outlet
        self.server = ModbusServer(outlet, {unit: self})
        self._clock = clock

    async def start(self) -> None:
        await self.server.start()

    async def stop(self) -> None:
        await self.server.stop()

    def read(self, function: int, address: int, count: int) -> list[int] | None:
        if self.has("mute"):
            return None
        if function != HOLDING_REGISTERS:
            raise RefusedError(ILLEGAL_FUNCTION)
        if count > MAX_REGISTERS:
            raise RefusedError(ILLEGAL_VALUE)
        if address != ASSEMBLY or count > ASSEMBLY_REGISTERS:
            raise RefusedError(ILLEGAL_ADDRESS)
        return self._assembly()[:count]

    def _assembly(self) -> list[int]:
        stops = sum(1 << bit for name, bit in STOPS.items() if self.has(name))
        beats = not self.has("hung") and int(self._clock() / HEARTBEAT_S) % 2
        # 24.1 V, both sensors plugged in; each motor draws 1.2 A at 48 Hz, motor and driver at 35 and 40 C.
        used = [stops, HEARTBEAT if beats else 0, 3, 24_100]
        for side in SIDES:
            status = sum(1 << bit for name, bit in MOTOR.items() if self.has(f"{side}_{name}"))
            used += [1_200, 48, 35 << 8 | 40, status]
        return used + [0] * (ASSEMBLY_REGISTERS - len(used))


def main(argv: Sequence[str] | None = None) -> None:
    serving.run(ConveyLinxPlcIo(serving.arguments("A ConveyLinx module in PLC I/O mode", argv)))


if __name__ == "__main__":
    main()
