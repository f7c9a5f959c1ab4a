"""The simulated IPP printer through the real transport and the shipped profile."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from pathlib import Path

from rigs.floor import each_fault_raises_its_own, often
from rigs.watched import watched

from device_profiles.simulators.ipp_printer import REASONS, IppPrinter
from device_profiles.simulators.serving import Tcp
from edge_agent import decode

IPPTOOL = shutil.which("ipptool", path="/usr/bin:/usr/local/bin")
RAISES = {
    "media_empty": "media/empty",
    "media_jam": "media/jam",
    "media_low": "media/low",
    "ribbon_out": "ribbon/empty",
    "ribbon_low": "ribbon/low",
    "waste_full": "waste/full",
    "waste_almost_full": "waste/almost-full",
    "cover_open": "cover/open",
    "tray_missing": "tray/missing",
    "output_full": "output/full",
    "output_almost_full": "output/almost-full",
    "paused": "printer/paused",
    "shut_down": "printer/shut-down",
    "not_connected": "printer/not-connected",
    "partly_stopped": "printer/partly-stopped",
    "spool_full": "printer/spool-full",
    "no_interpreter": "printer/no-interpreter",
    "fuser_hot": "fuser/over-temperature",
    "fuser_cold": "fuser/under-temperature",
    "drum_life_over": "drum/life-over",
    "drum_near_end": "drum/near-end",
    "developer_empty": "developer/empty",
    "developer_low": "developer/low",
    "warning": "printer/warning",
    "report": "printer/report",
    "unknown_reason": "printer/unclassified",
    "stopped": "printer/stopped",
    "unknown_state": "printer/unclassified-state",
    "refuses_jobs": "printer/refuses-jobs",
}


def bus_of(plug: Tcp) -> dict[str, object]:
    return {"transport": "ipp", "uri": f"ipp://{plug.host}:{plug.port}/ipp/print"}


async def test_each_reason_of_the_printer_is_one_condition_and_ends_with_it() -> None:
    plug = Tcp()
    printer = IppPrinter(plug)
    await printer.start()
    async with watched("ipp-printer", bus_of(plug), overlay=often("printer")) as floor:
        await each_fault_raises_its_own(printer, floor, RAISES, harmless={"refuse"})
    await printer.stop()


async def test_the_evidence_has_the_reason_as_the_printer_said_it() -> None:
    plug = Tcp()
    printer = IppPrinter(plug)
    printer.set("unknown_reason")
    printer.set("media_jam")
    await printer.start()
    async with watched("ipp-printer", bus_of(plug), overlay=often("printer")) as floor:
        assert await floor.settled() == {"printer/unclassified", "media/jam"}
        newest = floor.latest["printer"]
    said = {one.signal: one.value for one in decode.samples(floor.trial.device, newest)}
    assert said["unknown_reasons"] == "com.acme.gripper-lost"
    assert said["reasons"] == "media-jam-error, com.acme.gripper-lost"
    await printer.stop()


async def test_ipptool_of_cups_understands_the_simulated_printer(tmp_path: Path) -> None:
    """So that a mistake in the encoding is not on both sides."""
    assert IPPTOOL, "ipptool is missing: deploy/test-prerequisites"
    test = tmp_path / "ask.test"
    test.write_text(
        '{ NAME "ask" OPERATION Get-Printer-Attributes GROUP operation-attributes-tag'
        " ATTR charset attributes-charset utf-8 ATTR naturalLanguage attributes-natural-language en"
        " ATTR uri printer-uri $uri STATUS successful-ok"
        " EXPECT printer-state OF-TYPE enum WITH-VALUE 3"
        " EXPECT printer-state-reasons OF-TYPE keyword COUNT 2"
        " EXPECT printer-is-accepting-jobs OF-TYPE boolean"
        " EXPECT printer-up-time OF-TYPE integer }"
    )
    plug = Tcp()
    printer = IppPrinter(plug)
    printer.set("cover_open")
    printer.set("media_low")
    await printer.start()
    asked = await _run(IPPTOOL, "-tv", f"ipp://127.0.0.1:{plug.port}/ipp/print", str(test))
    await printer.stop()
    assert asked.returncode == 0, asked.stdout
    reasons = re.search(r"printer-state-reasons \(1setOf keyword\) = (.*)", asked.stdout)
    assert reasons
    assert set(reasons[1].split(",")) == {REASONS["cover_open"], REASONS["media_low"]}


async def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)
