"""A Sparkplug edge node of another maker at a real mosquitto, judged by the shipped profile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from rigs.mosquitto import Broker
from rigs.ports import wait_until
from rigs.sparkplug import EdgeNode, metric
from rigs.watched import Watched, watched

TOPIC = "hall/gw-7/belt"
ALARMED = {
    "conditions": {
        "device/alarm": {"enabled": True},
        "value/too-high": {"enabled": True, "when": {"above": {"limit": 50}}},
    }
}


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    made = Broker(tmp_path / "broker").start()
    yield made
    made.stop()


def metrics(alarm: bool, value: float) -> list[dict[str, object]]:
    return [metric("Alarm", alarm, alias=10), metric("Value", value, alias=11)]


def bus_of(broker: Broker) -> dict[str, object]:
    return {"transport": "mqtt", "host": "127.0.0.1", "port": broker.port}


async def subscribed(floor: Watched, broker: Broker) -> None:
    """Until another node under that name, without a word of meaning, was heard."""

    def heard() -> bool:
        broker.publish("spBv1.0/hall/NDATA/gw-7", b"")
        return bool(floor.latest["edge"].payload)

    await wait_until(heard)


def told(floor: Watched) -> dict[str, object]:
    payload = floor.latest["edge"].payload[0]
    assert isinstance(payload, bytes)
    found: dict[str, object] = json.loads(payload)
    return found


async def test_births_data_and_deaths_of_another_maker_are_what_they_are(broker: Broker) -> None:
    async with watched(
        "sparkplug-b", bus_of(broker), overlay=ALARMED, topic=TOPIC, by="pysparkplug"
    ) as floor:
        await subscribed(floor, broker)
        with EdgeNode(broker, "hall", "gw-7", [metric("Uptime", 1, alias=1)]) as node:
            node.device("belt", metrics(False, 5.5))
            await asyncio.to_thread(node.connect)
            await floor.becomes(set())
            await wait_until(lambda: told(floor)["metrics"] == {"Alarm": False, "Value": 5.5})
            node.data("belt", [metric("Alarm", True)])
            await floor.becomes({"device/alarm"})
            node.data("belt", [metric("Alarm", False), metric("Value", 99.0)])
            await floor.becomes({"value/too-high"})
            node.data("belt", [metric("Value", 5.5)])
            await floor.becomes(set())
            node.device_ends("belt")
            await floor.becomes({"device/offline"})
            node.device("belt", metrics(False, 5.5))
            await floor.becomes(set())
            node.kill()
            await floor.becomes({"node/offline"})


async def test_data_by_alias_alone_and_a_number_that_is_missing(broker: Broker) -> None:
    async with watched(
        "sparkplug-b", bus_of(broker), overlay=ALARMED, topic=TOPIC, by="pysparkplug"
    ) as floor:
        await subscribed(floor, broker)
        with EdgeNode(broker, "hall", "gw-7") as node:
            node.device("belt", metrics(False, 5.5))
            await asyncio.to_thread(node.connect)
            await wait_until(lambda: told(floor)["birth"] == "seen")
            # The birth of the node has number 0, that of the device 1.
            node.message("DDATA", "belt", [metric(None, True, alias=10)], seq=2)
            await floor.becomes({"device/alarm"})
            node.message("DDATA", "belt", [metric(None, False, alias=10)], seq=4)
            await floor.becomes({"node/messages-lost"})
            assert told(floor)["lost"] == 1


async def test_a_watcher_that_comes_late_knows_nothing_by_alias(broker: Broker) -> None:
    with EdgeNode(broker, "hall", "gw-7") as node:
        node.device("belt", metrics(False, 5.5))
        async with watched("sparkplug-b", bus_of(broker), topic=TOPIC, by="pysparkplug") as first:
            await subscribed(first, broker)
            await asyncio.to_thread(node.connect)
            await wait_until(lambda: told(first)["birth"] == "seen")
        # Another agent, with a session of its own at the broker: the births have gone by.
        late = bus_of(broker) | {"client_id": "late"}
        async with watched("sparkplug-b", late, overlay=ALARMED, topic=TOPIC, by="pysparkplug") as floor:
            await subscribed(floor, broker)
            node.message("DDATA", "belt", [metric(None, True, alias=10)], seq=2)
            await wait_until(lambda: told(floor)["message"] == "DDATA")
            assert told(floor)["bad"] == dict.fromkeys(("Alarm", "Value"), "its birth was not seen")
            await floor.becomes({"node/not-born"})
