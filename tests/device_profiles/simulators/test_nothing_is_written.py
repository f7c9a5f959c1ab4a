"""Every byte that the agent says to a simulated device is a question that its manual calls harmless."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from rigs.floor import often, text_bus
from rigs.ports import wait_until
from rigs.watched import PROFILES, Watched, watched
from rigs.wiretap import Wiretap

from device_profiles.simulators.cognex_dmcc import DataMan
from device_profiles.simulators.datamax_dpl import DplPrinter
from device_profiles.simulators.escpos import EscPosPrinter
from device_profiles.simulators.line_scanner import LineScanner
from device_profiles.simulators.sato_sbpl import SatoPrinter
from device_profiles.simulators.serving import Outlet, Simulator, Tcp
from device_profiles.simulators.tsc_tspl import TscPrinter
from device_profiles.simulators.zebra_ssi import SsiScanner
from device_profiles.simulators.zebra_zpl import ZebraPrinter
from edge_agent.profile import ModbusRead, Profile, RequestRead, TopicRead, parse

# Written by hand from the manuals, not from the profiles.
READ_ONLY: dict[str, tuple[Callable[[Outlet], Simulator], frozenset[bytes]]] = {
    "zebra-zpl": (ZebraPrinter, frozenset({b"~HS\r\n", b"~HQES\r\n", b"~HQOD\r\n", b"~HQPH\r\n"})),
    "tsc-tspl": (TscPrinter, frozenset({b"\x1b!?", b"\x1b!S"})),
    "sato-sbpl": (SatoPrinter, frozenset({b"\x05"})),
    "datamax-dpl": (DplPrinter, frozenset({b"\x01A", b"\x01a", b"\x01e"})),
    "escpos": (EscPosPrinter, frozenset({b"\x10\x04" + bytes([n]) for n in (1, 2, 3, 4)})),
    "line-scanner": (LineScanner, frozenset()),
    "zebra-ssi": (SsiScanner, frozenset({bytes.fromhex("04 A3 04 00 FF 55")})),
    "cognex-dmcc": (DataMan, frozenset({b"||>GET DEVICE.TYPE\r\n"})),
}


def profile(name: str) -> Profile:
    return parse((PROFILES / f"{name}.yaml").read_text(encoding="utf-8"), name=name)


def test_every_profile_that_sends_text_is_tapped() -> None:
    names = [file.stem for file in PROFILES.glob("*.yaml")]
    others = [
        name
        for name in names
        if all(isinstance(read, ModbusRead | TopicRead) for read in profile(name).reads.values())
    ]
    assert set(READ_ONLY) == set(names) - set(others)


async def asked(floor: Watched, reads: list[str]) -> None:
    """Each once more."""
    before = floor.seen.copy()
    await wait_until(lambda: all(floor.seen[read] >= before[read] + 2 for read in reads))


@pytest.mark.parametrize("name", READ_ONLY)
async def test_all_that_is_said_to_a_device_are_questions(plug: Outlet, name: str) -> None:
    make, queries = READ_ONLY[name]
    tap = Wiretap(plug)
    device = make(plug)
    await device.start()
    asks = [key for key, read in profile(name).reads.items() if isinstance(read, RequestRead)]
    async with watched(name, text_bus(plug), overlay=often(*asks, timeout_s=0.2) if asks else None) as floor:
        if asks:
            await asked(floor, asks)
            # Also in trouble, and when it comes back.
            device.set("mute")
            await asked(floor, asks)
            await plug.unplug()
            await plug.replug()
            device.set("mute", False)
            await asked(floor, asks)
    assert tap.beside(queries) == []
    assert all(any(query in line for line in tap.lines) for query in queries)
    await device.stop()


async def test_a_byte_that_is_no_question_would_be_heard(tmp_path: Path) -> None:
    plug = Tcp()
    tap = Wiretap(plug)
    printer = SatoPrinter(plug)
    await printer.start()
    overlay = {"reads": {"status": {"send": "\\x05\\x18", "every_s": 0.02}}}
    async with watched("sato-sbpl", text_bus(plug), overlay=overlay) as floor:
        await floor.settled()
    assert tap.beside({b"\x05"})[0].startswith(b"\x18\x05\x18")
    await printer.stop()
