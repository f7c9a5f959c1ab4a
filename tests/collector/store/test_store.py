from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import weakref
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from rigs import postgres
from rigs.ports import wait_until_now
from sqlalchemy import Connection, MetaData, Table, create_engine, func, insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from collector.store import Store, UnusableError, tables
from collector.store.migrate import MIGRATIONS, known_versions, migrate

NUMBERS = tables.site_number
SOME: dict[type, object] = {int: 7, bool: True, str: "7", bytes: b"7"}


def put(connection: Connection, site: str) -> None:
    connection.execute(insert(NUMBERS).values(site=site, last=0))


def sites(store: Store) -> list[str]:
    query = select(NUMBERS.c.site).order_by(NUMBERS.c.site)
    return list(store.read(lambda connection: connection.execute(query).scalars().all()))


def test_tables_of_an_empty_database_are_made_at_start_and_stay_at_the_next(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new/collector.db"
    for site in ("a", "b"):
        store = Store.open(url)
        store.write(lambda connection, site=site: put(connection, site))  # type: ignore[misc]
        store.close()
    store = Store.open(url)
    assert sites(store) == ["a", "b"]
    store.close()


def test_the_migrations_make_exactly_the_tables_that_the_code_knows(store: Store) -> None:
    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), tables.metadata))

    assert store.read(differences) == []


def fill(connection: Connection) -> dict[str, int]:
    """A row in every table, so that each refers to one of those that it can refer to; how many there are."""
    found = MetaData()
    found.reflect(connection)
    there = [table for table in found.sorted_tables if table.name != "alembic_version"]
    for table in there:
        connection.execute(insert(table).values(_some(table)))
    return {table.name: count(connection, table) for table in there}


def _some(table: Table) -> dict[str, object]:
    return {column.name: SOME[column.type.python_type] for column in table.columns}


def count(connection: Connection, table: Table) -> int:
    found: int = connection.execute(select(func.count()).select_from(table)).scalar_one()
    return found


@pytest.mark.parametrize("version", sorted(known_versions()))
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_database_of_an_earlier_version_is_brought_to_the_newest_with_all_that_is_in_it(
    kind: str, version: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path}/collector.db"
    if kind == "postgresql":
        url = postgres.new_database(request.getfixturevalue("postgres_url"))
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        migrate(connection, version)
        with connection.begin():
            before = fill(connection)
    engine.dispose()
    store = Store.open(url)
    after = {name: store.read(partial(count, table=tables.metadata.tables[name])) for name in before}
    assert after == before
    if kind == "sqlite":
        check = text("PRAGMA foreign_key_check")
        assert store.read(lambda connection: connection.execute(check).all()) == []
    store.close()


