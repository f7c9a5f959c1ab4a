"""Moves changed occurrences into tickets: lock their keys, look at the neighbourhood, decide, store, tell
what changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection

from collector import grouping, tickets
from collector.grouping import Chain, Episode
from collector.store import occurrences, streams, ticket_rows
from collector.store.ticket_rows import Entry
from collector.tickets import RECURS_MS, Condition, Decision, Facts, Policy, Reason, Ticket, Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A ticket that changed; tell those who look at this site."""

    ticket_id: str
    site: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """One occurrence as it is to be stored: all columns of its table but ``ticket_id``, and its advice."""

    values: Mapping[str, Any]
    advice: str

    @property
    def uid(self) -> str:
        return str(self.values["uid"])

    @property
    def key(self) -> str:
        return str(self.values["dedupe_key"])

    @property
    def episode(self) -> Episode:
        names = ("uid", "start_ms", "end_ms", "unknown", "severity", "count", "error_ms", "title")
        return Episode(advice=self.advice, **{name: self.values[name] for name in names})


@dataclass(slots=True, kw_only=True)
class _Work:
    """What one fold is going to store."""

    new: list[Ticket] = field(default_factory=list)
    changed: dict[str, Ticket] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    ticket_of: dict[str, str] = field(default_factory=dict)

    def take(self, before: Ticket | None, decision: Decision, now_ms: int) -> None:
        after = decision.ticket
        if before is None:
            self.new.append(after)
        elif after != before:
            self.changed[after.id] = after
        self.entries += [_entry(after, reason, now_ms) for reason in decision.reasons]


def fold(
    connection: Connection, site: str, pending: Sequence[Pending], now_ms: int, policy: Policy
) -> tuple[Change, ...]:
    """Stores ``pending``, all of one site, and brings the tickets of their keys up to date."""
    if not pending:
        return ()
    by_key: dict[str, list[Pending]] = {}
    for one in pending:
        by_key.setdefault(one.key, []).append(one)
    occurrences.lock_conditions(connection, site, by_key.keys())
    was = occurrences.tickets_of(connection, [one.uid for one in pending])
    known = _tickets_near(connection, by_key, was.values(), policy)
    near = {key: _neighbours(by_key[key], known.get(key, []), was, policy.reopen_window_ms) for key in by_key}
    held = _episodes(connection, [ticket for found in near.values() for ticket in found])
    absorbed = _absorbed_before(connection, held)
    places = streams.places(connection, site, {str(one.values["device"]) for one in pending})

    work = _Work()
    for key in sorted(by_key):
        members = {episode.uid: episode for episode in held.get(key, [])}
        members |= {one.uid: one.episode for one in by_key[key]}
        own = {ticket.id: ticket for ticket in [*absorbed, *known.get(key, [])]}
        chains = grouping.chains(members.values(), own, policy.reopen_window_ms)
        blank = _blank(by_key[key][0].values, places, now_ms)
        _decide(work, chains, list(own.values()), blank, now_ms, policy)
    _number(connection, site, work)
    _store(connection, pending, held, work)
    touched = {ticket.id for ticket in work.new} | work.changed.keys()
    return tuple(Change(ticket_id=ticket_id, site=site) for ticket_id in sorted(touched))


def _tickets_near(
    connection: Connection, by_key: Mapping[str, list[Pending]], was: Any, policy: Policy
) -> dict[str, list[Ticket]]:
    earliest_ms = min(one.values["start_ms"] for found in by_key.values() for one in found)
    reach_ms = max(RECURS_MS, policy.reopen_window_ms)
    found = {ticket.id: ticket for ticket in ticket_rows.since(connection, by_key, earliest_ms - reach_ms)}
    missing = set(was) - found.keys()
    found |= {ticket.id: ticket for ticket in ticket_rows.by_id(connection, missing)}
    grouped: dict[str, list[Ticket]] = {}
    for ticket in found.values():
        grouped.setdefault(ticket.dedupe_key, []).append(ticket)
    return grouped


def _neighbours(
    pending: Sequence[Pending], known: Sequence[Ticket], was: Mapping[str, str], window_ms: int
) -> list[Ticket]:
    """Tickets whose occurrences may be one chain with these."""
    ids = {was[one.uid] for one in pending if one.uid in was}
    spans = [(one.values["start_ms"], _end(one.values["end_ms"])) for one in pending]
    spans += [grouping.span(ticket) for ticket in known if ticket.id in ids]
    near: dict[str, Ticket] = {}
    while True:
        found = {
            ticket.id: ticket
            for ticket in known
            if ticket.id not in near
            and ticket.merged_into is None
            and (ticket.id in ids or _touches(grouping.span(ticket), spans, window_ms))
        }
        if not found:
            return list(near.values())
        near |= found
        spans += [grouping.span(ticket) for ticket in found.values()]


def _touches(span: tuple[int, int], spans: Sequence[tuple[int, int]], window_ms: int) -> bool:
    start_ms, end_ms = span
    return any(start_ms <= end + window_ms and start <= end_ms + window_ms for start, end in spans)


def _end(end_ms: int | None) -> int:
    return grouping.FOREVER_MS if end_ms is None else end_ms


