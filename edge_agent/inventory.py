"""Decides how a gateway describes what it watches: devices, places, conditions, and one hash of it all."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from edge_agent import detect
from edge_agent.across import Across
from edge_agent.detect import Rule
from edge_agent.device import Device
from edge_agent.wire import Inventory, WatchedCondition, WatchedDevice, encode

HASH_CHARACTERS = 32


def inventory(devices: Sequence[Device], across: Sequence[Across] = ()) -> Inventory:
    """The hash depends on nothing but what is described, not even on the order of the configuration."""
    more = {one.device: one.rules for one in across}
    watched = [
        _device(device, more.get(device.id, ())) for device in sorted(devices, key=lambda device: device.id)
    ]
    described = encode(Inventory(hash="", devices=watched))
    return Inventory(hash=hashlib.sha256(described).hexdigest()[:HASH_CHARACTERS], devices=watched)


def _device(device: Device, more: Sequence[Rule]) -> WatchedDevice:
    rules = sorted((*detect.rules(device.profile.conditions), *more), key=lambda rule: rule.key)
    return WatchedDevice(
        id=device.id,
        place=device.place,
        profile=device.profile.name,
        bus=device.bus,
        conditions=[_condition(rule) for rule in rules],
    )


def _condition(rule: Rule) -> WatchedCondition:
    return WatchedCondition(
        component=rule.component, fault=rule.fault, severity=rule.severity, title=rule.title
    )
