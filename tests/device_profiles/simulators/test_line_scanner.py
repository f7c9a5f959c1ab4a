"""The simulated reader through the real serial and TCP transports and the shipped profile."""

from __future__ import annotations

from pathlib import Path

import pytest
from rigs.ports import wait_until
from rigs.watched import Watched, watched

from device_profiles.simulators.line_scanner import LineScanner, ean13
from device_profiles.simulators.serving import Outlet, Pty, Tcp
from edge_agent import decode


def bus_of(outlet: Outlet) -> dict[str, object]:
    if isinstance(outlet, Tcp):
        return {"transport": "tcp", "host": outlet.host, "port": outlet.port}
    assert isinstance(outlet, Pty)
    return {"transport": "serial", "port": str(outlet.path)}


@pytest.fixture(params=["serial", "tcp"])
def outlet(request: pytest.FixtureRequest, tmp_path: Path) -> Outlet:
    return Pty(tmp_path / "scanner") if request.param == "serial" else Tcp()


async def parcels(scanner: LineScanner, floor: Watched, count: int) -> None:
    """So many parcels pass, and each is heard of."""
    for _ in range(count):
        before = floor.seen["scan"]
        scanner.parcel()
        await wait_until(lambda: floor.seen["scan"] > before)  # noqa: B023


async def connected(floor: Watched) -> None:
    await wait_until(lambda: floor.seen["scan"])


def test_the_codes_of_the_simulated_parcels_have_the_right_check_digit() -> None:
    # The example of the GS1 General Specifications, 7.9.
    assert ean13(629104150021) == "6291041500213"


async def test_a_dirty_window_and_a_blind_reader_are_two_conditions(outlet: Outlet) -> None:
    scanner = LineScanner(outlet, terminator=b"\r" if isinstance(outlet, Pty) else b"\r\n")
    await scanner.start()
    async with watched("line-scanner", bus_of(outlet)) as floor:
        await connected(floor)
        await parcels(scanner, floor, 40)
        assert floor.active() == frozenset()
        scanner.set("dirty_window")
        await parcels(scanner, floor, 24)
        assert floor.active() == {"reader/no-read-share"}
        scanner.set("blind")
        await parcels(scanner, floor, 10)
        assert floor.active() == {"reader/no-read-share", "reader/no-read-series"}
        scanner.set("blind", False)
        scanner.set("dirty_window", False)
        await parcels(scanner, floor, 100)
        floor.trial.wait(20)
        assert floor.active() == frozenset()
    await scanner.stop()


async def test_a_heartbeat_keeps_an_idle_reader_from_being_missed() -> None:
    scanner = LineScanner(Tcp(), heartbeat_s=0.01)
    await scanner.start()
    overlay = {"conditions": {"reader/gone-quiet": {"when": {"no_data_s": {"s": 30}}}}}
    async with watched("line-scanner", bus_of(scanner.outlet), overlay=overlay) as floor:
        await connected(floor)
        # Longer than the profile's patience by the floor's clock, with heartbeats between.
        for _ in range(4):
            floor.trial.wait(20)
            before = floor.seen["scan"]
            await wait_until(lambda: floor.seen["scan"] > before)  # noqa: B023
        assert floor.active() == frozenset()
        scanner.set("quiet")
        floor.trial.wait(31)
        assert floor.active() == {"reader/gone-quiet"}
        scanner.set("quiet", False)
        await wait_until(lambda: not floor.active())
    await scanner.stop()


@pytest.mark.parametrize(
    ("preset", "no_read"),
    [("sick-clv", b"NoRead"), ("datalogic", b"NR"), ("datalogic-can", b"\x18"), ("keyence-sr", b"ERROR")],
)
async def test_each_makers_word_for_nothing_read_is_understood(preset: str, no_read: bytes) -> None:
    scanner = LineScanner(Tcp(), no_read=no_read)
    await scanner.start()
    async with watched("line-scanner", bus_of(scanner.outlet), preset=preset) as floor:
        await connected(floor)
        await parcels(scanner, floor, 10)
        assert floor.active() == frozenset()
        scanner.set("blind")
        await parcels(scanner, floor, 10)
        floor.trial.wait(20)
        assert floor.active() == {"reader/no-read-series"}
    await scanner.stop()


async def test_nothing_of_a_scanned_code_is_in_the_evidence() -> None:
    scanner = LineScanner(Tcp(), heartbeat_s=0)
    await scanner.start()
    shown: set[str] = set()
    async with watched("line-scanner", bus_of(scanner.outlet)) as floor:
        await connected(floor)
        for fault in (False, True):
            scanner.set("blind", fault)
            await parcels(scanner, floor, 1)
            assert floor.newest is not None
            shown |= set(decode.shown(floor.trial.device, floor.newest))
    assert shown == {"[redacted]", "NoRead"}
    await scanner.stop()
