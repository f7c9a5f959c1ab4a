"""Every profile in the folder, those not written yet included: its text and each of its examples."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent import decode, plain_yaml, proof, verdict
from edge_agent.device import Device
from edge_agent.profile import (
    Example,
    ExamplePayload,
    ModbusRead,
    Step,
    json_schema,
    parse,
    steps,
)
from edge_agent.sample import Payload, Quality, Reading, Trouble
from edge_agent.wire import Stamp

FOLDER = Path(__file__).parents[2] / "device_profiles"
FILES = sorted(FOLDER.glob("*.yaml"))
TEXTS = {file.stem: file.read_text(encoding="utf-8") for file in FILES}
PROFILES = {name: parse(text, name=name) for name, text in TEXTS.items()}
AT = Stamp(boot="0" * 32, mono_ns=1, wall_ms=1, source="ntp")

TO_BE_SAID = "to be said for the device"
CONFIDENCE = re.compile(r"; [ABC]( for [^;]*)?$")

every_profile = pytest.mark.parametrize("name", PROFILES)


def every_example() -> Iterator[object]:
    for name, profile in PROFILES.items():
        for number, example in enumerate(profile.examples):
            yield pytest.param(name, example, id=f"{name}-{number}-{example.condition.replace('/', '-')}")


@pytest.mark.parametrize(("name", "example"), list(every_example()))
def test_an_example_trips_its_condition_and_clears_it_again(name: str, example: Example) -> None:
    profile = parse(TEXTS[name], name=name, preset=example.preset, overlay=example.set)
    assert list(proof.example_problems(profile, example)) == []


@every_profile
def test_every_condition_has_an_example(name: str) -> None:
    shown = {example.condition for example in PROFILES[name].examples}
    assert {condition.key for condition in PROFILES[name].conditions} <= shown


@every_profile
def test_every_signal_says_how_well_it_is_known(name: str) -> None:
    """A, B or C of docs/profiles.md, each for what it is about; but for what the installer says."""
    sources = {key: signal.source for key, signal in PROFILES[name].signals.items()}
    sources = {key: source for key, source in sources.items() if source != TO_BE_SAID}
    assert [key for key, source in sources.items() if not CONFIDENCE.search(source)] == []
    whole = PROFILES[name].source
    assert PROFILES[name].evidence == "simulated" or re.search(r"confidence [ABC]\b", whole, re.IGNORECASE)


@every_profile
def test_every_preset_has_an_example(name: str) -> None:
    assert set(PROFILES[name].presets) <= {example.preset for example in PROFILES[name].examples}


@every_profile
def test_every_condition_says_what_to_do_about_it(name: str) -> None:
    assert [condition.key for condition in PROFILES[name].conditions if len(condition.advice) < 20] == []


@every_profile
def test_the_json_schema_for_editors_takes_every_profile(name: str) -> None:
    as_json = json.loads(json.dumps(plain_yaml.load(TEXTS[name]).value))
    jsonschema.Draft202012Validator(json.loads(json_schema())).validate(as_json)


def test_the_json_schema_in_the_folder_is_the_one_of_the_models() -> None:
    assert (FOLDER / "profile.schema.json").read_text(encoding="utf-8") == json_schema()


# Drives whose last fault is a request of its own: the read of it. It outlives a reset.
LAST_FAULT = {"abb-acs": "fault", "altivar-320-340": "fault", "cia402-drive": "error"}
RUNS, TRIPPED = 0x0237, 0x0238


@pytest.mark.parametrize(("name", "last_fault"), LAST_FAULT.items())
def test_a_drive_that_trips_raises_nothing_of_its_trip_before(name: str, last_fault: str) -> None:
    profile = PROFILES[name]
    status = profile.reads["status"]
    assert isinstance(status, ModbusRead)
    codes = {example.condition: code for example in profile.examples if (code := _code(example, last_fault))}
    assert len(codes) > 10
    for before, now in zip(codes, [*codes][1:] + [*codes][:1], strict=True):
        trial = proof.Trial(profile)

        trial.play((Step(reads={"status": {status.address: RUNS}, last_fault: codes[before]}),))
        trial.wait(0.5)
        trial.play((Step(reads={"status": {status.address: TRIPPED}}),))
        # The next poll of the code is up to a second away, and may take its time.
        for _ in range(3):
            trial.wait(0.5)
            assert trial.active() == set(), (before, now)
        trial.play((Step(reads={last_fault: codes[now]}),))
        assert trial.active() == set(), (before, now)
        trial.wait(2)
        assert trial.active() == {now}


@every_profile
def test_what_counts_only_while_a_drive_is_faulted_is_read_with_it_or_waited_for(name: str) -> None:
    """Else a trip raises what the one before left behind."""
    profile = PROFILES[name]
    for condition in profile.conditions:
        of = verdict.signals(condition.when)
        reads = {profile.signals[signal].read for signal in of if signal in profile.signals}
        if "faulted" in of and len(reads) > 1:
            polls = [read.every_s for key in reads if isinstance(read := profile.reads[key], ModbusRead)]
            assert condition.on_delay_s > max(polls), condition.key


# Besides what looks at nothing but no_data_s and no_answer.
GONE = {
    "homie": {"presence/lost"},
    "mqtt-presence": {"presence/offline"},
    "sparkplug-b": {"node/offline", "device/offline"},
    "vda5050": {"presence/connection-broken", "presence/no-state"},
    "zebra-rfd40": {"presence/offline"},
    "zigbee2mqtt": {"presence/offline", "bridge/offline"},
}


@every_profile
def test_what_tells_only_that_a_device_is_gone_can_be_explained_by_what_it_hangs_on(name: str) -> None:
    told = {condition.key for condition in PROFILES[name].conditions if condition.silence}
    assert told == GONE.get(name, set())


def _code(example: Example, last_fault: str) -> ExamplePayload | None:
    return next((step.reads[last_fault] for step in steps(example.trips) if last_fault in step.reads), None)


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
            at=AT,
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
        reading = Reading(device="device-1", read=read, at=AT, trouble=Trouble.NO_LINK)
        assert all(sample.quality is Quality.BAD for sample in decode.samples(device, reading))
        assert decode.samples(device, reading)
