"""What people commanded: outcomes by idempotency key, and the audit log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from collector.store import tables
from collector.store.streams import clean, insert_for


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    digest: str
    outcome: Mapping[str, str]


def earlier(connection: Connection, actor: str, key: str) -> Earlier | None:
    command = tables.command.c
    found = connection.execute(
        select(command.digest, command.outcome).where(command.actor == actor, command.key == key)
    ).one_or_none()
    return None if found is None else Earlier(digest=found.digest, outcome=found.outcome)


def remember(
    connection: Connection,
    actor: str,
    key: str,
    ticket_id: str,
    digest: str,
    outcome: Mapping[str, str],
    now_ms: int,
) -> None:
    connection.execute(
        insert_for(connection)(tables.command)
        .values(actor=actor, key=key, ticket_id=ticket_id, digest=digest, outcome=outcome, at_ms=now_ms)
        .on_conflict_do_nothing()
    )


def audit(
    connection: Connection,
    *,
    at_ms: int,
    actor: str,
    action: str,
    subject: str,
    site: str,
    detail: Mapping[str, object] | None = None,
) -> None:
    connection.execute(
        insert(tables.audit).values(
            at_ms=at_ms,
            actor=clean(actor),
            action=action,
            object=clean(subject)[:128],
            site=site,
            detail=detail,
        )
    )
