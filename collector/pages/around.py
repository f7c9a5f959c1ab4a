"""What was recorded around a raise, as a chart and a list for people. It comes from outside: nothing is taken
for granted, and what is not understood is left out.

Times are milliseconds from the raise. The chart is as wide and as high as its box, in percent.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from collector.pages.evidence import TROUBLES
from collector.store.evidence import Kept

MAX_TRACKS = 12
MAX_POINTS = 1_000
MAX_READINGS = 300
MAX_LINES = 64
MAX_CHARACTERS = 600
# A day, which no recording has.
MAX_MS = 86_400_000
# Readings that are shown at once, before the raise and after it; the others can be opened.
NEAR_BEFORE, NEAR_AFTER = 6, 4
STEPS_MS = (1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000, 1_800_000)
MAX_TICKS = 8
# So near to the mark of the raise, in percent of the width, is no room for other words.
BESIDE = 9.0
GONE = "What was recorded {} was given up: there was no room for it."
WHEN = {"before": "before the raise", "after": "after the raise"}

Value = bool | int | str | None
Point = tuple[int, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """``on``: a thing that is so, as against one that is not."""

    x: float
    width: float
    words: str
    on: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    y: float
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One signal: a ``path`` if it is a number, ``spans`` if it is not. ``gaps``: it could not be read."""

    signal: str
    at_raise: str
    path: str
    spans: tuple[Span, ...]
    gaps: tuple[Span, ...]
    limits: tuple[Limit, ...]
    top: str
    bottom: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """``even``: one that a narrow screen has room for. Without words beside the mark of the raise."""

    x: float
    words: str
    even: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A row of the table that says the same as the chart."""

    when: str
    signal: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """``hex``: the bytes of a line that has others than letters."""

    text: str
    hex: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    when: str
    read: str
    asked: str
    lines: tuple[Line, ...]
    trouble: str
    means: tuple[tuple[str, str], ...]
    note: str
    after: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """``began_x``: where the first bad value was. ``earlier``, ``later``: readings far from the raise."""

    tracks: tuple[Track, ...]
    ticks: tuple[Tick, ...]
    raised_x: float
    began_x: float
    changes: tuple[Change, ...]
    earlier: tuple[Reading, ...]
    near: tuple[Reading, ...]
    later: tuple[Reading, ...]
    notes: tuple[str, ...]


def recording(parts: Sequence[Kept], *, on_delay_ms: int) -> Recording | None:
    """``on_delay_ms``: how long before the raise the first bad value was. None: there is nothing to show."""
    told = [one.evidence for one in sorted(parts, key=lambda one: one.part != "before") if one.evidence]
    notes = tuple(
        GONE.format(WHEN.get(one.part, "around the raise")) for one in parts if one.evidence is None
    )
    if not told and not notes:
        return None
    from_ms = min((0, *(_ms(one.get("from_ms")) or 0 for one in told)))
    to_ms = max((0, *(_ms(one.get("to_ms")) or 0 for one in told)))
    scale = _Scale(from_ms, max(to_ms, from_ms + 1))
    signals = _signals(told)
    readings = _readings(told)
    before = [one for one in readings if not one.after]
    after = [one for one in readings if one.after]
    return Recording(
        tracks=tuple(_track(name, *found, scale) for name, found in list(signals.items())[:MAX_TRACKS]),
        ticks=_ticks(scale),
        raised_x=scale.x(0),
        began_x=scale.x(-max(0, on_delay_ms)),
        changes=_changes(signals),
        earlier=_asked_once(before[:-NEAR_BEFORE]),
        near=_asked_once([*before[-NEAR_BEFORE:], *after[:NEAR_AFTER]]),
        later=_asked_once(after[NEAR_AFTER:]),
        notes=notes,
    )


@dataclass(frozen=True, slots=True)
class _Scale:
    from_ms: int
    to_ms: int

    def x(self, at_ms: float) -> float:
        part = (at_ms - self.from_ms) / (self.to_ms - self.from_ms)
        return round(100 * min(1.0, max(0.0, part)), 2)


# --- signals ------------------------------------------------------------------------------------------------


def _signals(told: Iterable[Mapping[str, object]]) -> dict[str, tuple[list[Point], list[float]]]:
    """By name, the points of all parts in order, and the limits."""
    found: dict[str, tuple[list[Point], list[float]]] = {}
    for one in told:
        for signal in _entries(one.get("signals"), MAX_TRACKS):
            points = _points(signal.get("points"))
            if not points:
                continue
            before, limits = found.setdefault(str(signal.get("signal", ""))[:64], ([], []))
            # A part begins with what the one before ended with.
            before += points[1:] if before and before[-1][1] == points[0][1] else points
            limits += [
                limit
                for text in _list(signal.get("limits"))[:8]
                if (limit := _number(text)) is not None and limit not in limits
            ]
    return {name: (sorted(points, key=lambda p: p[0]), limits) for name, (points, limits) in found.items()}


def _points(found: object) -> list[Point]:
    points: list[Point] = []
    for one in _list(found)[:MAX_POINTS]:
        if isinstance(one, list) and len(one) == 2 and (at_ms := _ms(one[0])) is not None:
            value = one[1]
            known = value is None or isinstance(value, bool | int | str)
            points.append((at_ms, value if known else str(value)))
    return points


def _track(name: str, points: Sequence[Point], limits: Sequence[float], scale: _Scale) -> Track:
    ends = [at_ms for at_ms, _ in points[1:]] + [scale.to_ms]
    held = [(at_ms, end_ms, value) for (at_ms, value), end_ms in zip(points, ends, strict=True)]
    gaps = tuple(
        Span(x=scale.x(at_ms), width=_width(scale, at_ms, end_ms), words="could not be read")
        for at_ms, end_ms, value in held
        if value is None
    )
    numbers = [_number(value) for _, _, value in held if value is not None]
    at_raise = next((value for at_ms, value in reversed(points) if at_ms <= 0), None)
    shown = _words(at_raise) if any(at_ms <= 0 for at_ms, _ in points) else ""
    name = name.strip("()")
    if numbers and None not in numbers:
        low, high = _range([number for number in numbers if number is not None], limits)
        return Track(
            signal=name,
            at_raise=shown,
            path=_path(held, scale, low, high),
            spans=(),
            gaps=gaps,
            limits=tuple(Limit(y=_y(limit, low, high), words=f"{limit:g}") for limit in limits),
            top=f"{max(n for n in numbers if n is not None):.6g}",
            bottom=f"{min(n for n in numbers if n is not None):.6g}",
        )
    spans = tuple(
        Span(
            x=scale.x(at_ms),
            width=_width(scale, at_ms, end_ms),
            words=_words(value),
            on=value not in (False, 0, "0", ""),
        )
        for at_ms, end_ms, value in held
        if value is not None
    )
    return Track(signal=name, at_raise=shown, path="", spans=spans, gaps=gaps, limits=(), top="", bottom="")


def _width(scale: _Scale, at_ms: int, end_ms: int) -> float:
    return round(max(0.3, scale.x(end_ms) - scale.x(at_ms)), 2)


def _range(numbers: Sequence[float], limits: Sequence[float]) -> tuple[float, float]:
    """With the limits in it, and some room above and below."""
    low, high = min(*numbers, *limits, math.inf), max(*numbers, *limits, -math.inf)
    room = (high - low) * 0.08 or max(1.0, abs(high) * 0.5)
    return low - room, high + room


def _y(number: float, low: float, high: float) -> float:
    """From the top. Halves first: a range may be wider than a number can be."""
    part = (high / 2 - number / 2) / (high / 2 - low / 2)
    return round(100 * min(1.0, max(0.0, part)), 2)


def _path(held: Sequence[tuple[int, int, Value]], scale: _Scale, low: float, high: float) -> str:
    """A value holds until the next one."""
    path, drawn = [], False
    for at_ms, end_ms, value in held:
        number = _number(value)
        if number is None:
            drawn = False
            continue
        y = _y(number, low, high)
        path.append(f"V{y:g}" if drawn else f"M{scale.x(at_ms):g} {y:g}")
        path.append(f"H{scale.x(end_ms):g}")
        drawn = True
    return "".join(path)


def _ticks(scale: _Scale) -> tuple[Tick, ...]:
    span = scale.to_ms - scale.from_ms
    step = next((one for one in STEPS_MS if span / one <= MAX_TICKS), span)
    first = -(-scale.from_ms // step) * step
    return tuple(
        Tick(
            x=scale.x(at_ms),
            words=_seconds(at_ms, step) if abs(scale.x(at_ms) - scale.x(0)) > BESIDE else "",
            even=at_ms // step % 2 == 0,
        )
        for at_ms in range(first, scale.to_ms + 1, step)
        if at_ms != 0
    )


def _seconds(at_ms: int, step: int) -> str:
    sign = "−" if at_ms < 0 else "+"
    if step % 60_000 == 0:
        return f"{sign}{abs(at_ms) // 60_000} min"
    return f"{sign}{abs(at_ms) // 1000} s"


def _changes(signals: Mapping[str, tuple[Sequence[Point], object]]) -> tuple[Change, ...]:
    found = [(at_ms, name, value) for name, (points, _) in signals.items() for at_ms, value in points]
    found.sort(key=lambda one: one[0])
    return tuple(
        Change(when=when(at_ms), signal=name.strip("()"), value=_words(value))
        for at_ms, name, value in found[:MAX_POINTS]
    )


# --- readings -----------------------------------------------------------------------------------------------


def _readings(told: Sequence[Mapping[str, object]]) -> list[Reading]:
    """In the order in which they came; what goes on beyond the raise is in both parts, and counts once."""
    asked: dict[str, str] = {}
    # By read, moment, and how many of that moment were before it.
    found: dict[tuple[str, int, int], Mapping[str, object]] = {}
    for one in told:
        reads = one.get("reads")
        if isinstance(reads, Mapping):
            asked |= {str(name): str(text)[:MAX_CHARACTERS] for name, text in list(reads.items())[:64]}
        seen: Counter[tuple[str, int]] = Counter()
        for reading in _entries(one.get("readings"), MAX_READINGS):
            if (at_ms := _ms(reading.get("at_ms"))) is not None:
                read = str(reading.get("read", ""))
                found[read, at_ms, seen[read, at_ms]] = reading
                seen[read, at_ms] += 1
    return [
        _reading(read, at_ms, one, asked.get(read, ""))
        for (read, at_ms, _), one in sorted(found.items(), key=lambda pair: pair[0][1])
    ]


def _asked_once(readings: Iterable[Reading]) -> tuple[Reading, ...]:
    """What is asked again and again is said with the first of a list."""
    seen: set[str] = set()
    found = []
    for one in readings:
        found.append(replace(one, asked="") if one.read in seen else one)
        if one.asked:
            seen.add(one.read)
    return tuple(found)


def _reading(read: str, at_ms: int, reading: Mapping[str, object], asked: str) -> Reading:
    until_ms, times = _ms(reading.get("until_ms")), reading.get("times")
    moment = when(at_ms)
    if until_ms is not None and until_ms > at_ms:
        moment = f"{moment} to {when(until_ms)}"
        if isinstance(times, int) and times > 1:
            moment += f" ({times}×)"
    trouble = str(reading.get("trouble", ""))[:MAX_CHARACTERS]
    detail = str(reading.get("detail", ""))[:MAX_CHARACTERS]
    means = reading.get("means")
    return Reading(
        when=moment,
        read=read[:64],
        asked=asked if not trouble else "",
        lines=tuple(_line(str(frame)[:MAX_CHARACTERS]) for frame in _list(reading.get("frames"))[:MAX_LINES]),
        trouble=": ".join(
            part for part in (TROUBLES.get(trouble.replace(" ", "_"), trouble), detail) if part
        ),
        means=tuple((str(name), _words(value)) for name, value in list(means.items())[:16])
        if isinstance(means, Mapping) and not trouble
        else (),
        note="kept by the broker from before" if reading.get("retained") is True else "",
        after=at_ms > 0,
    )


_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|(\\))")
_REDACTED = "[redacted]"


def _line(text: str) -> Line:
    """The text as it was told; where it spells out a byte, all bytes of it too."""
    if "\\x" not in text or text.endswith("…"):
        return Line(text=text)
    parts = (" ".join(f"{byte:02x}" for byte in _bytes(part)) for part in text.split(_REDACTED))
    return Line(text=text, hex=f" {_REDACTED} ".join(parts).strip())


def _bytes(text: str) -> bytes:
    found, at = bytearray(), 0
    for escape in _ESCAPE.finditer(text):
        found += text[at : escape.start()].encode("utf-8", "replace")
        byte, short, long, backslash = escape.groups()
        if byte:
            found.append(int(byte, 16))
        elif backslash:
            found += b"\\"
        else:
            code = int(short or long, 16)
            found += chr(code).encode("utf-8", "replace") if code < 0x110000 else b"?"
        at = escape.end()
    return bytes(found + text[at:].encode("utf-8", "replace"))


# --- words --------------------------------------------------------------------------------------------------


def when(at_ms: int) -> str:
    """-2.0 s, at the raise, +0.5 s, -3 min 20 s."""
    if at_ms == 0:
        return "at the raise"
    sign, tenths = "−" if at_ms < 0 else "+", abs(at_ms) // 100
    if tenths < 1200:
        return f"{sign}{tenths // 10}.{tenths % 10} s"
    return f"{sign}{tenths // 600} min {tenths % 600 // 10} s"


def _words(value: object) -> str:
    if value is None:
        return "not readable"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)[:MAX_CHARACTERS]


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | str) or len(str(value)) > 40:
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _ms(found: object) -> int | None:
    if not isinstance(found, int) or isinstance(found, bool) or abs(found) > MAX_MS:
        return None
    return found


def _list(found: object) -> list[object]:
    return found if isinstance(found, list) else []


def _entries(found: object, at_most: int) -> list[Mapping[str, object]]:
    return [one for one in _list(found)[:at_most] if isinstance(one, Mapping)]
