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

from edge_agent import decode, plain_yaml, proof
from edge_agent.device import Device
from edge_agent.profile import (
    Example,
    json_schema,
    parse,
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
