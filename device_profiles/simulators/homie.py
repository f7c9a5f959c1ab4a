"""A device that follows the Homie convention, and its root: $state says how each of them is."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from device_profiles.simulators import mqtt, serving
from device_profiles.simulators.mqtt import Broker, Message, MqttSimulator

STATES = {
    "starting": "init",
    "disconnected": "disconnected",
    "sleeping": "sleeping",
    "alert": "alert",
    "unknown_state": "dreaming",
}


class HomieDevice(MqttSimulator):
    """``root``: the id of its root; the device's own when it has none. ``version`` 5 or 4."""

    faults = (*STATES, "battery_alert", "root_lost", "power_cut")

    def __init__(self, broker: Broker, name: str, *, root: str | None = None, version: int = 5) -> None:
        super().__init__(broker, name)
        self.root = root
        self.version = version
        self._base = "homie/5" if version == 5 else "homie"

    def will(self) -> Message:
        return self._state(self._name, "lost")

    def words(self) -> Sequence[Message]:
        own = next((state for fault, state in STATES.items() if self.has(fault)), "ready")
        said = [self._state(self._name, own)]
        if self.version == 5:
            # Empty: no longer active.
            text = b"Battery is low" if self.has("battery_alert") else b""
            said.append(Message(topic=f"{self._base}/{self._name}/$alert/battery", payload=text))
        if self.root is not None:
            said.append(self._state(self.root, "lost" if self.has("root_lost") else "ready"))
        return said

    def _state(self, device: str, state: str) -> Message:
        return Message(topic=f"{self._base}/{device}/$state", payload=state.encode())


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="A Homie device. Type a fault's name and on or off.")
    mqtt.add_broker(parser)
    parser.add_argument("--root", help="the id of its root")
    options = parser.parse_args(argv)
    serving.run(HomieDevice(mqtt.broker(options), options.topic, root=options.root))


if __name__ == "__main__":
    main()
