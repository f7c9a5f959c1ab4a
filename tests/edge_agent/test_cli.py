"""The commands of an installer: what they print, and how they refuse."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import trustme
from rigs.collector_program import collector_program
from typer.testing import CliRunner

from edge_agent.cli import app
from edge_agent.config import shipped_profiles

ROOT = Path(__file__).parents[2]
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


def test_a_schema_that_may_not_be_written_is_refused_in_a_line(tmp_path: Path) -> None:
    """As an installed agent has it, for a user who did not install it."""
    installed = tmp_path / "device_profiles"
    installed.mkdir()
    (installed / "__init__.py").touch()
    file = installed / "profile.schema.json"
    file.touch(mode=0o444)
    refused = _where_closed_is_closed("profile", "schema", folder=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"{file}: cannot be written: Permission denied")
    assert refused.stderr.count("\n") == 1


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


@pytest.mark.parametrize("token", ["enr_0123", "enr_0123456789abcde\udcff", f"enr_{'a' * 200}"])
def test_a_token_that_was_not_copied_whole_is_refused_before_anything_is_written(
    tmp_path: Path, token: str
) -> None:
    refused = CliRunner().invoke(
        app, ["enroll", "https://127.0.0.1:1", token, "--data-dir", str(tmp_path / "data")]
    )
    assert refused.exit_code == 2
    assert "this is no enrolment token; expected enr_" in refused.output
    assert not list(tmp_path.iterdir())


def test_a_credential_that_finds_no_room_is_said_and_the_token_stays_good(tmp_path: Path) -> None:
    """A folder stands where its file would be: for root, too, that cannot be written."""
    with collector_program(tmp_path / "collector") as collector:
        printed = collector.command("gateway", "add", "north", "gw-1")
        token = next(word for word in printed.split() if word.startswith("enr_"))
        data_dir = tmp_path / "data"
        enroll = ["enroll", collector.url, token, "--data-dir", str(data_dir)]
        (data_dir / "credential.json").mkdir(parents=True)
        refused = CliRunner().invoke(app, enroll)
        assert refused.exit_code == 2
        assert f"{data_dir / 'credential.json'} cannot be written: Is a directory" in refused.output
        assert not list(data_dir.glob("*.tmp"))
        (data_dir / "credential.json").rmdir()
        assert CliRunner().invoke(app, enroll).exit_code == 0


def test_without_a_network_it_is_said_that_none_can_be_asked() -> None:
    alone = ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-m", "edge_agent"]
    refused = subprocess.run(
        [*alone, "enroll", "--discover", "enr_0123456789abcdef"], capture_output=True, text=True
    )
    assert refused.returncode == 2
    assert "no network interface of this machine can be asked" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_folder_of_profiles_that_may_not_be_read_is_named_with_its_key(
    tmp_path: Path, command: str
) -> None:
    closed = tmp_path / "closed"
    (closed / "profiles").mkdir(parents=True)
    closed.chmod(0)
    file = tmp_path / "agent.toml"
    file.write_text(f'[agent]\ngateway = "gw-1"\nprofiles_dir = "{closed / "profiles"}"\n')
    refused = _where_closed_is_closed(command, "--config", str(file))
    assert refused.returncode == 2
    assert f"{file}: agent.profiles_dir: {closed / 'profiles'} is not a folder" in refused.stderr


@pytest.mark.parametrize("named", ['gateway = "gw-1"\n', ""])
def test_a_data_folder_that_may_not_be_read_is_named_with_its_key(tmp_path: Path, named: str) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0)
    file = tmp_path / "agent.toml"
    file.write_text(f'[agent]\n{named}data_dir = "{data_dir}"\n')
    refused = _where_closed_is_closed("run", "--config", str(file))
    assert refused.returncode == 2
    assert f"{file}: agent.data_dir: {data_dir}" in refused.stderr
    assert "Permission denied" in refused.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may read what the agent may not")
@pytest.mark.parametrize("closed", ["agent.toml", "ca.pem"])
def test_root_is_told_what_the_agent_may_not_read(closed: str) -> None:
    # Not below pytest's folders, which are closed to everybody else.
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        folder.chmod(0o755)
        data_dir, authority, file = folder / "data", folder / "ca.pem", folder / "agent.toml"
        data_dir.mkdir()
        shutil.chown(data_dir, "nobody")
        trustme.CA().cert_pem.write_to_path(str(authority))
        file.write_text(
            f'[collector]\nca_file = "{authority}"\n[agent]\ngateway = "gw-1"\ndata_dir = "{data_dir}"\n'
        )
        for one in (authority, file):
            one.chmod(0o644)
        sound = CliRunner().invoke(app, ["check", "--config", str(file)])
        assert sound.exit_code == 0, sound.output
        (folder / closed).chmod(0o600)
        refused = CliRunner().invoke(app, ["check", "--config", str(file)])
    assert refused.exit_code == 2
    assert f"{folder / closed} may not be read by nobody" in refused.output


def test_an_authority_that_cannot_be_used_is_found_by_check(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(f'[collector]\nca_file = "{tmp_path / "ca.pem"}"\n[agent]\ngateway = "gw-1"\n')
    refused = CliRunner().invoke(app, ["check", "--config", str(file)])
    assert refused.exit_code == 2
    assert f"{file}: collector.ca_file: {tmp_path / 'ca.pem'} is not a PEM" in refused.output


def test_an_authority_that_only_enrol_was_told_is_one_that_the_agent_has_to_be_told(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    cert, key, ca_file = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "ca.pem"
    issued.cert_chain_pems[0].write_to_path(str(cert))
    issued.private_key_pem.write_to_path(str(key))
    authority.cert_pem.write_to_path(str(ca_file))
    config_file = tmp_path / "agent.toml"
    config_file.write_text(f'[agent]\ndata_dir = "{tmp_path / "data"}"\n')
    with collector_program(
        tmp_path / "collector", "--tls-cert", str(cert), "--tls-key", str(key)
    ) as collector:
        printed = collector.command("gateway", "add", "north", "gw-1")
        token = next(word for word in printed.split() if word.startswith("enr_"))
        enroll = ["enroll", collector.url, token, "--ca-file", str(ca_file), "--config", str(config_file)]
        told = CliRunner().invoke(app, enroll)
        line = f'ca_file = "{ca_file}"'
        assert told.exit_code == 0, told.output
        assert f"In {config_file}, under [collector], write: {line}\n" in told.output
        config_file.write_text(f"[collector]\n{line}\n{config_file.read_text()}")
        assert "ca_file" not in CliRunner().invoke(app, enroll).output


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


def _where_closed_is_closed(*words: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """In that folder, without what lets root read and write everything."""
    without = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    return subprocess.run(
        [*without, sys.executable, "-m", "edge_agent", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
