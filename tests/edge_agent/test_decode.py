"""From what a read brought to samples: every way to say where a value stands, and that nothing breaks it."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent import detect
from edge_agent.decode import MAX_SHOWN_CHARACTERS, escaped, samples, shown
from edge_agent.device import Device
from edge_agent.profile import Profile, Read, parse
from edge_agent.sample import Payload, Quality, Reading, Sample, Trouble
from edge_agent.wire import Stamp

AT = Stamp(boot="0" * 32, mono_ns=1, wall_ms=1, source="ntp")
REQUEST = {"send": "?", "frames": 3}
LISTEN = {"listen": True}
HOLDING = {"function": 3, "address": 100, "count": 10}
COILS = {"function": 1, "address": 100, "count": 10}
TOPIC = {"topic": "t"}
FATAL = {"path": "level", "values": ["FATAL"], "show": "type"}
OTHER = {"other_than": ["none"]}
JSON = {"topic": "t", "format": "json"}


def device(read: dict[str, Any], *signals: dict[str, Any], **other_reads: dict[str, Any]) -> Device:
    """A device with the read ``r`` and the signals ``s0``, ``s1`` ..."""
    family = "modbus" if "function" in read else "mqtt" if "topic" in read else "serial"
    raw = {
        "schema": 1,
        "name": "p",
        "title": "P",
        "maker": "M",
        "models": ["m"],
        "evidence": "simulated",
        "source": "none",
        "transports": [family],
        "reads": {"r": read, **other_reads},
        "signals": {f"s{n}": {"read": "r", "source": "p. 1"} | signal for n, signal in enumerate(signals)},
        "conditions": [
            {
                "fault": "f",
                "component": "c",
                "title": "T",
                "severity": "stop",
                "when": {"no_data_s": {"signal": "s0", "s": 5}},
            }
        ],
    }
    if family == "serial":
        raw["framing"] = "line"
    # JSON is YAML, but for numbers like 1e+300.
    profile = parse(json.dumps(raw).replace("1e+", "1.0e+"), name="p")
    return Device(id="d", place="", bus="b", profile=profile)


def taken(
    of: Device, payload: Payload = (), trouble: Trouble | None = None, detail: str = ""
) -> list[Sample]:
    reading = Reading(device="d", read="r", at=AT, payload=payload, trouble=trouble, detail=detail)
    return list(samples(of, reading))


def one(read: dict[str, Any], signal: dict[str, Any], payload: Payload) -> object:
    """The value, or the detail of a bad sample, or None for no sample."""
    found = taken(device(read, signal), payload)
    if not found:
        return None
    (sample,) = found
    assert (sample.device, sample.signal, sample.at) == ("d", "s0", AT)
    return sample.value if sample.quality is Quality.GOOD else f"bad: {sample.detail}"


STATUS = (
    b"030,0,1,0308",
    b" 1 , two,3.50 ",
    b"ERRORS:   1 00000000 0000000B\r\nWARNINGS: 0 00000000 00000002",
)


@pytest.mark.parametrize(
    ("signal", "value"),
    [
        ({"field": 1, "type": "bool"}, False),
        ({"field": 2, "type": "bool"}, True),
        ({"field": 0, "type": "bool"}, "bad: neither 0 nor 1"),
        ({"field": 3, "type": "int"}, 308),
        ({"field": 3, "type": "int", "scale": 0.1}, 30.8),
        ({"field": 3, "type": "int", "bit": 2}, True),
        ({"field": 3, "type": "int", "bit": 3}, False),
        ({"field": 3, "type": "hex"}, 0x308),
        ({"field": 4, "type": "int"}, "bad: field 4 is missing: there are 4"),
        ({"field": 1, "fields": 4, "type": "bool"}, False),
        ({"field": 1, "fields": 5, "type": "bool"}, "bad: 5 fields are expected, 4 found"),
        ({"field": 0, "split": ";"}, "030,0,1,0308"),
        ({"frame": 1, "field": 0, "type": "int"}, 1),
        ({"frame": 1, "field": 1}, "two"),
        ({"frame": 1, "field": 1, "type": "int"}, "bad: not a whole number"),
        ({"frame": 1, "field": 1, "equals": "two"}, True),
        ({"frame": 1, "field": 1, "starts_with": "tw"}, True),
        ({"frame": 1, "field": 1, "starts_with": "wo"}, False),
        ({"frame": 1, "field": 1, "words": {"one": 1, "two": 2}}, 2),
        ({"frame": 1, "field": 0, "words": {"one": 1, "two": 2}}, "bad: none of the words one, two"),
        ({"frame": 1, "field": 2, "type": "float"}, 3.5),
        ({"frame": 1, "field": 1, "type": "float"}, "bad: not a number"),
        ({"frame": 2, "after": "ERRORS:", "split": " ", "field": 2, "type": "hex"}, 11),
        ({"frame": 2, "after": "ERRORS:", "split": " ", "field": 2, "type": "hex", "bit": 3}, True),
        ({"frame": 2, "after": "WARNINGS:", "split": " ", "field": 2, "type": "hex"}, 2),
        ({"frame": 2, "after": "ERRORS:", "split": " ", "fields": 3, "field": 0, "type": "bool"}, True),
        ({"frame": 2, "after": "NOTES:", "type": "int"}, "bad: 'NOTES:' is missing"),
        ({"frame": 0, "type": "seen"}, True),
        ({"frame": 0, "ignore": ["030,0,1,0308"]}, None),
        ({"frame": 0}, "030,0,1,0308"),
    ],
)
def test_a_value_in_text_is_found_where_the_profile_says(signal: dict[str, Any], value: object) -> None:
    found = one(REQUEST, signal, STATUS)
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    ("signal", "frame", "value"),
    [
        ({"byte": 0}, b"\x20", 0x20),
        ({"byte": 0, "bit": 5}, b"\x20", True),
        ({"byte": 0, "bit": 6}, b"\x20", False),
        ({"byte": 1, "count": 2}, b"\x00\x01\x02", 0x102),
        ({"byte": 1, "count": 2, "bit": 8}, b"\x00\x01\x02", True),
        ({"byte": 2}, b"ab", "bad: byte 2 is missing: there are 2"),
        ({"byte": 2, "type": "text"}, b"  c000007", "c"),
        ({"byte": 3, "count": 6, "type": "text"}, b"  c000007", "000007"),
        ({"byte": 3, "count": 6, "type": "int"}, b"  c000007", 7),
        ({"byte": 2, "count": 6, "type": "int"}, b"  c000007", "bad: not a whole number"),
        ({"byte": 1, "type": "text", "words": {"Y": True, "N": False}}, b"NY", True),
        ({"byte": 1, "type": "text", "words": {"Y": True, "N": False}}, b"NR", "bad: none of the words Y, N"),
        ({"byte": 0, "check": {"mask": 0x93, "value": 0x12}}, b"\x1a", 0x1A),
        (
            {"byte": 0, "check": {"mask": 0x93, "value": 0x12}},
            b"\x13",
            "bad: bits that are always the same are not: another byte",
        ),
        ({"byte": 3, "only": {"byte": 0, "values": [0xF6]}}, b"\xf6\x00\x00\x03", 3),
        ({"byte": 3, "only": {"byte": 0, "values": [0xF6]}}, b"\xf3\x00\x00\x03", None),
        ({"byte": 3, "only": {"byte": 9, "values": [0xF6]}}, b"\xf6\x00\x00\x03", None),
    ],
)
def test_a_value_in_bytes_is_found_where_the_profile_says_and_nothing_is_stripped(
    signal: dict[str, Any], frame: bytes, value: object
) -> None:
    found = one(REQUEST, signal, (frame,))
    assert (type(found), found) == (type(value), value)


def test_a_word_that_is_not_listed_is_what_the_profile_says_of_the_others() -> None:
    words = {"words": {"ok": 0}, "otherwise": 99}
    assert one(REQUEST, words, (b"ok",)) == 0
    assert one(REQUEST, words, (b"hm",)) == 99
    assert one(JSON, words | {"path": "s"}, (b'{"s": "hm"}',)) == 99


def test_a_message_about_something_else_says_nothing_about_a_signal() -> None:
    signal = {"path": "state", "only": {"path": "id", "equals": "BATTERY"}}
    assert one(JSON, signal, (b'{"id": "BATTERY", "state": "SET"}',)) == "SET"
    assert one(JSON, signal, (b'{"id": "POWER", "state": "SET"}',)) is None
    assert one(JSON, signal, (b'{"state": "SET"}',)) == "bad: there is no id in the message"


def test_what_stands_behind_a_text_is_hidden_to_the_end() -> None:
    of = device(LISTEN | {"redact": [{"after": "]"}]}, {"type": "seen"})
    for frame, line in ((b"||[0]a]b", "||[0][redacted]"), (b"||[0]", "||[0]"), (b"plain", "plain")):
        assert shown(of, Reading(device="d", read="r", at=AT, payload=(frame,))) == (line,)


def test_bytes_are_hidden_from_where_the_profile_says() -> None:
    of = device(LISTEN | {"redact": [{"from_byte": 4}]}, {"byte": 0}, {"type": "seen"})
    for frame, line in (
        (b"\xf3\x00\x00\x0b4711", "\\xf3\\x00\\x00\\x0b[redacted]"),
        (b"\xf6\x03", "\\xf6\\x03"),
    ):
        assert shown(of, Reading(device="d", read="r", at=AT, payload=(frame,))) == (line,)


@pytest.mark.parametrize(
    ("signal", "frame", "value"),
    [
        ({"type": "int"}, b"+12", 12),
        ({"type": "int"}, b"9" * 19, "bad: a number of more than 63 bits"),
        ({"type": "int"}, b"9" * 5_000, "bad: not a whole number"),
        ({"type": "int"}, "１２".encode(), "bad: not a whole number"),
        ({"type": "int"}, b"1_2", "bad: not a whole number"),
        ({"type": "int"}, b"", "bad: not a whole number"),
        ({"type": "hex"}, b"0xfF", 255),
        ({"type": "hex"}, b"f" * 16, "bad: a number of more than 63 bits"),
        ({"type": "hex"}, b"-1", "bad: not a hexadecimal number"),
        ({"type": "float"}, b"1e999", "bad: not a finite number"),
        ({"type": "float"}, b"nan", "bad: not a number"),
        ({"type": "float"}, b"-.5", -0.5),
        ({"type": "float", "scale": 1e308}, b"1e10", "bad: not a finite number"),
        ({"type": "float", "scale": 0.1}, b"3", 0.3),
        ({"type": "text"}, b"x" * 257, "bad: longer than 256 characters"),
        ({"type": "text"}, b"\xff\x00", "\\xff\x00"),
        ({"equals": r"\x18"}, b"\x18", True),
        ({"equals": ""}, b"  ", True),
    ],
)
def test_numbers_and_texts_are_taken_strictly(signal: dict[str, Any], frame: bytes, value: object) -> None:
    found = one(LISTEN, signal, (frame,))
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize("payload", [(), (b"",), (b"1",) * 9, (1, 2, 3), (b"\xff" * 4096,)])
def test_an_answer_of_another_shape_is_bad_quality(payload: Payload) -> None:
    assert str(one(REQUEST, {"frame": 2, "type": "hex"}, payload)).startswith("bad: ") == (len(payload) != 9)


def test_a_link_that_came_up_says_nothing_about_those_who_speak_by_themselves() -> None:
    assert taken(device(LISTEN, {"type": "seen"})) == []
    assert taken(device(TOPIC, {"type": "seen"})) == []


# --- registers ----------------------------------------------------------------------------------------------

# The wire bytes of 0x12345678 in each order.
ORDERS = {
    "abcd": (0x1234, 0x5678),
    "cdab": (0x5678, 0x1234),
    "badc": (0x3412, 0x7856),
    "dcba": (0x7856, 0x3412),
}


@pytest.mark.parametrize(
    ("signal", "registers", "value"),
    [
        ({"register": 100}, (0xFFFE,), 65_534),
        ({"register": 100, "type": "i16"}, (0xFFFE,), -2),
        ({"register": 101, "scale": 0.1}, (0, 3), 0.3),
        ({"register": 101, "bit": 7}, (0, 0x80), True),
        ({"register": 101, "bit": 6}, (0, 0x80), False),
        ({"register": 100, "type": "i16", "bit": 15}, (0x8000,), True),
        ({"register": 100, "type": "u32"}, (0xFFFF, 0xFFFF), 0xFFFF_FFFF),
        ({"register": 100, "type": "i32"}, (0xFFFF, 0xFFFE), -2),
        ({"register": 100, "type": "u32", "bit": 31}, (0x8000, 0), True),
        ({"register": 100, "type": "u32", "bit": 31, "word_order": "cdab"}, (0, 0x8000), True),
        ({"register": 100, "type": "f32"}, struct.unpack(">HH", struct.pack(">f", 1.5)), 1.5),
        ({"register": 100, "type": "f32", "scale": 2}, struct.unpack(">HH", struct.pack(">f", 1.5)), 3.0),
        ({"register": 100, "type": "f32"}, struct.unpack(">HH", struct.pack(">f", math.nan)), None),
        ({"register": 109}, (0,) * 9, None),
        ({"register": 100}, (70_000,), None),
        ({"register": 100}, (-1,), None),
        ({"register": 100}, (b"text",), None),
    ],
)
def test_a_value_in_registers_is_found_where_the_profile_says(
    signal: dict[str, Any], registers: Payload, value: object
) -> None:
    found = one(HOLDING, signal, registers)
    if value is None:
        assert str(found).startswith("bad: ")
    else:
        assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(("order", "registers"), ORDERS.items())
def test_two_registers_are_put_together_in_the_order_that_is_said(
    order: str, registers: tuple[int, int]
) -> None:
    signal = {"register": 100, "type": "u32", "word_order": order}
    assert one(HOLDING, signal, registers) == 0x12345678


@pytest.mark.parametrize("value", [0, 1, True])
def test_a_coil_is_true_or_false(value: int) -> None:
    assert one(COILS, {"coil": 101}, (1 - value, value)) is bool(value)


# --- MQTT ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signal", "message", "value"),
    [
        ({"path": "online"}, b'{"online": true}', True),
        ({"path": "online"}, b'{"online": "yes"}', "yes"),
        ({"path": "online", "type": "bool"}, b'{"online": 1}', "bad: not of type bool"),
        ({"path": "online"}, b'{"online": null}', "bad: neither a text, a number nor true or false"),
        ({"path": "online"}, b'{"online": []}', "bad: neither a text, a number nor true or false"),
        ({"path": "online"}, b"{}", "bad: there is no online in the message"),
        ({"path": "a.b.0.c"}, b'{"a": {"b": [{"c": 5}]}}', 5),
        ({"path": "a.b.1.c"}, b'{"a": {"b": [{"c": 5}]}}', "bad: there is no a.b.1.c in the message"),
        ({"path": "a.-1"}, b'{"a": [1]}', "bad: there is no a.-1 in the message"),
        ({"path": "0"}, b'{"0": 7}', 7),
        ({"path": "a", "type": "int"}, b'{"a": true}', "bad: not of type int"),
        ({"path": "a", "type": "int"}, b'{"a": 1.5}', "bad: not of type int"),
        ({"path": "a", "type": "float"}, b'{"a": 2}', 2),
        ({"path": "a", "type": "float", "scale": 0.1}, b'{"a": 3}', 0.3),
        ({"path": "a", "type": "float"}, b'{"a": 1e999}', "bad: a number is too large"),
        ({"path": "a"}, b'{"a": ' + b"9" * 30 + b"}", "bad: a number of more than 63 bits"),
        ({"path": "a", "type": "text"}, b'{"a": "x"}', "x"),
        ({"path": "a", "equals": "up"}, b'{"a": "up"}', True),
        ({"path": "a", "equals": "up"}, b'{"a": 1}', "bad: not a text"),
        ({"path": "a", "words": {"up": True, "down": False}}, b'{"a": "down"}', False),
        ({"path": "a", "words": {"up": True, "down": False}}, b'{"a": true}', True),
        ({"path": "a", "words": {"up": True}}, b'{"a": "left"}', "bad: none of the words up"),
        ({"path": "a"}, b'{"a": 1, "a": 2}', "bad: an object has the same key twice"),
        ({"path": "a"}, b'{"a": NaN}', "bad: NaN is not JSON"),
        ({"path": "a"}, rb'{"a": "\ud800"}', "bad: not UTF-8, or a lone surrogate"),
        ({"path": "a"}, b"\xff", "bad: not UTF-8, or a lone surrogate"),
        ({"path": "a"}, b"[" * 100_000, "bad: longer than 64 KiB"),
        ({"path": "a"}, b"[" * 60_000, "bad: nested deeper than 32"),
        ({"path": "a"}, b"", "bad: not JSON: Expecting value at character 0"),
        ({"path": ["a", "b.c"]}, b'{"a": {"b.c": 5}}', 5),
        ({"path": ["a", "b"]}, b'{"a.b": 5}', "bad: there is no a.b in the message"),
        ({"path": "e", "each": FATAL}, b'{"e": []}', ""),
        ({"path": "e", "each": FATAL}, b'{"e": [{"level": "FATAL", "type": "x"}, {"level": "x"}]}', "x"),
        ({"path": "e", "each": FATAL}, b'{"e": {"1": {"level": "FATAL", "type": "x"}, "2": {}}}', "x"),
        ({"path": "e", "each": FATAL}, b'{"e": [{"level": "FATAL"}, {"level": "FATAL", "type": 1}]}', "?"),
        ({"path": "e", "each": FATAL}, b'{"e": [7, null, [], {"level": 1}, {"level": {}}]}', ""),
        ({"path": "e", "each": OTHER}, b'{"e": ["none", "jam ", "jam", "door"]}', "jam, door"),
        ({"path": "e", "each": OTHER}, b'{"e": [7, null, "none"]}', "?"),
        ({"path": "e", "each": OTHER}, b'{"e": ["' + b"x" * 300 + b'"]}', "x" * 255 + "…"),
        ({"path": "e", "each": OTHER}, b'{"e": "none"}', "bad: neither a list nor an object"),
        ({"path": "e", "each": OTHER}, b"{}", "bad: there is no e in the message"),
    ],
)  # fmt: skip
def test_a_value_in_json_is_found_where_the_profile_says(
    signal: dict[str, Any], message: bytes, value: object
) -> None:
    found = one(JSON, signal, (message,))
    assert (type(found), found) == (type(value), value)


def test_what_a_broker_kept_from_before_has_a_value_and_is_no_sign_of_life() -> None:
    """Or the silence of a dead device would end whenever we connect to its broker anew."""
    sensor = device(TOPIC | {"qos": 1}, {"type": "text"})
    detector = detect.Detector(detect.rules(sensor.profile.conditions), start=AT)

    def hears(second: int, *, retained: bool) -> list[detect.Act]:
        at = replace(AT, mono_ns=second * 1_000_000_000)
        reading = Reading(device="d", read="r", at=at, payload=(b"21.5",), retained=retained)
        (sample,) = samples(sensor, reading)
        assert (sample.value, sample.quality is Quality.GOOD) == ("21.5", not retained)
        return [one.act for one in detector.take([sample], at)]

    assert hears(1, retained=False) == []
    assert hears(60, retained=True) == [detect.Act.RAISE]
    assert hears(61, retained=True) == []
    assert hears(62, retained=False) == [detect.Act.CLEAR]


def test_an_mqtt_text_is_one_frame() -> None:
    words = {"words": {"Online": True, "Offline": False}}
    assert one(TOPIC, words, (b"Offline",)) is False
    assert one(TOPIC, words, (b"Maybe",)) == "bad: none of the words Online, Offline"


# --- trouble ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", Trouble)
def test_a_reading_with_trouble_is_a_bad_sample_of_every_signal_of_that_read(trouble: Trouble) -> None:
    of = device(HOLDING, {"register": 100}, {"register": 101})
    found = taken(of, trouble=trouble, detail="exception 2")
    assert [(s.signal, s.value, s.quality) for s in found] == [
        ("s0", None, Quality.BAD),
        ("s1", None, Quality.BAD),
    ]
    assert found[0].detail == f"{trouble}: exception 2"


@pytest.mark.parametrize(
    ("trouble", "value"),
    [
        (None, False),
        (Trouble.NO_ANSWER, True),
        (Trouble.NO_LINK, None),
        (Trouble.WRONG_ANSWER, None),
        (Trouble.OFFLINE, None),
    ],
)
def test_silence_is_true_only_while_the_link_is_up(trouble: Trouble | None, value: bool | None) -> None:
    of = device(REQUEST | {"no_answer": "s0"}, {"no_answer": True}, {"type": "text"})
    silence, text = taken(of, () if trouble else (b"x",), trouble)
    assert silence.value is value
    assert silence.quality is (Quality.BAD if value is None else Quality.GOOD)
    assert text.value == (None if trouble else "x")


def test_a_read_that_the_profile_does_not_know_gives_nothing() -> None:
    of = device(HOLDING, {"register": 100})
    assert samples(of, Reading(device="d", read="gone", at=AT, payload=(1,))) == ()
    assert shown(of, Reading(device="d", read="gone", at=AT, payload=(b"x",))) == ("x",)


# --- evidence -----------------------------------------------------------------------------------------------


def evidence(of: Device, *payload: bytes | int, read: str = "r") -> tuple[str, ...]:
    return shown(of, Reading(device="d", read=read, at=AT, payload=tuple(payload)))  # type: ignore[arg-type]


def test_a_password_field_is_redacted_and_the_rest_is_shown() -> None:
    of = device(REQUEST | {"redact": [{"frame": 2, "field": 0}]}, {"type": "seen"})
    assert evidence(of, b"1,2", b"3,4", b"1234,0") == ("1,2", "3,4", "[redacted],0")


def test_a_frame_that_is_known_by_its_shape_is_redacted_wherever_it_turns_up() -> None:
    of = device(
        REQUEST | {"redact": [{"fields": 2, "field": 0}]}, {"type": "seen"}, other={"send": "!", "frames": 1}
    )
    assert evidence(of, b"1234,0", b"1,2,3") == ("[redacted],0", "1,2,3")
    assert evidence(of, b"1234,0", read="other") == ("[redacted],0",), "a late answer to another question"


def test_of_scanned_codes_only_the_texts_of_the_profile_are_shown() -> None:
    of = device(LISTEN | {"redact": [{}]}, {"equals": "NoRead", "ignore": ["BEAT"]})
    assert evidence(of, b"4012345678901") == ("[redacted]",)
    assert evidence(of, b"NoRead") == ("NoRead",)
    assert evidence(of, b"BEAT") == ("BEAT",)
    assert evidence(of, b"NoRead4012345678901") == ("[redacted]",)


@given(st.binary(max_size=60).filter(lambda raw: raw.strip() not in (b"NoRead", b"")))
def test_no_detail_and_no_evidence_ever_quotes_a_redacted_frame(raw: bytes) -> None:
    signals = ({"equals": "NoRead"}, {"field": 3, "type": "bool"}, {"fields": 99, "type": "seen"})
    of = device(LISTEN | {"redact": [{}]}, *signals)
    assert evidence(of, raw) == ("[redacted]",)
    details = {sample.detail for sample in taken(of, (raw,))}
    assert details <= {"", "neither 0 nor 1"} | {
        text
        for n in range(100)
        for text in (f"field 3 is missing: there are {n}", f"99 fields are expected, {n} found")
    }


def test_registers_are_shown_with_their_addresses() -> None:
    of = device(HOLDING, {"register": 100})
    assert evidence(of, *range(10)) == (
        "100: 0000 0001 0002 0003 0004 0005 0006 0007",
        "108: 0008 0009",
    )
    assert evidence(device(COILS, {"coil": 100}), 1, 0, 1) == ("100: 1 0 1",)


def test_a_register_that_the_device_refuses_is_bad_and_its_neighbours_are_not() -> None:
    payload = (7, None, 9)
    assert one(HOLDING, {"register": 100}, payload) == 7
    assert one(HOLDING, {"register": 101}, payload) == "bad: the device refuses address 101"
    assert one(HOLDING, {"register": 101, "type": "u32"}, payload) == "bad: the device refuses address 101"
    assert evidence(device(HOLDING, {"register": 100}), *payload) == ("100: 0007 - 0009",)
    assert one(COILS, {"coil": 101}, (1, None)) == "bad: the device refuses address 101"


def test_a_long_frame_is_cut() -> None:
    of = device(TOPIC, {"type": "seen"})
    (line,) = evidence(of, b"\x00" * 100_000)
    assert len(line) == MAX_SHOWN_CHARACTERS


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"plain", "plain"),
        (b"a\\b", "a\\\\b"),
        (b"\x02\x7f\r\n", "\\x02\\x7f\\x0d\\x0a"),
        ("grün".encode(), "grün"),
        (b"gr\xfcn", "gr\\xfcn"),
        ("\u202eevil\u200b".encode(), "\\u202eevil\\u200b"),
        ("\u0085".encode(), "\\u0085"),
        ("\U000e0001".encode(), "\\U000e0001"),
    ],
)
def test_evidence_is_printable_and_unambiguous(raw: bytes, text: str) -> None:
    assert escaped(raw) == text


@given(st.binary(max_size=200))
def test_any_bytes_have_a_printable_form_of_their_own(raw: bytes) -> None:
    assert escaped(raw).isprintable()
    assert escaped(raw) != escaped(raw + b"\x00")


SIGNALS: dict[str, tuple[dict[str, Any], ...]] = {
    "text": (
        {"type": "float"},
        {"field": 1, "type": "hex", "bit": 3},
        {"after": ":", "split": " ", "fields": 2},
    ),
    "json": (
        {"path": "a.0"},
        {"path": "a", "type": "float", "scale": 1e300},
        {"path": "a", "words": {"x": 1}},
    ),
    "registers": ({"register": 100, "type": "f32", "scale": 1e300}, {"register": 109, "bit": 3}),
}
READS: dict[str, dict[str, Any]] = {"text": REQUEST, "json": JSON, "registers": HOLDING}
DEVICES = {name: device(READS[name], *signals) for name, signals in SIGNALS.items()}
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab0"), inner, max_size=3),
)
PAYLOADS = st.one_of(
    st.lists(
        st.binary(max_size=60) | st.text("0123456789abcdefx.,: -+eE\r\n", max_size=40).map(str.encode),
        min_size=1,
    ),
    st.lists(st.integers(-5, 70_000), min_size=1, max_size=12),
    JSON_VALUES.map(lambda value: [json.dumps(value).encode()]),
)


@given(st.sampled_from(sorted(DEVICES)), PAYLOADS)
def test_any_payload_ends_as_one_sample_a_signal(name: str, payload: list[Any]) -> None:
    found = taken(DEVICES[name], tuple(payload))
    assert [sample.signal for sample in found] == list(DEVICES[name].profile.signals)
    for sample in found:
        assert (sample.quality is Quality.GOOD) == (sample.value is not None)
        assert (sample.quality is Quality.GOOD) == (sample.detail == "")
        # What goes into the journal and over the wire.
        json.dumps(sample.value, allow_nan=False).encode()
        sample.detail.encode()


def test_a_profile_sorts_its_signals_by_read_once() -> None:
    profile: Profile = DEVICES["text"].profile
    assert profile.signals_by_read is profile.signals_by_read
    read: Read = profile.reads["r"]
    assert [name for name, _ in profile.signals_by_read["r"]] == ["s0", "s1", "s2"]
    assert read == profile.reads["r"]
