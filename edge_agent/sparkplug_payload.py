"""A payload of Sparkplug B as metrics: a small reader of the protobuf wire format, of no more than is needed.

The numbers of fields and data types are those of the Sparkplug specification 3.0.0, 6.4. Fields that are not
read here are passed over, whatever they hold.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from edge_agent.profile import Scalar

# The birth of a node with thousands of metrics; what is larger would hold up the loop for too long.
MAX_PAYLOAD_BYTES = 512 << 10
MAX_METRICS = 5_000
MAX_TEXT_BYTES = 1 << 10
# The specification has 19 fields of a metric and 5 of a payload.
MAX_FIELDS, MAX_OTHER_FIELDS = 32, 64

# Payload: 2 metrics, 3 seq.
_METRIC, _SEQ = 2, 3
# Metric.
_NAME, _ALIAS, _DATATYPE, _HISTORICAL, _NULL, _PROPERTIES = 1, 2, 4, 5, 7, 9
_INT, _LONG, _FLOAT, _DOUBLE, _BOOLEAN, _STRING = 10, 11, 12, 13, 14, 15
_VALUES = range(_INT, 20)
_REAL = {_FLOAT: struct.Struct("<f"), _DOUBLE: struct.Struct("<d")}
# PropertySet: 1 keys, 2 values; of a value 3 is its int.
_KEYS, _PROPERTY_VALUES, _PROPERTY_INT = 1, 2, 3
QUALITY = b"Quality"
GOOD = 192
# 6.4.1: BAD, STALE.
_QUALITIES = {0: "bad", 500: "stale"}

# 6.4.16, data types: how many bits an integer has, and whether it is signed.
_SIGNED = {1: 8, 2: 16, 3: 32, 4: 64}
# DateTime is in milliseconds since 1970.
_UNSIGNED = {5: 8, 6: 16, 7: 32, 8: 64, 13: 64}
_REALS, _BOOLEANS, _TEXTS = (9, 10), (11,), (12, 14, 15)

_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5
_VARINT_BYTES = 10


class PayloadError(ValueError):
    """The bytes are no payload of Sparkplug; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """As it was said: ``raw`` is the number or the bytes of field ``of``, one of the values."""

    name: str | None = None
    alias: int | None = None
    datatype: int | None = None
    is_historical: bool = False
    is_null: bool = False
    quality: int = GOOD
    of: int | None = None
    raw: int | bytes | None = field(default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    seq: int | None
    metrics: tuple[Metric, ...]


def decoded(data: bytes) -> Payload:
    """Raises PayloadError."""
    if len(data) > MAX_PAYLOAD_BYTES:
        raise PayloadError(f"a payload of more than {MAX_PAYLOAD_BYTES >> 10} KiB")
    seq: int | None = None
    metrics: list[Metric] = []
    for number, value in _fields(data, MAX_METRICS + MAX_OTHER_FIELDS):
        if number == _SEQ and isinstance(value, int):
            seq = value
        elif number == _METRIC and isinstance(value, bytes):
            if len(metrics) == MAX_METRICS:
                raise PayloadError(f"more than {MAX_METRICS} metrics")
            metrics.append(_metric(value))
    return Payload(seq=seq, metrics=tuple(metrics))


def value_of(metric: Metric, datatype: int | None) -> tuple[Scalar | None, str]:
    """The value, or why there is none. ``datatype``: of the birth, if the metric does not say it itself."""
    if metric.is_null or metric.raw is None:
        return None, "null"
    if metric.quality != GOOD:
        return None, f"its sender says: {_QUALITIES.get(metric.quality, f'quality {metric.quality}')}"
    kind = metric.datatype or datatype
    raw, of = metric.raw, metric.of
    if of == _BOOLEAN and isinstance(raw, int) and kind in (None, *_BOOLEANS):
        return raw != 0, ""
    if of == _STRING and isinstance(raw, bytes) and kind in (None, *_TEXTS):
        return _text(raw)
    if of in _REAL and isinstance(raw, bytes) and kind in (None, *_REALS):
        return _real(raw, _REAL[of])
    if of in (_INT, _LONG) and isinstance(raw, int) and kind in (*_SIGNED, *_UNSIGNED):
        return _whole(raw, kind, 32 if of == _INT else 64)
    if kind is None:
        return None, "its data type is not known: its birth was not seen"
    return None, f"data type {kind} in field {of} is not read"


def _text(raw: bytes) -> tuple[Scalar | None, str]:
    if len(raw) > MAX_TEXT_BYTES:
        return None, f"a text of more than {MAX_TEXT_BYTES} bytes"
    return raw.decode("utf-8", "replace"), ""


def _real(raw: bytes, form: struct.Struct) -> tuple[Scalar | None, str]:
    if len(raw) != form.size:
        return None, f"a floating-point number of {len(raw)} bytes, not {form.size}"
    (number,) = form.unpack(raw)
    return (number, "") if math.isfinite(number) else (None, "not a finite number")


def _whole(raw: int, kind: int, width: int) -> tuple[Scalar | None, str]:
    """Negative ones come as two's complement, as wide as the type or as the field."""
    bits = _SIGNED.get(kind) or _UNSIGNED[kind]
    if kind in _SIGNED:
        wide = width if raw >> bits else bits
        number = raw - (1 << wide) if raw >> (wide - 1) & 1 else raw
        fits = -(1 << bits - 1) <= number < 1 << bits - 1
    else:
        number, fits = raw, not raw >> bits
    return (number, "") if fits else (None, f"a number that does not fit data type {kind}")


def _metric(data: bytes) -> Metric:
    found: dict[int, int | bytes] = {}
    of: int | None = None
    for number, value in _fields(data):
        found[number] = value
        if number in _VALUES:
            of = number
    name, properties = found.get(_NAME), found.get(_PROPERTIES)
    return Metric(
        name=name.decode("utf-8", "replace") if isinstance(name, bytes) and name else None,
        alias=_number(found.get(_ALIAS)),
        datatype=_number(found.get(_DATATYPE)),
        is_historical=found.get(_HISTORICAL, 0) == 1,
        is_null=found.get(_NULL, 0) == 1,
        quality=_quality(properties) if isinstance(properties, bytes) else GOOD,
        of=of,
        raw=None if of is None else found[of],
    )


def _number(value: int | bytes | None) -> int | None:
    return value if isinstance(value, int) else None


def _quality(properties: bytes) -> int:
    keys: list[bytes] = []
    values: list[bytes] = []
    for number, value in _fields(properties, MAX_OTHER_FIELDS):
        if isinstance(value, bytes) and number in (_KEYS, _PROPERTY_VALUES):
            (keys if number == _KEYS else values).append(value)
    for key, value in zip(keys, values, strict=False):
        if key == QUALITY:
            said = [one for number, one in _fields(value) if number == _PROPERTY_INT and isinstance(one, int)]
            return said[-1] if said else GOOD
    return GOOD


def _fields(data: bytes, at_most: int = MAX_FIELDS) -> Iterator[tuple[int, int | bytes]]:
    """Each field's number and content: a number where it is a varint, else its bytes."""
    at = seen = 0
    while at < len(data):
        seen += 1
        if seen > at_most:
            raise PayloadError(f"more than {at_most} fields in one place")
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind in (_FIXED_32, _FIXED_64):
            size = 4 if kind == _FIXED_32 else 8
        else:
            raise PayloadError(f"wire type {kind} is not of protobuf 2 or 3")
        if at + size > len(data):
            raise PayloadError("it ends in the middle of a field")
        yield number, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = 0
    for place, byte in enumerate(data[at : at + _VARINT_BYTES]):
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return number & (1 << 64) - 1, at + place + 1
    raise PayloadError("it ends in the middle of a number, or a number is too long")
