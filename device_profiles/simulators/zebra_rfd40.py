"""An RFID sled that reports over MQTT: connection, heartbeat and alerts (RFD40/RFD90 MQTT API 1.22)."""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Sequence

from device_profiles.simulators import mqtt, serving
from device_profiles.simulators.mqtt import Broker, Message, MqttSimulator

ALERTS = {
    "battery": "BATTERY",
    "power": "POWER",
    "network": "NETWORK_EVENT",
    "firmware": "FIRMWARE_UPDATE",
    "download": "FILE_DOWNLOAD",
    "unknown_alert": "ANTENNA",
}


class Sled(MqttSimulator):
    """``topic`` is that of the connection, ``events`` that of heartbeats and alerts, which nobody retains."""

    faults = (*ALERTS, "unknown_connection", "power_cut")

    def __init__(self, broker: Broker, topic: str, events: str) -> None:
        super().__init__(broker, topic.rpartition("/")[2])
        self.topic = topic
        self.events = events
        self._sequence = itertools.count(1)

    def set(self, fault: str, on: bool = True) -> None:
        super().set(fault, on)
        if fault in ALERTS:
            self.alert(ALERTS[fault], "SET" if on else "CLEAR")

    def will(self) -> Message:
        return self._connection("DISCONNECTED")

    def words(self) -> Sequence[Message]:
        return [self._connection("ROAMING" if self.has("unknown_connection") else "CONNECTED")]

    def heartbeat(self) -> None:
        beat = {"eventName": "heartbeat", "uptime": 4711, "eventSequence": next(self._sequence)}
        self.say(Message(topic=self.events, payload=json.dumps(beat).encode(), retain=False, qos=0))

    def alert(self, subject: str, state: str) -> None:
        alert = {"type": "ALERT", "id": subject, "state": state, "priority": "HIGH", "alertDetails": {}}
        self.say(Message(topic=self.events, payload=json.dumps(alert).encode(), retain=False))

    def _connection(self, state: str) -> Message:
        said = {"connectionState": state, "deviceModel": "RFD4031", "deviceSerialNo": self._name}
        return Message(topic=self.topic, payload=json.dumps(said).encode())


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="An RFID sled. Type a fault's name and on or off.")
    mqtt.add_broker(parser)
    parser.add_argument("--events", default="acme/MGMT/clients/event", help="topic of heartbeats and alerts")
    options = parser.parse_args(argv)
    serving.run(Sled(mqtt.broker(options), options.topic, options.events))


if __name__ == "__main__":
    main()
