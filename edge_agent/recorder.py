"""The flight recorder: the tapes of all devices, and what of them is evidence of a fault."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from edge_agent import excerpt
from edge_agent.device import Device
from edge_agent.excerpt import Around
from edge_agent.sample import Reading, Sample
from edge_agent.tape import MAX_DETAIL_CHARACTERS, Names, Tape, shown_value
from edge_agent.wire import MAX_EVIDENCE_BYTES, NS_PER_MS, Stamp

# All devices together, and one of few.
MEMORY_BYTES = 8 << 20
DEVICE_BYTES = 64 << 10
MAX_WHY_CHARACTERS = 400
ROOM_FOR_NAMES = 32


class Recorder:
    def __init__(self, devices: Sequence[Device], *, memory_bytes: int = MEMORY_BYTES) -> None:
        each = min(DEVICE_BYTES, memory_bytes // max(1, len(devices)))
        names: dict[int, Names] = {}
        self.tapes: Mapping[str, Tape] = {
            device.id: Tape(device, names.setdefault(id(device.profile), Names.of(device.profile)), each)
            for device in devices
        }

    def keep(self, reading: Reading, samples: Iterable[Sample]) -> None:
        """Also unchanged: that costs a comparison of bytes and no memory."""
        self.tapes[reading.device].keep(reading, samples)

    def again(self, readings: Sequence[Reading], at: Stamp) -> None:
        """They came once more at that moment, of one device; each was the last of its read."""
        self.tapes[readings[0].device].again(readings, at)

    def heard_again(self, device: str, signals: Iterable[str], at: Stamp) -> None:
        """The newest samples of these came once more, last at that moment."""
        self.tapes[device].heard_again(signals, at)

    def evidence(self, device: str, signals: Iterable[str], at: Stamp, *, why: str = "") -> dict[str, Any]:
        """What a condition over ``signals`` saw, for the row itself; ages are until ``at``. ``why``: what
        else makes it so.
        """
        return _fitting(self._samples(device, signals, at), why)

    def evidence_of_several(self, names: Iterable[str], at: Stamp, *, why: str = "") -> dict[str, Any]:
        """The same of a condition over ``device/signal``, which is what the samples are called."""
        found = (
            one | {"signal": f"{device}/{one['signal']}"}
            for device, signals in _by_device(names).items()
            for one in self._samples(device, signals, at)
        )
        return _fitting(found, why)

    def excerpt(self, device: str, around: Around, *, from_ms: int, to_ms: int) -> dict[str, Any] | None:
        """See ``excerpt``: of the device, or of all that are looked at. None: none is of this agent."""
        several = _by_device(name for name in around.signals if "/" in name)
        tapes = {name: self.tapes[name] for name in several or (device,) if name in self.tapes}
        if not tapes:
            return None
        if not several:
            return excerpt.excerpt(tapes[device], around, from_ms=from_ms, to_ms=to_ms)
        found = {
            name: excerpt.excerpt(
                tape, replace(around, signals=several[name]), from_ms=from_ms, to_ms=to_ms, share=len(tapes)
            )
            for name, tape in tapes.items()
        }
        return excerpt.joined(found, from_ms=from_ms, to_ms=to_ms)

    def _samples(self, device: str, signals: Iterable[str], at: Stamp) -> list[dict[str, Any]]:
        latest = self.tapes[device].latest
        return [_sample(latest[name], at) for name in sorted(signals) if name in latest]


def _by_device(names: Iterable[str]) -> dict[str, list[str]]:
    """Of ``device/signal``, in order."""
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        device, _, signal = name.partition("/")
        found.setdefault(device, []).append(signal)
    return found


def _fitting(samples: Iterable[dict[str, Any]], why: str) -> dict[str, Any]:
    said = {"why": [why[:MAX_WHY_CHARACTERS]]} if why else {}
    kept = list(samples)
    while len(json.dumps(kept)) > MAX_EVIDENCE_BYTES - ROOM_FOR_NAMES - len(json.dumps(said)):
        kept.pop()
    return said | {"samples": kept}


def _sample(sample: Sample, at: Stamp) -> dict[str, Any]:
    shown = {
        "signal": sample.signal,
        "value": shown_value(sample.value),
        "quality": str(sample.quality),
        "age_ms": max(0, (at.mono_ns - sample.at.mono_ns) // NS_PER_MS),
    }
    return shown | ({"detail": sample.detail[:MAX_DETAIL_CHARACTERS]} if sample.detail else {})
