from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from rigs import postgres

from collector.store import Store


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with postgres.running(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture(scope="session")
def made_database(postgres_url: str) -> str:
    """The name of one with all tables, to be copied: making them takes longer than most tests."""
    url = postgres.new_database(postgres_url)
    Store.open(url).close()
    return url.rpartition("/")[2]


@pytest.fixture(scope="session")
def made_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a file of SQLite."""
    file = tmp_path_factory.mktemp("sqlite") / "collector.db"
    Store.open(f"sqlite:///{file}").close()
    return file


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """The same assertions on both databases."""
    if request.param == "sqlite":
        url = _copied(request.getfixturevalue("made_file"), tmp_path)
    else:
        made = request.getfixturevalue("made_database")
        url = postgres.new_database(request.getfixturevalue("postgres_url"), made)
    opened = Store.open(url)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_store(tmp_path: Path, made_file: Path) -> Iterator[Store]:
    opened = Store.open(_copied(made_file, tmp_path))
    yield opened
    opened.close()


def _copied(made: Path, folder: Path) -> str:
    return f"sqlite:///{shutil.copy(made, folder / 'collector.db')}"
