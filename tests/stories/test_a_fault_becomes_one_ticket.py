"""Automatic ticketing: a fault becomes exactly one ticket with evidence, and its end resolves it."""

import asyncio
from pathlib import Path

from rigs.warehouse import serial_printer, warehouse

from device_profiles.simulators.serving import Pty
from device_profiles.simulators.zebra_zpl import ZebraPrinter


async def test_a_printer_without_labels_is_a_ticket_until_somebody_loads_it(tmp_path: Path) -> None:
    printer = ZebraPrinter(Pty(tmp_path / "printer"), password=4711)
    await printer.start()
    async with warehouse(tmp_path) as site:
        site.agent(serial_printer(tmp_path / "printer"))
        printer.set("paper_out")
        ticket = await site.reader.ticket("printer-1", "paper-out", condition="active", ack="unacked")
        assert ticket["severity"] == "stop"
        assert ticket["place"] == "packing/line-1/station-3"

        detail = await site.reader.get(f"/api/v1/tickets/{ticket['id']}")
        (occurrence,) = detail["occurrences"]
        signals = {sample["signal"]: sample["value"] for sample in occurrence["evidence"]["samples"]}
        assert signals["paper_out"] is True
        # What the printer said before that follows by itself.
        while "before" not in occurrence["recorded"]:
            await asyncio.sleep(0.1)
            detail = await site.reader.get(f"/api/v1/tickets/{ticket['id']}")
            (occurrence,) = detail["occurrences"]
        recorded = occurrence["recorded"]["before"]
        (course,) = (one["points"] for one in recorded["signals"] if one["signal"] == "paper_out")
        assert course[-1][1] is True
        assert any(one.get("means", {}).get("paper_out") is True for one in recorded["readings"])
        assert recorded["reads"]["status"].startswith("~HS")
        assert "4711" not in str(detail), "the printer's password stays in the printer"

        acknowledged = await site.technician.order(ticket, "acknowledge")
        assert acknowledged.status_code == 200, acknowledged.text
        await site.reader.ticket("printer-1", "paper-out", condition="active", ack="acked")

        printer.set("paper_out", False)
        resolved = await site.reader.ticket("printer-1", "paper-out", condition="cleared")
        assert resolved["id"] == ticket["id"]
        assert resolved["work"] == "resolved"
        assert len(await site.reader.tickets()) == 1
    await printer.stop()


async def test_a_cable_that_is_pulled_is_unreachable_and_hides_no_fault(tmp_path: Path) -> None:
    printer = ZebraPrinter(Pty(tmp_path / "printer"))
    await printer.start()
    async with warehouse(tmp_path) as site:
        site.agent(serial_printer(tmp_path / "printer"))
        printer.set("head_open")
        before = await site.reader.ticket("printer-1", "open", condition="active")
        await printer.outlet.unplug()
        await site.reader.ticket("printer-1", "unreachable", condition="active")
        still = await site.reader.ticket("printer-1", "open", condition="active")
        assert still["id"] == before["id"], "what cannot be read is not healthy"

        printer.set("head_open", False)
        await printer.outlet.replug()
        await site.reader.ticket("printer-1", "unreachable", condition="cleared")
        await site.reader.ticket("printer-1", "open", condition="cleared")
    await printer.stop()
