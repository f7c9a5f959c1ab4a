"""Carries out that a person takes a device out of service, and that it comes back: with role, reason and
audit.

While a device is out, what it tells is recorded as always. Its tickets are hidden and call nobody, and its
time counts as planned. Who takes it out may say until when; the sweep brings it back then. What is still
broken when it comes back is on the list again.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from collector import moments, tickets
from collector.auth import MAY_TAKE_OUT
from collector.folding import Change
from collector.store import audit, occurrences, ticket_rows
from collector.store import out_of_service as store
from collector.store.out_of_service import OutOfService
from collector.store.streams import clean
from collector.store.ticket_rows import Entry
from collector.tickets import Actor, Reason

MAX_REASON = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeOut:
    """Again, it changes the reason and the end."""

    reason: str
    # When it comes back by itself; None: somebody brings it back.
    until_ms: int | None = None
    # The id of the time out of service that was on the screen; empty: it was in service. None: not said.
    seen: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BringBack:
    # As above.
    seen: str | None = None


Order = TakeOut | BringBack


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    reason: Reason
    applied: bool
    # As it is now; None: it is in service.
    out: OutOfService | None
    changed: tuple[Change, ...] = ()


def carry_out(
    connection: Connection, actor: Actor, site: str, device: str, order: Order, now_ms: int
) -> Outcome:
    """The same order again changes nothing, so it needs no key."""
    if not actor.may_see(site) or not store.is_known(connection, site, device):
        return Outcome(reason=Reason.NO_SUCH_DEVICE, applied=False, out=None)
    if actor.role not in MAY_TAKE_OUT:
        return Outcome(reason=Reason.NOT_ALLOWED, applied=False, out=None)
    store.lock(connection, site, device)
    before = store.of_device(connection, site, device)
    if isinstance(order, BringBack):
        return _bring_back(connection, actor, before, order, now_ms)
    return _take_out(connection, actor, site, device, before, order, now_ms)


def _take_out(
    connection: Connection,
    actor: Actor,
    site: str,
    device: str,
    before: OutOfService | None,
    order: TakeOut,
    now_ms: int,
) -> Outcome:
    reason = clean(order.reason.strip())[:MAX_REASON]
    if not reason:
        return Outcome(reason=Reason.REASON_NEEDED, applied=False, out=before)
    if order.until_ms is not None and not now_ms < order.until_ms <= moments.LAST_MS:
        return Outcome(reason=Reason.END_IS_PAST, applied=False, out=before)
    after = OutOfService(
        id=before.id if before else uuid.uuid4().hex,
        site=site,
        device=device,
        from_ms=before.from_ms if before else now_ms,
        until_ms=order.until_ms,
        reason=reason,
        by=actor.name,
    )
    if after == before:
        return Outcome(reason=Reason.OUT_OF_SERVICE, applied=True, out=before)
    if _is_stale(order, before):
        return Outcome(reason=Reason.SERVICE_CHANGED, applied=False, out=before)
    store.save(connection, after)
    detail = {"reason": reason, "until_ms": order.until_ms}
    _audit(connection, actor, "device.out_of_service", after, detail, now_ms)
    changed = _record(connection, after, actor.name, now_ms)
    return Outcome(reason=Reason.OUT_OF_SERVICE, applied=True, out=after, changed=changed)


def _bring_back(
    connection: Connection, actor: Actor, before: OutOfService | None, order: BringBack, now_ms: int
) -> Outcome:
    if before is None:
        return Outcome(reason=Reason.IN_SERVICE, applied=True, out=None)
    if _is_stale(order, before):
        return Outcome(reason=Reason.SERVICE_CHANGED, applied=False, out=before)
    store.end(connection, before, now_ms, by=actor.name)
    _audit(connection, actor, "device.in_service", before, {}, now_ms)
    changed = _call_again(connection, before, actor.name, now_ms)
    return Outcome(reason=Reason.BACK_IN_SERVICE, applied=True, out=None, changed=changed)


def _is_stale(order: Order, before: OutOfService | None) -> bool:
    """It was given about another time out of service than there is now."""
    return order.seen is not None and order.seen != (before.id if before else "")


def over(connection: Connection, now_ms: int) -> tuple[Change, ...]:
    """Brings back what was to be out until now."""
    changed: list[Change] = []
    for out in store.due(connection, now_ms):
        store.lock(connection, out.site, out.device)
        # Somebody may have said otherwise since.
        current = store.of_device(connection, out.site, out.device)
        if current is None or current.until_ms is None or current.until_ms > now_ms:
            continue
        store.end(connection, current, current.until_ms, by="")
        changed += _call_again(connection, current, "", now_ms)
    return tuple(changed)


def _record(connection: Connection, out: OutOfService, actor: str, now_ms: int) -> tuple[Change, ...]:
    """In the history of what is open of that device."""
    reason = Reason.OUT_OF_SERVICE
    found = store.open_tickets(connection, out.site, out.device)
    ticket_rows.record(
        connection,
        [Entry(ticket_id=one, at_ms=now_ms, reason=reason, actor=actor, text=out.reason) for one in found],
    )
    return tuple(Change(ticket_id=one, site=out.site) for one in found)


def _call_again(connection: Connection, out: OutOfService, actor: str, now_ms: int) -> tuple[Change, ...]:
    """What is open of that device, and not known to be over."""
    found = store.open_tickets(connection, out.site, out.device)
    occurrences.lock_conditions(connection, out.site, set(found.values()))
    # As they are now that nobody else decides on them.
    own = [ticket for ticket in ticket_rows.by_id(connection, list(found)) if ticket.closed_ms is None]
    decided = [tickets.back_in_service(ticket, now_ms=now_ms) for ticket in own]
    moved = [after.ticket for before, after in zip(own, decided, strict=True) if after.ticket != before]
    ticket_rows.save(connection, [], moved)
    ticket_rows.record(
        connection,
        [
            Entry(ticket_id=one.ticket.id, at_ms=now_ms, reason=reason, actor=actor)
            for one in decided
            for reason in one.reasons
        ],
    )
    return tuple(Change(ticket_id=one.id, site=out.site) for one in own)


def _audit(
    connection: Connection,
    actor: Actor,
    action: str,
    out: OutOfService,
    detail: Mapping[str, object],
    now_ms: int,
) -> None:
    audit.write(
        connection,
        at_ms=now_ms,
        actor=actor.name,
        action=action,
        subject=out.device,
        site=out.site,
        detail=detail,
    )
