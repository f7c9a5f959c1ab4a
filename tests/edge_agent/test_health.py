"""What the agent tells of itself, and to systemd."""

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.health import Systemd, bus_service, measure
from edge_agent.journal_caps import Given
from edge_agent.schedule import Service
from edge_agent.wire import Health


def test_systemd_is_told_over_the_socket_that_it_named(tmp_path: Path) -> None:
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(address))
        unit = Systemd({"NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "30000000"})
        unit.ready("watching 3 devices")
        unit.alive()
        unit.stopping()
        said = [systemd.recv(200) for _ in range(3)]
    assert said == [b"READY=1\nSTATUS=watching 3 devices", b"WATCHDOG=1", b"STOPPING=1"]
    assert unit.watchdog_every_s == 15


def test_an_abstract_socket_is_reached_too() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0andon-test-notify")
        Systemd({"NOTIFY_SOCKET": "@andon-test-notify"}).alive()
        assert systemd.recv(200) == b"WATCHDOG=1"


def test_without_systemd_nothing_is_said() -> None:
    unit = Systemd({})
    unit.ready("watching")
    assert unit.watchdog_every_s is None


def test_a_systemd_that_is_away_or_busy_does_not_stop_the_agent(tmp_path: Path) -> None:
    Systemd({"NOTIFY_SOCKET": str(tmp_path / "gone")}).alive()
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(address))
        unit = Systemd({"NOTIFY_SOCKET": str(address)})
        # Nobody reads: more than any queue of datagrams holds.
        for _ in range(5_000):
            unit.alive()


def test_systemd_waits_for_an_agent_that_opens_its_journal_for_long(tmp_path: Path) -> None:
    """A salvage that is killed at each start would never end."""
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(address))

        async def open_for_long() -> None:
            async with Systemd({"NOTIFY_SOCKET": str(address)}).starting(every_s=0.001):
                for _ in range(3):
                    assert (await asyncio.to_thread(systemd.recv, 200)).startswith(
                        b"EXTEND_TIMEOUT_USEC=30000000\n"
                    )

        asyncio.run(open_for_long())


def test_an_agent_asks_systemd_to_wait_before_it_says_that_it_is_ready(tmp_path: Path) -> None:
    address, file = tmp_path / "notify", tmp_path / "agent.toml"
    file.write_text(f'[agent]\nsite = "hamburg"\ngateway = "gw-1"\ndata_dir = "{tmp_path / "data"}"\n')
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(address))
        agent = subprocess.Popen(
            [sys.executable, "-m", "edge_agent", "run", "--config", str(file)],
            env=os.environ | {"NOTIFY_SOCKET": str(address)},
        )
        try:
            said = [systemd.recv(200)]
            while b"READY=1" not in said[-1]:
                said.append(systemd.recv(200))
        finally:
            agent.terminate()
            agent.wait()
    assert said[0].startswith(b"EXTEND_TIMEOUT_USEC=30000000\n")


@pytest.mark.parametrize("name", Health.model_fields)
def test_what_an_agent_tells_of_itself_is_explained(name: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "wire.md").read_text()
    assert f"`{name}`" in page[page.index("### Health") :].partition("\n### The")[0]


def test_all_that_was_given_up_and_has_a_field_is_told(tmp_path: Path) -> None:
    given_up = {what.value: number for number, what in enumerate(Given, 1)}
    told = measure(
        data_dir=tmp_path, uptime_s=3, devices=5, devices_unreachable=1, counted=given_up, ballast="full"
    )
    assert {
        (name, getattr(told, name))
        for name in ("evidence_thinned", "rows_rolled_up", "rows_dropped", "rows_damaged")
    } < set(given_up.items())
    assert told.ballast == "full"


def gave(due: int, kept: int) -> Service:
    return Service(due=due, kept=kept, cycle_s=1.2345, silent=1)


def test_of_the_buses_the_worst_are_told_first_and_those_behind_are_counted(tmp_path: Path) -> None:
    buses = [bus_service(f"bus-{kept}", gave(100, kept), 0.5) for kept in (100, 40, 90, 89, *range(91, 99))]
    buses += [
        bus_service("idle", gave(0, 0), 0.5),
        *(bus_service(f"b{n}", gave(10, 10), 0.5) for n in range(9)),
    ]
    told = measure(data_dir=tmp_path, uptime_s=3, devices=5, devices_unreachable=1, buses=buses)
    assert told.buses_behind == 2
    assert told.buses is not None
    assert len(told.buses) == 16
    assert [bus.name for bus in told.buses][:4] == ["bus-40", "bus-89", "bus-90", "bus-91"]
    assert told.buses[0].model_dump() == {
        "name": "bus-40",
        "due": 100,
        "kept": 40,
        "cycle_ms": 1234,
        "planned_ms": 500,
        "silent": 1,
    }


def test_the_journal_counts_with_its_log_and_without_what_was_set_aside(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"x" * 100)
    (tmp_path / "journal.db-wal").write_bytes(b"x" * 50)
    (tmp_path / "journal.db.broken-17").write_bytes(b"x" * 9_000)
    health = measure(data_dir=tmp_path, uptime_s=3, devices=5, devices_unreachable=1)
    assert health.journal_bytes == 150
    assert health.disk_free_bytes > 0
    assert health.devices_unreachable == 1
