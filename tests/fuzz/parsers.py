"""Every parser that eats bytes from outside, as one table: how it is called and what it may refuse with.

A parser is total: any bytes end as a value or as one of the refusals that it declares, never as anything
else. Values are looked at as well: what comes out must be printable, storable, within its limits.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import socket
import ssl
import struct
import tempfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

from paho.mqtt.client import Client
from pydantic import ValidationError
from pymodbus.framer import FramerRTU
from pymodbus.pdu import DecodePDU
from rigs.readings import stamp
from starlette.requests import Request

from collector import auth, guard, moments, parsing
from collector import config as collector_config
from collector.api import sync, tickets
from collector.pages import around, evidence
from collector.pages.login import safe_path
from collector.problems import Problem
from collector.store import evidence as evidence_store
from collector.store import tickets as ticket_store
from collector.store.evidence import Kept
from edge_agent import (
    config,
    credential,
    decode,
    gather,
    ipp,
    plain_yaml,
    post,
    profile,
    replay,
    trace,
    trace_file,
    wire,
)
from edge_agent.bus import LinkError
from edge_agent.bus.broker import Arrival, Connection, Refusal
from edge_agent.bus.link import DRAIN_BYTES
from edge_agent.device import Device
from edge_agent.gather import View
from edge_agent.poll import Block
from edge_agent.provision import enroll
from edge_agent.sample import Payload, Quality, Reading
from edge_agent.sparkplug import Kind
from edge_agent.transports import modbus, mqtt

ROOT = Path(__file__).parents[2]
PROFILES = ROOT / "device_profiles"
TRACES = sorted((ROOT / "tests" / "traces").glob("*/trace.gz"))
GOLDEN = sorted((ROOT / "tests" / "wire" / "v1").glob("*.json"))
EVIDENCE_FILE = ROOT / "tests" / "wire" / "v1" / "evidence.json"
KIB = 1 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Parser:
    """``parse`` returns or raises one of ``refuses``. ``longest``: bytes, what its limit lets through.

    ``guided``: bytes of the cases that coverage guides; those that are stretched go up to ``longest``.
    ``cost``: a slow one gets so many times fewer cases.
    """

    name: str
    parse: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    refuses: tuple[type[Exception], ...] = ()
    words: tuple[bytes, ...] = ()
    longest: int = 4 * KIB
    guided: int = 4 * KIB
    cost: int = 1


# --- from devices -------------------------------------------------------------------------------------------


def framed(name: str, data: bytes) -> list[bytes]:
    """The same frames however the bytes are cut, none longer than allowed."""
    made = import_module(f"edge_agent.framing.{name}").Framer
    whole, cut = made(), made()
    frames = whole.feed(data)
    third = len(data) // 3
    assert cut.feed(data[:third]) + cut.feed(data[third:]) == frames
    assert all(len(frame) <= 4096 for frame in frames)
    return frames


@cache
def device(name: str) -> Device:
    text = PROFILE_OF_JSON if name == "json" else (PROFILES / f"{name}.yaml").read_text("utf-8")
    return Device(id="device-1", place="", bus="bus", profile=profile.parse(text, name=name), topic="t")


def read(name: str, reads: tuple[str, ...], payload: Payload) -> list[str]:
    """What a reading becomes: samples that are good or say why not, evidence that is printable."""
    said = []
    for one in reads:
        reading = Reading(device="device-1", read=one, at=AT, payload=payload)
        for sample in decode.samples(device(name), reading):
            assert (sample.quality is Quality.GOOD) == (sample.value is not None) == (sample.detail == "")
            said.append(json.dumps(sample.value, allow_nan=False))
            sample.detail.encode()
        for line in decode.shown(device(name), reading):
            assert line.isprintable()
            assert len(line) <= decode.MAX_SHOWN_CHARACTERS
            line.encode()
    return said


def spoken(name: str, data: bytes) -> list[str]:
    """Bytes of a device of text through its framing and its profile: as one answer, and frame by frame."""
    found = device(name).profile
    assert found.framing is not None
    frames = tuple(framed(found.framing, data)[:64])
    reads = tuple(found.reads)
    return [
        *read(name, reads, frames),
        *(said for frame in frames[:8] for said in read(name, reads, (frame,))),
    ]


def registers(data: bytes) -> list[str]:
    numbers = struct.unpack(f">{len(data) // 2}H", data[: len(data) // 2 * 2])
    said = []
    for name in ("powerflex-520", "conveylinx"):
        said += read(name, tuple(device(name).profile.reads), numbers)
    return said


def ipp_answer(data: bytes) -> list[str]:
    """What a printer answers through the codec and the profile."""
    asked = device("ipp-printer").profile.reads["printer"]
    assert isinstance(asked, profile.IppRead)
    found = ipp.answered(data, asked.attributes)
    return read("ipp-printer", ("printer",), (json.dumps(found).encode(),))


EDGE_VIEWS = {("node", "edge"): View(device=None, wanted=frozenset({"Alarm"}))} | {
    ("device", "edge"): View(device="belt", wanted=frozenset({"Alarm", "Value"}))
}


# Each is read by two profiles: more would only take longer.
MESSAGES_AT_MOST = 50


def sparkplug_messages(data: bytes) -> list[str]:
    """A birth, then what comes, each behind a byte for its kind and two for its length: up to the samples."""
    node = gather.Node(EDGE_VIEWS)
    said = list(node.take("spBv1.0/g/DBIRTH/n/belt", SPARKPLUG_BIRTH, retained=False))
    for _ in range(MESSAGES_AT_MOST):
        if len(data) < 4:
            break
        kind = list(Kind)[data[0] % len(Kind)]
        size = int.from_bytes(data[1:3], "big")
        message, data = data[3 : 3 + size], data[3 + size :]
        topic = f"spBv1.0/g/{kind}/n" + ("" if kind.is_of_node else "/belt")
        with suppress(gather.GatherError):
            said += node.take(topic, message, retained=False)
    return [one for _, frame in said for one in read("sparkplug-b", ("edge",), (frame,))]


def gathered_texts(data: bytes) -> list[str]:
    """Lines of a topic's last part and its text, up to the samples."""
    alerts = gather.Map("homie/5/t/$alert/+", [("lamp", "alerts")])
    said: list[str] = []
    for line in data.split(b"\n"):
        key, _, text = line.partition(b"=")
        with suppress(gather.GatherError):
            topic = f"homie/5/t/$alert/{key.decode('utf-8', 'replace').replace('/', '')}"
            for _, frame in alerts.take(topic, text[: alerts.max_bytes], retained=False):
                said += read("homie", ("alerts",), (frame,))
    return said


