"""Some simulated device that sends lines, through the real transports and the profile for what has none."""

from __future__ import annotations

from rigs.floor import text_bus
from rigs.ports import wait_until
from rigs.watched import Watched, watched

from device_profiles.simulators.generic_line import LineSender
from device_profiles.simulators.serving import Outlet

HERE = {
    "conditions": {
        "device/alarm": {"enabled": True},
        "value/too-high": {"enabled": True, "when": {"above": {"limit": 80}}},
        "value/too-low": {"enabled": True, "when": {"below": {"limit": 20}}},
    }
}
RAISES = {"alarm": "device/alarm", "high": "value/too-high", "low": "value/too-low"}


async def a_line(device: LineSender, floor: Watched) -> frozenset[str]:
    before = floor.seen["lines"]
    device.line()
    await wait_until(lambda: floor.seen["lines"] > before)
    floor.trial.wait(60)
    return floor.active()


async def test_each_fault_is_one_condition_where_the_device_says_what_its_lines_mean(plug: Outlet) -> None:
    device = LineSender(plug)
    assert {*RAISES, "mute"} == set(device.faults)
    await device.start()
    async with watched("generic-line", text_bus(plug), overlay=HERE) as floor:
        await wait_until(lambda: floor.seen["lines"])
        for fault, condition in RAISES.items():
            assert await a_line(device, floor) == frozenset()
            device.set(fault)
            assert await a_line(device, floor) == {condition}
            device.set(fault, False)
        assert await a_line(device, floor) == frozenset()
        device.set("mute")
        floor.trial.wait(901)
        assert floor.active() == {"device/gone-quiet"}
        device.set("mute", False)
        assert await a_line(device, floor) == frozenset()
    await device.stop()


async def test_without_a_word_of_the_device_only_silence_is_a_fault(plug: Outlet) -> None:
    device = LineSender(plug)
    await device.start()
    async with watched("generic-line", text_bus(plug)) as floor:
        await wait_until(lambda: floor.seen["lines"])
        for fault in RAISES:
            device.set(fault)
            assert await a_line(device, floor) == frozenset()
            device.set(fault, False)
    await device.stop()
