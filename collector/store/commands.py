"""What people commanded: outcomes by idempotency key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, delete, select

from collector.store import tables
from collector.store.streams import insert_for

# Longer than a handheld lies in a drawer with an acknowledgement that it has not sent.
KEPT_MS = 90 * 86_400_000


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
    """What this actor commanded long ago is forgotten with it."""
    command = tables.command
    connection.execute(delete(command).where(command.c.actor == actor, command.c.at_ms < now_ms - KEPT_MS))
    connection.execute(
        insert_for(connection)(command)
        .values(actor=actor, key=key, ticket_id=ticket_id, digest=digest, outcome=outcome, at_ms=now_ms)
        .on_conflict_do_nothing()
    )
