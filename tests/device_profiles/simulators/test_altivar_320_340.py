"""The simulated Altivar drive through the real Modbus transport, RTU and TCP, and the shipped profile."""

from __future__ import annotations

from rigs.floor import each_fault_raises_its_own, modbus_bus, often
from rigs.watched import watched

from device_profiles.simulators.altivar_320_340 import Altivar
from device_profiles.simulators.serving import Outlet

READS = ("status", "load", "heat", "state", "fault", "motor_heat")
RAISES = {
    "motor_overload": "motor/overload",
    "jam": "conveyor/process-overload",
    "belt_broken": "conveyor/process-underload",
    "motor_stalled": "motor/stalled",
    "torque_limit": "motor/torque-limit",
    "load_varies": "motor/load-varies",
    "motor_short": "motor/short-circuit",
    "ground_short": "motor/ground-fault",
    "motor_phase_lost": "motor/phase-loss",
    "motor_hot": "motor/too-hot",
    "overspeed": "motor/overspeed",
    "encoder_lost": "motor/feedback-lost",
    "over_current": "drive/over-current",
    "drive_hot": "drive/too-hot",
    "dc_over_voltage": "drive/dc-over-voltage",
    "mains_over_voltage": "mains/over-voltage",
    "mains_phase_lost": "mains/phase-loss",
    "under_voltage": "mains/under-voltage",
    "brake": "brake/fault",
    "brake_resistor": "brake/resistor-overload",
    "external": "control/external-fault",
    "modbus_lost": "network/communication-loss",
    "input_lost": "control/input-lost",
    "safety": "safety/fault",
    "contactor": "contactor/fault",
    "configuration": "drive/configuration",
    "igbt": "drive/internal-fault",
    "unknown_code": "drive/unclassified",
    "no_mains": "mains/absent",
    "torque_off": "safety/torque-off",
    "under_voltage_alarm": "mains/low",
    "warning": "drive/warning",
}


async def test_each_fault_of_the_drive_is_one_condition_and_ends_with_it(plug: Outlet) -> None:
    drive = Altivar(plug)
    await drive.start()
    async with watched("altivar-320-340", modbus_bus(plug), overlay=often(*READS)) as floor:
        await each_fault_raises_its_own(drive, floor, RAISES)
    await drive.stop()


async def test_two_reads_that_share_a_request_are_read_apart_when_the_drive_refuses_what_lies_between(
    plug: Outlet,
) -> None:
    drive = Altivar(plug)
    drive.set("jam")
    await drive.start()
    async with watched("altivar-320-340", modbus_bus(plug), overlay=often(*READS)) as floor:
        assert await floor.settled() == {"conveyor/process-overload"}
        assert floor.latest["load"].payload == (0, 450, 0, 4000)
    # 3203 and 3208 are not in the drive's table.
    assert {(1, 3, 3201, 2), (1, 3, 3204, 4), (1, 3, 3209, 1)} <= set(drive.server.requests)
    await drive.stop()
