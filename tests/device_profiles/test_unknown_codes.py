"""What a device says that its profile has no name for is a fault without a name, shown as it was said.

Written from the manuals' tables, not from the profiles: bits, codes and words that no table has.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edge_agent import decode
from edge_agent.excerpt import around
from edge_agent.profile import parse, steps
from edge_agent.proof import DEVICE_ID, Trial
from edge_agent.recorder import Recorder
from edge_agent.sample import Reading
from edge_agent.wire import mono_ms

FOLDER = Path(__file__).parents[2] / "device_profiles"
TEXTS = {file.stem: file.read_text(encoding="utf-8") for file in FOLDER.glob("*.yaml")}
# Longer than any delay.
LONG_S = 600.0

# What no device of the profile can say something unknown in, and why.
NOTHING_UNKNOWN = {
    "generic-line": "the installer says what each text means",
    "line-scanner": "any text but that for nothing read is a code that was read",
    "moxa-iologik": "each of the 16 bits of its one word is an input of the wiring plan",
    "sparkplug-b": "its metrics are the installer's; what is not read has no value",
}


@dataclass(frozen=True, kw_only=True)
class Unknown:
    """After these readings ``raises`` is active, and its evidence, or what was recorded before it, has the
    text ``shows``.
    """

    profile: str
    reads: dict[str, Any]
    raises: str
    shows: str
    preset: str | None = None
    set: dict[str, Any] = field(default_factory=dict)


def hqes(errors: str, warnings: str) -> list[str]:
    flags = [int(set(word) > {"0", " "}) for word in (errors, warnings)]
    said = f"ERRORS: {flags[0]} {errors}\\r\\n WARNINGS: {flags[1]} {warnings}"
    return [f"\\r\\n PRINTER STATUS\\r\\n {said}\\r\\n"]


def zebra() -> Iterator[Unknown]:
    """ZPL guide, tables 8 and 9: 18 error bits, 12 warning bits."""
    known_errors = {*range(10), *range(12, 20)}
    for bit in sorted(set(range(64)) - known_errors):
        word = f"{1 << bit:016X}"
        word = f"{word[:8]} {word[8:]}"
        reads = {"errors": hqes(word, "00000000 00000000")}
        yield Unknown(profile="zebra-zpl", reads=reads, raises="printer/unclassified", shows=word)
    for bit in sorted(set(range(64)) - set(range(12))):
        word = f"{1 << bit:016X}"
        word = f"{word[:8]} {word[8:]}"
        reads = {"errors": hqes("00000000 00000000", word)}
        yield Unknown(profile="zebra-zpl", reads=reads, raises="printer/unclassified-warning", shows=word)


def sato() -> Iterator[Unknown]:
    """SBPL status 3: every other printable character."""
    known = "01234ABCDEGHIJKMNOPQSTUVWabcdefgijk"
    for code in range(0x21, 0x7F):
        if chr(code) not in known + "\\":
            frame = f"  {chr(code)}000000"
            yield Unknown(
                profile="sato-sbpl", reads={"status": [frame]}, raises="printer/unclassified", shows=frame
            )


def tspl() -> Iterator[Unknown]:
    """<ESC>!S: one letter for what it does, then three bytes of 40h and flags."""
    messages = {0x40, 0x60, 0x42, 0x43, 0x45, 0x46, 0x4B, 0x4C, 0x50, 0x57}
    said = [
        (place, 1 << bit)
        for place, bits in ((2, (0, 1, 2, 4, 5)), (3, (2, 5)), (4, (3, 4, 5)))
        for bit in bits
    ]
    for code in (0x41, 0x5A, 0x7E):
        assert code not in messages
        yield details({1: code})
    for place, flag in said:
        yield details({place: 0x40 | flag})


def details(changed: dict[int, int]) -> Unknown:
    frame = [2, 0x40, 0x40, 0x40, 0x40, 3, 13, 10]
    for place, value in changed.items():
        frame[place] = value
    (value,) = changed.values()
    reads = {"status": ["\\x00"], "details": [f"\\x{byte:02x}" for byte in frame]}
    return Unknown(profile="tsc-tspl", reads=reads, raises="printer/unclassified", shows=chr(value))


def ssi() -> Iterator[Unknown]:
    """Event codes 01, 03, 07, 08, 0A, 0F."""
    for code in (0x00, 0x02, 0x04, 0x09, 0x0B, 0x10, 0x55, 0xFF):
        frame = f"\\xf6\\x00\\x00\\x{code:02x}"
        shows = decode.escaped(bytes([code]))
        yield Unknown(
            profile="zebra-ssi", reads={"scan": [frame]}, raises="scanner/unclassified", shows=shows
        )


def drives() -> Iterator[Unknown]:
    for code in (0, 1, 10, 11, 14, 62, 128, 199, 65535):
        reads = {"status": {8448: 0x80, 8449: code}}
        yield Unknown(profile="powerflex-520", reads=reads, raises="drive/unclassified", shows=str(code))
    for code in (0, 1, 13, 14, 31, 57, 110, 151, 65535):
        reads = {"status": {3201: 8}, "fault": {7121: code}}
        yield Unknown(profile="altivar-320-340", reads=reads, raises="drive/unclassified", shows=str(code))
    for code in (0, 5, 13, 25, 27, 1080, 65535):
        reads = {"status": {3: 0x238}, "fault": {400: code}}
        yield Unknown(profile="abb-acs", reads=reads, raises="drive/unclassified", shows=str(code))
    for code in (0, 0x1000, 0x0001, 0x7000, 0x7122, 0xA000, 0xFF84):
        reads = {"status": {3201: 8}, "error": {8606: code}}
        yield Unknown(profile="cia402-drive", reads=reads, raises="drive/unclassified", shows=str(code))
    # Its texts are not known at all: every number is told.
    for code in (1, 452, 7900, 30001, 65535):
        reads = {"status": {109: 0x2A3F}, "faults": {399: code}}
        yield Unknown(profile="sinamics-g120-v20", reads=reads, raises="drive/tripped", shows=str(code))
    reads = {"status": {109: 0x2A3F}, "faults": {399: 0}}
    yield Unknown(profile="sinamics-g120-v20", reads=reads, raises="drive/unclassified", shows="2a3f")


def conveylinx() -> Iterator[Unknown]:
    """Module status word 2: bits 0 and 4 are reserved; bit 3 of both is the sum of bits that have names."""
    for raises, address, word in (
        ("module/unclassified", 1506, 0x0001),
        ("module/unclassified", 1506, 0x0010),
        ("left-motor/unclassified", 1505, 0x0008),
        ("right-motor/unclassified", 1506, 0x0008),
    ):
        reads = {"zpa": {address: word}}
        yield Unknown(profile="conveylinx", reads=reads, raises=raises, shows=f"{word:04x}")


def conveylinx_plc_io() -> Iterator[Unknown]:
    """ConveyStop status has bits 5 to 10; a motor's status bits 0 to 2 and 5 to 14."""
    words = [("conveystop", 1699, bit) for bit in (*range(5), *range(11, 16))]
    words += [
        (f"{side}-motor", reg, bit) for side, reg in (("left", 1706), ("right", 1710)) for bit in (3, 4, 15)
    ]
    for component, register, bit in words:
        yield Unknown(
            profile="conveylinx-plc-io",
            reads={"plc_io": {register: 1 << bit}},
            raises=f"{component}/unclassified",
            shows=f"{1 << bit:04x}",
        )


