"""Every transport in every mood of its wire: what comes out is true or of bad quality, never wrong, and once
the mood is over all is well again by itself.

A row of the table is a device (a simulator that shares no code with the agent; those of MQTT at a real
broker) with its shipped profile. A fault comes and goes while the mood lasts. In a text without a checksum
nobody can see that a number lost a digit: of those only such are here whose answers have one length.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvloop
from rigs.floor import often
from rigs.mosquitto import Broker as Mosquitto
from rigs.ports import wait_until
from rigs.readings import running
from rigs.watched import Watched, watched
from rigs.wire import (
    LossyLine,
    LossyNetwork,
    Mood,
    NoisyLine,
    OneByteAtATime,
    PtyWire,
    TcpWire,
    UnpluggedInTheMiddle,
    Wire,
)

from device_profiles.simulators.altivar_320_340 import Altivar
from device_profiles.simulators.conveylinx import ConveyLinx
from device_profiles.simulators.ipp_printer import IppPrinter
from device_profiles.simulators.mqtt import Broker
from device_profiles.simulators.mqtt_presence import MqttDevice
from device_profiles.simulators.powerflex_520 import PowerFlexLine
from device_profiles.simulators.sato_sbpl import SatoPrinter
from device_profiles.simulators.serving import Pty, Simulator, Tcp
from device_profiles.simulators.zebra_ssi import SsiScanner
from device_profiles.simulators.zebra_zpl import ZebraPrinter
from edge_agent import bus, decode, schedule, transports
from edge_agent.bus import broker
from edge_agent.profile import RequestRead, SilenceSignal
from edge_agent.sample import Quality, Reading, Trouble
from edge_agent.transports import ipp as transport_ipp
from edge_agent.transports import mqtt as transport_mqtt
from edge_agent.transports import tcp as transport_tcp
from edge_agent.transports.tcp import KEEPALIVE

# More of them: make moods.
SEEDS = range(int(os.environ.get("MOOD_SEEDS", "1")))


class Witness(Watched):
    """Learns what is true while the wire is plain, and from then on finds what is not."""

    def __init__(self, *known: object) -> None:
        super().__init__(*known)  # type: ignore[arg-type]
        self.true: defaultdict[str, set[object]] = defaultdict(set)
        self.learning = True
        self.wrong: list[tuple[str, object]] = []
        # Readings that brought something.
        self.heard = 0

    def in_trouble(self) -> bool:
        reads = self.trial.device.profile.reads
        return any(
            reading.trouble
            for name, reading in self.latest.items()
            if not isinstance(read := reads[name], RequestRead) or read.enabled
        )

    async def deliver(self, reading: Reading) -> None:
        self.heard += bool(reading.payload)
        signals = self.trial.device.profile.signals
        for sample in decode.samples(self.trial.device, reading):
            # That nothing came is true whenever it is said.
            if sample.quality is Quality.BAD or isinstance(signals[sample.signal], SilenceSignal):
                continue
            if self.learning:
                self.true[sample.signal].add(sample.value)
            elif sample.value not in self.true[sample.signal]:
                self.wrong.append((sample.signal, sample.value))
        await super().deliver(reading)


Bus = dict[str, object]


def serial(wire: PtyWire) -> Bus:
    return {"transport": "serial", "port": str(wire.path)}


def tcp(wire: TcpWire) -> Bus:
    return {"transport": "tcp", "host": "127.0.0.1", "port": wire.port}


def rtu(wire: PtyWire) -> Bus:
    return {"transport": "modbus", "mode": "rtu", "port": str(wire.path), "baud": 115_200}


def modbus_tcp(wire: TcpWire) -> Bus:
    return {"transport": "modbus", "mode": "tcp", "host": "127.0.0.1", "port": wire.port}


def rtu_over_tcp(wire: TcpWire) -> Bus:
    return modbus_tcp(wire) | {"mode": "rtu_over_tcp"}


def mqtt(wire: TcpWire) -> Bus:
    return {"transport": "mqtt", "host": "127.0.0.1", "port": wire.port, "keepalive_s": 5}


def ipp(wire: TcpWire) -> Bus:
    return {"transport": "ipp", "uri": f"ipp://127.0.0.1:{wire.port}/ipp/print"}


def altivar_behind_a_device_server(outlet: Tcp) -> Altivar:
    drive = Altivar(outlet)
    drive.server.rtu = True
    return drive


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """``device`` is made for an outlet (mqtt: for a broker), ``bus`` says how the agent finds the near end of
    its wire, ``fault`` raises ``condition``.
    """

    device: Callable[..., Simulator]
    profile: str
    bus: Callable[..., Bus]
    fault: str
    condition: str
    # What a bad wire of that kind does.
    lossy: type[LossyLine | LossyNetwork]
    reads: tuple[str, ...] = ()
    topic: str = ""
    preset: str | None = None


ROWS = {
    "serial": Row(
        device=SsiScanner,
        profile="zebra-ssi",
        bus=serial,
        fault="power_loss",
        condition="scanner/restarted",
        lossy=NoisyLine,
        reads=("revision",),
    ),
    "serial, no checksum": Row(
        device=SatoPrinter,
        profile="sato-sbpl",
        bus=serial,
        fault="head_open",
        condition="head/open",
        lossy=LossyLine,
        reads=("status",),
    ),
    "tcp": Row(
        device=ZebraPrinter,
        profile="zebra-zpl",
        bus=tcp,
        fault="ribbon_out",
        condition="ribbon/ribbon-out",
        lossy=LossyNetwork,
        reads=("status", "errors", "odometer", "head"),
    ),
    "tcp to a device server": Row(
        device=SatoPrinter,
        profile="sato-sbpl",
        bus=tcp,
        fault="head_open",
        condition="head/open",
        lossy=LossyLine,
        reads=("status",),
    ),
    "modbus tcp": Row(
        device=ConveyLinx,
        profile="conveylinx",
        bus=modbus_tcp,
        fault="upstream_jam",
        condition="upstream/jam",
        lossy=LossyNetwork,
        reads=("zpa",),
    ),
    "modbus rtu": Row(
        device=PowerFlexLine,
        profile="powerflex-520",
        bus=rtu,
        fault="motor_stalled",
        condition="motor/stalled",
        lossy=NoisyLine,
        reads=("status",),
    ),
    "rtu over tcp": Row(
        device=altivar_behind_a_device_server,
        profile="altivar-320-340",
        bus=rtu_over_tcp,
        fault="jam",
        condition="conveyor/process-overload",
        lossy=NoisyLine,
        reads=("status", "load", "heat", "state", "fault", "motor_heat"),
    ),
    "ipp": Row(
        device=IppPrinter,
        profile="ipp-printer",
        bus=ipp,
        fault="cover_open",
        condition="cover/open",
        lossy=LossyNetwork,
        reads=("printer",),
    ),
    "mqtt": Row(
        device=lambda broker: MqttDevice(broker, "lamp-1"),
        profile="mqtt-presence",
        bus=mqtt,
        fault="says_offline",
        condition="presence/offline",
        lossy=LossyNetwork,
        topic="lamp-1",
    ),
}
# How often a mood has to happen before it is believed to change nothing; breaking connections takes longest.
MOODS: dict[str, tuple[Callable[[Row, int], Mood], int]] = {
    "plain": (lambda row, seed: Mood(), 20),
    "one byte at a time": (lambda row, seed: OneByteAtATime(), 200),
    "lossy": (lambda row, seed: row.lossy(seed), 6),
    "unplugged in the middle": (lambda row, seed: UnpluggedInTheMiddle(seed), 4),
}


@asynccontextmanager
async def on_its_wire(row: Row, folder: Path) -> AsyncIterator[tuple[Simulator, Wire]]:
    if row.bus is mqtt:
        mosquitto = Mosquitto(folder / "broker").start()
        device = row.device(Broker(port=mosquitto.port))
        await device.start()
        async with TcpWire(mosquitto.port) as wire:
            yield device, wire
        await device.stop()
        mosquitto.stop()
        return
    outlet = Pty(folder / "far") if row.bus in (serial, rtu) else Tcp()
    device = row.device(outlet)
    await device.start()
    async with (
        PtyWire(folder / "near", outlet.path) if isinstance(outlet, Pty) else TcpWire(outlet.port) as wire
    ):
        yield device, wire
    await device.stop()


async def comes_and_goes(row: Row, device: Simulator, floor: Witness) -> None:
    """The fault, each time something was heard; whoever speaks only of changes is heard once of each."""
    on = False
    while True:
        on = not on
        device.set(row.fault, on)
        enough = floor.seen.total() + (2 if row.reads else 1)
        await wait_until(lambda: floor.seen.total() >= enough)  # noqa: B023


@asynccontextmanager
async def known(row: Row, folder: Path) -> AsyncIterator[tuple[Simulator, Wire, Witness]]:
    """A device that is read over a plain wire, and what is true of it."""
    overlay = often(*row.reads, timeout_s=0.15)
    async with (
        on_its_wire(row, folder) as (device, wire),
        watched(
            row.profile, row.bus(wire), preset=row.preset, overlay=overlay, topic=row.topic, kind=Witness
        ) as floor,
    ):
        await wait_until(lambda: floor.seen.total())
        for on in (True, False):
            await becomes(row, device, floor, on=on)
            before = floor.seen.copy()
            # The first of the two may have been on its way already.
            await wait_until(lambda: all(floor.seen[read] >= before[read] + 2 for read in row.reads))  # noqa: B023
        floor.learning = False
        yield device, wire, floor


async def becomes(row: Row, device: Simulator, floor: Witness, *, on: bool) -> None:
    """Exactly what it should. An event is said again and again: nobody may have been there to hear it."""

    async def say() -> None:
        while True:
            device.set(row.fault, on)
            await asyncio.sleep(0.5)

    async with running(say()):
        await floor.becomes({row.condition} if on else set())


async def is_well(row: Row, device: Simulator, floor: Witness) -> None:
    heard = floor.heard
    if row.reads:
        await wait_until(lambda: floor.heard > heard)
    await wait_until(lambda: not floor.in_trouble(), what=f"{floor.latest}")
    for on in (True, False):
        await becomes(row, device, floor, on=on)
    assert not floor.wrong, floor.wrong


async def in_a_mood(row: Row, mood: Mood, enough: int, folder: Path) -> None:
    async with known(row, folder) as (device, wire, floor):
        wire.mood = mood
        async with running(comes_and_goes(row, device, floor)):
            await wait_until(lambda: mood.happened >= enough, what=f"{enough}, have {mood.happened}")
        wire.mood = Mood()
        await is_well(row, device, floor)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a read that was lost three times would rest for a minute, and each new attempt wait longer."""
    monkeypatch.setattr(schedule, "PROBE_MIN_S", 0.5)
    for name in ("REOPEN_FIRST_S", "REOPEN_CAP_S", "STEADY_S"):
        monkeypatch.setattr(bus, name, 0.1)


