"""How fast the agent takes what comes: messages of QoS 1 of a real broker, acknowledged when durable, against
a subscriber of paho that throws them away; and samples through the detector.
"""

from __future__ import annotations

import asyncio
import secrets
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as paho
import uvloop
from bench.table import Figure, show
from paho.mqtt.enums import CallbackAPIVersion
from rigs.mosquitto import Broker
from rigs.ports import wait_until
from rigs.readings import running

from edge_agent import detect
from edge_agent.clock import Clock
from edge_agent.config import ProfileFolders
from edge_agent.detect import Detector
from edge_agent.device import Device
from edge_agent.journal import Journal
from edge_agent.recorder import Recorder
from edge_agent.sample import Quality, Reading, Sample
from edge_agent.transports.mqtt import Settings, Transport
from edge_agent.watch import Watch
from edge_agent.wire import Stamp

TOPIC = "sensor-1"
WORDS = f"tele/{TOPIC}/LWT"
# The broker keeps all of them until somebody comes.
KEEP_ALL = "max_queued_messages 0\nmax_inflight_messages 100"


def figures(*, messages: int = 20_000, samples: int = 200_000) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="andon-bench-") as name:
        broker = Broker(Path(name) / "broker", more=KEEP_ALL).start()
        try:
            bare = _bare(broker, messages)
            yield Figure("MQTT messages/s of QoS 1 that a subscriber throws away", bare)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                own = runner.run(_own(broker, Path(name), messages))
            yield Figure(
                "  the same, decoded, watched and acknowledged by the agent", own, "", own / bare, "0.5"
            )
        finally:
            broker.stop()
    yield Figure(
        "samples/s of one device through its detector, none of which changes anything", _detector(samples)
    )


def _bare(broker: Broker, messages: int) -> float:
    came, times = threading.Event(), []

    def count(*_message: object) -> None:
        times.append(time.perf_counter())
        if len(times) == messages:
            came.set()

    def subscriber() -> paho.Client:
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id="bare", clean_session=False)
        client.on_message = count
        client.connect("127.0.0.1", broker.port)
        return client

    first = subscriber()
    first.subscribe(WORDS, qos=1)
    first.loop_start()
    time.sleep(0.5)
    first.disconnect()
    first.loop_stop()
    _publish(broker, messages)
    again = subscriber()
    again.loop_start()
    assert came.wait(120)
    again.disconnect()
    again.loop_stop()
    return (messages - 1) / (times[-1] - times[0])


async def _own(broker: Broker, folder: Path, messages: int) -> float:
    clock = Clock()
    device = Device(
        id=TOPIC, place="", bus="mqtt", profile=ProfileFolders.of(None).load("mqtt-presence"), topic=TOPIC
    )
    journal = await Journal.open(folder, new_id=lambda: secrets.token_hex(16), stamp=clock.stamp)
    watch = await Watch.start([device], journal, Recorder([device]), clock.stamp)
    times: list[float] = []

    async def deliver(reading: Reading) -> None:
        await watch.take(reading)
        if reading.payload:
            times.append(time.perf_counter())

    settings = Settings(name="mqtt", host="127.0.0.1", port=broker.port, client_id="own")
    async with running(Transport(settings, [device], deliver, clock.stamp).run()):
        while not times:
            await asyncio.to_thread(broker.publish, WORDS, "Online")
            await asyncio.sleep(0.2)
    await asyncio.to_thread(_publish, broker, messages)
    times.clear()
    async with running(Transport(settings, [device], deliver, clock.stamp).run()):
        await wait_until(lambda: len(times) >= messages)
    await journal.close()
    return (messages - 1) / (times[messages - 1] - times[0])


def _publish(broker: Broker, messages: int) -> None:
    with broker.client() as client:
        sent = [client.publish(WORDS, "Online", qos=1) for _ in range(messages)]
        sent[-1].wait_for_publish(120)


def _detector(samples: int) -> float:
    profile = ProfileFolders.of(None).load("zebra-zpl")
    start = Stamp(boot="0" * 32, mono_ns=1, wall_ms=1_700_000_000_000, source="ntp")
    detector = Detector(detect.rules(profile.conditions), start=start)
    signal = next(iter(profile.signals))
    began_s = time.perf_counter()
    for tick in range(2, samples + 2):
        at = Stamp(boot=start.boot, mono_ns=tick * 1_000_000, wall_ms=start.wall_ms, source="ntp")
        one = Sample(device="d", signal=signal, value=False, quality=Quality.GOOD, at=at)
        detector.take((one,), at)
    return samples / (time.perf_counter() - began_s)


if __name__ == "__main__":
    show(figures())
