"""What simulated MQTT devices share: a connection with a will, which is left in peace or broken off."""

from __future__ import annotations

import argparse
import asyncio
from abc import abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from device_profiles.simulators.serving import Simulator

# A real device sends each few minutes; a broker gives it up after 1.5 times of it.
KEEPALIVE_S = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    host: str = "127.0.0.1"
    port: int = 1883
    username: str | None = None
    password: str | None = None
    ca_file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    topic: str
    payload: bytes
    retain: bool = True
    qos: int = 1


class MqttSimulator(Simulator):
    """``power_cut`` breaks the connection without a word, so the broker publishes the will.

    Any other fault that is switched changes what ``words`` says, and all of it is said again.
    """

    def __init__(self, broker: Broker, name: str) -> None:
        super().__init__()
        self.broker = broker
        self._name = name
        self._client: mqtt.Client | None = None
        # paho blocks; one thread keeps what it is told in order.
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    @abstractmethod
    def will(self) -> Message: ...

    @abstractmethod
    def words(self) -> Sequence[Message]:
        """What the device says of itself now."""

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
            self._worker.submit(self._say)

    def say(self, message: Message) -> None:
        """Besides ``words``: something that happens once."""
        self._worker.submit(self._publish, message)

    def _connect(self) -> None:
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"simulated-{self._name}")
        if self.broker.username is not None:
            client.username_pw_set(self.broker.username, self.broker.password)
        if self.broker.ca_file is not None:
            client.tls_set(str(self.broker.ca_file))
        will = self.will()
        client.will_set(will.topic, will.payload, qos=will.qos, retain=will.retain)
        client.on_connect = lambda *_: self._say()
        # In its own time, and again whenever the broker was away.
        client.connect_async(self.broker.host, self.broker.port, keepalive=KEEPALIVE_S)
        self._client = client
        client.loop_start()

    def _say(self) -> None:
        for message in self.words():
            self._publish(message)

    def _publish(self, message: Message) -> None:
        client = self._client
        if client is not None:
            client.publish(message.topic, message.payload, qos=message.qos, retain=message.retain)

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


def add_broker(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--broker", metavar="HOST:PORT", default="127.0.0.1:1883")
    parser.add_argument("--topic", default="simulated")


def broker(options: argparse.Namespace) -> Broker:
    host, _, port = str(options.broker).rpartition(":")
    return Broker(host=host, port=int(port))
