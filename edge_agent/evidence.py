"""Records what happened around each raise: what was before it at once, what came after it some seconds later.

Beside the journal and behind it: an occurrence is durable before anything here hears of it, and nothing here
can delay one. Whoever dies in between leaves less evidence.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from edge_agent.across import Across
from edge_agent.device import Device
from edge_agent.evidence_file import FILE, EvidenceFile, Figures, NewPart, Waiting
from edge_agent.excerpt import Around, around
from edge_agent.recorder import Recorder
from edge_agent.verdict import NS_PER_S
from edge_agent.wire import MAX_PARTS, Outcome, Row, Stamp, mono_ms

BEFORE, AFTER = "before", "after"

# Parts that are written together, and that may wait to be.
GROUP = 16
MAX_JOBS = 20_000
# So often it is looked whether the disk has become short.
LOOK_EVERY_S = 5.0
# A part whose occurrence the collector does not know is told again after so long.
ASIDE_NS = 600 * NS_PER_S

T = TypeVar("T")


class Keeper(Protocol):
    """Where the file may be touched: one piece of work after another, whoever is cancelled meanwhile."""

    async def run(self, work: Callable[[EvidenceFile], T]) -> T: ...

    async def close(self) -> None: ...


class Thread:
    """The ``Keeper`` of an agent."""

    def __init__(self, data_dir: Path, *, max_bytes: int) -> None:
        self._file = EvidenceFile(data_dir / FILE, max_bytes=max_bytes)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="evidence")

    async def run(self, work: Callable[[EvidenceFile], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, self._file)

    async def close(self) -> None:
        await self.run(EvidenceFile.close)
        self._thread.shutdown()


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What of the tape belongs to a raise."""

    before_s: float = 60.0
    after_s: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    uid: str
    device: str
    part: str
    around: Around


