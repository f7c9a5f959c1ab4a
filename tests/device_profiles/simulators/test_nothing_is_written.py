"""Every byte that the agent says to a simulated device is a question that its manual calls harmless."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from rigs.floor import modbus_bus, often, text_bus
from rigs.mosquitto import Broker as Mosquitto
from rigs.ports import free_port, wait_until
from rigs.watched import PROFILES, Watched, watched
from rigs.wiretap import Wiretap

from device_profiles.simulators.abb_acs import AbbDrive
from device_profiles.simulators.altivar_320_340 import Altivar
from device_profiles.simulators.cia402_drive import CiaDrive
from device_profiles.simulators.cognex_dmcc import DataMan
from device_profiles.simulators.conveylinx import ConveyLinx
from device_profiles.simulators.conveylinx_plc_io import ConveyLinxPlcIo
from device_profiles.simulators.datamax_dpl import DplPrinter
from device_profiles.simulators.escpos import EscPosPrinter
from device_profiles.simulators.generic_line import LineSender
from device_profiles.simulators.generic_modbus import SomeDevice
from device_profiles.simulators.ipp_printer import IppPrinter
from device_profiles.simulators.line_scanner import LineScanner
from device_profiles.simulators.moxa_iologik import IoLogik
from device_profiles.simulators.powerflex_520 import PowerFlexLine
from device_profiles.simulators.sato_sbpl import SatoPrinter
from device_profiles.simulators.serving import Outlet, Session, Simulator, Tcp
from device_profiles.simulators.sinamics_g120_v20 import Sinamics
from device_profiles.simulators.tsc_tspl import TscPrinter
from device_profiles.simulators.zebra_ssi import SsiScanner
from device_profiles.simulators.zebra_zpl import ZebraPrinter
from edge_agent.profile import Profile, Read, RequestRead, TopicRead, parse

HTTP_HEADERS = {
    *(
        b"host",
        b"accept",
        b"accept-encoding",
        b"connection",
        b"user-agent",
        b"content-type",
        b"content-length",
    )
}
# (unit, function, first address, how many) of each request; functions 1 to 4 read.
READ_BLOCKS: dict[str, tuple[Callable[[Outlet], Simulator], frozenset[tuple[int, int, int, int]]]] = {
    "conveylinx": (ConveyLinx, frozenset({(1, 3, 1499, 21)})),
    "conveylinx-plc-io": (ConveyLinxPlcIo, frozenset({(1, 3, 1699, 16)})),
    "powerflex-520": (PowerFlexLine, frozenset({(1, 3, 8448, 7)})),
    # 3201 to 3209 in one request, and apart once the drive has refused what lies between.
    "altivar-320-340": (
        Altivar,
        frozenset(
            (1, 3, address, count)
            for address, count in (
                *((3201, 9), (3201, 2), (3204, 4), (3209, 1)),
                *((3240, 1), (7121, 1), (9630, 1)),
            )
        ),
    ),
    "moxa-iologik": (IoLogik, frozenset({(1, 4, 48, 1), (1, 4, 16, 16)})),
    "generic-modbus": (SomeDevice, frozenset({(1, 3, 0, 2)})),
    "abb-acs": (AbbDrive, frozenset({(1, 3, 3, 1), (1, 3, 400, 1)})),
    "sinamics-g120-v20": (Sinamics, frozenset({(1, 3, 109, 2), (1, 3, 341, 5), (1, 3, 399, 10)})),
    "cia402-drive": (CiaDrive, frozenset({(1, 3, 3201, 1), (1, 3, 8606, 1)})),
}
OVER_MQTT = {"mqtt-presence", "zigbee2mqtt", "homie", "zebra-rfd40", "vda5050", "sparkplug-b"}
# What stands for the device's topic, and a topic and payload on which it hears something.
LAMP = "lamp-1"
NODE, NODE_BORN = "hall/gw-7", ("spBv1.0/hall/NBIRTH/gw-7", b"\x18\x00")
# MQTT 3.1.1, table 2.1: what a client sends that only listens.
CONNECT, PUBACK, SUBSCRIBE, PINGREQ, DISCONNECT = 1, 4, 8, 12, 14
# Written by hand from the manuals, not from the profiles.
READ_ONLY: dict[str, tuple[Callable[[Outlet], Simulator], frozenset[bytes]]] = {
    "zebra-zpl": (ZebraPrinter, frozenset({b"~HS\r\n", b"~HQES\r\n", b"~HQOD\r\n", b"~HQPH\r\n"})),
    "tsc-tspl": (TscPrinter, frozenset({b"\x1b!?", b"\x1b!S"})),
    "sato-sbpl": (SatoPrinter, frozenset({b"\x05"})),
    "datamax-dpl": (DplPrinter, frozenset({b"\x01A", b"\x01a", b"\x01e"})),
    "escpos": (EscPosPrinter, frozenset({b"\x10\x04" + bytes([n]) for n in (1, 2, 3, 4)})),
    "line-scanner": (LineScanner, frozenset()),
    "generic-line": (LineSender, frozenset()),
    "zebra-ssi": (SsiScanner, frozenset({bytes.fromhex("04 A3 04 00 FF 55")})),
    "cognex-dmcc": (DataMan, frozenset({b"||>GET DEVICE.TYPE\r\n"})),
}


# RFC 8010, 3.1: version 1.1, operation 000Bh (Get-Printer-Attributes), request 1, and what is asked for.
IPP_QUESTION = (
    b"\x01\x01\x00\x0b\x00\x00\x00\x01"
    b"\x01\x47\x00\x12attributes-charset\x00\x05utf-8\x48\x00\x1battributes-natural-language\x00\x02en"
    b"\x45\x00\x0bprinter-uri\x00\x1fipp://127.0.0.1:%05d/ipp/print"
    b"\x44\x00\x14requested-attributes\x00\x0dprinter-state\x44\x00\x00\x00\x15printer-state-reasons"
    b"\x44\x00\x00\x00\x15printer-state-message\x44\x00\x00\x00\x19printer-is-accepting-jobs"
    b"\x44\x00\x00\x00\x10queued-job-count\x44\x00\x00\x00\x0fprinter-up-time\x03"
)


def profile(name: str) -> Profile:
    return parse((PROFILES / f"{name}.yaml").read_text(encoding="utf-8"), name=name)


def test_every_profile_is_tapped() -> None:
    names = {file.stem for file in PROFILES.glob("*.yaml")}
    assert READ_ONLY.keys() | READ_BLOCKS.keys() | OVER_MQTT | {"ipp-printer"} == names


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
    async with watched(name, text_bus(plug), overlay=often(*asks, timeout_s=0.05) if asks else None) as floor:
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


@pytest.mark.parametrize("name", READ_BLOCKS)
async def test_all_that_is_said_over_modbus_are_reads_of_its_blocks(plug: Outlet, name: str) -> None:
    make, blocks = READ_BLOCKS[name]
    tap = Wiretap(plug)
    device = make(plug)
    await device.start()
    reads = list(profile(name).reads)
    async with watched(name, modbus_bus(plug), overlay=often(*reads, timeout_s=0.1)) as floor:
        await asked(floor, reads)
        device.set("mute")
        await asked(floor, reads)
        device.set("mute", False)
        await asked(floor, reads)
    await device.stop()
    said = {request for line in tap.lines for request in requests(bytes(line), plug)}
    assert blocks <= said
    # Who is in doubt, or refuses a block, is asked for a part of it.
    assert [request for request in said if not any(lies_in(request, block) for block in blocks)] == []


def lies_in(request: tuple[int, ...], block: tuple[int, ...]) -> bool:
    *unit_and_function, address, count = request
    *same, first, size = block
    return unit_and_function == same and first <= address and address + count <= first + size


def requests(said: bytes, plug: Outlet) -> list[tuple[int, ...]]:
    """All of a line, taken apart; anything but whole reads of function 1 to 4 ends in an error."""
    size, unit_at = (12, 6) if isinstance(plug, Tcp) else (8, 0)
    assert len(said) % size == 0
    return [struct.unpack_from(">BBHH", said, start + unit_at) for start in range(0, len(said), size)]


async def test_all_that_a_printer_is_told_over_ipp_is_one_question() -> None:
    plug = Tcp(next(port for port in iter(free_port, 0) if port >= 10_000))
    tap = Wiretap(plug)
    printer = IppPrinter(plug)
    await printer.start()
    bus = {"transport": "ipp", "uri": f"ipp://127.0.0.1:{plug.port}/ipp/print"}
    async with watched("ipp-printer", bus, overlay=often("printer", timeout_s=0.1)) as floor:
        await asked(floor, ["printer"])
        for trouble in ("mute", "refuse"):
            printer.set(trouble)
            await asked(floor, ["printer"])
            printer.set(trouble, False)
        await asked(floor, ["printer"])
    await printer.stop()
    assert len(tap.lines) > 5
    # The agent may have been stopped in the middle of the last.
    for line in tap.lines[:-1]:
        head, _, body = bytes(line).partition(b"\r\n\r\n")
        first, *headers = head.split(b"\r\n")
        assert first == b"POST /ipp/print HTTP/1.1"
        assert {header.partition(b":")[0].lower() for header in headers} <= HTTP_HEADERS
        assert body == IPP_QUESTION % plug.port


@pytest.mark.parametrize("name", sorted(OVER_MQTT))
async def test_nothing_is_published(mosquitto: Mosquitto, name: str) -> None:
    plug = Tcp()
    tap = Wiretap(plug)
    relay = Relay(mosquitto.port)
    await plug.start(relay.session)
    relay.plug = plug
    bus = {"transport": "mqtt", "host": "127.0.0.1", "port": plug.port}
    async with watched(name, bus, topic=NODE if name == "sparkplug-b" else LAMP) as floor:
        for topic, payload in {said_to(read) for read in profile(name).reads.values()}:
            mosquitto.publish(topic, payload, retain=topic != NODE_BORN[0])

        def heard() -> bool:
            # Births are not retained.
            if name == "sparkplug-b":
                mosquitto.publish(*NODE_BORN)
            return all(floor.latest[read].payload for read in profile(name).reads)

        await wait_until(heard)
    relay.close()
    await plug.stop()
    kinds = {kind for line in tap.lines for kind in packet_kinds(bytes(line))}
    assert {CONNECT, SUBSCRIBE} <= kinds
    assert kinds <= {CONNECT, PUBACK, SUBSCRIBE, PINGREQ, DISCONNECT}


def said_to(read: Read) -> tuple[str, bytes]:
    assert isinstance(read, TopicRead)
    if read.format == "sparkplug":
        return NODE_BORN
    return read.topic.replace("{topic}", LAMP).replace("+", "x"), b"online"


class Relay:
    """Between the agent and a real broker, so that what the agent says can be heard."""

    def __init__(self, port: int) -> None:
        self._broker = socket.create_connection(("127.0.0.1", port))
        self._broker.setblocking(False)
        self.plug: Tcp | None = None
        asyncio.get_running_loop().add_reader(self._broker, self._back)

    def session(self) -> Session:
        def take(chunk: bytes) -> bytes:
            self._broker.sendall(chunk)
            return b""

        return take

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._broker)
        self._broker.close()

    def _back(self) -> None:
        if self.plug is not None and (chunk := self._broker.recv(4096)):
            self.plug.say(chunk)


def packet_kinds(said: bytes) -> list[int]:
    """MQTT 3.1.1, 2.2: the high half of the first byte, then the length in groups of 7 bits."""
    kinds, at = [], 0
    while at < len(said):
        kinds.append(said[at] >> 4)
        length, shift, at = 0, 0, at + 1
        while True:
            length |= (said[at] & 0x7F) << shift
            shift, at = shift + 7, at + 1
            if said[at - 1] < 0x80:
                break
        at += length
    return kinds


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
