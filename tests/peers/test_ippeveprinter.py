"""A printer that CUPS wrote, asked by our transport and judged by the shipped profile."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from rigs.commands import typed
from rigs.floor import often
from rigs.ippeveprinter import SHEETS, IppEvePrinter
from rigs.ports import wait_until
from rigs.watched import watched

from edge_agent import decode, profile_draft
from edge_agent.sample import Trouble


@pytest.fixture
def printer(tmp_path: Path) -> Iterator[IppEvePrinter]:
    made = IppEvePrinter(tmp_path / "printer").start()
    yield made
    made.stop()


async def test_a_printer_of_another_maker_is_read_and_its_empty_tray_told(printer: IppEvePrinter) -> None:
    bus = {"transport": "ipp", "uri": printer.uri}
    async with watched("ipp-printer", bus, overlay=often("printer"), by="ippeveprinter") as floor:
        assert await floor.settled() == frozenset()
        said = {one.signal: one.value for one in decode.samples(floor.trial.device, floor.latest["printer"])}
        assert (said["state"], said["message"], said["accepting"], said["jobs"]) == (3, "Idle.", True, 0)
        assert (said["reasons"], said["unknown_reasons"], said["warnings"]) == ("", "", "")
        # Idle and out of paper: it reports. With a job: it warns, and asks for some.
        await asyncio.to_thread(printer.load, 0)
        assert await floor.settled() == {"printer/report"}
        await asyncio.to_thread(printer.print_job)
        await floor.becomes({"printer/warning"})
        await asyncio.to_thread(printer.load, SHEETS)
        await floor.becomes(set())


async def test_a_printer_that_is_switched_off_is_no_link(printer: IppEvePrinter) -> None:
    bus = {"transport": "ipp", "uri": printer.uri}
    async with watched("ipp-printer", bus, overlay=often("printer"), by="ippeveprinter") as floor:
        await floor.settled()
        await asyncio.to_thread(printer.stop)
        await wait_until(lambda: floor.newest is not None and floor.newest.trouble is Trouble.NO_LINK)


async def test_a_path_where_there_is_no_printer_is_told_as_the_printer_says_it(
    printer: IppEvePrinter,
) -> None:
    bus = {"transport": "ipp", "uri": f"ipp://localhost:{printer.port}/printers/labels"}
    async with watched("ipp-printer", bus, overlay=often("printer"), by="ippeveprinter") as floor:
        await wait_until(lambda: floor.newest is not None and floor.newest.trouble is Trouble.WRONG_ANSWER)
        assert floor.newest is not None
        assert "0x0406" in floor.newest.detail


async def test_a_starting_file_that_was_filled_in_reads_it(printer: IppEvePrinter, tmp_path: Path) -> None:
    text = re.sub(r"  # TODO.*", "", profile_draft.draft("acme", "ipp")).replace("TODO:", "as found:")
    for was, becomes in (
        ("# What is marked TODO", "#"),
        ("some-part-error", "media-empty-report"),
        ("on_delay_s: 10", "on_delay_s: 0.5"),
        ("every_s: 10", "every_s: 0.5"),
    ):
        assert was in text
        text = text.replace(was, becomes)
    file = tmp_path / "acme.yaml"
    file.write_text(text)
    await asyncio.to_thread(printer.load, 0)
    told = await typed("profile", "try", file, "--bus", f"uri={printer.uri}", "--seconds", "2")
    assert re.search(r"^  state +3 +good$", told, re.MULTILINE)
    assert re.search(r"^  trouble +media-empty-report +good$", told, re.MULTILINE)
    assert re.search(r"^  device/faulted +RAISED +stop ", told, re.MULTILINE)
    assert re.search(r"^  jobs/many +not raised ", told, re.MULTILINE)
