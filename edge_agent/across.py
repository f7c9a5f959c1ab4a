"""Decides what a condition over signals of several devices may say, and makes it a rule of one of them.

A profile knows its own device alone. That a line moves while its scanner is silent, or that a photo-eye is
blocked while its zone runs, is known to the site: ``[[condition]]`` in agent.toml, in the grammar of
profiles, with signals that are named ``device/signal``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from edge_agent import verdict
from edge_agent.detect import Rule, rule
from edge_agent.device import Device
from edge_agent.profile import Condition
from edge_agent.profile_rules import choices, misfits
from edge_agent.wire import RESERVED_FAULTS, Id


class SiteCondition(Condition):
    """``[[condition]]``: a condition of ``device``; all its signals are named ``device/signal``."""

    device: Id


@dataclass(frozen=True, slots=True, kw_only=True)
class Across:
    """The rules of one device over signals of several."""

    device: str
    rules: tuple[Rule, ...]

    @property
    def signals(self) -> frozenset[str]:
        return frozenset(name for one in self.rules for name in one.signals)

    @property
    def sources(self) -> frozenset[str]:
        """The devices that they look at."""
        return frozenset(verdict.source_of(name) for name in self.signals)


def name_of(device: str, signal: str) -> str:
    return f"{device}/{signal}"


def across(conditions: Sequence[SiteCondition]) -> tuple[Across, ...]:
    """Those that are enabled, by device."""
    by_device: dict[str, list[Rule]] = {}
    for condition in conditions:
        if condition.enabled:
            by_device.setdefault(condition.device, []).append(rule(condition))
    return tuple(Across(device=device, rules=tuple(rules)) for device, rules in by_device.items())


def problems(conditions: Sequence[SiteCondition], devices: Sequence[Device]) -> Iterator[tuple[int, str]]:
    """(which condition, what is wrong with it): each key, and what was expected."""
    by_id = {device.id: device for device in devices}
    signals = {
        name_of(device.id, name): signal
        for device in devices
        for name, signal in device.profile.signals.items()
    }
    reads = {
        name: by_id[verdict.source_of(name)].profile.reads.get(one.read) for name, one in signals.items()
    }
    seen: dict[tuple[str, str], int] = {}
    for number, condition in enumerate(conditions):
        owner = by_id.get(condition.device)
        if owner is None:
            yield number, f"device: no [[device]] has the id {condition.device!r}"
            continue
        if condition.fault in RESERVED_FAULTS:
            yield number, f"fault: {condition.fault!r} is raised by the agent itself; take another word"
        if condition.key in {one.key for one in owner.profile.conditions}:
            yield (
                number,
                f"fault: the profile {owner.profile.name} of {owner.id} has {condition.key} already",
            )
        first = seen.setdefault((condition.device, condition.key), number)
        if first != number:
            yield number, f"fault: {condition.key} of {condition.device} is condition[{first}] already"
        unknown = dict(_unknown(condition, by_id))
        yield from ((number, text) for text in unknown.values())
        if not unknown:
            for problem in misfits(condition.when, signals, reads, ("when",)):
                yield number, f"{'.'.join(map(str, problem.path))}: {problem.text}"


def _unknown(condition: SiteCondition, by_id: Mapping[str, Device]) -> Iterator[tuple[str, str]]:
    for name in sorted(verdict.signals(condition.when)):
        source, slash, signal = name.partition("/")
        if not slash:
            yield name, f"when: signal {name!r}: write it as device/signal, such as {condition.device}/{name}"
        elif source not in by_id:
            yield name, f"when: signal {name!r}: no [[device]] has the id {source!r}"
        elif signal not in by_id[source].profile.signals:
            known = choices(by_id[source].profile.signals)
            yield name, f"when: signal {name!r}: {source} has no such signal; expected {known}"
