"""The simulated SINAMICS drive through the real Modbus transport, RTU and TCP, and the shipped profile."""

from __future__ import annotations

from rigs.floor import each_fault_raises_its_own, modbus_bus, often
from rigs.watched import watched

from device_profiles.simulators.serving import Outlet, Tcp
from device_profiles.simulators.sinamics_g120_v20 import A_FAULT, Sinamics
from edge_agent import decode

READS = ("status", "measured", "faults")
RAISES = {
    "tripped": "drive/tripped",
    "no_number": "drive/unclassified",
    "alarm": "drive/alarm",
    "coast_stop": "drive/coast-stop",
    "quick_stop": "drive/quick-stop",
    "torque_limit": "motor/torque-limit",
    "motor_hot": "motor/too-hot",
}


async def test_each_fault_of_the_drive_is_one_condition_and_ends_with_it(plug: Outlet) -> None:
    drive = Sinamics(plug)
    await drive.start()
    async with watched("sinamics-g120-v20", modbus_bus(plug), overlay=often(*READS)) as floor:
        await each_fault_raises_its_own(drive, floor, RAISES)
    await drive.stop()


async def test_the_number_of_a_fault_is_what_the_drive_says() -> None:
    drive = Sinamics(Tcp())
    drive.set("tripped")
    await drive.start()
    async with watched("sinamics-g120-v20", modbus_bus(drive.outlet), overlay=often(*READS)) as floor:
        assert await floor.settled() == {"drive/tripped"}
        heard = {one.signal: one.value for one in decode.samples(floor.trial.device, floor.latest["faults"])}
        assert heard["fault_number"] == A_FAULT
    await drive.stop()


async def test_a_drive_that_has_not_come_up_is_neither_hot_nor_stopped() -> None:
    drive = Sinamics(Tcp(), powered=False)
    await drive.start()
    async with watched("sinamics-g120-v20", modbus_bus(drive.outlet), overlay=often(*READS)) as floor:
        assert await floor.settled() == frozenset()
    await drive.stop()
