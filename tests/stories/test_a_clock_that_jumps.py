"""A gateway boots in 1970, and its wall clock jumps while a printer stands. What is told of it is right."""

from __future__ import annotations

import json
import sqlite3
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest
from rigs.wall_clock import WallClock
from rigs.warehouse import Json, People, serial_printer, warehouse

from device_profiles.simulators.serving import Pty
from device_profiles.simulators.zebra_zpl import ZebraPrinter
from edge_agent.journal import FILE

DAY_S = 86_400
FAULTS = {"paper_out": "paper-out", "head_open": "open"}


@pytest.mark.timeout(300)
async def test_a_fault_over_which_the_wall_clock_jumps_lasts_as_long_as_it_did(tmp_path: Path) -> None:
    printer = ZebraPrinter(Pty(tmp_path / "printer"))
    await printer.start()
    wall = WallClock(tmp_path)
    wall.is_off_by(-round(time.time()) + 60)
    async with warehouse(tmp_path) as site:
        agent = site.agent(serial_printer(tmp_path / "printer"), environment=wall.environment)
        paper_out = await _seen(site.reader, printer, "paper_out")
        wall.is_off_by(40 * DAY_S)
        head_open = await _seen(site.reader, printer, "head_open")
        wall.is_off_by(-3 * DAY_S)
        await _gone(site.reader, printer, "head_open")
        wall.is_off_by(365 * DAY_S)
        await _gone(site.reader, printer, "paper_out")
        for seen in (paper_out, head_open):
            seen.told = await site.reader.get(f"/api/v1/tickets/{seen.ticket}")
        agent.stop()
    await printer.stop()
    for seen, jumped_days in ((paper_out, 365), (head_open, -43)):
        row, told = _row(agent.data_dir / FILE, seen.ticket), seen.told
        first, last = row["first_bad"], row["cleared"]
        # The clock of the agent did jump.
        assert abs(last["wall_ms"] - first["wall_ms"]) > abs(jumped_days) * DAY_S * 900
        lasted_ms = last["mono_ns"] // 1_000_000 - first["mono_ns"] // 1_000_000
        began_ms = _ms(told["occurred_at"])
        assert _ms(told["ended_at"]) - began_ms == lasted_ms
        assert seen.before_ms - told["error_ms"] <= began_ms <= seen.after_ms + told["error_ms"]
        assert told["error_ms"] < 60_000
    assert _row(agent.data_dir / FILE, paper_out.ticket)["first_bad"]["source"] == "none"


@dataclass(slots=True)
class _Seen:
    ticket: str
    # It began between these.
    before_ms: int
    after_ms: int
    told: Json = field(default_factory=dict)


async def _seen(reader: People, printer: ZebraPrinter, what: str) -> _Seen:
    before_ms = time.time_ns() // 1_000_000
    printer.set(what)
    found = await reader.ticket("printer-1", FAULTS[what], condition="active")
    return _Seen(ticket=found["id"], before_ms=before_ms, after_ms=time.time_ns() // 1_000_000)


async def _gone(reader: People, printer: ZebraPrinter, what: str) -> None:
    printer.set(what, False)
    await reader.ticket("printer-1", FAULTS[what], condition="cleared")


def _ms(moment: str) -> int:
    return round(datetime.fromisoformat(moment).timestamp() * 1000)


def _row(journal: Path, uid: str) -> Json:
    connection = sqlite3.connect(journal)
    try:
        (body,) = connection.execute("SELECT body FROM occurrence WHERE uid = ?", (uid,)).fetchone()
    finally:
        connection.close()
    found: Json = json.loads(body)
    return found
