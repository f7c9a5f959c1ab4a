"""A ConveyLinx module in ZPA mode behind Modbus TCP: two zones, two motors, the input assembly 4:1500."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from device_profiles.simulators import serving
from device_profiles.simulators.modbus import (
    HOLDING_REGISTERS,
    ILLEGAL_ADDRESS,
    ILLEGAL_FUNCTION,
    ILLEGAL_VALUE,
    ModbusServer,
    RefusedError,
)
from device_profiles.simulators.serving import Outlet, Simulator

# Register 4:1500 in the guide's counting.
ASSEMBLY = 1499
ASSEMBLY_REGISTERS = 21
MAX_REGISTERS = 45
# The guide's table "module status word": bit 3 sums up 7, 8 and 10-14 of its side.
MOTOR_ERROR = 1 << 3
SUMMED_UP = 0x7D80
LEFT_BITS = {
    "was_reset": 0,
    "left_over_voltage": 2,
    "ethernet_broken": 4,
    "upstream_jam": 5,
    "left_sensor_error": 6,
    "left_low_voltage": 7,
    "left_motor_hot": 8,
    "left_motor_over_current": 9,
    "left_motor_short": 10,
    "left_motor_missing": 11,
    "left_motor_overload": 12,
    "left_motor_stalled": 13,
    "left_hall_error": 14,
    "left_motor_unused": 15,
}
RIGHT_BITS = {
    name.replace("left", "right").replace("upstream", "downstream"): bit
    for name, bit in LEFT_BITS.items()
    if name not in ("was_reset", "ethernet_broken")
}
# The sum without any of its bits; a bit that is reserved in word 2.
LEFT_UNNAMED, RIGHT_UNNAMED = {"left_motor_unexplained": 3}, {"right_motor_unexplained": 3, "reserved_bit": 4}
CLEAR_STOPPED, CLEAR_RUNNING, BLOCKED_STOPPED = 1, 2, 5


class ConveyLinx(Simulator):
    """Boxes pass every ``box_every_s``; 0: only when ``box`` is called."""

    faults = (*LEFT_BITS, *RIGHT_BITS, *LEFT_UNNAMED, *RIGHT_UNNAMED, "mute")

    def __init__(self, outlet: Outlet, *, unit: int = 1, box_every_s: float = 0) -> None:
        super().__init__()
        self.outlet = outlet
        self.boxes = 0
        self.box_every_s = box_every_s
        self.server = ModbusServer(outlet, {unit: self})
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.server.start()
        if self.box_every_s > 0:
            self._task = asyncio.create_task(self._conveyor(), name="conveyor")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.server.stop()

    def box(self) -> None:
        """One box comes and goes, unless it is stuck."""
        if not (self.has("upstream_jam") or self.has("downstream_jam")):
            self.boxes = (self.boxes + 1) & 0xFFFF

    def read(self, function: int, address: int, count: int) -> list[int] | None:
        if self.has("mute"):
            return None
        if function != HOLDING_REGISTERS:
            raise RefusedError(ILLEGAL_FUNCTION)
        # The guide gives both limits, not the exceptions; these are the ones that the Modbus text means.
        if count > MAX_REGISTERS:
            raise RefusedError(ILLEGAL_VALUE)
        if address != ASSEMBLY or count > ASSEMBLY_REGISTERS:
            raise RefusedError(ILLEGAL_ADDRESS)
        return self._assembly()[:count]

    def _assembly(self) -> list[int]:
        zones = [
            BLOCKED_STOPPED if self.has(f"{side}_jam") else CLEAR_RUNNING if self.boxes else CLEAR_STOPPED
            for side in ("upstream", "downstream")
        ]
        words = [self._status(LEFT_BITS | LEFT_UNNAMED), self._status(RIGHT_BITS | RIGHT_UNNAMED)]
        used = [*zones, *[self.boxes] * 4, *words]
        return used + [0] * (ASSEMBLY_REGISTERS - len(used))

    def _status(self, bits: dict[str, int]) -> int:
        word = sum(1 << bit for name, bit in bits.items() if self.has(name))
        return word | (MOTOR_ERROR if word & SUMMED_UP else 0)

    async def _conveyor(self) -> None:
        while True:
            await asyncio.sleep(self.box_every_s)
            self.box()


def main(argv: Sequence[str] | None = None) -> None:
    serving.run(ConveyLinx(serving.arguments("A ConveyLinx module", argv), box_every_s=2.0))


if __name__ == "__main__":
    main()
