"""Decides what of a tape is shown of one raise: signals for a chart, readings for a list, as much as fits.

All times are milliseconds from the raise. What is nearest to it stays when there is too much.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edge_agent import decode, verdict
from edge_agent.profile import ModbusRead, Profile, RequestRead, When
from edge_agent.tape import Meant, Said, Tape, shown_value
from edge_agent.wire import MAX_PART_BYTES, mono_ms

MAX_SIGNALS = 12
# Of one signal: a chart of a handheld has some 300 dots across.
MAX_POINTS = 120
MAX_READINGS = 120
# Of one reading, what it changed.
MAX_MEANS = 8
# What signals may take of a part, and a part of the limit.
SIGNALS_BYTES = MAX_PART_BYTES // 2
PART_BYTES = MAX_PART_BYTES - 512
# Whether the device answers, as a signal: for what looks at its link alone. Outside the grammar.
ANSWERS = "(answers)"

Value = bool | int | str | None
Point = tuple[int, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """One raise: when it was, in ms of the monotonic clock, and what its condition looks at."""

    raised_ms: int
    signals: Sequence[str]
    limits: Mapping[str, Sequence[str]] = field(default_factory=dict)


def around(profile: Profile, condition: str, raised_ms: int, signals: Iterable[str] = ()) -> Around:
    """``condition``: ``component/fault``. One that the profile does not have looks at ``signals``, and
    where there are none at the link.
    """
    found = next((one for one in profile.conditions if one.key == condition), None)
    if found is None:
        return Around(raised_ms=raised_ms, signals=sorted(signals)[:MAX_SIGNALS] or (ANSWERS,))
    return Around(
        raised_ms=raised_ms,
        signals=sorted(verdict.signals(found.when))[:MAX_SIGNALS],
        limits={signal: sorted(limits) for signal, limits in _limits(found.when).items()},
    )


def joined(found: Mapping[str, Mapping[str, Any]], *, from_ms: int, to_ms: int) -> dict[str, Any]:
    """Excerpts of several devices as one; what is in them is called ``device/signal`` and ``device/read``."""
    shown: dict[str, Any] = {"from_ms": from_ms, "to_ms": to_ms, "signals": [], "readings": [], "reads": {}}
    for device, part in found.items():
        shown["signals"] += [one | {"signal": f"{device}/{one['signal']}"} for one in part["signals"]]
        shown["readings"] += [one | {"read": f"{device}/{one['read']}"} for one in part["readings"]]
        shown["reads"] |= {f"{device}/{name}": asked for name, asked in part.get("reads", {}).items()}
    shown["readings"].sort(key=lambda one: one["at_ms"])
    while shown["readings"] and len(json.dumps(shown)) > PART_BYTES:
        shown["readings"].pop(0 if to_ms <= 0 else -1)
    return shown


def excerpt(tape: Tape, around: Around, *, from_ms: int, to_ms: int, share: int = 1) -> dict[str, Any]:
    """``from_ms`` < ``to_ms``; one of them is the raise (0). ``share``: among so many devices."""
    said, meant = tape.said(), list(tape.meant())
    signals = [
        found
        for name in around.signals
        if (found := _signal(tape, name, around, said, meant, from_ms, to_ms)) is not None
    ]
    while signals and len(json.dumps(signals)) > SIGNALS_BYTES // share:
        signals.pop()
    shown: dict[str, Any] = {"from_ms": from_ms, "to_ms": to_ms, "signals": signals}
    room = PART_BYTES // share - len(json.dumps(shown))
    readings = _readings(tape, around, said, meant, from_ms, to_ms, room)
    asked = _asked(tape.device.profile, {one["read"] for one in readings})
    while readings and len(json.dumps(asked)) + len(json.dumps(readings)) > room:
        readings.pop(0 if to_ms <= 0 else -1)
    return shown | {"readings": readings} | ({"reads": asked} if asked else {})


def _signal(
    tape: Tape,
    name: str,
    around: Around,
    said: Iterable[Said],
    meant: Iterable[Meant],
    from_ms: int,
    to_ms: int,
) -> dict[str, Any] | None:
    if name == ANSWERS:
        points: list[Point] = [(one.first_ms - around.raised_ms, not one.trouble) for one in said]
    else:
        points = [(one.at_ms - around.raised_ms, one.value) for one in meant if one.signal == name]
        latest = tape.latest.get(name)
        if not points and latest is not None:
            # Its last change has left the tape: since then its read has said the same.
            read = tape.device.profile.signals[name].read
            since_ms = [one.first_ms for one in said if one.read == read][-1:]
            at_ms = min(since_ms, default=mono_ms(latest.at)) - around.raised_ms
            points = [(at_ms, shown_value(latest.value))]
    before = [value for at_ms, value in points if at_ms <= from_ms]
    within = [(at_ms, value) for at_ms, value in points if from_ms < at_ms <= to_ms]
    changes = _changes([*((from_ms, value) for value in before[-1:]), *within])
    if not changes:
        return None
    points_shown = [list(point) for point in _thinned(changes, from_ms, to_ms)]
    shown: dict[str, Any] = {"signal": name, "points": points_shown}
    return shown | ({"limits": list(around.limits[name])} if name in around.limits else {})


def _changes(points: Iterable[Point]) -> list[Point]:
    found: list[Point] = []
    for point in points:
        if not found or not _same(point[1], found[-1][1]):
            found.append(point)
    return found


def _same(one: Value, other: Value) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _thinned(points: list[Point], from_ms: int, to_ms: int) -> list[Point]:
    """Of each stretch of time the least and the most, or where that cannot be said the first and the last."""
    if len(points) <= MAX_POINTS:
        return points
    width = max(1, -(-(to_ms - from_ms) // (MAX_POINTS // 2)))
    stretches: dict[int, list[Point]] = defaultdict(list)
    for point in points:
        stretches[(point[0] - from_ms) // width].append(point)
    found: list[Point] = []
    for within in stretches.values():
        numbers = [
            (number, place)
            for place, (_, value) in enumerate(within)
            if (number := _number(value)) is not None
        ]
        kept = {min(numbers)[1], max(numbers)[1]} if len(numbers) == len(within) else {0, len(within) - 1}
        found += [within[place] for place in sorted(kept)]
    return found


def _number(value: Value) -> float | None:
    if value is None or isinstance(value, bool):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _readings(
    tape: Tape,
    around: Around,
    said: Sequence[Said],
    meant: Iterable[Meant],
    from_ms: int,
    to_ms: int,
    room: int,
) -> list[dict[str, Any]]:
    """Oldest first; as many as fit, from the raise on."""
    means: dict[tuple[str, int], dict[str, Value]] = defaultdict(dict)
    for change in meant:
        means[tape.device.profile.signals[change.signal].read, change.at_ms][change.signal] = change.value
    since, until = around.raised_ms + from_ms, around.raised_ms + to_ms
    if to_ms <= 0:
        within = [one for one in said if one.first_ms <= until and one.last_ms >= since][::-1]
    else:
        within = [one for one in said if one.last_ms > since and one.first_ms <= until]
    found: list[dict[str, Any]] = []
    for one in within[:MAX_READINGS]:
        reading = _reading(tape, around, one, until, means.get((one.read, one.first_ms), {}))
        room -= len(json.dumps(reading)) + 2
        if room < 0:
            break
        found.append(reading)
    return sorted(found, key=lambda one: int(one["at_ms"]))


def _reading(tape: Tape, around: Around, one: Said, until: int, means: Mapping[str, Value]) -> dict[str, Any]:
    last_ms = min(one.last_ms, until)
    shown: dict[str, Any] = {"read": one.read, "at_ms": one.first_ms - around.raised_ms}
    if last_ms > one.first_ms:
        shown["until_ms"] = last_ms - around.raised_ms
        if last_ms == one.last_ms:
            shown["times"] = one.times
    if one.trouble:
        shown |= {"trouble": one.trouble} | ({"detail": one.detail} if one.detail else {})
    else:
        shown["frames"] = list(decode.lines(tape.device, one.read, one.payload))
    if one.retained:
        shown["retained"] = True
    first = sorted(means, key=lambda name: (name not in around.signals, name))[:MAX_MEANS]
    return shown | ({"means": {name: means[name] for name in first}} if first else {})


def _asked(profile: Profile, reads: Iterable[str]) -> dict[str, str]:
    """What each of these reads asks for, as a line; who listens asks nothing."""
    asked = {}
    for name in sorted(reads):
        read = profile.reads[name]
        if isinstance(read, RequestRead):
            asked[name] = decode.escaped(read.request)
        elif isinstance(read, ModbusRead):
            last = read.address + read.count - 1
            asked[name] = f"function {read.function}, {read.address} to {last}"
    return asked


def _limits(when: When) -> dict[str, set[str]]:
    """What ``above`` and ``below`` compare each signal with, wherever they stand in it."""
    found: dict[str, set[str]] = defaultdict(set)
    for limit in (when.above, when.below):
        if limit is not None:
            found[limit.signal].add(f"{limit.limit:.12g}")
    for inner in (*(when.any or ()), *(when.all or ()), *((when.not_,) if when.not_ else ())):
        for signal, limits in _limits(inner).items():
            found[signal] |= limits
    return found
