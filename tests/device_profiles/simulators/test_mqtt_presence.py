"""Simulated MQTT devices at a real mosquitto, through the real transport and the shipped profile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme
from rigs.mosquitto import Broker as Mosquitto
from rigs.ports import wait_until
from rigs.watched import LONG_S, Watched, watched

from device_profiles.simulators.mqtt import Broker
from device_profiles.simulators.mqtt_presence import MqttDevice, Style

PLAIN_JSON = {
    "reads": {"presence": {"topic": "{topic}/status", "format": "json"}},
    "signals": {"online": {"path": "online"}},
}
OFFLINE = frozenset({"presence/offline"})


@pytest.fixture(params=["tasmota", "json"])
async def lamp(request: pytest.FixtureRequest, mosquitto: Mosquitto) -> AsyncIterator[MqttDevice]:
    device = MqttDevice(Broker(port=mosquitto.port), "lamp-1", style=request.param)
    yield device
    await device.stop()


def bus_of(device: MqttDevice) -> dict[str, object]:
    return {"transport": "mqtt", "host": "127.0.0.1", "port": device.broker.port}


def overlay_of(style: Style) -> dict[str, object]:
    return dict(PLAIN_JSON) if style == "json" else {}


async def becomes(floor: Watched, active: frozenset[str]) -> None:
    """Sooner or later, with all delays over."""

    def is_so() -> bool:
        floor.trial.wait(LONG_S)
        return floor.trial.active() == active and "presence/offline" not in floor.trial.detector.unsettled()

    await wait_until(is_so, what=f"{active}, newest {floor.newest}")
    floor.active()


async def test_a_power_cut_is_offline_by_the_devices_will_and_ends_when_it_is_back(lamp: MqttDevice) -> None:
    await lamp.start()
    overlay = overlay_of(lamp.style)
    async with watched("mqtt-presence", bus_of(lamp), overlay=overlay, topic="lamp-1") as floor:
        await becomes(floor, frozenset())
        lamp.set("power_cut")
        await becomes(floor, OFFLINE)
        lamp.set("power_cut", False)
        await becomes(floor, frozenset())


async def test_a_device_that_takes_its_leave_itself_is_offline_too(lamp: MqttDevice) -> None:
    await lamp.start()
    overlay = overlay_of(lamp.style)
    async with watched("mqtt-presence", bus_of(lamp), overlay=overlay, topic="lamp-1") as floor:
        await becomes(floor, frozenset())
        lamp.set("says_offline")
        await becomes(floor, OFFLINE)
        lamp.set("says_offline", False)
        await becomes(floor, frozenset())


async def test_what_was_said_before_we_came_counts_because_the_broker_kept_it(lamp: MqttDevice) -> None:
    await lamp.start()
    lamp.set("says_offline")
    overlay = overlay_of(lamp.style)
    async with watched("mqtt-presence", bus_of(lamp), overlay=overlay, topic="lamp-1") as floor:
        await becomes(floor, OFFLINE)
    async with watched("mqtt-presence", bus_of(lamp), overlay=overlay, topic="lamp-1") as later:
        await becomes(later, OFFLINE)
        # What was not acknowledged in time may come once more before it.
        await wait_until(lambda: later.newest is not None and later.newest.retained)


async def test_a_word_that_nobody_knows_is_told_and_offline_stays_as_it_was(lamp: MqttDevice) -> None:
    await lamp.start()
    overlay = overlay_of(lamp.style)
    async with watched("mqtt-presence", bus_of(lamp), overlay=overlay, topic="lamp-1") as floor:
        lamp.set("says_offline")
        await becomes(floor, OFFLINE)
        lamp.set("unknown_word")
        await floor.becomes({"presence/offline", "presence/unclassified"})
        lamp.set("unknown_word", False)
        lamp.set("says_offline", False)
        await becomes(floor, frozenset())


async def test_what_nobody_can_read_is_neither_online_nor_offline(lamp: MqttDevice) -> None:
    await lamp.start()
    lamp.set("says_offline")
    overlay = overlay_of(lamp.style)
    async with watched("mqtt-presence", bus_of(lamp), overlay=overlay, topic="lamp-1") as floor:
        await becomes(floor, OFFLINE)
        lamp.set("babbles")
        await wait_until(lambda: floor.newest and floor.newest.payload == (b"\xff\x00{",))
        # As a text it is a word that nobody knows, as JSON it is nothing.
        await becomes(floor, OFFLINE | ({"presence/unclassified"} if lamp.style == "tasmota" else set()))
        lamp.set("babbles", False)
        lamp.set("says_offline", False)
        await becomes(floor, frozenset())


async def test_a_device_with_a_password_behind_tls_is_understood(tmp_path: Path) -> None:
    mosquitto = Mosquitto(tmp_path / "broker", users={"lamp": "geheim"}, tls=trustme.CA()).start()
    broker = Broker(port=mosquitto.port, username="lamp", password="geheim", ca_file=mosquitto.ca_file)
    lamp = MqttDevice(broker, "lamp-1")
    await lamp.start()
    secret = tmp_path / "password"
    secret.write_text("geheim\n")
    secret.chmod(0o600)
    bus = bus_of(lamp) | {
        "tls": {"ca_file": str(mosquitto.ca_file)},
        "username": "lamp",
        "password_file": str(secret),
    }
    async with watched("mqtt-presence", bus, topic="lamp-1") as floor:
        await becomes(floor, frozenset())
        lamp.set("power_cut")
        await becomes(floor, OFFLINE)
    await lamp.stop()
    mosquitto.stop()
