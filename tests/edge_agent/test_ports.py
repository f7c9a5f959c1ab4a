"""Which name of a serial port stays, and what an installer is told who wrote another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from serial.tools import list_ports
from serial.tools.list_ports_common import ListPortInfo
from typer.testing import CliRunner

from edge_agent import ports
from edge_agent.cli import app
from edge_agent.config import ConfigError, load
from edge_agent.ports import Port, found, hint, missing

FTDI = Port(
    node="/dev/ttyUSB0",
    by_id="/dev/serial/by-id/usb-FTDI_FT232R_A50285BI-if00-port0",
    by_path="/dev/serial/by-path/pci-0000:00:14.0-usb-0:1:1.0-port0",
    own_id=True,
)
# A CH340 has no serial number.
CH340 = Port(
    node="/dev/ttyUSB1",
    by_id="/dev/serial/by-id/usb-1a86_USB_Serial-if00-port0",
    by_path="/dev/serial/by-path/pci-0000:00:14.0-usb-0:2:1.0-port0",
)
ON_BOARD = Port(node="/dev/ttyS0")
NAMELESS = Port(node="/dev/ttyUSB7")
ALL = (ON_BOARD, FTDI, CH340, NAMELESS)


@pytest.mark.parametrize(
    ("port", "name"), [(FTDI, FTDI.by_id), (CH340, CH340.by_path), (ON_BOARD, "/dev/ttyS0"), (NAMELESS, "")]
)
def test_an_adapter_is_named_by_itself_if_it_has_a_serial_number_else_by_its_socket(
    port: Port, name: str
) -> None:
    assert port.lasting == name


@pytest.mark.parametrize(
    ("name", "instead"),
    [("/dev/ttyUSB0", FTDI.by_id), ("/dev/ttyUSB1", CH340.by_path), (CH340.by_id, CH340.by_path)],
)
def test_a_name_that_does_not_stay_is_told_which_one_does(name: str, instead: str) -> None:
    assert hint(name, ALL).endswith(
        (f'write port = "{instead}"', f'write port = "{instead}", the socket that it is in')
    )


@pytest.mark.parametrize("name", ["/dev/ttyUSB7", "/dev/ttyACM3"])
def test_a_number_without_a_lasting_name_is_told_how_to_find_one(name: str) -> None:
    assert hint(name, ALL).endswith("`edge-agent ports` shows which names stay")


@pytest.mark.parametrize(
    "name", [FTDI.by_id, FTDI.by_path, CH340.by_path, "/dev/ttyS0", "/dev/ttyAMA0", "/dev/a-name-of-the-site"]
)
def test_a_good_name_needs_no_hint(name: str) -> None:
    assert hint(name, ALL) == ""


def test_a_number_that_is_gone_is_told_who_is_there() -> None:
    assert FTDI.by_id in missing("/dev/ttyUSB5", ALL)
    assert CH340.by_path in missing("/dev/ttyUSB5", ALL)
    assert missing("/dev/ttyUSB5", ()) == missing(FTDI.by_id, ALL) == "unplugged?"


def test_a_sentence_names_three_ports_and_counts_the_rest() -> None:
    many = [Port(node=f"/dev/ttyUSB{n}", by_path=f"/dev/serial/by-path/socket-{n}") for n in range(5)]
    said = missing("/dev/ttyUSB9", many)
    assert "socket-2 and 2 more" in said
    assert "socket-3" not in said


# --- as udev and the kernel say it --------------------------------------------------------------------------


def known(node: str, serial_number: str | None, product: str = "USB UART") -> ListPortInfo:
    info = ListPortInfo(node)
    info.vid, info.pid, info.serial_number = 0x10C4, 0xEA60, serial_number
    info.manufacturer, info.product = "Silicon Labs", product
    return info


@pytest.fixture
def udev(tmp_path: Path) -> Path:
    for kind in ("by-id", "by-path"):
        (tmp_path / kind).mkdir()
    return tmp_path


def test_ports_are_what_the_kernel_knows_with_the_names_that_udev_made(
    udev: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (udev / "by-id" / "usb-one").symlink_to("/dev/ttyUSB90")
    # Two names of one socket; newer udevs make both.
    for name in ("usbv2-0:1", "usb-0:1"):
        (udev / "by-path" / name).symlink_to("/dev/ttyUSB90")
    monkeypatch.setattr(list_ports, "comports", lambda: [known("/dev/ttyUSB90", "A1")])
    assert found(udev) == (
        Port(
            node="/dev/ttyUSB90",
            by_id=str(udev / "by-id" / "usb-one"),
            by_path=str(udev / "by-path" / "usb-0:1"),
            own_id=True,
            words="Silicon Labs USB UART",
        ),
    )


def test_of_two_adapters_with_the_same_serial_number_each_is_named_by_its_socket(
    udev: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some makers print 0001 on all of them: udev's one name leads to whichever came last."""
    (udev / "by-id" / "usb-0001").symlink_to("/dev/ttyUSB91")
    for number in (90, 91):
        (udev / "by-path" / f"usb-0:{number}").symlink_to(f"/dev/ttyUSB{number}")
    both = [known("/dev/ttyUSB90", "0001"), known("/dev/ttyUSB91", "0001")]
    monkeypatch.setattr(list_ports, "comports", lambda: both)
    assert [port.lasting for port in found(udev)] == [
        str(udev / "by-path" / "usb-0:90"),
        str(udev / "by-path" / "usb-0:91"),
    ]


