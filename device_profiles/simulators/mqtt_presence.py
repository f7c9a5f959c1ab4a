"""A device on an MQTT broker that says when it comes and leaves it to its will to say when it has gone."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Literal

from device_profiles.simulators import mqtt, serving
from device_profiles.simulators.mqtt import Broker, Message, MqttSimulator

Style = Literal["tasmota", "json"]


class MqttDevice(MqttSimulator):
    """``tasmota``: Online and Offline on tele/<topic>/LWT. ``json``: {"online": true} on <topic>/status.

    ``says_offline`` is a device that takes its leave itself; ``babbles`` publishes what nobody can read,
    ``unknown_word`` a word that nobody knows.
    """

    faults = ("power_cut", "says_offline", "unknown_word", "babbles")

    def __init__(self, broker: Broker, topic: str, *, style: Style = "tasmota") -> None:
        super().__init__(broker, topic)
        self.topic = f"tele/{topic}/LWT" if style == "tasmota" else f"{topic}/status"
        self.style = style

    def will(self) -> Message:
        return Message(topic=self.topic, payload=self._word(False))

    def words(self) -> Sequence[Message]:
        word = b"\xff\x00{" if self.has("babbles") else self._word(not self.has("says_offline"))
        if self.has("unknown_word"):
            word = json.dumps({"online": "napping"}).encode() if self.style == "json" else b"Napping"
        return [Message(topic=self.topic, payload=word)]

    def _word(self, online: bool) -> bytes:
        if self.style == "json":
            return json.dumps({"online": online, "name": self._name}).encode()
        return b"Online" if online else b"Offline"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="An MQTT device. Type a fault's name and on or off.")
    mqtt.add_broker(parser)
    parser.add_argument("--style", choices=["tasmota", "json"], default="tasmota")
    options = parser.parse_args(argv)
    serving.run(MqttDevice(mqtt.broker(options), options.topic, style=options.style))


if __name__ == "__main__":
    main()
