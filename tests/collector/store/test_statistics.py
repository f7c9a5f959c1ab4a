"""PostgreSQL finds what a sync asks by the index that was made for it, in the first minute of a storm too."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from rigs import postgres
from rigs.edge_voice import MINUTE_MS, MONDAY_MS, EdgeVoice, enrol
from rigs.ports import wait_until_now
from sqlalchemy import Connection, insert, text, update

from collector.exchange import Sync
from collector.ingest import apply_all
from collector.store import Store, occurrences, statistics, tables, ticket_rows

STORM = 2_000


@pytest.fixture
def stormy(postgres_url: str, made_database: str) -> Iterator[Store]:
    """Some faults first, so that plans are made for few; then many. All are open."""
    opened = Store.open(postgres.new_database(postgres_url, made_database))
    # Else the server itself may just be the quicker one.
    for table in (tables.condition, tables.occurrence, tables.ticket):
        alone = text(f"ALTER TABLE {table.name} SET (autovacuum_enabled = false)")
        opened.write(partial(Connection.execute, statement=alone))
    voice = EdgeVoice(enrol(opened, "gw-1", "north"), seed=1)
    for minute, faults in ((1, 1), (2, 1), (3, 1), (4, STORM)):
        for number in range(faults):
            voice.raises(minute, f"belt-{minute}-{number}", "jam")
        while voice.cursor[0] != voice.seq:
            sync = Sync(
                gateway=voice.gateway,
                message=voice.message(minute),
                now_ms=MONDAY_MS + minute * MINUTE_MS,
            )
            (outcome,) = opened.write(partial(apply_all, syncs=[sync]))
            voice.hear(outcome)
    yield opened
    opened.close()


def plan(store: Store, statement: Any, **asked: object) -> str:
    """Where writes go."""

    def ask(connection: Connection) -> str:
        question = f"EXPLAIN {statement.compile(dialect=connection.dialect)}"
        return "\n".join(connection.exec_driver_sql(question, asked).scalars())

    return store.write(ask)


def test_a_table_that_more_than_doubled_is_counted_once(stormy: Store) -> None:
    counted: list[str] = []

    def has_counted() -> bool:
        counted.extend(stormy.write(statistics.keep))
        return "ticket" in counted

    # The server itself knows within a second or so how much was changed.
    wait_until_now(has_counted)
    assert counted.count("ticket") == 1
    assert "ticket" not in stormy.write(statistics.keep)
    assert "occurrence" in counted
    assert "gateway" not in counted
    question = plan(stormy, ticket_rows._SINCE, keys=[f"belt-4-{one}" for one in range(64)], since_ms=0)
    assert "ux_ticket_open" in question, question


def test_a_table_that_is_written_again_and_again_is_not_counted_again(stormy: Store) -> None:
    def write(connection: Connection, letter: str) -> None:
        connection.execute(update(tables.condition).values(site=letter))

    counted: list[str] = []

    def is_known(changes: int) -> bool:
        def ask(connection: Connection) -> bool:
            counted.extend(statistics.keep(connection))
            found = "SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'condition'"
            return bool(connection.exec_driver_sql(found).scalar_one() >= changes)

        return stormy.write(ask)

    wait_until_now(lambda: is_known(0) and "condition" in counted)
    for letter in "ab":
        stormy.write(partial(write, letter=letter))
    wait_until_now(lambda: is_known(2 * STORM))
    assert counted.count("condition") == 1


def test_what_explains_others_is_not_looked_for_in_all_that_its_site_told(stormy: Store) -> None:
    question = plan(stormy, occurrences._EXPLAINED_BY, causes=["a", "b"], site="north")
    assert "using ix_occurrence_because" in question, question


def test_an_index_of_what_is_open_is_scanned_so_that_what_is_over_gets_marked(stormy: Store) -> None:
    question = plan(stormy, occurrences._OPEN_OF, gateways=[f"id-{one}" for one in range(64)])
    assert "Index Scan using ix_occurrence_open" in question, question
    assert "Bitmap" not in question


def test_sqlite_is_not_counted(sqlite_store: Store) -> None:
    rows = [{"site": f"site-{number}", "last": 0} for number in range(2 * statistics.MANY)]
    sqlite_store.write(lambda connection: connection.execute(insert(tables.site_number), rows))
    assert sqlite_store.write(statistics.keep) == ()
