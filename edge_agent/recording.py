"""Turns readings into a trace while they come: redacted, bounded, and without keeping anybody waiting.

Lines wait in memory for whoever moves them on, to a disk or to another program. When too many wait, readings
are left out and counted, and the trace says so.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection
from typing import Any

from edge_agent import trace, verdict
from edge_agent.across import SiteCondition
from edge_agent.config import ConfigError, DeviceTable, ProfileFolders, Settings
from edge_agent.health import agent_version
from edge_agent.profile import ProfileError
from edge_agent.sample import Reading
from edge_agent.trace import Header, Scribe
from edge_agent.watch import LATE_NS
from edge_agent.wire import Stamp

BEAT_EVERY_S = 1.0
# Some seconds of a busy gateway; what waits longer has nobody who takes it.
WAITING_BYTES = 4 << 20
# Keys of a [[bus]] that are nobody's business.
_USER = re.compile("://[^/]*@")
HIDDEN = frozenset({"username", "password_file", "client_id", "tls"})


def header(settings: Settings, start: Stamp, devices: Collection[str] = ()) -> Header:
    """All that a replay needs of these devices, or of all of them. Raises ConfigError."""
    known = [device.id for device in settings.devices]
    if strange := sorted(set(devices) - set(known)):
        raise ConfigError(f"no [[device]] has the id {strange[0]!r}; there are: {', '.join(known) or 'none'}")
    tables = [table for table in settings.device_tables if not devices or table.id in devices]
    buses, ids = {table.bus for table in tables}, {table.id for table in tables}
    folders = ProfileFolders.of(settings.agent.profiles_dir)
    try:
        profiles = {table.profile: folders.text(table.profile) for table in tables}
    except ProfileError as error:
        raise ConfigError(str(error)) from error
    return Header(
        andon_trace=trace.VERSION,
        agent=agent_version(),
        boot=start.boot,
        wall_ms=start.wall_ms,
        source=start.source,
        gateway=settings.agent.gateway or "",
        unreachable_after_s=settings.agent.unreachable_after_s,
        bus=tuple(
            {key: _without_user(value) for key, value in table.items() if key not in HIDDEN}
            for table in settings.bus_tables
            if table["name"] in buses
        ),
        device=tuple(_device(table, ids) for table in tables),
        condition=tuple(
            one.model_dump(mode="json", by_alias=True, exclude_defaults=True)
            for one in settings.condition_tables
            if one.device in ids and _sources(one) <= ids
        ),
        profiles=profiles,
    )


class Recording:
    """``take`` what comes, ``taken`` what waits."""

    def __init__(self, settings: Settings, start: Stamp, devices: Collection[str] = ()) -> None:
        """Raises ConfigError."""
        made = header(settings, start, devices)
        recorded = {table["id"] for table in made.device}
        self._scribe = Scribe(made, start, [one for one in settings.devices if one.id in recorded])
        self._waiting = bytearray(trace.dumped(made))
        self._missing = 0
        self._alive = start

    def beat(self, now: Stamp) -> None:
        """We run; to be told each second, or it is taken for a standstill."""
        if now.mono_ns - self._alive.mono_ns >= LATE_NS:
            self._waiting += self._scribe.stood_still(self._alive, now)
        self._alive = now

    def take(self, reading: Reading) -> None:
        self.beat(reading.at)
        if len(self._waiting) > WAITING_BYTES:
            self._missing += 1
            return
        if self._missing:
            self._waiting += self._scribe.missing(self._missing, reading.at)
            self._missing = 0
        self._waiting += self._scribe.lines(reading)

    def end(self, at: Stamp) -> None:
        """Nothing more comes; it is now so late."""
        self._waiting += self._scribe.end(at)

    def taken(self) -> bytes:
        """Whole lines, no longer here; empty when nothing waits."""
        lines = bytes(self._waiting)
        self._waiting.clear()
        return lines


def _device(table: DeviceTable, recorded: Collection[str]) -> dict[str, Any]:
    """As it was written, but for those that feed it and are not recorded."""
    fed_by = [one for one in table.fed_by if one in recorded]
    return table.model_copy(update={"fed_by": fed_by}).model_dump(mode="json", exclude_defaults=True)


def _sources(condition: SiteCondition) -> set[str]:
    return {verdict.source_of(name) for name in verdict.signals(condition.when)}


def _without_user(value: Any) -> Any:
    """An address without the name and password that may stand in it."""
    return _USER.sub("://", value) if isinstance(value, str) else value


async def beating(recording: Recording, stamp: Callable[[], Stamp]) -> None:
    """Until cancelled: silence of devices is told from a machine that was suspended."""
    while True:
        recording.beat(stamp())
        await asyncio.sleep(BEAT_EVERY_S)
