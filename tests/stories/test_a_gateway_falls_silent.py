"""A gateway that falls silent is a ticket; what is behind it is unknown, and comes back without a storm."""

from pathlib import Path

import pytest
from rigs.warehouse import Json, People, serial_printer, warehouse

from device_profiles.simulators.serving import Pty
from device_profiles.simulators.zebra_zpl import ZebraPrinter


@pytest.mark.timeout(300)
async def test_what_is_behind_a_silent_gateway_is_unknown_until_it_speaks_again(tmp_path: Path) -> None:
    printer = ZebraPrinter(Pty(tmp_path / "printer"))
    await printer.start()
    async with warehouse(tmp_path) as site:
        agent = site.agent(serial_printer(tmp_path / "printer"))
        printer.set("paper_out")
        before = await site.reader.ticket("printer-1", "paper-out", condition="active")
        await site.technician.order(before, "acknowledge")

        agent.kill()
        # A minute without a word.
        silent = await site.reader.ticket("gw-1", "silent", patience_s=120, condition="active")
        assert silent["severity"] == "stop"
        await site.reader.ticket("printer-1", "paper-out", condition="unknown")
        assert (await _device(site.reader))["state"] == "unknown"

        agent.start()
        await site.reader.ticket("gw-1", "silent", condition="cleared")
        after = await site.reader.ticket("printer-1", "paper-out", condition="active")
        assert after["id"] == before["id"], "the same ticket goes on"
        assert after["ack"] == "acked", "nobody is called twice"
        faults = sorted(ticket["fault"] for ticket in await site.reader.tickets())
        assert faults == ["not-running", "paper-out", "silent"]
        assert (await _device(site.reader))["state"] == "stop"
    await printer.stop()


async def _device(reader: People) -> Json:
    (device,) = (await reader.get("/api/v1/devices"))["items"]
    found: Json = device
    return found
