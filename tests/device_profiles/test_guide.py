"""docs/profiles.md says what is true: its profile is proven, its table current, each key explained."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from edge_agent import device_table, plain_yaml, proof
from edge_agent.profile import When, json_schema, parse
from edge_agent.wire import RESERVED_FAULTS

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "profiles.md").read_text(encoding="utf-8")
PROFILES = {file.stem: file.read_text(encoding="utf-8") for file in (ROOT / "device_profiles").glob("*.yaml")}
YAML = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
RULES = [text for text in YAML if re.search("^when:", text, re.MULTILINE)]
TOML = re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL)


def keys() -> list[str]:
    schema = json.loads(json_schema())
    models = {"the top level": schema, **schema["$defs"]}
    return sorted({key for model in models.values() for key in model.get("properties", {})})


@pytest.mark.parametrize("key", keys())
def test_every_key_of_the_grammar_is_explained(key: str) -> None:
    assert re.search(rf"`{key}\b|[{{ ,]{key}[,}}]", GUIDE)


@pytest.mark.parametrize("text", RULES)
def test_a_rule_in_the_guide_can_be_asked(text: str) -> None:
    When.model_validate_json(json.dumps(plain_yaml.load(text).value["when"]), strict=True)  # type: ignore[index,call-overload]  # a mapping


@pytest.mark.parametrize("text", [text for text in YAML if text not in RULES])
def test_the_profile_in_the_guide_is_sound_and_its_examples_are_true(text: str) -> None:
    assert proof.problems(text, name=str(re.findall(r"^name: (.*)$", text, re.MULTILINE)[0])) == ()


@pytest.mark.parametrize("text", TOML)
def test_the_device_in_the_guide_sets_what_its_profile_has(text: str) -> None:
    for device in tomllib.loads(text)["device"]:
        parse(PROFILES[device["profile"]], name=device["profile"], overlay=device["set"])


def test_the_device_table_is_that_of_the_shipped_profiles() -> None:
    record = device_table.read((ROOT / "device_profiles" / device_table.RECORD).read_text(encoding="utf-8"))
    table = device_table.table((parse(text, name=name) for name, text in PROFILES.items()), record)
    assert f"<!-- device table -->\n{table}<!-- /device table -->" in GUIDE


def test_every_preset_is_named() -> None:
    for name, text in PROFILES.items():
        for preset in parse(text, name=name).presets:
            assert re.search(rf"\| `{name}` \| .*`{preset}`", GUIDE), f"{name}: {preset}"


def test_the_reserved_faults_are_named() -> None:
    assert [fault for fault in RESERVED_FAULTS if f"`{fault}`" not in GUIDE] == []


def test_every_simulator_is_named() -> None:
    folder = ROOT / "device_profiles" / "simulators"
    programs = [file.stem for file in folder.glob("*.py") if "def main" in file.read_text(encoding="utf-8")]
    assert len(programs) == len(PROFILES)
    assert [name for name in programs if f"`{name}`" not in GUIDE] == []
