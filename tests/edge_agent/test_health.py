"""What the agent tells of itself, and to systemd."""

import socket
from pathlib import Path

from edge_agent.health import Systemd, measure


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


def test_the_journal_counts_with_its_log(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"x" * 100)
    (tmp_path / "journal.db-wal").write_bytes(b"x" * 50)
    health = measure(data_dir=tmp_path, uptime_s=3, devices=5, devices_unreachable=1)
    assert health.journal_bytes == 150
    assert health.disk_free_bytes > 0
    assert health.devices_unreachable == 1
