"""Promise 2: at most one open ticket of a key, with any number of writers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from rigs import postgres
from rigs.edge_voice import SITE, EdgeVoice, enrol
from sqlalchemy import func, insert, select
from sqlalchemy.exc import IntegrityError

from collector.store import Store, tables
from collector.tickets import Condition, Ticket, Work

WRITERS = 6
ROUNDS = 12
DEVICES = 3


def ticket(number: int, **changed: object) -> dict[str, object]:
    plain = Ticket(
        id=f"{number:032x}",
        number=number,
        site=SITE,
        dedupe_key=f"v1|{SITE}|a|b|c",
        device="a",
        place="",
        component="b",
        fault="c",
        title="",
        advice="",
        severity=30,
        condition=Condition.ACTIVE,
        work=Work.NEW,
        first_ms=1,
        last_ms=None,
        period_ms=1,
        error_ms=0,
        returns=0,
        count=1,
        received_ms=1,
    )
    values = plain._asdict() | {"condition": plain.condition.value, "work": plain.work.value}
    return values | changed


def test_the_database_itself_refuses_a_second_open_ticket(store: Store) -> None:
    def put(*rows: dict[str, object]) -> None:
        store.write(lambda connection: connection.execute(insert(tables.ticket), list(rows)))

    put(ticket(1, closed_ms=5), ticket(2))
    with pytest.raises(IntegrityError):
        put(ticket(3))
    put(ticket(4, closed_ms=6))


def test_gateways_that_race_for_the_same_faults_on_postgresql_share_their_tickets(postgres_url: str) -> None:
    """Several collectors on one database, each with a gateway that raises and clears the same few faults."""
    url = postgres.new_database(postgres_url)
    stores = [Store.open(url) for _ in range(2)]
    edges = [EdgeVoice(enrol(stores[0], f"gw{number}"), seed=number + 1) for number in range(WRITERS)]

    def run(number: int) -> None:
        edge = edges[number]
        store = stores[number % len(stores)]
        for turn in range(ROUNDS):
            uids = [edge.raises(turn, device=f"d{device}") for device in range(DEVICES)]
            edge.sync(store, turn + 0.1)
            for uid in uids:
                edge.clears(uid, turn + 0.5)
            edge.sync(store, turn + 0.6)

    with ThreadPoolExecutor(WRITERS) as threads:
        list(threads.map(run, range(WRITERS)))
    ticket, occurrence = tables.ticket.c, tables.occurrence.c
    numbers = stores[0].read(
        lambda connection: (
            connection.execute(
                select(ticket.number).where(ticket.merged_into.is_(None), ticket.closed_ms.is_(None))
            )
            .scalars()
            .all()
        )
    )
    told = stores[0].read(
        lambda connection: connection.execute(
            select(occurrence.dedupe_key, func.count(), func.count(occurrence.ticket_id.distinct())).group_by(
                occurrence.dedupe_key
            )
        ).all()
    )
    for store in stores:
        store.close()
    # Every row arrived, and all rows of a key (their gaps are short) are one ticket.
    assert len(numbers) == DEVICES
    assert [tuple(row)[1:] for row in told] == [(WRITERS * ROUNDS, 1)] * DEVICES
