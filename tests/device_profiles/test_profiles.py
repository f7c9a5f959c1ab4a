"""Every profile in the folder, those not written yet included: its text and each of its examples."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent import decode, detect, plain_yaml
from edge_agent.device import Device
from edge_agent.profile import (
    Example,
    ExamplePayload,
    ListenRead,
    ModbusRead,
    NoAnswer,
    Profile,
    Read,
    Step,
    TopicRead,
    json_schema,
    parse,
    steps,
    to_bytes,
)
from edge_agent.sample import Payload, Quality, Reading, Trouble
from edge_agent.wire import Stamp

FOLDER = Path(__file__).parents[2] / "device_profiles"
FILES = sorted(FOLDER.glob("*.yaml"))
TEXTS = {file.stem: file.read_text(encoding="utf-8") for file in FILES}
PROFILES = {name: parse(text, name=name) for name, text in TEXTS.items()}
SECOND = 1_000_000_000

every_profile = pytest.mark.parametrize("name", PROFILES)


def moment(mono_ns: int) -> Stamp:
    return Stamp(boot="0" * 32, mono_ns=mono_ns, wall_ms=mono_ns // 1_000_000, source="ntp")


def payloads(read: Read, given_: ExamplePayload) -> Iterator[Payload]:
    """What the transport would deliver for an example's payload, one reading after another."""
    if isinstance(read, ModbusRead) and isinstance(given_, dict):
        yield tuple(given_.get(address, 0) for address in range(read.address, read.address + read.count))
    elif isinstance(read, ModbusRead) and isinstance(given_, tuple):
        numbers = [int(number) for number in given_]
        yield tuple(numbers + [0] * (read.count - len(numbers)))
    elif isinstance(read, TopicRead):
        assert isinstance(given_, str)
        yield (given_.encode(),)
    else:
        assert isinstance(given_, tuple)
        frames = tuple(to_bytes(str(frame)) for frame in given_)
        yield from ((frame,) for frame in frames) if isinstance(read, ListenRead) else (frames,)


class Floor:
    """One device of a profile under a clock of its own, from bytes to conditions."""

    def __init__(self, profile: Profile) -> None:
        self.device = Device(id="device-1", place="", bus="bus-1", profile=profile)
        self.now_ns = SECOND
        self.detector = detect.Detector(detect.rules(profile.conditions), start=moment(self.now_ns))

    def wait(self, seconds: float) -> None:
        self.now_ns += int(seconds * SECOND)
        self.detector.look(moment(self.now_ns))

    def run(self, steps: tuple[Step, ...]) -> None:
        for step in steps:
            for _ in range(step.times):
                self.wait(step.after_s)
                for name, payload in step.reads.items():
                    self._read(name, payload)

    def _read(self, name: str, payload: ExamplePayload) -> None:
        if isinstance(payload, NoAnswer):
            self._take(Reading(device="device-1", read=name, at=self._next(), trouble=Trouble.NO_ANSWER))
            return
        for each in payloads(self.device.profile.reads[name], payload):
            self._take(Reading(device="device-1", read=name, at=self._next(), payload=each))

    def _next(self) -> Stamp:
        self.now_ns += SECOND // 100
        return moment(self.now_ns)

    def _take(self, reading: Reading) -> None:
        self.detector.take(decode.samples(self.device, reading), reading.at)


def every_example() -> Iterator[object]:
    for name, profile in PROFILES.items():
        for number, example in enumerate(profile.examples):
            yield pytest.param(name, example, id=f"{name}-{number}-{example.condition.replace('/', '-')}")


@pytest.mark.parametrize(("name", "example"), list(every_example()))
def test_an_example_trips_its_condition_and_clears_it_again(name: str, example: Example) -> None:
    profile = parse(TEXTS[name], name=name, overlay=example.set)
    condition = next(each for each in profile.conditions if each.key == example.condition)
    floor = Floor(profile)

    floor.run(steps(example.clears))
    floor.wait(condition.on_delay_s)
    assert example.condition not in floor.detector.active(), "what clears it already trips it"

    floor.run(steps(example.trips))
    floor.wait(condition.on_delay_s)
    assert example.condition in floor.detector.active(), "what trips it does not"

    floor.run(steps(example.clears))
    floor.wait(condition.off_delay_s)
    assert example.condition not in floor.detector.active(), "what clears it does not"
    assert example.condition not in floor.detector.unsettled()


@every_profile
def test_every_condition_has_an_example(name: str) -> None:
    shown = {example.condition for example in PROFILES[name].examples}
    assert {condition.key for condition in PROFILES[name].conditions} <= shown


@every_profile
def test_every_condition_says_what_to_do_about_it(name: str) -> None:
    assert [condition.key for condition in PROFILES[name].conditions if len(condition.advice) < 20] == []


@every_profile
def test_the_json_schema_for_editors_takes_every_profile(name: str) -> None:
    as_json = json.loads(json.dumps(plain_yaml.load(TEXTS[name]).value))
    jsonschema.Draft202012Validator(json.loads(json_schema())).validate(as_json)


def test_the_json_schema_in_the_folder_is_the_one_of_the_models() -> None:
    assert (FOLDER / "profile.schema.json").read_text(encoding="utf-8") == json_schema()


ANY_PAYLOAD = st.one_of(
    st.lists(st.binary(max_size=80), max_size=5).map(tuple),
    st.lists(st.integers(-1, 1 << 16), max_size=40).map(tuple),
)


@every_profile
@given(payload=ANY_PAYLOAD, trouble=st.none() | st.sampled_from(Trouble))
def test_any_payload_ends_as_samples_and_printable_evidence(
    name: str, payload: Payload, trouble: Trouble | None
) -> None:
    device = Device(id="device-1", place="", bus="bus-1", profile=PROFILES[name])
    for read in PROFILES[name].reads:
        reading = Reading(
            device="device-1",
            read=read,
            at=moment(1),
            payload=() if trouble else payload,
            trouble=trouble,
            detail="x",
        )
        for sample in decode.samples(device, reading):
            assert (sample.quality is Quality.GOOD) == (sample.value is not None) == (sample.detail == "")
        for line in decode.shown(device, reading):
            assert line.isprintable()
            line.encode()


@every_profile
def test_a_device_that_cannot_be_reached_has_no_good_sample(name: str) -> None:
    device = Device(id="device-1", place="", bus="bus-1", profile=PROFILES[name])
    for read in PROFILES[name].reads:
        reading = Reading(device="device-1", read=read, at=moment(1), trouble=Trouble.NO_LINK)
        assert all(sample.quality is Quality.BAD for sample in decode.samples(device, reading))
        assert decode.samples(device, reading)
