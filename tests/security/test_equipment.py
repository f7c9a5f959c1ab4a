"""The agent on the side of the equipment: it asks and never writes, listens on no port, believes no forged
topic."""

from __future__ import annotations

import ast
import asyncio
import os
import re
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from unittest import mock

import pytest
from fuzz import parsers
from pydantic import ValidationError
from rigs.ports import free_port, wait_until
from rigs.readings import Readings, running, stamp
from rigs.warehouse import Agent, serial_printer

from device_profiles.simulators.serving import Pty
from device_profiles.simulators.zebra_zpl import ZebraPrinter
from edge_agent import grammar, profile, transports
from edge_agent.config import ProfileFolders
from edge_agent.device import Device
from edge_agent.poll import asks, blocks
from edge_agent.profile import ProfileError
from edge_agent.sample import Reading
from edge_agent.transports import mqtt

SHIPPED = ProfileFolders.of(None)
PROFILES = {name: SHIPPED.load(name) for name in SHIPPED.names()}
READS = {1, 2, 3, 4}
# MQTT 3.1.1, 2.2.1. PUBLISH (3) is not among them.
CONNECT, PUBACK, SUBSCRIBE, PINGREQ, DISCONNECT = 1, 4, 8, 12, 14
SOURCES = sorted((Path(__file__).parents[2] / "edge_agent").rglob("*.py"))
TCP_LISTEN = "0A"
# What prints, feeds, stores, resets or sets up: ZPL ^ and ~ (but ~H), words of TSPL, STX of DPL, ESC @,
# GS (but GS I and GS r).
ORDERS = re.compile(
    rb"\^|~[^H]|PRINT|FEED|CLS|KILL|RUN|DOWNLOAD|REBOOT|\x1b@|\x1b!R|\x1d[^Ir]|\x10\x14|\A\x02", re.IGNORECASE
)
LONGEST_QUESTION = 32


def device(name: str) -> Device:
    return Device(id="device-1", place="", bus="bus", profile=PROFILES[name], unit=3, topic="t")


@asynccontextmanager
async def heard(port: int) -> AsyncIterator[bytearray]:
    """All that comes to this port; nothing is ever answered."""
    found = bytearray()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(4096):
            found.extend(chunk)
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", port)
    try:
        yield found
    finally:
        server.close()


def transport(name: str, kind: str, port: int, readings: Readings, **keys: object) -> transports.Transport:
    module = transports.load(kind)
    assert module is not None
    settings = module.Settings.model_validate({"name": "bus", "host": "127.0.0.1", "port": port} | keys)
    return module.Transport(settings, [device(name)], readings.deliver, stamp)


@pytest.mark.parametrize("name", [name for name, one in PROFILES.items() if "modbus" in one.transports])
async def test_no_function_code_that_writes_goes_to_a_plc_or_drive(name: str) -> None:
    port, readings = free_port(), Readings()
    async with heard(port) as wire, running(transport(name, "modbus", port, readings).run()):
        await wait_until(lambda: len(wire) >= 12 and len(wire) % 12 == 0, what="a request")
        first = bytes(wire)
    functions = {struct.unpack_from(">HHHBB", first, start)[4] for start in range(0, len(first), 12)}
    assert functions <= READS
    assert {block.function for block in blocks(device(name))} <= READS


@pytest.mark.parametrize("function", [5, 6, 8, 15, 16, 21, 22, 23, 43, 0, 128])
def test_no_profile_can_name_a_function_that_writes(function: int) -> None:
    with pytest.raises(ValidationError):
        grammar.ModbusRead.model_validate({"function": function, "address": 0, "count": 1, "every_s": 1})


@pytest.mark.parametrize("name", [name for name, one in PROFILES.items() if "tcp" in one.transports])
async def test_a_device_of_text_hears_the_questions_of_its_profile_and_nothing_else(name: str) -> None:
    questions = {ask.send for ask in asks(device(name))}
    port, readings = free_port(), Readings()
    async with heard(port) as wire, running(transport(name, "tcp", port, readings).run()):
        await wait_until(lambda: bool(readings), what="a reading")
        if questions:
            await wait_until(lambda: bytes(wire) in questions, what="one question")
    assert bytes(wire) in questions | {b""}


@pytest.mark.parametrize("name", PROFILES)
def test_what_a_shipped_profile_sends_is_a_question(name: str) -> None:
    for ask in asks(device(name)):
        assert not ORDERS.search(ask.send)
        assert len(ask.send) <= LONGEST_QUESTION


def test_an_order_to_print_or_reset_is_no_question() -> None:
    for order in (b"^XA^FDx^FS^XZ", b"~JR\r\n", b"PRINT 1\r\n", b"\x1b!R", b"\x1b@", b"\x1dV0", b"\x02L"):
        assert ORDERS.search(order)


