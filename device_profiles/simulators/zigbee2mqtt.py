"""A Zigbee device behind Zigbee2MQTT: the bridge speaks for it, and only the bridge has a will."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from device_profiles.simulators import mqtt, serving
from device_profiles.simulators.mqtt import Broker, Message, MqttSimulator

BRIDGE = "zigbee2mqtt/bridge/state"


class ZigbeeDevice(MqttSimulator):
    """``in_json``: {"state": "online"} instead of the plain word.

    ``power_cut`` is the bridge's: what it said last about the device stays at the broker.
    """

    faults = ("device_gone", "bridge_leaves", "power_cut", "unknown_word", "babbles")

    def __init__(self, broker: Broker, name: str, *, in_json: bool = False) -> None:
        super().__init__(broker, name)
        self.in_json = in_json

    def will(self) -> Message:
        return Message(topic=BRIDGE, payload=self._word("offline"))

    def words(self) -> Sequence[Message]:
        bridge = self._word("offline" if self.has("bridge_leaves") else "online")
        device = (
            b"{" if self.has("babbles") else self._word("offline" if self.has("device_gone") else "online")
        )
        device = self._word("dozing") if self.has("unknown_word") else device
        return [
            Message(topic=BRIDGE, payload=bridge),
            Message(topic=f"zigbee2mqtt/{self._name}/availability", payload=device),
        ]

    def _word(self, state: str) -> bytes:
        return (json.dumps({"state": state}) if self.in_json else state).encode()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="A Zigbee device. Type a fault's name and on or off.")
    mqtt.add_broker(parser)
    parser.add_argument("--json", action="store_true", help="JSON instead of plain words")
    options = parser.parse_args(argv)
    serving.run(ZigbeeDevice(mqtt.broker(options), options.topic, in_json=options.json))


if __name__ == "__main__":
    main()
