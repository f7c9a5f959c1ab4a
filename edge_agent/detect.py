"""Decides when a fault begins and when it ends: samples and time in, raised and cleared conditions out.

A condition is a rule with a verdict (``verdict.py``) and stands in one of four states. ``TRANSITIONS`` is the
machine:

- normal -> pending when the verdict turns true, pending -> active once it was true for the whole on-delay;
- active -> clearing when it turns false, clearing -> normal once it was false for the whole off-delay.

Unknown is neither: it breaks both delays, keeps an active condition active and raises nothing. With a delay
of zero the state in the middle is skipped. Time is ``mono_ns`` of the stamps alone: a wall clock may jump as
it likes.

What time brings about is dated when it was due, not when somebody looked: before a sample is taken, all that
was due before it is worked off. How often one looks changes nothing but how soon the outcome is known.

A fault that comes and goes is one occurrence that pauses (``chatter.py``): the machine goes on as ever, but
what would have been cleared rests.

A condition is *settled* by its first answer after the start: false, or true for the whole on-delay. Until
then nobody may conclude from its absence that all is well. After a restart an active condition is active
still, delays start again and windows are empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial

from edge_agent import chatter
from edge_agent import verdict as verdicts
from edge_agent.chatter import NEVER_RAISED, Chatter
from edge_agent.profile import Condition, Read, RequestRead
from edge_agent.sample import Quality, Sample, Trouble
from edge_agent.verdict import Ask, Due, Memory, Remembered, Verdict, in_ns
from edge_agent.windows import Window
from edge_agent.wire import LINK_COMPONENT, UNREACHABLE, Severity, Stamp

UNREACHABLE_AFTER_S = 30.0
# Whether the device is unreachable, as a signal of its own; outside the grammar, so that no profile can name
# it.
LINK_SIGNAL = "(link)"


class State(StrEnum):
    NORMAL = "normal"
    PENDING = "pending"
    ACTIVE = "active"
    CLEARING = "clearing"


class Act(StrEnum):
    """What a transition asks for."""

    REST = "rest"
    RAISE = "raise"
    CLEAR = "clear"
    # In the place of CLEAR for what chatters; not in the table.
    PAUSE = "pause"


# (state, verdict, the delay that leads out of it is over) -> (state, act)
TRANSITIONS: dict[tuple[State, Verdict, bool], tuple[State, Act]] = {
    (State.NORMAL, True, False): (State.PENDING, Act.REST),
    (State.NORMAL, True, True): (State.ACTIVE, Act.RAISE),
    (State.NORMAL, False, False): (State.NORMAL, Act.REST),
    (State.NORMAL, False, True): (State.NORMAL, Act.REST),
    (State.NORMAL, None, False): (State.NORMAL, Act.REST),
    (State.NORMAL, None, True): (State.NORMAL, Act.REST),
    (State.PENDING, True, False): (State.PENDING, Act.REST),
    (State.PENDING, True, True): (State.ACTIVE, Act.RAISE),
    (State.PENDING, False, False): (State.NORMAL, Act.REST),
    (State.PENDING, False, True): (State.NORMAL, Act.REST),
    (State.PENDING, None, False): (State.NORMAL, Act.REST),
    (State.PENDING, None, True): (State.NORMAL, Act.REST),
    (State.ACTIVE, True, False): (State.ACTIVE, Act.REST),
    (State.ACTIVE, True, True): (State.ACTIVE, Act.REST),
    (State.ACTIVE, False, False): (State.CLEARING, Act.REST),
    (State.ACTIVE, False, True): (State.NORMAL, Act.CLEAR),
    (State.ACTIVE, None, False): (State.ACTIVE, Act.REST),
    (State.ACTIVE, None, True): (State.ACTIVE, Act.REST),
    (State.CLEARING, True, False): (State.ACTIVE, Act.REST),
    (State.CLEARING, True, True): (State.ACTIVE, Act.REST),
    (State.CLEARING, False, False): (State.CLEARING, Act.REST),
    (State.CLEARING, False, True): (State.NORMAL, Act.CLEAR),
    (State.CLEARING, None, False): (State.ACTIVE, Act.REST),
    (State.CLEARING, None, True): (State.ACTIVE, Act.REST),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Where one condition stands."""

    state: State = State.NORMAL
    # The moment that began the running delay: first bad while pending, first good while clearing.
    since: Stamp | None = None
    settled: bool = False
    chatter: Chatter = NEVER_RAISED

    @property
    def active(self) -> bool:
        """The fault is there; an occurrence that pauses is not."""
        return self.state in (State.ACTIVE, State.CLEARING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One condition of one device, ready to be asked."""

    component: str
    fault: str
    severity: Severity
    title: str
    advice: str
    on_delay_ns: int
    off_delay_ns: int
    ask: Ask
    # What it looks at; a sample of another signal cannot change its verdict.
    signals: frozenset[str]
    windows: tuple[Remembered, ...] = ()
    # What time alone can change.
    dues: tuple[Due, ...] = ()
    # For people, as of a moment: what was learned that makes it true; mostly nothing.
    why: Callable[[Memory, int], str] = lambda _memory, _now: ""

    @property
    def key(self) -> str:
        """``component/fault``, unique in its device."""
        return f"{self.component}/{self.fault}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A condition that was raised (``act`` RAISE, also after a pause), pauses or has cleared."""

    rule: Rule
    act: Act
    # What began it: the first bad sample of a raise, the first good one of a clear or a pause.
    first: Stamp
    # When it was declared: ``first`` plus the delay; of a clear after a pause when that was long enough.
    at: Stamp
    # For people: what was learned that makes it so; mostly nothing.
    why: str = ""


def rule(condition: Condition) -> Rule:
    return Rule(
        component=condition.component,
        fault=condition.fault,
        severity=Severity[condition.severity.upper()],
        title=condition.title,
        advice=condition.advice,
        on_delay_ns=in_ns(condition.on_delay_s),
        off_delay_ns=in_ns(condition.off_delay_s),
        ask=verdicts.ask_of(condition.when),
        signals=verdicts.signals(condition.when),
        windows=verdicts.windows(condition.when),
        dues=verdicts.dues(condition.when),
        why=partial(verdicts.why, condition.when),
    )


def unreachable_rule(after_s: float = UNREACHABLE_AFTER_S) -> Rule:
    """The condition that every device has: none of its reads brings anything."""
    return Rule(
        component=LINK_COMPONENT,
        fault=UNREACHABLE,
        severity=Severity.DEGRADED,
        # A device that answers something else than was asked for is no more known of than one that is off.
        title="Device cannot be read",
        advice="Check its power, its cable and the port or address that it is configured with. If the "
        "evidence shows that it answers, it is something else: its settings, its profile or a password.",
        on_delay_ns=in_ns(after_s),
        off_delay_ns=0,
        ask=lambda memory, _now, _active: verdicts.equal(memory.value(LINK_SIGNAL), True),
        signals=frozenset({LINK_SIGNAL}),
    )


def rules(
    conditions: Iterable[Condition], *, unreachable_after_s: float = UNREACHABLE_AFTER_S
) -> tuple[Rule, ...]:
    """All rules of a device that are enabled, and the implicit one."""
    enabled = (condition for condition in conditions if condition.enabled)
    return (*map(rule, enabled), unreachable_rule(unreachable_after_s))


def unreachable(reads: Mapping[str, Read], troubles: Mapping[str, Trouble | None]) -> Verdict:
    """Whether a device is cut off, from the trouble that the newest reading of each of its reads had.

    Unknown before the first reading. Silence on a read that declares ``no_answer`` is an answer: the profile
    says what it means.
    """
    if not troubles:
        return None
    return all(
        trouble is not None and not (trouble is Trouble.NO_ANSWER and _silence_is_an_answer(reads.get(name)))
        for name, trouble in troubles.items()
    )


def link_is_up(trouble: Trouble | None) -> bool:
    """Whether a reading with this trouble came over a standing link."""
    return trouble not in (Trouble.NO_LINK, Trouble.OFFLINE)


class Detector:
    """The rules, the memory and the phases of one device. Feed it in the order in which things happened."""

    def __init__(
        self, rules: Sequence[Rule], *, start: Stamp, active: Iterable[str] = (), others: Iterable[str] = ()
    ) -> None:
        """``active``: keys of the rules whose occurrence is open since before the start; ``others``: the
        devices of which the rules name signals as ``device/signal``.
        """
        self.rules: Mapping[str, Rule] = {rule.key: rule for rule in rules}
        was_active = frozenset(active)
        self.phases: dict[str, Phase] = {
            key: Phase(state=State.ACTIVE if key in was_active else State.NORMAL) for key in self.rules
        }
        self._memory = Memory(
            link_since_ns=start.mono_ns, links_since_ns=dict.fromkeys(others, start.mono_ns)
        )
        self._newest = start
        self._rules_of: dict[str, list[Rule]] = {}
        self._windows_of: dict[str, list[Window]] = {}
        for rule in rules:
            for signal in rule.signals:
                self._rules_of.setdefault(signal, []).append(rule)
            for one in rule.windows:
                if one.key not in self._memory.windows:
                    window = self._memory.windows[one.key] = one.make(start.mono_ns)
                    self._windows_of.setdefault(one.signal, []).append(window)
        # What is asked for more than its value: each sample of it counts.
        self._counted = frozenset(self._windows_of) | {
            signal for signal, found in self._rules_of.items() if any(rule.dues for rule in found)
        }
        # Rules that were forgotten and not asked since.
        self._forgotten: set[str] = set()
        # When to look at which rule again; only rules for which time is running.
        self._due_ns: dict[str, int] = {}
        for rule in rules:
            self._plan(rule)

    def take(
        self, samples: Sequence[Sample], at: Stamp, *, link_up: bool = True, other: str = ""
    ) -> list[Transition]:
        """What the samples of one reading change, after all that was due before it. ``other``: the device
        that was read, if it is not the detector's own.
        """
        transitions = self.look(at)
        affected = self._link(link_up, other)
        for sample in samples:
            self._remember(sample)
            for rule in self._rules_of.get(sample.signal, ()):
                affected[rule.key] = rule
        for rule in affected.values():
            transitions += self._evaluate(rule)
        return transitions

    def counts(self, signals: Iterable[str]) -> bool:
        """Whether a sample of one of these matters also when it says what the one before said."""
        return not self._counted.isdisjoint(signals)

    def again(self, at: Stamp) -> bool:
        """The newest samples of some signals, none of which ``counts``, came once more over the same link:
        whether that changes nothing, and is taken. If not, ``take`` them.
        """
        due_ns = self.deadline_ns()
        if (
            (due_ns is not None and due_ns <= at.mono_ns)
            or self._forgotten
            or self._memory.link_since_ns is None
        ):
            return False
        if at.mono_ns > self._newest.mono_ns:
            self._newest = at
        return True

    def look(self, now: Stamp) -> list[Transition]:
        """What time alone has brought about up to ``now``, each dated when it was due."""
        transitions: list[Transition] = []
        while (due_ns := self.deadline_ns()) is not None and due_ns <= now.mono_ns:
            self._newest = _earlier(now, due_ns)
            for key in [key for key, ns in self._due_ns.items() if ns == due_ns]:
                transitions += self._evaluate(self.rules[key])
        # A reading that comes late counts as of what is known already: time never runs backwards here.
        if now.mono_ns > self._newest.mono_ns:
            self._newest = now
        return transitions

    def deadline_ns(self) -> int | None:
        """The ``mono_ns`` at which to ``look`` again if nothing comes before; None: no time is running."""
        return min(self._due_ns.values(), default=None)

    def active(self) -> frozenset[str]:
        """Keys of the rules whose fault is there."""
        return frozenset(key for key, phase in self.phases.items() if phase.active)

    def unsettled(self) -> frozenset[str]:
        return frozenset(key for key, phase in self.phases.items() if not phase.settled)

    def put_back(self, phases: Mapping[str, Phase]) -> None:
        """Stand where ``phases`` say: what was decided since is not written down; ``look`` redoes it."""
        for key, phase in phases.items():
            if self.phases[key] != phase:
                self.phases[key] = phase
                self._ask_again(key)

    def forget(self, key: str, *, ask_again: bool) -> None:
        """That condition is unknown until it is asked: with its next sample, or at the next ``look``."""
        self.phases[key] = Phase()
        self._forgotten.add(key)
        if ask_again:
            self._ask_again(key)
        else:
            self._plan(self.rules[key])

    def stood_still(self, now: Stamp) -> None:
        """Nobody listened for a while, until ``now``: silence and delays count anew, as after a start."""
        to_be_asked = {key for key, due_ns in self._due_ns.items() if due_ns <= self._newest.mono_ns}
        self._newest = now
        memory = self._memory
        if memory.link_since_ns is not None:
            memory.link_since_ns = now.mono_ns
        memory.links_since_ns |= {
            other: now.mono_ns for other, since_ns in memory.links_since_ns.items() if since_ns is not None
        }
        for source in ("", *memory.links_since_ns):
            self._begin_anew(source)
        for key, phase in self.phases.items():
            if phase.since is not None:
                state = State.ACTIVE if phase.active else State.NORMAL
                self.phases[key] = replace(phase, state=state, since=None)
            if phase.since is not None or key in to_be_asked:
                self._ask_again(key)
            else:
                self._plan(self.rules[key])

    def _ask_again(self, key: str) -> None:
        """At the next ``look``, also when the moment at which time alone would speak has passed."""
        self._plan(self.rules[key])
        self._due_ns[key] = min(self._newest.mono_ns, self._due_ns.get(key, self._newest.mono_ns))

    def _evaluate(self, rule: Rule) -> list[Transition]:
        """Ask the rule as of the newest moment."""
        self._forgotten.discard(rule.key)
        at, phase = self._newest, self.phases[rule.key]
        verdict = rule.ask(self._memory, at.mono_ns, phase.active)
        delay_ns = rule.off_delay_ns if phase.active else rule.on_delay_ns
        first = phase.since or at
        state, act = TRANSITIONS[phase.state, verdict, at.mono_ns - first.mono_ns >= delay_ns]
        waiting = state in (State.PENDING, State.CLEARING)
        answered = verdict is not None and state is not State.PENDING
        acts, comes_and_goes = _folded(act, phase.chatter, first=first, at=at)
        self.phases[rule.key] = Phase(
            state=state,
            since=first if waiting else None,
            settled=phase.settled or answered,
            chatter=comes_and_goes,
        )
        self._plan(rule)
        why = rule.why(self._memory, at.mono_ns) if act is Act.RAISE else ""
        return [Transition(rule=rule, act=each, first=since, at=at, why=why) for each, since in acts]

    def _plan(self, rule: Rule) -> None:
        """When ``rule`` has to be asked again because time alone may change something."""
        phase, now_ns = self.phases[rule.key], self._newest.mono_ns
        due = [ns for one in rule.dues if (ns := one(self._memory, now_ns)) is not None]
        if phase.chatter.ends_ns is not None:
            due.append(phase.chatter.ends_ns)
        if phase.since is not None:
            due.append(phase.since.mono_ns + (rule.off_delay_ns if phase.active else rule.on_delay_ns))
        if due:
            self._due_ns[rule.key] = min(due)
        else:
            self._due_ns.pop(rule.key, None)

    def _link(self, up: bool, other: str) -> dict[str, Rule]:
        """The rules that the coming or going of the link concerns, if it did either."""
        memory = self._memory
        since_ns = memory.links_since_ns.get(other) if other else memory.link_since_ns
        if up == (since_ns is not None):
            return {}
        if other:
            memory.links_since_ns[other] = self._newest.mono_ns if up else None
        else:
            memory.link_since_ns = self._newest.mono_ns if up else None
        if up:
            self._begin_anew(other)
        return {rule.key: rule for rule in self.rules.values() if rule.dues}

    def _begin_anew(self, other: str) -> None:
        """Nobody listened to that device: what would have been heard meanwhile is not known, and time counts
        from now.
        """
        for key in self._memory.given_since_ns:
            if other in self._memory.given_of[key]:
                self._memory.given_since_ns[key] = self._newest.mono_ns
        for signal, windows in self._windows_of.items():
            if verdicts.source_of(signal) == other:
                for window in windows:
                    window.begin_anew(self._newest.mono_ns)

    def _remember(self, sample: Sample) -> None:
        self._memory.latest[sample.signal] = sample
        now_ns = self._newest.mono_ns
        if sample.quality is Quality.GOOD:
            self._memory.last_good_ns[sample.signal] = now_ns
        for window in self._windows_of.get(sample.signal, ()):
            if sample.quality is Quality.GOOD:
                window.put(sample.value, now_ns)
            else:
                window.missed()


def _folded(act: Act, before: Chatter, *, first: Stamp, at: Stamp) -> tuple[list[tuple[Act, Stamp]], Chatter]:
    """What an act of the table becomes for a fault that may come and go, each with what began it."""
    acts: list[tuple[Act, Stamp]] = []
    now = before
    if now.pause is not None and now.pause.mono_ns + chatter.QUIET_NS <= at.mono_ns:
        acts.append((Act.CLEAR, now.pause))
        now = chatter.over(now)
    if act is Act.RAISE:
        acts.append((Act.RAISE, first))
        now = chatter.raised(now, at)
    elif act is Act.CLEAR:
        now = chatter.gone(now, first=first, at=at)
        acts.append((Act.CLEAR if now.pause is None else Act.PAUSE, first))
    return acts, now


def _silence_is_an_answer(read: Read | None) -> bool:
    return isinstance(read, RequestRead) and read.no_answer is not None


def _earlier(now: Stamp, mono_ns: int) -> Stamp:
    """The moment ``mono_ns`` of this boot as ``now`` sees it."""
    if mono_ns == now.mono_ns:
        return now
    return replace(now, mono_ns=mono_ns, wall_ms=max(0, now.wall_ms - (now.mono_ns - mono_ns) // 1_000_000))
