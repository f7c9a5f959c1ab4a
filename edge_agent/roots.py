"""Decides what explains that devices cannot be reached: one cause, named in every row of what lies behind it.

Devices hang together in two ways. A *group* shares a bus, or an adapter with several buses; it is down while
nothing on it can be read, and has an occurrence of its own (device: the gateway, component: the group). And
a device may be *fed by* another one: while that one is not heard or stopped, it explains the silence of what
it feeds. A *symptom* tells only that a device is not heard.
A row of an explained symptom names the topmost occurrence that explains it (``because``); the
rows themselves are written as always, for they are the facts that downtime is counted from.

``settle`` derives all of it from the rows that are open and from what the newest readings say of each device,
inside the transaction that changed a row. So causes need no memory of their own: a restart, a change of the
configuration or a row that was closed elsewhere ends in the same rows.

A symptom that may have a cause which is not declared yet *waits*: while what feeds its device is cut off
too, and for one ``unreachable_after`` when its cause has ended, in which its device can be heard again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edge_agent import detect, verdict
from edge_agent.device import Device
from edge_agent.occurrence import Change, Closing, Explaining, Opening, Reason
from edge_agent.profile import RequestRead
from edge_agent.verdict import Verdict
from edge_agent.wire import LINK_COMPONENT, UNREACHABLE, Row, Severity, Stamp, condition_key

NOT_OF_AN_ID = re.compile(r"[^a-z0-9._-]+")
MAX_ID = 64
# So many devices of a group are named in its evidence, and so many reasons of so many characters: 8 KiB at
# most.
NAMED = 60
REASONS = 3
MAX_DETAIL = 200
# A message may end after any of them: a cause is told before what it explains, and its end after what waits.
ORDER: dict[type[Change], int] = {Opening: 0, Explaining: 1, Closing: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """What more than one device shares: no device of it can be reached while it is down."""

    # The component of its occurrence.
    component: str
    # As a technician calls it.
    title: str
    advice: str
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What the newest readings of a device say, and since when they say so."""

    cut_off: Verdict
    since: Stamp
    # For people: what went wrong ("port /dev/ttyUSB0 is not there: unplugged?").
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """What hangs on what. The groups that hold others come first."""

    gateway: str = ""
    groups: tuple[Group, ...] = ()
    # Device -> the devices that feed it.
    fed_by: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    # Keys of the conditions that a cause may explain.
    symptoms: frozenset[str] = frozenset()
    unreachable_after_ns: int = 0

    def key(self, group: Group) -> str:
        return condition_key(self.gateway, group.component, UNREACHABLE)

    @property
    def keys(self) -> frozenset[str]:
        """Of the groups' own conditions."""
        return frozenset(map(self.key, self.groups))

    @property
    def devices(self) -> frozenset[str]:
        """All that have a cause or are one."""
        fed = {*self.fed_by, *(feeder for feeders in self.fed_by.values() for feeder in feeders)}
        return frozenset(fed.union(*(group.devices for group in self.groups)))

    def groups_of(self, device: str) -> list[Group]:
        return [group for group in self.groups if device in group.devices]


def tree(
    gateway: str,
    devices: Sequence[Device],
    adapters: Mapping[str, str],
    *,
    unreachable_after_s: float = detect.UNREACHABLE_AFTER_S,
) -> Tree:
    """``adapters``: the bus -> what it shares with other buses, in the words of a technician; "" if
    nothing.
    """
    on_bus: dict[str, list[str]] = {}
    for device in devices:
        on_bus.setdefault(device.bus, []).append(device.id)
    buses = [_bus(name, found) for name, found in on_bus.items() if len(found) > 1]
    on_adapter: dict[str, list[str]] = {}
    for name in on_bus:
        if adapters.get(name):
            on_adapter.setdefault(adapters[name], []).append(name)
    shared = [
        _adapter(words, [device for name in names for device in on_bus[name]])
        for words, names in on_adapter.items()
        if len(names) > 1
    ]
    return Tree(
        gateway=gateway,
        groups=(*shared, *buses),
        fed_by={device.id: device.fed_by for device in devices if device.fed_by},
        symptoms=frozenset(key for device in devices for key in _symptoms(device)),
        unreachable_after_ns=round(unreachable_after_s * 1_000_000_000),
    )


