"""The two conditions of docs/edge-agent.md as they stand there, over real lines: each of its devices alone
tells of nothing that is wrong.
"""

from __future__ import annotations

import re
from pathlib import Path

from rigs.warehouse import Json, warehouse

from device_profiles.simulators.line_scanner import LineScanner
from device_profiles.simulators.moxa_iologik import IoLogik
from device_profiles.simulators.powerflex_520 import PowerFlexLine
from device_profiles.simulators.serving import Pty, Tcp

GUIDE = Path(__file__).parents[2] / "docs" / "edge-agent.md"
QUICKLY = "[device.set]\nreads.status.every_s = 0.2\n"


def conditions() -> str:
    """As the guide has them, with shorter times."""
    found = re.findall(r"```toml\n(\[\[condition\]\].*?)```", GUIDE.read_text(), re.S)
    assert len(found) == 2
    return "".join(found).replace("s = 30", "s = 2").replace("on_delay_s = 8", "on_delay_s = 1")


async def test_a_line_that_moves_past_a_silent_scanner_and_an_eye_that_stays_blocked(tmp_path: Path) -> None:
    scanner = LineScanner(Pty(tmp_path / "scanner"), every_s=0.1)
    drives = PowerFlexLine(Pty(tmp_path / "drives"), [5, 12])
    eyes = IoLogik(Tcp())
    for device in (scanner, drives, eyes):
        await device.start()
    assert isinstance(eyes.outlet, Tcp)
    lines = f"""
[[bus]]
name = "scanner"
transport = "serial"
port = "{tmp_path / "scanner"}"
[[bus]]
name = "drives"
transport = "modbus"
mode = "rtu"
port = "{tmp_path / "drives"}"
baud = 115200
[[bus]]
name = "eyes"
transport = "modbus"
host = "127.0.0.1"
port = {eyes.outlet.port}
[[device]]
id = "scanner-sort-1"
bus = "scanner"
profile = "line-scanner"
[[device]]
id = "drive-lift-1"
bus = "drives"
profile = "powerflex-520"
unit = 5
{QUICKLY}
[[device]]
id = "zone-12"
bus = "drives"
profile = "powerflex-520"
unit = 12
{QUICKLY}
[[device]]
id = "eyes-12"
bus = "eyes"
profile = "moxa-iologik"
[device.set]
reads.inputs.every_s = 0.2
{conditions()}
"""
    async with warehouse(tmp_path) as site:
        site.agent(lines)
        # It reads, though not well: so it was heard before it falls silent.
        scanner.set("blind")
        await site.reader.ticket("scanner-sort-1", "no-read-series", condition="active")
        scanner.set("quiet")
        silent = await site.reader.ticket("scanner-sort-1", "silent-while-moving", condition="active")
        told = await site.reader.get(f"/api/v1/tickets/{silent['id']}")
        assert signals(told) == {"drive-lift-1/rotating_forward", "scanner-sort-1/line"}
        # The lift trips and stands: whether the scanner is silent means nothing any more.
        drives.set("motor_overload")
        await site.reader.ticket("drive-lift-1", "overload", condition="active")
        await site.reader.ticket("scanner-sort-1", "silent-while-moving", condition="cleared")
        scanner.set("quiet", False)
        scanner.set("blind", False)
        drives.set("motor_overload", False)

        eyes.set("input_0_off")
        jam = await site.reader.ticket("zone-12", "jam", condition="active")
        told = await site.reader.get(f"/api/v1/tickets/{jam['id']}")
        assert signals(told) == {"eyes-12/input_0", "zone-12/rotating_forward"}
        # Nobody knows any more: it stays, and ends when the eye is heard and clear.
        await eyes.outlet.unplug()
        await site.reader.ticket("eyes-12", "unreachable", condition="active")
        await site.reader.ticket("zone-12", "jam", condition="active")
        eyes.set("input_0_off", False)
        await eyes.outlet.replug()
        await site.reader.ticket("zone-12", "jam", condition="cleared")
    for device in (scanner, drives, eyes):
        await device.stop()


def signals(told: Json) -> set[str]:
    evidence = told["occurrences"][0]["evidence"]
    return {one["signal"] for one in evidence["samples"]}
