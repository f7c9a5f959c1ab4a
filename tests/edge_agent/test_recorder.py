from __future__ import annotations

import json

import pytest
from rigs.moments import HandClock, sample
from rigs.watching import conveyor

from edge_agent.device import Device
from edge_agent.recorder import BYTES_KEPT, READINGS_KEPT, Recorder
from edge_agent.sample import Payload, Reading, Trouble, Value
from edge_agent.wire import MAX_EVIDENCE_BYTES


class Tape:
    def __init__(self, device: Device | None = None) -> None:
        self.clock = HandClock()
        self.recorder = Recorder([device or conveyor("belt-1")])

    def keep(
        self, read: str, *payload: bytes, trouble: Trouble | None = None, detail: str = "", **values: Value
    ) -> None:
        at = self.clock.stamp()
        parts: Payload = payload
        reading = Reading(device="belt-1", read=read, at=at, payload=parts, trouble=trouble, detail=detail)
        self.recorder.keep(reading, [sample(name, value, at) for name, value in values.items()])

    def evidence(self, *signals: str) -> dict[str, list[dict[str, object]]]:
        return self.recorder.evidence("belt-1", signals, self.clock.stamp())


def test_evidence_shows_what_the_condition_looks_at_and_what_was_read_newest_first() -> None:
    tape = Tape()
    tape.keep("status", b"0,3.25", jam=False, current=3.25)
    tape.clock.go(2)
    tape.keep("status", trouble=Trouble.NO_ANSWER, detail="nothing within 2 s", jam=None, current=None)
    tape.clock.go(0.5)
    assert tape.evidence("current", "never-read") == {
        "samples": [{"signal": "current", "value": None, "quality": "bad", "age_ms": 500}],
        "readings": [
            {"read": "status", "age_ms": 500, "trouble": "no answer", "detail": "nothing within 2 s"},
            {"read": "status", "age_ms": 2500, "frames": ["0,3.25"]},
        ],
    }


def test_scanned_contents_do_not_leave_the_gateway() -> None:
    tape = Tape()
    tape.keep("voice", b"ORDER 4711 FOR J. DOE", heard=True)
    assert "4711" not in json.dumps(tape.evidence("heard"))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, True),
        (7, 7),
        (0.1, "0.1"),
        ("a\x00\x1b[2J\u202eb", "a\\x00\\x1b[2J\\u202eb"),
        ("x" * 1_000, "x" * 120),
    ],
)
def test_values_are_whole_numbers_or_harmless_text(value: Value, shown: object) -> None:
    tape = Tape()
    tape.keep("status", b"x", jam=value)
    (found,) = tape.evidence("jam")["samples"]
    assert found["value"] == shown


def test_only_the_newest_readings_stay_in_memory() -> None:
    tape = Tape()
    for number in range(100):
        tape.keep("status", f"{number % 2},{number}".encode())
    readings = tape.evidence()["readings"]
    assert len(readings) == READINGS_KEPT
    assert readings[0]["frames"] == ["1,99"]


def test_memory_is_bounded_by_bytes_too() -> None:
    tape = Tape()
    for _ in range(READINGS_KEPT):
        tape.keep("status", *[b"x" * 4096] * 5)
    kept = tape.recorder._tapes["belt-1"].readings
    assert len(kept) == BYTES_KEPT // (5 * 4096)
    tape.keep("status", b"x" * (BYTES_KEPT + 1))
    assert len(kept) == 1


def test_evidence_fits_the_wire_whatever_was_read() -> None:
    tape = Tape()
    for number in range(READINGS_KEPT):
        tape.keep("status", *[f"{number:04}".encode() + b"\xff" * 400] * 6, jam=True, current=1.5)
    evidence = tape.evidence("jam", "current")
    assert len(json.dumps(evidence)) <= MAX_EVIDENCE_BYTES
    assert len(evidence["samples"]) == 2
    assert evidence["readings"]


def test_evidence_fits_though_one_reading_alone_would_not() -> None:
    tape = Tape()
    tape.keep("status", *[b"\xff" * 512] * 60, jam=True)
    evidence = tape.evidence("jam")
    assert len(json.dumps(evidence)) <= MAX_EVIDENCE_BYTES
    assert evidence["samples"]
    assert evidence["readings"][0]["frames"]
