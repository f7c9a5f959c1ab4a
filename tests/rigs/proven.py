"""What this run has proven of each profile: conditions that a device raised and that ended with its fault.

Only tests of simulators and of other makers' programs count, and only what they waited for by name.
"""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest

from edge_agent import device_table
from edge_agent.config import ProfileFolders
from edge_agent.device_table import Proven, Record

ROOT = Path(__file__).parents[2]
RECORD = ROOT / "device_profiles" / device_table.RECORD
GUIDE = ROOT / "docs" / "profiles.md"
FOLDERS = ("tests/device_profiles/simulators", "tests/peers")

# Of the session: some tests were left out.
IS_PART = pytest.StashKey[bool]()

_Keys = defaultdict[str, defaultdict[str, set[str]]]
_SIMULATED: _Keys = defaultdict(lambda: defaultdict(set))
_BY: _Keys = defaultdict(lambda: defaultdict(set))


class Seen:
    """One device of a profile: what was active each time that a test looked."""

    def __init__(self) -> None:
        self._raised: set[str] = set()
        self.cleared: set[str] = set()

    def active(self, conditions: frozenset[str]) -> None:
        self.cleared |= self._raised - conditions
        self._raised = set(conditions)


def add(profile: str, bus: Mapping[str, object], by: str, seen: Seen) -> None:
    """At the end of a test's look at a device; ``by``: the program of another maker that was it."""
    if os.environ.get("PYTEST_CURRENT_TEST", "").startswith(FOLDERS):
        kinds = _BY if by else _SIMULATED
        kinds[profile][by or _over(bus)] |= seen.cleared


def of_this_run() -> Record:
    return {
        name: Proven(simulated=_sorted(_SIMULATED[name]), by=_sorted(_BY[name]))
        for name in sorted({*_SIMULATED, *_BY})
    }


def together(one: Record, other: Record) -> Record:
    nothing = Proven(simulated={})
    return {
        name: Proven(
            simulated=_both(one.get(name, nothing).simulated, other.get(name, nothing).simulated),
            by=_both(one.get(name, nothing).by, other.get(name, nothing).by),
        )
        for name in {*one, *other}
    }


def write(record: Record) -> None:
    """The record, and the table that is made of it."""
    RECORD.write_text(device_table.written(record), encoding="utf-8")
    folders = ProfileFolders.of(None)
    table = device_table.table(map(folders.load, folders.names()), record)
    page = GUIDE.read_text(encoding="utf-8")
    marked = "<!-- device table -->\n", "<!-- /device table -->"
    made = re.sub(f"{marked[0]}.*?{marked[1]}", lambda _: table.join(marked), page, flags=re.DOTALL)
    GUIDE.write_text(made, encoding="utf-8")


def _sorted(found: Mapping[str, set[str]]) -> dict[str, tuple[str, ...]]:
    return {who: tuple(sorted(found[who])) for who in sorted(found)}


def _both(
    one: Mapping[str, tuple[str, ...]], other: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    return _sorted({who: {*one.get(who, ()), *other.get(who, ())} for who in {*one, *other}})


def _over(bus: Mapping[str, object]) -> str:
    """Modbus frames differ by what they travel on."""
    if bus["transport"] != "modbus":
        return str(bus["transport"])
    return {"tcp": "modbus tcp"}.get(str(bus.get("mode", "tcp")), "modbus rtu")


def without(less: Record, more: Record) -> str:
    """What of ``more`` is not in ``less``; empty when all is."""
    missing = {
        f"{name} {kind} {who}": sorted(set(conditions) - set(getattr(known, kind).get(who, ())))
        for name, proven in more.items()
        for known in [less.get(name, Proven(simulated={}))]
        for kind in ("simulated", "by")
        for who, conditions in getattr(proven, kind).items()
        if set(conditions) - set(getattr(known, kind).get(who, ())) or who not in getattr(known, kind)
    }
    return json.dumps(missing, indent=1) if missing else ""
