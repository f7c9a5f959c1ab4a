"""What a device said, as text for people: raw, decoded, and what it would raise."""

from __future__ import annotations

from collections.abc import Iterable

from edge_agent import decode
from edge_agent.device import Device
from edge_agent.sample import Reading, Sample
from edge_agent.visit import Seen
from edge_agent.wire import Severity, condition_key

RAISED, NOT_RAISED, UNKNOWN = "RAISED", "not raised", "unknown"


def lines(seen: Seen) -> list[str]:
    """Everything: each read, each signal, each condition."""
    found = ["", "What came, hidden as the profile says:"]
    found += [f"  {line}" for line in raw(seen.device, seen.latest.values())] or ["  nothing"]
    silent = [name for name in seen.device.profile.reads if name not in seen.latest]
    found += [f"  {name}: nothing" for name in silent]
    if not seen.answered:
        return [*found, "", "So nothing is known of its signals and conditions."]
    found += ["", "What it means:", *_aligned(_signal(name, seen) for name in seen.device.profile.signals)]
    found += ["", "What would be raised:", *_aligned(_conditions(seen))]
    return found


def raw(device: Device, readings: Iterable[Reading]) -> list[str]:
    """A line for each frame or row of registers, or why there is none."""
    found = []
    for reading in readings:
        if reading.trouble is not None:
            found.append(
                f"{reading.read}: {reading.trouble}" + (f", {reading.detail}" if reading.detail else "")
            )
        elif not reading.payload:
            found.append(f"{reading.read}: {reading.detail or 'nothing yet'}")
        else:
            found += [f"{reading.read}: {line}" for line in decode.shown(device, reading)]
    return found


def _signal(name: str, seen: Seen) -> tuple[str, ...]:
    sample = seen.samples.get(name)
    if sample is None:
        return (name, UNKNOWN, "nothing came")
    return (name, _value(sample), str(sample.quality) + (f": {sample.detail}" if sample.detail else ""))


def _value(sample: Sample) -> str:
    if sample.value is None:
        return "-"
    if isinstance(sample.value, bool):
        return str(sample.value).lower()
    text = f"{sample.value:.12g}" if isinstance(sample.value, float) else str(sample.value)
    return decode.escaped(text.encode("utf-8", "surrogateescape"))


def _conditions(seen: Seen) -> Iterable[tuple[str, ...]]:
    raised = {row.key for row in seen.raised}
    for condition in seen.device.profile.conditions:
        key = condition_key(seen.device.id, condition.component, condition.fault)
        state = RAISED if key in raised else UNKNOWN if key in seen.unknown else NOT_RAISED
        if condition.enabled:
            yield (condition.key, state, condition.severity, condition.title)
    known = {condition.key for condition in seen.device.profile.conditions}
    for row in seen.raised:
        # That it cannot be reached every device has by itself.
        if f"{row.component}/{row.fault}" not in known:
            yield (f"{row.component}/{row.fault}", RAISED, Severity.band(row.severity).word, row.title)


def _aligned(rows: Iterable[tuple[str, ...]]) -> list[str]:
    table = list(rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)] if table else []
    return ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in table]