def json_payload(data: bytes) -> list[str]:
    return read("json", ("message",), (data,))


class Tape:
    """A link on which bytes come in pieces of so many, and then nothing more."""

    def __init__(self, data: bytes, size: int) -> None:
        self._pieces = [data[start : start + size] for start in range(0, len(data), size)][::-1]

    async def read_within(self, seconds: float) -> bytes | None:
        return self._pieces.pop() if self._pieces else None


@cache
def asker(mode: str) -> modbus.Transport:
    async def deliver(_: Reading) -> None: ...

    settings = modbus.Settings.model_validate({"name": "b", "mode": mode, "host": "h"})
    return modbus.Transport(settings, [], deliver, stamp, clock=lambda: 0.0)


ASKED = (
    Block(device="d", unit=5, function=3, address=8, count=4, every_s=1, timeout_s=1, parts=()),
    Block(device="d", unit=5, function=1, address=0, count=10, every_s=1, timeout_s=1, parts=()),
)


def modbus_answer(mode: str, data: bytes) -> modbus.Outcome:
    """What the real transport makes of the bytes after a request of transaction 1 to unit 5."""
    transport = asker(mode)
    transport._frames = frames = modbus.Mbap() if mode == "tcp" else modbus.Rtu()
    frames.request(ASKED[0])
    head, rest = data[:1], data[1:]
    which = head[0] if head else 0
    block = ASKED[which & 1]
    asking = transport._answer(Tape(rest, 1 + which // 2 * 3), block, 1.0)  # type: ignore[arg-type]
    try:
        asking.send(None)
    except StopIteration as done:
        outcome: modbus.Outcome = done.value
    if isinstance(outcome, tuple):
        assert len(outcome) == block.count
    else:
        assert outcome.detail.isprintable()
    return outcome


# --- from a broker ------------------------------------------------------------------------------------------


class Wire:
    """What paho takes for a socket: all that the broker will ever send is there, then it hangs up."""

    def __init__(self, data: bytes, fd: int) -> None:
        self._data, self._at, self._fd = data, 0, fd

    def fileno(self) -> int:
        return self._fd

    def recv(self, size: int) -> bytes:
        found = self._data[self._at : self._at + size]
        self._at += size
        return found

    def send(self, data: bytes) -> int:
        return len(data)

    def setblocking(self, _: bool) -> None: ...

    def close(self) -> None: ...


@cache
def loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


@cache
def quiet_ends() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair()


def subscriber(deliver: Callable[[Reading], Any], protocol: str = "3.1.1") -> mqtt.Transport:
    settings = mqtt.Settings.model_validate({"name": "b", "host": "broker", "protocol": protocol})
    return mqtt.Transport(settings, [device("mqtt-presence"), device("json")], deliver, stamp)


def mqtt_packets(data: bytes) -> int:
    """Bytes of a broker through paho, our connection and the transport, up to the samples."""
    return loop().run_until_complete(_packets(data[1:], "5" if data[:1] > b"\x7f" else "3.1.1"))


async def _packets(data: bytes, protocol: str) -> int:
    heard: list[Reading] = []

    async def deliver(reading: Reading) -> None:
        heard.append(reading)

    transport = subscriber(deliver, protocol)
    sent = Wire(data, quiet_ends()[0].fileno())
    with mock.patch.object(Client, "_create_socket", return_value=sent):
        connection = Connection(mqtt._connect(transport._settings), "broker")
    try:
        connection.subscribe(transport._qos)
        while connection._ended is None:
            connection._readable()
            # A full queue stops the reading.
            await _take(transport, connection)
        await _take(transport, connection)
    finally:
        connection.close()
        connection._accepted.cancel()
    for reading in heard:
        read(_profile_of(reading), (reading.read,), reading.payload)
    return len(heard)


async def _take(transport: mqtt.Transport, connection: Connection) -> None:
    try:
        while True:
            match connection._come():
                case None:
                    return
                case Arrival() as arrival:
                    await transport._take(connection, arrival)
                case Refusal() as refusal:
                    await transport._refused(Deaf(), refusal)  # type: ignore[arg-type]
    except LinkError:
        return


def _profile_of(reading: Reading) -> str:
    return "json" if reading.read == "message" else "mqtt-presence"


class Deaf:
    """A connection that is told things."""

    def acknowledge(self, _: Arrival) -> None: ...

    def subscribe_later(self, _: dict[str, int]) -> None: ...


def mqtt_message(data: bytes) -> list[str]:
    """A topic up to the first line feed, the payload after it."""
    topic, _, payload = data.partition(b"\n")
    try:
        name: str | None = topic.decode()
    except UnicodeDecodeError:
        name = None
    heard: list[Reading] = []

    async def deliver(reading: Reading) -> None:
        heard.append(reading)

    transport = subscriber(deliver)
    arrival = Arrival(topic=name, payload=payload, qos=1, mid=1, retained=False, again=False)
    loop().run_until_complete(transport._take(Deaf(), arrival))  # type: ignore[arg-type]
    allowed = {"tele/t/LWT", "t"}
    assert name in allowed or not heard, "only the topics of the configuration are heard"
    return [said for one in heard for said in read(_profile_of(one), (one.read,), one.payload)]


# --- from gateways ------------------------------------------------------------------------------------------


def sync_body(data: bytes) -> wire.SyncRequest:
    message = wire.decode_sync(data, parsing.parse)
    wire.encode(message)
    for raw in message.rows:
        try:
            stored(wire.read_row(raw))
        except wire.WireError:
            # Put aside, as it came.
            json.dumps(raw, allow_nan=False).encode()
    return message


def row(data: bytes) -> wire.Row:
    return stored(wire.read_row(wire.parse_json(data)))


def stored(found: wire.Row) -> wire.Row:
    """What the database and a page are given of a row."""
    json.dumps(found.model_dump(mode="json"), allow_nan=False).encode()
    shown = evidence.shown(found.evidence)
    if shown is not None:
        repr(shown).encode()
        assert len(shown.values) <= evidence.MAX_LINES
    return found


def evidence_body(data: bytes) -> list[str]:
    """A message of evidence, up to the chart and the list of a page; the parts of one occurrence together."""
    message = wire.decode_message(data, parsing.parse)
    if isinstance(message, wire.SyncRequest):
        return []
    kept: list[Kept] = []
    for raw in message.parts:
        try:
            part = wire.read_part(raw)
        except wire.WireError:
            continue
        if (packed := evidence_store.packed(part).body) is not None:
            kept.append(Kept(part=part.part, evidence=json.loads(zlib.decompress(packed))))
    shown = around.recording(kept, on_delay_ms=5_000)
    if shown is None:
        return []
    places = [shown.raised_x, shown.began_x, *(tick.x for tick in shown.ticks)]
    for track in shown.tracks:
        places += [place for one in (*track.spans, *track.gaps) for place in (one.x, one.x + one.width - 0.3)]
        places += [limit.y for limit in track.limits]
        assert re.fullmatch(r"(M[0-9.]+ [0-9.]+|H[0-9.]+|V[0-9.]+)*", track.path)
    assert all(0 <= place <= 100 for place in places), places
    readings = (*shown.earlier, *shown.near, *shown.later)
    assert len(readings) <= around.MAX_READINGS * len(kept)
    return [repr(one) for one in readings]


def gunzipped(data: bytes) -> bytes:
    small = sync._small(data, "gzip")
    try:
        found = sync.gunzip(data)
    except (wire.WireError, Problem):
        assert small is None
        raise
    assert small in (None, found)
    assert len(found) <= wire.MAX_BODY_BYTES
    return found


def enrolment(data: bytes) -> wire.EnrollRequest:
    return wire.EnrollRequest.model_validate(json.loads(data))


# --- from the collector -------------------------------------------------------------------------------------


def answer(data: bytes) -> wire.SyncAnswer:
    found = wire.decode_answer(data)
    wire.encode(found)
    return found


def refusal(data: bytes) -> str:
    said = enroll.why(500, data)
    assert said.isprintable()
    return said


def retry_after(data: bytes) -> float | None:
    found = post._seconds(data.decode("latin-1"))
    assert found is None or found >= 0
    return found


# --- files and environment ----------------------------------------------------------------------------------


def yaml(data: bytes) -> plain_yaml.Document:
    found = plain_yaml.load(data.decode("utf-8", "replace"))
    json.dumps(found.value, allow_nan=False, ensure_ascii=False).encode()
    return found


def profile_text(data: bytes) -> profile.Profile:
    return profile.parse(data.decode("utf-8", "replace"), name="p")


def trace_lines(data: bytes) -> list[str]:
    """What a trace holds, and the devices that it speaks of."""
    found = trace.Trace("x.gz", iter(data.splitlines(keepends=True)))
    known = {device.id: device for device in replay.settings_of("x.gz", found.header).devices}
    shown: list[str] = []
    for one in found.happened():
        if isinstance(one, Reading) and one.device in known:
            shown += decode.shown(known[one.device], one)
    assert all(line.isprintable() for line in shown)
    return shown


@cache
def scratch() -> Path:
    """In memory where there is such a place."""
    shared = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="andon-fuzz-", dir=shared if shared.is_dir() else None))


