from __future__ import annotations

import gc
import json
import tracemalloc
from dataclasses import replace
from functools import partial

import pytest
from rigs.moments import HandClock, sample
from rigs.watching import conveyor

from edge_agent import decode, profile
from edge_agent.device import Device
from edge_agent.recorder import MEMORY_BYTES, Recorder
from edge_agent.sample import Payload, Quality, Reading, Sample, Trouble, Value
from edge_agent.wire import MAX_EVIDENCE_BYTES

KIB = 1 << 10
PRINTER = r"""
schema: 1
name: printer
title: A printer that tells its password
maker: Nobody
models: [P1]
evidence: simulated
source: made for a test
transports: [tcp]
framing: line
reads:
  access: {send: "A", redact: [{fields: 2, field: 0}]}
  odometer: {send: "O"}
signals:
  locked: {read: access, field: 1, type: bool, source: made for a test}
  labels: {read: odometer, field: 0, type: int, source: made for a test}
conditions:
  - component: print
    fault: locked
    title: Locked
    severity: stop
    when: {is: {signal: locked, value: true}}
"""
DRIVE = """
schema: 1
name: drive
title: A drive with many registers
maker: Nobody
models: [D1]
evidence: simulated
source: made for a test
transports: [modbus]
reads:
  fast: {function: 3, address: 0, count: 125, every_s: 0.1}
  slow: {function: 3, address: 200, count: 125, every_s: 1}
signals:
"""
DRIVE += "".join(
    f"  current_{n}: {{read: fast, register: {n}, type: u16, scale: 0.1, source: made for a test}}\n"
    for n in range(10)
)
DRIVE += """
  tripped: {read: slow, register: 200, type: u16, bit: 0, source: made for a test}
conditions:
  - component: drive
    fault: trip
    title: Tripped
    severity: stop
    when: {is: {signal: tripped, value: true}}
"""


def printer() -> Device:
    return Device(id="belt-1", place="", bus="bus", profile=profile.parse(PRINTER, name="printer"))


def drive(name: str) -> Device:
    return Device(id=name, place="", bus="bus", profile=profile.parse(DRIVE, name="drive"))


class Tape:
    def __init__(self, device: Device | None = None, *, memory_bytes: int = MEMORY_BYTES) -> None:
        self.clock = HandClock()
        self.recorder = Recorder([device or conveyor("belt-1")], memory_bytes=memory_bytes)

    def keep(
        self, read: str, *payload: bytes, trouble: Trouble | None = None, detail: str = "", **values: Value
    ) -> None:
        at = self.clock.stamp()
        parts: Payload = payload
        reading = Reading(device="belt-1", read=read, at=at, payload=parts, trouble=trouble, detail=detail)
        self.recorder.keep(reading, [sample(name, value, at) for name, value in values.items()])

    def evidence(self, *signals: str) -> dict[str, list[dict[str, object]]]:
        return self.recorder.evidence("belt-1", signals, self.clock.stamp())


def test_a_row_shows_what_its_condition_looks_at_as_it_was_read_last() -> None:
    tape = Tape()
    tape.keep("status", b"0,3.25", jam=False, current=3.25)
    tape.clock.go(2)
    tape.keep("status", trouble=Trouble.NO_ANSWER, detail="nothing within 2 s", jam=None, current=None)
    tape.clock.go(0.5)
    assert tape.evidence("current", "never-read") == {
        "samples": [{"signal": "current", "value": None, "quality": "bad", "age_ms": 500}],
    }


def test_scanned_contents_are_not_kept() -> None:
    tape = Tape()
    tape.keep("voice", b"ORDER 4711 FOR J. DOE", heard=True)
    (said,) = tape.recorder.tapes["belt-1"].said()
    assert said.payload == (b"[redacted]",)


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


def test_an_answer_that_stays_the_same_is_kept_once() -> None:
    tape = Tape()
    for _ in range(1_000):
        tape.keep("status", b"0,3.25", jam=False, current=3.25)
        tape.clock.go(0.1)
    found = tape.recorder.tapes["belt-1"]
    (said,) = found.said()
    assert (said.payload, said.times, said.last_ms - said.first_ms) == ((b"0,3.25",), 1_000, 99_900)
    assert len(found) < 120
    (sample,) = tape.evidence("jam")["samples"]
    assert sample["age_ms"] == 100


