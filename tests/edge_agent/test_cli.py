"""The commands of an installer: what they print, and how they refuse."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge_agent.cli import app
from edge_agent.config import shipped_profiles

PROFILES = sorted(shipped_profiles().glob("*.yaml"))


@pytest.mark.parametrize("file", PROFILES, ids=lambda file: file.stem)
def test_a_shipped_profile_is_found_sound(file: Path) -> None:
    checked = CliRunner().invoke(app, ["profile", "check", str(file)])
    assert checked.exit_code == 0, checked.output
    assert "no fault found" in checked.output


def test_a_profile_whose_example_is_not_true_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mqtt-presence.yaml"
    text = (shipped_profiles() / "mqtt-presence.yaml").read_text()
    file.write_text(text.replace("Offline: false", "Offline: true", 1))
    checked = CliRunner().invoke(app, ["profile", "check", str(file)])
    assert checked.exit_code == 2
    assert "examples[0] (presence/offline)" in checked.output


def test_a_profile_with_an_unknown_key_is_refused_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "mqtt-presence.yaml"
    text = (shipped_profiles() / "mqtt-presence.yaml").read_text()
    file.write_text(text.replace("severity: degraded", "severety: degraded", 1))
    checked = CliRunner().invoke(app, ["profile", "check", str(file)])
    assert checked.exit_code == 2
    (line,) = [number for number, row in enumerate(file.read_text().splitlines(), 1) if "severety" in row]
    assert f"{file}:{line}:5: conditions[0].severety: unknown key; expected one of" in checked.output


def test_every_shipped_profile_is_listed() -> None:
    listed = CliRunner().invoke(app, ["profile", "list", "--markdown"])
    assert listed.exit_code == 0
    assert not [file.stem for file in PROFILES if f"`{file.stem}`" not in listed.output]


def test_the_schema_file_is_up_to_date() -> None:
    assert CliRunner().invoke(app, ["profile", "schema", "--check"]).exit_code == 0


def test_enrol_says_which_words_it_wants() -> None:
    refused = CliRunner().invoke(app, ["enroll", "enr_0123456789abcdef"])
    assert refused.exit_code == 2
    assert "edge-agent enroll URL TOKEN" in refused.output


def test_a_credential_does_not_travel_over_plain_http(tmp_path: Path) -> None:
    refused = CliRunner().invoke(
        app, ["enroll", "http://andon.example", "enr_0123456789abcdef", "--data-dir", str(tmp_path)]
    )
    assert refused.exit_code == 2
    assert "use https" in refused.output
    assert not list(tmp_path.iterdir())


def test_help_names_every_command() -> None:
    helped = CliRunner().invoke(app, ["--help"])
    assert helped.exit_code == 0
    for command in ("run", "check", "enroll", "profile"):
        assert command in helped.output


def test_the_agent_that_runs_for_months_has_loaded_nothing_that_draws_tables() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "edge_agent", "run", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.search(r"\| +edge_agent.agent\n", done.stderr)
    assert not re.search(r"\| +(rich\.|typer)", done.stderr)
