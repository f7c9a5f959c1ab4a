"""Alice takes a backup while the collector works; a day later its disk is gone, and she puts the backup back.
The gateways send what is missing: nothing is lost, nothing counts twice, nobody is called twice.
"""

from __future__ import annotations

import sqlite3
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from rigs import collector_program as programs
from rigs.collector_program import SpeakingGateway, collector_program
from rigs.ports import free_port, wait_until_now

PAUSE_S = 0.02


class Busy:
    """A gateway that raises a fault with each sync, until it is told to stop."""

    def __init__(self, gateway: SpeakingGateway) -> None:
        self.gateway = gateway
        self.uids: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            device = f"belt-{len(self.uids)}"
            self.uids.append(self.gateway.voice.raises(self.gateway.minute, device))
            self.gateway.sync()
            # No more than its quota allows.
            time.sleep(PAUSE_S)


def entries(database: Path) -> Counter[tuple[str, str]]:
    connection = sqlite3.connect(database)
    try:
        return Counter(connection.execute("SELECT ticket_id, reason FROM ticket_entry").fetchall())
    finally:
        connection.close()


def test_a_backup_under_load_is_put_back_and_refilled(tmp_path: Path) -> None:
    data_dir, copy = tmp_path / "collector", tmp_path / "nightly.sqlite3"
    listen = ("--listen", f"127.0.0.1:{free_port()}")
    with collector_program(data_dir, *listen) as collector:
        gateway = SpeakingGateway(collector)
        busy = Busy(gateway)
        try:
            wait_until_now(lambda: len(busy.uids) > 20)
            said = collector.command("backup", str(copy))
            in_the_copy = set(busy.uids)
            wait_until_now(lambda: len(busy.uids) > len(in_the_copy) + 20)
        finally:
            busy.stop()
        assert "tickets" in said
        assert said.rstrip().endswith("checked.")
        with pytest.raises(subprocess.CalledProcessError) as refused:
            collector.command("restore", str(copy))
        assert "a collector runs on" in refused.value.stderr
        with pytest.raises(subprocess.CalledProcessError) as refused:
            collector.command("backup", str(copy))
        assert "overwrites nothing" in refused.value.stderr
    database = data_dir / "collector.sqlite3"
    everything = entries(database)
    said = programs.run(data_dir, "restore", str(copy))
    assert f"kept as {database}.replaced-" in said
    assert len(entries(database)) < len(everything)
    with collector_program(data_dir, *listen):
        gateway.sync()
        wait_until_now(lambda: gateway.sync().hwm[0] == gateway.voice.seq)
        gateway.close()
    refilled = entries(database)
    assert {ticket for ticket, _ in refilled} == set(busy.uids)
    assert set(refilled.values()) == {1}, "an opening was told twice"
    assert refilled == everything


def test_the_backup_of_a_postgresql_is_its_own_affair(tmp_path: Path) -> None:
    url = ("--database-url", "postgresql://somebody@127.0.0.1/andon")
    for command in (("backup", str(tmp_path / "copy")), ("restore", __file__)):
        with pytest.raises(subprocess.CalledProcessError) as refused:
            programs.run(tmp_path / "collector", *command, *url)
        assert "pg_dump or pg_basebackup" in refused.value.stderr
