"""A driverless vehicle that speaks VDA 5050, version 2.1 or 3.0: its connection with its will, its state."""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from device_profiles.simulators import mqtt, serving
from device_profiles.simulators.mqtt import Broker, Message, MqttSimulator

MAKER, SERIAL = "KIT", "0001"
TOPICS = {2: f"uagv/v2/{MAKER}/{SERIAL}", 3: f"vda5050/v3/{MAKER}/{SERIAL}"}
VERSIONS = {2: "2.1.0", 3: "3.0.0"}
# fault -> errorType, errorLevel
ERRORS = {
    "fatal_error": ("scannerDirty", "FATAL"),
    "critical_error": ("NODE_UNREACHABLE", "CRITICAL"),
    "urgent_error": ("INSTANT_ACTION_STATES_FULL", "URGENT"),
    "warning": ("orderUpdateError", "WARNING"),
    "unknown_level": ("somethingNew", "DISASTER"),
}
CONNECTIONS = {"offline": "OFFLINE", "unknown_connection": "DOZING"}
STOPS = {"emergency_stop": "MANUAL", "automatic_stop": "AUTOACK", "unknown_stop": "PERHAPS"}
ACTIONS = {"action_failed": "FAILED", "unknown_action": "PONDERING"}


class Vehicle(MqttSimulator):
    """``mute``: it stays connected and publishes no state."""

    faults = (
        *ERRORS,
        *CONNECTIONS,
        *STOPS,
        *ACTIONS,
        "field_violation",
        "battery_low",
        "position_lost",
        "manual",
        "mute",
        "power_cut",
    )

    def __init__(self, broker: Broker, *, version: int = 2, topic: str | None = None) -> None:
        super().__init__(broker, f"{SERIAL}-v{version}")
        self.version = version
        self.topic = topic or TOPICS[version]
        # Counted by topic.
        self._headers = {"state": itertools.count(), "connection": itertools.count()}

    def will(self) -> Message:
        return self._connection("CONNECTIONBROKEN" if self.version == 2 else "CONNECTION_BROKEN")

    def words(self) -> Sequence[Message]:
        connection = next((state for fault, state in CONNECTIONS.items() if self.has(fault)), "ONLINE")
        said = [self._connection(connection)]
        return said if self.has("mute") else [*said, self._message("state", self._state())]

    def report(self) -> None:
        """The state once more, as each 30 s or when something changed."""
        self.say(self._message("state", self._state()))

    def _connection(self, state: str) -> Message:
        return self._message("connection", {"connectionState": state}, retain=True, qos=1)

    def _message(self, topic: str, body: dict[str, Any], *, retain: bool = False, qos: int = 0) -> Message:
        header = {
            "headerId": next(self._headers[topic]),
            "timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "version": VERSIONS[self.version],
            "manufacturer": MAKER,
            "serialNumber": SERIAL,
        }
        payload = json.dumps(header | body).encode()
        return Message(topic=f"{self.topic}/{topic}", payload=payload, retain=retain, qos=qos)

    def _state(self) -> dict[str, Any]:
        errors = [
            {"errorType": kind, "errorLevel": level}
            for fault, (kind, level) in ERRORS.items()
            if self.has(fault)
        ]
        action = next((state for fault, state in ACTIONS.items() if self.has(fault)), "RUNNING")
        stop = next((state for fault, state in STOPS.items() if self.has(fault)), "NONE")
        charge = 20 if self.has("battery_low") else 80
        place = {"x": 1.5, "y": 2.0, "theta": 0.0, "mapId": "hall"}
        localized = not self.has("position_lost")
        known = {
            "orderId": "order-1",
            "orderUpdateId": 0,
            "lastNodeId": "n1",
            "lastNodeSequenceId": 0,
            "nodeStates": [],
            "edgeStates": [],
            "driving": not errors,
            "actionStates": [{"actionId": "a1", "actionType": "pick", "actionStatus": action}],
            "operatingMode": "MANUAL" if self.has("manual") else "AUTOMATIC",
            "errors": errors,
        }
        if self.version == 2:
            return known | {
                "batteryState": {"batteryCharge": charge, "charging": False},
                "safetyState": {"eStop": stop, "fieldViolation": self.has("field_violation")},
                "agvPosition": place | {"positionInitialized": localized},
            }
        return known | {
            "instantActionStates": [],
            "powerSupply": {"stateOfCharge": charge, "charging": False},
            "safetyState": {"activeEmergencyStop": stop, "fieldViolation": self.has("field_violation")},
            "mobileRobotPosition": place | {"localized": localized},
        }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="A driverless vehicle. Type a fault's name and on or off.")
    mqtt.add_broker(parser)
    parser.set_defaults(topic=None)
    parser.add_argument("--version", type=int, choices=(2, 3), default=2, help="of VDA 5050")
    options = parser.parse_args(argv)
    serving.run(Vehicle(mqtt.broker(options), version=options.version, topic=options.topic))


if __name__ == "__main__":
    main()
