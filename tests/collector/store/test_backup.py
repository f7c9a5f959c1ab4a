"""A backup is one checked moment of a database in use; a restore replaces nothing that cannot be used."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from multiprocessing import get_context
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from rigs.edge_voice import EdgeVoice, enrol

from collector.config import LOCK_NAME
from collector.local import DataDirectory
from collector.store import Store, backup
from collector.store.backup import BackupError

STAMP = "20260105T060000Z"
KILLED = 9
# The id of a user who is not root.
SERVICE = 1234


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


def crashed(folder: Path) -> Path:
    """A database whose last change, that it knows no site, is in its log alone; the backup is from before."""
    database, crashed = folder / "collector.db", folder / "crashed.db"
    filled(database)
    backup.back_up(database, folder / "copy.db")
    writer = sqlite3.connect(database)
    writer.execute("DELETE FROM site_number")
    writer.commit()
    for end in ("", "-wal"):
        (folder / f"crashed.db{end}").write_bytes((folder / f"collector.db{end}").read_bytes())
    writer.close()
    return crashed


def sites(database: Path) -> int:
    connection = sqlite3.connect(database)
    try:
        (number,) = connection.execute("SELECT count(*) FROM site_number").fetchone()
        return int(number)
    finally:
        connection.close()


def test_the_log_of_what_is_replaced_goes_into_it_and_not_into_the_copy(tmp_path: Path) -> None:
    database = crashed(tmp_path)
    _, kept = backup.restore(tmp_path / "copy.db", database, STAMP)
    assert kept is not None
    assert (sites(database), sites(kept)) == (1, 0)
    assert not kept.with_name(f"{kept.name}-wal").exists()


def test_what_is_no_database_any_more_is_replaced_and_kept(tmp_path: Path) -> None:
    database = tmp_path / "collector.db"
    filled(database)
    backup.back_up(database, tmp_path / "copy.db")
    database.write_bytes(b"no database " * 1000)
    _, kept = backup.restore(tmp_path / "copy.db", database, STAMP)
    assert kept is not None
    assert files(tmp_path).isdisjoint({"collector.db-wal", "collector.db-shm"})
    assert len(uids(database)) == 20
    assert kept.read_bytes().startswith(b"no database")


def test_a_log_that_was_left_alone_does_not_get_another_database(tmp_path: Path) -> None:
    database = crashed(tmp_path)
    database.unlink()
    backup.restore(tmp_path / "copy.db", database, STAMP)
    assert uids(database) == uids(tmp_path / "copy.db")
    assert (tmp_path / f"crashed.db.replaced-{STAMP}-wal").exists()


def test_nothing_is_replaced_while_somebody_has_it_open(tmp_path: Path) -> None:
    database = tmp_path / "collector.db"
    filled(database)
    backup.back_up(database, tmp_path / "copy.db")
    reader = sqlite3.connect(f"file:{database}?mode=ro", uri=True, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM ticket").fetchone()
    with pytest.raises(BackupError, match="cannot be replaced: database is locked"):
        backup.restore(tmp_path / "copy.db", database, STAMP)
    reader.close()
    assert {"collector.db", "copy.db"} == {name for name in files(tmp_path) if "db-" not in name}


def test_without_second_names_what_is_replaced_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file system of this kind (FAT, many of a network) can be mounted everywhere that this runs."""

    def refuse(_self: Path, _target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    database = crashed(tmp_path)
    database.chmod(0o640)
    _, kept = backup.restore(tmp_path / "copy.db", database, STAMP)
    assert kept is not None
    assert (sites(kept), sites(database)) == (0, 1)
    assert kept.stat().st_mode & 0o777 == 0o640


def restore_until(number: int, source: Path, database: Path) -> None:
    """A process that ends before the call with this number that asks the system or SQLite for something."""
    asked = 0

    def ask(_frame: FrameType, what: str, called: Any) -> None:
        nonlocal asked
        if what == "c_call" and (
            getattr(called, "__module__", "") == "posix" or isinstance(called.__self__, sqlite3.Connection)
        ):
            asked += 1
            if asked == number:
                os._exit(KILLED)

    sys.setprofile(ask)
    backup.restore(source, database, STAMP)
    os._exit(0)


def test_a_restore_that_is_killed_anywhere_has_replaced_nothing_or_all(tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    crashed(made)
    seen = set()
    for number in range(1, 1000):
        folder = tmp_path / str(number)
        folder.mkdir()
        database = folder / "crashed.db"
        for end in ("", "-wal"):
            shutil.copy(made / f"crashed.db{end}", folder)
        process = get_context("fork").Process(target=restore_until, args=(number, made / "copy.db", database))
        process.start()
        process.join()
        assert process.exitcode in (0, KILLED)
        # What the next `serve` finds.
        Store.open(f"sqlite:///{database}").close()
        assert len(uids(database)) == 20
        found = "new" if sites(database) else "old"
        if found == "new":
            assert sites(folder / f"crashed.db.replaced-{STAMP}") == 0
        seen.add(found)
        backup.restore(made / "copy.db", database, "later")
        assert sites(database) == 1
        shutil.rmtree(folder)
        if process.exitcode == 0:
            break
    assert seen == {"old", "new"}
    assert number > 40


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can hand over")
def test_what_root_makes_belongs_to_whom_the_folder_belongs(tmp_path: Path) -> None:
    filled(tmp_path / "mine.db")
    backup.back_up(tmp_path / "mine.db", tmp_path / "copy.db")
    folder = tmp_path / "theirs"
    folder.mkdir()
    os.chown(folder, SERVICE, SERVICE)
    directory = DataDirectory(folder)
    backup.restore(tmp_path / "copy.db", folder / "collector.db", STAMP)
    store = Store.open(f"sqlite:///{folder}/fresh.db")
    found = {file.name: file.stat() for file in folder.iterdir()}
    store.close()
    directory.close()
    assert found.keys() == {LOCK_NAME, "collector.db", "fresh.db", "fresh.db-wal", "fresh.db-shm"}
    assert {(file.st_uid, file.st_gid, file.st_mode & 0o777) for file in found.values()} == {
        (SERVICE, SERVICE, 0o600)
    }


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