# Reading the system's certificates takes 30 ms and no byte of the file.
_default_context = ssl.create_default_context
_system = cache(lambda: _default_context())


def _context(*, cafile: object = None) -> ssl.SSLContext:
    return _default_context(cafile=cafile) if cafile else _system()  # type: ignore[arg-type]


def agent_toml(data: bytes) -> config.Settings:
    file = scratch() / f"{os.getpid()}.toml"
    file.write_bytes(data)
    with mock.patch.object(ssl, "create_default_context", _context):
        return config.load(file)


def site_profile(data: bytes) -> profile.Profile:
    """A profile of a site's own, in a file."""
    folder = scratch() / f"{os.getpid()}-profiles"
    folder.mkdir(exist_ok=True)
    (folder / "p.yaml").write_bytes(data)
    return config.ProfileFolders.of(folder).load("p")


def _variables(data: bytes, prefix: str, names: tuple[str, ...]) -> dict[str, str]:
    """Lines NAME=value; a name that starts with a digit is one of ``names``. No environment has a NUL."""
    found = {}
    for line in data.replace(b"\0", b"").split(b"\n"):
        name, _, value = os.fsdecode(line).partition("=")
        if name[:1].isdecimal():
            name = names[ord(name[0]) % len(names)]
        if name:
            found[prefix + name] = value
    return found


