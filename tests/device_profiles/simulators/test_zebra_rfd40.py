"""A simulated RFID sled at a real mosquitto, through the real transport and the shipped profile."""

from __future__ import annotations

from rigs.mosquitto import Broker as Mosquitto
from rigs.ports import wait_until
from rigs.watched import watched

from device_profiles.simulators.mqtt import Broker
from device_profiles.simulators.zebra_rfd40 import Sled

TOPIC, EVENTS = "acme/MGMT/clients/rfid/S4711", "acme/MGMT/clients/event/S4711"
RAISES = {
    "battery": "battery/alert",
    "power": "power/alert",
    "network": "network/alert",
    "firmware": "firmware/alert",
    "download": "download/alert",
    "unknown_alert": "sled/unclassified",
    "unknown_connection": "presence/unclassified",
    "power_cut": "presence/offline",
}
OVERLAY = {"reads": {"events": {"topic": EVENTS}}}


async def test_each_alert_is_one_condition_until_it_is_cleared(mosquitto: Mosquitto) -> None:
    sled = Sled(Broker(port=mosquitto.port), TOPIC, EVENTS)
    assert RAISES.keys() == set(sled.faults)
    await sled.start()
    bus = {"transport": "mqtt", "host": "127.0.0.1", "port": mosquitto.port}
    async with watched("zebra-rfd40", bus, overlay=OVERLAY, topic=TOPIC) as floor:
        await wait_until(lambda: floor.latest["connection"].payload)
        for fault, condition in RAISES.items():
            sled.set(fault)
            await floor.becomes({condition})
            if fault not in ("power_cut", "unknown_connection"):
                # QoS 1 may bring it twice, and a heartbeat says nothing about it.
                sled.set(fault)
                before = floor.seen["events"]
                sled.heartbeat()
                await wait_until(lambda: floor.seen["events"] > before)  # noqa: B023
                await floor.becomes({condition})
            sled.set(fault, False)
            await floor.becomes(set())
    await sled.stop()


async def test_a_sled_that_is_connected_and_stays_silent_is_missed(mosquitto: Mosquitto) -> None:
    sled = Sled(Broker(port=mosquitto.port), TOPIC, EVENTS)
    await sled.start()
    bus = {"transport": "mqtt", "host": "127.0.0.1", "port": mosquitto.port}
    patience = {"conditions": {"presence/no-heartbeat": {"enabled": True, "when": {"no_data_s": {"s": 90}}}}}
    async with watched("zebra-rfd40", bus, overlay=OVERLAY | patience, topic=TOPIC) as floor:
        await wait_until(lambda: floor.latest["connection"].payload)
        for _ in range(4):
            before = floor.seen["events"]
            sled.heartbeat()
            await wait_until(lambda: floor.seen["events"] > before)  # noqa: B023
            floor.trial.wait(60)
            assert floor.active() == frozenset()
        floor.trial.wait(31)
        assert floor.active() == {"presence/no-heartbeat"}
        sled.heartbeat()
        await wait_until(lambda: not floor.active())
    await sled.stop()
