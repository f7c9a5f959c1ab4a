"""The simulated remote I/O through the real Modbus transport, RTU and TCP, and the shipped profile."""

from __future__ import annotations

from rigs.floor import each_fault_raises_its_own, modbus_bus, often
from rigs.watched import watched

from device_profiles.simulators.moxa_iologik import IoLogik
from device_profiles.simulators.serving import Outlet, Tcp
from edge_agent import decode

READS = ("inputs", "counters")
RAISES = {f"input_{number}_off": f"input-{number}/is-off" for number in range(16)}


async def test_each_input_is_one_condition_where_the_device_enables_it(plug: Outlet) -> None:
    block = IoLogik(plug)
    await block.start()
    enabled = {"conditions": {condition: {"enabled": True} for condition in RAISES.values()}}
    async with watched("moxa-iologik", modbus_bus(plug), overlay=often(*READS) | enabled) as floor:
        await each_fault_raises_its_own(block, floor, RAISES)
    await block.stop()


async def test_an_input_that_nobody_enabled_is_not_watched() -> None:
    block = IoLogik(Tcp())
    for fault in RAISES:
        block.set(fault)
    await block.start()
    one = {"conditions": {"input-3/is-off": {"enabled": True}}}
    async with watched("moxa-iologik", modbus_bus(block.outlet), overlay=often(*READS) | one) as floor:
        assert await floor.settled() == {"input-3/is-off"}
        assert floor.trial.detector.rules.keys() == {"input-3/is-off", "link/unreachable"}
    await block.stop()


async def test_a_counter_has_its_high_word_first() -> None:
    block = IoLogik(Tcp())
    block.counts = [0, 65_537, 0, 0, 0, 0, 0, 4_000_000_000]
    await block.start()
    async with watched("moxa-iologik", modbus_bus(block.outlet), overlay=often(*READS)) as floor:
        await floor.settled()
        heard = {
            one.signal: one.value for one in decode.samples(floor.trial.device, floor.latest["counters"])
        }
    assert list(heard.values()) == block.counts
    await block.stop()
