from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from uvicorn.middleware.proxy_headers import _TrustedHosts

from collector import config
from collector.config import ConfigError, load

DATA_DIR = config.UNIT_DATA_DIR


@pytest.mark.parametrize(
    ("given", "origin"),
    [
        ("https://Andon.example", "https://andon.example"),
        ("HTTPS://andon.example:443/", "https://andon.example"),
        ("http://andon.example:80", "http://andon.example"),
        ("https://andon.example:80", "https://andon.example:80"),
        ("https://andon.example:8443", "https://andon.example:8443"),
        ("https://[2001:DB8:0::1]:8443", "https://[2001:db8::1]:8443"),
        ("", ""),
    ],
)
def test_a_public_url_is_the_origin_that_browsers_tell(given: str, origin: str) -> None:
    assert load(public_url=given).public_url == origin


def test_a_misspelt_variable_is_refused_with_what_it_may_have_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLLECTOR_TIMEZON", "Europe/Berlin")
    with pytest.raises(ConfigError) as refused:
        load()
    assert str(refused.value).startswith(
        "COLLECTOR_TIMEZON in the environment: no such setting; after COLLECTOR_ expected TIMEZONE, "
    )
    assert "MAX_LIVE" in str(refused.value)
    monkeypatch.setenv("COLLECTOR_TIMEZON", "")
    with pytest.raises(ConfigError, match="COLLECTOR_TIMEZON"):
        load()


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setattr(config, "UNIT_DATA_DIR", tmp_path / "var-lib")


def test_a_flag_wins_over_the_environment_and_that_over_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load().listen == "127.0.0.1:8420"
    monkeypatch.setenv("COLLECTOR_LISTEN", "127.0.0.1:9000")
    assert load().port == 9000
    assert load(listen="127.0.0.1:9001").port == 9001
    assert load(listen=None).port == 9000


def test_the_data_directory_is_systemds_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert load().data_dir == tmp_path / ".local/share/andon-collector"
    (tmp_path / "var-lib").mkdir()
    assert load().data_dir == tmp_path / "var-lib", "typed in a shell beside the unit"
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/andon-collector")
    assert load().data_dir == Path("/var/lib/andon-collector")


@pytest.mark.parametrize(
    ("machine", "timezone"),
    [("Europe/Berlin", "Europe/Berlin"), (":Asia/Kolkata", "Asia/Kolkata"), ("Etc/UTC", "UTC")],
)
def test_times_are_in_the_zone_of_the_machine_where_no_other_is_set(machine: str, timezone: str) -> None:
    # In a process of its own: a zone is looked up once.
    said = subprocess.run(
        [sys.executable, "-c", "from collector.config import Settings; print(Settings().timezone)"],
        env=os.environ | {"TZ": machine},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == f"{timezone}\n"


@pytest.mark.parametrize("listen", ["0.0.0.0:8420", "[::]:8420", "192.0.2.7:80", "collector.example:80"])
def test_plain_http_is_refused_off_loopback_unless_told_otherwise(listen: str) -> None:
    with pytest.raises(ConfigError, match="not loopback"):
        load(listen=listen)
    assert not load(listen=listen, allow_plain_http=True).tls


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "127.9.9.9:1", "[::1]:8420", "localhost:8420"])
def test_loopback_needs_no_certificate(listen: str) -> None:
    assert load(listen=listen).on_loopback


def test_a_certificate_needs_its_key_and_both_must_be_there(tmp_path: Path) -> None:
    file = tmp_path / "some.pem"
    file.touch()
    with pytest.raises(ConfigError, match="both or neither"):
        load(tls_cert=file)
    with pytest.raises(ConfigError, match=r"^tls_key: .*/other.pem: no such file"):
        load(tls_cert=file, tls_key=tmp_path / "other.pem")
    assert load(listen="0.0.0.0:443", tls_cert=file, tls_key=file).https


