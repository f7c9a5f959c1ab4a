"""The flight recorder: keeps what each device said last in bounded memory, and tells what of it is evidence.

Two rings a device, one of readings as they came and one of the values that they meant, so that long answers
do not push out the history of the values. What the profile hides is hidden before it is kept, in readings as
in values: one that could not have been read from the hidden form is not kept either.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import cache
from struct import Struct, error
from typing import Any

from edge_agent import decode
from edge_agent.device import Device
from edge_agent.profile import ListenRead, Profile, TopicRead
from edge_agent.ring import Entry, Ring
from edge_agent.sample import Payload, Quality, Reading, Sample, Value
from edge_agent.wire import MAX_EVIDENCE_BYTES, Stamp

KIB = 1 << 10
# All devices together, and one of few.
MEMORY_BYTES = 8 << 20
DEVICE_BYTES = 64 * KIB
# Of the memory of a device, for values.
VALUES_PART = 3
# In the row of an occurrence.
READINGS_IN_A_ROW = 16
MAX_VALUE_CHARACTERS = 120
MAX_DETAIL_CHARACTERS = 200
# Of one frame, as many as are shown of it at most: a character that is escaped takes four.
MAX_FRAME_BYTES = 4 * decode.MAX_SHOWN_CHARACTERS
NS_PER_MS = 1_000_000


class _Kind(IntEnum):
    """What the body of a reading is."""

    FRAMES = 0
    NUMBERS = 1
    TROUBLE = 2
    # Numbers, some of which the device refuses.
    HOLES = 3
    RETAINED = 8


class _Type(IntEnum):
    """What the body of a value is, each as text."""

    BAD = 0
    BOOL = 1
    NUMBER = 2
    TEXT = 3
    UNCERTAIN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class _Names:
    """Of one profile, by the numbers that stand for them on its devices' tapes."""

    reads: tuple[str, ...]
    signals: tuple[str, ...]
    read_numbers: Mapping[str, int]
    signal_numbers: Mapping[str, int]


@dataclass(slots=True, kw_only=True)
class _Tape:
    device: Device
    names: _Names
    readings: Ring
    values: Ring
    latest: dict[str, Sample] = field(default_factory=dict)


