"""Stores people, their sessions and API tokens. Secrets only as hashes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, RowMapping, delete, func, insert, select, update

from collector.store import tables

# Any number will do that nobody else uses; others than those of the migrations and the timers.
LABELS = 0x616E646F70


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """``password_hash`` is an argon2id string."""

    name: str
    password_hash: str
    role: str
    sites: tuple[str, ...]
    disabled: bool
    created_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSession:
    """One log-in with the person as they are now: a role that was taken away is gone at once."""

    id_hash: str
    person: Person
    last_seen_ms: int
    expires_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiToken:
    """``id`` is the public half; the secret is known only as SHA-256."""

    id: str
    secret_sha256: str
    role: str
    sites: tuple[str, ...]
    label: str
    created_ms: int
    revoked_ms: int | None


def add_person(
    connection: Connection, *, name: str, password_hash: str, role: str, sites: Sequence[str], now_ms: int
) -> bool:
    """New, or changed when the name is known (sessions end; who is disabled stays so). True when new."""
    known = person(connection, name) is not None
    values = {"password_hash": password_hash, "role": role, "sites": list(sites)}
    if known:
        connection.execute(update(tables.user).where(tables.user.c.name == name).values(**values))
        end_sessions(connection, name)
    else:
        connection.execute(insert(tables.user).values(name=name, disabled=False, created_ms=now_ms, **values))
    return not known


def let_in(connection: Connection, name: str, *, disabled: bool) -> None:
    """Or not, and then no longer: sessions end."""
    connection.execute(update(tables.user).where(tables.user.c.name == name).values(disabled=disabled))
    if disabled:
        end_sessions(connection, name)


def person(connection: Connection, name: str) -> Person | None:
    found = connection.execute(select(tables.user).where(tables.user.c.name == name)).one_or_none()
    return None if found is None else _person(found._mapping)


def people(connection: Connection) -> list[Person]:
    """By name."""
    return [
        _person(row._mapping) for row in connection.execute(select(tables.user).order_by(tables.user.c.name))
    ]


def add_session(
    connection: Connection, *, id_hash: str, name: str, csrf: str, now_ms: int, expires_ms: int
) -> None:
    """Log-in. Sessions that are over go with it."""
    connection.execute(delete(tables.session).where(tables.session.c.expires_ms <= now_ms))
    connection.execute(
        insert(tables.session).values(
            id_hash=id_hash,
            user=name,
            csrf=csrf,
            created_ms=now_ms,
            last_seen_ms=now_ms,
            expires_ms=expires_ms,
        )
    )


def session(connection: Connection, id_hash: str) -> StoredSession | None:
    """With its person; ``None`` when unknown. Whether it is still good is the caller's decision."""
    found = connection.execute(
        select(tables.session, tables.user)
        .join(tables.user, tables.user.c.name == tables.session.c.user)
        .where(tables.session.c.id_hash == id_hash)
    ).one_or_none()
    if found is None:
        return None
    row = found._mapping
    return StoredSession(
        id_hash=row[tables.session.c.id_hash],
        person=Person(
            name=row[tables.user.c.name],
            password_hash=row[tables.user.c.password_hash],
            role=row[tables.user.c.role],
            sites=tuple(row[tables.user.c.sites]),
            disabled=row[tables.user.c.disabled],
            created_ms=row[tables.user.c.created_ms],
        ),
        last_seen_ms=row[tables.session.c.last_seen_ms],
        expires_ms=row[tables.session.c.expires_ms],
    )


def touch_session(connection: Connection, id_hash: str, now_ms: int) -> None:
    """The person is there."""
    connection.execute(
        update(tables.session).where(tables.session.c.id_hash == id_hash).values(last_seen_ms=now_ms)
    )


def end_session(connection: Connection, id_hash: str) -> None:
    connection.execute(delete(tables.session).where(tables.session.c.id_hash == id_hash))


def end_sessions(connection: Connection, name: str) -> None:
    """Of this person."""
    connection.execute(delete(tables.session).where(tables.session.c.user == name))


def lock_labels(connection: Connection) -> None:
    """Until the end of this transaction nobody else looks which labels are free; SQLite has one writer."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(LABELS)))


def add_api_token(
    connection: Connection,
    *,
    token_id: str,
    secret_sha256: str,
    role: str,
    sites: Sequence[str],
    label: str,
    now_ms: int,
) -> None:
    connection.execute(
        insert(tables.api_token).values(
            id=token_id,
            secret_sha256=secret_sha256,
            role=role,
            sites=list(sites),
            label=label,
            created_ms=now_ms,
        )
    )


def api_token(connection: Connection, token_id: str) -> ApiToken | None:
    found = connection.execute(
        select(tables.api_token).where(tables.api_token.c.id == token_id)
    ).one_or_none()
    return None if found is None else _api_token(found._mapping)


def api_tokens(connection: Connection) -> list[ApiToken]:
    """By label; those that are revoked too."""
    token = tables.api_token.c
    rows = connection.execute(select(tables.api_token).order_by(token.label, token.created_ms, token.id))
    return [_api_token(row._mapping) for row in rows]


def revoke_api_token(connection: Connection, token_id: str, now_ms: int) -> None:
    connection.execute(
        update(tables.api_token).where(tables.api_token.c.id == token_id).values(revoked_ms=now_ms)
    )


def _api_token(row: RowMapping) -> ApiToken:
    return ApiToken(
        id=row["id"],
        secret_sha256=row["secret_sha256"],
        role=row["role"],
        sites=tuple(row["sites"]),
        label=row["label"],
        created_ms=row["created_ms"],
        revoked_ms=row["revoked_ms"],
    )


def _person(row: RowMapping) -> Person:
    return Person(
        name=row["name"],
        password_hash=row["password_hash"],
        role=row["role"],
        sites=tuple(row["sites"]),
        disabled=row["disabled"],
        created_ms=row["created_ms"],
    )
