"""One sync request becomes occurrences and tickets, in the caller's transaction."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from edge_agent.wire import SyncAnswer, SyncRequest


class StreamRefusedError(Exception):
    """The stream belongs to another gateway: 403 and an audit entry, nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayIdentity:
    """Who speaks, from the credential, never from the message."""

    id: str
    site: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A ticket that changed; tell those who look at this site."""

    ticket_id: str
    site: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    answer: SyncAnswer
    changed: tuple[Change, ...]
    # Rows that could not be read, for the log and the metrics.
    quarantined: int = 0


def apply(connection: Connection, gateway: GatewayIdentity, message: SyncRequest, now_ms: int) -> Applied:
    """Raises StreamRefusedError."""
    raise NotImplementedError
