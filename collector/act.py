"""Carries a person's command to the store and tells the open pages; the same for the JSON API and for
forms."""

from __future__ import annotations

import structlog

from collector import command, out_of_service
from collector.command import Outcome, Result
from collector.folding import Change
from collector.out_of_service import Order
from collector.out_of_service import Outcome as OutcomeOfService
from collector.parts import Parts
from collector.problems import Problem
from collector.tickets import Actor, Command, Reason

log = structlog.get_logger()

# What a refusal is in HTTP; the others are conflicts with the state of the ticket.
STATUS = {
    Reason.NOT_FOUND: 404,
    Reason.NOT_ALLOWED: 403,
    Reason.VERSION_NEEDED: 428,
    Reason.REASON_NEEDED: 422,
    Reason.KEY_REUSED: 422,
    Reason.NO_SUCH_PERSON: 422,
    Reason.NO_SUCH_DEVICE: 404,
    Reason.END_IS_PAST: 422,
}


async def carry_out(
    parts: Parts,
    actor: Actor,
    ticket_id: str,
    wanted: Command,
    *,
    idempotency_key: str | None,
    if_match: int | None,
) -> Outcome:
    now_ms = parts.now_ms()
    outcome = await parts.write(
        lambda connection: command.carry_out(
            connection,
            actor,
            ticket_id,
            wanted,
            idempotency_key=idempotency_key,
            if_match=if_match,
            now_ms=now_ms,
        ),
        _changed,
    )
    kind = type(wanted).__name__.lower()
    parts.metrics.commands.labels(command=kind, outcome=outcome.result.value).inc()
    log.info("command", command=kind, actor=actor.name, ticket=ticket_id, outcome=outcome.result.value)
    return outcome


async def serve(parts: Parts, actor: Actor, site: str, device: str, order: Order) -> OutcomeOfService:
    """Take a device out of service, or bring it back."""
    now_ms = parts.now_ms()
    outcome = await parts.write(
        lambda connection: out_of_service.carry_out(connection, actor, site, device, order, now_ms),
        lambda outcome: outcome.changed,
    )
    kind = type(order).__name__.lower()
    result = Result.APPLIED if outcome.applied else Result.REFUSED
    parts.metrics.commands.labels(command=kind, outcome=result.value).inc()
    log.info("command", command=kind, actor=actor.name, device=f"{site}/{device}", outcome=result.value)
    return outcome


def refusal_of_service(outcome: OutcomeOfService) -> Problem | None:
    """``None`` when it took effect."""
    if outcome.applied:
        return None
    return Problem(STATUS.get(outcome.reason, 409), outcome.reason.sentence, reason=outcome.reason.value)


def _changed(outcome: Outcome) -> list[Change]:
    if outcome.result not in (Result.APPLIED, Result.MERGED) or outcome.ticket is None:
        return []
    return [Change(ticket_id=outcome.ticket.id, site=outcome.ticket.site)]


def refusal(outcome: Outcome, *, current: dict[str, object] | None) -> Problem | None:
    """``None`` when it took effect; ``current`` is the ticket as it is now, in the caller's shape."""
    if outcome.result in (Result.APPLIED, Result.MERGED):
        return None
    more = {"ticket": current} if current is not None else {}
    status = 404 if outcome.result is Result.NOT_FOUND else STATUS.get(outcome.reason, 409)
    return Problem(status, outcome.sentence, reason=outcome.reason.value, more=more)
