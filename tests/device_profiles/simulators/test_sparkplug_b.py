"""A simulated Sparkplug node at a real mosquitto, through the real transport and the shipped profile."""

from __future__ import annotations

import json

from rigs.mosquitto import Broker as Mosquitto
from rigs.ports import wait_until
from rigs.watched import Watched, watched

from device_profiles.simulators.mqtt import Broker
from device_profiles.simulators.sparkplug_b import EdgeNode
from edge_agent import decode
from edge_agent.sample import Quality, Trouble

RAISES = {
    "alarm": "device/alarm",
    "too_high": "value/too-high",
    "too_low": "value/too-low",
    "device_gone": "device/offline",
    "lost_message": "node/messages-lost",
    "unknown_alias": "node/not-born",
    "power_cut": "node/offline",
}
# Not a fault of the device: its value is not known meanwhile.
UNKNOWN = ("no_value", "bad_quality")
OVERLAY = {
    "conditions": {
        "device/alarm": {"enabled": True},
        "value/too-high": {"enabled": True, "when": {"above": {"limit": 50}}},
        "value/too-low": {"enabled": True, "when": {"below": {"limit": 0}}},
    }
}


def bus_of(mosquitto: Mosquitto) -> dict[str, object]:
    return {"transport": "mqtt", "host": "127.0.0.1", "port": mosquitto.port}


async def born(floor: Watched, node: EdgeNode) -> None:
    """Nothing of it is retained: it is born again until the agent has subscribed."""

    def heard() -> bool:
        node.rebirth()
        return b'"birth": "seen"' in b"".join(map(bytes, floor.latest["edge"].payload))

    await wait_until(heard)


def told(floor: Watched) -> dict[str, object]:
    payload = floor.latest["edge"].payload[0]
    assert isinstance(payload, bytes)
    found: dict[str, object] = json.loads(payload)
    return found


async def test_each_fault_of_a_node_and_its_device_is_one_condition_and_ends_with_it(
    mosquitto: Mosquitto,
) -> None:
    node = EdgeNode(Broker(port=mosquitto.port))
    assert {*RAISES, *UNKNOWN} == set(node.faults)
    await node.start()
    async with watched("sparkplug-b", bus_of(mosquitto), overlay=OVERLAY, topic=node.topic) as floor:
        await born(floor, node)
        for fault, condition in RAISES.items():
            node.set(fault)
            await floor.becomes({condition})
            node.set(fault, False)
            await floor.becomes(set())
    await node.stop()


async def test_the_node_itself_is_watched_without_its_device(mosquitto: Mosquitto) -> None:
    node = EdgeNode(Broker(port=mosquitto.port))
    await node.start()
    topic = node.topic.rpartition("/")[0]
    async with watched("sparkplug-b", bus_of(mosquitto), overlay=OVERLAY, topic=topic) as floor:
        await born(floor, node)
        node.set("device_gone")
        node.set("alarm")
        node.set("power_cut")
        await floor.becomes({"node/offline"})
        node.set("power_cut", False)
        await floor.becomes(set())
    await node.stop()


async def test_a_value_that_is_null_or_of_bad_quality_raises_nothing_and_clears_nothing(
    mosquitto: Mosquitto,
) -> None:
    node = EdgeNode(Broker(port=mosquitto.port))
    node.set("too_high")
    await node.start()
    async with watched("sparkplug-b", bus_of(mosquitto), overlay=OVERLAY, topic=node.topic) as floor:
        await born(floor, node)
        await floor.becomes({"value/too-high"})
        node.set("too_high", False)
        for unknown, why in (("no_value", "null"), ("bad_quality", "its sender says: stale")):
            node.set("too_high")
            await floor.becomes({"value/too-high"})
            node.set(unknown)
            await wait_until(lambda: told(floor)["bad"] == {"Value": why})  # noqa: B023
            node.set("too_high", False)
            await wait_until(lambda: told(floor)["bad"] == {"Value": why})  # noqa: B023
            assert floor.active() == {"value/too-high"}
            node.set(unknown, False)
            await floor.becomes(set())
    await node.stop()


async def test_the_late_will_of_an_earlier_session_ends_nothing(mosquitto: Mosquitto) -> None:
    node = EdgeNode(Broker(port=mosquitto.port))
    await node.start()
    async with watched("sparkplug-b", bus_of(mosquitto), topic=node.topic) as floor:
        await born(floor, node)
        await wait_until(lambda: told(floor)["message"] == "DDATA")
        node.late_will()
        node.set("too_high")
        await wait_until(lambda: told(floor)["metrics"] == {"Alarm": False, "Value": 99.0})
        # Data alone have said so: the birth before them still counts.
        assert (told(floor)["message"], told(floor)["birth"]) == ("DDATA", "seen")
    await node.stop()


async def test_what_is_no_payload_is_told_and_the_next_message_is_read_as_before(
    mosquitto: Mosquitto,
) -> None:
    node = EdgeNode(Broker(port=mosquitto.port))
    await node.start()
    async with watched("sparkplug-b", bus_of(mosquitto), topic=node.topic) as floor:
        await born(floor, node)
        node.raw("DDATA", b"\x0f not protobuf")
        await wait_until(lambda: floor.latest["edge"].trouble is Trouble.WRONG_ANSWER)
        assert floor.latest["edge"].detail.startswith("DDATA is no payload of Sparkplug B")
        node.rebirth()
        await wait_until(lambda: floor.latest["edge"].trouble is None)
    await node.stop()


async def test_an_agent_that_comes_after_the_birth_knows_no_value_and_says_so(mosquitto: Mosquitto) -> None:
    node = EdgeNode(Broker(port=mosquitto.port))
    await node.start()
    async with watched("sparkplug-b", bus_of(mosquitto), topic=node.topic) as first:
        await born(first, node)
    # Another agent: it has another session at the broker, and was not there when the node was born.
    bus = bus_of(mosquitto) | {"client_id": "late"}
    async with watched("sparkplug-b", bus, overlay=OVERLAY, topic=node.topic) as floor:

        def heard() -> bool:
            node.set("alarm")
            return bool(floor.latest["edge"].payload)

        await wait_until(heard)
        assert told(floor)["birth"] == "missing"
        samples = decode.samples(floor.trial.device, floor.latest["edge"])
        said = {one.signal: one for one in samples}
        assert said["alarm"].quality is Quality.BAD
        assert said["alarm"].detail == "its birth was not seen"
        await floor.becomes({"node/not-born"})
        node.rebirth()
        await floor.becomes({"device/alarm"})
    await node.stop()
