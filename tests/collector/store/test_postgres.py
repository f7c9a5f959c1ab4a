"""What becomes of units when connections die, their server restarts, or too many wait."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from rigs import postgres
from rigs.ports import free_port, wait_until_now
from rigs.relay import Relay
from sqlalchemy import Connection, insert, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from collector.store import Store, tables
from collector.store import postgres as store_postgres

NUMBERS = tables.site_number


def put(connection: Connection, site: str) -> None:
    connection.execute(insert(NUMBERS).values(site=site, last=0))


def sites(store: Store) -> list[str]:
    return list(store.read(lambda connection: connection.execute(select(NUMBERS.c.site)).scalars().all()))


def kill_own_connection(connection: Connection) -> None:
    """As an administrator does, or a server that is told to stop."""
    connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))


@pytest.fixture
def store(postgres_url: str, made_database: str) -> Iterator[Store]:
    opened = Store.open(postgres.new_database(postgres_url, made_database))
    yield opened
    opened.close()


def test_a_connection_that_dies_in_the_middle_costs_nothing(store: Store) -> None:
    tries: list[int] = []

    def unit(connection: Connection) -> None:
        put(connection, "once")
        tries.append(1)
        if len(tries) == 1:
            kill_own_connection(connection)

    store.write(unit)
    assert len(tries) == 2
    assert sites(store) == ["once"]


def test_a_reading_one_too(store: Store) -> None:
    tries: list[int] = []

    def query(connection: Connection) -> int:
        tries.append(1)
        if len(tries) == 1:
            kill_own_connection(connection)
        return len(tries)

    assert store.read(query) == 2


def test_a_commit_that_was_not_answered_is_not_tried_again(postgres_url: str, made_database: str) -> None:
    """Nobody knows here whether it happened; done again it might be done twice."""
    url = postgres.new_database(postgres_url, made_database)
    with Relay(postgres.port_of(postgres_url)) as relay:
        store = Store.open(url.replace(str(postgres.port_of(postgres_url)), str(relay.port)))
        tries: list[int] = []

        def unit(connection: Connection) -> None:
            tries.append(1)
            put(connection, f"try-{len(tries)}")
            # The commit gets through, its answer does not.
            relay.mute()

        with pytest.raises(OperationalError):
            store.write(unit)
        assert len(tries) == 1
        relay.heal()
        assert sites(store) == ["try-1"]
        store.close()


def test_an_error_of_the_unit_itself_is_not_tried_again(store: Store) -> None:
    tries: list[int] = []

    def unit(connection: Connection) -> None:
        tries.append(1)
        connection.execute(text("SELECT 1 / 0"))

    with pytest.raises(Exception, match="division by zero"):
        store.write(unit)
    assert len(tries) == 1


@pytest.mark.parametrize("how", [signal.SIGQUIT, signal.SIGINT])
def test_a_server_that_restarts_loses_nothing_that_was_answered(tmp_path: Path, how: signal.Signals) -> None:
    """And a name that leads to another server from then on."""
    server = postgres.Server(tmp_path)
    server.start()
    with Relay(server.port) as relay:
        store = Store.open(postgres.new_database(server.url).replace(str(server.port), str(relay.port)))
        over, answered, refused = threading.Event(), set[str](), list[str]()

        def run(number: int) -> None:
            turn = 0
            while not over.is_set():
                turn += 1
                site = f"{number}-{turn}"
                try:
                    store.write(lambda connection, site=site: put(connection, site))  # type: ignore[misc]
                except OperationalError:
                    refused.append(site)
                else:
                    answered.add(site)

        threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        try:
            wait_until_now(lambda: len(answered) > 30)
            server.stop(how)
            server.port = free_port()
            relay.lead_to(server.port)
            server.start()
            before = len(answered)
            wait_until_now(lambda: len(answered) > before + 30)
        finally:
            over.set()
            for thread in threads:
                thread.join()
        found = set(sites(store))
        assert answered <= found
        # Of a commit that was not answered nobody knows.
        assert found - answered <= set(refused)
        store.close()
    server.stop()


async def test_more_units_than_can_wait_are_sent_away_at_once(store: Store) -> None:
    held = threading.Event()
    waiting = [
        asyncio.ensure_future(store.write_soon(lambda connection: held.wait(60)))
        for _ in range(store_postgres.MAX_WAITING)
    ]
    await asyncio.sleep(0)
    with pytest.raises(PoolTimeoutError):
        await store.write_soon(lambda connection: put(connection, "one too many"))
    held.set()
    await asyncio.gather(*waiting)
    await store.write_soon(lambda connection: put(connection, "after"))
    assert sites(store) == ["after"]


async def test_who_writes_waits_for_nobody_who_reads(store: Store) -> None:
    held = threading.Event()
    reports = [
        asyncio.ensure_future(store.read_soon(lambda connection: held.wait(60)))
        for _ in range(store_postgres.MAX_WAITING)
    ]
    await asyncio.sleep(0)
    await asyncio.wait_for(store.write_soon(lambda connection: put(connection, "beside")), 20)
    held.set()
    await asyncio.gather(*reports)
    assert sites(store) == ["beside"]


def test_nothing_waits_for_ever_and_what_a_dead_collector_held_is_let_go(store: Store) -> None:
    names = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
    found = store.write(
        lambda connection: [connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in names]
    )
    assert found == ["10s", "30s", "30s"]