AGENT_NAMES = (
    "COLLECTOR__URL",
    "COLLECTOR__CA_FILE",
    "AGENT__SITE",
    "AGENT__UNREACHABLE_AFTER_S",
    "BUS",
    "DEVICE",
)
COLLECTOR_NAMES = tuple(name.upper() for name in collector_config.Settings.model_fields if name != "data_dir")


def agent_environment(data: bytes) -> config.Settings:
    file = scratch() / "empty.toml"
    file.touch()
    with (
        mock.patch.object(ssl, "create_default_context", _context),
        mock.patch.dict(os.environ, _variables(data, config.ENVIRONMENT_PREFIX, AGENT_NAMES)),
    ):
        return config.load(file)


def collector_environment(data: bytes) -> collector_config.Settings:
    with mock.patch.dict(os.environ, _variables(data, "COLLECTOR_", COLLECTOR_NAMES)):
        found = collector_config.load(data_dir=scratch())
        repr((found.host, found.port, found.zone, found.https, found.on_loopback, found.one_writer))
        return found


def credential_file(data: bytes) -> credential.Credential | None:
    folder = scratch() / f"{os.getpid()}-data"
    folder.mkdir(exist_ok=True)
    (folder / credential.FILE).write_bytes(data)
    found = credential.load(folder)
    if found is not None:
        found.bearer.encode("ascii")
    return found


# --- from browsers and programs -----------------------------------------------------------------------------


def cursor(data: bytes) -> tuple[int, str]:
    return ticket_store._place(data.decode("latin-1"))


def moment(data: bytes) -> str:
    """What is taken can be printed again."""
    return moments.rfc3339(moments.parse(data.decode("utf-8", "replace")))


def if_match(data: bytes) -> int | None:
    return tickets._version(data.decode("latin-1"))


def bearer(data: bytes) -> auth.Bearer | None:
    found = auth.read_bearer(data.decode("latin-1"), auth.TOKEN_PREFIX)
    if found is not None:
        auth.sha256(found.secret)
    return found


def cookies(data: bytes) -> dict[str, str]:
    """What the application sees of them, as it reads them."""
    found = Request({"type": "http", "headers": guard.own_cookies([(b"cookie", data)])}).cookies
    assert set(found) <= set(auth.COOKIES)
    for value in found.values():
        auth.csrf_of(value)
        auth.sha256(value)
    return found


def form(data: bytes) -> Mapping[str, str]:
    found = guard.read_form(data)
    for value in found.values():
        value.encode()
        auth.same(value, "0" * 64)
    return found


def way_back(data: bytes) -> str:
    """Where a log-in leads: a path of this collector, whatever was asked for."""
    path = safe_path(data.decode("utf-8", "replace"))
    assert path.startswith("/")
    assert not path.startswith("//")
    assert path.isprintable()
    assert "\\" not in path
    return path


# --- seeds --------------------------------------------------------------------------------------------------

AT = wire.Stamp(boot="0" * 32, mono_ns=1, wall_ms=1, source="ntp")

