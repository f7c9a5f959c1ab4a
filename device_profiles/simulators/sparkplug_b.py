"""A Sparkplug B edge node with one device behind it: births, data by alias, deaths (specification 3.0.0)."""

from __future__ import annotations

import argparse
import struct
from collections.abc import Sequence

from device_profiles.simulators import mqtt, serving
from device_profiles.simulators.mqtt import Broker, Message, MqttSimulator

GROUP, NODE, DEVICE = "hall", "gw-7", "belt-3"
# Specification, 6.4: numbers of data types and of the fields of a value.
INT_32, INT_64, DOUBLE, BOOLEAN = 3, 4, 10, 11
INT_VALUE, LONG_VALUE, DOUBLE_VALUE, BOOLEAN_VALUE = 10, 11, 13, 14
# name -> alias, data type
METRICS = {"Alarm": (1, BOOLEAN), "Value": (2, DOUBLE), "Temperature": (3, INT_32)}
UNKNOWN_ALIAS = 77
NORMAL, HIGH, LOW = 5.5, 99.0, -7.25
BAD, STALE = 0, 500


class EdgeNode(MqttSimulator):
    """``lost_message`` and ``unknown_alias`` happen once; switched off, the node is born again."""

    faults = (
        *("alarm", "too_high", "too_low", "device_gone", "lost_message", "unknown_alias"),
        *("no_value", "bad_quality", "power_cut"),
    )

    def __init__(self, broker: Broker, *, group: str = GROUP, node: str = NODE, device: str = DEVICE) -> None:
        super().__init__(broker, node)
        self._group, self._node, self._device = group, node, device
        self.bd_seq = -1
        self._seq = 0
        # What was said last.
        self._born = self._device_born = False
        self._disorder = ""

    @property
    def topic(self) -> str:
        return f"{self._group}/{self._node}/{self._device}"

    def will(self) -> Message:
        """One more at each connection, so that a late will is known for what it is."""
        self.bd_seq = (self.bd_seq + 1) % 256
        self._born = False
        return self._message("NDEATH", [self._bd_seq()], qos=1)

    def words(self) -> Sequence[Message]:
        disorder = next((one for one in ("lost_message", "unknown_alias") if self.has(one)), "")
        again, self._disorder = bool(self._disorder and not disorder), disorder
        if not self._born or again:
            return [*self._births(), *self._data()]
        if self._device_born is self.has("device_gone"):
            return self._device_death() if self.has("device_gone") else self._device_birth()
        return self._data()

    def rebirth(self) -> None:
        """As a host application would have ordered it."""
        self._born = False
        self.set("alarm", self.has("alarm"))

    def late_will(self) -> None:
        """The will of the session before this one."""
        body = _metric("bdSeq", datatype=INT_64, value=_varint_field(LONG_VALUE, (self.bd_seq - 1) % 256))
        self.say(Message(topic=self._topic("NDEATH"), payload=_payload([body], None), retain=False))

    def raw(self, kind: str, payload: bytes) -> None:
        self.say(Message(topic=self._topic(kind), payload=payload, retain=False, qos=0))

    def _births(self) -> list[Message]:
        self._born, self._seq = True, 0
        return [self._message("NBIRTH", [self._bd_seq()], seq=True), *self._device_birth()]

    def _device_birth(self) -> list[Message]:
        self._device_born = not self.has("device_gone")
        if not self._device_born:
            return []
        metrics = [self._metric(name, birth=True) for name in METRICS]
        return [self._message("DBIRTH", metrics, seq=True)]

    def _device_death(self) -> list[Message]:
        self._device_born = False
        return [self._message("DDEATH", [], seq=True)]

    def _data(self) -> list[Message]:
        if not self._device_born:
            return []
        metrics = [self._metric(name, birth=False) for name in METRICS]
        if self.has("unknown_alias"):
            metrics = [_metric(alias=UNKNOWN_ALIAS, value=_varint_field(BOOLEAN_VALUE, 1))]
        if self.has("lost_message"):
            self._seq += 1
        return [self._message("DDATA", metrics, seq=True)]

    def _metric(self, name: str, *, birth: bool) -> bytes:
        alias, datatype = METRICS[name]
        null = name == "Value" and self.has("no_value")
        quality = STALE if name == "Value" and self.has("bad_quality") else None
        told = _metric(
            name if birth else None,
            alias=alias,
            datatype=datatype if birth else None,
            null=null,
            quality=quality,
            value=b"" if null else self._value(name),
        )
        return told

    def _value(self, name: str) -> bytes:
        if name == "Alarm":
            return _varint_field(BOOLEAN_VALUE, int(self.has("alarm")))
        if name == "Temperature":
            # Minus five, as two's complement in an unsigned field.
            return _varint_field(INT_VALUE, 2**32 - 5)
        number = HIGH if self.has("too_high") else LOW if self.has("too_low") else NORMAL
        return _key(DOUBLE_VALUE, 1) + struct.pack("<d", number)

    def _bd_seq(self) -> bytes:
        return _metric("bdSeq", datatype=INT_64, value=_varint_field(LONG_VALUE, self.bd_seq))

    def _message(self, kind: str, metrics: list[bytes], *, seq: bool = False, qos: int = 0) -> Message:
        number = self._seq % 256 if seq else None
        self._seq += int(seq)
        return Message(topic=self._topic(kind), payload=_payload(metrics, number), retain=False, qos=qos)

    def _topic(self, kind: str) -> str:
        device = f"/{self._device}" if kind.startswith("D") else ""
        return f"spBv1.0/{self._group}/{kind}/{self._node}{device}"


# --- protobuf -----------------------------------------------------------------------------------------------


def _payload(metrics: list[bytes], seq: int | None) -> bytes:
    said = _varint_field(1, 1_700_000_000_000) + b"".join(_bytes_field(2, metric) for metric in metrics)
    return said if seq is None else said + _varint_field(3, seq)


def _metric(
    name: str | None = None,
    *,
    alias: int | None = None,
    datatype: int | None = None,
    null: bool = False,
    quality: int | None = None,
    value: bytes,
) -> bytes:
    said = b"" if name is None else _bytes_field(1, name.encode())
    said += b"" if alias is None else _varint_field(2, alias)
    said += _varint_field(3, 1_700_000_000_000)
    said += b"" if datatype is None else _varint_field(4, datatype)
    said += _varint_field(7, 1) if null else b""
    if quality is not None:
        told = _varint_field(1, INT_32) + _varint_field(3, quality)
        said += _bytes_field(9, _bytes_field(1, b"Quality") + _bytes_field(2, told))
    return said + value


def _bytes_field(number: int, value: bytes) -> bytes:
    return _key(number, 2) + _varint(len(value)) + value


def _varint_field(number: int, value: int) -> bytes:
    return _key(number, 0) + _varint(value)


def _key(number: int, kind: int) -> bytes:
    return _varint(number << 3 | kind)


def _varint(value: int) -> bytes:
    said = bytearray()
    while value > 0x7F:
        said.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*said, value])


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="A Sparkplug edge node. Type a fault's name and on or off.")
    mqtt.add_broker(parser)
    options = parser.parse_args(argv)
    node = f"{options.topic}-node"
    serving.run(EdgeNode(mqtt.broker(options), node=node, device=options.topic))


if __name__ == "__main__":
    main()
