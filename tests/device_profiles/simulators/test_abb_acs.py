"""The simulated ABB drive through the real Modbus transport, RTU and TCP, and the shipped profile."""

from __future__ import annotations

from rigs.floor import each_fault_raises_its_own, modbus_bus, often
from rigs.watched import watched

from device_profiles.simulators.abb_acs import AbbDrive
from device_profiles.simulators.serving import Outlet, Tcp

READS = ("status", "fault")
RAISES = {
    "over_current": "drive/over-current",
    "dc_over_voltage": "drive/dc-over-voltage",
    "drive_hot": "drive/too-hot",
    "motor_short": "motor/short-circuit",
    "dc_under_voltage": "drive/dc-under-voltage",
    "input_lost": "control/input-lost",
    "motor_hot": "motor/too-hot",
    "panel_lost": "control/panel-lost",
    "id_run": "motor/id-run-failed",
    "motor_stalled": "motor/stalled",
    "external": "control/external-fault",
    "ground_fault": "motor/ground-fault",
    "power_board": "drive/internal-fault",
    "mains_phase_lost": "mains/phase-loss",
    "encoder": "motor/encoder-loss",
    "overspeed": "motor/overspeed",
    "unknown_code": "drive/unclassified",
    "alarm": "drive/alarm",
    "fieldbus_error": "network/fieldbus-error",
    "coast_stop": "drive/coast-stop",
    "emergency_stop": "safety/emergency-stop",
}


async def test_each_fault_of_the_drive_is_one_condition_and_ends_with_it(plug: Outlet) -> None:
    drive = AbbDrive(plug)
    await drive.start()
    async with watched("abb-acs", modbus_bus(plug), overlay=often(*READS)) as floor:
        await each_fault_raises_its_own(drive, floor, RAISES)
    await drive.stop()


async def test_a_drive_without_the_abb_profile_has_no_emergency_stop() -> None:
    drive = AbbDrive(Tcp(), other_profile=True)
    await drive.start()
    async with watched("abb-acs", modbus_bus(drive.outlet), overlay=often(*READS)) as floor:
        assert await floor.settled() == frozenset()
    await drive.stop()