@pytest.mark.parametrize(
    ("given", "believed", "others"),
    [
        ("10.0.0.1", ["10.0.0.1"], ["10.0.0.2"]),
        (" 10.0.0.1 , 10.0.0.2", ["10.0.0.1", "10.0.0.2"], ["10.0.0.3"]),
        ("10.0.0.7/24,fd00::1/64", ["10.0.0.1", "fd00::2"], ["10.0.1.1", "fd00:0:0:1::1"]),
    ],
)
def test_a_proxy_that_is_named_is_one_that_is_believed(
    given: str, believed: list[str], others: list[str]
) -> None:
    hosts = _TrustedHosts(load(trusted_proxies=given).trusted_proxies)
    assert all(address in hosts for address in believed)
    assert not any(address in hosts for address in others)


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("listen", "8420", "HOST:PORT"),
        ("listen", "127.0.0.1:99999", "HOST:PORT"),
        ("timezone", "Mars/Olympus", "time zone"),
        ("public_url", "andon.example", "https://"),
        ("public_url", "ftp://andon.example", "https://"),
        ("public_url", "https://", "https://"),
        ("public_url", "https://andon.example/andon", "no path"),
        ("public_url", "https://andon.example?x", "no query"),
        ("public_url", "https://ada:secret@andon.example", "no user"),
        ("public_url", "https://andon.example:https", "HOST:PORT"),
        ("public_url", "https://andon.example:99999", "HOST:PORT"),
        ("public_url", "https://[andon]", "HOST:PORT"),
        ("public_url", "https://lager-süd.example", "xn--"),
        ("public_url", "https://andon .example", "HOST"),
        ("database_url", "sqlite:////srv/andon.db", "postgresql://"),
        ("database_url", "mysql://andon@db.example/andon", "postgresql://"),
        ("database_url", "sqlite", "postgresql://"),
        ("trusted_proxies", "10.0.0.0/33", "'10.0.0.0/33' is neither"),
        ("trusted_proxies", "10.0.0.1;10.0.0.2", "'10.0.0.1;10.0.0.2' is neither"),
        ("trusted_proxies", "10.0.0.1 10.0.0.2", "with commas between them"),
        ("trusted_proxies", "10.0.0.1, proxy.example", "'proxy.example' is neither"),
        ("trusted_proxies", "10.0.0.1,", "'' is neither"),
        ("trusted_proxies", "*", "'*' is neither"),
        ("log", "loud", "log"),
        ("session_idle_minutes", 0, "session_idle_minutes"),
        ("max_syncs", "many", "max_syncs"),
        ("enrolment_hours", 25, "enrolment_hours"),
    ],
)
def test_a_wrong_setting_is_named_with_what_was_expected(setting: str, value: object, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(**{setting: value})
    assert str(refused.value).startswith(f"{setting}: ")
    assert says in str(refused.value)


def test_the_directory_of_the_unit_is_the_one_that_commands_look_for() -> None:
    unit = (Path(__file__).parents[2] / "systemd" / "collector.service").read_text(encoding="utf-8")
    assert f"StateDirectory={DATA_DIR.name}\n" in unit
    assert f"--data-dir {DATA_DIR}\n" in unit


def test_an_order_before_the_first_start_finds_the_directory_of_the_unit() -> None:
    """systemd makes it with the first start; the lines of the manual do before."""
    manual = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
    folder = f"install -d -m 700 -o andon-collector -g andon-collector {DATA_DIR}\n"
    steps = ("useradd --system", folder, "systemctl enable --now collector")
    found = [manual.find(step) for step in steps]
    assert -1 not in found
    assert found == sorted(found)


def test_sqlite_has_one_writer_and_lies_in_the_data_directory(tmp_path: Path) -> None:
    assert load(data_dir=tmp_path).database == f"sqlite:///{tmp_path}/collector.sqlite3"
    assert load(data_dir=tmp_path).one_writer
    assert not load(data_dir=tmp_path, database_url="postgresql://localhost/andon").one_writer
