"""LPrint reads the simulated label printer: what ours calls a fault another maker's driver calls the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from rigs.lprint import LPrint, lprint
from rigs.ports import PATIENCE_S

from device_profiles.simulators.serving import Tcp
from device_profiles.simulators.zebra_zpl import ZebraPrinter

# LPrint 1.1.0, lprint-zpl.c: what each bit of ~HQES is to it. "other" is what IPP has no word for.
REASONS = {
    "paper_out": {"media-empty"},
    "retract_jam": {"media-jam"},
    "paused": {"offline"},
    "ribbon_out": {"marker-supply-empty", "other"},
    "paper_near_end": {"media-low"},
}
# Each of these is "other" with these words.
WORDS = {
    "head_open": "Print head open.",
    "cutter_fault": "Cutter fault.",
    "path_not_clear": "Clear paper path failed.",
    "feed_error": "Paper feed error.",
    "presenter_stopped": "Presenter error.",
    "retract_timeout": "Retraction timeout.",
}


@asynccontextmanager
async def read_by_lprint(printer: ZebraPrinter, outlet: Tcp, folder: Path) -> AsyncIterator[LPrint]:
    """In threads: it asks the printer as soon as it knows it, and ours answers from this loop."""
    await printer.start()
    running = lprint(folder, outlet.port)
    server = await asyncio.to_thread(running.__enter__)
    try:
        yield server
    finally:
        await asyncio.to_thread(running.__exit__, None, None, None)
        await printer.stop()


async def becomes(server: LPrint, reasons: set[str]) -> None:
    """Sooner or later; it asks the printer when it is asked itself, at most each second or two."""
    async with asyncio.timeout(PATIENCE_S):
        while await asyncio.to_thread(server.reasons) != reasons:  # noqa: ASYNC110  # asking is what moves it
            await asyncio.sleep(0.2)


def rounds() -> list[set[str]]:
    """Many faults at once in few rounds, no two of them in the same ones."""
    numbered = list(enumerate([*REASONS, *WORDS], start=1))
    bits = numbered[-1][0].bit_length()
    return [{fault for number, fault in numbered if number >> bit & 1} for bit in range(bits)]


async def test_lprint_finds_each_fault_of_the_simulated_printer_and_its_end(tmp_path: Path) -> None:
    outlet = Tcp()
    printer = ZebraPrinter(outlet)
    async with read_by_lprint(printer, outlet, tmp_path) as server:
        await becomes(server, {"none"})
        for faults in rounds():
            for fault in printer.faults:
                printer.set(fault, fault in faults)
            await becomes(server, set().union(*(REASONS.get(fault, {"other"}) for fault in faults)))
            # As it said them when it asked last.
            words = {WORDS[fault] for fault in faults if fault in WORDS}
            assert set(server.complaints()[-len(words) :]) == words
        for fault in printer.faults:
            printer.set(fault, False)
        await becomes(server, {"none"})


async def test_lprint_takes_the_length_of_the_label_from_the_simulated_printer(tmp_path: Path) -> None:
    """~HS, line 1, field dddd: 308 dots. It takes 11 for the gap; 297 dots at 203 dpi are 1.463 inches."""
    outlet = Tcp()
    printer = ZebraPrinter(outlet)
    async with read_by_lprint(printer, outlet, tmp_path) as server:
        await becomes(server, {"none"})
        assert server.label() == "oe_4x1.46299-label_4x1.46299in"
