"""Keeps the last readings and samples of each device, and decides what of them is evidence of a fault."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from edge_agent import decode
from edge_agent.device import Device
from edge_agent.sample import Payload, Reading, Sample, Value
from edge_agent.wire import MAX_EVIDENCE_BYTES, Stamp

# Per device, whichever is reached first; at least the newest reading stays.
READINGS_KEPT = 16
BYTES_KEPT = 64 << 10
MAX_VALUE_CHARACTERS = 120
MAX_DETAIL_CHARACTERS = 200


@dataclass(slots=True, kw_only=True)
class _Tape:
    device: Device
    readings: deque[Reading] = field(default_factory=lambda: deque(maxlen=READINGS_KEPT))
    latest: dict[str, Sample] = field(default_factory=dict)


class Recorder:
    """Raw readings stay in memory as they came; they become redacted text only when they are shown."""

    def __init__(self, devices: Sequence[Device]) -> None:
        self._tapes = {device.id: _Tape(device=device) for device in devices}

    def keep(self, reading: Reading, samples: Iterable[Sample]) -> None:
        tape = self._tapes[reading.device]
        tape.readings.append(reading)
        while len(tape.readings) > 1 and sum(_size(one.payload) for one in tape.readings) > BYTES_KEPT:
            tape.readings.popleft()
        for sample in samples:
            tape.latest[sample.signal] = sample

    def evidence(self, device: str, signals: Iterable[str], at: Stamp) -> dict[str, Any]:
        """What a condition over ``signals`` saw, newest first, in the wire's limit; ages are until ``at``."""
        tape = self._tapes[device]
        samples = [_sample(tape.latest[name], at) for name in sorted(signals) if name in tape.latest]
        readings = [_reading(tape.device, reading, at) for reading in reversed(tape.readings)]
        return _trimmed({"samples": samples, "readings": readings})


def _sample(sample: Sample, at: Stamp) -> dict[str, Any]:
    shown = {
        "signal": sample.signal,
        "value": _value(sample.value),
        "quality": str(sample.quality),
        "age_ms": _age_ms(sample.at, at),
    }
    return shown | ({"detail": sample.detail[:MAX_DETAIL_CHARACTERS]} if sample.detail else {})


def _reading(device: Device, reading: Reading, at: Stamp) -> dict[str, Any]:
    shown: dict[str, Any] = {"read": reading.read, "age_ms": _age_ms(reading.at, at)}
    if reading.trouble is None:
        shown["frames"] = list(decode.shown(device, reading))
    else:
        shown["trouble"] = str(reading.trouble)
    if reading.retained:
        shown["retained"] = True
    return shown | ({"detail": reading.detail[:MAX_DETAIL_CHARACTERS]} if reading.detail else {})


def _value(value: Value) -> bool | int | str | None:
    """As the wire allows it: no floats, and no text that could act on a screen."""
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, str):
        return decode.escaped(value.encode("utf-8", "surrogateescape"))[:MAX_VALUE_CHARACTERS]
    return value


def _age_ms(then: Stamp, now: Stamp) -> int:
    return max(0, (now.mono_ns - then.mono_ns) // 1_000_000)


def _trimmed(evidence: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """The oldest readings go first, then frames of the newest, and only then samples."""
    readings = evidence["readings"]
    while len(json.dumps(evidence)) > MAX_EVIDENCE_BYTES:
        if len(readings) == 1 and len(readings[0].get("frames", ())) > 1:
            readings[0]["frames"].pop()
        else:
            (readings or evidence["samples"]).pop()
    return evidence


def _size(payload: Payload) -> int:
    return sum(len(part) if isinstance(part, bytes) else 2 for part in payload)
