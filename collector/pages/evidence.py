"""What the equipment said, as lines for people. Evidence comes from outside: nothing is taken for granted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from collector.pages.texts import duration
from edge_agent.wire import THINNED

MAX_LINES = 200
KNOWN = ("samples", "readings", "why", "devices", "more")
GIVEN_UP = "What the device said was given up when the gateway's journal was full."
QUALITIES = {"good": "", "uncertain": "uncertain", "bad": "not readable"}
TROUBLES = {
    "no_link": "no connection",
    "no_answer": "no answer",
    "wrong_answer": "an answer that does not fit",
    "offline": "reported as offline",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One signal at the moment of the fault."""

    signal: str
    value: str
    quality: str
    age: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One reading: what came over the wire, or why nothing did."""

    read: str
    age: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """``note`` says what is not there any more; ``rest`` is what this version does not know, as JSON."""

    values: tuple[Value, ...]
    readings: tuple[Said, ...]
    rest: str
    note: str = ""


def shown(evidence: Mapping[str, object] | None) -> Evidence | None:
    """``None`` when there is none."""
    if not evidence:
        return None
    if evidence == THINNED:
        return Evidence(values=(), readings=(), rest="", note=GIVEN_UP)
    rest = {name: value for name, value in evidence.items() if name not in KNOWN}
    found = Evidence(
        values=tuple(_value(one) for one in _entries(evidence.get("samples"))),
        readings=tuple(_said(one) for one in _entries(evidence.get("readings"))),
        rest=json.dumps(rest, indent=1, ensure_ascii=False) if rest else "",
        note=_silence(evidence),
    )
    return found if found.values or found.readings or found.rest or found.note else None


def _silence(evidence: Mapping[str, object]) -> str:
    """Of a bus: why nothing is heard on it, and of whom."""
    why, devices = _texts(evidence.get("why")), _texts(evidence.get("devices"))
    more = evidence.get("more")
    if isinstance(more, int) and devices:
        devices.append(f"and {more} more")
    said = [f"{one[:1].upper()}{one[1:]}{'' if one.endswith('?') else '.'}" for one in why]
    return " ".join([*said, *([f"Not heard: {', '.join(devices)}."] if devices else ())])


def _texts(found: object) -> list[str]:
    return [one for one in found if isinstance(one, str)][:MAX_LINES] if isinstance(found, list) else []


def _entries(found: object) -> list[Mapping[str, object]]:
    return [one for one in found if isinstance(one, Mapping)][:MAX_LINES] if isinstance(found, list) else []


def _value(sample: Mapping[str, object]) -> Value:
    quality = str(sample.get("quality", ""))
    detail = str(sample.get("detail", ""))
    return Value(
        signal=str(sample.get("signal", "")),
        value=_shown(sample.get("value")),
        quality=", ".join(word for word in (QUALITIES.get(quality, quality), detail) if word),
        age=_age(sample.get("age_ms")),
    )


def _said(reading: Mapping[str, object]) -> Said:
    frames = reading.get("frames")
    if isinstance(frames, list):
        text = "\n".join(str(frame) for frame in frames[:MAX_LINES])
    else:
        trouble = str(reading.get("trouble", ""))
        text = TROUBLES.get(trouble, trouble)
    detail = str(reading.get("detail", ""))
    kept = "kept by the broker from before" if reading.get("retained") is True else ""
    return Said(
        read=str(reading.get("read", "")),
        age=_age(reading.get("age_ms")),
        text="\n".join(line for line in (text, detail, kept) if line),
    )


def _shown(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _age(found: object) -> str:
    if not isinstance(found, int) or isinstance(found, bool):
        return ""
    return "at that moment" if found < 1000 else f"{duration(found)} before"
