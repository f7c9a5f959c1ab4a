"""The simulated printer through the real serial and TCP transports and the shipped profile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rigs.floor import often
from rigs.ports import wait_until
from rigs.watched import watched

from device_profiles.simulators.serving import Outlet, Pty, Tcp
from device_profiles.simulators.zebra_zpl import MUTING, ZebraPrinter
from edge_agent import decode
from edge_agent.sample import Trouble, Value

READS = ("status", "errors", "odometer", "head")
OFTEN = often(*READS)
# Where silence is what is waited for, and not that of four reads.
IMPATIENT = {
    "reads": {
        **{read: {"every_s": 0.02, "timeout_s": 0.3} for read in ("status", "errors")},
        **{read: {"enabled": False} for read in ("odometer", "head")},
    }
}
RAISES = {
    "paper_out": "media/paper-out",
    "ribbon_out": "ribbon/ribbon-out",
    "head_open": "head/open",
    "cutter_fault": "cutter/fault",
    "over_temperature": "head/over-temperature",
    "motor_over_temperature": "motor/over-temperature",
    "bad_head_element": "head/bad-element",
    "head_not_detected": "head/not-detected",
    "invalid_firmware_configuration": "printer/invalid-firmware-configuration",
    "thermistor_open": "head/thermistor-open",
    "retract_jam": "presenter/retract-jam",
    "presenter_stopped": "presenter/stopped",
    "feed_error": "media/feed-error",
    "path_not_clear": "media/path-not-clear",
    "paused": "printer/paused",
    "retract_timeout": "presenter/retract-timeout",
    "black_mark_calibration": "media/black-mark-calibration",
    "black_mark_not_found": "media/black-mark-not-found",
    "unknown_error": "printer/unclassified",
    "calibrate_media": "media/calibrate",
    "clean_head": "head/clean",
    "replace_head": "head/replace",
    "paper_near_end": "media/near-end",
    "unknown_warning": "printer/unclassified-warning",
    "buffer_full": "printer/buffer-full",
    "diagnostic_mode": "printer/diagnostic-mode",
    "partial_format": "printer/partial-format",
    "ram_corrupt": "memory/ram-corrupt",
    "under_temperature": "head/under-temperature",
}


def bus_of(outlet: Outlet) -> dict[str, object]:
    if isinstance(outlet, Tcp):
        return {"transport": "tcp", "host": outlet.host, "port": outlet.port}
    assert isinstance(outlet, Pty)
    return {"transport": "serial", "port": str(outlet.path)}


@pytest.fixture(params=["serial", "tcp"])
def outlet(request: pytest.FixtureRequest, tmp_path: Path) -> Outlet:
    return Pty(tmp_path / "printer") if request.param == "serial" else Tcp()


def test_every_fault_of_the_simulator_is_tried() -> None:
    assert RAISES.keys() | {"mute"} == set(ZebraPrinter.faults)


async def test_each_fault_of_the_printer_is_one_condition_and_ends_with_it(
    outlet: Outlet,
) -> None:
    printer = ZebraPrinter(outlet)
    await printer.start()
    async with watched("zebra-zpl", bus_of(outlet), overlay=OFTEN) as floor:
        assert await floor.settled() == frozenset()
        for fault, condition in RAISES.items():
            printer.set(fault)
            assert await floor.settled() == {condition}, fault
            printer.set(fault, False)
            assert await floor.settled() == frozenset(), fault
    await printer.stop()


async def test_a_printer_that_is_connected_and_answers_nothing_is_a_fault_of_its_own(outlet: Outlet) -> None:
    printer = ZebraPrinter(outlet)
    await printer.start()
    async with watched("zebra-zpl", bus_of(outlet), overlay=IMPATIENT) as floor:
        assert await floor.settled() == frozenset()
        printer.set("mute")
        assert await floor.settled() == {"printer/not-answering"}
        printer.set("mute", False)
        assert await floor.settled() == frozenset()
    await printer.stop()


async def test_two_faults_at_once_are_two_conditions(outlet: Outlet) -> None:
    printer = ZebraPrinter(outlet)
    printer.set("head_open")
    printer.set("cutter_fault")
    await printer.start()
    async with watched("zebra-zpl", bus_of(outlet), overlay=OFTEN) as floor:
        assert await floor.settled() == {"head/open", "cutter/fault"}
    await printer.stop()


async def test_a_printer_that_speaks_one_byte_at_a_time_is_understood(outlet: Outlet) -> None:
    outlet.one_byte_at_a_time = True
    printer = ZebraPrinter(outlet)
    printer.set("paper_out")
    await printer.start()
    async with watched("zebra-zpl", bus_of(outlet), overlay=OFTEN) as floor:
        assert await floor.settled() == {"media/paper-out"}
    await printer.stop()


@pytest.mark.parametrize("fault", [MUTING[0], MUTING[-1]])
async def test_a_printer_that_falls_silent_on_host_status_still_says_what_it_lacks(fault: str) -> None:
    printer = ZebraPrinter(Tcp(), mutes=True)
    await printer.start()
    async with watched("zebra-zpl", bus_of(printer.outlet), overlay=IMPATIENT) as floor:
        printer.set(fault)
        assert await floor.settled() == {RAISES[fault]}
        printer.set(fault, False)
        assert await floor.settled() == frozenset()
    await printer.stop()


async def test_an_old_printer_without_errors_query_is_judged_by_host_status(tmp_path: Path) -> None:
    printer = ZebraPrinter(Pty(tmp_path / "printer"), mutes=True, has_hqes=False)
    await printer.start()
    async with watched("zebra-zpl", bus_of(printer.outlet), overlay=IMPATIENT) as floor:
        assert await floor.settled() == frozenset()
        assert "cutter/fault" in floor.trial.detector.unsettled(), "unknown is not clear"
        printer.set("paper_out")
        assert await floor.settled() == {"printer/not-answering"}
        printer.set("paper_out", False)
        assert await floor.settled() == frozenset()
    await printer.stop()


async def test_a_printer_for_direct_thermal_labels_needs_no_ribbon() -> None:
    printer = ZebraPrinter(Tcp(), has_hqes=False, direct=True)
    printer.set("ribbon_out")
    await printer.start()
    async with watched("zebra-zpl", bus_of(printer.outlet), overlay=IMPATIENT) as floor:
        assert await floor.settled() == frozenset()
    await printer.stop()


async def test_a_head_that_has_run_as_far_as_heads_here_last_is_due(outlet: Outlet) -> None:
    printer = ZebraPrinter(outlet)
    await printer.start()
    limit = {"conditions": {"head/life-reached": {"when": {"above": {"limit": 2_000}}}}}
    async with watched("zebra-zpl", bus_of(outlet), overlay=OFTEN | limit) as floor:
        assert await floor.settled() == frozenset()
        printer.head_inches = 2_001
        assert await floor.settled() == {"head/life-reached"}
        printer.head_inches, printer.earlier_heads = 0, (2_001, 7_071)
        assert await floor.settled() == frozenset()
    await printer.stop()


async def test_the_odometer_and_the_life_of_the_head_are_read() -> None:
    printer = ZebraPrinter(Tcp())
    await printer.start()
    heard: dict[str, Value] = {}
    async with watched("zebra-zpl", bus_of(printer.outlet), overlay=OFTEN) as floor:
        for read in ("odometer", "head"):
            await wait_until(lambda: floor.latest[read].payload)  # noqa: B023
            heard |= {one.signal: one.value for one in decode.samples(floor.trial.device, floor.latest[read])}
    assert heard == {
        "odometer": 8560,
        "odometer_unit": '"',
        "odometer_user_1": 8560,
        "odometer_user_2": 8560,
        "since_head_cleaned": 257,
        "head_life": 1489,
    }
    await printer.stop()


async def test_a_printer_that_was_unplugged_is_understood_again(outlet: Outlet) -> None:
    printer = ZebraPrinter(outlet)
    await printer.start()
    async with watched("zebra-zpl", bus_of(outlet), overlay=OFTEN) as floor:
        assert await floor.settled() == frozenset()
        await outlet.unplug()
        await wait_until(lambda: floor.newest and floor.newest.trouble is Trouble.NO_LINK)
        printer.set("paper_out")
        await outlet.replug()
        await wait_until(lambda: floor.newest and floor.newest.trouble is None)
        assert await floor.settled() == {"media/paper-out"}
    await printer.stop()


async def test_no_evidence_shows_the_password_of_the_printer(outlet: Outlet) -> None:
    printer = ZebraPrinter(outlet, password=4711)
    await printer.start()
    async with watched("zebra-zpl", bus_of(outlet), overlay=OFTEN) as floor:
        await wait_until(lambda: floor.latest["status"].payload)
        status = floor.latest["status"]
    assert b"4711,0" in status.payload
    device = floor.trial.device
    assert decode.shown(device, status)[2] == "[redacted],0"
    # The same on a line that garbles its comma, and as a late answer to the other question.
    for frames, read in (((*status.payload[:2], b"4711\xac0"), "status"), ((b"4711,0",), "errors")):
        shown = decode.shown(device, replace(status, read=read, payload=frames))
        assert "4711" not in " ".join(shown)
    await printer.stop()
