"""Moves changed occurrences into tickets: lock their keys, look at the neighbourhood, decide, store, tell
what changed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from collector import grouping, tickets
from collector.grouping import Chain, Episode, Outline
from collector.store import occurrences, streams, ticket_rows
from collector.store.ticket_rows import Entry
from collector.tickets import FOREVER_MS, RECURS_MS, Condition, Decision, Facts, Policy, Reason, Ticket, Work


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
    # Nothing is stored of it yet.
    new: bool = False

    @property
    def uid(self) -> str:
        uid: str = self.values["uid"]
        return uid

    @property
    def key(self) -> str:
        key: str = self.values["dedupe_key"]
        return key

    @property
    def episode(self) -> Episode:
        values = self.values
        return Episode(
            uid=values["uid"],
            start_ms=values["start_ms"],
            end_ms=values["end_ms"],
            unknown=values["unknown"],
            severity=values["severity"],
            count=values["count"],
            error_ms=values["error_ms"],
            title=values["title"],
            advice=self.advice,
            because=values["because"],
            waits=values["waits"],
        )


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
    looked_at = [*pending, *_explained(connection, site, pending)]
    by_key: dict[str, list[Pending]] = {}
    for one in looked_at:
        by_key.setdefault(one.key, []).append(one)
    occurrences.lock_conditions(connection, site, by_key.keys())
    was = occurrences.tickets_of(connection, [one.uid for one in looked_at if not one.new])
    known = _outlines(connection, by_key, was.values(), policy)
    near = {key: _neighbours(by_key[key], known.get(key, []), was, policy.reopen_window_ms) for key in by_key}
    own = _whole(connection, near, known)
    held, stored = _episodes(connection, [own[one.id] for found in near.values() for one in found])
    own |= _opened_by(connection, pending, stored, known, own)
    places = streams.places(connection, site, {str(one.values["device"]) for one in looked_at})
    members = {key: {episode.uid: episode for episode in held.get(key, [])} for key in by_key}
    for one in pending:
        members[one.key][one.uid] = one.episode
    causes = _causes(connection, site, pending, members.values())

    work = _Work()
    for key in sorted(by_key):
        episodes = [_as_explained(episode, causes) for episode in members[key].values()]
        chains = grouping.chains(episodes, own, policy.reopen_window_ms)
        blank = _blank(by_key[key][0].values, places, now_ms)
        _decide(work, chains, known.get(key, []), own, blank, now_ms, policy)
    _store(connection, site, pending, stored, work)
    touched = {ticket.id for ticket in work.new} | work.changed.keys()
    return tuple(Change(ticket_id=ticket_id, site=site) for ticket_id in sorted(touched))


def _explained(connection: Connection, site: str, pending: Sequence[Pending]) -> list[Pending]:
    """What is stored and says that one of these explains it: it depends on whether that goes on. As it was
    before its key was locked: it tells where to look, and is not what is stored.
    """
    changing = {one.uid for one in pending}
    found = occurrences.explained_by(connection, site, changing)
    return [
        Pending(values=values, advice=streams.clean(str(values["row"].get("advice", ""))))
        for values in found
        if values["uid"] not in changing
    ]


def _causes(
    connection: Connection, site: str, pending: Sequence[Pending], members: Iterable[Mapping[str, Episode]]
) -> set[str]:
    """What goes on and explains one of these, and is explained by nothing itself."""
    named = {one.because for found in members for one in found.values() if one.because is not None}
    changing = {one.uid: one.values for one in pending if one.uid in named}
    here = {uid for uid, values in changing.items() if values["open"] and values["because"] is None}
    return here | occurrences.causes(connection, site, named - changing.keys())


def _as_explained(episode: Episode, causes: Collection[str]) -> Episode:
    """What goes on is explained by what goes on; what is over, by what explained it then."""
    if episode.because is None or episode.end_ms is not None or episode.because in causes:
        return episode
    return episode._replace(because=None)


def _outlines(
    connection: Connection, by_key: Mapping[str, list[Pending]], was: Iterable[str], policy: Policy
) -> dict[str, list[Outline]]:
    """By key: what may have a say in where these belong."""
    reach_ms = max(RECURS_MS, policy.reopen_window_ms)
    earliest_ms = {key: min(one.values["start_ms"] for one in found) for key, found in by_key.items()}
    newest_ms = max(earliest_ms.values())
    # What is old is asked for by itself: else of all the others, too, much of what ever was would be read.
    recent = [key for key in by_key if earliest_ms[key] >= newest_ms - reach_ms]
    old = [key for key in by_key if earliest_ms[key] < newest_ms - reach_ms]
    found: dict[str, Outline] = {}
    for keys in (recent, old):
        since_ms = min((earliest_ms[key] for key in keys), default=0) - reach_ms
        found |= {one.id: one for one in ticket_rows.since(connection, keys, since_ms)}
    found |= {one.id: one for one in ticket_rows.outlines(connection, set(was) - found.keys())}
    grouped: dict[str, list[Outline]] = {}
    for one in found.values():
        grouped.setdefault(one.dedupe_key, []).append(one)
    return grouped


def _neighbours(
    pending: Sequence[Pending], known: Sequence[Outline], was: Mapping[str, str], window_ms: int
) -> list[Outline]:
    """Tickets whose occurrences may be one chain with these."""
    ids = {was[one.uid] for one in pending if one.uid in was}
    spans = [(one.values["start_ms"], _end(one.values["end_ms"])) for one in pending]
    spans += [grouping.span(ticket) for ticket in known if ticket.id in ids]
    near: dict[str, Outline] = {}
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
    return FOREVER_MS if end_ms is None else end_ms


def _whole(
    connection: Connection, near: Mapping[str, list[Outline]], known: Mapping[str, list[Outline]]
) -> dict[str, Ticket]:
    """By id: what is near, and what is open, for only these can change."""
    ids = {one.id for found in near.values() for one in found}
    ids |= {one.id for found in known.values() for one in found if one.closed_ms is None}
    return {ticket.id: ticket for ticket in ticket_rows.by_id(connection, ids)}


def _episodes(
    connection: Connection, near: Sequence[Ticket]
) -> tuple[dict[str, list[Episode]], dict[str, str]]:
    """By key, and the ticket of each as it is stored."""
    advice = {ticket.id: ticket.advice for ticket in near}
    return occurrences.episodes(connection, advice.keys(), advice)


def _opened_by(
    connection: Connection,
    pending: Sequence[Pending],
    stored: Mapping[str, str],
    known: Mapping[str, list[Outline]],
    own: Mapping[str, Ticket],
) -> dict[str, Ticket]:
    """Other tickets that one of these occurrences once opened: it may stand alone again, or go on."""
    uids = stored.keys() | {one.uid for one in pending if not one.new}
    ids = {one.id for found in known.values() for one in found if one.id in uids and one.id not in own}
    found = [*ticket_rows.by_id(connection, ids), *ticket_rows.merged(connection, uids - ids - own.keys())]
    return {ticket.id: ticket for ticket in found}


def _decide(
    work: _Work,
    chains: Sequence[Chain],
    known: Sequence[Outline],
    own: Mapping[str, Ticket],
    blank: Ticket,
    now_ms: int,
    policy: Policy,
) -> None:
    """One key: its chains, oldest first, against all of its tickets that are known."""
    standing = [ticket for ticket in known if ticket.merged_into is None]
    in_chains = {ticket.id for chain in chains for ticket in (chain.ticket, *chain.absorbed) if ticket}
    elsewhere = [ticket for ticket in standing if ticket.id not in in_chains]
    newest_ms = max([chain.start_ms for chain in chains] + [ticket.first_ms for ticket in elsewhere])
    for other in elsewhere:
        if other.closed_ms is None and other.first_ms < newest_ms:
            ticket = own[other.id]
            work.take(ticket, tickets.recurred(ticket, now_ms=now_ms), now_ms)
    for chain in chains:
        said = grouping.facts(chain.episodes)
        latest = chain.start_ms == newest_ms
        ticket_id = _one_chain(work, chain, said, standing, blank, latest, now_ms, policy)
        work.ticket_of |= {episode.uid: ticket_id for episode in chain.episodes}
        for absorbed in chain.absorbed:
            work.take(absorbed, tickets.absorbed(absorbed, ticket_id, now_ms=now_ms), now_ms)


def _one_chain(
    work: _Work,
    chain: Chain,
    said: Facts,
    standing: Sequence[Outline],
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
    ticket = blank._replace(id=chain.new_id, recurs_of=before.id if before else None)
    work.take(None, tickets.opened(ticket, said, latest=latest, now_ms=now_ms), now_ms)
    return ticket.id


def _before(chain: Chain, standing: Sequence[Outline]) -> Outline | None:
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


def _store(
    connection: Connection, site: str, pending: Sequence[Pending], stored: Mapping[str, str], work: _Work
) -> None:
    ticket_rows.save(connection, _numbered(connection, site, work.new), list(work.changed.values()))
    occurrences.save(connection, [(one.values, work.ticket_of[one.uid]) for one in pending])
    fresh = {one.uid for one in pending}
    moved = [
        (uid, work.ticket_of[uid])
        for uid, ticket_id in stored.items()
        if uid not in fresh and work.ticket_of[uid] != ticket_id
    ]
    occurrences.move(connection, moved)
    ticket_rows.record(connection, work.entries)


def _numbered(connection: Connection, site: str, new: Sequence[Ticket]) -> list[tuple[int, Ticket]]:
    if not new:
        return []
    first = ticket_rows.next_numbers(connection, site, len(new))
    return list(enumerate(sorted(new, key=lambda ticket: (ticket.first_ms, ticket.id)), first))


def _entry(ticket: Ticket, reason: Reason, now_ms: int) -> Entry:
    occurred_ms = ticket.period_ms
    if reason in (Reason.CLEARED, Reason.RESOLVED_BY_ITSELF) and ticket.last_ms is not None:
        occurred_ms = ticket.last_ms
    return Entry(
        ticket_id=ticket.id, at_ms=now_ms, reason=reason, detail={"occurred_ms": min(occurred_ms, now_ms)}
    )