PROFILE_OF_JSON = """
schema: 1
name: json
title: Everything that a message of JSON can be read as
maker: any
models: [any]
evidence: simulated
source: no device
transports: [mqtt]
reads:
  message: {topic: "{topic}", format: json}
signals:
  text: {read: message, path: a.text, type: text, source: none}
  whole: {read: message, path: a.0, type: int, source: none}
  real: {read: message, path: b, type: float, scale: 0.1, source: none}
  ready: {read: message, path: c, type: bool, source: none}
  word: {read: message, path: d, words: {"on": true, "off": false}, source: none}
  same: {read: message, path: e.f.1.g, equals: fault, source: none}
  those: {read: message, path: [e, h], each: {path: a.0, other_than: [x], show: b}, source: none}
conditions:
  - {fault: jam, component: belt, title: Jam, severity: stop, when: {is: {signal: ready, value: true}}}
examples:
  - {condition: belt/jam, trips: {message: '{"c": true}'}, clears: {message: '{"c": false}'}}
"""
IPP_ANSWER = (
    b"\x01\x01\x00\x00\x00\x00\x00\x01\x01\x47\x00\x12attributes-charset\x00\x05utf-8\x04"
    b"\x23\x00\x0dprinter-state\x00\x04\x00\x00\x00\x03"
    b"\x44\x00\x15printer-state-reasons\x00\x0bmedia-empty\x44\x00\x00\x00\x0acover-open"
    b"\x34\x00\x09media-col\x00\x00\x4a\x00\x00\x00\x01a\x21\x00\x00\x00\x04\x00\x00\x00\x01\x37\x00\x00\x00\x00"
    b"\x35\x00\x15printer-state-message\x00\x08\x00\x02en\x00\x02ok\x03"
)
# Alarm, alias 1, Boolean; Value, alias 2, Double; sequence 1. Then both by alias, a null and a quality.
SPARKPLUG_BIRTH = (
    b"\x12\x0d\x0a\x05Alarm\x10\x01\x20\x0b\x70\x00"
    b"\x12\x14\x0a\x05Value\x10\x02\x20\x0a\x69" + struct.pack("<d", 1.5) + b"\x18\x01"
)
SPARKPLUG_DATA = (
    b"\x12\x04\x10\x01\x70\x01\x12\x04\x10\x02\x38\x01"
    b"\x12\x14\x10\x01\x70\x01\x4a\x0e\x0a\x07Quality\x12\x03\x18\xf4\x03\x18\x02"
)
SPARKPLUG_DEATH = b"\x12\x0b\x0a\x05bdSeq\x20\x04\x58\x07"
SITE_PROFILE = PROFILE_OF_JSON.replace("name: json", "name: p").encode()
# All kinds of lines, in less than what coverage guides.
SMALL_TRACE = b"".join(
    json.dumps(line, separators=(",", ":")).encode() + b"\n"
    for line in (
        {
            "andon_trace": trace.VERSION,
            "agent": "0.1.0",
            "boot": AT.boot,
            "wall_ms": 1_767_600_000_000,
            "source": "ntp",
            "bus": [{"name": "b", "transport": "mqtt", "host": "h"}],
            "device": [{"id": "d", "bus": "b", "profile": "json", "topic": "t"}],
            "profiles": {"json": PROFILE_OF_JSON},
        },
        {"t": 0.1, "device": "d", "read": "message", "frames": ['{"c":true}', "\\x02"]},
        {"t": 0.2, "device": "d", "read": "message", "numbers": [1, None], "changed": True},
        {"t": 0.3, "device": "d", "read": "message", "trouble": "no answer", "detail": "it is off"},
        {"t": 0.4, "missing": 2},
        {"t": 0.9, "still_since": 0.5},
        {"t": 1.0, "wall_ms": 1_767_600_009_000, "source": "rtc"},
    )
)


def _golden() -> tuple[list[bytes], list[bytes], list[bytes]]:
    requests, answers, rows = [], [], []
    for file in GOLDEN:
        if file == EVIDENCE_FILE:
            continue
        for exchange in json.loads(file.read_bytes()).get("exchanges", []):
            request = exchange["request"]
            requests.append(json.dumps(request, separators=(",", ":")).encode())
            rows += [json.dumps(one, separators=(",", ":")).encode() for one in request.get("rows", [])]
            if "answer" in exchange:
                answers.append(json.dumps(exchange["answer"], separators=(",", ":")).encode())
    return requests, answers, rows


