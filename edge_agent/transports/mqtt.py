"""Devices that publish through an MQTT broker: subscribes to their topics, acknowledges what became durable.

A message of QoS 1 is acknowledged after ``deliver`` returned: the broker keeps what a pulled plug would lose,
and sends it again. What was delivered but perhaps not acknowledged when a connection broke comes again too,
marked as a duplicate; such a message is acknowledged and not delivered twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import socket
import ssl
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Annotated, Literal

import structlog
from paho.mqtt.client import Client, topic_matches_sub
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from pydantic import BaseModel, ConfigDict, Field, model_validator

from edge_agent.bus import Bus, LinkError, RefusedError
from edge_agent.bus.broker import QUEUE, Arrival, Connection, Grant, Refusal
from edge_agent.device import Device
from edge_agent.gather import Gatherer, GatherError, Map, Node, Taker, View, device_in
from edge_agent.poll import Line, topic
from edge_agent.profile import MetricSignal, TopicRead
from edge_agent.sample import Again, Deliver, Trouble
from edge_agent.transports import BusSettings, host_adapter
from edge_agent.transports.tcp import CONNECT_TIMEOUT_S, notice_silence
from edge_agent.unreached import explain
from edge_agent.wire import Stamp

log = structlog.get_logger()

MAX_PAYLOAD_BYTES = 64 << 10
# How long a broker of MQTT 5 keeps our session while we are away: a long weekend and some.
SESSION_EXPIRY_S = 7 * 86_400
# What a broker has retained has come when for so long nothing came at all; and so long after the subscription
# on a broker that is never still, which has sent by then what it had kept.
SETTLED_AFTER_S, SETTLED_AT_LAST_S = 5.0, 60.0
# Deliveries remembered across a broken connection; at least what a broker has in flight at once.
REMEMBERED = 1_000
VERSIONS = {"3.1.1": MQTTProtocolVersion.MQTTv311, "5": MQTTProtocolVersion.MQTTv5}


class Tls(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    ca_file: Annotated[
        Path | None, Field(description="PEM of the CA that signed the broker; else the system's")
    ] = None
    cert_file: Annotated[
        Path | None, Field(description="PEM of our own certificate, if the broker asks for one")
    ] = None
    key_file: Annotated[Path | None, Field(description="PEM of its key")] = None


class Settings(BusSettings):
    transport: Literal["mqtt"] = "mqtt"
    host: Annotated[str, Field(min_length=1, description="name or address of the broker")]
    port: Annotated[int | None, Field(ge=1, le=65_535, description="default 1883, with tls 8883")] = None
    protocol: Annotated[Literal["3.1.1", "5"], Field(description="version of MQTT")] = "3.1.1"
    tls: Annotated[Tls | None, Field(description="an empty table: TLS with the system's CAs")] = None
    username: str = ""
    password_file: Annotated[
        Path | None, Field(description="file that holds the password and nothing else")
    ] = None
    client_id: Annotated[
        str,
        Field(
            max_length=128,
            description="unique at the broker, for ever; default: made from this machine and the bus name",
        ),
    ] = ""
    clean_session: Annotated[bool, Field(description="the broker keeps nothing for us while we are away")] = (
        False
    )
    keepalive_s: Annotated[int, Field(ge=5, le=3600)] = 30

    @model_validator(mode="after")
    def _password_has_a_user(self) -> Settings:
        if self.password_file is not None and not self.username:
            raise ValueError("password_file: needs username")
        return self

    def check(self, devices: Sequence[Device]) -> None:
        for device, name, wanted, _ in _wanted(devices):
            if not _allowed(wanted):
                raise ValueError(f"{device}: read {name}: {wanted!r} is no MQTT topic filter")

    def as_a_guest(self) -> Settings:
        # The broker lets the agent's session go on, and forgets ours when we leave.
        own = f"{default_client_id(self.name)}-{secrets.token_hex(4)}"
        return self.model_copy(update={"client_id": own, "clean_session": True})

    @property
    def port_number(self) -> int:
        return self.port or (8883 if self.tls else 1883)

    @property
    def where(self) -> str:
        return f"{self.host}:{self.port_number}"

    @property
    def line(self) -> Line:
        return Line(words=f"MQTT {self.protocol} {self.where}{', TLS' if self.tls else ''}")

    @property
    def adapter(self) -> str:
        return host_adapter(self.host)


class Transport(Bus):
    """Raises ValueError as ``Settings.check`` does."""

    acknowledges = True

    def __init__(
        self,
        settings: Settings,
        devices: Sequence[Device],
        deliver: Deliver,
        stamp: Callable[[], Stamp],
        *,
        again: Again | None = None,
        clock: Callable[[], float] | None = None,
        random: Random | None = None,
    ) -> None:
        super().__init__(settings.name, devices, deliver, stamp, again=again, clock=clock, random=random)
        self._settings = settings
        self._takers: dict[str, list[tuple[str, str]]] = {}
        self._qos: dict[str, int] = {}
        settings.check(self.devices)
        for device, name, wanted, qos in _wanted(self.devices):
            self._takers.setdefault(wanted, []).append((device, name))
            self._qos[wanted] = max(qos, self._qos.get(wanted, 0))
        self._gatherers = _gatherers(self.devices)
        # When all has come that the broker has retained, at the latest, by topic filter.
        self._settled_by: dict[str, float] = {}
        self._arrived_at = 0.0
        self._delivered: OrderedDict[int, str] = OrderedDict()
        # Why the broker keeps a topic from us, as the log said last: it is asked again each minute.
        self._refusals: dict[str, str] = {}

    async def run(self) -> None:
        if self._takers:
            await self.keep(self._session)

    async def _session(self) -> None:
        # In a thread: name, connection and TLS take their time, and paho waits for them.
        client = await asyncio.to_thread(_connect, self._settings)
        connection = Connection(client, self._settings.where)
        try:
            kept = await connection.accepted()
            if not kept:
                self._delivered.clear()
            self._settled_by.clear()
            for gatherer in self._gatherers.values():
                gatherer.reconnected(kept=kept)
            connection.subscribe(self._qos)
            await self.opened()
            while True:
                await self.believe()
                await self._settle()
                until = min([self.believed_at, *map(self._settled_at, self._settled_by)])
                match await connection.next_within(until - self.clock()):
                    case Arrival() as arrival:
                        self._arrived_at = self.clock()
                        await self._take(connection, arrival)
                    case Grant(filters=granted):
                        by = self.clock() + SETTLED_AT_LAST_S
                        self._settled_by |= {wanted: by for wanted in granted if wanted in self._gatherers}
                    case Refusal() as refusal:
                        await self._refused(connection, refusal)
        finally:
            connection.close()

    async def _take(self, connection: Connection, arrival: Arrival) -> None:
        if not (arrival.again and self._delivered.get(arrival.mid) == _digest(arrival)):
            at = self.stamp()
            for wanted in self._filters_of(arrival.topic):
                for (device, read), said in self._said_to(wanted, arrival):
                    if isinstance(said, bytes):
                        await self.tell(device, read, payload=(said,), retained=arrival.retained, at=at)
                    else:
                        await self.tell(device, read, trouble=Trouble.WRONG_ANSWER, detail=str(said), at=at)
        if arrival.qos:
            self._delivered[arrival.mid] = _digest(arrival)
            self._delivered.move_to_end(arrival.mid)
            if len(self._delivered) > REMEMBERED:
                self._delivered.popitem(last=False)
            connection.acknowledge(arrival)

    def _settled_at(self, wanted: str) -> float:
        by = self._settled_by[wanted]
        still_since = max(self._arrived_at, by - SETTLED_AT_LAST_S)
        return min(by, still_since + SETTLED_AFTER_S)

    async def _settle(self) -> None:
        now = self.clock()
        for wanted in [wanted for wanted in self._settled_by if self._settled_at(wanted) <= now]:
            del self._settled_by[wanted]
            at = self.stamp()
            for (device, read), frame in self._gatherers[wanted].settled():
                await self.tell(device, read, payload=(frame,), retained=True, at=at)

    async def _refused(self, connection: Connection, refusal: Refusal) -> None:
        detail = f"the broker refuses the subscription: {refusal.reason}"
        refused = dict.fromkeys(refusal.filters, refusal.reason)
        if not refused.items() <= self._refusals.items():
            self._refusals |= refused
            log.warning("subscription refused", bus=self.name, topics=refusal.filters, reason=refusal.reason)
        at = self.stamp()
        for wanted in refusal.filters:
            for device, read in self._takers[wanted]:
                await self.tell(device, read, trouble=Trouble.WRONG_ANSWER, detail=detail, at=at)
        connection.subscribe_later({wanted: self._qos[wanted] for wanted in refusal.filters})

    def _filters_of(self, arrived: str | None) -> list[str]:
        if arrived is None:
            return []
        return [wanted for wanted in self._takers if wanted == arrived or topic_matches_sub(wanted, arrived)]

    def _said_to(self, wanted: str, arrival: Arrival) -> Sequence[tuple[Taker, bytes | GatherError]]:
        """Whom a message concerns, with what it is to him."""
        takers, gatherer = self._takers[wanted], self._gatherers.get(wanted)
        most = MAX_PAYLOAD_BYTES if gatherer is None else gatherer.max_bytes
        if len(arrival.payload) > most:
            why = GatherError(f"a message of {len(arrival.payload)} bytes; at most {most} are taken")
            return [(taker, why) for taker in takers]
        if gatherer is None:
            return [(taker, arrival.payload) for taker in takers]
        try:
            return gatherer.take(arrival.topic or "", arrival.payload, retained=arrival.retained)
        except GatherError as error:
            return [(taker, error) for taker in takers]
        except Exception:
            # The broker would send it again for ever, and nothing else would come through.
            log.exception("a message could not be read", bus=self.name, topic=arrival.topic)
            unread = GatherError("a message that could not be read; the log of the agent says more")
            return [(taker, unread) for taker in takers]


def _connect(settings: Settings) -> Client:
    """A client that has sent its CONNECT. Blocks. Raises LinkError, RefusedError in a technician's words."""
    client = Client(
        CallbackAPIVersion.VERSION2,
        client_id=settings.client_id or default_client_id(settings.name),
        clean_session=settings.clean_session if settings.protocol == "3.1.1" else None,
        protocol=VERSIONS[settings.protocol],
        manual_ack=True,
        reconnect_on_failure=False,
    )
    client.connect_timeout = CONNECT_TIMEOUT_S
    _identify(client, settings)
    try:
        if settings.protocol == "5":
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho has no types here
            properties.SessionExpiryInterval = 0 if settings.clean_session else SESSION_EXPIRY_S
            properties.ReceiveMaximum = QUEUE
            client.connect(
                settings.host,
                settings.port_number,
                settings.keepalive_s,
                clean_start=settings.clean_session,
                properties=properties,
            )
        else:
            client.connect(settings.host, settings.port_number, settings.keepalive_s)
    except ssl.SSLError as error:
        ca_file = settings.tls.ca_file if settings.tls else None
        raise RefusedError(explain(f"the broker {settings.where}", error, ca_file=ca_file)) from error
    except (OSError, UnicodeError) as error:  # a name that cannot be one is a UnicodeError
        raise LinkError(explain(f"the broker {settings.where}", error)) from error
    opened = client.socket()
    if isinstance(opened, socket.socket):
        # paho's own keepalive notices a broker that hangs; this one that has vanished, and much sooner.
        notice_silence(opened)
    return client


