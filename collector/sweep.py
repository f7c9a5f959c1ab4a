"""The hand of the clock: gateways that fell silent or were revoked, resolved tickets that stayed quiet or are
reported still, dates that are yet to be set right, devices whose time out of service is over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import Connection

from collector import clones, out_of_service, redating
from collector.exchange import GatewayIdentity
from collector.folding import Change, Pending, fold
from collector.minted import AHEAD_MS, NOT_WATCHED, REVOKED, SILENT_MS, ended_here, over, silence
from collector.store import dates_due, moment, occurrences, streams, ticket_rows
from collector.store.streams import clean
from collector.store.ticket_rows import Entry
from collector.tickets import RECURS_MS, Policy, quiet, still_reported

# Gateways called silent, tickets closed and tickets that call again in one sweep: syncs of their site wait
# meanwhile. The next sweep follows at once.
MAX_SILENCED = 50
MAX_CLOSED = 200
MAX_CALLED = 200

# What becomes of the occurrences of a gateway, which is locked, now.
Work = Callable[[Connection, GatewayIdentity, int], list[Pending]]

__all__ = ["SILENT_MS", "Change", "sweep"]


def sweep(
    connection: Connection,
    now_ms: int,
    *,
    started_ms: int = 0,
    policy: Policy = Policy(),  # noqa: B008  frozen
) -> tuple[Change, ...]:
    """To be called every second, by every collector: one of them acts, the others have nothing to do.

    ``started_ms`` is since when, without a break, gateways could be heard: nobody was silent before.
    """
    if not moment.claim_timers(connection):
        return ()
    silent, before_ms = [], now_ms - SILENT_MS
    if started_ms < before_ms:
        silent = _named(streams.fallen_silent(connection, before_ms=before_ms, limit=MAX_SILENCED))
    alone = _named(streams.cloned(connection, quiet_since_ms=now_ms - clones.QUIET_MS))
    revoked = _named(streams.revoked_but_open(connection))
    undated = _named([one] if (one := dates_due.whose(connection)) else [])
    ahead = streams.ahead(connection, of_ms=now_ms + AHEAD_MS)
    if found := {*ahead, *(gateway.id for gateway in (*silent, *alone, *revoked, *undated))}:
        # All before the first ticket, as messages do: else one that speaks now waits for the sweep, and the
        # sweep for it.
        streams.lock_gateways(connection, found)
    if ahead:
        streams.pull_back(connection, ahead, of_ms=now_ms + AHEAD_MS, now_ms=now_ms)
    changed: list[Change] = []
    by_site = _pending(connection, now_ms, silent, alone, revoked, undated)
    for site, pending in by_site.items():
        changed += fold(connection, site, pending, now_ms, policy)
    # Each else in the next sweep: keys are locked site by site and in one order, by messages too.
    if not any(by_site.values()):
        changed += _by_time(connection, now_ms, policy)
        if not changed:
            changed += out_of_service.over(connection, now_ms)
    return tuple(dict.fromkeys(changed))


def _pending(
    connection: Connection,
    now_ms: int,
    silent: Iterable[GatewayIdentity],
    alone: Iterable[GatewayIdentity],
    revoked: Iterable[GatewayIdentity],
    undated: Iterable[GatewayIdentity],
) -> dict[str, list[Pending]]:
    """By site, in the order in which messages take sites. Of a gateway one thing at a time: two might change
    the same occurrence.
    """
    works: tuple[tuple[Iterable[GatewayIdentity], Work], ...] = (
        (silent, _silent),
        (alone, clones.over),
        (revoked, _revoked),
        (undated, _dated),
    )
    todo: dict[str, tuple[GatewayIdentity, Work]] = {}
    for gateways, work in works:
        for gateway in gateways:
            todo.setdefault(gateway.id, (gateway, work))
    found: dict[str, list[Pending]] = {}
    for gateway, work in todo.values():
        found.setdefault(gateway.site, []).extend(work(connection, gateway, now_ms))
    return dict(sorted(found.items()))


def _named(found: Iterable[tuple[str, str, str]]) -> list[GatewayIdentity]:
    return [GatewayIdentity(id=gateway_id, site=site, name=name) for gateway_id, site, name in found]


def _silent(connection: Connection, gateway: GatewayIdentity, now_ms: int) -> list[Pending]:
    """One ticket for the gateway; what it told to be broken is unknown from now on."""
    state = streams.lock_gateway(connection, gateway.id)
    since_ms = state.last_contact_ms
    if since_ms is None or state.silent_ms is not None or since_ms >= now_ms - SILENT_MS:
        # It spoke, or another collector was quicker, between the question and the lock.
        return []
    streams.save_gateway(connection, gateway.id, silent_ms=since_ms)
    pending = [silence(gateway, since_ms, now_ms)]
    for values in _open(connection, gateway):
        # What has not been read again since an earlier silence is unknown since that one.
        if not values["unknown"]:
            advice = clean(str(values["row"].get("advice", "")))
            lost = values | {"unknown": True, "unknown_ms": since_ms}
            pending.append(Pending(values=lost, advice=advice))
    if occurrences.held(connection, [pending[0].uid]):
        # A restored backup, or the same silence again: it has been told.
        del pending[0]
    return pending


def _revoked(connection: Connection, gateway: GatewayIdentity, now_ms: int) -> list[Pending]:
    """Somebody decided that it is to be heard no more: what it told is watched by nobody, and ends."""
    streams.lock_gateway(connection, gateway.id)
    pending = [
        ended_here(values, NOT_WATCHED, now_ms, since_ms=now_ms) for values in _open(connection, gateway)
    ]
    made_here = occurrences.whole(connection, occurrences.open_here_of(connection, gateway.id))
    pending += [over(values, REVOKED, now_ms) for values in made_here.values()]
    streams.save_gateway(
        connection,
        gateway.id,
        silent_ms=None,
        clock_ms=None,
        clock_told=False,
        cloned_ms=None,
        switches=None,
        switched_ms=None,
    )
    return pending


def _dated(connection: Connection, gateway: GatewayIdentity, _now_ms: int) -> list[Pending]:
    state = streams.lock_gateway(connection, gateway.id)
    stretch = dates_due.of(connection, gateway.id)
    if stretch is None:
        return []
    return redating.go_on(connection, gateway, stretch, floor_ms=state.created_ms)


def _open(connection: Connection, gateway: GatewayIdentity) -> list[dict[str, Any]]:
    """All that it told to be open; all columns of each."""
    told = occurrences.open_of(connection, [gateway.id])[gateway.id]
    return list(occurrences.whole(connection, told).values())


def _by_time(connection: Connection, now_ms: int, policy: Policy) -> list[Change]:
    """What time alone does to tickets."""
    ended = ticket_rows.quiet_since(
        connection,
        quiet_ms=now_ms - policy.quiet_ms,
        window_ms=policy.reopen_window_ms,
        given_up_ms=now_ms - RECURS_MS,
        limit=MAX_CLOSED,
    )
    overridden = ticket_rows.overridden_since(connection, now_ms - policy.realarm_ms, limit=MAX_CALLED)
    due = [(one, quiet) for one in ended] + [(one, still_reported) for one in overridden]
    changed = []
    # In the order in which messages lock them.
    for candidate, decide in sorted(due, key=lambda one: (one[0].site, one[0].dedupe_key)):
        occurrences.lock_conditions(connection, candidate.site, [candidate.dedupe_key])
        ticket = ticket_rows.load(connection, candidate.id)
        if ticket is None:
            continue
        decision = decide(ticket, now_ms=now_ms, policy=policy)
        if decision.ticket != ticket:
            ticket_rows.save(connection, [], [decision.ticket])
            entries = [Entry(ticket_id=ticket.id, at_ms=now_ms, reason=reason) for reason in decision.reasons]
            ticket_rows.record(connection, entries)
            changed.append(Change(ticket_id=ticket.id, site=ticket.site))
    return changed