REQUESTS, ANSWERS, ROWS = _golden()
EVIDENCE = json.dumps(json.loads(EVIDENCE_FILE.read_bytes())["exchanges"][1]["request"]).encode()
HS = (
    b"\x02030,0,0,1245,000,0,0,0,000,0,0,0\x03\r\n"
    b"\x02000,0,0,0,0,2,4,0,00000000,1,000\x03\r\n\x021234,0\x03\r\n"
)
HQES = (
    b"\x02\r\n  PRINTER STATUS\r\n   ERRORS:         1 00000000 00000005\r\n"
    b"   WARNINGS:       1 00000000 00000002\r\n\x03"
)
JSON_WORDS = (b"true", b"null", b"NaN", b"-Infinity", b"1e999", b"\\ud800", b"\\u0000", b'":', b"[[[[", b"{}")
YAML_WORDS = (
    b"&a",
    b"*a",
    b"!!int",
    b"<<: ",
    b"|\n",
    b">-\n",
    b"%YAML 1.1\n",
    b"---\n",
    b"\\U0011",
    b"12:30",
    b"no",
)
TOML = (
    b'[collector]\nurl = "https://collector:8420"\n[agent]\nsite = "north"\ngateway = "gw-1"\n'
    b'[[bus]]\nname = "net"\ntransport = "modbus"\nhost = "10.0.0.5"\nport = 502\n'
    b'[[device]]\nid = "drive-1"\nbus = "net"\nprofile = "powerflex-520"\nplace = "a/b/c"\nunit = 3\n'
    b'[device.set.conditions."drive/unreachable"]\non_delay_s = 5\n'
)
ENROLMENT = json.dumps(
    {"token": "enr_" + "x" * 40, "secret_hash": "0" * 64, "facts": {"hostname": "gw"}}
).encode()
ENROLLED = json.dumps({"site": "north", "gateway": "gw-1", "credential": "agw_0123456789abcdef"}).encode()
CREDENTIAL = json.dumps(
    {
        "url": "https://c:1",
        "site": "n",
        "gateway": "g",
        "credential": "agw_0123456789abcdef",
        "secret": "s" * 64,
    }
).encode()


# A decoder that has read something, in two packets.
SSI = b"\x07\xf3\x00\x02\x01ab\xfe\x40" + b"\x06\xf3\x00\x00cd\xfe\x40"
SPOKEN = (HS, HQES, SSI, b"4006381333931\r\nNOREAD\r\n", b"\x02\x12A0000000\x03", b"\x1b[2J\xe2\x80\xae\r")
TEXT_PROFILES = tuple(
    file.stem for file in sorted(PROFILES.glob("*.yaml")) if "\nframing: " in file.read_text("utf-8")
)


def mqtt_publish(
    topic: bytes, payload: bytes, *, flags: int = 0x32, mid: bytes = b"\0\1", extra: bytes = b""
) -> bytes:
    body = struct.pack(">H", len(topic)) + topic + (mid if flags & 6 else b"") + extra + payload
    return bytes([flags, *_varint(len(body))]) + body


def _varint(number: int) -> list[int]:
    found = []
    while True:
        number, low = number >> 7, number & 0x7F
        found.append(low | (0x80 if number else 0))
        if not number:
            return found


CONNACK, SUBACK = b"\x20\x02\x00\x00", b"\x90\x04\x00\x01\x01\x80"
CONNACK_5, SUBACK_5 = b"\x20\x06\x00\x00\x03\x21\x00\x0a", b"\x90\x05\x00\x01\x00\x01\x87"
MBAP = b"\x00\x01\x00\x00\x00\x0b\x05\x03\x08" + struct.pack(">4H", 1, 2, 3, 4)
RTU = FramerRTU(DecodePDU(False)).encode(b"\x03\x08" + struct.pack(">4H", 1, 2, 3, 4), 5, 0)
RTU_BITS = FramerRTU(DecodePDU(False)).encode(b"\x01\x02\x55\x01", 5, 0)
RTU_REFUSAL = FramerRTU(DecodePDU(False)).encode(b"\x83\x02", 5, 0)


