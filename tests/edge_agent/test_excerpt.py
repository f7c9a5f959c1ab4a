from __future__ import annotations

import json

import pytest
from rigs.moments import HandClock
from rigs.watching import CONVEYOR, conveyor

from edge_agent import decode, profile
from edge_agent.device import Device
from edge_agent.excerpt import ANSWERS, MAX_POINTS, Around, around, excerpt
from edge_agent.recorder import Recorder
from edge_agent.sample import Payload, Reading, Trouble
from edge_agent.wire import MAX_PART_BYTES, read_part

DRIVE = r"""
schema: 1
name: drive
title: A drive
maker: Nobody
models: [D1]
evidence: simulated
source: made for a test
transports: [modbus]
reads:
  status: {function: 3, address: 100, count: 4, every_s: 1}
signals:
  current: {read: status, register: 100, type: u16, scale: 0.1, source: made for a test}
  speed: {read: status, register: 101, type: i16, source: made for a test}
conditions:
  - component: drive
    fault: stuck
    title: Turns too slowly
    severity: stop
    when: {all: [{above: {signal: current, limit: 8.5}}, {not: {above: {signal: speed, limit: 10}}}]}
"""


class Belt:
    """A device, its tape, and a raise at ``self.raised``."""

    def __init__(self, device: Device | None = None, *, memory_bytes: int = 64 << 10) -> None:
        self.device = device or conveyor("belt-1")
        self.clock = HandClock()
        self.recorder = Recorder([self.device], memory_bytes=memory_bytes)
        self.raised_ms = 0

    def says(self, *payload: bytes, read: str = "status", trouble: Trouble | None = None) -> None:
        parts: Payload = payload
        self._take(
            Reading(device=self.device.id, read=read, at=self.clock.stamp(), payload=parts, trouble=trouble)
        )

    def has(self, *numbers: int) -> None:
        self._take(Reading(device=self.device.id, read="status", at=self.clock.stamp(), payload=numbers))

    def _take(self, reading: Reading) -> None:
        self.recorder.keep(reading, decode.samples(self.device, reading))

    def raises(self) -> None:
        self.raised_ms = self.clock.stamp().mono_ns // 1_000_000

    def shown(
        self, condition: str = "motor/overload", from_s: float = -60, to_s: float = 0
    ) -> dict[str, object]:
        where = around(self.device.profile, condition, self.raised_ms)
        tape = self.recorder.tapes[self.device.id]
        found = excerpt(tape, where, from_ms=round(from_s * 1000), to_ms=round(to_s * 1000))
        read_part({"uid": "0" * 32, "part": "before", "evidence": found})
        return found


def test_the_signal_and_its_readings_up_to_the_raise_and_some_seconds_after_it() -> None:
    belt = Belt()
    for current in (3.0, 3.0, 3.0, 11.5):
        belt.says(f"0,{current}".encode())
        belt.clock.go(1)
    belt.raises()
    belt.clock.go(2)
    belt.says(b"0,2.5")
    assert belt.shown() == {
        "from_ms": -60_000,
        "to_ms": 0,
        "signals": [{"signal": "current", "points": [[-4000, 3], [-1000, "11.5"]], "limits": ["10"]}],
        "readings": [
            {
                "read": "status",
                "at_ms": -4000,
                "until_ms": -2000,
                "times": 3,
                "frames": ["0,3.0"],
                "means": {"current": 3, "jam": False},
            },
            {"read": "status", "at_ms": -1000, "frames": ["0,11.5"], "means": {"current": "11.5"}},
        ],
        "reads": {"status": "S?\\x0d"},
    }
    assert belt.shown(from_s=0, to_s=10) == {
        "from_ms": 0,
        "to_ms": 10_000,
        "signals": [{"signal": "current", "points": [[0, "11.5"], [2000, "2.5"]], "limits": ["10"]}],
        "readings": [{"read": "status", "at_ms": 2000, "frames": ["0,2.5"], "means": {"current": "2.5"}}],
        "reads": {"status": "S?\\x0d"},
    }


