"""The simulated SATO printer through the real serial and TCP transports and the shipped profile."""

from __future__ import annotations

import asyncio

import pytest
from rigs.floor import each_fault_raises_its_own, often, text_bus
from rigs.ports import wait_until
from rigs.watched import watched

from device_profiles.simulators.sato_sbpl import JOB, SatoPrinter
from device_profiles.simulators.serving import Outlet, Tcp
from edge_agent import decode

RAISES = {
    "head_open": "head/open",
    "paper_out": "media/paper-out",
    "ribbon_out": "ribbon/ribbon-out",
    "media_error": "media/error",
    "sensor_error": "sensor/error",
    "head_error": "head/error",
    "memory_error": "memory/error",
    "cutter_error": "cutter/error",
    "machine_error": "printer/machine-error",
    "buffer_full": "printer/buffer-full",
    "unknown_status": "printer/unclassified",
    "offline": "printer/offline",
    "print_stopped": "printer/print-stopped",
    "buffer_near_full": "printer/buffer-near-full",
    "ribbon_near_end": "ribbon/near-end",
}
ENQ = b"\x05"


@pytest.mark.parametrize(("status", "size_first"), [(3, False), (3, True), (4, True)])
async def test_each_fault_of_the_printer_is_one_condition_and_ends_with_it(
    plug: Outlet, status: int, size_first: bool
) -> None:
    printer = SatoPrinter(plug, status=status, size_first=size_first)
    plug.one_byte_at_a_time = size_first
    await printer.start()
    async with watched("sato-sbpl", text_bus(plug), overlay=often("status")) as floor:
        await each_fault_raises_its_own(printer, floor, RAISES)
    await printer.stop()


async def test_a_printer_that_is_connected_and_answers_nothing_is_a_fault_of_its_own(plug: Outlet) -> None:
    printer = SatoPrinter(plug)
    await printer.start()
    async with watched("sato-sbpl", text_bus(plug), overlay=often("status", timeout_s=0.3)) as floor:
        printer.set("mute")
        assert await floor.settled() == {"printer/not-answering"}
        printer.set("mute", False)
        assert await floor.settled() == frozenset()
    await printer.stop()


async def test_the_agent_never_asks_inside_of_a_label_that_somebody_sends() -> None:
    printer = SatoPrinter(Tcp())
    await printer.start()
    assert isinstance(printer.outlet, Tcp)
    _, sender = await asyncio.open_connection("127.0.0.1", printer.outlet.port)
    async with watched("sato-sbpl", text_bus(printer.outlet), overlay=often("status")) as floor:
        for number in range(20):
            sender.write(b"\x1bA\x1bH0100half a label")
            await sender.drain()
            await floor.settled()
            sender.write(b"\x1bQ1\x1bZ")
            await wait_until(lambda: printer.labels > number)  # noqa: B023
    assert printer.spoiled == 0
    # The simulator would have noticed.
    sender.write(b"\x1bA" + ENQ)
    await wait_until(lambda: printer.spoiled == 1)
    sender.close()
    await printer.stop()


async def test_the_name_of_a_job_is_not_in_the_evidence() -> None:
    printer = SatoPrinter(Tcp(), status=4)
    await printer.start()
    async with watched("sato-sbpl", text_bus(printer.outlet), overlay=often("status")) as floor:
        await floor.settled()
        assert floor.newest is not None
        assert JOB.encode() in floor.newest.payload[0]
        assert decode.shown(floor.trial.device, floor.newest) == ("  A000000[redacted]",)
    await printer.stop()
