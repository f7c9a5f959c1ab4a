"""Decides whether a `when` holds for the latest samples of a device: true, false or unknown (Kleene's logic).

What is not known stays unknown: a signal without a sample or with a bad one, a share of too few samples,
silence without a link or since too short a time. Inside the band of a deadband the answer is what it was;
where nothing was yet (after a restart) it is what the condition's own state says.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from edge_agent.profile import Bits, In, Is, Limit, NoData, Scalar, Share, When
from edge_agent.sample import Quality, Sample, Value

NS_PER_S = 1_000_000_000

# True, False, or None for unknown.
Verdict = bool | None

_Leaf = Is | Limit | Bits | In | NoData | Share


class Window:
    """The newest ``size`` good values of a signal, as whether each equalled the value that is counted."""

    def __init__(self, size: int) -> None:
        self.hits = 0
        self._newest: deque[bool] = deque(maxlen=size)

    def __len__(self) -> int:
        return len(self._newest)

    def put(self, hit: bool) -> None:
        if len(self._newest) == self._newest.maxlen:
            self.hits -= self._newest[0]
        self._newest.append(hit)
        self.hits += hit


@dataclass(slots=True, kw_only=True)
class Memory:
    """What the conditions of one device remember of its samples. Only its ``Detector`` changes it."""

    # Silence counts from here at the earliest: the start, or the return of the link. None: there is no link.
    link_since_ns: int | None
    latest: dict[str, Sample] = field(default_factory=dict)
    last_good_ns: dict[str, int] = field(default_factory=dict)
    windows: dict[tuple[str, str, Scalar, int], Window] = field(default_factory=dict)
    # The last answer of each limit.
    bands: dict[tuple[int, str, float, float], bool] = field(default_factory=dict)

    def value(self, signal: str) -> Value:
        """None when it is not known; a sample of uncertain quality has a value."""
        sample = self.latest.get(signal)
        return None if sample is None or sample.quality is Quality.BAD else sample.value

    def silent_since_ns(self, signal: str) -> int | None:
        """From when on the silence of ``signal`` counts; None without a link."""
        if self.link_since_ns is None:
            return None
        return max(self.link_since_ns, self.last_good_ns.get(signal, 0))


# (memory, now in mono_ns, whether the answer is yes as far as the condition's own state tells) -> verdict
Ask = Callable[[Memory, int, bool], Verdict]


def ask_of(when: When) -> Ask:
    """``when`` as something that can be asked."""
    for name, build in _TESTS.items():
        if getattr(when, name) is not None:
            return build(when)
    raise ValueError("a `when` needs exactly one test")


def signals(when: When) -> frozenset[str]:
    """All that ``when`` looks at."""
    return frozenset(leaf.signal for part in _parts(when) for leaf in _leaves(part))


def shares(when: When) -> tuple[Share, ...]:
    return tuple(part.share for part in _parts(when) if part.share)


def silences(when: When) -> tuple[tuple[str, int], ...]:
    """(signal, ns of silence) of each ``no_data_s``: what time alone can make true."""
    return tuple((p.no_data_s.signal, in_ns(p.no_data_s.s)) for p in _parts(when) if p.no_data_s)


def equal(value: Value, expected: Scalar) -> Verdict:
    """Unknown when the value is. True is not 1, as it is not in YAML or JSON."""
    if value is None:
        return None
    return value == expected and isinstance(value, bool) == isinstance(expected, bool)


def share_key(share: Share) -> tuple[str, str, Scalar, int]:
    """What tells windows apart. The type is in it because True and 1 are one key."""
    return (share.signal, type(share.value).__name__, share.value, share.of_last)


def in_ns(seconds: float) -> int:
    return round(seconds * NS_PER_S)


def _is(when: When) -> Ask:
    assert when.is_ is not None
    signal, expected = when.is_.signal, when.is_.value
    return lambda memory, _now, _active: equal(memory.value(signal), expected)


def _in(when: When) -> Ask:
    assert when.in_ is not None
    signal, values = when.in_.signal, when.in_.values

    def ask(memory: Memory, _now: int, _active: bool) -> Verdict:
        value = memory.value(signal)
        return None if value is None else any(equal(value, one) for one in values)

    return ask


def _bits(when: When) -> Ask:
    assert when.bits is not None
    signal, mask = when.bits.signal, when.bits.mask

    def ask(memory: Memory, _now: int, _active: bool) -> Verdict:
        value = memory.value(signal)
        return bool(value & mask) if isinstance(value, int) else None

    return ask


def _above(when: When) -> Ask:
    assert when.above is not None
    return _limit(when.above, sign=1)


def _below(when: When) -> Ask:
    assert when.below is not None
    return _limit(when.below, sign=-1)


def _limit(limit: Limit, *, sign: int) -> Ask:
    key = (sign, limit.signal, limit.limit, limit.deadband)

    def ask(memory: Memory, _now: int, active: bool) -> Verdict:
        value = memory.value(limit.signal)
        if not isinstance(value, int | float) or value != value:  # NaN is no number to compare
            return None
        over = sign * (value - limit.limit)
        in_band = limit.deadband > 0 and -limit.deadband <= over <= 0
        answer = memory.bands.get(key, active) if in_band else over > 0
        memory.bands[key] = answer
        return answer

    return ask


def _no_data(when: When) -> Ask:
    assert when.no_data_s is not None
    signal, silence_ns = when.no_data_s.signal, in_ns(when.no_data_s.s)

    def ask(memory: Memory, now: int, _active: bool) -> Verdict:
        since = memory.silent_since_ns(signal)
        if since is None:
            return None
        if now - since >= silence_ns:
            return True
        # Unknown while it was neither silent for long enough nor heard since the link stands.
        return False if memory.last_good_ns.get(signal) == since else None

    return ask


def _share(when: When) -> Ask:
    assert when.share is not None
    share = when.share
    key = share_key(share)

    def ask(memory: Memory, _now: int, _active: bool) -> Verdict:
        window = memory.windows[key]
        if memory.value(share.signal) is None or len(window) < share.at_least:
            return None
        return window.hits > share.above * len(window)

    return ask


def _not(when: When) -> Ask:
    assert when.not_ is not None
    inner = ask_of(when.not_)

    def ask(memory: Memory, now: int, active: bool) -> Verdict:
        verdict = inner(memory, now, not active)
        return None if verdict is None else not verdict

    return ask


def _any(when: When) -> Ask:
    return _combined([ask_of(one) for one in when.any or ()], decides=True)


def _all(when: When) -> Ask:
    return _combined([ask_of(one) for one in when.all or ()], decides=False)


def _given(when: When) -> Ask:
    assert when.given is not None
    that, rule = ask_of(when.given.that), ask_of(when.given.rule)

    def ask(memory: Memory, now: int, active: bool) -> Verdict:
        # Both are asked: a deadband has to see every value.
        holds, verdict = that(memory, now, active), rule(memory, now, active)
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


# A new kind of test is one key of ``When`` and one entry here.
_TESTS: dict[str, Callable[[When], Ask]] = {
    "is_": _is,
    "not_": _not,
    "above": _above,
    "below": _below,
    "any": _any,
    "all": _all,
    "bits": _bits,
    "in_": _in,
    "no_data_s": _no_data,
    "share": _share,
    "given": _given,
}


def _parts(when: When) -> Iterable[When]:
    yield when
    given = (when.given.that, when.given.rule) if when.given else ()
    for inner in (*([when.not_] if when.not_ else ()), *(when.any or ()), *(when.all or ()), *given):
        yield from _parts(inner)


def _leaves(when: When) -> Iterable[_Leaf]:
    for leaf in (when.is_, when.above, when.below, when.bits, when.in_, when.no_data_s, when.share):
        if leaf is not None:
            yield leaf