def test_what_was_unknown_before_an_upgrade_is_so_since_its_gateway_fell_silent(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/collector.db"
    engine = create_engine(url)
    told = {"open": True, "unknown": True, "minted": False, "start_ms": 5}
    rows = {
        "lost": told,
        "known": told | {"unknown": False},
        "once": told | {"unknown": False, "minted": True, "fault": "silent", "device": "gw", "start_ms": 7},
        "again": told | {"unknown": False, "minted": True, "fault": "silent", "device": "gw", "start_ms": 9},
    }
    with engine.connect() as connection:
        migrate(connection, "0016")
        with connection.begin():
            found = MetaData()
            found.reflect(connection)
            some = {name: _some(found.tables[name]) for name in ("gateway", "ticket", "occurrence")}
            connection.execute(insert(found.tables["gateway"]).values(some["gateway"] | {"name": "gw"}))
            connection.execute(insert(found.tables["ticket"]).values(some["ticket"]))
            for uid, row in rows.items():
                values = some["occurrence"] | row | {"uid": uid}
                connection.execute(insert(found.tables["occurrence"]).values(values))
    engine.dispose()
    with closing(Store.open(url)) as store:
        asked = select(tables.occurrence.c.uid, tables.occurrence.c.unknown_ms)
        since = store.read(lambda connection: {row.uid: row.unknown_ms for row in connection.execute(asked)})
    assert since == {"lost": 9, "known": None, "once": None, "again": None}


def test_several_collectors_may_start_at_once_on_one_empty_postgresql(postgres_url: str) -> None:
    url = postgres.new_database(postgres_url)
    opened: list[Store] = []
    threads = [threading.Thread(target=lambda: opened.append(Store.open(url))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 4
    for store in opened:
        store.close()


async def test_a_unit_that_fails_takes_nothing_with_it(store: Store) -> None:
    def breaks(connection: Connection) -> None:
        put(connection, "broken")
        raise RuntimeError("in the middle")

    def clashes(connection: Connection) -> None:
        put(connection, "also broken")
        put(connection, "also broken")

    units = [breaks if number % 3 == 1 else clashes if number % 3 == 2 else None for number in range(90)]
    outcomes = await asyncio.gather(
        *(
            store.write_soon(unit or (lambda connection, number=number: put(connection, f"s{number:02}")))
            for number, unit in enumerate(units)
        ),
        return_exceptions=True,
    )
    kinds = [type(outcome) for outcome in outcomes]
    assert kinds[::3] == [type(None)] * 30
    assert kinds[1::3] == [RuntimeError] * 30
    assert kinds[2::3] == [IntegrityError] * 30
    assert sites(store) == [f"s{number:02}" for number in range(0, 90, 3)]


def test_what_was_written_is_not_kept_until_somebody_else_writes(store: Store) -> None:
    class Message:
        def apply(self, connection: Connection) -> None:
            connection.execute(text("SELECT 1"))

    message = Message()
    kept = weakref.ref(message)
    store.write(message.apply)
    del message
    wait_until_now(lambda: kept() is None)


async def test_a_caller_that_is_cancelled_wedges_nobody(store: Store) -> None:
    async def impatient(number: int) -> None:
        await asyncio.wait_for(store.write_soon(lambda connection: put(connection, f"s{number}")), 1e-4)

    await asyncio.gather(*(impatient(number) for number in range(100)), return_exceptions=True)
    await store.write_soon(lambda connection: put(connection, "after"))
    assert "after" in sites(store)


async def test_a_reader_sees_one_moment(store: Store) -> None:
    def twice(connection: Connection) -> tuple[int, int]:
        count = select(func.count()).select_from(NUMBERS)
        first = connection.execute(count).scalar_one()
        store.write(lambda other: put(other, "meanwhile"))
        return first, connection.execute(count).scalar_one()

    assert await store.read_soon(twice) == (0, 0)
    assert sites(store) == ["meanwhile"]


def test_a_reader_cannot_write(store: Store) -> None:
    with pytest.raises(DBAPIError):
        store.read(lambda connection: put(connection, "x"))
    assert sites(store) == []


async def test_what_was_handed_in_before_the_end_is_written_and_nothing_after(store: Store) -> None:
    tasks = [
        asyncio.ensure_future(
            store.write_soon(lambda connection, number=number: put(connection, f"s{number}"))
        )
        for number in range(50)
    ]
    await asyncio.sleep(0)
    store.close()
    await asyncio.gather(*tasks)
    with pytest.raises(RuntimeError):
        store.write(lambda connection: put(connection, "late"))


def test_every_commit_is_synced_and_only_one_connection_may_write(tmp_path: Path) -> None:
    def pragmas(connection: Connection) -> tuple[object, ...]:
        return tuple(
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "query_only")
        )

    store = Store.open(f"sqlite:///{tmp_path}/collector.db")
    # A file that was just made stays under EXTRA (3) until it is opened again; both sync every commit.
    assert store.write(pragmas) == ("wal", 3, 1, 0)
    assert store.read(pragmas)[3] == 1
    store.close()


def test_a_file_that_is_opened_again_is_full(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/collector.db"
    Store.open(url).close()
    store = Store.open(url)
    assert store.write(lambda connection: connection.exec_driver_sql("PRAGMA synchronous").scalar()) == 2
    store.close()


def test_a_database_in_memory_is_refused() -> None:
    with pytest.raises(UnusableError, match="a file is needed"):
        Store.open("sqlite://")


@pytest.mark.parametrize("setting", ["synchronous_commit", "fsync"])
def test_a_postgresql_that_may_forget_commits_is_refused(
    tmp_path_factory: pytest.TempPathFactory, setting: str
) -> None:
    with (
        postgres.running(tmp_path_factory.mktemp("careless"), **{setting: "off"}) as url,
        pytest.raises(UnusableError, match=f"{setting}=off"),
    ):
        Store.open(postgres.new_database(url))


def test_a_deadlock_is_tried_again(postgres_url: str) -> None:
    store = Store.open(postgres.new_database(postgres_url))
    for site in ("a", "b"):
        store.write(lambda connection, site=site: put(connection, site))  # type: ignore[misc]
    meeting = threading.Barrier(2)
    tries: list[str] = []

    def crossing(first: str, second: str) -> None:
        def unit(connection: Connection) -> None:
            raise_by_one = text("UPDATE site_number SET last = last + 1 WHERE site = :site")
            connection.execute(raise_by_one, {"site": first})
            if tries.count(first) == 0:
                tries.append(first)
                meeting.wait(30)
            connection.execute(raise_by_one, {"site": second})

        store.write(unit)

    threads = [threading.Thread(target=crossing, args=pair) for pair in (("a", "b"), ("b", "a"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    last = store.read(lambda connection: connection.execute(select(NUMBERS.c.last)).scalars().all())
    store.close()
    assert list(last) == [2, 2]


def test_the_file_of_a_migration_begins_with_its_version() -> None:
    scripts = ScriptDirectory(str(MIGRATIONS))
    assert known_versions() == {script.revision for script in scripts.walk_revisions()}
    assert scripts.get_current_head() == max(known_versions())


HEAVY = ("alembic", "psycopg", "sqlite3", "sqlalchemy.dialects.postgresql", "sqlalchemy.dialects.sqlite")


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_start_loads_what_its_database_needs_and_alembic_only_to_upgrade(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str
) -> None:
    """Alembic would be 11 MB for as long as the collector runs, PostgreSQL's side another 9."""
    url = f"sqlite:///{tmp_path}/collector.db"
    if kind == "postgresql":
        url = postgres.new_database(request.getfixturevalue("postgres_url"))
    opens = (
        "import sys; import collector.server; from collector.store import Store; "
        f"Store.open(sys.argv[1]).close(); print([name for name in {HEAVY} if name in sys.modules])"
    )
    first, later = [
        subprocess.run([sys.executable, "-c", opens, url], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    its_own = {
        "sqlite": ["sqlite3", "sqlalchemy.dialects.sqlite"],
        "postgresql": ["psycopg", "sqlalchemy.dialects.postgresql"],
    }
    assert first.startswith("['alembic'")
    assert later.strip() == str(its_own[kind])
