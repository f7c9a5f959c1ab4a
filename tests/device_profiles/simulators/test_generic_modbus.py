"""Some simulated Modbus device through the real transport, RTU and TCP, and the profile for what has none."""

from __future__ import annotations

from rigs.floor import each_fault_raises_its_own, modbus_bus
from rigs.watched import watched

from device_profiles.simulators.generic_modbus import SomeDevice
from device_profiles.simulators.serving import Outlet, Tcp

# As an installer would say it of a device with its value in 200 and its word in 300.
HERE = {
    "reads": {
        "value": {"address": 200, "every_s": 0.02, "timeout_s": 5},
        "word": {"address": 300, "every_s": 0.02, "timeout_s": 5},
    },
    "signals": {"value": {"register": 200}, "word": {"register": 300}},
    "conditions": {
        "value/too-high": {"enabled": True, "when": {"above": {"limit": 80, "deadband": 5}}},
        "value/too-low": {"enabled": True, "when": {"below": {"limit": 20, "deadband": 5}}},
        "word/bits": {"enabled": True, "when": {"bits": {"mask": 0x80}}},
    },
}
RAISES = {"high": "value/too-high", "low": "value/too-low", "bit": "word/bits"}


async def test_each_fault_is_one_condition_where_the_device_says_what_its_registers_mean(
    plug: Outlet,
) -> None:
    device = SomeDevice(plug, value=200, word=300)
    await device.start()
    async with watched("generic-modbus", modbus_bus(plug), overlay=HERE) as floor:
        await each_fault_raises_its_own(device, floor, RAISES, harmless={"code"})
    await device.stop()


async def test_a_word_that_is_a_code_is_a_fault_unless_it_is_0() -> None:
    device = SomeDevice(Tcp(), value=200, word=300)
    await device.start()
    code = {"conditions": {"word/code": {"enabled": True}}}
    async with watched("generic-modbus", modbus_bus(device.outlet), overlay=HERE | code) as floor:
        assert await floor.settled() == frozenset()
        device.set("code")
        assert await floor.settled() == {"word/code"}
        device.set("code", False)
        assert await floor.settled() == frozenset()
    await device.stop()
