"""Decides what other rules a trace is replayed under, and how the occurrences of two sets of rules differ.

A change is what an installer types: ``[DEVICE:]KEY=VALUE``. KEY is a key of ``[device.set]``; or a condition
and one of its keys, ``media/paper-out.on_delay_s``; or ``on_delay_s`` or ``off_delay_s`` alone, which is that
of every condition; or ``unreachable_after_s``, which is the agent's.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from edge_agent import profile
from edge_agent.profile import Condition, ProfileError
from edge_agent.trace import Header, t_s
from edge_agent.wire import Row, Severity

DELAYS = ("on_delay_s", "off_delay_s")
OF_THE_AGENT = "unreachable_after_s"
SECTIONS = ("reads", "signals", "conditions")
UNITS_S = {"ms": 0.001, "s": 1, "min": 60, "h": 3600}
# Less apart than this is the same moment: a trace has microseconds, a journal shows milliseconds.
SAME_S = 0.001

_CHANGE = re.compile(r"(?:(?P<device>[a-z0-9][a-z0-9._-]*):)?(?P<key>[^=]+?)\s*=\s*(?P<value>.*)", re.DOTALL)
_DURATION = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?)\s*(?P<unit>ms|s|min|h)")


class ChangeError(ValueError):
    """What was typed cannot be done; the text says what was expected."""


# --- other rules --------------------------------------------------------------------------------------------


def with_profile(header: Header, name: str, text: str) -> Header:
    """The devices of profile ``name`` read by another text of it. Raises ChangeError."""
    if name not in header.profiles:
        raise ChangeError(
            f"no device of the trace has a profile {name!r}; there are: {_choices(header.profiles)}"
        )
    return header.model_copy(update={"profiles": {**header.profiles, name: text}})


def with_change(header: Header, typed: str) -> Header:
    """The rules after one change. Raises ChangeError; the rest is found when they are read."""
    found = _CHANGE.fullmatch(typed.strip())
    if found is None:
        raise ChangeError(f"{typed!r}: expected [DEVICE:]KEY=VALUE, for example belt-1:belt/jam.on_delay_s=5")
    device, key, wanted = found["device"], _full(found["key"].strip()), value(found["value"])
    if key == OF_THE_AGENT and device is None:
        return _unreachable_after(header, typed, wanted)
    ids = [str(table["id"]) for table in header.device]
    if device is not None and device not in ids:
        raise ChangeError(f"{typed!r}: the trace has no device {device!r}; there are: {_choices(ids)}")
    changes = {one: _overlay(header, one, key, wanted) for one in ids if device in (None, one)}
    of_site = [
        _of_site(table, key, wanted) if table["device"] in changes else {} for table in header.condition
    ]
    if not any(changes.values()) and not any(of_site):
        keys = sorted({rule for one in changes for rule in conditions(header, one)})
        keys += [_key(table) for table in header.condition if table["device"] in changes]
        raise ChangeError(
            f"{typed!r}: there is no {key!r}; expected a condition and one of its keys ({_choices(keys)}), "
            f"a key of {', '.join(SECTIONS)}, or {', '.join((*DELAYS, OF_THE_AGENT))}"
        )
    return header.model_copy(
        update={
            "device": tuple(_with_set(table, changes.get(str(table["id"]))) for table in header.device),
            "condition": tuple(map(profile.merged, header.condition, of_site)),
        }
    )


def conditions(header: Header, device: str) -> Mapping[str, Condition]:
    """Of one device, by ``component/fault``, as its profile and preset say. Raises ChangeError."""
    table = next(table for table in header.device if table["id"] == device)
    name = str(table["profile"])
    try:
        read = profile.parse(header.profiles[name], name=name, preset=table.get("preset"))
    except ProfileError as error:
        raise ChangeError(f"profile {name}: {error}") from error
    return {condition.key: condition for condition in read.conditions}


def _unreachable_after(header: Header, typed: str, value: object) -> Header:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 3600:
        raise ChangeError(f"{typed!r}: seconds are expected, 1 to 3600")
    return header.model_copy(update={OF_THE_AGENT: float(value)})


def _overlay(header: Header, device: str, key: str, value: object) -> Mapping[str, Any]:
    """What ``[device.set]`` of this device would say; nothing if it has nothing of that name."""
    section, dot, _ = key.partition(".")
    if dot and section in SECTIONS:
        return _nested(key, value)
    known = conditions(header, device)
    if key in DELAYS:
        return {"conditions": {rule: {key: value} for rule in known}}
    for rule, condition in known.items():
        if change := _of_condition(rule, condition.fault, key, value):
            return {"conditions": {rule: change}}
    return {}


def _of_site(table: Mapping[str, Any], key: str, value: object) -> Mapping[str, Any]:
    """What changes of one ``[[condition]]``."""
    if key in DELAYS:
        return {key: value}
    return _of_condition(_key(table), str(table["fault"]), key, value)


def _of_condition(rule: str, fault: str, key: str, value: object) -> Mapping[str, Any]:
    """What ``key`` says of the condition; nothing if it says nothing of it."""
    for name in (rule, f'"{rule}"', fault):
        if key.startswith(f"{name}."):
            return _nested(_full(key[len(name) + 1 :]), value)
    return {}


def _key(table: Mapping[str, Any]) -> str:
    return f"{table['component']}/{table['fault']}"


def _nested(key: str, value: object) -> dict[str, Any]:
    """``a.b = value`` as TOML reads it."""
    try:
        table: dict[str, Any] = tomllib.loads(f"{key} = 0")
    except tomllib.TOMLDecodeError as error:
        raise ChangeError(f"{key!r}: no key of TOML ({error}); quote a name that has a slash") from error
    here = table
    while isinstance(inner := next(iter(here.values())), dict):
        here = inner
    here[next(iter(here))] = value
    return table


def _with_set(table: Mapping[str, Any], change: Mapping[str, Any] | None) -> dict[str, Any]:
    if not change:
        return dict(table)
    return {**table, "set": profile.merged(table.get("set", {}), change)}


def _full(key: str) -> str:
    return f"{key}_s" if f"{key}_s" in DELAYS else key


def value(typed: str) -> object:
    """A value of TOML, a duration (5s, 2 min), or else the text itself."""
    if found := _DURATION.fullmatch(typed.strip()):
        return float(found["number"]) * UNITS_S[found["unit"]]
    try:
        return tomllib.loads(f"value = {typed}")["value"]
    except tomllib.TOMLDecodeError:
        return typed.strip()


# --- what differs -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One occurrence, in seconds of the trace. ``cleared_s`` None: it was open at the end."""

    device: str
    component: str
    fault: str
    severity: str
    title: str
    first_bad_s: float
    raised_s: float
    cleared_s: float | None
    reason: str
    # The words of the occurrence that explains it; empty: none.
    because: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.device, self.component, self.fault)

    @property
    def words(self) -> str:
        return f"{self.device} {self.component}/{self.fault}"


