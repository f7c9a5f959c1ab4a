"""A backup is one checked moment of a database in use; a restore replaces nothing that cannot be used."""

from __future__ import annotations

import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from rigs.edge_voice import EdgeVoice, enrol

from collector.store import Store, backup
from collector.store.backup import BackupError

STAMP = "20260105T060000Z"


def filled(database: Path, rows: int = 20) -> EdgeVoice:
    """A gateway with so many faults, closed."""
    store = Store.open(f"sqlite:///{database}")
    edge = EdgeVoice(enrol(store))
    for number in range(rows):
        edge.raises(number, f"belt-{number}", evidence={"text": "x" * 2_000})
    edge.sync(store, rows)
    store.close()
    return edge


def uids(database: Path) -> set[str]:
    connection = sqlite3.connect(database)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return {uid for (uid,) in connection.execute("SELECT uid FROM occurrence WHERE NOT minted")}
    finally:
        connection.close()


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_backup_of_a_database_under_load_is_one_moment_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "PAGES", 4)
    database = tmp_path / "collector.db"
    filled(database, 200)
    store = Store.open(f"sqlite:///{database}")
    edge = EdgeVoice(enrol(store, "gw-2"), seed=2)
    over, steps = threading.Event(), 0

    def write() -> None:
        number = 0
        while not over.is_set():
            number += 1
            edge.raises(number, f"d{number}", evidence={"text": "x" * 2_000})
            edge.sync(store, number)

    def progress(done: int, total: int) -> None:
        nonlocal steps
        steps += 1
        # Let the writer in between: a copy that began anew with each of its commits would never end.
        threading.Event().wait(0.005)

    writing = threading.Thread(target=write)
    writing.start()
    try:
        copied = backup.back_up(database, tmp_path / "copy.db", progress)
    finally:
        over.set()
        writing.join()
    store.close()
    assert steps > 20
    assert files(tmp_path) == {"collector.db", "copy.db"}
    found = uids(tmp_path / "copy.db")
    assert copied.rows["occurrence"] == copied.rows["ticket"] == len(found)
    assert found < uids(database)
    assert (tmp_path / "copy.db").stat().st_mode & 0o077 == 0


def test_the_same_after_a_crash_when_nobody_runs(tmp_path: Path) -> None:
    """The last commits are in the log alone."""
    database = tmp_path / "collector.db"
    program = f"""
import os, sys
from pathlib import Path
sys.path[:0] = {[str(path) for path in sys.path]!r}
from rigs.edge_voice import EdgeVoice, enrol
from collector.store import Store
store = Store.open("sqlite:///{database}")
edge = EdgeVoice(enrol(store))
edge.raises(0)
edge.sync(store, 0)
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    assert database.with_name("collector.db-wal").stat().st_size > 0
    backup.back_up(database, tmp_path / "copy.db")
    assert len(uids(tmp_path / "copy.db")) == 1


def test_a_restore_puts_the_copy_there_and_keeps_what_it_replaces(tmp_path: Path) -> None:
    database = tmp_path / "collector.db"
    edge = filled(database)
    backup.back_up(database, tmp_path / "copy.db")
    known = uids(database)
    store = Store.open(f"sqlite:///{database}")
    edge.raises(30, "later")
    edge.sync(store, 31)
    store.close()
    copied, kept = backup.restore(tmp_path / "copy.db", database, STAMP)
    assert copied.rows["occurrence"] == 20
    assert uids(database) == known
    assert kept == tmp_path / f"collector.db.replaced-{STAMP}"
    assert len(uids(kept)) == 21
    assert files(tmp_path) == {"collector.db", "copy.db", kept.name}
    # The edge is told how far that copy has come, and sends the rest again.
    store = Store.open(f"sqlite:///{database}")
    edge.sync(store, 32)
    edge.sync(store, 33)
    store.close()
    assert uids(database) == uids(kept)


def test_the_log_of_what_is_replaced_does_not_leak_into_the_copy(tmp_path: Path) -> None:
    database = tmp_path / "collector.db"
    filled(database)
    backup.back_up(database, tmp_path / "copy.db")
    writer = sqlite3.connect(database)
    writer.execute("DELETE FROM site_number")
    writer.commit()
    for end in ("", "-wal"):
        (tmp_path / f"crashed.db{end}").write_bytes((tmp_path / f"collector.db{end}").read_bytes())
    writer.close()
    _, kept = backup.restore(tmp_path / "copy.db", tmp_path / "crashed.db", STAMP)
    assert kept is not None
    connection = sqlite3.connect(tmp_path / "crashed.db")
    assert connection.execute("SELECT count(*) FROM site_number").fetchone() == (1,)
    connection.close()
    assert kept.with_name(f"{kept.name}-wal").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not a database of a collector"),
        (b"not a database" * 100, "file is not a database"),
        (None, "another version of the collector"),
    ],
)
def test_what_is_no_backup_replaces_nothing(tmp_path: Path, content: bytes | None, said: str) -> None:
    database, copy = tmp_path / "collector.db", tmp_path / "copy.db"
    filled(database)
    before = uids(database)
    if content is None:
        backup.back_up(database, copy)
        connection = sqlite3.connect(copy)
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
        connection.close()
    else:
        copy.write_bytes(content)
    with pytest.raises(BackupError, match=said):
        backup.restore(copy, database, STAMP)
    assert uids(database) == before
    assert files(tmp_path) == {"collector.db", "copy.db"}


def test_a_damaged_backup_is_found_out(tmp_path: Path) -> None:
    database, copy = tmp_path / "collector.db", tmp_path / "copy.db"
    filled(database, 200)
    backup.back_up(database, copy)
    spoilt = bytearray(copy.read_bytes())
    for page in range(8, len(spoilt) // 4096):
        spoilt[page * 4096 : page * 4096 + 64] = bytes(64)
    copy.write_bytes(spoilt)
    with pytest.raises(BackupError, match=r"is damaged|malformed"):
        backup.restore(copy, database, STAMP)
    assert len(uids(database)) == 200


def test_a_backup_overwrites_nothing(tmp_path: Path) -> None:
    database = tmp_path / "collector.db"
    filled(database)
    (tmp_path / "copy.db").write_text("mine")
    with pytest.raises(BackupError, match="overwrites nothing"):
        backup.back_up(database, tmp_path / "copy.db")
    assert (tmp_path / "copy.db").read_text() == "mine"


def test_a_disk_that_is_full_leaves_nothing_behind(tmp_path: Path) -> None:
    database = tmp_path / "collector.db"
    filled(database, 200)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(BackupError, match=r"copy.db.unfinished cannot be written: "):
            backup.back_up(database, tmp_path / "copy.db")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert not any(name.startswith("copy.db") for name in files(tmp_path))