def test_every_transport_that_has_a_wire_is_in_the_table() -> None:
    """What a trace said is replayed from a file."""
    rows = {
        str(row.bus(TcpWire(1) if row.bus not in (serial, rtu) else PtyWire(Path(), Path()))["transport"])
        for row in ROWS.values()
    }
    assert rows == set(transports.names()) - {"replay"}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("mood", MOODS)
@pytest.mark.parametrize("row", ROWS)
def test_what_comes_out_is_true_or_of_bad_quality_and_all_is_well_once_the_mood_is_over(
    row: str, mood: str, seed: int, tmp_path: Path
) -> None:
    made, enough = MOODS[mood]
    on_the_agents_loop(in_a_mood(ROWS[row], made(ROWS[row], seed), enough, tmp_path))


def on_the_agents_loop(story: Coroutine[None, None, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(story)


# --- a peer that is gone and has not said so ----------------------------------------------------------------

# What only listens has nothing to miss but the link itself.
ON_TCP = {name: row for name, row in ROWS.items() if row.bus not in (serial, rtu)} | {
    "tcp, listening": Row(
        device=SsiScanner,
        profile="zebra-ssi",
        preset="tapped",
        bus=tcp,
        fault="power_loss",
        condition="scanner/restarted",
        lossy=LossyNetwork,
    )
}
# After so long, idle or with bytes on their way, the kernel gives up; 10 s and more are those of every day.
SOON = {socket.TCP_KEEPIDLE: 1, socket.TCP_KEEPINTVL: 1, socket.TCP_KEEPCNT: 1, socket.TCP_USER_TIMEOUT: 1000}


async def half_open(row: Row, folder: Path) -> None:
    async with known(row, folder) as (device, wire, floor):
        assert isinstance(wire, TcpWire)
        wire.go_dark()
        await wait_until(lambda: all(one.trouble is Trouble.NO_LINK for one in floor.latest.values()))
        assert floor.newest is not None
        assert "switched off, or the network is down?" in floor.newest.detail
        wire.go_dark(False)
        await is_well(row, device, floor)


@pytest.mark.parametrize("row", ON_TCP)
def test_a_peer_whose_packets_no_longer_arrive_is_no_link_also_where_nobody_asks(
    row: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        transport_tcp, "KEEPALIVE", [(level, name, SOON.get(name, value)) for level, name, value in KEEPALIVE]
    )
    for module in (transport_tcp, transport_mqtt, transport_ipp):
        monkeypatch.setattr(module, "CONNECT_TIMEOUT_S", 1.0)
    on_the_agents_loop(half_open(ON_TCP[row], tmp_path))


async def hanging(row: Row, folder: Path) -> None:
    async with known(row, folder) as (device, wire, floor):
        assert isinstance(wire, TcpWire)
        wire.get_stuck()
        await wait_until(lambda: all(one.trouble for one in floor.latest.values()))
        first = floor.newest
        assert first is not None
        assert first.trouble is Trouble.NO_ANSWER or "it gave no sign of life: hanging" in first.detail
        wire.get_stuck(False)
        await is_well(row, device, floor)


@pytest.mark.parametrize("row", sorted(ON_TCP.keys() - {"tcp, listening"}))
def test_a_peer_that_hangs_while_its_kernel_still_acknowledges_is_noticed_from_what_it_does_not_answer(
    row: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "CONNACK_TIMEOUT_S", 1.0)
    on_the_agents_loop(hanging(ON_TCP[row], tmp_path))
