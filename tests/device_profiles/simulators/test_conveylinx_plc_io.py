"""The simulated module in PLC I/O mode through the real Modbus transport and the shipped profile."""

from __future__ import annotations

from rigs.floor import modbus_bus, often
from rigs.ports import wait_until
from rigs.watched import Watched, watched

from device_profiles.simulators.conveylinx_plc_io import ConveyLinxPlcIo
from device_profiles.simulators.serving import Outlet, Tcp

MOTOR = {
    "hot": "hot",
    "over_current": "over-current",
    "short": "short-circuit",
    "missing": "not-connected",
    "overload": "overload",
    "stalled": "stalled",
    "hall_error": "hall-sensor",
    "unknown_bit": "unclassified",
}
RAISES = (
    {
        f"stop_{fault.replace('-', '_')}": f"conveystop/{fault}"
        for fault in ("other-button", "module-lost", "plc-lost", "left-button", "right-button", "plc-command")
    }
    | {"unknown_stop_bit": "conveystop/unclassified"}
    | {
        f"{side}_{fault}": f"{side}-motor/{name}"
        for side in ("left", "right")
        for fault, name in MOTOR.items()
    }
    | {f"{side}_over_voltage": "power/over-voltage" for side in ("left", "right")}
    | {f"{side}_low_voltage": "power/low-voltage" for side in ("left", "right")}
    | {f"{side}_board_hot": "module/board-hot" for side in ("left", "right")}
)
# How the port is set up: no fault.
NO_FAULT = {"left_digital", "right_digital"}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def beats(floor: Watched, clock: Clock, *, times: int) -> None:
    """So many halves of a heartbeat go by, each read."""
    for _ in range(times):
        clock.now += 2
        before = floor.seen["plc_io"]
        await wait_until(lambda: floor.seen["plc_io"] >= before + 2)  # noqa: B023
        floor.trial.wait(2)


async def test_each_fault_of_the_module_is_one_condition_and_ends_with_it(plug: Outlet) -> None:
    module = ConveyLinxPlcIo(plug)
    assert RAISES.keys() | NO_FAULT | {"hung", "mute"} == set(module.faults)
    await module.start()
    # The clock of the trial goes by minutes, the heartbeat does not.
    overlay = often("plc_io") | {"conditions": {"module/hung": {"enabled": False}}}
    async with watched("conveylinx-plc-io", modbus_bus(plug), overlay=overlay) as floor:
        for fault, condition in RAISES.items():
            module.set(fault)
            assert await floor.settled() == {condition}, fault
            module.set(fault, False)
            assert await floor.settled() == frozenset(), fault
    await module.stop()


async def test_a_port_in_digital_mode_has_no_motor_that_could_fail() -> None:
    plug = Tcp()
    module = ConveyLinxPlcIo(plug)
    for fault in ("left_digital", "left_missing", "left_hall_error"):
        module.set(fault)
    await module.start()
    overlay = often("plc_io") | {"conditions": {"module/hung": {"enabled": False}}}
    async with watched("conveylinx-plc-io", modbus_bus(plug), overlay=overlay) as floor:
        assert await floor.settled() == frozenset()
    await module.stop()


async def test_a_module_whose_heartbeat_stands_still_is_hung_though_it_answers(plug: Outlet) -> None:
    clock = Clock()
    module = ConveyLinxPlcIo(plug, clock=clock)
    await module.start()
    async with watched("conveylinx-plc-io", modbus_bus(plug), overlay=often("plc_io")) as floor:
        await beats(floor, clock, times=12)
        assert floor.active() == frozenset()
        module.set("hung")
        await beats(floor, clock, times=7)
        assert floor.active() == {"module/hung"}
        module.set("hung", False)
        await beats(floor, clock, times=3)
        assert floor.active() == frozenset()
    await module.stop()
