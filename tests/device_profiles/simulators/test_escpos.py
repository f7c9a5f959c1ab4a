"""The simulated ESC/POS printer through the real serial and TCP transports and the shipped profile."""

from __future__ import annotations

import pytest
from rigs.floor import each_fault_raises_its_own, often, text_bus
from rigs.watched import watched

from device_profiles.simulators.escpos import EscPosPrinter
from device_profiles.simulators.serving import Outlet, Tcp

READS = ("printer", "offline", "error", "roll")
RAISES = {
    "cover_open": "cover/open",
    "paper_out": "paper/paper-out",
    "paper_near_end": "paper/near-end",
    "recoverable_error": "printer/recoverable-error",
    "cutter_error": "cutter/error",
    "unrecoverable_error": "printer/unrecoverable-error",
    "head_hot": "head/over-temperature",
    "unknown_error": "printer/unclassified",
    "offline": "printer/offline",
    "feed_button": "printer/offline",
}


@pytest.mark.parametrize("noisy", [False, True])
async def test_each_fault_of_the_printer_is_one_condition_and_ends_with_it(plug: Outlet, noisy: bool) -> None:
    """Noisy: what is no status byte comes before each, and is passed over."""
    printer = EscPosPrinter(plug, noisy=noisy)
    await printer.start()
    async with watched("escpos", text_bus(plug), overlay=often(*READS)) as floor:
        await each_fault_raises_its_own(printer, floor, RAISES)
    await printer.stop()


async def test_an_open_cover_says_nothing_about_the_paper() -> None:
    printer = EscPosPrinter(Tcp(), liar=True)
    await printer.start()
    async with watched("escpos", text_bus(printer.outlet), overlay=often(*READS)) as floor:
        printer.set("cover_open")
        assert await floor.settled() == {"cover/open"}
        printer.set("cover_open", False)
        printer.set("paper_out")
        assert await floor.settled() == {"paper/paper-out"}
        printer.set("cover_open")
        assert await floor.settled() == {"cover/open", "paper/paper-out"}, "nor is it loaded by opening"
        printer.set("paper_out", False)
        printer.set("cover_open", False)
        assert await floor.settled() == frozenset()
    await printer.stop()


async def test_a_printer_that_is_connected_and_answers_nothing_is_a_fault_of_its_own(plug: Outlet) -> None:
    printer = EscPosPrinter(plug)
    await printer.start()
    async with watched("escpos", text_bus(plug), overlay=often(*READS, timeout_s=0.2)) as floor:
        printer.set("mute")
        assert await floor.settled() == {"printer/not-answering"}
        printer.set("mute", False)
        assert await floor.settled() == frozenset()
    await printer.stop()
