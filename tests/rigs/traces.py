"""Traces made by hand: what a small conveyor said, moment by moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rigs.moments import HandClock
from rigs.watching import CONVEYOR

from edge_agent import replay, trace
from edge_agent.replay import Replayed
from edge_agent.sample import Payload, Reading, Trouble
from edge_agent.trace import Header, Scribe, Trace
from edge_agent.trace_file import TraceFile
from edge_agent.what_if import Shown, shown

BUS = {"name": "bus", "transport": "tcp", "host": "127.0.0.1", "port": 9100}


def header(
    clock: HandClock,
    *,
    devices: Mapping[str, Mapping[str, Any]] | None = None,
    text: str = CONVEYOR,
    conditions: Sequence[Mapping[str, Any]] = (),
) -> Header:
    """Conveyors on a bus each; ``devices``: id to what else stands in its table."""
    names = devices or {"belt-1": {}}
    now = clock.stamp()
    return Header(
        andon_trace=trace.VERSION,
        agent="0.1.0",
        boot=now.boot,
        wall_ms=now.wall_ms,
        source=now.source,
        bus=tuple(BUS | {"name": f"bus-{name}"} for name in names),
        device=tuple(
            {"id": name, "bus": f"bus-{name}", "profile": "conveyor", **more} for name, more in names.items()
        ),
        condition=tuple(dict(one) for one in conditions),
        profiles={"conveyor": text},
    )


class Tape:
    """A recording, and the clock that the test moves while it is under way."""

    def __init__(self, clock: HandClock | None = None, **more: Any) -> None:
        self.clock = clock or HandClock()
        self.header = header(self.clock, **more)
        devices = replay.settings_of("tape", self.header).devices
        self._scribe = Scribe(self.header, self.clock.stamp(), devices)
        self.lines = [trace.dumped(self.header)]

    def put(self, reading: Reading) -> Tape:
        self.lines += self._scribe.lines(reading).splitlines(keepends=True)
        return self

    def missing(self, count: int) -> Tape:
        self.lines.append(self._scribe.missing(count, self.clock.stamp()))
        return self

    def stands_still(self, seconds: float) -> Tape:
        since = self.clock.stamp()
        self.lines += self._scribe.stood_still(since, self.clock.go(seconds)).splitlines(keepends=True)
        return self

    def says(
        self,
        read: str,
        *payload: bytes | int,
        device: str = "belt-1",
        trouble: Trouble | None = None,
        **more: Any,
    ) -> Tape:
        given: Payload = payload  # type: ignore[assignment]
        at = self.clock.stamp()
        return self.put(Reading(device=device, read=read, at=at, payload=given, trouble=trouble, **more))

    def status(self, *, jam: bool = False, current: float = 1.0, device: str = "belt-1") -> Tape:
        return self.says("status", f"{int(jam)},{current}".encode(), device=device)

    def go(self, seconds: float) -> Tape:
        self.clock.go(seconds)
        return self

    def trace(self) -> Trace:
        return Trace("tape", iter(self.lines))

    def written(self, path: Path) -> Path:
        """One flush a line."""
        file = TraceFile(path)
        for line in self.lines:
            file.write(line)
        file.close()
        return path

    async def played(self, rules: Header | None = None) -> Replayed:
        return await replay.play(self.trace(), rules or self.header)

    async def raised(self, rules: Header | None = None) -> list[Shown]:
        return list(shown((await self.played(rules)).rows))


def jammed() -> Tape:
    """A jam of 8 s from 2 s on, too much current from 20 s on that does not end."""
    tape = Tape().status().go(2).status(jam=True).go(8).status().go(10)
    for _ in range(10):
        tape.status(current=12).go(1)
    return tape
