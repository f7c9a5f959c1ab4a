"""The units are hardened as far as their work allows, measured by systemd's own auditor."""

import re
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "systemd"
# systemd-analyze's scale: 0 is closed, 10 is open.
LIMITS = {"edge-agent.service": 2.0, "collector.service": 1.5}


@pytest.mark.parametrize("unit", LIMITS)
def test_a_unit_exposes_no_more_than_its_limit(unit: str) -> None:
    audit = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(UNITS / unit)],
        capture_output=True,
        text=True,
    )
    score = re.search(r"Overall exposure level for \S+: ([0-9.]+)", audit.stdout)
    assert score, audit.stdout + audit.stderr
    assert float(score.group(1)) <= LIMITS[unit]


@pytest.mark.parametrize("unit", LIMITS)
def test_a_unit_parses_without_a_complaint_but_the_missing_program(unit: str) -> None:
    verdict = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(UNITS / unit)], capture_output=True, text=True
    )
    complaints = [
        line for line in verdict.stderr.splitlines() if unit in line and "is not executable" not in line
    ]
    assert not complaints


def test_the_collector_may_list_its_network_interfaces_to_advertise_itself() -> None:
    text = (UNITS / "collector.service").read_text()
    families = re.search(r"^RestrictAddressFamilies=(.*)$", text, re.MULTILINE)
    assert families is not None
    assert "AF_NETLINK" in families[1].split()


@pytest.mark.parametrize("unit", LIMITS)
def test_a_program_that_hangs_is_started_again(unit: str) -> None:
    text = (UNITS / unit).read_text()
    assert "Type=notify" in text
    assert "WatchdogSec=" in text
    assert "Restart=always" in text


def test_an_adapter_that_is_first_plugged_in_after_the_start_may_be_opened() -> None:
    """Its driver is not loaded before, and then systemd cannot turn the name of its kind into a number."""
    allowed = re.findall(r"^DeviceAllow=(\S+)", (UNITS / "edge-agent.service").read_text(), re.MULTILINE)
    # The kernel's devices.txt: USB serial converters, USB modems (ACM).
    assert {"char-188", "char-166"} <= set(allowed)
    assert not {"char-ttyUSB", "char-ttyACM"} & set(allowed)