def test_each_scan_is_kept_with_its_time_though_it_says_the_same() -> None:
    tape = Tape()
    for _ in range(3):
        tape.keep("voice", b"4711", heard=True)
        tape.clock.go(2)
    assert [one.times for one in tape.recorder.tapes["belt-1"].said()] == [1, 1, 1]


def test_a_reading_that_is_longer_than_the_memory_of_its_device_is_cut() -> None:
    tape = Tape(memory_bytes=4096)
    tape.keep("status", *[b"x" * 4096] * 64)
    tape.keep("status", b"0,1", jam=False)
    assert [one.payload[0][:3] for one in tape.recorder.tapes["belt-1"].said()] == [b"xxx", b"0,1"]


@pytest.mark.parametrize("numbers", [(1, None, 0xFFFF), (None,) * 125, (0, 65_535), tuple(range(125))])
def test_numbers_come_out_as_they_went_in(numbers: tuple[int | None, ...]) -> None:
    recorder = Recorder([drive("drive-0")])
    recorder.keep(Reading(device="drive-0", read="fast", at=HandClock().stamp(), payload=numbers), [])
    (said,) = recorder.tapes["drive-0"].said()
    assert said.payload == numbers


def test_what_is_hidden_is_not_kept_neither_as_bytes_nor_as_a_value() -> None:
    """The answer to one question comes as that to another: a core dump of the agent holds no password."""
    tape = Tape(printer())
    reading = Reading(device="belt-1", read="odometer", at=tape.clock.stamp(), payload=(b"700419,1",))
    samples = decode.samples(printer(), reading)
    assert [one.value for one in samples] == [700419]
    tape.recorder.keep(reading, samples)
    tape.keep("access", b"700419,1", locked=True)
    tape.keep("odometer", b"88", labels=88)
    found = tape.recorder.tapes["belt-1"]
    kept = bytes(found._readings._bytes + found._values._bytes)
    assert b"700419" not in kept
    assert kept.count(b"[redacted],1") == 2
    assert b"700419" not in repr(found.latest).encode()
    assert [one.value for one in found.meant()] == ["[redacted]", True, 88]


def test_two_hundred_devices_that_change_all_the_time_fill_their_memory_and_no_more() -> None:
    """As the allocator sees it: all that a recorder makes and holds while 4,000 readings come each second."""
    clock, one = HandClock(), drive("drive-0")
    devices = [replace(one, id=f"drive-{number}") for number in range(200)]
    numbers = [tuple((turn * 523 + n) % 65_536 for n in range(125)) for turn in range(90)]
    gc.collect()
    tracemalloc.start()
    try:
        recorder, most = Recorder(devices), 0
        for turn in range(90):
            at = clock.go(0.1)
            for device in devices:
                of = partial(Sample, device=device.id, quality=Quality.GOOD, at=at)
                fast = [of(signal=f"current_{n}", value=numbers[turn][n] / 10) for n in range(10)]
                for read, payload, samples in (
                    ("fast", numbers[turn], fast),
                    ("slow", numbers[0], [of(signal="tripped", value=False)]),
                ):
                    recorder.keep(Reading(device=device.id, read=read, at=at, payload=payload), samples)
            most = max(most, tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    held = sum(map(len, recorder.tapes.values()))
    assert 0.9 * MEMORY_BYTES < held <= MEMORY_BYTES
    # A buffer is made an eighth larger than it has to be. Beside the rings: objects, and the newest sample of
    # each of eleven signals, which the detector holds as well.
    assert most < MEMORY_BYTES * 9 / 8 + len(devices) * 6 * KIB


def test_evidence_fits_the_wire_whatever_was_read() -> None:
    tape = Tape()
    many = {f"signal_{number}": "\u202e" * 256 for number in range(64)}
    tape.keep("status", b"0,1", **many)
    evidence = tape.evidence(*many)
    assert len(json.dumps(evidence)) <= MAX_EVIDENCE_BYTES
    assert len(evidence["samples"]) > 5
