"""A device that says whatever it is told to say, for trying a profile that has no simulator of its own.

``python -m device_profiles.simulators.stand_in --tcp 127.0.0.1:0 [--modbus]``, ``--pty PATH [--modbus]`` or
``--broker HOST:PORT``. It prints ``ready PORT`` (0 where there is no port), then takes one JSON object a line
and prints ``ok`` once it does so:

- ``{"answers": {QUERY: ANSWER}}``: what it says to each query, in hexadecimal; null: nothing
- ``{"say": BYTES}``: something that nobody asked for
- ``{"registers": {FUNCTION: {ADDRESS: NUMBER}}}``: what each function reads, 0 elsewhere; null: silence
- ``{"publish": {"topic": TOPIC, "payload": BYTES}}``: a message
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from device_profiles.simulators import serving
from device_profiles.simulators.modbus import ModbusServer
from device_profiles.simulators.serving import Outlet, Session, Tcp

MAX_LINE_BYTES = 8 << 20
PUBLISHED_WITHIN_S = 10


class StandIn:
    def __init__(self, outlet: Outlet | None, client: mqtt.Client | None) -> None:
        self._outlet = outlet
        self._client = client
        self._answers: dict[bytes, bytes | None] = {}
        self._registers: Mapping[str, Mapping[str, int]] | None = {}

    def obey(self, command: Mapping[str, Any]) -> None:
        if "answers" in command:
            self._answers = {
                bytes.fromhex(query): None if answer is None else bytes.fromhex(answer)
                for query, answer in command["answers"].items()
            }
        if "registers" in command:
            self._registers = command["registers"]
        if "say" in command and self._outlet is not None:
            self._outlet.say(bytes.fromhex(command["say"]))
        if "publish" in command and self._client is not None:
            message = command["publish"]
            sent = self._client.publish(message["topic"], bytes.fromhex(message["payload"]), qos=1)
            sent.wait_for_publish(PUBLISHED_WITHIN_S)

    def session(self) -> Session:
        """For text: finds its queries in whatever is said to it."""
        heard = bytearray()

        def take(chunk: bytes) -> bytes:
            heard.extend(chunk)
            said = b""
            while found := [(at, query) for query in self._answers if (at := heard.find(query)) >= 0]:
                at, query = min(found)
                del heard[: at + len(query)]
                said += self._answers[query] or b""
            return said

        return take

    def read(self, function: int, address: int, count: int) -> list[int] | None:
        """For Modbus."""
        if self._registers is None:
            return None
        values = self._registers.get(str(function), {})
        return [values.get(str(one), 0) for one in range(address, address + count)]


class Everyone(dict[int, StandIn]):
    """Whatever unit is asked, it is this one."""

    def __init__(self, stand_in: StandIn) -> None:
        super().__init__(dict.fromkeys(range(256), stand_in))


async def stand_in(options: argparse.Namespace) -> None:
    outlet = None if options.broker else serving.place(options)
    client = _connected(options.broker) if options.broker else None
    device = StandIn(outlet, client)
    if outlet is not None and options.modbus:
        await ModbusServer(outlet, Everyone(device)).start()
    elif outlet is not None:
        await outlet.start(device.session)
    _tell(f"ready {outlet.port if isinstance(outlet, Tcp) else 0}")
    typed = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(typed), sys.stdin)
    while line := await typed.readline():
        device.obey(json.loads(line))
        _tell("ok")
    if outlet is not None:
        await outlet.stop()
    if client is not None:
        client.disconnect()
        client.loop_stop()


def _connected(broker: str) -> mqtt.Client:
    host, _, port = broker.rpartition(":")
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.connect(host, int(port))
    client.loop_start()
    return client


def _tell(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A device that says what it is told on stdin.")
    places = parser.add_mutually_exclusive_group(required=True)
    places.add_argument("--tcp", metavar="HOST:PORT")
    places.add_argument("--pty", metavar="PATH", type=Path)
    places.add_argument("--broker", metavar="HOST:PORT")
    parser.add_argument("--modbus", action="store_true")
    asyncio.run(stand_in(parser.parse_args()))
