"""The simulated TSPL printer through the real serial and TCP transports and the shipped profile."""

from __future__ import annotations

from rigs.floor import each_fault_raises_its_own, often, text_bus
from rigs.watched import watched

from device_profiles.simulators.serving import Outlet, Tcp
from device_profiles.simulators.tsc_tspl import TscPrinter

RAISES = {
    "head_open": "head/open",
    "paper_jam": "media/jam",
    "paper_out": "media/paper-out",
    "ribbon_out": "ribbon/ribbon-out",
    "paused": "printer/paused",
    "cover_open": "cover/open",
    "ambient_temperature": "printer/ambient-temperature",
    "buffer_full": "printer/buffer-full",
    "reserved_warning": "printer/unclassified",
    "head_hot": "head/over-temperature",
    "stepper_hot": "motor/over-temperature",
    "reserved_error": "printer/unclassified",
    "cutter_jam": "cutter/jam",
    "memory_full": "memory/full",
    # In the manual's table, and unconfirmed.
    "ribbon_jam": "printer/unclassified",
    "unknown_message": "printer/unclassified",
    "error_without_cause": "printer/unclassified",
}


async def test_each_fault_of_the_printer_is_one_condition_and_ends_with_it(plug: Outlet) -> None:
    printer = TscPrinter(plug)
    await printer.start()
    async with watched("tsc-tspl", text_bus(plug), overlay=often("status", "details")) as floor:
        await each_fault_raises_its_own(printer, floor, RAISES, harmless={"printing"})
    await printer.stop()


async def test_three_faults_in_one_byte_are_three_conditions(plug: Outlet) -> None:
    plug.one_byte_at_a_time = True
    printer = TscPrinter(plug)
    for fault in ("head_open", "paper_out", "ribbon_out"):
        printer.set(fault)
    await printer.start()
    async with watched("tsc-tspl", text_bus(plug), overlay=often("status", "details")) as floor:
        assert await floor.settled() == {"head/open", "media/paper-out", "ribbon/ribbon-out"}
    await printer.stop()


async def test_a_printer_with_old_firmware_is_judged_by_its_one_byte() -> None:
    printer = TscPrinter(Tcp(), has_details=False)
    await printer.start()
    overlay = often("status", "details", timeout_s=0.3)
    async with watched("tsc-tspl", text_bus(printer.outlet), overlay=overlay) as floor:
        assert await floor.settled() == frozenset()
        assert "cutter/jam" in floor.trial.detector.unsettled(), "unknown is not clear"
        printer.set("paper_out")
        assert await floor.settled() == {"media/paper-out"}
        printer.set("mute")
        assert await floor.settled() == {"media/paper-out", "printer/not-answering"}
        printer.set("mute", False)
        printer.set("paper_out", False)
        assert await floor.settled() == frozenset()
    await printer.stop()