def test_registers_with_their_addresses_and_the_limits_of_nested_conditions() -> None:
    belt = Belt(Device(id="drive-1", place="", bus="b", profile=profile.parse(DRIVE, name="drive")))
    belt.has(31, 1480, 0, 0xFFFF)
    belt.clock.go(1)
    belt.has(99, 4, 0, 0xFFFF)
    belt.raises()
    found = belt.shown("drive/stuck")
    assert found["signals"] == [
        {"signal": "current", "points": [[-1000, "3.1"], [0, "9.9"]], "limits": ["8.5"]},
        {"signal": "speed", "points": [[-1000, 1480], [0, 4]], "limits": ["10"]},
    ]
    assert found["readings"] == [
        {
            "read": "status",
            "at_ms": -1000,
            "frames": ["100: 001f 05c8 0000 ffff"],
            "means": {"current": "3.1", "speed": 1480},
        },
        {
            "read": "status",
            "at_ms": 0,
            "frames": ["100: 0063 0004 0000 ffff"],
            "means": {"current": "9.9", "speed": 4},
        },
    ]
    assert found["reads"] == {"status": "function 3, 100 to 103"}


def test_of_a_device_that_cannot_be_reached_it_shows_whether_it_answered() -> None:
    belt = Belt()
    belt.says(b"0,1.0")
    belt.clock.go(5)
    belt.says(trouble=Trouble.NO_ANSWER)
    belt.clock.go(30)
    belt.says(trouble=Trouble.NO_ANSWER)
    belt.raises()
    found = belt.shown("link/unreachable")
    assert found["signals"] == [{"signal": ANSWERS, "points": [[-35_000, True], [-30_000, False]]}]
    assert found["readings"][-1] == {  # type: ignore[index]
        "read": "status",
        "at_ms": -30_000,
        "until_ms": 0,
        "times": 2,
        "trouble": "no answer",
        "means": {"current": None, "jam": None},
    }


def test_a_value_that_did_not_change_is_shown_though_its_change_has_left_the_tape() -> None:
    belt = Belt(memory_bytes=3 << 10)
    belt.says(b"1,3.0")
    for number in range(300):
        belt.says(b"1,3.0")
        tape = belt.recorder.tapes["belt-1"]
        tape._values.put(1, 2, str(number).encode(), belt.clock.stamp().mono_ns // 1_000_000)
        belt.clock.go(0.1)
    belt.raises()
    assert "jam" not in {one.signal for one in tape.meant()}
    assert belt.shown("belt/jam")["signals"] == [{"signal": "jam", "points": [[-30_000, True]]}]


def test_a_signal_of_which_nothing_is_known_has_no_chart() -> None:
    belt = Belt()
    belt.says(b"hello", read="voice")
    belt.raises()
    assert belt.shown()["signals"] == []


def test_a_signal_that_changes_all_the_time_keeps_its_peaks() -> None:
    belt = Belt(memory_bytes=128 << 10)
    for number in range(600):
        current = 99.0 if number == 333 else 1 + number % 7 / 10
        belt.says(f"0,{current}".encode())
        belt.clock.go(0.1)
    belt.raises()
    (signal,) = belt.shown()["signals"]  # type: ignore[misc]
    points = signal["points"]  # type: ignore[index]
    assert MAX_POINTS / 2 < len(points) <= MAX_POINTS
    assert 99 in [value for _, value in points]
    assert points == sorted(points, key=lambda point: point[0])


@pytest.mark.parametrize(("from_s", "to_s"), [(-60, 0), (0, 60)])
def test_what_is_nearest_to_the_raise_stays_when_there_is_too_much(from_s: float, to_s: float) -> None:
    belt = Belt(
        conveyor(
            "belt-1", CONVEYOR.replace("redact: [{}]", "every_s: 1, send: x").replace("listen: true, ", "")
        )
    )
    if to_s > 0:
        belt.raises()
    for number in range(90):
        belt.clock.go(0.5)
        belt.says(f"{number:04}".encode() + b"\xff" * 400, read="voice")
    if to_s <= 0:
        belt.raises()
    found = belt.shown(from_s=from_s, to_s=to_s)
    assert len(json.dumps(found)) <= MAX_PART_BYTES
    numbers = [int(one["frames"][0][:4]) for one in found["readings"]]  # type: ignore[attr-defined]
    assert 5 < len(numbers) < 60
    assert numbers == sorted(numbers)
    assert (numbers[-1] if to_s <= 0 else numbers[0]) == (89 if to_s <= 0 else 0)


def test_a_condition_of_many_signals_shows_the_first_of_them() -> None:
    belt = Belt()
    tape = belt.recorder.tapes["belt-1"]
    belt.says(b"0,1.0")
    belt.raises()
    where = Around(raised_ms=belt.raised_ms, signals=["current", "jam", "never"])
    found = excerpt(tape, where, from_ms=-60_000, to_ms=0)
    assert [one["signal"] for one in found["signals"]] == ["current", "jam"]