def _identify(client: Client, settings: Settings) -> None:
    """Files are read at each attempt, so that a mended one is found."""
    try:
        if settings.username:
            file = settings.password_file
            client.username_pw_set(
                settings.username, file.read_text("utf-8").rstrip("\r\n") if file else None
            )
    except (OSError, UnicodeDecodeError) as error:
        raise RefusedError(f"the password file {settings.password_file} cannot be read") from error
    if settings.tls is None:
        return
    files = settings.tls
    try:
        client.tls_set(_path(files.ca_file), _path(files.cert_file), _path(files.key_file))
    except (OSError, ValueError) as error:
        named = ", ".join(str(file) for file in (files.ca_file, files.cert_file, files.key_file) if file)
        raise RefusedError(f"a TLS file cannot be used ({named}): {error}") from error


def _path(file: Path | None) -> str | None:
    return str(file) if file else None


def default_client_id(bus: str, machine_id: Path = Path("/etc/machine-id")) -> str:
    """The same after each start, another on each machine; the machine's id itself is not given away."""
    try:
        machine = machine_id.read_text("ascii").strip()
    except OSError:
        machine = socket.gethostname()
    return f"andon-{hashlib.sha256(f'andon {machine}'.encode()).hexdigest()[:12]}-{bus}"


def _wanted(devices: Sequence[Device]) -> list[tuple[str, str, str, int]]:
    """Device, read, topic filter, QoS."""
    found = []
    for device in devices:
        for name, read in device.profile.reads.items():
            if isinstance(read, TopicRead):
                try:
                    found.append((device.id, name, topic(device, read), read.qos))
                except ValueError as error:
                    raise ValueError(f"{device.id}: topic: {error}") from error
    return found