def in_words(tree: Tree) -> list[str]:
    """For an installer: what will be one ticket."""
    shared = [f"{_without_end(one.title)}: one ticket for {', '.join(one.devices)}" for one in tree.groups]
    fed = [f"{device} is fed by {' and '.join(feeders)}" for device, feeders in tree.fed_by.items()]
    return [*shared, *(f"{one}: silent with it, it needs no ticket of its own" for one in fed)]


def _without_end(title: str) -> str:
    return title.rpartition(" cannot be reached")[0]


def ring(fed_by: Mapping[str, Collection[str]]) -> tuple[str, ...]:
    """Devices that feed each other in a ring, which nobody can mean; empty: there is none."""
    for start in fed_by:
        seen = {start}
        way: list[tuple[str, tuple[str, ...]]] = [(start, (start,))]
        while way:
            device, path = way.pop()
            for feeder in fed_by.get(device, ()):
                if feeder == start:
                    return (*path, start)
                if feeder not in seen:
                    seen.add(feeder)
                    way.append((feeder, (*path, feeder)))
    return ()


def settle(
    tree: Tree, rows: Iterable[Row], links: Mapping[str, Link], now: Stamp, *, fresh: Collection[str] = ()
) -> list[Change]:
    """What has to be written so that every open row is explained as it is now. ``rows``: all that are open;
    ``fresh``: uids of those that were not a moment ago. What pauses is not there, and explains nothing.
    """
    held = {row.key: row for row in rows if not row.is_paused}
    down = set(held.keys() & tree.keys)
    changes = list(_groups(tree, held, links, down))
    for key, row in held.items():
        if key in tree.symptoms or key in down:
            cause = _cause(tree, row, down, held)
            waits = None
            if cause is None:
                waits = _waits(tree, row, links, now, may_wait=row.uid in fresh)
                changed = waits is None and row.because is not None
            else:
                changed = cause not in held or held[cause].uid != row.because
            if changed or waits != row.waits:
                changes.append(Explaining(key=key, because=cause, waits=waits))
    return sorted(changes, key=lambda change: ORDER[type(change)])


def unsettled(tree: Tree, links: Mapping[str, Link], of_devices: Collection[str]) -> list[str]:
    """Keys of the groups of which nothing is known since the start. ``of_devices``: of which that is so."""
    return [
        tree.key(group)
        for group in tree.groups
        if any(device in of_devices for device in group.devices) and _cut_off(group, links) is not False
    ]


def _groups(
    tree: Tree, held: Mapping[str, Row], links: Mapping[str, Link], down: set[str]
) -> Iterator[Change]:
    """Down as soon as nothing on it can be read and one of its devices was declared unreachable, unless what
    it is a part of is down. ``down`` is what of the groups is down, and follows.
    """
    for group in tree.groups:
        key, cut_off = tree.key(group), _cut_off(group, links)
        if key in down and cut_off is False:
            down.remove(key)
            heard = [links[device] for device in group.devices if device in links]
            first = min((one.since for one in heard if one.cut_off is False), key=lambda at: at.mono_ns)
            yield Closing(key=key, cleared=first, reason=Reason.CLEARED)
        elif key not in down and cut_off is True and not _behind(tree, group, down):
            unreachable = (condition_key(device, LINK_COMPONENT, UNREACHABLE) for device in group.devices)
            declared = [held[one] for one in unreachable if one in held]
            if declared:
                down.add(key)
                yield _opening(tree, group, declared, links)


def _cut_off(group: Group, links: Mapping[str, Link]) -> Verdict:
    said = [links[device].cut_off if device in links else None for device in group.devices]
    if False in said:
        return False
    return None if None in said else True


def _opening(tree: Tree, group: Group, declared: Sequence[Row], links: Mapping[str, Link]) -> Opening:
    first_bad = max((links[device].since for device in group.devices), key=lambda stamp: stamp.mono_ns)
    told = [row.raised for row in declared if row.raised.boot == first_bad.boot]
    earliest = min(told, key=lambda stamp: stamp.mono_ns, default=first_bad)
    return Opening(
        device=tree.gateway,
        component=group.component,
        fault=UNREACHABLE,
        severity=Severity.DEGRADED,
        title=group.title,
        advice=group.advice,
        first_bad=first_bad,
        raised=max(first_bad, earliest, key=lambda stamp: stamp.mono_ns),
        evidence=_evidence(group, links),
    )