PARSERS: tuple[Parser, ...] = (
    Parser(
        name="line framing",
        parse=partial(framed, "line"),
        seeds=(b"4006381333931\r\nab\n",),
        longest=DRAIN_BYTES,
    ),
    Parser(
        name="byte framing",
        parse=partial(framed, "byte"),
        seeds=(b"\x1a\x32\x7e", b"\x12\x16"),
        longest=DRAIN_BYTES,
    ),
    Parser(
        name="ssi framing",
        parse=partial(framed, "ssi"),
        seeds=(bytes.fromhex("05F6000003FF02 0AC60000FFF4F03E04FFFB0C 04A30400FF55"), SSI),
        words=(b"\xf3\x00\x02", b"\xf6\x00\x00"),
        longest=DRAIN_BYTES,
    ),
    Parser(name="stx_etx framing", parse=partial(framed, "stx_etx"), seeds=(HS, HQES), longest=DRAIN_BYTES),
    *(
        Parser(
            name=f"{name} device",
            cost=5,
            parse=partial(spoken, name),
            seeds=SPOKEN,
            words=(b"\x02", b"\x03", b"\r\n", b"ERRORS:", b"00000000", b"\xe2\x80\xae"),
            longest=16 * KIB,
            guided=256,
        )
        for name in TEXT_PROFILES
    ),
    Parser(
        name="modbus registers", cost=5, parse=registers, seeds=(bytes(250), b"\x00\x20" * 60), longest=250
    ),
    Parser(
        name="json message",
        parse=json_payload,
        seeds=(
            b'{"a":{"text":"x"},"b":1.5,"c":true,"d":"on","e":{"f":[0,{"g":"fault"}]}}',
            b'{"a":[12],"b":3}',
            b'{"e":{"h":[{"a":["y"],"b":"z"},"x",{"a":["x"]}]}}',
        ),
        words=JSON_WORDS,
        longest=64 * KIB,
    ),
    Parser(
        name="ipp answer",
        parse=ipp_answer,
        refuses=(ipp.IppError,),
        seeds=(IPP_ANSWER, IPP_ANSWER[:8] + b"\x03", b"\x01\x01\x04\x06" + IPP_ANSWER[4:]),
        words=(b"\x44\x00\x15printer-state-reasons", b"\x34\x00", b"\x37\x00", b"\x00\x00", b"\x04"),
        longest=64 * KIB,
    ),
    Parser(
        name="sparkplug messages",
        cost=2,
        parse=sparkplug_messages,
        seeds=(
            bytes([list(Kind).index(Kind.DDATA)]) + len(SPARKPLUG_DATA).to_bytes(2, "big") + SPARKPLUG_DATA,
            bytes([list(Kind).index(Kind.NDEATH)])
            + len(SPARKPLUG_DEATH).to_bytes(2, "big")
            + SPARKPLUG_DEATH,
            bytes([list(Kind).index(Kind.DBIRTH)])
            + len(SPARKPLUG_BIRTH).to_bytes(2, "big")
            + SPARKPLUG_BIRTH,
        ),
        words=(
            b"\x0a\x05Alarm",
            b"\x10\x01",
            b"\x20\x0b",
            b"\x70\x01",
            b"\x68",
            b"\x52",
            b"\x4a\x07",
            b"\x18\x01",
        ),
        longest=64 * KIB,
        guided=256,
    ),
    Parser(
        name="gathered texts",
        parse=gathered_texts,
        seeds=(b"battery=low\nfan=blocked\nbattery=", b"=x"),
        words=(b"battery=", b"\n", b"\xff", b'"', b"\x00"),
        # Each line is a message, which tells all that was gathered anew.
        longest=KIB,
        guided=256,
    ),
    Parser(
        name="modbus tcp frames",
        parse=partial(modbus_answer, "tcp"),
        seeds=(
            b"\xff" + MBAP,
            b"\x02" + MBAP,
            b"\xfe\x00\x01\x00\x00\x00\x03\x05\x83\x02",
            b"\xff\x00\x00" + MBAP,
        ),
        longest=2 * KIB,
    ),
    Parser(
        name="modbus rtu frames",
        cost=2,
        parse=partial(modbus_answer, "rtu_over_tcp"),
        seeds=(b"\xfe" + RTU, b"\x02" + RTU, b"\xff" + RTU_BITS, b"\xfe\x00" + RTU, b"\xfe" + RTU_REFUSAL),
        longest=2 * KIB,
        # The longest frame and half of another.
        guided=384,
    ),
    Parser(
        name="mqtt packets",
        cost=5,
        parse=mqtt_packets,
        seeds=(
            b"\x00"
            + CONNACK
            + SUBACK
            + mqtt_publish(b"tele/t/LWT", b"Online")
            + mqtt_publish(b"t", b'{"c":true}'),
            b"\x00" + CONNACK + mqtt_publish(b"t", b"x", flags=0x30) + b"\xd0\x00",
            b"\xff" + CONNACK_5 + SUBACK_5 + mqtt_publish(b"t", b"{}", extra=b"\x00") + b"\xe0\x02\x8e\x00",
            b"\x00\x20\x02\x00\x05",
        ),
        words=(CONNACK, SUBACK, b"tele/t/LWT"),
        guided=256,
    ),
    Parser(
        name="mqtt message",
        parse=mqtt_message,
        seeds=(b"tele/t/LWT\nOnline", b't\n{"c":true}', b"tele/+/LWT\nx", b"#\nx", b"$SYS/broker\nx"),
        words=(b"tele/t/LWT", b"+", b"#", b"/"),
        longest=64 * KIB,
    ),
    Parser(
        name="sync body",
        parse=sync_body,
        refuses=(wire.WireError,),
        seeds=tuple(REQUESTS),
        words=JSON_WORDS,
        longest=64 * KIB,
    ),
    Parser(
        name="evidence",
        parse=evidence_body,
        refuses=(wire.WireError,),
        seeds=(EVIDENCE,),
        words=(
            *JSON_WORDS,
            *(f'"{word}"'.encode() for word in ("points", "until_ms", "means", "limits", "hex")),
        ),
        longest=64 * KIB,
    ),
    Parser(
        name="row",
        parse=row,
        refuses=(wire.WireError,),
        seeds=tuple(ROWS),
        words=JSON_WORDS,
        longest=16 * KIB,
    ),
    Parser(
        name="gzip body",
        parse=gunzipped,
        refuses=(wire.WireError, Problem),
        seeds=(
            gzip.compress(REQUESTS[0], mtime=0),
            gzip.compress(bytes(1 << 20), mtime=0),
            gzip.compress(b"", mtime=0),
        ),
        longest=64 * KIB,
    ),
    Parser(
        name="enrolment",
        parse=enrolment,
        refuses=(ValidationError, ValueError, RecursionError),
        seeds=(ENROLMENT,),
        words=JSON_WORDS,
    ),
    Parser(
        name="sync answer", parse=answer, refuses=(wire.WireError,), seeds=tuple(ANSWERS), words=JSON_WORDS
    ),
    Parser(
        name="enrolment answer",
        parse=wire.decode_enrolment,
        refuses=(wire.WireError,),
        seeds=(ENROLLED,),
        words=JSON_WORDS,
    ),
    Parser(name="enrolment refusal", parse=refusal, seeds=(b'{"detail":"no"}', b"<html>"), words=JSON_WORDS),
    Parser(
        name="retry-after", parse=retry_after, seeds=(b"30", b"Wed, 21 Oct 2026 07:28:00 GMT"), longest=KIB
    ),
    Parser(
        name="plain yaml",
        cost=5,
        parse=yaml,
        refuses=(plain_yaml.PlainYamlError,),
        seeds=(b"a: 1\nb: [x, 'y']\nc: {d: 0x1F}\n", b'a: "\\u0041"\n', b"- |\n  text\n"),
        words=YAML_WORDS,
        guided=512,
    ),
    Parser(
        name="profile",
        cost=50,
        parse=profile_text,
        refuses=(profile.ProfileError,),
        seeds=(SITE_PROFILE, (PROFILES / "line-scanner.yaml").read_bytes()),
        words=YAML_WORDS,
        guided=KIB,
    ),
    Parser(
        name="profile file",
        cost=50,
        parse=site_profile,
        refuses=(profile.ProfileError, config.ConfigError),
        seeds=(SITE_PROFILE, b"name: \xfcber\n"),
        words=YAML_WORDS,
        guided=KIB,
    ),
    Parser(
        name="trace",
        cost=20,
        parse=trace_lines,
        refuses=(trace.TraceError, config.ConfigError),
        seeds=(SMALL_TRACE, *(b"".join(trace_file.lines(file)) for file in TRACES)),
        words=JSON_WORDS,
        longest=64 * KIB,
    ),
    Parser(
        name="agent.toml",
        cost=10,
        parse=agent_toml,
        refuses=(config.ConfigError,),
        seeds=(TOML, b"[agent]\n", b"device = [" + b"[" * 60),
        words=(
            b"[[bus]]\n",
            b"[[device]]\n",
            b'"',
            b"'''",
            b"1e9",
            b"0x",
            b"inf",
            b"1979-05-27T07:32:00Z",
            b"\\u0000",
        ),
    ),
    Parser(
        name="agent environment",
        cost=10,
        parse=agent_environment,
        refuses=(config.ConfigError,),
        seeds=(b"0=https://c:1\n2=north", b"4=[]\n5=[{}]", b"AGENT__SITE=x", b"1=/nowhere"),
        words=JSON_WORDS,
    ),
    Parser(
        name="collector environment",
        cost=10,
        parse=collector_environment,
        refuses=(collector_config.ConfigError,),
        seeds=(
            b"1=127.0.0.1:8420\n7=Europe/Berlin",
            b"LISTEN=[::1]:99\nTIMEZONE=../x",
            b"PUBLIC_URL=https://x",
        ),
    ),
    Parser(
        name="credential file",
        cost=2,
        parse=credential_file,
        refuses=(ValueError,),
        seeds=(CREDENTIAL, b"{}"),
        words=JSON_WORDS,
    ),
    Parser(
        name="cursor",
        parse=cursor,
        refuses=(ValueError,),
        seeds=(b"1767600006000-" + b"0" * 32,),
        longest=KIB,
    ),
    Parser(
        name="moment",
        parse=moment,
        refuses=(ValueError,),
        seeds=(b"2026-11-22T06:00:00+01:00", b"2026-11-22T05:00:00Z", b"2026-W01-1T00:00:00.5 01:00"),
        longest=KIB,
    ),
    Parser(name="if-match", parse=if_match, refuses=(Problem,), seeds=(b'"3"',), longest=KIB),
    Parser(
        name="bearer token",
        parse=bearer,
        seeds=(b"Bearer atk_0123456789abcdef.secret", b"Basic YTpi"),
        longest=4 * KIB,
    ),
    Parser(
        name="cookies",
        parse=cookies,
        seeds=(
            b"andon_session=abc; andon_form=def",
            b'andon_form="\\"\\303"; b',
            b'a="' + b'\\"' * 20 + b'"',
        ),
        longest=64 * KIB,
    ),
    Parser(
        name="form",
        parse=form,
        refuses=(Problem,),
        seeds=(b"csrf=00&text=looked+at+it&version=1&back=%2Fm", b"%ff=%u1&&;=", b"a=%00"),
        longest=64 * KIB,
    ),
    Parser(
        name="way back", parse=way_back, seeds=(b"/m/t/5?x=1", b"//evil", b"/\\evil", b"/%2f"), longest=KIB
    ),
)


def named(name: str) -> Parser:
    return next(parser for parser in PARSERS if parser.name == name)