class Evidence:
    """One per agent. ``written`` hears of what the journal has written, and returns at once."""

    def __init__(
        self,
        recorder: Recorder,
        devices: Sequence[Device],
        keeper: Keeper,
        stamp: Callable[[], Stamp],
        *,
        window: Window,
        across: Sequence[Across] = (),
        is_short: Callable[[], bool] = lambda: False,
    ) -> None:
        """``is_short``: whether the disk has hardly any room left, as of the last look."""
        self._recorder = recorder
        self._profiles = {device.id: device.profile for device in devices}
        self._keeper = keeper
        self._stamp = stamp
        self._window = window
        # What conditions over several devices look at.
        self._several = {(one.device, rule.key): rule.signals for one in across for rule in one.rules}
        self._is_short = is_short
        # (due, how many before it, job)
        self._jobs: list[tuple[int, int, _Job]] = []
        self._numbers = itertools.count()
        self._heard: list[Row] = []
        self._closed: set[str] = set()
        self._more = asyncio.Event()
        self._overflowed = 0
        self._aside: dict[int, int] = {}
        self._figures = Figures()
        # Set when there is something new to tell; who tells it clears it.
        self.news = asyncio.Event()

    @property
    def figures(self) -> Mapping[str, int]:
        """As of the last look, by their names in ``Health``."""
        return {
            "evidence_given_up": self._figures.given_up + self._overflowed,
            "evidence_waiting": self._figures.waiting,
        }

    def written(self, rows: Sequence[Row]) -> None:
        """Whatever it is, the journal has it, and waits for nobody."""
        if len(self._heard) < MAX_JOBS:
            self._heard += rows
            self._more.set()
        else:
            self._overflowed += 2 * len(rows)

    async def run(self) -> None:
        """Record what is due, and give way to a full disk, until cancelled."""
        await self._look()
        while True:
            await self._until_due()
            await self._record()
            if self._is_short():
                await self._keeper.run(EvidenceFile.make_room_on_the_disk)
                await self._look()

    async def close(self) -> None:
        """What is due is recorded first."""
        await self._record()
        await self._keeper.close()

    async def waiting(self, max_bytes: int) -> list[Waiting]:
        """What the collector lacks, oldest first, in one message's worth."""
        now_ns = self._stamp().mono_ns
        self._aside = {seq: until_ns for seq, until_ns in self._aside.items() if until_ns > now_ns}
        without = frozenset(self._aside)
        return await self._keeper.run(
            lambda file: file.waiting(max_bytes=max_bytes, at_most=MAX_PARTS, without=without)
        )

    async def told(self, parts: Sequence[Waiting], outcomes: Sequence[str]) -> None:
        """What the collector made of them, in their order."""
        known = [
            part.seq for part, outcome in zip(parts, outcomes, strict=False) if outcome != Outcome.UNKNOWN
        ]
        until_ns = self._stamp().mono_ns + ASIDE_NS
        self._aside |= {part.seq: until_ns for part in parts if part.seq not in known}
        await self._keeper.run(lambda file: file.sent(known))
        await self._look()

    async def drop(self, seqs: Sequence[int]) -> None:
        """They are damaged and cannot be told."""
        await self._keeper.run(lambda file: file.drop(seqs))
        await self._look()

    async def send_again(self) -> None:
        """The collector holds less than it did."""
        self._aside.clear()
        await self._keeper.run(EvidenceFile.send_again)
        await self._look()
        self.news.set()

    def _hear(self) -> None:
        rows, self._heard = self._heard, []
        for row in rows:
            profile = self._profiles.get(row.device)
            if row.state == "closed":
                self._closed.add(row.uid)
            elif row.rev == 1 and profile is not None:
                raised_ns = row.raised.mono_ns
                key = f"{row.component}/{row.fault}"
                several = self._several.get((row.device, key), frozenset())
                where = around(profile, key, mono_ms(row.raised), several)
                after_ns = raised_ns + round(self._window.after_s * NS_PER_S)
                self._ask(raised_ns, _Job(uid=row.uid, device=row.device, part=BEFORE, around=where))
                self._ask(after_ns, _Job(uid=row.uid, device=row.device, part=AFTER, around=where))

    def _ask(self, due_ns: int, job: _Job) -> None:
        if len(self._jobs) >= MAX_JOBS:
            self._overflowed += 1
            return
        heapq.heappush(self._jobs, (due_ns, next(self._numbers), job))

    async def _until_due(self) -> None:
        """Or until something was written, or it is time to look at the disk."""
        self._more.clear()
        if self._heard:
            return
        now_ns = self._stamp().mono_ns
        due_ns = self._jobs[0][0] if self._jobs else now_ns + round(LOOK_EVERY_S * NS_PER_S)
        if due_ns > now_ns:
            try:
                async with asyncio.timeout(min(LOOK_EVERY_S, (due_ns - now_ns) / NS_PER_S)):
                    await self._more.wait()
            except TimeoutError:
                pass

    async def _record(self) -> None:
        """What is due by now, some of it at a time."""
        self._hear()
        while self._closed or (self._jobs and self._jobs[0][0] <= self._stamp().mono_ns):
            parts: list[NewPart] = []
            while self._jobs and self._jobs[0][0] <= self._stamp().mono_ns and len(parts) < GROUP:
                _, _, job = heapq.heappop(self._jobs)
                parts.append(NewPart(uid=job.uid, part=job.part, evidence=self._excerpt(job)))
                # An excerpt takes some milliseconds: buses and the journal have their turn in between.
                await asyncio.sleep(0)
            closed, self._closed = self._closed, set()
            await self._keeper.run(lambda file, parts=parts, closed=closed: file.write(parts, closed))  # type: ignore[misc]
            await self._look()
            if parts:
                self.news.set()
            self._hear()

    def _excerpt(self, job: _Job) -> Mapping[str, object] | None:
        if self._is_short():
            return None
        window = self._window
        from_s, to_s = (-window.before_s, 0.0) if job.part == BEFORE else (0.0, window.after_s)
        return self._recorder.excerpt(
            job.device, job.around, from_ms=round(from_s * 1000), to_ms=round(to_s * 1000)
        )

    async def _look(self) -> None:
        self._figures = await self._keeper.run(EvidenceFile.figures)