class Recorder:
    def __init__(self, devices: Sequence[Device], *, memory_bytes: int = MEMORY_BYTES) -> None:
        each = min(DEVICE_BYTES, memory_bytes // max(1, len(devices)))
        names: dict[int, _Names] = {}
        self._tapes = {
            device.id: _Tape(
                device=device,
                names=names.setdefault(id(device.profile), _names(device.profile)),
                readings=Ring(each - each // VALUES_PART),
                values=Ring(each // VALUES_PART),
            )
            for device in devices
        }

    def keep(self, reading: Reading, samples: Iterable[Sample]) -> None:
        """Also unchanged: that costs a comparison of bytes and no memory."""
        tape = self._tapes[reading.device]
        number = tape.names.read_numbers.get(reading.read)
        if number is None:
            return
        hidden, whole = decode.redacted(tape.device, reading), True
        if hidden is not reading:
            reading, samples, whole = hidden, _redacted(tape.device, hidden, samples), False
        kind, body = _packed(reading)
        if len(body) > tape.readings.longest_body:
            # With holes in it a part would be read wrongly.
            longest = 0 if kind & _Kind.HOLES == _Kind.HOLES else tape.readings.longest_body
            body, whole = body[:longest], False
        at_ms = reading.at.mono_ns // NS_PER_MS
        read = tape.device.profile.reads[reading.read]
        # Who speaks by himself says something each time.
        asked = reading.trouble is not None or not isinstance(read, ListenRead | TopicRead)
        new = tape.readings.put(number, kind, body, at_ms, again=asked)
        for sample in samples:
            tape.latest[sample.signal] = sample
        # The same answer means the same.
        if new or not whole:
            _keep_values(tape, samples, at_ms)

    def evidence(self, device: str, signals: Iterable[str], at: Stamp) -> dict[str, Any]:
        """What a condition over ``signals`` saw, newest first, in the wire's limit; ages are until ``at``."""
        tape = self._tapes[device]
        samples = [_sample(tape.latest[name], at) for name in sorted(signals) if name in tape.latest]
        newest = list(tape.readings.entries())[-READINGS_IN_A_ROW:]
        readings = [_reading(tape, entry, at) for entry in reversed(newest)]
        return _trimmed({"samples": samples, "readings": readings})

    def evidence_of_several(self, names: Iterable[str], at: Stamp) -> dict[str, Any]:
        """The same of a condition over ``device/signal``, which is what samples and readings are called."""
        by_device: dict[str, list[str]] = {}
        for name in names:
            device, _, signal = name.partition("/")
            by_device.setdefault(device, []).append(signal)
        samples: list[dict[str, Any]] = []
        readings: list[dict[str, Any]] = []
        for device, signals in sorted(by_device.items()):
            found = self.evidence(device, signals, at)
            samples += [one | {"signal": f"{device}/{one['signal']}"} for one in found["samples"]]
            readings += [one | {"read": f"{device}/{one['read']}"} for one in found["readings"]]
        readings.sort(key=lambda shown: shown["age_ms"])
        return _trimmed({"samples": samples, "readings": readings})


def _names(profile: Profile) -> _Names:
    reads, signals = tuple(profile.reads), tuple(profile.signals)
    return _Names(
        reads=reads,
        signals=signals,
        read_numbers={name: number for number, name in enumerate(reads)},
        signal_numbers={name: number for number, name in enumerate(signals)},
    )


def _redacted(device: Device, hidden: Reading, samples: Iterable[Sample]) -> Sequence[Sample]:
    """A value that cannot be read from what may be kept is hidden with the rest."""
    found = {sample.signal: sample.value for sample in decode.samples(device, hidden)}
    return [
        sample
        if sample.value is None or found.get(sample.signal, sample.value) == sample.value
        else replace(sample, value=decode.REDACTED.decode())
        for sample in samples
    ]


# --- how it lies in memory ----------------------------------------------------------------------------------


@cache
def _numbers(count: int) -> Struct:
    return Struct(f"<{count}H")


def _packed(reading: Reading) -> tuple[int, bytes]:
    kept = _Kind.RETAINED if reading.retained else 0
    payload = reading.payload
    if reading.trouble is not None:
        said = f"{reading.trouble}\0{reading.detail[:MAX_DETAIL_CHARACTERS]}"
        return kept | _Kind.TROUBLE, said.encode("utf-8", "surrogateescape")
    if payload and not isinstance(payload[0], bytes):
        holes = _Kind.HOLES if None in payload else _Kind.NUMBERS
        return kept | holes, _packed_numbers(payload)
    frames = [
        part[:MAX_FRAME_BYTES] for part in payload[: decode.MAX_SHOWN_FRAMES] if isinstance(part, bytes)
    ]
    return kept | _Kind.FRAMES, b"".join(len(frame).to_bytes(2, "little") + frame for frame in frames)


def _packed_numbers(payload: Payload) -> bytes:
    try:
        return _numbers(len(payload)).pack(*payload)
    except error:
        # No transport brings anything but registers and bits, and None in the place of some.
        numbers = [number if isinstance(number, int) else 0 for number in payload]
        holes = bytes(number is None for number in payload)
        packed = _numbers(len(payload)).pack(*(number & 0xFFFF for number in numbers))
        return packed + holes if any(holes) else packed


def _unpacked(entry: Entry) -> Payload:
    kind = entry.kind & ~_Kind.RETAINED
    if kind == _Kind.FRAMES:
        return tuple(_frames(entry.body))
    count = len(entry.body) // (3 if kind == _Kind.HOLES else 2)
    numbers = _numbers(count).unpack(entry.body[: 2 * count])
    if kind == _Kind.NUMBERS:
        return numbers
    holes = entry.body[2 * count :]
    return tuple(None if hole else number for number, hole in zip(numbers, holes, strict=True))


def _frames(body: bytes) -> Iterator[bytes]:
    at = 0
    while at + 2 <= len(body):
        length = int.from_bytes(body[at : at + 2], "little")
        yield body[at + 2 : at + 2 + length]
        at += 2 + length


def _keep_values(tape: _Tape, samples: Iterable[Sample], at_ms: int) -> None:
    for sample in samples:
        number = tape.names.signal_numbers.get(sample.signal)
        if number is not None:
            tape.values.put(number, *_packed_value(sample), at_ms)


def _packed_value(sample: Sample) -> tuple[int, bytes]:
    value = sample.value
    kind = _Type.UNCERTAIN if sample.quality is Quality.UNCERTAIN else 0
    if value is None:
        return _Type.BAD, b""
    if isinstance(value, bool):
        return kind | _Type.BOOL, b"1" if value else b"0"
    return kind | (_Type.TEXT if isinstance(value, str) else _Type.NUMBER), str(_value(value)).encode()


# --- for the row of an occurrence ---------------------------------------------------------------------------


def _sample(sample: Sample, at: Stamp) -> dict[str, Any]:
    shown = {
        "signal": sample.signal,
        "value": _value(sample.value),
        "quality": str(sample.quality),
        "age_ms": max(0, (at.mono_ns - sample.at.mono_ns) // NS_PER_MS),
    }
    return shown | ({"detail": sample.detail[:MAX_DETAIL_CHARACTERS]} if sample.detail else {})


def _reading(tape: _Tape, entry: Entry, at: Stamp) -> dict[str, Any]:
    age_ms = max(0, at.mono_ns // NS_PER_MS - entry.last_ms)
    return {"read": tape.names.reads[entry.key], "age_ms": age_ms} | _said(tape, entry)


def _said(tape: _Tape, entry: Entry) -> dict[str, Any]:
    """Lines of what came, or why nothing did."""
    shown: dict[str, Any] = {}
    if entry.kind & ~_Kind.RETAINED == _Kind.TROUBLE:
        trouble, _, detail = entry.body.decode("utf-8", "surrogateescape").partition("\0")
        shown = {"trouble": trouble} | ({"detail": detail} if detail else {})
    else:
        shown = {"frames": list(decode.lines(tape.device, tape.names.reads[entry.key], _unpacked(entry)))}
    return shown | ({"retained": True} if entry.kind & _Kind.RETAINED else {})


def _value(value: Value) -> bool | int | str | None:
    """As the wire allows it: no floats, and no text that could act on a screen."""
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, str):
        return decode.escaped(value.encode("utf-8", "surrogateescape"))[:MAX_VALUE_CHARACTERS]
    return value


def _trimmed(evidence: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """The oldest readings go first, then frames of the newest, and only then samples."""
    readings = evidence["readings"]
    while len(json.dumps(evidence)) > MAX_EVIDENCE_BYTES:
        if len(readings) == 1 and len(readings[0].get("frames", ())) > 1:
            readings[0]["frames"].pop()
        else:
            (readings or evidence["samples"]).pop()
    return evidence
