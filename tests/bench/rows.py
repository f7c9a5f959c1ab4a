"""Gateways as bytes: conversations that are made before the clock starts, so that the load costs little.

A gateway has ``DEVICES`` devices of four conditions each. After an outage its rows are told closed: bursts of
``burst`` occurrences of one condition, three minutes apart and so one ticket, then an hour of peace.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from edge_agent.occurrence import uid_at

DEVICES = 50
FAULTS = (("media", "paper-out"), ("head", "open"), ("drive", "over-current"), ("link", "lost"))
MINUTE_MS = 60_000
# When the boot of every gateway began, before the first message is sent.
UP_MS = 40 * 24 * 60 * MINUTE_MS
# The same on the gateways' own clocks: after all that ``lists`` stores.
BOOTED_MS = 1_780_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """``messages`` are halves: what stands before and after the moment of sending (wall clock, monotonic)."""

    name: str
    messages: tuple[tuple[bytes, bytes], ...]


def voice(
    name: str,
    *,
    messages: int,
    rows: int,
    burst: int,
    live: bool = False,
    seed: int = 1,
    devices: int = DEVICES,
) -> Voice:
    """``live``: rows are told as they happen, open and then closed, with the head; else a backlog, closed."""
    dice = random.Random(f"{name} {seed}")
    boot, stream = _hex(dice), _hex(dice)
    told = (_live if live else _backlog)(name, dice, boot, burst, devices, messages * rows)
    position: list[Any] = [0, "0" * 32]
    made = []
    open_now: list[str] = []
    for _ in range(messages):
        part = [next(told) for _ in range(rows)]
        for place, row in enumerate(part, position[0] + 1):
            row["mod_seq"] = place
            if row["state"] == "open":
                open_now.append(row["uid"])
            elif row["uid"] in open_now:
                open_now.remove(row["uid"])
        to = [position[0] + len(part), _hex(dice)]
        head = {"seq": to[0], "open": open_now, "unsettled": [], "inventory_hash": "none"}
        body = {
            "v": 1,
            "lane": "feed",
            "stream": stream,
            "from": position,
            "to": to,
            "lineage": [position, to],
            "rows": part,
            "pruned_through": 0,
            "clock": None,
            "health": {"agent_version": "0.1.0", "rows_waiting": 0},
            **({"head": head} if live else {}),
        }
        text = json.dumps(body, separators=(",", ":")).encode()
        before, _, after = text.partition(b'"clock":null')
        clock = f'"clock":{{"boot":"{boot}","source":"ntp","wall_ms":'.encode()
        made.append((before + clock, b"}" + after))
        position = to
    return Voice(name=name, messages=tuple(made))


def _backlog(
    name: str, dice: random.Random, boot: str, burst: int, devices: int, wanted: int
) -> Iterator[dict[str, Any]]:
    """All conditions take turns, each an hour after its last burst."""
    conditions = [(f"{name}-device-{n}", *fault) for n in range(devices) for fault in FAULTS]
    bursts = -(-wanted // burst)
    # So that the last one ends about now.
    start_ms = UP_MS - (bursts // len(conditions) + 2) * 60 * MINUTE_MS
    for number in range(bursts):
        device, component, fault = conditions[number % len(conditions)]
        at_ms = start_ms + (number // len(conditions)) * 60 * MINUTE_MS + dice.randrange(MINUTE_MS)
        for again in range(burst):
            began_ms = at_ms + again * 3 * MINUTE_MS
            yield _row(dice, boot, device, component, fault, began_ms, began_ms + 20_000)


def _live(
    name: str, dice: random.Random, boot: str, burst: int, devices: int, wanted: int
) -> Iterator[dict[str, Any]]:
    """One row opens and the next one closes it: each two are a ticket, until all conditions had one."""
    conditions = [(f"{name}-device-{n}", *fault) for n in range(devices) for fault in FAULTS]
    for number in range(wanted):
        device, component, fault = conditions[(number // 2) % len(conditions)]
        if number % 2 == 0:
            row = _row(dice, boot, device, component, fault, UP_MS + number, None)
            yield row
        else:
            yield row | {
                "rev": 2,
                "state": "closed",
                "cleared": _stamp(boot, UP_MS + number),
                "reason": "cleared",
            }


def _row(
    dice: random.Random,
    boot: str,
    device: str,
    component: str,
    fault: str,
    began_ms: int,
    ended_ms: int | None,
) -> dict[str, Any]:
    first = _stamp(boot, began_ms)
    row = {
        "uid": uid_at(BOOTED_MS + began_ms, _hex(dice)),
        "device": device,
        "component": component,
        "fault": fault,
        "rev": 1,
        "state": "open",
        "severity": 30,
        "severities": [{"severity": 30, "at": first}],
        "mod_seq": 0,
        "first_bad": first,
        "raised": _stamp(boot, began_ms + 500),
        "count": 1,
        "title": f"{fault.replace('-', ' ')} at {device}",
        "advice": "Load a new roll and close the head.",
        "evidence": {"frames": ["<STX>030,1,0,1245,000,0,0,0,000,0,0,0<ETX>"]},
    }
    if ended_ms is None:
        return row
    return row | {"rev": 2, "state": "closed", "cleared": _stamp(boot, ended_ms), "reason": "cleared"}


def _stamp(boot: str, mono_ms: int) -> dict[str, Any]:
    return {"boot": boot, "mono_ns": mono_ms * 1_000_000, "wall_ms": 0, "source": "none"}


def _hex(dice: random.Random) -> str:
    return f"{dice.getrandbits(128):032x}"
