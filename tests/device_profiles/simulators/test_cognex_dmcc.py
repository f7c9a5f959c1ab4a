"""The simulated DataMan reader through the real serial and TCP transports and the shipped profile."""

from __future__ import annotations

import pytest
from rigs.floor import each_fault_raises_its_own, often, text_bus
from rigs.ports import wait_until
from rigs.watched import watched

from device_profiles.simulators.cognex_dmcc import DataMan
from device_profiles.simulators.serving import Outlet, Tcp
from edge_agent import decode

RAISES = {
    "offline": "reader/unavailable",
    "rejects": "reader/refuses",
    "error": "reader/refuses",
    "unknown_command": "reader/question-unknown",
    "unknown_status": "reader/unclassified",
}
CODE = "4006381333931"


@pytest.mark.parametrize("header", ["||", "||0:1"])
async def test_each_fault_of_the_reader_is_one_condition_and_ends_with_it(plug: Outlet, header: str) -> None:
    reader = DataMan(plug, header=header)
    await reader.start()
    async with watched("cognex-dmcc", text_bus(plug), overlay=often("device_type")) as floor:
        await each_fault_raises_its_own(reader, floor, RAISES)
    await reader.stop()


async def test_a_reader_that_is_connected_and_answers_nothing_is_a_fault_of_its_own(plug: Outlet) -> None:
    reader = DataMan(plug)
    await reader.start()
    async with watched("cognex-dmcc", text_bus(plug), overlay=often("device_type", timeout_s=0.2)) as floor:
        reader.set("mute")
        assert await floor.settled() == {"reader/not-answering"}
        reader.set("mute", False)
        assert await floor.settled() == frozenset()
    await reader.stop()


@pytest.mark.parametrize("framed", [False, True])
async def test_codes_that_the_reader_sends_by_itself_are_no_fault_and_not_shown(framed: bool) -> None:
    reader = DataMan(Tcp())
    await reader.start()
    shown: set[str] = set()
    async with watched("cognex-dmcc", text_bus(reader.outlet), overlay=often("device_type")) as floor:
        await wait_until(lambda: floor.newest)
        for _ in range(100):
            before = floor.seen["device_type"]
            reader.result(CODE, framed=framed)
            await wait_until(lambda: floor.seen["device_type"] > before)  # noqa: B023
            assert floor.newest is not None
            shown |= set(decode.shown(floor.trial.device, floor.newest))
            floor.trial.wait(1)
        assert await floor.settled() == frozenset()
    assert shown <= {"||[0][redacted]", "||[1][redacted]"}
    await reader.stop()