def _episodes(connection: Connection, near: Sequence[Ticket]) -> dict[str, list[Episode]]:
    advice = {ticket.id: ticket.advice for ticket in near}
    return occurrences.episodes(connection, advice.keys(), advice)


def _absorbed_before(connection: Connection, held: Mapping[str, list[Episode]]) -> list[Ticket]:
    """Tickets that once were merged away, of occurrences that may stand alone again."""
    uids = [episode.uid for found in held.values() if len(found) > 1 for episode in found]
    return [ticket for ticket in ticket_rows.by_id(connection, uids) if ticket.merged_into is not None]


def _decide(
    work: _Work, chains: Sequence[Chain], known: Sequence[Ticket], blank: Ticket, now_ms: int, policy: Policy
) -> None:
    """One key: its chains, oldest first, against all of its tickets that are known."""
    standing = [ticket for ticket in known if ticket.merged_into is None]
    in_chains = {ticket.id for chain in chains for ticket in (chain.ticket, *chain.absorbed) if ticket}
    elsewhere = [ticket for ticket in standing if ticket.id not in in_chains]
    newest_ms = max([chain.start_ms for chain in chains] + [ticket.first_ms for ticket in elsewhere])
    for ticket in elsewhere:
        if ticket.closed_ms is None and ticket.first_ms < newest_ms:
            work.take(ticket, tickets.recurred(ticket, now_ms=now_ms), now_ms)
    for chain in chains:
        said = grouping.facts(chain.episodes)
        latest = chain.start_ms == newest_ms
        ticket_id = _one_chain(work, chain, said, standing, blank, latest, now_ms, policy)
        work.ticket_of |= {episode.uid: ticket_id for episode in chain.episodes}
        for other in chain.absorbed:
            work.take(other, tickets.absorbed(other, ticket_id, now_ms=now_ms), now_ms)


def _one_chain(
    work: _Work,
    chain: Chain,
    said: Facts,
    standing: Sequence[Ticket],
    blank: Ticket,
    latest: bool,
    now_ms: int,
    policy: Policy,
) -> str:
    if chain.ticket is not None:
        decision = tickets.follow(chain.ticket, said, latest=latest, now_ms=now_ms, policy=policy)
        work.take(chain.ticket, decision, now_ms)
        return chain.ticket.id
    before = _before(chain, standing)
    ticket = replace(blank, id=chain.new_id, recurs_of=before.id if before else None)
    work.take(None, tickets.opened(ticket, said, latest=latest, now_ms=now_ms), now_ms)
    return ticket.id


def _before(chain: Chain, standing: Sequence[Ticket]) -> Ticket | None:
    """The ticket of this key that ended last before this chain began, if that was not long ago."""
    gone = {ticket.id for ticket in chain.absorbed}
    ended = [
        ticket
        for ticket in standing
        if ticket.id not in gone
        and ticket.last_ms is not None
        and chain.start_ms - RECURS_MS <= ticket.last_ms < chain.start_ms
    ]
    return max(ended, key=lambda ticket: (ticket.first_ms, ticket.id), default=None)


def _blank(values: Mapping[str, Any], places: Mapping[str, str], now_ms: int) -> Ticket:
    """Names of a ticket to be; everything else is told by its facts."""
    device = str(values["device"])
    return Ticket(
        id="",
        number=0,
        site=values["site"],
        dedupe_key=values["dedupe_key"],
        device=device,
        place=places.get(device, ""),
        component=values["component"],
        fault=values["fault"],
        title="",
        advice="",
        severity=0,
        condition=Condition.CLEARED,
        work=Work.NEW,
        first_ms=0,
        last_ms=None,
        period_ms=0,
        error_ms=0,
        returns=0,
        count=0,
        received_ms=now_ms,
    )


def _number(connection: Connection, site: str, work: _Work) -> None:
    if work.new:
        first = ticket_rows.next_numbers(connection, site, len(work.new))
        in_order = sorted(work.new, key=lambda ticket: (ticket.first_ms, ticket.id))
        work.new = [replace(ticket, number=first + place) for place, ticket in enumerate(in_order)]


def _store(
    connection: Connection, pending: Sequence[Pending], held: Mapping[str, list[Episode]], work: _Work
) -> None:
    ticket_rows.save(connection, work.new, list(work.changed.values()))
    occurrences.save(connection, [{**one.values, "ticket_id": work.ticket_of[one.uid]} for one in pending])
    fresh = {one.uid for one in pending}
    others = [episode.uid for found in held.values() for episode in found if episode.uid not in fresh]
    stored = occurrences.tickets_of(connection, others) if others else {}
    occurrences.move(
        connection,
        [(uid, work.ticket_of[uid]) for uid in others if stored[uid] != work.ticket_of[uid]],
    )
    ticket_rows.record(connection, work.entries)


def _entry(ticket: Ticket, reason: Reason, now_ms: int) -> Entry:
    occurred_ms = ticket.period_ms
    if reason in (Reason.CLEARED, Reason.RESOLVED_BY_ITSELF) and ticket.last_ms is not None:
        occurred_ms = ticket.last_ms
    return Entry(
        ticket_id=ticket.id, at_ms=now_ms, reason=reason, detail={"occurred_ms": min(occurred_ms, now_ms)}
    )