def test_a_broker_hears_subscriptions_and_acknowledgements_and_never_a_publication() -> None:
    said: list[bytes] = []
    packets = b"".join(
        (
            parsers.CONNACK,
            b"\x90\x04\x00\x01\x01\x01",
            parsers.mqtt_publish(b"tele/t/LWT", b"Online"),
            b"\xd0\x00",
        )
    )
    with mock.patch.object(parsers.Wire, "send", lambda _, data: said.append(bytes(data)) or len(data)):
        assert parsers.mqtt_packets(b"\x00" + packets) == 1
    kinds = {one[0] >> 4 for one in said}
    assert {CONNECT, SUBSCRIBE, PUBACK} <= kinds <= {CONNECT, SUBSCRIBE, PUBACK, PINGREQ, DISCONNECT}
    assert not [file for file in SOURCES if re.search(r"\.publish\(|will_set\(", file.read_text())]


FORGED = [
    *("tele/t2/LWT", "tele/t/LWT/", "/tele/t/LWT", "tele/t/lwt", "TELE/t/LWT", "tele//LWT"),
    *("tele/+/LWT", "tele/#", "#", "+", "$SYS/tele/t/LWT", "$share/x/tele/t/LWT", "../tele/t/LWT"),
    *("tele/t/LWT\0", "tele/t\u200b/LWT", "te\u202ele/t/LWT", "", "tele/t/LWT\r", " tele/t/LWT"),
]


@pytest.mark.parametrize("topic", FORGED)
def test_a_forged_topic_is_heard_by_no_device(topic: str) -> None:
    assert parsers.mqtt_message(topic.encode() + b"\nOnline") == []
    assert parsers.mqtt_message(b"tele/t/LWT\nOnline") == ["true"]


async def test_what_a_broker_kept_is_never_a_sign_of_life() -> None:
    readings: list[Reading] = []

    async def deliver(reading: Reading) -> None:
        readings.append(reading)

    one = parsers.subscriber(deliver)
    arrival = mqtt.Arrival(topic="tele/t/LWT", payload=b"Online", qos=1, mid=1, retained=True, again=False)
    await one._take(parsers.Deaf(), arrival)  # type: ignore[arg-type]
    assert [reading.retained for reading in readings] == [True]
    from edge_agent import decode

    samples = decode.samples(parsers.device("mqtt-presence"), readings[0])
    assert {sample.quality.value for sample in samples} == {"uncertain"}


async def test_the_agent_listens_on_no_port(tmp_path: Path) -> None:
    printer = ZebraPrinter(Pty(tmp_path / "printer"))
    await printer.start()
    agent = Agent(tmp_path / "gw-1", "gw-1")
    agent.configure(serial_printer(tmp_path / "printer"))
    agent.start()
    try:
        await wait_until(lambda: "link is up" in agent.said(), what="the agent at work")
        assert agent._process is not None
        assert listening(agent._process.pid) == []
    finally:
        agent.stop()
        await printer.stop()


def listening(pid: int) -> list[str]:
    """Local addresses of this process that anybody could connect or send to."""
    own = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            own.add(str(descriptor.readlink()))
        except FileNotFoundError:
            continue
    found = []
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if f"socket:[{fields[9]}]" in own and (table.startswith("udp") or fields[3] == TCP_LISTEN):
                found.append(f"{table} {fields[1]}")
    return found


def test_the_eye_for_open_ports_sees_one() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)):
        assert len(listening(os.getpid())) >= 1


HOSTILE = [
    "__init__",
    "line.x",
    "../line",
    "os",
    "line\0",
    "",
    "LINE",
    "importlib",
    "line;import os",
    "{0.__class__}",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_profile_names_no_code_but_the_framings_that_are_there(name: str) -> None:
    text = (
        (SHIPPED.folders[-1] / "line-scanner.yaml").read_text().replace("framing: line", f"framing: {name!r}")
    )
    with pytest.raises(ProfileError):
        profile.parse(text.replace("\\x00", "\\0"), name="line-scanner")


FORBIDDEN = {"eval", "exec", "compile", "__import__", "globals", "locals", "getattr_static"}
FORBIDDEN_OF = {
    ("pickle", "loads"),
    ("pickle", "load"),
    ("os", "system"),
    ("yaml", "load"),
    ("yaml", "unsafe_load"),
}


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(SOURCES[0].parent)))
def test_no_text_is_evaluated_and_none_of_a_profile_is_a_format(file: Path) -> None:
    """Ruff's S rules forbid the same; this also sees ``format`` on what does not stand in the code."""
    allowed = {"form.format"}
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name):
            assert node.func.id not in FORBIDDEN, f"line {node.lineno}"
        if isinstance(node.func, ast.Attribute):
            of = ast.unparse(node.func.value)
            assert (of, node.func.attr) not in FORBIDDEN_OF, f"line {node.lineno}"
            if node.func.attr in ("format", "format_map") and f"{of}.{node.func.attr}" not in allowed:
                assert isinstance(node.func.value, ast.Constant), f"line {node.lineno}: {of}.{node.func.attr}"
