"""A device on an MQTT broker that says when it comes and leaves it to its will to say when it has gone."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from device_profiles.simulators import serving
from device_profiles.simulators.serving import Simulator

Style = Literal["tasmota", "json"]
# A real device sends each few minutes; a broker gives it up after 1.5 times of it.
KEEPALIVE_S = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    host: str = "127.0.0.1"
    port: int = 1883
    username: str | None = None
    password: str | None = None
    ca_file: Path | None = None


class MqttDevice(Simulator):
    """``tasmota``: Online and Offline on tele/<topic>/LWT. ``json``: {"online": true} on <topic>/status.

    Faults: ``power_cut`` breaks the connection without a word, so the broker publishes the will;
    ``says_offline`` is a device that takes its leave itself; ``babbles`` publishes what nobody can read.
    """

    faults = ("power_cut", "says_offline", "babbles")

    def __init__(self, broker: Broker, topic: str, *, style: Style = "tasmota") -> None:
        super().__init__()
        self.broker = broker
        self.topic = f"tele/{topic}/LWT" if style == "tasmota" else f"{topic}/status"
        self.style = style
        self._name = topic
        self._client: mqtt.Client | None = None
        # paho blocks; one thread keeps what it is told in order.
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix=topic)

    async def start(self) -> None:
        await asyncio.wrap_future(self._worker.submit(self._connect))

    async def stop(self) -> None:
        """Leaves in peace: the broker publishes no will."""
        await asyncio.wrap_future(self._worker.submit(self._leave))
        self._worker.shutdown()

    def set(self, fault: str, on: bool = True) -> None:
        was = self.has("power_cut")
        super().set(fault, on)
        if fault == "power_cut" and on and not was:
            self._worker.submit(self._break)
        elif fault == "power_cut" and not on and was:
            self._worker.submit(self._connect)
        else:
            self._worker.submit(self._publish)

    def _connect(self) -> None:
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"simulated-{self._name}")
        if self.broker.username is not None:
            client.username_pw_set(self.broker.username, self.broker.password)
        if self.broker.ca_file is not None:
            client.tls_set(str(self.broker.ca_file))
        client.will_set(self.topic, self._word(False), qos=1, retain=True)
        client.on_connect = lambda *_: self._publish()
        # In its own time, and again whenever the broker was away.
        client.connect_async(self.broker.host, self.broker.port, keepalive=KEEPALIVE_S)
        self._client = client
        client.loop_start()

    def _publish(self) -> None:
        client = self._client
        if client is None:
            return
        word = b"\xff\x00{" if self.has("babbles") else self._word(not self.has("says_offline"))
        client.publish(self.topic, word, qos=1, retain=True)

    def _word(self, online: bool) -> bytes:
        if self.style == "json":
            return json.dumps({"online": online, "name": self._name}).encode()
        return b"Online" if online else b"Offline"

    def _leave(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.disconnect()
            client.loop_stop()

    def _break(self) -> None:
        client, self._client = self._client, None
        if client is None:
            return
        # Stop the thread first, or it would reconnect at once.
        client.loop_stop()
        line = client.socket()
        if line is not None:
            line.close()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="An MQTT device. Type a fault's name and on or off.")
    parser.add_argument("--broker", metavar="HOST:PORT", default="127.0.0.1:1883")
    parser.add_argument("--topic", default="simulated")
    parser.add_argument("--style", choices=["tasmota", "json"], default="tasmota")
    options = parser.parse_args(argv)
    host, _, port = str(options.broker).rpartition(":")
    serving.run(MqttDevice(Broker(host=host, port=int(port)), options.topic, style=options.style))


if __name__ == "__main__":
    main()
