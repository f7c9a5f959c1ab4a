"""The simulated conveyor module through the real Modbus TCP transport and the shipped profile."""

from __future__ import annotations

import pytest
from pymodbus.client import AsyncModbusTcpClient
from rigs.ports import wait_until
from rigs.watched import watched

from device_profiles.simulators.conveylinx import ConveyLinx
from device_profiles.simulators.serving import Tcp
from edge_agent.sample import Trouble

OFTEN = {"reads": {"zpa": {"every_s": 0.02, "timeout_s": 5}}}
# As where a PLC is, without which it never ends.
WITH_PLC = OFTEN | {"conditions": {"module/was-reset": {"enabled": True}}}
# Configured so, or how the module is built: no fault.
NO_FAULT = {"left_motor_unused", "right_motor_unused"}
LEFT = {
    "upstream_jam": "upstream/jam",
    "left_sensor_error": "left-sensor/error",
    "left_motor_hot": "left-motor/hot",
    "left_motor_over_current": "left-motor/over-current",
    "left_motor_short": "left-motor/short-circuit",
    "left_motor_missing": "left-motor/not-connected",
    "left_motor_overload": "left-motor/overload",
    "left_motor_stalled": "left-motor/stalled",
    "left_hall_error": "left-motor/hall-sensor",
}
RAISES = (
    LEFT
    | {
        fault.replace("left", "right").replace("upstream", "downstream"): condition.replace(
            "left", "right"
        ).replace("upstream", "downstream")
        for fault, condition in LEFT.items()
    }
    | {f"{side}_over_voltage": "power/over-voltage" for side in ("left", "right")}
    | {f"{side}_low_voltage": "power/low-voltage" for side in ("left", "right")}
    | {f"{side}_motor_unexplained": f"{side}-motor/unclassified" for side in ("left", "right")}
    | {
        "was_reset": "module/was-reset",
        "ethernet_broken": "module/ethernet",
        "reserved_bit": "module/unclassified",
    }
)


def bus_of(module: ConveyLinx) -> dict[str, object]:
    assert isinstance(module.outlet, Tcp)
    return {"transport": "modbus", "mode": "tcp", "host": "127.0.0.1", "port": module.outlet.port}


def test_every_fault_of_the_simulator_is_tried() -> None:
    assert RAISES.keys() | NO_FAULT | {"mute"} == set(ConveyLinx.faults)


@pytest.mark.parametrize("one_byte_at_a_time", [False, True])
async def test_each_fault_of_the_module_is_one_condition_and_ends_with_it(one_byte_at_a_time: bool) -> None:
    module = ConveyLinx(Tcp())
    module.outlet.one_byte_at_a_time = one_byte_at_a_time
    await module.start()
    async with watched("conveylinx", bus_of(module), overlay=WITH_PLC) as floor:
        for fault, condition in RAISES.items():
            module.set(fault)
            assert await floor.settled() == {condition}, fault
            module.set(fault, False)
            assert await floor.settled() == frozenset(), fault
        for fault in NO_FAULT:
            module.set(fault)
        assert await floor.settled() == frozenset()
    await module.stop()


async def test_a_module_that_falls_silent_is_no_answer_and_raises_nothing_of_its_own() -> None:
    module = ConveyLinx(Tcp())
    await module.start()
    overlay = {"reads": {"zpa": {"every_s": 0.02, "timeout_s": 0.3}}}
    async with watched("conveylinx", bus_of(module), overlay=overlay) as floor:
        module.set("upstream_jam")
        assert await floor.settled() == {"upstream/jam"}
        module.set("upstream_jam", False)
        module.set("mute")
        await wait_until(lambda: floor.newest and floor.newest.trouble is Trouble.NO_ANSWER)
        floor.trial.wait(300)
        assert floor.active() == {"upstream/jam"}, "silence clears nothing"
    await module.stop()


async def test_the_assembly_is_read_whole_and_from_its_first_register() -> None:
    module = ConveyLinx(Tcp())
    await module.start()
    module.box()
    async with watched("conveylinx", bus_of(module), overlay=OFTEN) as floor:
        await floor.settled()
        assert floor.newest is not None
        assert floor.newest.payload == (2, 2, 1, 1, 1, 1, 0, 0, *[0] * 13)
    assert set(module.server.requests) == {(1, 3, 1499, 21)}
    await module.stop()


async def test_the_module_refuses_more_than_45_registers_and_a_start_inside_the_assembly() -> None:
    module = ConveyLinx(Tcp())
    await module.start()
    assert isinstance(module.outlet, Tcp)
    client = AsyncModbusTcpClient("127.0.0.1", port=module.outlet.port, timeout=10, retries=0)
    assert await client.connect()
    assert (await client.read_holding_registers(1499, count=46)).exception_code == 3
    assert (await client.read_holding_registers(1505, count=2)).exception_code == 2
    assert (await client.read_input_registers(1499, count=2)).exception_code == 1
    client.close()
    await module.stop()