def texts() -> Iterator[Unknown]:
    def one(
        profile: str, reads: dict[str, Any], raises: str, shows: str, preset: str | None = None
    ) -> Unknown:
        return Unknown(profile=profile, reads=reads, raises=raises, shows=shows, preset=preset)

    for place in range(15):
        flags = "".join("Y" if number == place else "N" for number in range(15))
        frame = f"NNNNNNNN:N{flags[:7]}:{flags[7:]}"
        yield one("datamax-dpl", {"extended": [frame]}, "printer/unclassified", frame)
    # An error without any of the causes; what is no status byte at all has no value.
    yield one("escpos", {"offline": ["\\x52"], "error": ["\\x12"]}, "printer/unclassified", "R")
    for status in ("42", "106", "200", "999"):
        yield one("cognex-dmcc", {"device_type": [f"||[{status}]"]}, "reader/unclassified", status)
    yield one("homie", {"state": "dreaming"}, "device/unclassified", "dreaming")
    yield one("homie", {"state": "dreaming"}, "device/unclassified", "dreaming", "homie-4")
    yield one("mqtt-presence", {"presence": "Napping"}, "presence/unclassified", "Napping")
    yield one("zigbee2mqtt", {"bridge": "online", "device": "dozing"}, "presence/unclassified", "dozing")
    yield one("zigbee2mqtt", {"bridge": "restarting"}, "presence/unclassified", "restarting")
    yield one("zigbee2mqtt", {"bridge": '{"state": "odd"}'}, "presence/unclassified", "odd", "json")
    yield one(
        "zebra-rfd40", {"connection": '{"connectionState": "ROAMING"}'}, "presence/unclassified", "ROAMING"
    )
    yield one("zebra-rfd40", {"events": '{"id": "ANTENNA", "state": "SET"}'}, "sled/unclassified", "ANTENNA")
    yield one("zebra-rfd40", {"events": '{"id": "POWER", "state": "MAYBE"}'}, "sled/unclassified", "MAYBE")
    for preset, version in ((None, "eStop"), ("v3", "activeEmergencyStop")):
        stop = json.dumps({"safetyState": {version: "PERHAPS"}})
        yield one(
            "vda5050",
            {"connection": '{"connectionState": "DOZING"}'},
            "presence/unclassified",
            "DOZING",
            preset,
        )
        yield one("vda5050", {"state": stop}, "safety/unclassified", "PERHAPS", preset)
        for level in ("DISASTER", "", "fatal"):
            state = json.dumps({"errors": [{"errorType": "x", "errorLevel": level}]})
            yield one("vda5050", {"state": state}, "vehicle/unclassified", level or "errorLevel", preset)
        state = '{"actionStates": [{"actionId": "a", "actionStatus": "PONDERING"}]}'
        yield one("vda5050", {"state": state}, "order/unclassified-action", "PONDERING", preset)
        yield one(
            "vda5050", {"state": '{"operatingMode": "FLYING"}'}, "vehicle/not-automatic", "FLYING", preset
        )
    for reason in (
        "com.acme.gripper-lost-error",
        "media-empty-fatal",
        "Media-Empty",
        "other",
        "offline-maybe",
    ):
        state = json.dumps({"printer-state-reasons": [reason]})
        yield one("ipp-printer", {"printer": state}, "printer/unclassified", reason)
    yield one("ipp-printer", {"printer": '{"printer-state": [6]}'}, "printer/unclassified-state", "6")


