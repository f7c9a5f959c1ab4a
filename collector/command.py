"""Carries out what a person commands: load, decide, store, history and audit, in the caller's transaction."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection

from collector.store.tickets import TicketView
from collector.tickets import Actor, Command, Reason


class Result(StrEnum):
    # The ticket is as commanded.
    APPLIED = "applied"
    # Kept, but the ticket has moved on: an acknowledgement that covers less than there is now.
    MERGED = "merged"
    # Not allowed, or not possible; `reason` says why.
    REFUSED = "refused"
    # The ticket has changed since it was seen; `ticket` is how it is now.
    CONFLICT = "conflict"
    NOT_FOUND = "not_found"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    result: Result
    reason: Reason
    # None when there is none that this actor may see.
    ticket: TicketView | None

    @property
    def sentence(self) -> str:
        return self.reason.sentence


def carry_out(
    connection: Connection,
    actor: Actor,
    ticket_id: str,
    command: Command,
    *,
    idempotency_key: str | None,
    if_match: int | None,
    now_ms: int,
) -> Outcome:
    """The same idempotency key of the same actor again has the same outcome and no further effect."""
    raise NotImplementedError
