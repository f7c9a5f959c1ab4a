"""A simulated Homie device at a real mosquitto, through the real transport and the shipped profile."""

from __future__ import annotations

import pytest
from rigs.mosquitto import Broker as Mosquitto
from rigs.ports import wait_until
from rigs.watched import watched

from device_profiles.simulators.homie import HomieDevice
from device_profiles.simulators.mqtt import Broker

RAISES = {
    "starting": {"presence/never-ready"},
    "disconnected": {"presence/disconnected"},
    "sleeping": set(),
    "alert": {"device/alert"},
    "battery_alert": {"device/alerts"},
    "unknown_state": {"device/unclassified"},
    "power_cut": {"presence/lost"},
    "root_lost": {"presence/lost"},
}
BEHIND_A_ROOT = {"reads": {"root": {"topic": "homie/5/hub-1/$state"}}}


@pytest.mark.parametrize(("version", "root"), [(5, "hub-1"), (5, None), (4, None)])
async def test_each_state_of_the_device_is_what_the_convention_says(
    mosquitto: Mosquitto, version: int, root: str | None
) -> None:
    device = HomieDevice(Broker(port=mosquitto.port), "lamp-1", root=root, version=version)
    assert RAISES.keys() == set(device.faults)
    await device.start()
    bus = {"transport": "mqtt", "host": "127.0.0.1", "port": mosquitto.port}
    preset, overlay = "homie-4" if version == 4 else None, BEHIND_A_ROOT if root else None
    async with watched("homie", bus, preset=preset, overlay=overlay, topic="lamp-1") as floor:
        await wait_until(lambda: all(floor.latest[read].payload for read in ("state", "root")))
        for fault, active in RAISES.items():
            if (fault == "root_lost" and root is None) or (fault == "battery_alert" and version == 4):
                continue
            before = floor.seen["state"]
            device.set(fault)
            await wait_until(lambda: floor.seen["state"] > before)  # noqa: B023
            await floor.becomes(active)
            device.set(fault, False)
            await floor.becomes(set())
    await device.stop()
