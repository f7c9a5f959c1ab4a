"""What no model of the grammar can see alone: references between reads, signals, conditions and examples.

Each rule yields problems, a place in the profile with what was expected there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from edge_agent.grammar import (
    WHEN_KEYS,
    Bits,
    ByteSignal,
    CoilSignal,
    Example,
    ExamplePayload,
    Given,
    In,
    IppRead,
    Is,
    JsonSignal,
    Limit,
    ListenRead,
    MetricSignal,
    ModbusRead,
    NoAnswer,
    NoData,
    Profile,
    Rate,
    Read,
    Redaction,
    RegisterSignal,
    RequestRead,
    Scalar,
    Share,
    Signal,
    SilenceSignal,
    Stuck,
    TextSignal,
    TopicRead,
    When,
    steps,
    to_bytes,
)
from edge_agent.plain_yaml import Path
from edge_agent.wire import RESERVED_FAULTS

STREAM, MODBUS, TOPICS, IPP = "serial or tcp", "modbus", "mqtt", "ipp"
# What kind of reads a transport can do; a transport that is not listed here is taken at its word.
_TRANSPORTS = {"serial": STREAM, "tcp": STREAM, "modbus": MODBUS, "mqtt": TOPICS, "ipp": IPP}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    path: Path
    text: str


def problems(profile: Profile) -> list[Problem]:
    return [problem for rule in _RULES for problem in rule(profile)]


def choices(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def shortened(given: object) -> str:
    """A value as a person would quote it."""
    text = json.dumps(given, ensure_ascii=False, default=repr)
    return text if len(text) <= 60 else text[:57] + "..."


def _transports_fit_reads(profile: Profile) -> Iterator[Problem]:
    families = {name: _family(read) for name, read in profile.reads.items()}
    first_name, first = next(iter(families.items()))
    for name, family in families.items():
        if family != first:
            yield Problem(
                path=("reads", name), text=f"is for {family}, but read {first_name!r} is for {first}"
            )
    for number, transport in enumerate(profile.transports):
        if _TRANSPORTS.get(transport, first) != first:
            yield Problem(
                path=("transports", number), text=f"{transport!r} cannot do these reads; expected {first}"
            )
    if first == STREAM and profile.framing is None:
        yield Problem(
            path=("framing",), text="missing; serial and tcp carry bytes, which must be cut into frames"
        )
    if first != STREAM and profile.framing is not None:
        yield Problem(path=("framing",), text=f"{first} has its own framing; take this key out")
    if profile.framing is not None and not _is_framing(profile.framing):
        yield Problem(
            path=("framing",), text=f"there is no framing {profile.framing!r} in edge_agent/framing"
        )
    listens = [name for name, read in profile.reads.items() if isinstance(read, ListenRead)]
    for name in listens[1:]:
        yield Problem(path=("reads", name), text=f"{listens[0]!r} listens already; one read takes all frames")


def _family(read: Read) -> str:
    if isinstance(read, ModbusRead):
        return MODBUS
    if isinstance(read, IppRead):
        return IPP
    return TOPICS if isinstance(read, TopicRead) else STREAM


def _is_framing(name: str) -> bool:
    # __init__ is a module too, and no framing.
    named = name.isidentifier() and not name.startswith("_")
    return named and find_spec(f"edge_agent.framing.{name}") is not None


def _reads_are_whole(profile: Profile) -> Iterator[Problem]:
    for name, read in profile.reads.items():
        if isinstance(read, TopicRead) and not _is_topic(read):
            yield Problem(path=("reads", name, "topic"), text=_TOPICS_OF[read.format == "map"])
        if isinstance(read, RequestRead) and read.no_answer is not None:
            signal = profile.signals.get(read.no_answer)
            if not isinstance(signal, SilenceSignal) or signal.read != name:
                text = f"a signal {read.no_answer!r} with read: {name} and no_answer: true is expected"
                yield Problem(path=("reads", name, "no_answer"), text=text)


_TOPICS_OF = {
    False: "one topic is expected: no +, no #, only {topic} stands for another text",
    True: "a topic with one level that is + is expected: no #, only {topic} stands for another text",
}


def _is_topic(read: TopicRead) -> bool:
    levels = read.topic.replace("{topic}", "").split("/")
    if read.format == "map":
        if levels.count("+") != 1:
            return False
        levels.remove("+")
    return not any(sign in level for level in levels for sign in "#+{}\0")


def _signals_fit_reads(profile: Profile) -> Iterator[Problem]:
    for name, signal in profile.signals.items():
        read = profile.reads.get(signal.read)
        if read is None:
            text = f"there is no read {signal.read!r}; expected {choices(profile.reads)}"
            yield Problem(path=("signals", name, "read"), text=text)
            continue
        for key, text in _misfits(name, signal, read):
            yield Problem(path=("signals", name, *([key] if key else [])), text=text)


def _misfits(name: str, signal: Signal, read: Read) -> Iterator[tuple[str, str]]:
    if not isinstance(signal, _fitting(read)):
        expected = " or ".join(_SHAPES[kind] for kind in _fitting(read))
        yield "", f"read {signal.read!r} brings something else; expected {expected}"
    elif isinstance(signal, SilenceSignal):
        if not isinstance(read, RequestRead) or read.no_answer != name:
            yield "no_answer", f"read {signal.read!r} is expected to say no_answer: {name}"
    elif isinstance(signal, TextSignal):
        frames = read.frames if isinstance(read, RequestRead) else 1
        if signal.frame >= frames:
            yield "frame", f"read {signal.read!r} has {frames} (they count from 0)"
        if _shows_content(signal) and any(_overlap(signal, hidden) for hidden in _redactions(read)):
            yield "", "shows what the read redacts; expected equals, starts_with, words, or type bool or seen"
    elif isinstance(signal, ByteSignal):
        frames = read.frames if isinstance(read, RequestRead) else 1
        if signal.frame >= frames:
            yield "frame", f"read {signal.read!r} has {frames} (they count from 0)"
        if any(_hides_bytes(signal, hidden) for hidden in _redactions(read)):
            yield "", "shows what the read redacts; expected bytes before its from_byte"
    elif isinstance(signal, JsonSignal | MetricSignal):
        if _redactions(read) and signal.words is None and signal.equals is None:
            yield "", "shows what the read redacts; expected equals or words"
    elif isinstance(read, ModbusRead):
        key, address, width = (
            ("coil", signal.coil, 1)
            if isinstance(signal, CoilSignal)
            else ("register", signal.register_, signal.width)
        )
        if not read.address <= address <= read.address + read.count - width:
            block = f"{read.address}..{read.address + read.count - 1}"
            yield key, f"{address} ({width} wide) is outside the block {block} of read {signal.read!r}"


_SHAPES: dict[type[Signal], str] = {
    TextSignal: "a field of text",
    JsonSignal: "path",
    MetricSignal: "metric",
    RegisterSignal: "register",
    CoilSignal: "coil",
    ByteSignal: "byte",
    SilenceSignal: "no_answer",
}


_OF_FORMAT: dict[str, tuple[type[Signal], ...]] = {
    "text": (TextSignal,),
    "json": (JsonSignal,),
    "map": (JsonSignal,),
    "sparkplug": (MetricSignal, JsonSignal),
}


def _fitting(read: Read) -> tuple[type[Signal], ...]:
    if isinstance(read, ModbusRead):
        return (CoilSignal,) if read.of_bits else (RegisterSignal,)
    if isinstance(read, IppRead):
        return (JsonSignal,)
    if isinstance(read, TopicRead):
        return _OF_FORMAT[read.format]
    if isinstance(read, RequestRead):
        return (TextSignal, ByteSignal, SilenceSignal)
    return (TextSignal, ByteSignal)


def _redactions(read: Read) -> tuple[Redaction, ...]:
    return () if isinstance(read, ModbusRead) else read.redact


def _shows_content(signal: TextSignal) -> bool:
    compared = signal.words is not None or signal.equals is not None or signal.starts_with is not None
    return not compared and signal.type not in ("bool", "seen")


def _overlap(signal: TextSignal, hidden: Redaction) -> bool:
    same_frame = hidden.frame in (None, signal.frame) and (
        None in (hidden.fields_, signal.fields_) or hidden.fields_ == signal.fields_
    )
    apart = signal.after is None and signal.split == hidden.split and None not in (signal.field, hidden.field)
    return same_frame and not (apart and signal.field != hidden.field)


def _hides_bytes(signal: ByteSignal, hidden: Redaction) -> bool:
    apart = hidden.from_byte is not None and signal.byte + signal.count <= hidden.from_byte
    return hidden.frame in (None, signal.frame) and not apart


def _conditions_are_told_apart(profile: Profile) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for number, condition in enumerate(profile.conditions):
        if condition.fault in RESERVED_FAULTS:
            text = f"{condition.fault!r} is raised by the agent itself; take another word"
            yield Problem(path=("conditions", number, "fault"), text=text)
        if condition.key in seen:
            text = f"{condition.key} is conditions[{seen[condition.key]}] already"
            yield Problem(path=("conditions", number, "fault"), text=text)
        seen.setdefault(condition.key, number)


def _reads_fit_the_device(profile: Profile) -> Iterator[Problem]:
    at_most = profile.max_registers
    for name, read in profile.reads.items():
        if isinstance(read, ModbusRead) and not read.of_bits and read.count > at_most:
            text = f"at most {at_most}, as max_registers says, not {read.count}; make two reads of it"
            yield Problem(path=("reads", name, "count"), text=text)


def _conditions_fit_signals(profile: Profile) -> Iterator[Problem]:
    for number, condition in enumerate(profile.conditions):
        reads = {name: profile.reads.get(signal.read) for name, signal in profile.signals.items()}
        yield from misfits(condition.when, profile.signals, reads, ("conditions", number, "when"))


def misfits(
    when: When, signals: Mapping[str, Signal], reads: Mapping[str, Read | None], where: Path
) -> Iterator[Problem]:
    """What a rule asks of signals that are not there, or that have no such values. ``reads``: by signal, what
    brings it.
    """
    for path, leaf in _leaves(when, where):
        signal = signals.get(leaf.signal)
        if signal is None:
            text = f"there is no signal {leaf.signal!r}; expected {choices(signals)}"
            yield Problem(path=(*path, "signal"), text=text)
        else:
            yield from _rule_misfits(path, leaf, _kinds(signal))
            yield from _too_seldom(path, leaf, reads[leaf.signal])


_Leaf = Is | Limit | Bits | In | NoData | Stuck | Share | Rate


def _leaves(when: When, path: Path) -> Iterator[tuple[Path, _Leaf]]:
    for key, name in WHEN_KEYS.items():
        inner: When | Given | tuple[When, ...] | _Leaf | None = getattr(when, name)
        if isinstance(inner, When):
            yield from _leaves(inner, (*path, key))
        elif isinstance(inner, Given):
            yield from _leaves(inner.that, (*path, key, "that"))
            yield from _leaves(inner.rule, (*path, key, "rule"))
        elif isinstance(inner, tuple):
            for number, each in enumerate(inner):
                yield from _leaves(each, (*path, key, number))
        elif inner is not None:
            yield (*path, key), inner


def _kinds(signal: Signal) -> frozenset[type]:
    """What its values can be; float stands for any number."""
    every = frozenset({bool, float, str})
    if isinstance(signal, SilenceSignal | CoilSignal) or (
        not isinstance(signal, JsonSignal | MetricSignal) and signal.bit is not None
    ):
        return frozenset({bool})
    if isinstance(signal, RegisterSignal):
        return frozenset({float})
    if isinstance(signal, ByteSignal) and signal.words is None:
        return frozenset({str if signal.type == "text" else float})
    if not isinstance(signal, ByteSignal) and signal.equals is not None:
        return frozenset({bool})
    if isinstance(signal, TextSignal) and signal.starts_with is not None:
        return frozenset({bool})
    if isinstance(signal, JsonSignal) and signal.each is not None:
        return frozenset({str})
    if signal.words is not None:
        values = [*signal.words.values(), *([] if signal.otherwise is None else [signal.otherwise])]
        return frozenset(map(_kind, values)) | (
            every if isinstance(signal, JsonSignal | MetricSignal) else frozenset()
        )
    if signal.type is None:
        return every if isinstance(signal, JsonSignal | MetricSignal) else frozenset({str})
    kinds = {"bool": bool, "seen": bool, "text": str}
    return frozenset({kinds.get(signal.type, float)})


def _kind(value: Scalar) -> type:
    return float if isinstance(value, int) and not isinstance(value, bool) else type(value)


_KIND_NAMES = {bool: "true or false", float: "a number", str: "a text"}


def _too_seldom(path: Path, leaf: _Leaf, read: Read | None) -> Iterator[Problem]:
    """What is read once in that time, or less, can be seen neither to stand nor to count."""
    span_s = {Stuck: "s", Rate: "of_last_s"}.get(type(leaf))
    if span_s is None or not isinstance(read, RequestRead | ModbusRead | IppRead):
        return
    if getattr(leaf, span_s) <= read.every_s:
        every = f"{read.every_s:g}"
        text = f"more than {every} is expected: signal {leaf.signal!r} is read every {every} s"
        yield Problem(path=(*path, span_s), text=text)


def _rule_misfits(path: Path, leaf: _Leaf, kinds: frozenset[type]) -> Iterator[Problem]:
    counts = isinstance(leaf, Rate) and leaf.value is None
    if (isinstance(leaf, Limit | Bits) or counts) and float not in kinds:
        yield Problem(path=(*path, "signal"), text=f"signal {leaf.signal!r} is not a number")
    values: list[tuple[str | int, Scalar]] = []
    if isinstance(leaf, Is | Share | Rate) and leaf.value is not None:
        values = [("value", leaf.value)]
    if isinstance(leaf, In):
        values = list(enumerate(leaf.values))
    for key, value in values:
        if _kind(value) not in kinds:
            expected = " or ".join(name for kind, name in _KIND_NAMES.items() if kind in kinds)
            where = (*path, "values", key) if isinstance(leaf, In) else (*path, key)
            yield Problem(path=where, text=f"signal {leaf.signal!r} is {expected}, never {shortened(value)}")


_RULES: tuple[Callable[[Profile], Iterable[Problem]], ...] = (
    _transports_fit_reads,
    _reads_are_whole,
    _reads_fit_the_device,
    _signals_fit_reads,
    _conditions_are_told_apart,
    _conditions_fit_signals,
)


# --- examples -----------------------------------------------------------------------------------------------


def example_problems(path: Path, example: Example, profile: Profile) -> Iterator[Problem]:
    keys = [condition.key for condition in profile.conditions]
    if example.condition not in keys:
        text = f"there is no condition {example.condition!r}; expected {choices(keys)}"
        yield Problem(path=(*path, "condition"), text=text)
    for part, given in (("trips", example.trips), ("clears", example.clears)):
        for step_number, step in enumerate(steps(given)):
            for read_name, payload in step.reads.items():
                read = profile.reads.get(read_name)
                where = (*path, part, step_number, "reads", read_name)
                if read is None:
                    text = f"there is no read {read_name!r}; expected {choices(profile.reads)}"
                    yield Problem(path=where, text=text)
                elif text := _payload_misfit(payload, read):
                    yield Problem(path=where, text=text)


def _payload_misfit(payload: ExamplePayload, read: Read) -> str:
    """What would fit, or nothing."""
    if isinstance(payload, NoAnswer):
        return (
            ""
            if isinstance(read, RequestRead | ModbusRead | IppRead)
            else "a read that does not ask cannot stay unanswered"
        )
    if isinstance(read, TopicRead | IppRead):
        return "" if isinstance(payload, str) else "the message is expected, one text"
    if isinstance(read, ModbusRead):
        numbers = list(payload.values() if isinstance(payload, dict) else payload)
        addresses = list(
            payload if isinstance(payload, dict) else range(read.address, read.address + len(payload))
        )
        fits = isinstance(payload, dict | tuple) and all(
            isinstance(n, int) and 0 <= n <= (1 if read.of_bits else 0xFFFF) for n in numbers
        )
        inside = all(read.address <= address < read.address + read.count for address in addresses)
        return (
            ""
            if fits and inside
            else "16-bit numbers by address, or a list from the block's first address, are expected"
        )
    if not isinstance(payload, tuple) or not all(isinstance(frame, str) for frame in payload):
        return "frames are expected, a list of texts"
    try:
        list(map(to_bytes, map(str, payload)))
    except ValueError as error:
        return str(error)
    return ""