class What(StrEnum):
    NEW = "new"
    GONE = "gone"
    EARLIER = "earlier"
    LATER = "later"
    LONGER = "longer"
    SHORTER = "shorter"
    SEVERITY = "severity"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The same occurrence under two sets of rules, and by how many seconds it moved."""

    what: What
    before: Shown | None
    after: Shown | None
    by_s: float = 0.0

    @property
    def at_s(self) -> float:
        one = self.after or self.before
        assert one is not None
        return one.raised_s


def shown(rows: Sequence[Row]) -> tuple[Shown, ...]:
    words = {row.uid: f"{row.device} {row.component}/{row.fault}" for row in rows}
    return tuple(
        Shown(
            device=row.device,
            component=row.component,
            fault=row.fault,
            severity=Severity.band(row.severity).word,
            title=row.title,
            first_bad_s=t_s(row.first_bad),
            raised_s=t_s(row.raised),
            cleared_s=None if row.cleared is None else t_s(row.cleared),
            reason=row.reason or "",
            because=words.get(row.because or "", ""),
        )
        for row in rows
    )


def differences(before: Sequence[Shown], after: Sequence[Shown], *, end_s: float) -> tuple[Difference, ...]:
    """By time. Occurrences of one condition are the same where they overlap most."""
    found: list[Difference] = []
    left = list(before)
    for one in after:
        same = [old for old in left if old.key == one.key and _overlap_s(old, one, end_s) > 0]
        if not same:
            found.append(Difference(what=What.NEW, before=None, after=one))
            continue
        old = max(same, key=lambda old: _overlap_s(old, one, end_s))
        left.remove(old)
        found += _moved(old, one, end_s)
    found += [Difference(what=What.GONE, before=old, after=None) for old in left]
    return tuple(sorted(found, key=lambda difference: difference.at_s))


def _moved(old: Shown, new: Shown, end_s: float) -> Iterable[Difference]:
    raised_s = new.raised_s - old.raised_s
    lasted_s = (_end(new, end_s) - new.first_bad_s) - (_end(old, end_s) - old.first_bad_s)
    if abs(raised_s) >= SAME_S:
        what = What.LATER if raised_s > 0 else What.EARLIER
        yield Difference(what=what, before=old, after=new, by_s=abs(raised_s))
    if abs(lasted_s) >= SAME_S:
        what = What.LONGER if lasted_s > 0 else What.SHORTER
        yield Difference(what=what, before=old, after=new, by_s=abs(lasted_s))
    if old.severity != new.severity:
        yield Difference(what=What.SEVERITY, before=old, after=new)


def _overlap_s(one: Shown, other: Shown, end_s: float) -> float:
    # What was raised at the very end lasted for no time, and is the same all the same.
    last = min(_end(one, end_s), _end(other, end_s)) + SAME_S
    return last - max(one.first_bad_s, other.first_bad_s)


def _end(one: Shown, end_s: float) -> float:
    return end_s if one.cleared_s is None else one.cleared_s


def _choices(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
