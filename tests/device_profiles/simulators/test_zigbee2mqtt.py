"""A simulated Zigbee device and its bridge at a real mosquitto, through the transport and the profile."""

from __future__ import annotations

import pytest
from rigs.mosquitto import Broker as Mosquitto
from rigs.ports import wait_until
from rigs.watched import watched

from device_profiles.simulators.mqtt import Broker
from device_profiles.simulators.zigbee2mqtt import ZigbeeDevice


@pytest.mark.parametrize("in_json", [False, True])
async def test_what_the_bridge_said_last_means_nothing_while_it_is_away(
    mosquitto: Mosquitto, in_json: bool
) -> None:
    button = ZigbeeDevice(Broker(port=mosquitto.port), "button-1", in_json=in_json)
    await button.start()
    bus = {"transport": "mqtt", "host": "127.0.0.1", "port": mosquitto.port}
    preset = "json" if in_json else None
    async with watched("zigbee2mqtt", bus, preset=preset, topic="button-1") as floor:
        await wait_until(lambda: all(floor.latest[read].payload for read in ("bridge", "device")))
        await floor.becomes(set())
        for fault in ("power_cut", "bridge_leaves"):
            button.set("device_gone")
            await floor.becomes({"presence/offline"})
            button.set(fault)
            await floor.becomes({"presence/offline", "bridge/offline"})
            # It comes back with a device that is well: until then the old word stood.
            button.set("device_gone", False)
            await floor.becomes({"presence/offline", "bridge/offline"})
            button.set(fault, False)
            await floor.becomes(set())
            button.set(fault)
            await floor.becomes({"bridge/offline"})
            button.set(fault, False)
            await floor.becomes(set())
        button.set("unknown_word")
        await floor.becomes({"presence/unclassified"})
        button.set("unknown_word", False)
        await floor.becomes(set())
        button.set("babbles")
        await wait_until(lambda: floor.latest["device"].payload == (b"{",))
        assert floor.active() == frozenset()
    await button.stop()
