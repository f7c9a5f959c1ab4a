"""Decides whether a `when` holds for the latest samples of a device: true, false or unknown (Kleene's logic).

What is not known stays unknown: a signal without a sample or with a bad one, a share of too few samples,
silence without a link or since too short a time. Inside the band of a deadband the answer is what it was;
where nothing was yet (after a restart) it is what the condition's own state says.

In the rule of a `given` time begins when that which is given turns true: a scanner is not silent because the
line stood still all night.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from edge_agent.profile import Bits, Given, In, Is, Limit, NoData, Rate, Scalar, Share, Stuck, When
from edge_agent.sample import Quality, Sample, Value
from edge_agent.windows import Counter, Gaps, Newest, Recent, Standing, Window, same

NS_PER_S = 1_000_000_000

# True, False, or None for unknown.
Verdict = bool | None

_Leaf = Is | Limit | Bits | In | NoData | Stuck | Share | Rate
# Those that remember more of a signal than its latest sample.
_Lasting = Stuck | Share | Rate
# Keys of all `given` around a rule.
_Around = tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class Memory:
    """What the conditions of one device remember of its samples. Only its ``Detector`` changes it."""

    # Silence counts from here at the earliest: the start, or the return of the link. None: there is no link.
    link_since_ns: int | None
    # The same of the links of other devices, for signals that are named ``device/signal``.
    links_since_ns: dict[str, int | None] = field(default_factory=dict)
    latest: dict[str, Sample] = field(default_factory=dict)
    last_good_ns: dict[str, int] = field(default_factory=dict)
    windows: dict[str, Window] = field(default_factory=dict)
    # The last answer of each limit.
    bands: dict[tuple[str, bool, float, float], bool] = field(default_factory=dict)
    # Since when that which is given is true, where it is.
    given_since_ns: dict[str, int] = field(default_factory=dict)
    # Whose signals each of these is about, as ``source_of``.
    given_of: dict[str, frozenset[str]] = field(default_factory=dict)
    # How long signals are usually silent, as far as somebody wants it learned.
    gaps: dict[str, Gaps] = field(default_factory=dict)

    def value(self, signal: str) -> Value:
        """None when it is not known; a sample of uncertain quality has a value."""
        sample = self.latest.get(signal)
        return None if sample is None or sample.quality is Quality.BAD else sample.value

    def silent_since_ns(self, signal: str, around: _Around = ()) -> int | None:
        """From when on the silence of ``signal`` counts; None without a link."""
        since_ns = self.listening_since_ns(signal, around)
        return None if since_ns is None else max(since_ns, self.last_good_ns.get(signal, 0))

    def listening_since_ns(self, signal: str, around: _Around) -> int | None:
        """From when on ``signal`` would have been heard, as far as it counts; None without a link."""
        since_ns = self.since_ns(around)
        link_ns = self.link_ns(signal)
        if link_ns is None or since_ns is None:
            return None
        return max(link_ns, since_ns)

    def link_ns(self, signal: str) -> int | None:
        """Since when the link stands over which ``signal`` comes; None without one."""
        source = source_of(signal)
        return self.links_since_ns.get(source) if source else self.link_since_ns

    def since_ns(self, around: _Around) -> int | None:
        """From when on time counts inside of these `given`; None while one of them is not true."""
        if not all(key in self.given_since_ns for key in around):
            return None
        return max((self.given_since_ns[key] for key in around), default=0)


# (memory, now in mono_ns, whether the answer is yes as far as the condition's own state tells) -> verdict
Ask = Callable[[Memory, int, bool], Verdict]
# (memory, now in mono_ns) -> the next moment at which time alone may change a verdict, if there is one
Due = Callable[[Memory, int], int | None]
# Of a signal, from a moment on.
Make = Callable[[int], Window]


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """A window that a rule needs; ``key`` tells it from others, so that rules may share it."""

    key: str
    signal: str
    make: Make


def source_of(signal: str) -> str:
    """The other device of which a rule looks at this signal (``device/signal``); empty: its own."""
    return signal.rpartition("/")[0]


def ask_of(when: When, around: _Around = ()) -> Ask:
    """``when`` as something that can be asked."""
    for name, build in _TESTS.items():
        if getattr(when, name) is not None:
            return build(when, around)
    raise ValueError("a `when` needs exactly one test")


def signals(when: When) -> frozenset[str]:
    """All that ``when`` looks at."""
    return frozenset(leaf.signal for part, _ in _parts(when, ()) for leaf in _leaves(part))


def heard(when: When) -> frozenset[str]:
    """The signals of which ``when`` asks for more than how long they were silent."""
    leaves = (leaf for part, _ in _parts(when, ()) for leaf in _leaves(part))
    return frozenset(leaf.signal for leaf in leaves if not isinstance(leaf, NoData))


def windows(when: When) -> tuple[Remembered, ...]:
    """All that has to be remembered for ``when``."""
    return tuple(
        Remembered(key=_key(leaf), signal=leaf.signal, make=partial(_window, leaf))
        for part, _ in _parts(when, ())
        for leaf in _leaves(part)
        if isinstance(leaf, _Lasting)
    )


def dues(when: When) -> tuple[Due, ...]:
    """When time alone may change what ``when`` says."""
    return tuple(
        _DUES[type(leaf)](leaf, around)
        for part, around in _parts(when, ())
        for leaf in _leaves(part)
        if type(leaf) in _DUES
    )


def why(when: When, memory: Memory, now: int) -> str:
    """For people: what only the agent knows of why ``when`` is true, as far as it was learned."""
    said = (
        _why_silent(part.no_data_s, around, memory, now)
        for part, around in _parts(when, ())
        if part.no_data_s is not None
    )
    return "; ".join(filter(None, said))


def _why_silent(leaf: NoData, around: _Around, memory: Memory, now: int) -> str:
    since, usual_ns = memory.silent_since_ns(leaf.signal, around), _usual_ns(leaf, around, memory)
    if since is None or usual_ns is None or now - since < _silence_ns(leaf, around, memory):
        return ""
    return f"{leaf.signal}: silent for {_spoken(now - since)}; usually for at most {_spoken(usual_ns)}"


def _spoken(ns: int) -> str:
    seconds = -(-ns // NS_PER_S)
    if seconds < 120:
        return f"{seconds} s"
    return f"{-(-seconds // 60)} min" if seconds < 7_200 else f"{-(-seconds // 3_600)} h"


def equal(value: Value, expected: Scalar) -> Verdict:
    """Unknown when the value is."""
    return None if value is None else same(value, expected)


def in_ns(seconds: float) -> int:
    return round(seconds * NS_PER_S)


def _is(when: When, _: _Around) -> Ask:
    assert when.is_ is not None
    signal, expected = when.is_.signal, when.is_.value
    return lambda memory, _now, _active: equal(memory.value(signal), expected)


def _in(when: When, _: _Around) -> Ask:
    assert when.in_ is not None
    signal, values = when.in_.signal, when.in_.values

    def ask(memory: Memory, _now: int, _active: bool) -> Verdict:
        value = memory.value(signal)
        return None if value is None else any(equal(value, one) for one in values)

    return ask


def _bits(when: When, _: _Around) -> Ask:
    assert when.bits is not None
    signal, mask = when.bits.signal, when.bits.mask

    def ask(memory: Memory, _now: int, _active: bool) -> Verdict:
        value = memory.value(signal)
        return bool(value & mask) if isinstance(value, int) else None

    return ask


def _above(when: When, _: _Around) -> Ask:
    assert when.above is not None
    return _limit(when.above, above=True)


def _below(when: When, _: _Around) -> Ask:
    assert when.below is not None
    return _limit(when.below, above=False)


def _limit(limit: Limit, *, above: bool) -> Ask:
    def ask(memory: Memory, _now: int, active: bool) -> Verdict:
        value = memory.value(limit.signal)
        if not isinstance(value, int | float) or value != value:  # NaN is no number to compare
            return None
        key = (limit.signal, above, limit.limit, limit.deadband)
        return _beyond(memory, key, value, active)

    return ask


def _beyond(memory: Memory, key: tuple[str, bool, float, float], value: float, active: bool) -> bool:
    """``key``: of what, whether above or below, the limit, the deadband."""
    _, above, limit, deadband = key
    over = value - limit if above else limit - value
    in_band = deadband > 0 and -deadband <= over <= 0
    answer = memory.bands.get(key, active) if in_band else over > 0
    memory.bands[key] = answer
    return answer


def _no_data(when: When, around: _Around) -> Ask:
    assert when.no_data_s is not None
    leaf = when.no_data_s

    def ask(memory: Memory, now: int, _active: bool) -> Verdict:
        heard, since = memory.last_good_ns.get(leaf.signal), memory.silent_since_ns(leaf.signal, around)
        if leaf.learned is not None and heard is not None:
            gaps = memory.gaps.setdefault(_gaps_key(leaf, around), Gaps())
            gaps.heard(heard, memory.listening_since_ns(leaf.signal, around))
        if since is None:
            return None
        if now - since >= _silence_ns(leaf, around, memory):
            return True
        # Unknown while it was neither silent for long enough nor heard since time counts.
        return False if heard == since else None

    return ask


def _silence_ns(leaf: NoData, around: _Around, memory: Memory) -> int:
    """For how long it has to be silent: as long as the profile says, less where it was learned."""
    usual_ns = _usual_ns(leaf, around, memory)
    if leaf.learned is None or usual_ns is None:
        return in_ns(leaf.s)
    return min(in_ns(leaf.s), max(in_ns(leaf.learned.at_least_s), round(usual_ns * leaf.learned.times)))


def _usual_ns(leaf: NoData, around: _Around, memory: Memory) -> int | None:
    gaps = memory.gaps.get(_gaps_key(leaf, around))
    return None if gaps is None else gaps.usual_ns()


def _gaps_key(leaf: NoData, around: _Around) -> str:
    return " ".join((leaf.signal, *around))


def _no_data_due(leaf: NoData, around: _Around) -> Due:
    def due(memory: Memory, now: int) -> int | None:
        since = memory.silent_since_ns(leaf.signal, around)
        return None if since is None else _if_later(since + _silence_ns(leaf, around, memory), now)

    return due


def _stuck(when: When, around: _Around) -> Ask:
    assert when.stuck_s is not None
    leaf, span_ns = when.stuck_s, in_ns(when.stuck_s.s)
    key = _key(leaf)

    def ask(memory: Memory, now: int, _active: bool) -> Verdict:
        standing, begun = _remembered(memory, key, Standing), memory.since_ns(around)
        if memory.value(leaf.signal) is None or begun is None:
            return None
        if standing.since_ns is None or standing.newest_ns is None or now - standing.newest_ns >= span_ns:
            return None
        if standing.newest_ns - max(standing.since_ns, begun) >= span_ns:
            return True
        # Unknown while it neither stood for long enough nor was seen to move since time counts.
        return False if standing.moved and standing.since_ns >= begun else None

    return ask


def _share(when: When, _: _Around) -> Ask:
    assert when.share is not None
    share = when.share
    key = _key(share)

    def ask(memory: Memory, now: int, _active: bool) -> Verdict:
        window = memory.windows[key]
        assert isinstance(window, Newest | Recent)
        count = window.count(now)
        if memory.value(share.signal) is None or count < share.at_least:
            return None
        return window.hits > share.above * count

    return ask


def _rate(when: When, around: _Around) -> Ask:
    assert when.rate is not None
    leaf = when.rate
    found = _how_often if leaf.value is not None else _how_fast
    limit = leaf.below if leaf.above is None else leaf.above
    assert limit is not None
    band = (_key(leaf), leaf.above is not None, limit, leaf.deadband)

    def ask(memory: Memory, now: int, active: bool) -> Verdict:
        begun = memory.since_ns(around)
        rate = None if begun is None else found(leaf, memory, now, begun)
        return None if rate is None else _beyond(memory, band, rate, active)

    return ask


def _how_fast(leaf: Rate, memory: Memory, now: int, begun_ns: int) -> float | None:
    if memory.value(leaf.signal) is None:
        return None
    counted = _remembered(memory, _key(leaf), Counter).counted_per_ns(now, begun_ns)
    return None if counted is None else counted * NS_PER_S * leaf.per_s


def _how_often(leaf: Rate, memory: Memory, now: int, begun_ns: int) -> float | None:
    window = _remembered(memory, _key(leaf), Recent)
    window.count(now)
    if memory.link_ns(leaf.signal) is None or now - max(window.begun_ns, begun_ns) < window.span_ns:
        return None
    return window.hits / leaf.of_last_s * leaf.per_s


def _rate_due(leaf: Rate, around: _Around) -> Due:
    key, span_ns = _key(leaf), in_ns(leaf.of_last_s)

    def due(memory: Memory, now: int) -> int | None:
        begun = memory.since_ns(around)
        filled = None if begun is None or leaf.value is None else _if_later(begun + span_ns, now)
        return _earliest(filled, memory.windows[key].due_ns(now))

    return due


def _window_due(leaf: _Lasting, _: _Around) -> Due:
    key = _key(leaf)
    return lambda memory, now: memory.windows[key].due_ns(now)


def _not(when: When, around: _Around) -> Ask:
    assert when.not_ is not None
    inner = ask_of(when.not_, around)

    def ask(memory: Memory, now: int, active: bool) -> Verdict:
        verdict = inner(memory, now, not active)
        return None if verdict is None else not verdict

    return ask


def _any(when: When, around: _Around) -> Ask:
    return _combined([ask_of(one, around) for one in when.any or ()], decides=True)


def _all(when: When, around: _Around) -> Ask:
    return _combined([ask_of(one, around) for one in when.all or ()], decides=False)


def _given(when: When, around: _Around) -> Ask:
    assert when.given is not None
    key = _given_key(when.given)
    of = frozenset(map(source_of, signals(when)))
    that, rule = ask_of(when.given.that, around), ask_of(when.given.rule, (*around, key))

    def ask(memory: Memory, now: int, active: bool) -> Verdict:
        holds = that(memory, now, active)
        if not holds:
            memory.given_since_ns.pop(key, None)
        elif key not in memory.given_since_ns:
            memory.given_since_ns[key], memory.given_of[key] = now, of
        # Both are asked: a deadband has to see every value.
        verdict = rule(memory, now, active)
        return verdict if holds else None

    return ask


def _combined(tests: Sequence[Ask], *, decides: bool) -> Ask:
    """One verdict of ``decides`` decides; else one unknown makes it unknown."""

    def ask(memory: Memory, now: int, active: bool) -> Verdict:
        # All are asked: a deadband has to see every value.
        verdicts = [one(memory, now, active) for one in tests]
        if decides in verdicts:
            return decides
        return None if None in verdicts else not decides

    return ask


# A new kind of test is one key of ``When`` and one entry here; one for which time is running, one more below.
_TESTS: dict[str, Callable[[When, _Around], Ask]] = {
    "is_": _is,
    "not_": _not,
    "above": _above,
    "below": _below,
    "any": _any,
    "all": _all,
    "bits": _bits,
    "in_": _in,
    "no_data_s": _no_data,
    "stuck_s": _stuck,
    "share": _share,
    "rate": _rate,
    "given": _given,
}
_DUES: dict[type[_Leaf], Callable[..., Due]] = {
    NoData: _no_data_due,
    Stuck: _window_due,
    Share: _window_due,
    Rate: _rate_due,
}


def _window(leaf: _Lasting, now_ns: int) -> Window:
    """What ``leaf`` remembers, from ``now_ns`` on."""
    if isinstance(leaf, Stuck):
        return Standing(in_ns(leaf.s), leaf.deadband)
    if isinstance(leaf, Share) and leaf.of_last is not None:
        return Newest(leaf.value, leaf.of_last)
    span_ns = in_ns(leaf.of_last_s or 0)
    if leaf.value is None:
        return Counter(span_ns, leaf.modulus)
    return Recent(leaf.value, span_ns, now_ns)


W = TypeVar("W", bound=Window)


def _remembered(memory: Memory, key: str, kind: type[W]) -> W:
    window = memory.windows[key]
    assert isinstance(window, kind)
    return window


def _key(leaf: _Lasting) -> str:
    """As JSON, where true is not 1."""
    return f"{type(leaf).__name__} {leaf.model_dump_json()}"


def _given_key(given: Given) -> str:
    return given.model_dump_json()


def _if_later(due_ns: int, now_ns: int) -> int | None:
    return due_ns if due_ns > now_ns else None


def _earliest(*due_ns: int | None) -> int | None:
    return min((ns for ns in due_ns if ns is not None), default=None)


def _parts(when: When, around: _Around) -> Iterable[tuple[When, _Around]]:
    yield when, around
    for inner in (*([when.not_] if when.not_ else ()), *(when.any or ()), *(when.all or ())):
        yield from _parts(inner, around)
    if when.given:
        yield from _parts(when.given.that, around)
        yield from _parts(when.given.rule, (*around, _given_key(when.given)))


def _leaves(when: When) -> Iterable[_Leaf]:
    given = (when.is_, when.above, when.below, when.bits, when.in_)
    for leaf in (*given, when.no_data_s, when.stuck_s, when.share, when.rate):
        if leaf is not None:
            yield leaf
