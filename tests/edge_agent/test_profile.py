"""Profiles as text: what is refused and in which words, what a device may set, what tools get from them."""

from __future__ import annotations

import json
from contextlib import suppress

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.plain_yaml import load
from edge_agent.profile import (
    Profile,
    ProfileError,
    RegisterSignal,
    RequestRead,
    json_schema,
    parse,
    steps,
    to_bytes,
)

DRIVE = """\
schema: 1
name: drive
title: A drive
maker: Somebody
models: [one, two]
evidence: manual
source: Manual 7, edition 3
transports: [modbus]
reads:
  block: {function: 3, address: 10, count: 4}
  inputs: {function: 2, address: 0, count: 8}
signals:
  faulted: {read: block, register: 10, bit: 7, source: p. 4}
  current: {read: block, register: 12, type: u32, scale: 0.1, source: p. 5}
  belt: {read: inputs, coil: 3, source: p. 6}
conditions:
  - fault: tripped
    component: motor
    title: Motor tripped
    severity: stop
    when:
      all:
        - is: {signal: faulted, value: true}
        - not: {above: {signal: current, limit: 5, deadband: 1}}
    on_delay_s: 5
examples:
  - condition: motor/tripped
    trips: {block: {10: 0x80}}
    clears:
      - reads: {block: [0x80, 0, 0, 60], inputs: [0, 1]}
        times: 3
      - after_s: 10
"""

PRINTER = """\
schema: 1
name: printer
title: A printer
maker: Somebody
models: [one]
evidence: simulated
source: Manual 8
transports: [serial, tcp]
framing: stx_etx
reads:
  status: {send: '~HS\\r\\n', frames: 3, no_answer: silent, redact: [{frame: 2, field: 0}]}
signals:
  silent: {read: status, no_answer: true, source: p. 1}
  paper_out: {read: status, frame: 0, field: 1, type: bool, source: p. 2}
  secured: {read: status, frame: 2, field: 0, equals: "0000", source: p. 3}
conditions:
  - {fault: mute, component: printer, title: Mute, severity: stop, when: {is: {signal: silent, value: true}}}
  - {fault: paper-out, component: media, title: Out, severity: stop,
     when: {is: {signal: paper_out, value: true}}}
"""

LAMP = """\
schema: 1
name: lamp
title: A lamp
maker: Somebody
models: [one]
evidence: simulated
source: Manual 9
transports: [mqtt]
reads:
  word: {topic: "tele/{topic}/LWT"}
  state: {topic: "tele/{topic}/STATE", format: json}
signals:
  online: {read: word, words: {Online: true, Offline: false}, source: p. 1}
  signal_strength: {read: state, path: Wifi.RSSI, type: int, source: p. 2}
conditions:
  - {fault: offline, component: lamp, title: Offline, severity: stop,
     when: {is: {signal: online, value: false}}}
  - {fault: weak, component: lamp, title: Weak, severity: notice,
     when: {below: {signal: signal_strength, limit: 30}}}
"""

TEXTS = {"drive": DRIVE, "printer": PRINTER, "lamp": LAMP}


def refusal(name: str, was: str, becomes: str) -> str:
    assert was in TEXTS[name]
    with pytest.raises(ProfileError) as refused:
        parse(TEXTS[name].replace(was, becomes, 1), name=name)
    return str(refused.value)


@pytest.mark.parametrize("name", TEXTS)
def test_a_sound_profile_is_taken(name: str) -> None:
    profile = parse(TEXTS[name], name=name)
    assert profile.name == name
    assert parse(TEXTS[name], name=name) == profile


def test_what_was_left_out_has_the_documented_value() -> None:
    drive = parse(DRIVE, name="drive")
    current, belt = drive.signals["current"], drive.conditions[0]
    assert isinstance(current, RegisterSignal)
    assert (current.register_, current.width, current.word_order) == (12, 2, "abcd")
    assert (belt.key, belt.on_delay_s, belt.off_delay_s, belt.advice) == ("motor/tripped", 5, 0, "")
    status = parse(PRINTER, name="printer").reads["status"]
    assert isinstance(status, RequestRead)
    assert (status.request, status.every_s, status.timeout_s) == (b"~HS\r\n", 5, 2)
    assert [step.times for step in steps(drive.examples[0].clears)] == [3, 1]


