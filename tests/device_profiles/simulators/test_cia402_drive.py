"""A simulated CiA 402 drive through the real Modbus transport, RTU and TCP, and the shipped profile."""

from __future__ import annotations

import pytest
from rigs.floor import each_fault_raises_its_own, modbus_bus, often
from rigs.watched import PROFILES, watched

from device_profiles.simulators.cia402_drive import CiaDrive
from device_profiles.simulators.serving import Outlet, Tcp
from edge_agent.profile import parse

READS = ("status", "error")
RAISES = {
    "over_current": "drive/current",
    "over_voltage": "drive/voltage",
    "too_hot": "drive/temperature",
    "hardware": "drive/hardware",
    "software": "drive/software",
    "blocked": "motor/blocked",
    "encoder": "motor/sensor",
    "communication": "network/communication",
    "monitoring": "drive/monitoring",
    "external": "control/external",
    "any_fault": "drive/unclassified",
    "makers_fault": "drive/unclassified",
    "quick_stop": "drive/quick-stop",
    "warning": "drive/warning",
}


@pytest.mark.parametrize("reacts", [False, True])
async def test_each_fault_of_the_drive_is_one_condition_and_ends_with_it(plug: Outlet, reacts: bool) -> None:
    drive = CiaDrive(plug, reacts=reacts)
    await drive.start()
    async with watched("cia402-drive", modbus_bus(plug), overlay=often(*READS)) as floor:
        await each_fault_raises_its_own(drive, floor, RAISES)
    await drive.stop()


async def test_the_registers_of_another_drive_are_set_for_the_device() -> None:
    drive = CiaDrive(Tcp(), status=100, error=101)
    drive.set("blocked")
    await drive.start()
    signals = parse(profile_text(), name="cia402-drive").signals
    moved = {name: {"register": 101 if signal.read == "error" else 100} for name, signal in signals.items()}
    overlay = {
        "reads": {"status": {"address": 100, "every_s": 0.02}, "error": {"address": 101, "every_s": 0.02}},
        "signals": moved,
    }
    async with watched("cia402-drive", modbus_bus(drive.outlet), overlay=overlay) as floor:
        assert await floor.settled() == {"motor/blocked"}
    await drive.stop()


def profile_text() -> str:
    return (PROFILES / "cia402-drive.yaml").read_text(encoding="utf-8")