def _gatherers(devices: Sequence[Device]) -> dict[str, Gatherer]:
    """By topic filter, for those reads that are made of several topics."""
    maps: dict[str, list[Taker]] = {}
    nodes: dict[str, dict[Taker, View]] = {}
    for device in devices:
        for name, read in device.profile.reads.items():
            if isinstance(read, TopicRead) and read.format == "map":
                maps.setdefault(topic(device, read), []).append((device.id, name))
            elif isinstance(read, TopicRead) and read.format == "sparkplug":
                signals = [signal for _, signal in device.profile.signals_by_read[name]]
                wanted = frozenset(one.metric for one in signals if isinstance(one, MetricSignal))
                view = View(device=device_in(read.topic.replace("{topic}", device.topic)), wanted=wanted)
                nodes.setdefault(topic(device, read), {})[device.id, name] = view
    return {
        **{wanted: Map(wanted, takers) for wanted, takers in maps.items()},
        **{wanted: Node(views) for wanted, views in nodes.items()},
    }


def _allowed(wanted: str) -> bool:
    """MQTT 5.0, 4.7.1: a wildcard fills its level, # is the last."""
    levels = wanted.split("/")
    return (
        0 < len(wanted.encode()) <= 65_535
        and "\0" not in wanted
        and all(level in ("+", "#") or not set("+#") & set(level) for level in levels)
        and "#" not in levels[:-1]
    )


def _digest(arrival: Arrival) -> str:
    return hashlib.sha256(f"{arrival.topic}\0".encode() + arrival.payload).hexdigest()
