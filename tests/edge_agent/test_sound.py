from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from edge_agent.sound import BrokenFileError, parted

PAGE = 4096


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "some.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as sql:
        sql.execute(f"PRAGMA page_size = {PAGE}")
        sql.execute("CREATE TABLE one (name TEXT)")
        sql.execute("CREATE INDEX by_name ON one (name)")
        sql.executemany("INSERT INTO one VALUES (?)", [(f"name-{n}",) for n in range(50)])
    return path


def test_a_sound_file_has_nothing_to_say(file: Path) -> None:
    with closing(sqlite3.connect(file)) as sql:
        assert parted(sql) is None


def test_an_index_that_lacks_a_row_is_told_and_can_be_made_anew(file: Path) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as sql:
        (root,) = sql.execute("SELECT rootpage FROM sqlite_master WHERE name = 'by_name'").fetchone()
        (table,) = sql.execute("SELECT rootpage FROM sqlite_master WHERE name = 'one'").fetchone()
        # A row that the index never hears of.
        sql.execute("PRAGMA writable_schema = ON")
        sql.execute("DELETE FROM sqlite_master WHERE name = 'by_name'")
        sql.execute("PRAGMA writable_schema = RESET")
        sql.execute("INSERT INTO one VALUES ('name-50')")
        sql.execute("PRAGMA writable_schema = ON")
        sql.execute(
            "INSERT INTO sqlite_master VALUES ('index', 'by_name', 'one', ?,"
            " 'CREATE INDEX by_name ON one (name)')",
            (root,),
        )
        sql.execute("PRAGMA writable_schema = RESET")
        assert table != root
        assert "by_name" in str(parted(sql))
        sql.execute("REINDEX")
        assert parted(sql) is None


def test_more_than_an_index_is_broken(file: Path) -> None:
    with closing(sqlite3.connect(file)) as sql:
        (table,) = sql.execute("SELECT rootpage FROM sqlite_master WHERE name = 'one'").fetchone()
    held = bytearray(file.read_bytes())
    held[(table - 1) * PAGE + 8 : (table - 1) * PAGE + 40] = b"\xff" * 32
    file.write_bytes(held)
    with closing(sqlite3.connect(file)) as sql, pytest.raises(BrokenFileError):
        parted(sql)
