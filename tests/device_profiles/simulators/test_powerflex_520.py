"""Simulated drives on one line through the real Modbus RTU transport and the shipped profile."""

from __future__ import annotations

from pathlib import Path

import pytest
from rigs.watched import watched

from device_profiles.simulators.powerflex_520 import FAULT_CODES, PowerFlexLine
from device_profiles.simulators.serving import Outlet, Pty, Tcp

OFTEN = {"reads": {"status": {"every_s": 0.02, "timeout_s": 5}}}
RAISES = {
    "auxiliary_input": "drive/auxiliary-input",
    "power_loss": "drive/power-loss",
    "under_voltage": "drive/under-voltage",
    "over_voltage": "drive/over-voltage",
    "motor_stalled": "motor/stalled",
    "motor_overload": "motor/overload",
    "heatsink_hot": "drive/heatsink-hot",
    "control_hot": "drive/control-hot",
    "over_current": "drive/over-current",
    "ground_fault": "motor/ground-fault",
    "load_loss": "motor/load-loss",
    "output_phase_loss": "motor/output-phase-loss",
    "analog_input_loss": "control/analog-input-loss",
    "restarts_used_up": "drive/restarts-used-up",
    "phase_u_to_ground": "motor/phase-to-ground",
    "phases_uv_short": "motor/phase-short",
    "parameters_defaulted": "drive/parameters-defaulted",
    "safety_open": "safety/safety-open",
    "drive_overload": "drive/overload",
    "power_unit": "drive/power-unit",
    "dsi_network_loss": "drive/communication-loss",
    "encoder_loss": "motor/encoder-loss",
    "autotune_failed": "drive/autotune-failed",
    "function_loss": "drive/function-loss",
    "safety_hardware": "safety/hardware",
    "io_board": "drive/internal-fault",
    "flash_update": "drive/flash-update",
    "unknown_code": "drive/unclassified",
}


def bus_of(outlet: Outlet) -> dict[str, object]:
    if isinstance(outlet, Tcp):
        return {"transport": "modbus", "mode": "rtu_over_tcp", "host": "127.0.0.1", "port": outlet.port}
    assert isinstance(outlet, Pty)
    return {"transport": "modbus", "mode": "rtu", "port": str(outlet.path), "baud": 115_200}


def test_every_fault_of_the_simulator_is_tried() -> None:
    assert RAISES.keys() == FAULT_CODES.keys()


@pytest.mark.parametrize("one_byte_at_a_time", [False, True])
async def test_each_fault_of_a_drive_is_one_condition_and_ends_with_it(
    tmp_path: Path, one_byte_at_a_time: bool
) -> None:
    line = PowerFlexLine(Pty(tmp_path / "drives"))
    line.outlet.one_byte_at_a_time = one_byte_at_a_time
    await line.start()
    async with watched("powerflex-520", bus_of(line.outlet), overlay=OFTEN) as floor:
        for fault, condition in RAISES.items():
            line.set(fault)
            assert await floor.settled() == {condition}, fault
            line.set(fault, False)
            # The drive still shows the code of its last fault.
            assert await floor.settled() == frozenset(), fault
    await line.stop()


async def test_a_fault_of_one_drive_is_not_its_neighbours(tmp_path: Path) -> None:
    line = PowerFlexLine(Pty(tmp_path / "drives"), [5, 6])
    await line.start()
    line.set("6.motor_stalled")
    async with watched("powerflex-520", bus_of(line.outlet), overlay=OFTEN, unit=5) as floor:
        assert await floor.settled() == frozenset()
    async with watched("powerflex-520", bus_of(line.outlet), overlay=OFTEN, unit=6) as floor:
        assert await floor.settled() == {"motor/stalled"}
    await line.stop()


async def test_a_drive_behind_a_serial_device_server_is_understood() -> None:
    line = PowerFlexLine(Tcp())
    line.server.rtu = True
    await line.start()
    line.set("motor_overload")
    async with watched("powerflex-520", bus_of(line.outlet), overlay=OFTEN) as floor:
        assert await floor.settled() == {"motor/overload"}
    await line.stop()
