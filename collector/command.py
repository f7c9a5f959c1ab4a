"""Carries out what a person commands: load, decide, store, history and audit, in the caller's transaction."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from enum import StrEnum

from sqlalchemy import Connection

from collector.store import audit, commands, occurrences, people, ticket_rows
from collector.store.ticket_rows import Entry
from collector.store.tickets import TicketView, views
from collector.tickets import (
    ALLOWED,
    Acknowledge,
    Actor,
    Assign,
    Command,
    Decision,
    Policy,
    Reason,
    Role,
    Start,
    Ticket,
    decide,
    may_see,
)

__all__ = ["Actor", "Outcome", "Result", "carry_out"]


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


_REFUSALS = {
    Reason.CHANGED: Result.CONFLICT,
    Reason.SEEN_LESS: Result.MERGED,
    Reason.NOT_FOUND: Result.NOT_FOUND,
}


def carry_out(
    connection: Connection,
    actor: Actor,
    ticket_id: str,
    command: Command,
    *,
    idempotency_key: str | None,
    if_match: int | None,
    now_ms: int,
    policy: Policy = Policy(),  # noqa: B008  frozen
) -> Outcome:
    """The same idempotency key of the same actor again has the same outcome and no further effect. What was
    refused had none: it may be asked again, such as with the version that is now.

    ``if_match`` is the version that was seen. Acknowledge, note and start merge into whatever the ticket has
    become; the others, and a start that takes it from somebody, need it and conflict when it is not the
    newest.
    """
    found = ticket_rows.load(connection, ticket_id)
    if found is None or not actor.may_see(found.site):
        return Outcome(result=Result.NOT_FOUND, reason=Reason.NOT_FOUND, ticket=None)
    occurrences.lock_conditions(connection, found.site, [found.dedupe_key])
    asked = _digest(ticket_id, command)
    if idempotency_key is not None:
        earlier = commands.earlier(connection, actor.name, idempotency_key)
        if earlier is not None:
            return _again(connection, earlier, asked, found)
    ticket = ticket_rows.load(connection, ticket_id)
    assert ticket is not None, "tickets are never deleted"
    decision = decide(ticket, command, actor=actor, seen=if_match, now_ms=now_ms, policy=policy)
    if (
        isinstance(command, Assign)
        and not decision.refused
        and not _works_at(connection, command, found.site)
    ):
        decision = Decision(ticket=ticket, refused=Reason.NO_SUCH_PERSON)
    reason = decision.refused or decision.reasons[0]
    result = _REFUSALS.get(decision.refused, Result.REFUSED) if decision.refused else Result.APPLIED
    if decision.ticket != ticket:
        ticket_rows.save(connection, [], [decision.ticket])
    ticket_rows.record(connection, _entries(decision, actor, command, now_ms))
    if idempotency_key is not None and result in (Result.APPLIED, Result.MERGED):
        outcome = {"result": result.value, "reason": reason.value}
        commands.remember(connection, actor.name, idempotency_key, ticket_id, asked, outcome, now_ms)
    audit.write(
        connection,
        at_ms=now_ms,
        actor=actor.name,
        action=f"ticket.{type(command).__name__.lower()}",
        subject=ticket_id,
        site=ticket.site,
        detail={"result": result.value, "reason": reason.value, **_said(command)},
    )
    return Outcome(result=result, reason=reason, ticket=views(connection, [decision.ticket])[0])


def _again(connection: Connection, earlier: commands.Earlier, asked: str, found: Ticket) -> Outcome:
    now = views(connection, [ticket_rows.load(connection, found.id) or found])[0]
    if earlier.digest != asked:
        return Outcome(result=Result.REFUSED, reason=Reason.KEY_REUSED, ticket=now)
    return Outcome(
        result=Result(earlier.outcome["result"]), reason=Reason(earlier.outcome["reason"]), ticket=now
    )


def _works_at(connection: Connection, command: Assign, site: str) -> bool:
    """Given to a name that nobody has, or that cannot see it or begin it, a ticket would be nobody's."""
    person = people.person(connection, command.assignee)
    if person is None or person.disabled or not may_see(person.sites, site):
        return False
    return Role(person.role) in ALLOWED[Start]


def _digest(ticket_id: str, command: Command) -> str:
    told = json.dumps([ticket_id, type(command).__name__, asdict(command)], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()


def _entries(decision: Decision, actor: Actor, command: Command, now_ms: int) -> list[Entry]:
    """The first reason is what the person did; what follows from it happened by itself."""
    given_ms = command.given_ms if isinstance(command, Acknowledge) else None
    entries = []
    for place, reason in enumerate(decision.reasons):
        person = place == 0
        entries.append(
            Entry(
                ticket_id=decision.ticket.id,
                at_ms=now_ms,
                reason=reason,
                actor=actor.name if person else "",
                text=decision.text if person else "",
                detail={"given_ms": min(given_ms, now_ms)} if person and given_ms is not None else None,
            )
        )
    return entries


def _said(command: Command) -> dict[str, object]:
    return {name: value for name, value in asdict(command).items() if value not in (None, "", False)}
