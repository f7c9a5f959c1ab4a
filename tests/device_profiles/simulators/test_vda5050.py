"""A simulated vehicle at a real mosquitto, through the real transport and the shipped profile."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from rigs.mosquitto import Broker as Mosquitto
from rigs.ports import wait_until
from rigs.watched import Watched, watched

from device_profiles.simulators.mqtt import Broker
from device_profiles.simulators.vda5050 import VERSIONS, Vehicle
from edge_agent import decode

SCHEMAS = Path(__file__).parents[1] / "vda5050"
RAISES = {
    "fatal_error": "vehicle/fatal-error",
    "critical_error": "vehicle/critical-error",
    "urgent_error": "vehicle/urgent-error",
    "warning": "vehicle/warning",
    "unknown_level": "vehicle/unclassified",
    "offline": "presence/offline",
    "unknown_connection": "presence/unclassified",
    "emergency_stop": "safety/emergency-stop",
    "automatic_stop": "safety/automatic-stop",
    "unknown_stop": "safety/unclassified",
    "field_violation": "safety/field-violation",
    "battery_low": "battery/low",
    "position_lost": "vehicle/position-lost",
    "manual": "vehicle/not-automatic",
    "action_failed": "order/action-failed",
    "unknown_action": "order/unclassified-action",
    "power_cut": "presence/connection-broken",
}
# What a version has no word for.
OF_ONE_VERSION = {3: {"critical_error", "urgent_error"}, 2: {"automatic_stop"}}
UNKNOWN = {"unknown_level", "unknown_connection", "unknown_stop", "unknown_action"}
# Against the clock of the trial, which goes by minutes.
PATIENT = {"conditions": {"presence/no-state": {"enabled": False}}}


def both_are_heard(floor: Watched, vehicle: Vehicle) -> bool:
    """The state is not retained: it is said until the agent has subscribed."""
    vehicle.report()
    return all(floor.latest[read].payload for read in ("connection", "state"))


every_version = pytest.mark.parametrize("version", [2, 3])


@every_version
async def test_each_fault_of_a_vehicle_is_one_condition_and_ends_with_it(
    mosquitto: Mosquitto, version: int
) -> None:
    vehicle = Vehicle(Broker(port=mosquitto.port), version=version)
    assert RAISES.keys() | {"mute"} == set(vehicle.faults)
    await vehicle.start()
    bus = {"transport": "mqtt", "host": "127.0.0.1", "port": mosquitto.port}
    preset = "v3" if version == 3 else None
    async with watched("vda5050", bus, preset=preset, overlay=PATIENT, topic=vehicle.topic) as floor:
        await wait_until(lambda: both_are_heard(floor, vehicle))
        for fault, condition in RAISES.items():
            vehicle.set(fault)
            await floor.becomes({condition})
            vehicle.set(fault, False)
            await floor.becomes(set())
    await vehicle.stop()


async def test_the_evidence_names_the_error_and_an_unknown_level_as_it_was_said(mosquitto: Mosquitto) -> None:
    vehicle = Vehicle(Broker(port=mosquitto.port), version=3)
    for fault in ("fatal_error", "unknown_level"):
        vehicle.set(fault)
    await vehicle.start()
    bus = {"transport": "mqtt", "host": "127.0.0.1", "port": mosquitto.port}
    async with watched("vda5050", bus, preset="v3", topic=vehicle.topic) as floor:
        await wait_until(lambda: both_are_heard(floor, vehicle))
        said = {one.signal: one.value for one in decode.samples(floor.trial.device, floor.latest["state"])}
    assert (said["fatal"], said["unknown_levels"], said["warning"]) == ("scannerDirty", "DISASTER", "")
    await vehicle.stop()


@every_version
async def test_a_vehicle_that_is_connected_and_says_nothing_is_missed(
    mosquitto: Mosquitto, version: int
) -> None:
    vehicle = Vehicle(Broker(port=mosquitto.port), version=version)
    await vehicle.start()
    bus = {"transport": "mqtt", "host": "127.0.0.1", "port": mosquitto.port}
    preset = "v3" if version == 3 else None
    async with watched("vda5050", bus, preset=preset, topic=vehicle.topic) as floor:
        await wait_until(lambda: both_are_heard(floor, vehicle))
        vehicle.set("mute")
        # What was said before may still be on its way.
        await floor.becomes({"presence/no-state"})
        vehicle.set("mute", False)
        await wait_until(lambda: not floor.active())
    await vehicle.stop()


@every_version
def test_what_the_vehicle_publishes_is_what_the_schemas_of_the_standard_take(version: int) -> None:
    vehicle = Vehicle(Broker(), version=version)
    of_another = set().union(*(only for other, only in OF_ONE_VERSION.items() if other != version))
    faults = [fault for fault in RAISES if fault not in UNKNOWN | of_another]
    for fault in ([], *([fault] for fault in faults), faults):
        for one in RAISES:
            (vehicle._on.add if one in fault else vehicle._on.discard)(one)
        for message in (*vehicle.words(), vehicle.will()):
            name = message.topic.rpartition("/")[2]
            schema = json.loads((SCHEMAS / f"{VERSIONS[version]}-{name}.schema.json").read_text("utf-8-sig"))
            jsonschema.validate(json.loads(message.payload), schema)
