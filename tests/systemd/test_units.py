"""The units are hardened as far as their work allows, measured by systemd's own auditor."""

import errno
import re
import subprocess
import sys
from difflib import unified_diff
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "systemd"
# systemd-analyze's scale: 0 is closed, 10 is open.
# 0.3 of the agent's is for asking the clock (see below): the auditor counts a group of calls as a whole.
LIMITS = {"edge-agent.service": 2.1, "collector.service": 1.5}
# An agent watches without a network, so what asks the network for the time may not keep it; a collector dates
# what agents say by its own clock.
CLOCKS = {"edge-agent.service": "time-set.target", "collector.service": "time-sync.target"}
# <linux/seccomp.h>
SECCOMP_RET_ERRNO, SECCOMP_RET_ALLOW = 0x00050000, 0x7FFF0000


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


def test_a_renewed_certificate_is_loaded_by_systemctl_reload() -> None:
    assert "\nExecReload=/bin/kill -HUP $MAINPID\n" in (UNITS / "collector.service").read_text()


def test_a_second_collector_on_a_machine_has_a_folder_and_settings_of_its_own_beside_the_shared(
    tmp_path: Path,
) -> None:
    text = (UNITS.parent / "docs" / "operations.md").read_text()
    command = re.search(r"^sed .* collector.service (?=> collector-2.service$)", text, re.MULTILINE)
    assert command is not None
    first = (UNITS / "collector.service").read_text()
    first = first.replace("/var/lib/andon-collector\n", "/var/lib/andon-collector --log json\n")
    (tmp_path / "collector.service").write_text(first)
    made = subprocess.run(
        command[0], shell=True, cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    serve = "ExecStart=/opt/andon/bin/collector serve --data-dir /var/lib/andon-collector"
    changed = {
        line for line in unified_diff(first.splitlines(), made.splitlines(), n=0) if line[1] not in "-+@"
    }
    assert changed == {
        f"-{serve} --log json",
        f"+{serve}-2 --log json",
        "-StateDirectory=andon-collector",
        "+StateDirectory=andon-collector-2",
        "+EnvironmentFile=/etc/andon/collector-2.env",
    }
    # Of a setting that is in both the later file's counts: systemd.exec(5).
    assert "collector.env\nEnvironmentFile=/etc/andon/collector-2.env\n" in made


def test_an_adapter_that_is_first_plugged_in_after_the_start_may_be_opened() -> None:
    """Its driver is not loaded before, and then systemd cannot turn the name of its kind into a number."""
    allowed = re.findall(r"^DeviceAllow=(\S+)", (UNITS / "edge-agent.service").read_text(), re.MULTILINE)
    # The kernel's devices.txt: USB serial converters, USB modems (ACM).
    assert {"char-188", "char-166"} <= set(allowed)
    assert not {"char-ttyUSB", "char-ttyACM"} & set(allowed)


@pytest.mark.parametrize(("unit", "clock"), CLOCKS.items())
def test_a_unit_waits_for_the_clock_that_it_needs_alone(unit: str, clock: str) -> None:
    after = re.findall(r"^After=(.*)$", (UNITS / unit).read_text(), re.MULTILINE)
    assert [name for line in after for name in line.split() if name.startswith("time-")] == [clock]


# The answer of adjtimex(3) under a filter that refuses what is not named on standard input.
UNDER_THE_FILTER = f"""
import ctypes, sys
from edge_agent import clock
seccomp = ctypes.CDLL("libseccomp.so.2")
seccomp.seccomp_init.restype = ctypes.c_void_p
rules = ctypes.c_void_p(seccomp.seccomp_init({SECCOMP_RET_ERRNO | errno.EPERM}))
for name in sys.stdin.read().split():
    call = seccomp.seccomp_syscall_resolve_name(name.encode())
    seccomp.seccomp_rule_add(rules, {SECCOMP_RET_ALLOW}, call, 0)
assert seccomp.seccomp_load(rules) == 0
print(clock._libc.adjtimex(ctypes.byref(clock._Timex())))
"""


def test_the_agent_may_ask_whether_the_clock_is_synchronised_and_not_set_it() -> None:
    calls = allowed_calls(UNITS / "edge-agent.service")
    assert calls & calls_in("@clock") == {"adjtimex", "clock_adjtime", "clock_adjtime64"}
    asked = subprocess.run(
        [sys.executable, "-c", UNDER_THE_FILTER], input="\n".join(calls), capture_output=True, text=True
    )
    assert int(asked.stdout) >= 0, asked.stderr


def allowed_calls(unit: Path) -> set[str]:
    """What its lines add up to, each in its turn (systemd.exec(5), SystemCallFilter=)."""
    allowed = calls_in("@default")
    for line in re.findall(r"^SystemCallFilter=(.*)$", unit.read_text(), re.MULTILINE):
        named = {call for name in line.removeprefix("~").split() for call in calls_in(name)}
        allowed = allowed - named if line.startswith("~") else allowed | named
    return allowed


def calls_in(name: str) -> set[str]:
    if not name.startswith("@"):
        return {name}
    listed = subprocess.run(
        ["systemd-analyze", "syscall-filter", "--no-pager", name], capture_output=True, text=True, check=True
    )
    within = [line.strip() for line in listed.stdout.splitlines()[1:] if line.strip()[:1] not in ("", "#")]
    return {call for inner in within for call in calls_in(inner)}
