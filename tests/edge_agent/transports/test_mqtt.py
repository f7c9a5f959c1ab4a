"""MQTT against a real mosquitto: TLS, passwords, wills, retained messages, a broker that dies and returns."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme
import uvloop
from pydantic import ValidationError
from rigs.mosquitto import Broker
from rigs.ports import free_port, wait_until
from rigs.readings import LoopTicks, Readings, device, running, stamp

from edge_agent import gather
from edge_agent.bus import broker as connection
from edge_agent.bus.broker import QUEUE
from edge_agent.device import Device
from edge_agent.profile import TopicRead
from edge_agent.sample import Reading, Trouble
from edge_agent.transports import mqtt
from edge_agent.transports.mqtt import MAX_PAYLOAD_BYTES, Settings, Tls, Transport, default_client_id

PROTOCOLS = ["3.1.1", "5"]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    made = Broker(tmp_path / "broker").start()
    yield made
    made.stop()


def beacon(name: str = "dock-7", **reads: TopicRead) -> Device:
    return device(name, dict(reads or {"presence": TopicRead(topic="tele/{topic}/LWT")}), topic=name)


def transport(broker: Broker, readings: Readings, *devices: Device, **keys: object) -> Transport:
    settings = Settings.model_validate({"name": "bus", "host": "127.0.0.1", "port": broker.port} | keys)
    return Transport(settings, devices, readings.deliver, stamp)


def link_up(readings: Readings) -> Callable[[], bool]:
    return lambda: any(reading.trouble is None for reading in readings)


async def publish(broker: Broker, topic: str, payload: str | bytes, **how: object) -> None:
    await asyncio.to_thread(lambda: broker.publish(topic, payload, **how))


async def subscribed(readings: Readings, broker: Broker) -> None:
    await broker.reaches(readings, "tele/dock-7/LWT")


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_what_a_device_publishes_arrives_for_its_own_read(broker: Broker, protocol: str) -> None:
    readings = Readings()
    gate = beacon("gate-8", state=TopicRead(topic="gates/{topic}/state", format="json", qos=0))
    async with running(transport(broker, readings, beacon(), gate, protocol=protocol).run()):
        await subscribed(readings, broker)
        await publish(broker, "tele/dock-7/LWT", "Online")
        await publish(broker, "gates/gate-8/state", '{"open": true}')
        await publish(broker, "gates/another/state", '{"open": true}')
        await readings.until(2)
    assert [(r.device, r.read, r.payload) for r in readings] == [
        ("dock-7", "presence", (b"Online",)),
        ("gate-8", "state", (b'{"open": true}',)),
    ]


async def test_one_topic_may_feed_several_devices(broker: Broker) -> None:
    readings = Readings()
    both = [device(name, {"bridge": TopicRead(topic="bridge/state")}) for name in ("a", "b")]
    async with running(transport(broker, readings, *both).run()):
        await wait_until(link_up(readings))
        await publish(broker, "bridge/state", "offline", retain=True)
        await readings.until(1, of="a")
        await readings.until(1, of="b")
    assert readings.troubles() == []


async def test_a_wildcard_in_a_profile_is_heard(broker: Broker) -> None:
    readings = Readings()
    one = beacon(alerts=TopicRead(topic="homie/{topic}/$alert/+"))
    async with running(transport(broker, readings, one).run()):
        await wait_until(link_up(readings))
        await publish(broker, "homie/dock-7/$alert/battery", "low", retain=True)
        await readings.until(1)
    assert readings.payloads() == [(b"low",)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_an_alert_that_ended_while_we_were_away_is_gone_when_all_that_is_retained_has_come(
    broker: Broker, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt, "SETTLED_AFTER_S", 0.3)
    one = beacon(alerts=TopicRead(topic="homie/{topic}/$alert/+", format="map"))
    readings = Readings()
    watching = transport(broker, readings, one, protocol=protocol)
    async with running(watching.run()):
        # Nothing is retained: that there is no alert is known too.
        await readings.until(1)
        assert readings.payloads() == [(b'{"texts": {}}',)]
        await publish(broker, "homie/dock-7/$alert/battery", "low", retain=True)
        await publish(broker, "homie/dock-7/$alert/door", "open", retain=True)
        await readings.until(3)
        assert readings.payloads()[-1] == (b'{"texts": {"battery": "low", "door": "open"}}',)
        broker.kill()
        await readings.until_trouble(Trouble.NO_LINK)
        broker.start()
        await publish(broker, "homie/dock-7/$alert/door", "wide open", retain=True)
        await wait_until(lambda: readings.payloads()[-1] == (b'{"texts": {"door": "wide open"}}',))
    # It was never said that the door had no alert.
    assert all(b"door" in bytes(payload[0]) for payload in readings.payloads()[2:])


async def test_on_a_broker_that_is_never_still_what_is_retained_has_come_after_a_while(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt, "SETTLED_AFTER_S", 30.0)
    monkeypatch.setattr(mqtt, "SETTLED_AT_LAST_S", 1.0)
    one = beacon(presence=TopicRead(topic="tele/{topic}/LWT"), alerts=TopicRead(topic="a/+", format="map"))
    readings = Readings()
    async with running(transport(broker, readings, one).run()):
        await subscribed(readings, broker)
        await wait_until(lambda: (b'{"texts": {}}',) in readings.payloads())


async def test_what_was_kept_from_before_is_marked_as_retained(broker: Broker) -> None:
    await publish(broker, "tele/dock-7/LWT", "Online", retain=True)
    readings = Readings()
    async with running(transport(broker, readings, beacon()).run()):
        await readings.until(1)
        await publish(broker, "tele/dock-7/LWT", "Offline", retain=True)
        await readings.until(2)
    assert [(r.payload, r.retained) for r in readings if r.payload] == [
        ((b"Online",), True),
        ((b"Offline",), False),
    ]


async def test_the_will_of_a_device_that_lost_its_power_arrives(broker: Broker) -> None:
    readings = Readings()
    async with running(transport(broker, readings, beacon()).run()):
        await subscribed(readings, broker)
        with broker.client(will=("tele/dock-7/LWT", "Offline")) as beacon_itself:
            beacon_itself.publish("tele/dock-7/LWT", "Online", qos=1)
            await readings.until(1)
            cut_off = beacon_itself.socket()
            assert cut_off is not None
            cut_off.shutdown(socket.SHUT_RDWR)
            await readings.until(2)
    assert readings.payloads()[:2] == [(b"Online",), (b"Offline",)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_broker_with_tls_and_passwords_lets_us_in(tmp_path: Path, protocol: str) -> None:
    broker = Broker(tmp_path / "b", users={"andon": "s3cret-word"}, tls=trustme.CA()).start()
    password = tmp_path / "password"
    password.write_text("s3cret-word\n")
    readings = Readings()
    keys = {"username": "andon", "password_file": password, "tls": {"ca_file": broker.ca_file}}
    async with running(transport(broker, readings, beacon(), protocol=protocol, **keys).run()):
        await subscribed(readings, broker)
        # More than one TLS record at once, and more than the descriptor shows.
        for number in range(50):
            await publish(broker, "tele/dock-7/LWT", f"{number} " + "x" * 20_000)
        await readings.until(50)
    assert [bytes(r.payload[0]).split()[0] for r in readings] == [b"%d" % number for number in range(50)]
    broker.stop()


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_wrong_password_is_said_in_words_without_the_password(
    tmp_path: Path, protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    broker = Broker(tmp_path / "b", users={"andon": "s3cret-word"}).start()
    password = tmp_path / "password"
    password.write_text("guessed-word")
    readings = Readings()
    keys = {"username": "andon", "password_file": password, "protocol": protocol}
    async with running(transport(broker, readings, beacon(), **keys).run()):
        refused = await readings.until_trouble(Trouble.NO_LINK)
    assert f"the broker 127.0.0.1:{broker.port} refuses us: " in refused.detail
    assert "guessed-word" not in refused.detail + capsys.readouterr().out
    broker.stop()


async def test_a_broker_with_another_certificate_is_refused(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "b", tls=trustme.CA()).start()
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    readings = Readings()
    async with running(transport(broker, readings, beacon(), tls={"ca_file": other}).run()):
        refused = await readings.until_trouble(Trouble.NO_LINK)
    assert "certificate" in refused.detail
    broker.stop()


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (
            {"username": "x", "password_file": "/nowhere/password"},
            "password file /nowhere/password cannot be",
        ),
        ({"tls": {"ca_file": "/nowhere/ca.pem"}}, "TLS file cannot be used (/nowhere/ca.pem)"),
        ({"host": "broker.invalid"}, "broker.invalid"),
        ({"host": "broker..hall"}, "the name of the broker broker..hall:"),
    ],
)
async def test_what_is_wrong_on_our_side_is_said_in_words(
    broker: Broker, keys: dict[str, object], words: str
) -> None:
    readings = Readings()
    async with running(transport(broker, readings, beacon(), **keys).run()):
        refused = await readings.until_trouble(Trouble.NO_LINK)
    assert words in refused.detail


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_broker_that_is_killed_and_returns_is_no_link_and_then_heard_again(
    tmp_path: Path, protocol: str
) -> None:
    broker = Broker(tmp_path / "b").start()
    readings = Readings()
    async with running(transport(broker, readings, beacon(), protocol=protocol).run()):
        await subscribed(readings, broker)
        broker.kill()
        await readings.until_trouble(Trouble.NO_LINK)
        broker.start()
        await subscribed(readings, broker)
        await publish(broker, "tele/dock-7/LWT", "Online")
        await readings.until(1)
    assert readings.payloads() == [(b"Online",)]
    broker.stop()


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_what_was_published_while_we_were_away_was_kept_for_us(broker: Broker, protocol: str) -> None:
    readings = Readings()
    async with running(transport(broker, readings, beacon(), protocol=protocol).run()):
        await subscribed(readings, broker)
    await publish(broker, "tele/dock-7/LWT", "Offline")
    await publish(broker, "tele/dock-7/LWT", "Online")
    later = Readings()
    async with running(transport(broker, later, beacon(), protocol=protocol).run()):
        await later.until(2)
    assert later.payloads() == [(b"Offline",), (b"Online",)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_message_whose_commit_never_ended_is_sent_again_after_a_restart(
    broker: Broker, protocol: str
) -> None:
    begun: list[Reading] = []

    class PlugPulled(Readings):
        async def deliver(self, reading: Reading) -> None:
            if reading.payload == (b"fault",):
                begun.append(reading)
                await asyncio.Event().wait()
            self.append(reading)

    before, after = PlugPulled(), Readings()
    async with running(transport(broker, before, beacon(), protocol=protocol).run()):
        await subscribed(before, broker)
        await publish(broker, "tele/dock-7/LWT", "fault")
        await wait_until(lambda: begun)
    async with running(transport(broker, after, beacon(), protocol=protocol).run()):
        await after.until(1)
        await publish(broker, "tele/dock-7/LWT", "next")
        await after.until(2)
    assert after.payloads() == [(b"fault",), (b"next",)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_what_was_committed_is_not_sent_again_after_a_restart(broker: Broker, protocol: str) -> None:
    before, after = Readings(), Readings()
    async with running(transport(broker, before, beacon(), protocol=protocol).run()):
        await subscribed(before, broker)
        await publish(broker, "tele/dock-7/LWT", "fault")
        await before.until(1)
    async with running(transport(broker, after, beacon(), protocol=protocol).run()):
        await wait_until(link_up(after))
        await publish(broker, "tele/dock-7/LWT", "next")
        await after.until(1)
    assert after.payloads() == [(b"next",)]


async def test_a_message_that_was_delivered_and_whose_acknowledgement_was_lost_is_not_delivered_twice(
    broker: Broker,
) -> None:
    async with between(broker.port) as middle:
        readings = Readings()

        class AckLost(Readings):
            async def deliver(self, reading: Reading) -> None:
                if reading.payload == (b"fault",):
                    middle.cut()
                    await wait_until(lambda: not middle.open)
                readings.append(reading)

        work = transport(broker, AckLost(readings), beacon(), port=middle.port).run()
        async with running(work):
            await subscribed(readings, broker)
            await publish(broker, "tele/dock-7/LWT", "fault")
            await readings.until(1)
            await wait_until(lambda: middle.connections >= 2)
            await subscribed_again(readings, broker)
    assert readings.payloads().count((b"fault",)) == 1


async def subscribed_again(readings: Readings, broker: Broker) -> None:
    await publish(broker, "tele/dock-7/LWT", "after")
    await wait_until(lambda: (b"after",) in readings.payloads())


class Between:
    """A connection to the broker that can be cut without either side saying goodbye."""

    def __init__(self, target: int) -> None:
        self._target = target
        self.port = free_port()
        self.connections = 0
        self.open: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self.open |= {writer, far_writer}
        await asyncio.gather(
            self._pass(reader, far_writer), self._pass(far_reader, writer), return_exceptions=True
        )

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while chunk := await source.read(4096):
                sink.write(chunk)
                await sink.drain()
        finally:
            self.open.discard(sink)
            sink.close()

    def cut(self) -> None:
        for writer in list(self.open):
            writer.transport.abort()


@asynccontextmanager
async def between(target: int) -> AsyncIterator[Between]:
    middle = Between(target)
    server = await asyncio.start_server(middle.serve, "127.0.0.1", middle.port)
    yield middle
    server.close()
    middle.cut()
    await wait_until(lambda: not middle.open)


async def test_a_message_that_is_too_large_is_a_wrong_answer_and_the_next_one_is_taken(
    broker: Broker,
) -> None:
    readings = Readings()
    async with running(transport(broker, readings, beacon()).run()):
        await subscribed(readings, broker)
        await publish(broker, "tele/dock-7/LWT", b"x" * (MAX_PAYLOAD_BYTES + 1))
        await publish(broker, "tele/dock-7/LWT", b"x" * MAX_PAYLOAD_BYTES)
        await readings.until(1)
    assert [reading.trouble for reading in readings] == [Trouble.WRONG_ANSWER, None]
    assert "at most 65536" in readings[0].detail


async def test_a_message_that_nobody_can_read_is_a_wrong_answer_once_and_the_next_one_is_taken(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    understood = gather.Map.take

    def take(self: gather.Map, topic: str, payload: bytes, *, retained: bool) -> object:
        if payload == b"poison":
            raise RuntimeError("a fault of ours")
        return understood(self, topic, payload, retained=retained)

    monkeypatch.setattr(gather.Map, "take", take)
    sensor = beacon(alerts=TopicRead(topic="homie/{topic}/$alert/+", format="map"))
    before, after = Readings(), Readings()
    async with running(transport(broker, before, sensor).run()):
        while not before.payloads():
            await publish(broker, "homie/dock-7/$alert/battery", "full")
        await publish(broker, "homie/dock-7/$alert/battery", "poison")
        await before.until_trouble(Trouble.WRONG_ANSWER)
        heard = len(before.payloads())
        await publish(broker, "homie/dock-7/$alert/battery", "low")
        await before.until(heard + 1)
    assert [one.trouble for one in before if one.trouble not in (None, Trouble.NO_LINK)] == [
        Trouble.WRONG_ANSWER
    ]
    # Nor does the broker keep it for us.
    async with running(transport(broker, after, sensor).run()):
        await wait_until(link_up(after))
        await publish(broker, "homie/dock-7/$alert/battery", "next")
        await after.until(1)
    assert Trouble.WRONG_ANSWER not in after.troubles()


class SlowDisk(Readings):
    """Takes nothing after the first message, until it is free again."""

    def __init__(self) -> None:
        self.free = asyncio.Event()

    async def deliver(self, reading: Reading) -> None:
        if reading.payload == (b"0",):
            await self.free.wait()
        self.append(reading)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_while_the_disk_is_slow_the_broker_keeps_the_messages_and_none_is_lost(
    tmp_path: Path, protocol: str
) -> None:
    broker = Broker(tmp_path / "b", more="max_queued_messages 0\nmax_inflight_messages 0").start()
    readings = SlowDisk()
    work = transport(broker, readings, beacon(), protocol=protocol)
    async with running(work.run()):
        await subscribed(readings, broker)
        with broker.client() as publisher:
            for number in range(QUEUE * 5):
                publisher.publish("tele/dock-7/LWT", str(number), qos=1)
            readings.free.set()
            await readings.until(QUEUE * 5)
    assert readings.payloads() == [(b"%d" % number,) for number in range(QUEUE * 5)]
    broker.stop()


# --- brokers that misbehave -------------------------------------------------------------------------------


@asynccontextmanager
async def odd_broker(*answers: bytes) -> AsyncIterator[int]:
    """Answers the first packet with the first answer, and so on; then says nothing."""
    serving: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        try:
            for answer in answers:
                packet = await reader.read(4096)
                # A SUBACK carries the number of its SUBSCRIBE.
                writer.write(answer.replace(b"ID", packet[2:4]))
            await reader.read()
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for task in serving:
        assert task is not None
        task.cancel()
    await asyncio.gather(*(task for task in serving if task is not None), return_exceptions=True)


CONNACK = b"\x20\x02\x00\x00"
# Return code 0x80, failure (MQTT 3.1.1, 3.9.3).
SUBACK_REFUSED = b"\x90\x03ID\x80"


def odd_transport(port: int, readings: Readings) -> Transport:
    settings = Settings(name="bus", host="127.0.0.1", port=port)
    return Transport(settings, [beacon()], readings.deliver, stamp)


async def test_a_refused_subscription_is_a_wrong_answer_in_words() -> None:
    readings = Readings()
    async with odd_broker(CONNACK, SUBACK_REFUSED) as port, running(odd_transport(port, readings).run()):
        refused = await readings.until_trouble(Trouble.WRONG_ANSWER)
    assert refused.detail.startswith("the broker refuses the subscription: ")
    assert Trouble.NO_LINK not in readings.troubles()


async def test_a_refused_subscription_is_asked_for_again_and_said_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(connection, "RESUBSCRIBE_S", 0.0)
    readings = Readings()
    answers = (CONNACK, SUBACK_REFUSED, SUBACK_REFUSED, SUBACK_REFUSED)
    async with odd_broker(*answers) as port, running(odd_transport(port, readings).run()):
        await readings.until_trouble(Trouble.WRONG_ANSWER, count=3)
    assert capsys.readouterr().out.count("subscription refused") == 1


@pytest.mark.parametrize(
    "rubbish",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x20\x00",
        b"\xff" * 100,
        CONNACK + b"\x30\x02\xff\xff",
        CONNACK + b"\x32\x03\x00\x00\x01",
        CONNACK + b"\x90\x00",
        CONNACK + b"\xf0\xff\xff\xff\xff\xff",
    ],
)
async def test_a_broker_that_talks_rubbish_is_no_link_and_tried_again(rubbish: bytes) -> None:
    readings = Readings()
    async with odd_broker(rubbish) as port, running(odd_transport(port, readings).run()):
        await readings.until_trouble(Trouble.NO_LINK)


async def test_a_full_queue_stops_the_broker_and_not_the_agent() -> None:
    sent_all = asyncio.Event()
    messages = [
        _message(str(number).encode() if number == 0 else b"%d " % number + b"x" * 50_000)
        for number in range(1000)
    ]

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(CONNACK)
        for message in messages:
            writer.write(message)
            await writer.drain()
        sent_all.set()
        await reader.read()
        writer.close()

    readings, ticks = SlowDisk(), LoopTicks()
    server = await asyncio.start_server(flood, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with running(ticks.run()), running(odd_transport(port, readings).run()):
        await wait_until(link_up(readings))
        before = ticks.count
        await wait_until(lambda: ticks.count > before + 20_000)
        # 50 MB do not fit into the queue and what the kernel holds.
        assert not sent_all.is_set()
        readings.free.set()
        await readings.until(1000)
    server.close()
    assert [int(payload[0].split()[0]) for payload in readings.payloads()] == list(range(1000))


def _message(payload: bytes) -> bytes:
    """A PUBLISH of QoS 0 (MQTT 3.1.1, 3.3)."""
    body = struct.pack(">H", 15) + b"tele/dock-7/LWT" + payload
    length, rest = b"", len(body)
    while True:
        rest, digit = divmod(rest, 128)
        length += bytes([digit | 0x80 if rest else digit])
        if not rest:
            return b"\x30" + length + body


async def test_a_topic_that_is_no_text_is_passed_over() -> None:
    readings = Readings()
    bad = b"\x30\x05" + struct.pack(">H", 2) + b"\xff\xfe" + b"x"
    async with (
        odd_broker(CONNACK + bad + _message(b"1")) as port,
        running(odd_transport(port, readings).run()),
    ):
        await readings.until(1)
    assert readings.payloads() == [(b"1",)]
    assert readings.troubles() == []


async def test_connecting_to_a_broker_that_says_nothing_does_not_hold_up_the_loop() -> None:
    readings, ticks = Readings(), LoopTicks()
    async with odd_broker() as port, running(ticks.run()):
        tls = Settings(name="bus", host="127.0.0.1", port=port, tls=Tls())
        async with running(Transport(tls, [beacon()], readings.deliver, stamp).run()):
            await readings.until_trouble(Trouble.NO_LINK)
    assert ticks.count > 1000


async def test_without_devices_there_is_nothing_to_connect_to() -> None:
    await Transport(Settings(name="bus", host="x"), [], Readings().deliver, stamp).run()


def test_what_is_no_node_of_sparkplug_is_refused_by_the_devices_name() -> None:
    edge = TopicRead(topic="{topic}", format="sparkplug")
    settings = Settings(name="bus", host="x")
    settings.check([device("belt-1", {"edge": edge}, topic="hall/gw-7/belt")])
    with pytest.raises(ValueError, match="belt-1: topic: 'hall': expected group/node, or group/node/device"):
        settings.check([device("belt-1", {"edge": edge}, topic="hall")])


@pytest.mark.parametrize("wrong", ["a#", "a/#/b", "a+/b"])
def test_a_topic_that_mqtt_does_not_allow_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="is no MQTT topic filter"):
        odd_transport_with(wrong)


def odd_transport_with(wrong: str) -> Transport:
    one = beacon(r=TopicRead(topic=wrong))
    return Transport(Settings(name="bus", host="x"), [one], Readings().deliver, stamp)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"protocol": "3.1"}, "protocol"),
        ({"password_file": "/x"}, "needs username"),
        ({"password": "x"}, "password"),
        ({"tls": {"insecure": True}}, "insecure"),
        ({"keepalive_s": 0}, "keepalive_s"),
    ],
)
def test_a_wrong_setting_is_refused(keys: dict[str, object], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        Settings.model_validate({"name": "bus", "transport": "mqtt", "host": "x"} | keys)


def test_the_client_id_is_the_same_after_each_start_and_another_on_each_machine(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("a" * 32)
    other.write_text("b" * 32)
    assert default_client_id("broker", one) == default_client_id("broker", one)
    assert default_client_id("broker", one) != default_client_id("broker", other)
    assert "a" * 12 not in default_client_id("broker", one)


def test_the_usual_ports_are_assumed() -> None:
    assert Settings(name="bus", host="x").port_number == 1883
    assert Settings(name="bus", host="x", tls=Tls()).port_number == 8883


@pytest.mark.parametrize(
    "story",
    [
        test_a_broker_that_is_killed_and_returns_is_no_link_and_then_heard_again,
        test_a_broker_with_tls_and_passwords_lets_us_in,
    ],
)
def test_it_is_the_same_on_the_loop_that_the_agent_runs_on(
    tmp_path: Path, story: Callable[[Path, str], Awaitable[None]]
) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_awaited(story, tmp_path))


async def _awaited(story: Callable[[Path, str], Awaitable[None]], folder: Path) -> None:
    await story(folder, "5")