def test_an_adapter_that_is_pulled_while_the_kernel_is_asked_breaks_nothing(
    udev: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumbles() -> list[ListPortInfo]:
        raise TypeError("int() can't convert non-string with explicit base")

    monkeypatch.setattr(list_ports, "comports", stumbles)
    assert found(udev) == ()


def test_a_machine_without_udev_has_ports_all_the_same(tmp_path: Path) -> None:
    assert all(port.by_id == port.by_path == "" for port in found(tmp_path / "nothing"))


# --- what an installer sees ---------------------------------------------------------------------------------


@pytest.fixture
def plugged_in(udev: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (udev / "by-id" / "usb-A1").symlink_to("/dev/ttyUSB90")
    monkeypatch.setattr(list_ports, "comports", lambda: [known("/dev/ttyUSB90", "A1")])
    monkeypatch.setattr(ports, "FOLDER", udev)
    return udev / "by-id" / "usb-A1"


def agent_toml(folder: Path, *names: str, transport: str = 'transport = "serial"') -> Path:
    file = folder / "agent.toml"
    file.write_text(
        "".join(f'[[bus]]\nname = "bus-{n}"\n{transport}\nport = "{name}"\n' for n, name in enumerate(names))
    )
    return file


@pytest.mark.parametrize("transport", ['transport = "serial"', 'transport = "modbus"\nmode = "rtu"'])
def test_check_tells_the_installer_which_name_to_write(
    tmp_path: Path, plugged_in: Path, transport: str
) -> None:
    file = agent_toml(tmp_path, "/dev/ttyUSB90", transport=transport)
    checked = CliRunner().invoke(app, ["check", "--config", str(file)])
    assert checked.exit_code == 0
    assert "hint: /dev/ttyUSB90 is another adapter as soon" in checked.output
    assert f'write port = "{plugged_in}"' in checked.output
    file = agent_toml(tmp_path, str(plugged_in), transport=transport)
    assert "hint" not in CliRunner().invoke(app, ["check", "--config", str(file)]).output


def test_one_port_under_two_names_is_refused(tmp_path: Path, plugged_in: Path) -> None:
    with pytest.raises(ConfigError, match=r"bus\[1\].port: '/dev/ttyUSB90' is taken by bus\[0\]"):
        load(agent_toml(tmp_path, "/dev/ttyUSB90", str(plugged_in)))


@pytest.mark.parametrize("keys", [{"transport": "serial"}, {"transport": "modbus", "mode": "rtu"}])
@pytest.mark.parametrize("name", ["/dev/\0", "/dev/\ud800"])
def test_what_cannot_be_a_path_is_refused_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: dict[str, str], name: str
) -> None:
    monkeypatch.setenv("EDGE_AGENT_BUS", json.dumps([{"name": "a", "port": name} | keys]))
    with pytest.raises(ConfigError, match=r"bus\[0\].*no path looks like that"):
        load(agent_toml(tmp_path))


def test_ports_prints_what_to_write(plugged_in: Path) -> None:
    listed = CliRunner().invoke(app, ["ports"])
    assert listed.output.splitlines() == [
        f'port = "{plugged_in}"  # now /dev/ttyUSB90, Silicon Labs USB UART'
    ]


def test_without_a_port_ports_says_what_to_do(udev: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_ports, "comports", list)
    monkeypatch.setattr(ports, "FOLDER", udev)
    assert CliRunner().invoke(app, ["ports"]).exit_code == 2