@pytest.mark.parametrize(
    ("name", "was", "becomes", "says"),
    [
        # Shape.
        ("drive", "title: A drive", "title: 12", "line 3: title: a text is expected (quote it), not 12"),
        ("drive", "title: A drive", "title: true", "line 3: title: a text is expected (quote it), not true"),
        ("drive", "title: A drive\n", "", "title: missing"),
        ("drive", "schema: 1", "schema: 2", "line 1: schema: should be 1, not 2"),
        (
            "drive",
            "evidence: manual",
            "evidence: rumour",
            "line 6: evidence: should be 'recorded', 'manual' or",
        ),
        ("drive", "maker:", "makr:", "line 4: makr: unknown key; expected one of schema, name, title, maker"),
        (
            "drive",
            "count: 4",
            "count: four",
            'line 10: reads.block.count: a whole number is expected, not "four"',
        ),
        ("drive", "count: 4", "count: '4'", "line 10: reads.block.count: a whole number is expected"),
        (
            "drive",
            "count: 4",
            "count: 4, evry_s: 1",
            "line 10: reads.block.evry_s: unknown key; expected one of",
        ),
        ("drive", "count: 4", "count: 126", "line 10: reads.block: count: at most 125 registers"),
        (
            "drive",
            "transports: [modbus]",
            "transports: [modbus]\nmax_registers: 3",
            "line 11: reads.block.count: at most 3, as max_registers says, not 4; make two reads of it",
        ),
        (
            "drive",
            "address: 10",
            "address: 65533",
            "line 10: reads.block: address and count: the block ends behind",
        ),
        (
            "drive",
            "function: 3, address: 10, count: 4",
            "every_s: 1",
            "line 10: reads.block: a read has send (ask)",
        ),
        (
            "drive",
            "scale: 0.1",
            "scale: true",
            "line 14: signals.current.scale: a number is expected, not true",
        ),
        ("drive", ", source: p. 4", "", "line 13: signals.faulted.source: missing"),
        ("drive", "bit: 7", "bit: 16", "line 13: signals.faulted: bit: type u16 has no bit 16"),
        (
            "drive",
            "bit: 7",
            "word_order: dcba",
            "line 13: signals.faulted: word_order: type u16 is one register",
        ),
        ("drive", "severity: stop", "severity: crit", "line 20: conditions[0].severity: should be 'notice'"),
        (
            "drive",
            "on_delay_s: 5",
            "on_delay_s: -5",
            "line 25: conditions[0].on_delay_s: should be greater than",
        ),
        ("drive", "on_delay_s: 5", "on_delay_s: 5e3", "line 25: 5e3 means a text, not a number"),
        ("drive", "value: true", "value: on", "line 23: on means a boolean in YAML; quote it"),
        (
            "drive",
            "value: true",
            "value: [1]",
            "line 23: conditions[0].when.all[0].is.value: true or false or a",
        ),
        ("printer", "'~HS\\r\\n'", "'~HS\\q'", "line 11: reads.status.send: after a backslash is expected"),
        (
            "printer",
            "type: bool",
            "type: bool, equals: '1'",
            "line 14: signals.paper_out: one of type, words",
        ),
        (
            "printer",
            "type: bool",
            "type: bool, bit: 1",
            "line 14: signals.paper_out: bit: needs type int or hex",
        ),
        (
            "printer",
            "type: bool",
            "type: text, scale: 2",
            "line 14: signals.paper_out: scale: needs type int",
        ),
        (
            "printer",
            "field: 1",
            "fields: 1, field: 1",
            "line 14: signals.paper_out: field: 1 is not one of 1",
        ),
        (
            "lamp",
            "type: int",
            "type: text, scale: 2",
            "line 14: signals.signal_strength: scale: needs type int",
        ),
        # Exactly one rule, nested too.
        (
            "drive",
            "        - is:",
            "        - below: {signal: current, limit: 1}\n          is:",
            "when.all[0]: exactly",
        ),
        (
            "drive",
            "not: {above: {signal: current, limit: 5, deadband: 1}}",
            "not: {}",
            "when.all[1].not: exactly one",
        ),
        (
            "drive",
            "is: {signal: faulted, value: true}",
            "is: ~",
            "line 23: conditions[0].when.all[0]: exactly one",
        ),
        ("lamp", "when: {is: {signal: online, value: false}}", "when: {any: []}", "when.any: "),
        (
            "lamp",
            "when: {is: {signal: online, value: false}}",
            "when: {share: {signal: online, value: true, of_last: 5, above: 0.5, at_least: 6}}",
            "conditions[0].when.share: at_least: 6 is more than of_last, 5",
        ),
        # References.
        ("drive", "name: drive", "name: dryve", "line 2: name: 'dryve' stands in a file named drive.yaml"),
        (
            "drive",
            "read: block, register: 10",
            "read: blok, register: 10",
            "there is no read 'blok'; expected block, inputs",
        ),
        (
            "drive",
            "signal: faulted",
            "signal: faulty",
            "there is no signal 'faulty'; expected faulted, current, belt",
        ),
        (
            "drive",
            "register: 10",
            "register: 14",
            "signals.faulted.register: 14 (1 wide) is outside the block 10..13",
        ),
        (
            "drive",
            "register: 12",
            "register: 13",
            "signals.current.register: 13 (2 wide) is outside the block 10..13",
        ),
        (
            "drive",
            "coil: 3",
            "coil: 8",
            "signals.belt.coil: 8 (1 wide) is outside the block 0..7 of read 'inputs'",
        ),
        (
            "drive",
            "coil: 3",
            "register: 3",
            "signals.belt: read 'inputs' brings something else; expected coil",
        ),
        ("drive", "read: block, register: 10, bit: 7", "read: block, coil: 10", "expected register"),
        ("drive", "value: true", "value: 1", "signal 'faulted' is true or false, never 1"),
        ("drive", "above: {signal: current", "above: {signal: belt", "signal 'belt' is not a number"),
        (
            "drive",
            "fault: tripped",
            "fault: silent",
            "line 17: conditions[0].fault: 'silent' is raised by the agent",
        ),
        ("drive", "condition: motor/tripped", "condition: motor/trip", "there is no condition 'motor/trip'"),
        (
            "printer",
            "fault: paper-out, component: media",
            "fault: mute, component: printer",
            "is conditions[0] already",
        ),
        (
            "printer",
            "frame: 0",
            "frame: 3",
            "signals.paper_out.frame: read 'status' has 3 (they count from 0)",
        ),
        (
            "printer",
            "no_answer: silent",
            "no_answer: quiet",
            "a signal 'quiet' with read: status and no_answer: true",
        ),
        (
            "printer",
            "no_answer: silent, ",
            "",
            "signals.silent.no_answer: read 'status' is expected to say no_answer",
        ),
        ("printer", 'equals: "0000"', "type: int", "signals.secured: shows what the read redacts"),
        ("lamp", "value: false", "value: Offline", "signal 'online' is true or false, never \"Offline\""),
        (
            "lamp",
            "path: Wifi.RSSI, type: int",
            "equals: x",
            "signals.signal_strength: read 'state' brings something",
        ),
        # Transports and framing.
        (
            "drive",
            "[modbus]",
            "[modbus, mqtt]",
            "line 8: transports[1]: 'mqtt' cannot do these reads; expected modbus",
        ),
        ("drive", "[modbus]", "[modbus]\nframing: line", "line 9: framing: modbus has its own framing"),
        ("printer", "framing: stx_etx\n", "", "framing: missing; serial and tcp carry bytes"),
        ("printer", "framing: stx_etx", "framing: smoke", "line 9: framing: there is no framing 'smoke'"),
        ("lamp", "tele/{topic}/LWT", "tele/#", "reads.word.topic: one topic is expected: no +, no #"),
        *(
            (
                "lamp",
                '"tele/{topic}/STATE", format: json',
                f'"{topic}", format: map',
                "a topic with one level",
            )
            for topic in ("tele/x", "tele/+/+", "tele/a+", "tele/+/#")
        ),
        (
            "lamp",
            "path: Wifi.RSSI, type: int",
            "metric: RSSI, type: int",
            "line 14: signals.signal_strength: read 'state' brings something else; expected path",
        ),
        (
            "lamp",
            "path: Wifi.RSSI, type: int",
            "path: Wifi, each: {values: [a], other_than: [b]}",
            "line 14: signals.signal_strength.each: one of values and other_than is expected",
        ),
        (
            "lamp",
            "path: Wifi.RSSI, type: int",
            "path: Wifi, type: text, each: {values: [a]}",
            "signals.signal_strength: one of type, words, equals, each is expected, not type and each",
        ),
        (
            "lamp",
            'word: {topic: "tele/{topic}/LWT"}',
            "word: {listen: true}",
            "reads.state: is for mqtt, but read 'word'",
        ),
        # Examples.
        ("drive", "{10: 0x80}", "{9: 1}", "16-bit numbers by address, or a list"),
        ("drive", "{10: 0x80}", "{10: 65536}", "16-bit numbers by address, or a list"),
        ("drive", "{10: 0x80}", "['x']", "16-bit numbers by address, or a list"),
        (
            "drive",
            "trips: {block:",
            "trips: {blok:",
            "line 28: examples[0].trips[0].reads.blok: there is no read 'blok'",
        ),
        ("drive", "inputs: [0, 1]", "inputs: [0, 2]", "16-bit numbers by address, or a list"),
        (
            "printer",
            'frame: 2, field: 0, equals: "0000"',
            "frame: 2, byte: 0",
            "signals.secured: shows what the read redacts; expected bytes before its from_byte",
        ),
        (
            "printer",
            "frame: 2, field: 0}]",
            "frame: 2, field: 0, from_byte: 1}]",
            "one of field, from_byte, after",
        ),
        ("printer", "frames: 3,", "frames: 3, answer: {},", "one of starts_with, letters, length"),
        ("printer", "frames: 3,", "frames: 3, answer: {mask: 1},", "mask and value: one needs the other"),
        ("printer", "field: 1, type: bool", "byte: 1, bit: 8", "bit: 1 bytes have no bit 8"),
        ("printer", "field: 1, type: bool", "byte: 1, type: text, bit: 1", "text has neither bit nor check"),
        ("printer", "field: 1, type: bool", "byte: 1, words: {a: 1}", "words: needs type text"),
        ("printer", "field: 1, type: bool", "field: 1, otherwise: 1", "otherwise: needs words"),
        (
            "printer",
            "when: {is: {signal: paper_out, value: true}}",
            "when: {given: {that: {bits: {signal: nix, mask: 1}}, rule: {bits: {signal: silent, mask: 1}}}}",
            "when.given.that.bits.signal: there is no signal 'nix'",
        ),
        (
            "drive",
            "    trips:",
            "    set: {signals: {belt: {coil: 9}}}\n    trips:",
            "examples[0].set.signals.belt.coil: 9",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place_and_what_was_expected(
    name: str, was: str, becomes: str, says: str
) -> None:
    assert says in refusal(name, was, becomes)


def test_all_mistakes_are_told_at_once() -> None:
    text = refusal("drive", "title: A drive\nmaker: Somebody", "title: 1\nmaker: 2")
    assert text.splitlines() == [
        "line 3: title: a text is expected (quote it), not 1",
        "line 4: maker: a text is expected (quote it), not 2",
    ]


def test_a_text_that_is_no_mapping_is_told_what_a_profile_is() -> None:
    for text in ("", "- 1", "just words"):
        with pytest.raises(ProfileError, match="line 1: a mapping is expected with schema, name"):
            parse(text, name="drive")


@pytest.mark.parametrize(
    ("text", "raw"),
    [
        ("~HS", b"~HS"),
        (r"\x1b!?\r\n\t\\", b"\x1b!?\r\n\t\\"),
        ("ü", "ü".encode()),
    ],
)
def test_escapes_stand_for_their_bytes(text: str, raw: bytes) -> None:
    assert to_bytes(text) == raw


# --- a device's own values ----------------------------------------------------------------------------------


def test_a_device_sets_values_of_reads_signals_and_conditions() -> None:
    overlay = {
        "reads": {"block": {"every_s": 0.5}},
        "signals": {"current": {"scale": 0.01}},
        "conditions": {
            "motor/tripped": {
                "severity": "notice",
                "when": {"all": [{"is": {"signal": "belt", "value": True}}]},
            }
        },
    }
    plain, own = parse(DRIVE, name="drive"), parse(DRIVE, name="drive", overlay=overlay)
    assert own.reads["block"] == plain.reads["block"].model_copy(update={"every_s": 0.5})
    assert own.signals["current"] == plain.signals["current"].model_copy(update={"scale": 0.01})
    assert own.signals["faulted"] == plain.signals["faulted"]
    assert own.conditions[0].severity == "notice"
    assert own.conditions[0].on_delay_s == plain.conditions[0].on_delay_s
    assert own.conditions[0].when.all is not None
    assert len(own.conditions[0].when.all) == 1
    assert own.examples == (), "they prove the text, not the device"


PRESETS = """\
presets:
  strong: {title: Strong, source: p. 9, set: {signals: {current: {scale: 1, register: 11}}}}
"""


def test_a_preset_is_laid_over_the_profile_and_what_a_device_sets_over_that() -> None:
    text = DRIVE + PRESETS
    plain, strong = parse(text, name="drive"), parse(text, name="drive", preset="strong")
    own = parse(
        text,
        name="drive",
        preset="strong",
        overlay={"signals": {"current": {"scale": 2}, "belt": {"coil": 4}}},
    )
    found = [profile.signals["current"] for profile in (plain, strong, own)]
    assert [(s.scale, s.register_) for s in found if isinstance(s, RegisterSignal)] == [
        (0.1, 12),
        (1, 11),
        (2, 11),
    ]


def test_a_preset_that_is_not_there_or_does_not_fit_is_refused() -> None:
    with pytest.raises(ProfileError, match="preset: there is no preset 'weak'; expected strong"):
        parse(DRIVE + PRESETS, name="drive", preset="weak")
    with pytest.raises(ProfileError, match=r"presets.strong.set.signals.current.register: 99 \(2 wide\)"):
        parse(DRIVE + PRESETS.replace("11", "99"), name="drive")
    with pytest.raises(ProfileError, match=r"examples\[0\].preset: there is no preset 'weak'"):
        parse((DRIVE + PRESETS).replace("    trips:", "    preset: weak\n    trips:"), name="drive")


def test_a_deep_value_is_set_without_repeating_what_stands_beside_it() -> None:
    own = parse(LAMP, name="lamp", overlay={"conditions": {"lamp/weak": {"when": {"below": {"limit": 20}}}}})
    assert own.conditions[1].when.below is not None
    assert (own.conditions[1].when.below.signal, own.conditions[1].when.below.limit) == (
        "signal_strength",
        20,
    )


@pytest.mark.parametrize(
    ("overlay", "says"),
    [
        ({"reads": {"blok": {"every_s": 1}}}, "set.reads.blok: unknown name; expected block, inputs"),
        ({"title": "x"}, "set.title: unknown key; expected reads, signals, conditions"),
        ({"reads": 5}, "set.reads: a table is expected"),
        ({"reads": {"block": 5}}, "set.reads.block: a table is expected"),
        ({"reads": {"block": {"every_s": "1"}}}, 'set.reads.block.every_s: a number is expected, not "1"'),
        ({"reads": {"block": {"evry_s": 1}}}, "set.reads.block.evry_s: unknown key; expected one of"),
        ({"reads": {"block": {"count": 1}}}, "line 14: signals.current.register: 12 (2 wide) is outside"),
        ({"signals": {"belt": {"coil": 9}}}, "set.signals.belt.coil: 9 (1 wide) is outside"),
        (
            {"conditions": {"motor/tripped": {"fault": "x"}}},
            'set.conditions."motor/tripped".fault: cannot be set',
        ),
        (
            {"conditions": {"motor/tripped": {"on_delay_s": -1}}},
            'set.conditions."motor/tripped".on_delay_s: should',
        ),
        (
            {"conditions": {"motor/tripped": {"when": {"any": [5]}}}},
            'set.conditions."motor/tripped".when.any[0]: a map',
        ),
        ({"reads": {"block": {"every_s": {"a": 1}}}}, "set.reads.block.every_s: a number is expected"),
        (
            {"reads": {"block": {"every_s": object()}}},
            "set.reads.block.every_s: a text, number, boolean, list",
        ),
        ({"reads": {"block": {"every_s": float("nan")}}}, "set.reads.block.every_s: "),
    ],
)
def test_what_a_device_cannot_set_is_named_by_its_key(overlay: dict[str, object], says: str) -> None:
    with pytest.raises(ProfileError) as refused:
        parse(DRIVE, name="drive", overlay=overlay)
    assert str(refused.value).startswith(says)


JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    ["reads", "signals", "conditions", "block", "current", "motor/tripped", "when", "all", "x"]
)


@given(st.recursive(JSONISH, lambda inner: st.dictionaries(NAMES, inner, max_size=3), max_leaves=10))
def test_any_overlay_is_laid_over_or_refused(overlay: object) -> None:
    with suppress(ProfileError):
        parse(DRIVE, name="drive", overlay=overlay if isinstance(overlay, dict) else {"signals": overlay})


@given(st.data())
def test_any_text_is_a_profile_or_refused(data: st.DataObject) -> None:
    lines = DRIVE.splitlines()
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(lines) - 1))
        lines[at] = data.draw(st.sampled_from([*lines, "", "  - ", "x: y", "  block:", "    when: {is: }"]))
    with suppress(ProfileError):
        parse("\n".join(lines), name="drive")


# --- for people and their tools -----------------------------------------------------------------------------


def test_the_json_schema_takes_sound_profiles_and_refuses_unknown_keys() -> None:
    schema = jsonschema.Draft202012Validator(json.loads(json_schema()))
    for text in TEXTS.values():
        raw = json.loads(json.dumps(load(text).value))
        schema.validate(raw)
        assert not schema.is_valid(raw | {"extra": 1})


def test_a_profile_is_frozen() -> None:
    profile = parse(DRIVE, name="drive")
    with pytest.raises(ValueError, match="frozen"):
        profile.title = "other"  # type: ignore[misc]
    assert isinstance(profile, Profile)