def generic() -> Iterator[Unknown]:
    """Whatever bit or code the installer has it look at."""
    word = {"read": "word", "register": 1}
    for fault in ("bits", "code"):
        for bit in range(16):
            yield Unknown(
                profile="generic-modbus",
                reads={"word": {1: 1 << bit}},
                raises=f"word/{fault}",
                shows=f"{1 << bit:04x}",
                set={"conditions": {f"word/{fault}": {"enabled": True}}, "signals": {"word": word}},
            )


EVERY = [
    *(
        each
        for said in (zebra, sato, tspl, ssi, drives, conveylinx, conveylinx_plc_io, texts, generic)
        for each in said()
    ),
]


def test_every_profile_is_tried_or_says_why_not() -> None:
    assert {one.profile for one in EVERY} | NOTHING_UNKNOWN.keys() == TEXTS.keys()
    assert not {one.profile for one in EVERY} & NOTHING_UNKNOWN.keys()


def test_every_fault_without_a_name_is_tried() -> None:
    tried = {(one.profile, one.raises) for one in EVERY}
    for name, text in TEXTS.items():
        unnamed = [one.key for one in parse(text, name=name).conditions if "unclassified" in one.fault]
        assert [key for key in unnamed if (name, key) not in tried] == []


@pytest.mark.parametrize("name", sorted({one.profile for one in EVERY}))
def test_what_no_table_has_is_a_fault_without_a_name_and_shown_as_it_was_said(name: str) -> None:
    for unknown in EVERY:
        if unknown.profile != name:
            continue
        profile = parse(TEXTS[name], name=name, preset=unknown.preset, overlay=unknown.set)
        trial = Trial(profile)
        recorder = Recorder([trial.device])
        for reading in played(trial, unknown.reads):
            recorder.keep(reading, decode.samples(trial.device, reading))
        trial.wait(LONG_S)
        assert unknown.raises in trial.active(), unknown
        rule = trial.detector.rules[unknown.raises]
        now = trial._now()
        evidence = recorder.evidence(DEVICE_ID, rule.signals, now)
        shown = [str(sample["value"]) for sample in evidence["samples"]]
        seen = around(profile, unknown.raises, mono_ms(now))
        recorded = recorder.excerpt(DEVICE_ID, seen, from_ms=-round(2000 * LONG_S), to_ms=0)
        assert recorded is not None
        shown += [frame for reading in recorded["readings"] for frame in reading["frames"]]
        assert any(unknown.shows in one for one in shown), (unknown, shown)


def played(trial: Trial, reads: dict[str, Any]) -> Iterator[Reading]:
    payloads = {name: tuple(said) if isinstance(said, list) else said for name, said in reads.items()}
    (step,) = steps(payloads)
    for name, payload in step.reads.items():
        for reading in trial._readings(name, payload):
            trial.take(reading)
            yield reading
