from __future__ import annotations

import threading

from rigs.edge_voice import MONDAY_MS
from sqlalchemy import Connection

from collector import admin
from collector.store import Store, audit, figures, people, tables
from collector.tickets import Role

HASH = "$argon2id$not-a-real-one"


def add(store: Store, name: str, **changes: object) -> bool:
    fields: dict[str, object] = {
        "password_hash": HASH,
        "role": "lead",
        "sites": ["north"],
        "now_ms": MONDAY_MS,
    }
    return store.write(lambda connection: people.add_person(connection, name=name, **(fields | changes)))  # type: ignore[arg-type]


def test_a_person_is_added_once_and_changed_after_that(store: Store) -> None:
    assert add(store, "bob")
    assert not add(store, "bob", role="technician", sites=["*"])
    (bob,) = store.read(people.people)
    assert (bob.name, bob.role, bob.sites, bob.disabled) == ("bob", "technician", ("*",), False)
    assert store.read(lambda connection: people.person(connection, "nobody")) is None


def test_a_session_carries_its_person_and_ends(store: Store) -> None:
    add(store, "bob")

    def begin(connection: people.Connection, name: str, expires_ms: int, now_ms: int = MONDAY_MS) -> None:
        people.add_session(
            connection, id_hash=name, name="bob", csrf="c", now_ms=now_ms, expires_ms=expires_ms
        )

    store.write(lambda connection: begin(connection, "one", MONDAY_MS + 10))
    found = store.read(lambda connection: people.session(connection, "one"))
    assert found is not None
    assert (found.person.name, found.last_seen_ms) == ("bob", MONDAY_MS)
    store.write(lambda connection: people.touch_session(connection, "one", MONDAY_MS + 5))
    store.write(lambda connection: begin(connection, "two", MONDAY_MS + 99, MONDAY_MS + 11))
    assert store.read(lambda connection: people.session(connection, "one")) is None, (
        "swept at the next log-in"
    )
    store.write(lambda connection: people.end_session(connection, "two"))
    assert store.read(lambda connection: people.session(connection, "two")) is None


def test_a_token_and_a_line_of_the_audit_are_kept(store: Store) -> None:
    store.write(
        lambda connection: people.add_api_token(
            connection, token_id="t", secret_sha256="0" * 64, role="read", sites=["*"], label="x", now_ms=1
        )
    )
    token = store.read(lambda connection: people.api_token(connection, "t"))
    assert token is not None
    assert (token.role, token.sites, token.revoked_ms) == ("read", ("*",), None)
    store.write(
        lambda connection: audit.write(
            connection, at_ms=1, actor="a", action="did", subject="it", site="*", detail={"how": "well"}
        )
    )
    (line,) = store.read(lambda connection: connection.execute(tables.audit.select()).all())
    assert (line.actor, line.action, line.object, line.detail) == ("a", "did", "it", {"how": "well"})


def test_of_two_tokens_with_one_label_that_are_made_at_one_moment_one_is_refused(store: Store) -> None:
    refused: list[str] = []

    def make(connection: Connection, token_id: str) -> None:
        order = admin.AddToken(
            id=token_id, secret_sha256="0" * 64, role=Role.READ, sites=["*"], label="screen in the hall"
        )
        admin.perform(connection, order, MONDAY_MS, enrolment_hours=24)

    def second() -> None:
        try:
            store.write(lambda connection: make(connection, "second00"))
        except admin.OrderError as error:
            refused.append(str(error))

    meanwhile = threading.Thread(target=second)

    def first(connection: Connection) -> None:
        make(connection, "first000")
        meanwhile.start()
        # It has to wait for the end of this transaction, or it is done by now.
        meanwhile.join(1)

    store.write(first)
    meanwhile.join(30)
    assert [token.id for token in store.read(people.api_tokens)] == ["first000"]
    assert "take another label" in refused[0]


def test_a_line_of_the_audit_is_written_whatever_somebody_is_called(store: Store) -> None:
    store.write(
        lambda connection: audit.write(
            connection, at_ms=1, actor="gateway " + "g" * 64, action="did", subject="a\0b" * 64, site="*"
        )
    )
    (line,) = store.read(lambda connection: connection.execute(tables.audit.select()).all())
    assert (len(line.actor), len(line.object), "\0" in line.object) == (64, 128, False)


def test_an_empty_collector_counts_nothing(store: Store) -> None:
    found = store.read(figures.figures)
    assert (found.open_tickets, found.gateways, found.gateways_silent) == ({}, 0, 0)
    assert store.read(figures.answers)
    assert store.read(lambda connection: figures.sites(connection, None)) == []
