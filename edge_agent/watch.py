"""Moves readings through decoding and detection into the journal, and looks again when time is due.

What a reading or a deadline changes is one transaction. The detector stands where the journal does: a change
that could not be written is taken back and decided anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import structlog

from edge_agent import decode, detect, occurrence, roots
from edge_agent.across import Across, name_of
from edge_agent.detect import LINK_SIGNAL, Detector, Phase, Rule, Transition
from edge_agent.device import Device
from edge_agent.intake import Intake
from edge_agent.journal import Journal
from edge_agent.ledger import Settle
from edge_agent.occurrence import Change, Closing, Reason
from edge_agent.profile import IppRead, ModbusRead, RequestRead
from edge_agent.recorder import Recorder
from edge_agent.roots import Link, Tree
from edge_agent.sample import Payload, Quality, Reading, Sample, Trouble
from edge_agent.verdict import NS_PER_S
from edge_agent.wire import LINK_COMPONENT, UNREACHABLE, Row, Severity, Stamp, condition_key

log = structlog.get_logger()

# Who wakes up so late did not run meanwhile (stopped, suspended, starved), nor did any other part of the
# agent: what fell due in that time fell due because nobody listened.
LATE_NS = 5 * NS_PER_S


@dataclass(slots=True, kw_only=True)
class _Heard:
    """The newest answer to a read, when it came last, and what it says something about."""

    payload: Payload
    at: Stamp
    signals: frozenset[str]


@dataclass(slots=True, kw_only=True)
class _Watched:
    """One device, or its rules over several devices. The lock keeps readings and deadlines in order while a
    change is being written; devices that a rule looks at together have one.
    """

    device: Device
    detector: Detector
    troubles: dict[str, Trouble | None] = field(default_factory=dict)
    # By read; none while there is trouble, where it is of uncertain age, or where each sample counts.
    heard: dict[str, _Heard] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    # Where the detector stood, while what it decided since is being written.
    unwritten: Mapping[str, Phase] = field(default_factory=dict)

    # The devices whose readings its rules look at.
    sources: frozenset[str]
    # Of other devices, by their name: the signals that its rules look at.
    signals: frozenset[str] = frozenset()

    def key(self, rule_key: str) -> str:
        rule = self.detector.rules[rule_key]
        return condition_key(self.device.id, rule.component, rule.fault)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Decided:
    """What a reading or a deadline has changed, and where the detector stood before."""

    watched: _Watched
    before: Mapping[str, Phase]
    transitions: Sequence[Transition]


class Watch:
    """All devices of one agent."""

    def __init__(
        self,
        devices: Sequence[Device],
        journal: Journal,
        recorder: Recorder,
        stamp: Callable[[], Stamp],
        *,
        open_rows: Sequence[Row] = (),
        tree: Tree = Tree(),  # noqa: B008  # frozen
        across: Sequence[Across] = (),
        unreachable_after_s: float = detect.UNREACHABLE_AFTER_S,
    ) -> None:
        """``open_rows``: what the journal held open at the start."""
        self._tree = tree
        self._in_tree = tree.devices
        self._links: dict[str, Link] = {}
        # What was decided on causes was not written: it is done with the next reading.
        self._owed = False
        # Until when each open row that waits for its cause does so, in ns of this boot.
        self._waiting: dict[str, int] = {}
        self._journal = journal
        self._recorder = recorder
        self._stamp = stamp
        self._sooner = asyncio.Event()
        # While ``run`` sleeps with something to wake up for.
        self._sleeps_until_ns: int | None = None
        self._intake = Intake(self.take, worked_off=self._worked_off)
        start, active = stamp(), {row.key for row in open_rows if not row.is_paused}
        self._watched: Mapping[str, _Watched] = {
            device.id: _restored(device, start, active, unreachable_after_s) for device in devices
        }
        self._across = [_restored_across(one, self._watched, start, active) for one in across]
        # By device, the rules over several devices that look at it.
        self._looking_at: dict[str, list[_Watched]] = {}
        together = asyncio.Lock()
        for one, watched in zip(across, self._across, strict=True):
            watched.lock = together
            for source in one.sources:
                self._watched[source].lock = together
                self._looking_at.setdefault(source, []).append(watched)
        self._all = (*self._watched.values(), *self._across)
        self._note_waiting(open_rows)

    @classmethod
    async def start(
        cls,
        devices: Sequence[Device],
        journal: Journal,
        recorder: Recorder,
        stamp: Callable[[], Stamp],
        *,
        tree: Tree = Tree(),  # noqa: B008  # frozen
        across: Sequence[Across] = (),
        unreachable_after_s: float = detect.UNREACHABLE_AFTER_S,
    ) -> Watch:
        """Go on where the journal stands; what is no longer configured is closed as not watched.

        What pauses is over: nobody waited for it to come again.
        """
        rows = await journal.open_occurrences()
        watch = cls(
            devices,
            journal,
            recorder,
            stamp,
            open_rows=rows,
            tree=tree,
            across=across,
            unreachable_after_s=unreachable_after_s,
        )
        configured = {watched.key(rule) for watched in watch._all for rule in watched.detector.rules}
        configured |= tree.keys
        now = stamp()
        over = [
            Closing(key=row.key, cleared=now, reason=Reason.CLEARED if row.is_paused else Reason.NOT_WATCHED)
            for row in rows
            if row.is_paused or (row.key not in configured and row.fault not in occurrence.OF_THE_AGENT)
        ]
        # Also for what hangs together otherwise than before.
        watch._settled(await journal.commit(over, watch._settling()))
        return watch

    async def put(self, reading: Reading) -> None:
        """Returns at once: what the reading changes is written meanwhile, each device in its order. While the
        journal cannot be written, what is not is decided anew.
        """
        if not self.again((reading,), reading.at):
            await self._intake.put(reading)

    async def put_durably(self, reading: Reading) -> None:
        """As ``put``, but returns once all that the reading changed is durable. Raises JournalError if it
        cannot be.
        """
        await self._intake.take(reading)

    def again(self, readings: Sequence[Reading], at: Stamp) -> bool:
        """These came at that moment, all of one device: whether they say what it said before, and that is
        noted. If not, they are to be ``put``.
        """
        watched = self._watched[readings[0].device]
        if self._is_behind(watched):
            return False
        self._notice_standstill(at)
        return self._says_nothing_new(watched, readings, at)

    async def close(self) -> None:
        """Once all that was put is taken; nothing may be put any more."""
        await self._intake.close()

    async def take(self, reading: Reading) -> None:
        """Returns once all that the reading changed is durable. Raises JournalError if it cannot be."""
        watched = self._watched[reading.device]
        self._notice_standstill(reading.at)
        if self._says_nothing_new(watched, (reading,), reading.at):
            return
        async with watched.lock:
            watched.troubles[reading.read] = reading.trouble
            samples = (*decode.samples(watched.device, reading), _link_sample(watched, reading))
            self._recorder.keep(reading, samples)
            _note(watched, reading, samples)
            link_up = detect.link_is_up(reading.trouble)
            decided = [_decided(watched, lambda one: one.take(samples, reading.at, link_up=link_up))]
            for other in self._looking_at.get(reading.device, ()):
                decide = partial(_take_of_another, other.signals, reading, samples, link_up)
                decided.append(_decided(other, decide))
            await self._write(decided, shaken=self._shakes(watched, samples[-1], reading))

    async def run(self) -> None:
        """Look at each device when its time is due, until cancelled."""
        while True:
            await self._sleep()
            now = self._stamp()
            self._notice_standstill(now)
            self._sleeps_until_ns = None
            await self.look(now)

    async def look(self, now: Stamp) -> None:
        """All that time alone has brought about up to ``now``; ``run`` does it by itself."""
        if due := [uid for uid, ns in self._waiting.items() if ns <= now.mono_ns]:
            self._settled(await self._journal.commit([], self._settling()))
            for uid in due:
                # What nothing has settled would be due for ever: the profile may be another by now.
                if self._waiting.get(uid, now.mono_ns + 1) <= now.mono_ns:
                    del self._waiting[uid]
        for watched in self._all:
            if _is_due(watched, now) and not self._is_behind(watched):
                async with watched.lock:
                    await self._write([_decided(watched, lambda one: one.look(now))])

    def deadline_ns(self) -> int | None:
        """The ``mono_ns`` at which to ``look`` if nothing comes before; None: no time is running."""
        deadlines = (watched.detector.deadline_ns() for watched in self._all if not self._is_behind(watched))
        return min((ns for ns in (*deadlines, *self._waiting.values()) if ns is not None), default=None)

    async def close_here(self, uids: Collection[str]) -> None:
        """The collector has closed these; what is still active gets a fresh uid once it was read again.

        What is not read again by itself is asked at once: silence, a link whose going is told once, a device
        that speaks only when something changes.
        """
        for row in await self._journal.open_occurrences():
            if row.uid in uids:
                # A row that is closed and not asked for again would stay closed for as long as the fault.
                await _whole(asyncio.ensure_future(self._close_here(row)))

    async def _close_here(self, row: Row) -> None:
        closing = Closing(key=row.key, cleared=self._stamp(), reason=Reason.CLOSED_HERE, uid=row.uid)
        rule_key = f"{row.component}/{row.fault}"
        owners = (one for one in self._all if one.device.id == row.device)
        watched = next((one for one in owners if rule_key in one.detector.rules), None)
        if watched is None:
            self._settled(await self._journal.commit([closing], self._settling()))
            return
        async with watched.lock:
            written = await self._journal.commit([closing], self._settling())
            self._settled(written)
            if any(one.uid == row.uid for one in written):
                rule = watched.detector.rules[rule_key]
                polled = not watched.signals and _is_polled(watched.device, rule)
                watched.detector.forget(rule.key, ask_again=not polled)
                self._wake(watched)

    def unsettled(self) -> list[str]:
        """Keys of the conditions of which nothing is known since the start.

        What is being written is not known yet: told as settled before its row is there, a fault would look
        like one that has ended.
        """
        keys = [
            watched.key(rule)
            for watched in self._all
            for rule in watched.detector.unsettled()
            | {key for key, phase in watched.unwritten.items() if not phase.settled}
        ]
        unheard = set(keys)
        silent = [one for one in self._watched if condition_key(one, LINK_COMPONENT, UNREACHABLE) in unheard]
        return [*keys, *roots.unsettled(self._tree, self._links, silent)]

    def devices_unreachable(self) -> int:
        rule = f"{LINK_COMPONENT}/{UNREACHABLE}"
        return sum(watched.detector.phases[rule].active for watched in self._watched.values())

    async def _write(self, decided: Sequence[_Decided], *, shaken: bool = False) -> None:
        """``shaken``: causes may have changed though nothing else has."""
        for one in decided:
            one.watched.unwritten = one.before
        try:
            changes = [
                change
                for one in decided
                if one.transitions
                for change in occurrence.changes(
                    one.watched.device.id, one.transitions, self._evidence(one.watched)
                )
            ]
            if changes or shaken:
                await self._commit(decided, changes)
        finally:
            for one in decided:
                one.watched.unwritten = {}
                self._wake(one.watched)

    async def _commit(self, decided: Sequence[_Decided], changes: Sequence[Change]) -> None:
        """Also when the caller is cancelled meanwhile, whenever and however often: the detectors have to know
        what was written.
        """
        in_tree = any(one.watched.device.id in self._in_tree for one in decided)
        settle = self._settling() if in_tree else None
        writing = asyncio.ensure_future(self._journal.commit(changes, settle))
        if settle is not None:
            self._owed = True
        try:
            await _whole(writing)
        finally:
            if writing.cancelled() or writing.exception() is not None:
                for one in decided:
                    one.watched.detector.put_back(one.before)
            else:
                self._owed = self._owed and settle is None
                self._settled(writing.result())

    def _says_nothing_new(self, watched: _Watched, readings: Sequence[Reading], at: Stamp) -> bool:
        """The same answers as before, of a device that answers all the time: they are not even decoded."""
        if self._owed or watched.device.id in self._looking_at or watched.lock.locked():
            return False
        for reading in readings:
            heard = watched.heard.get(reading.read)
            if (
                heard is None
                or reading.trouble is not None
                or reading.retained
                or reading.payload != heard.payload
            ):
                return False
        if not watched.detector.again(at):
            return False
        for reading in readings:
            watched.heard[reading.read].at = at
        self._recorder.again(readings, at)
        return True

    def _shakes(self, watched: _Watched, link: Sample, reading: Reading) -> bool:
        """Note what a reading says of the link; whether that may change a cause."""
        device = watched.device.id
        if device not in self._in_tree:
            return False
        known = self._links.get(device)
        cut_off = link.value if isinstance(link.value, bool) else None
        if known is None or known.cut_off is not cut_off:
            self._links[device] = Link(cut_off=cut_off, since=link.at, detail=reading.detail)
        elif not self._owed:
            return False
        return self._owed or bool(self._waiting) or self.devices_unreachable() > 0

    def _settling(self) -> Settle:
        """With what is known of the links now."""
        tree, links = self._tree, dict(self._links)
        return lambda rows, fresh, now: roots.settle(tree, rows, links, now, fresh=fresh)

    def _settled(self, written: Sequence[Row]) -> None:
        """What came of a change is written."""
        self._note_waiting(written)
        for row in written:
            _tell(row)

    def _note_waiting(self, rows: Sequence[Row]) -> None:
        """Until when each of them waits; of another boot's clock nothing is known, so that is asked at
        once.
        """
        for row in rows:
            if row.waits is None or row.state == "closed":
                self._waiting.pop(row.uid, None)
                continue
            now = self._stamp()
            self._waiting[row.uid] = row.waits.mono_ns if row.waits.boot == now.boot else now.mono_ns
            if self._sleeps_until_ns is None or self._waiting[row.uid] < self._sleeps_until_ns:
                self._sooner.set()

    def _wake(self, watched: _Watched) -> None:
        """Have ``run`` look sooner if it would sleep for too long."""
        due_ns = watched.detector.deadline_ns()
        if due_ns is not None and (self._sleeps_until_ns is None or due_ns < self._sleeps_until_ns):
            self._sooner.set()

    def _is_behind(self, watched: _Watched) -> bool:
        """Whether readings wait that may say what time alone would decide wrongly."""
        return self._intake.is_busy_with(watched.sources)

    def _worked_off(self, device: str) -> None:
        for watched in (self._watched[device], *self._looking_at.get(device, ())):
            self._wake(watched)

    def _notice_standstill(self, now: Stamp) -> None:
        if self._sleeps_until_ns is None or now.mono_ns - self._sleeps_until_ns < LATE_NS:
            return
        late_s = (now.mono_ns - self._sleeps_until_ns) // NS_PER_S
        self._sleeps_until_ns = None
        log.warning("the agent stood still; silence and delays count anew", for_at_least_s=late_s)
        self.stood_still(now)

    def stood_still(self, now: Stamp) -> None:
        """Nobody listened for a while, until ``now``; ``run`` and ``take`` notice it by themselves."""
        for watched in self._all:
            watched.detector.stood_still(now)

    def _evidence(self, watched: _Watched) -> Callable[[Transition], dict[str, Any]]:
        if watched.signals:
            return lambda one: self._recorder.evidence_of_several(one.rule.signals, one.at, why=one.why)
        device = watched.device.id
        for heard in watched.heard.values():
            self._recorder.heard_again(device, heard.signals, heard.at)
        return lambda one: self._recorder.evidence(
            device, one.rule.signals - {LINK_SIGNAL}, one.at, why=one.why
        )

    async def _sleep(self) -> None:
        """Until the earliest deadline of all, or until there is an earlier one."""
        self._sooner.clear()
        due_ns = self.deadline_ns()
        if due_ns is None:
            await self._sooner.wait()
            return
        now_ns = self._stamp().mono_ns
        self._sleeps_until_ns = max(due_ns, now_ns)
        try:
            async with asyncio.timeout((self._sleeps_until_ns - now_ns) / NS_PER_S):
                await self._sooner.wait()
        except TimeoutError:
            pass


def _restored(device: Device, start: Stamp, active: Collection[str], unreachable_after_s: float) -> _Watched:
    rules = detect.rules(device.profile.conditions, unreachable_after_s=unreachable_after_s)
    was_active = [
        rule.key for rule in rules if condition_key(device.id, rule.component, rule.fault) in active
    ]
    detector = Detector(rules, start=start, active=was_active)
    return _Watched(device=device, detector=detector, sources=frozenset([device.id]))


def _restored_across(
    across: Across, devices: Mapping[str, _Watched], start: Stamp, active: Collection[str]
) -> _Watched:
    device = devices[across.device].device
    was_active = [
        rule.key for rule in across.rules if condition_key(device.id, rule.component, rule.fault) in active
    ]
    detector = Detector(across.rules, start=start, active=was_active, others=across.sources)
    return _Watched(device=device, detector=detector, sources=across.sources, signals=across.signals)


def _decided(watched: _Watched, decide: Callable[[Detector], Sequence[Transition]]) -> _Decided:
    before = dict(watched.detector.phases)
    return _Decided(watched=watched, before=before, transitions=decide(watched.detector))


def _note(watched: _Watched, reading: Reading, samples: Sequence[Sample]) -> None:
    signals = frozenset(sample.signal for sample in samples)
    steady = reading.trouble is None and reading.payload and not reading.retained
    if steady and not watched.detector.counts(signals):
        watched.heard[reading.read] = _Heard(payload=reading.payload, at=reading.at, signals=signals)
    else:
        watched.heard.pop(reading.read, None)


def _take_of_another(
    wanted: Collection[str],
    reading: Reading,
    samples: Sequence[Sample],
    link_up: bool,
    detector: Detector,
) -> Sequence[Transition]:
    told = [
        replace(one, signal=name)
        for one in samples
        if (name := name_of(reading.device, one.signal)) in wanted
    ]
    return detector.take(told, reading.at, link_up=link_up, other=reading.device)


def _link_sample(watched: _Watched, reading: Reading) -> Sample:
    cut_off = detect.unreachable(watched.device.profile.reads, watched.troubles)
    return Sample(
        device=reading.device, signal=LINK_SIGNAL, value=cut_off, quality=Quality.GOOD, at=reading.at
    )


def _is_polled(device: Device, rule: Rule) -> bool:
    """Whether what the rule looks at is read again and again."""
    signals = (device.profile.signals[name] for name in rule.signals - {LINK_SIGNAL})
    return any(
        isinstance(device.profile.reads[one.read], RequestRead | ModbusRead | IppRead) for one in signals
    )


async def _whole(task: asyncio.Future[Any]) -> None:
    """Not over before the task is, whoever is cancelled meanwhile."""
    try:
        await asyncio.shield(task)
    finally:
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait({task})


def _is_due(watched: _Watched, now: Stamp) -> bool:
    due_ns = watched.detector.deadline_ns()
    return due_ns is not None and due_ns <= now.mono_ns


def _tell(row: Row) -> None:
    """Once what chatters when it begins to."""
    if row.state == "closed":
        log.info("ended", condition=row.key, reason=row.reason, times=row.count)
    elif row.rev == 1:
        log.warning("raised", condition=row.key, severity=Severity.band(row.severity).word, title=row.title)
    elif row.is_paused and row.count == 1:
        log.warning("comes and goes; it stays open until it was quiet for a while", condition=row.key)
