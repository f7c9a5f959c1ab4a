"""The truth: which belt is jammed or overloaded, and since when."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

from edge_agent import profile
from edge_agent.device import Device

CONVEYOR = r"""
schema: 1
name: conveyor
title: A conveyor that says one line about itself
maker: Nobody
models: [C1]
evidence: simulated
source: made for a simulation
transports: [tcp]
framing: line
reads:
  status: {send: "S?\r", every_s: 1}
signals:
  jam: {read: status, field: 0, type: bool, source: made for a simulation}
  current: {read: status, field: 1, type: float, source: made for a simulation}
conditions:
  - {component: belt, fault: jam, title: Jam, severity: stop, when: {is: {signal: jam, value: true}}}
  - component: motor
    fault: overload
    title: Motor draws too much
    severity: degraded
    when: {above: {signal: current, limit: 10, deadband: 2}}
    on_delay_s: 5
    off_delay_s: 10
"""
FAULTS = {"jam": "belt", "overload": "motor"}


@cache
def conveyor(name: str) -> Device:
    parsed = profile.parse(CONVEYOR, name="conveyor", overlay=None)
    return Device(id=name, place=f"hall/line-1/{name}", bus="bus", profile=parsed)


@dataclass(slots=True, kw_only=True)
class Belt:
    name: str
    # fault -> since when it is there; a fault that is not there is not in it.
    faults: dict[str, float] = field(default_factory=dict)
    # Nobody can reach it.
    cut_off: bool = False

    def turn(self, fault: str, now: float) -> None:
        if fault in self.faults:
            del self.faults[fault]
        else:
            self.faults[fault] = now

    @property
    def line(self) -> bytes:
        return f"{int('jam' in self.faults)},{15.0 if 'overload' in self.faults else 1.0}".encode()

    def there_since(self, fault: str) -> float:
        """Since when without a break; for ever in the future if it is not there."""
        return self.faults.get(fault, float("inf"))
