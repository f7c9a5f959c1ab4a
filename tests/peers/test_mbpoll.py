"""mbpoll reads every simulated Modbus device, and what it reads is what our transport reads of it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from rigs import mbpoll
from rigs.floor import modbus_bus, often
from rigs.ports import wait_until
from rigs.watched import watched

from device_profiles.simulators.abb_acs import AbbDrive
from device_profiles.simulators.altivar_320_340 import Altivar
from device_profiles.simulators.cia402_drive import CiaDrive
from device_profiles.simulators.conveylinx import ConveyLinx
from device_profiles.simulators.conveylinx_plc_io import ConveyLinxPlcIo
from device_profiles.simulators.generic_modbus import SomeDevice
from device_profiles.simulators.modbus import ModbusServer
from device_profiles.simulators.moxa_iologik import IoLogik
from device_profiles.simulators.powerflex_520 import PowerFlexLine
from device_profiles.simulators.serving import Outlet, Pty, Simulator, Tcp
from device_profiles.simulators.sinamics_g120_v20 import Sinamics
from edge_agent import config, decode
from edge_agent.profile import ModbusRead, parse

DEVICES: dict[str, Callable[[Outlet], Simulator]] = {
    "abb-acs": AbbDrive,
    "altivar-320-340": Altivar,
    "cia402-drive": CiaDrive,
    "conveylinx": ConveyLinx,
    # Its heart stands still, or it would have beaten between the two.
    "conveylinx-plc-io": partial(ConveyLinxPlcIo, clock=lambda: 0.0),
    "generic-modbus": SomeDevice,
    "moxa-iologik": IoLogik,
    "powerflex-520": PowerFlexLine,
    "sinamics-g120-v20": Sinamics,
}


def made(line: str, folder: Path) -> tuple[Outlet, Callable[[], int | Path]]:
    if line == "rtu":
        path = folder / "line"
        return Pty(path), lambda: path
    outlet = Tcp()
    return outlet, lambda: outlet.port


def test_every_modbus_profile_has_its_device_here() -> None:
    shipped = config.ProfileFolders.of(None)
    profiles = {name for name in shipped.names() if "modbus" in shipped.load(name).transports}
    assert profiles == set(DEVICES)


@pytest.mark.parametrize("line", ["tcp", "rtu"])
@pytest.mark.parametrize("profile", DEVICES)
async def test_mbpoll_reads_of_a_device_what_we_read(profile: str, line: str, tmp_path: Path) -> None:
    outlet, place = made(line, tmp_path)
    simulated = DEVICES[profile](outlet)
    await simulated.start()
    simulated.set(simulated.faults[0])
    text = (config.shipped_profiles() / f"{profile}.yaml").read_text(encoding="utf-8")
    reads = {
        name: read
        for name, read in parse(text, name=profile, preset=None, overlay=None).reads.items()
        if isinstance(read, ModbusRead)
    }
    async with watched(profile, modbus_bus(outlet), overlay=often(*reads)) as floor:
        await wait_until(lambda: all(floor.latest[name].payload for name in reads))
        ours = {name: list(floor.latest[name].payload) for name in reads}
    theirs = {
        name: await mbpoll.read(place(), 1, read.function, read.address, read.count)
        for name, read in reads.items()
    }
    assert theirs == ours
    await simulated.stop()


class Holding:
    def __init__(self, raw: bytes) -> None:
        self._registers = struct.unpack(f">{len(raw) // 2}H", raw)

    def read(self, function: int, address: int, count: int) -> list[int] | None:
        return list(self._registers[address : address + count])


@pytest.mark.parametrize(("order", "kind"), [("abcd", "float -B"), ("cdab", "float")])
async def test_a_number_of_two_registers_is_to_mbpoll_what_it_is_to_us(order: str, kind: str) -> None:
    raw = struct.pack(">f", -118.625)
    server = ModbusServer(Tcp(), {1: Holding(raw if order == "abcd" else raw[2:] + raw[:2])})
    await server.start()
    assert isinstance(server.outlet, Tcp)
    assert await mbpoll.read(server.outlet.port, 1, 3, 0, 1, kind=kind) == [-118.625]
    overlay = {
        "reads": {"value": {"count": 2, "every_s": 0.02}},
        "signals": {"value": {"type": "f32", "word_order": order}},
    }
    async with watched("generic-modbus", modbus_bus(server.outlet), overlay=overlay) as floor:
        await wait_until(lambda: floor.latest["value"].payload)
        (sample,) = decode.samples(floor.trial.device, floor.latest["value"])
        assert sample.value == -118.625
    await server.stop()


async def test_what_a_device_refuses_is_refused_to_mbpoll_in_the_words_of_the_standard() -> None:
    outlet = Tcp()
    drive = Altivar(outlet)
    await drive.start()
    assert await mbpoll.read(outlet.port, 1, 3, 1, 1) == "Illegal data address"
    assert await mbpoll.read(outlet.port, 1, 1, 3201, 1) == "Illegal function"
    drive.set("mute")
    assert await mbpoll.read(outlet.port, 1, 3, 3201, 1) == "Connection timed out"
    await drive.stop()
