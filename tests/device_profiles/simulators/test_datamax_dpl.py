"""The simulated DPL printer through the real serial and TCP transports and the shipped profile."""

from __future__ import annotations

import pytest
from rigs.floor import each_fault_raises_its_own, often, text_bus
from rigs.ports import wait_until
from rigs.watched import watched

from device_profiles.simulators.datamax_dpl import DplPrinter
from device_profiles.simulators.serving import Outlet, Tcp

READS = ("status", "extended", "batch")
RAISES = {
    "paper_out": "media/paper-out",
    "ribbon_out": "ribbon/ribbon-out",
    "paused": "printer/paused",
    "label_presented": "printer/label-not-taken",
    "rewinder_fault": "rewinder/fault",
    "cutter_fault": "cutter/fault",
    "flag_j": "printer/unclassified",
}
HARMLESS = {"interpreter_busy", "printing_batch", "printing", "just_reset"}


@pytest.mark.parametrize("longer", [False, True])
async def test_each_fault_of_the_printer_is_one_condition_and_ends_with_it(
    plug: Outlet, longer: bool
) -> None:
    printer = DplPrinter(plug, longer=longer)
    plug.one_byte_at_a_time = longer
    await printer.start()
    overlay = often(*READS, timeout_s=1)
    async with watched("datamax-dpl", text_bus(plug), overlay=overlay) as floor:
        await each_fault_raises_its_own(printer, floor, RAISES, HARMLESS)
    await printer.stop()


async def test_a_letter_that_the_printer_says_by_itself_shifts_no_flag(plug: Outlet) -> None:
    printer = DplPrinter(plug)
    await printer.start()
    at_once = {"conditions": {"rewinder/fault": {"on_delay_s": 0}}}
    overlay = often(*READS, timeout_s=0.3) | at_once
    async with watched("datamax-dpl", text_bus(plug), overlay=overlay) as floor:
        assert await floor.settled() == frozenset()
        # NNNNNNYN with a letter before it would read like a full rewinder.
        printer.set("label_presented")
        for _ in range(6):
            printer.set("just_reset")
            printer.job_done()
            before = floor.seen["status"]
            await wait_until(lambda: floor.seen["status"] >= before + 2)  # noqa: B023
            assert "rewinder/fault" not in floor.active()
        assert await floor.settled() == {"printer/label-not-taken"}
    await printer.stop()


async def test_a_printer_that_does_not_know_the_longer_question_is_judged_by_the_shorter() -> None:
    printer = DplPrinter(Tcp(), has_extended=False)
    await printer.start()
    overlay = often(*READS, timeout_s=0.3)
    async with watched("datamax-dpl", text_bus(printer.outlet), overlay=overlay) as floor:
        printer.set("paper_out")
        assert await floor.settled() == {"media/paper-out"}
        assert "cutter/fault" in floor.trial.detector.unsettled(), "unknown is not clear"
        printer.set("mute")
        assert await floor.settled() == {"media/paper-out", "printer/not-answering"}
        printer.set("mute", False)
        assert await floor.settled() == {"media/paper-out"}
    await printer.stop()
