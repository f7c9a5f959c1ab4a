"""The audit log: what was done, in whose name, to what. Append-only; never a secret."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, insert

from collector.store import tables
from collector.store.streams import clean


def write(
    connection: Connection,
    *,
    at_ms: int,
    actor: str,
    action: str,
    subject: str,
    site: str,
    detail: Mapping[str, object] | None = None,
) -> None:
    """``actor`` is a person's name, or says what it was; ``site`` is ``*`` when it is no single one."""
    connection.execute(
        insert(tables.audit).values(
            at_ms=at_ms,
            # PostgreSQL refuses what is longer than its column.
            actor=clean(actor)[:64],
            action=action[:64],
            object=clean(subject)[:128],
            site=site,
            detail=detail,
        )
    )