def _evidence(group: Group, links: Mapping[str, Link]) -> dict[str, Any]:
    """Which devices, and why each is not heard: once, where it is the same for many."""
    why = dict.fromkeys(links[device].detail[:MAX_DETAIL] for device in group.devices)
    told = {"why": [detail for detail in why if detail][:REASONS], "devices": list(group.devices[:NAMED])}
    return told | ({"more": len(group.devices) - NAMED} if len(group.devices) > NAMED else {})


def _behind(tree: Tree, group: Group, down: Collection[str]) -> str | None:
    """Key of what it is a part of, if that is down."""
    around = (one for one in tree.groups if set(group.devices) < set(one.devices))
    return next((key for one in around if (key := tree.key(one)) in down), None)


def _cause(tree: Tree, row: Row, down: Collection[str], held: Mapping[str, Row]) -> str | None:
    """Key of the topmost condition that explains this symptom; None: it stands by itself."""
    for group in tree.groups:
        if tree.key(group) == row.key:
            return _behind(tree, group, down)
    return _cause_of_silence(tree, row.device, down, held)


def _cause_of_silence(tree: Tree, device: str, down: Collection[str], held: Mapping[str, Row]) -> str | None:
    for group in tree.groups_of(device):
        if tree.key(group) in down:
            return tree.key(group)
    for feeder in tree.fed_by.get(device, ()):
        own = [one for one in held.values() if one.device == feeder]
        gone = [one for one in own if one.key in tree.symptoms]
        if gone or any(tree.key(group) in down for group in tree.groups_of(feeder)):
            above = _cause_of_silence(tree, feeder, down, held)
            return above if above is not None else min(gone, key=_rank).key
        stops = [one for one in own if one.severity >= Severity.STOP]
        if stops:
            return min(stops, key=_rank).key
    return None


def _rank(row: Row) -> tuple[bool, str]:
    return (row.fault != UNREACHABLE, row.key)


def _waits(tree: Tree, row: Row, links: Mapping[str, Link], now: Stamp, *, may_wait: bool) -> Stamp | None:
    """Until when a row that nothing explains may still be explained."""
    if row.waits is not None and row.waits.boot == now.boot:
        return row.waits if row.waits.mono_ns > now.mono_ns else None
    if row.waits is not None or row.because is not None:
        return later(now, tree.unreachable_after_ns)
    ends = [
        later(links[feeder].since, tree.unreachable_after_ns)
        for feeder in _feeders(tree, row.device)
        if feeder in links and links[feeder].cut_off is True
    ]
    if not may_wait or not ends:
        return None
    latest = max(ends, key=lambda stamp: stamp.mono_ns)
    return latest if latest.mono_ns > now.mono_ns else None


def _feeders(tree: Tree, device: str) -> Iterator[str]:
    for feeder in tree.fed_by.get(device, ()):
        yield feeder
        yield from _feeders(tree, feeder)


def later(stamp: Stamp, ns: int) -> Stamp:
    return replace(stamp, mono_ns=stamp.mono_ns + ns, wall_ms=stamp.wall_ms + ns // 1_000_000)


def _symptoms(device: Device) -> Iterator[str]:
    """Its conditions that tell of nothing but silence."""
    silences = {
        read.no_answer
        for read in device.profile.reads.values()
        if isinstance(read, RequestRead) and read.no_answer is not None
    }
    for condition in device.profile.conditions:
        if condition.silence or verdict.heard(condition.when) <= silences:
            yield condition_key(device.id, condition.component, condition.fault)
    yield condition_key(device.id, LINK_COMPONENT, UNREACHABLE)


def _bus(name: str, devices: Sequence[str]) -> Group:
    return Group(
        component=name,
        title=f"Bus {name} cannot be reached ({len(devices)} devices)",
        advice="Nothing on it answers. Check the adapter, controller or broker that it hangs on, its power "
        "and its cable, before any of its devices.",
        devices=tuple(devices),
    )


def _adapter(words: str, devices: Sequence[str]) -> Group:
    return Group(
        component=_as_id(f"adapter-{words.lower()}"),
        title=f"{words[:120]} cannot be reached ({len(devices)} devices)",
        advice="No bus that goes through it works. Check whether it is plugged in and has power, before any "
        "of its devices.",
        devices=tuple(devices),
    )


def _as_id(text: str) -> str:
    found = NOT_OF_AN_ID.sub("-", text).strip("-")
    if len(found) <= MAX_ID:
        return found
    return f"{found[: MAX_ID - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
