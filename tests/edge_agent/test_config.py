"""agent.toml is refused with the file, the key and what was expected, or becomes exactly what it says."""

from pathlib import Path

import pytest

from edge_agent import config
from edge_agent.config import ConfigError

PROFILE = """\
schema: 1
name: button
title: Call button
maker: none
models: [test]
evidence: simulated
source: made for this test
transports: [mqtt]
reads:
  state: {topic: "{topic}/state"}
signals:
  pressed: {read: state, equals: "ON", source: made for this test}
conditions:
  - fault: called
    component: button
    title: Somebody calls
    severity: notice
    when: {is: {signal: pressed, value: true}}
    on_delay_s: 1
examples: []
"""

GOOD = """\
[collector]
url = "https://andon.example:8443"

[agent]
site = "hamburg"
gateway = "gw-1"
data_dir = "{folder}/data"
profiles_dir = "{folder}/profiles"

[[bus]]
name = "broker"
transport = "mqtt"
host = "127.0.0.1"

[[device]]
id = "button-1"
bus = "broker"
profile = "button"
place = "packing/line-1/station-3"
topic = "buttons/1"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "button.yaml").write_text(PROFILE)
    return tmp_path


def written(folder: Path, text: str) -> Path:
    file = folder / "agent.toml"
    file.write_text(text.replace("{folder}", str(folder)))
    return file


def test_what_is_written_is_what_is_watched(folder: Path) -> None:
    settings = config.load(written(folder, GOOD))
    (device,) = settings.devices
    assert (device.id, device.bus, device.place, device.topic) == (
        "button-1",
        "broker",
        "packing/line-1/station-3",
        "buttons/1",
    )
    assert device.profile.name == "button"
    assert settings.on_bus("broker") == settings.devices
    assert settings.agent.gateway == "gw-1"


def test_the_environment_wins_over_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_AGENT_COLLECTOR__URL", "https://other.example:8443")
    settings = config.load(written(folder, GOOD))
    assert settings.collector.url == "https://other.example:8443"
    assert settings.agent.site == "hamburg"


def test_an_address_may_end_with_a_slash_and_be_plain_where_that_is_allowed(folder: Path) -> None:
    plain = 'url = "http://10.0.0.5:8420/"\nallow_plain_http = true'
    text = GOOD.replace('url = "https://andon.example:8443"', plain)
    assert config.load(written(folder, text)).collector.url == "http://10.0.0.5:8420/"


def test_a_value_set_for_one_device_is_laid_over_its_profile(folder: Path) -> None:
    settings = config.load(
        written(folder, GOOD + '\n[device.set.conditions."button/called"]\non_delay_s = 7\n')
    )
    assert settings.devices[0].profile.conditions[0].on_delay_s == 7


def test_a_device_names_a_preset_of_its_profile(folder: Path) -> None:
    presets = (
        "presets:\n  calm: {title: Calm, source: p. 2, set: {conditions: {button/called: {on_delay_s: 9}}}}\n"
    )
    file = folder / "profiles" / "button.yaml"
    file.write_text(file.read_text() + presets)
    settings = config.load(written(folder, GOOD + '\npreset = "calm"\n'))
    assert settings.devices[0].profile.conditions[0].on_delay_s == 9
    with pytest.raises(ConfigError, match="there is no preset 'wild'; expected calm"):
        config.load(written(folder, GOOD + '\npreset = "wild"\n'))


def test_a_site_profile_wins_over_the_shipped_one(folder: Path) -> None:
    own = PROFILE.replace("name: button", "name: line-scanner").replace("title: Call button", "title: Ours")
    (folder / "profiles" / "line-scanner.yaml").write_text(own)
    settings = config.load(written(folder, GOOD.replace('"button"', '"line-scanner"')))
    assert settings.devices[0].profile.title == "Ours"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("site =", "siet =", ["agent.siet", "unknown key", "site"]),
        ('host = "127.0.0.1"', "host = 5", ["bus[0].host", "string"]),
        ('host = "127.0.0.1"', 'hots = "x"', ["bus[0].hots", "unknown key", "host"]),
        ('transport = "mqtt"', 'transport = "mqqt"', ["bus[0].transport", "mqqt", "mqtt", "serial"]),
        ('profile = "button"', 'profile = "buton"', ["device[0] (button-1).profile", "buton", "button"]),
        ('profile = "button"', 'profile = "../button"', ["unknown profile"]),
        ('bus = "broker"', 'bus = "brokr"', ["device[0] (button-1).bus", "brokr", "broker"]),
        ('id = "button-1"', 'id = "Button 1"', ["device[0].id", "pattern"]),
        ('id = "button-1"', 'id = "gw-1"', ["device[0].id", "gateway's own id"]),
        ('topic = "buttons/1"', "", ["device[0] (button-1).topic", "missing", "{topic}"]),
        ("[[device]]", "[[devices]]", ["devices", "unknown key", "device"]),
        ('url = "https://', 'url = "ftp://', ["collector.url", "expected https://host:port"]),
        (":8443", ":84x3", ["collector.url", "84x3"]),
        ("https://andon.example", "http://10.0.0.5", ["collector.url", "plain http", "allow_plain_http"]),
        ("andon.example", "andon..example", ["collector.url", "expected https://host:port"]),
        (
            'profiles_dir = "{folder}/profiles"',
            'profiles_dir = "/nonexist"',
            ["agent.profiles_dir: /nonexist is not a folder that may be read"],
        ),
        ("[collector]", "[collector", ["not TOML", "line 1"]),
    ],
)
def test_a_mistake_is_named_with_file_key_and_what_was_expected(
    folder: Path, old: str, new: str, expected: list[str]
) -> None:
    assert old in GOOD
    file = written(folder, GOOD.replace(old, new))
    with pytest.raises(ConfigError) as refusal:
        config.load(file)
    for part in [str(file), *expected]:
        assert part in str(refusal.value)


def test_an_authority_that_cannot_be_used_is_named_and_keeps_nothing_from_being_watched(folder: Path) -> None:
    file = written(folder, GOOD.replace("[agent]", 'ca_file = "/nowhere/ca.pem"\n[agent]'))
    collector = config.load(file).collector
    with pytest.raises(ConfigError) as refusal:
        config.check_ca_file(file, collector)
    for part in [str(file), "collector.ca_file", "/nowhere/ca.pem", "PEM"]:
        assert part in str(refusal.value)


def test_a_device_id_given_twice_is_refused(folder: Path) -> None:
    second = GOOD[GOOD.index("[[device]]") :]
    with pytest.raises(ConfigError, match=r"device\[1\]\.id: 'button-1' is taken by device\[0\]"):
        config.load(written(folder, GOOD + second))


def test_a_bus_name_given_twice_is_refused(folder: Path) -> None:
    bus = GOOD[GOOD.index("[[bus]]") : GOOD.index("[[device]]")]
    with pytest.raises(ConfigError, match=r"bus\[1\]\.name: 'broker' is taken by bus\[0\]"):
        config.load(written(folder, GOOD + bus))


def test_a_device_on_a_bus_that_its_profile_does_not_speak_is_refused(folder: Path) -> None:
    text = GOOD.replace('transport = "mqtt"\nhost = "127.0.0.1"', 'transport = "serial"\nport = "/dev/ttyS0"')
    with pytest.raises(ConfigError, match="'broker' is serial, but profile button speaks mqtt"):
        config.load(written(folder, text))


def test_an_overlay_of_something_that_is_not_there_is_refused(folder: Path) -> None:
    text = GOOD + '\n[device.set.conditions."button/cold"]\non_delay_s = 7\n'
    with pytest.raises(ConfigError, match="button/cold"):
        config.load(written(folder, text))


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        config.load(tmp_path / "agent.toml")


def test_a_mistyped_setting_in_the_environment_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_AGENT_COLECTOR__URL", "https://x")
    with pytest.raises(ConfigError, match="EDGE_AGENT_COLECTOR__URL"):
        config.load(written(folder, GOOD))


def test_a_serial_port_belongs_to_one_bus(folder: Path) -> None:
    """Otherwise the second one would only say that another program has it open."""
    port = "/dev/serial/by-id/usb-1"
    lines = f'[[bus]]\nname = "label"\ntransport = "serial"\nport = "{port}"\n'
    drives = f'[[bus]]\nname = "drives"\ntransport = "modbus"\nmode = "rtu"\nport = "{port}"\n'
    with pytest.raises(ConfigError, match=rf"bus\[2\]\.port: '{port}' is taken by bus\[1\]"):
        config.load(written(folder, GOOD + lines + drives))


def test_two_buses_may_lead_to_one_network_address(folder: Path) -> None:
    """A gateway of serial lines, or a broker, takes many connections."""
    more = "".join(f'[[bus]]\nname = "b{n}"\ntransport = "modbus"\nhost = "plc"\n' for n in range(2))
    assert len(config.load(written(folder, GOOD + more)).buses) == 3
