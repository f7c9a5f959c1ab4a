"""The maintenance lead: downtime that is exact, and honest about what nobody knows."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from rigs.warehouse import SITE, Json, People, serial_printer, warehouse

from device_profiles.simulators.serving import Pty
from device_profiles.simulators.zebra_zpl import ZebraPrinter


async def test_a_stop_counts_from_its_first_bad_sample_and_the_unwatched_time_is_unknown(
    tmp_path: Path,
) -> None:
    printer = ZebraPrinter(Pty(tmp_path / "printer"))
    await printer.start()
    async with warehouse(tmp_path) as site:
        site.agent(serial_printer(tmp_path / "printer"))
        printer.set("paper_out")
        ticket = await site.reader.ticket("printer-1", "paper-out", condition="active")
        open_now = await _downtime(site.reader)
        assert open_now["open"] is True
        assert open_now["down_ms"] > 0

        printer.set("paper_out", False)
        await site.reader.ticket("printer-1", "paper-out", condition="cleared")
        closed = await _downtime(site.reader)
        (stop,) = [interval for interval in closed["intervals"] if interval["kind"] == "down"]
        assert stop["ticket"] == ticket["id"]
        assert stop["from"] == ticket["occurred_at"]
        lasted = _moment(stop["to"]) - _moment(stop["from"])
        assert closed["down_ms"] == lasted / timedelta(milliseconds=1)
        assert closed["stops"] == 1
        # Before the gateway watched it nobody knows, and that is not counted as running.
        assert closed["unknown_ms"] > 0
        assert closed["observed_ms"] + closed["unknown_ms"] == closed["window_ms"]
    await printer.stop()


async def _downtime(reader: People) -> Json:
    now = datetime.now(UTC)
    report = await reader.get(
        "/api/v1/downtime",
        site=SITE,
        **{"from": (now - timedelta(hours=1)).isoformat(), "to": now.isoformat(), "by": "device"},
    )
    (item,) = [item for item in report["items"] if item["key"] == "printer-1"]
    found: Json = item
    return found


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
