"""Plays a trace through the agent's own watch and journal, under the trace's clock: the occurrences of it.

Nothing waits: time is that of the trace. The same trace and rules give the same occurrences, each time and on
each machine.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent import config, profile
from edge_agent.config import ConfigError, Settings
from edge_agent.journal import Journal
from edge_agent.journal_memory import InMemory
from edge_agent.profile import Profile
from edge_agent.recorder import Recorder
from edge_agent.trace import Header, Missing, StoodStill, Trace, moved
from edge_agent.watch import Watch
from edge_agent.wire import Row, Stamp

# All rows of the journal in one batch.
EVERYTHING = 1 << 40
# A gateway of which the trace does not say the id.
UNNAMED = "gateway"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What a trace and a set of rules came to."""

    start: Stamp
    end: Stamp
    # In the order in which they were raised; the newest form of each.
    rows: tuple[Row, ...]
    # Keys of the conditions that nothing in the trace has settled.
    unsettled: tuple[str, ...]
    readings: int
    # Of a device or a read that the rules do not know.
    strange: int
    # See ``Missing``, ``ReadingLine.changed`` and ``Trace.cut_off``.
    missing: int
    changed: int
    cut_off: bool


class Texts:
    """Profiles from the texts that a trace has; what ``ProfileFolders`` is for an agent."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    def load(
        self, name: str, *, preset: str | None = None, overlay: Mapping[str, object] | None = None
    ) -> Profile:
        """Raises ConfigError for an unknown name, ProfileError for what is wrong inside."""
        if name not in self._texts:
            raise ConfigError(f"the trace has no profile {name!r}; it has: {', '.join(self._texts)}")
        return profile.parse(self._texts[name], name=name, preset=preset, overlay=overlay)


def settings_of(name: str, header: Header) -> Settings:
    """What the agent of a trace had in its agent.toml, as far as it decides. Raises ConfigError."""
    agent: dict[str, Any] = {"unreachable_after_s": header.unreachable_after_s}
    if header.gateway:
        agent["gateway"] = header.gateway
    tables = {"agent": agent, "bus": header.bus, "device": header.device, "condition": header.condition}
    return config.of_tables(Path(name), tables, Texts(header.profiles), opened=False)


async def play(trace: Trace, rules: Header, *, tell: Callable[[Stamp], None] = lambda _: None) -> Replayed:
    """The occurrences of ``trace`` under ``rules``, a header with other settings or its own.

    ``tell`` hears now and then how far it is. Raises ConfigError, TraceError.
    """
    settings = settings_of(trace.name, rules)
    reads = {device.id: frozenset(device.profile.reads) for device in settings.devices}
    clock = _TraceClock(trace.start)
    numbers = itertools.count(1)
    journal = Journal(InMemory(lambda: f"{next(numbers):032x}"), stamp=clock.stamp)
    readings = strange = missing = 0
    try:
        watch = await Watch.start(
            settings.devices,
            journal,
            Recorder(settings.devices),
            clock.stamp,
            tree=settings.tree(rules.gateway or UNNAMED),
            across=settings.across,
            unreachable_after_s=settings.agent.unreachable_after_s,
        )
        for one in trace.happened():
            if isinstance(one, Missing):
                missing += one.count
                continue
            if isinstance(one, Stamp):
                await _until(watch, clock, one)
                continue
            if isinstance(one, StoodStill):
                await _until(watch, clock, one.since)
                clock.now = one.until
                watch.stood_still(one.until)
                continue
            readings += 1
            tell(one.at)
            await _until(watch, clock, one.at)
            if one.read in reads.get(one.device, ()):
                await watch.take(one)
            else:
                strange += 1
        batch = await journal.batch(max_rows=EVERYTHING, max_bytes=EVERYTHING)
    finally:
        await journal.close()
    rows = sorted(map(Row.model_validate, batch.rows), key=lambda row: row.uid)
    return Replayed(
        start=trace.start,
        end=clock.stamp(),
        rows=tuple(rows),
        unsettled=tuple(sorted(watch.unsettled())),
        readings=readings,
        strange=strange,
        missing=missing,
        changed=trace.changed,
        cut_off=trace.cut_off,
    )


class _TraceClock:
    def __init__(self, start: Stamp) -> None:
        self.now = start

    def stamp(self) -> Stamp:
        return self.now


async def _until(watch: Watch, clock: _TraceClock, at: Stamp) -> None:
    """All that falls due before ``at``, each at its time."""
    while (due_ns := watch.deadline_ns()) is not None and due_ns < at.mono_ns:
        # A reading may be older than what was known when it came.
        clock.now = moved(at, max(due_ns, clock.now.mono_ns))
        await watch.look(clock.now)
    if at.mono_ns > clock.now.mono_ns:
        clock.now = at
