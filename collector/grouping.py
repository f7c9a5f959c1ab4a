"""Decides which occurrences of one dedupe key belong to one ticket, and what they say together.

A ticket is a *chain*: occurrences whose gaps are no longer than the reopen window, by occurred-at. Work that
people have in hand bridges a longer gap: from the first occurrence until they resolved it, the fault that
returns is theirs, and so is one of a ticket that they reopened. Chains are worked out anew from the whole
neighbourhood whenever something in it changes, so they are the same in any order of arrival. A chain keeps
the ticket of one of its occurrences (a ticket's id is the uid that opened it): the one that is open, else the
oldest. A closed ticket is never opened again: when a chain of closed tickets goes on, it gets a new one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from collector.tickets import FOREVER_MS, Condition, Facts, Ticket, Work
from edge_agent.wire import MAX_INT


class Episode(NamedTuple):
    """What grouping needs to know of an occurrence."""

    uid: str
    start_ms: int
    # None while it is open.
    end_ms: int | None
    unknown: bool
    severity: int
    count: int  # type: ignore[assignment]  # the word of the wire; nobody counts in this tuple
    error_ms: int
    title: str
    advice: str
    # The uid of what explains it, or, closed, what explained it to its end; that it may be explained yet.
    because: str | None = None
    waits: bool = False

    @property
    def is_hidden(self) -> bool:
        """Of a gateway that is silent nobody knows what it waits for."""
        return self.because is not None or (self.waits and not self.unknown)


class Outline(NamedTuple):
    """A ticket as far as its place in time goes: most of those that are looked at are not changed."""

    id: str
    dedupe_key: str
    first_ms: int
    last_ms: int | None
    closed_ms: int | None
    work: str
    worked_until_ms: int | None
    merged_into: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    episodes: tuple[Episode, ...]
    # The ticket that it keeps; None when it needs a new one, whose id is then `new_id`.
    ticket: Ticket | None
    new_id: str
    # Other tickets of its occurrences, which are one with this from now on.
    absorbed: tuple[Ticket, ...]

    @property
    def start_ms(self) -> int:
        return self.episodes[0].start_ms


def held_until_ms(ticket: Ticket | Outline) -> int | None:
    """Until when people had, or have, the work in hand."""
    if ticket.closed_ms is None and ticket.work in (Work.IN_PROGRESS, Work.ON_HOLD):
        return FOREVER_MS
    return ticket.worked_until_ms


def span(ticket: Ticket | Outline) -> tuple[int, int]:
    """From its first occurrence to its end, or to when people let go of it."""
    last_ms = FOREVER_MS if ticket.last_ms is None else ticket.last_ms
    return ticket.first_ms, max(last_ms, held_until_ms(ticket) or 0)


def chains(episodes: Iterable[Episode], tickets: Mapping[str, Ticket], window_ms: int) -> list[Chain]:
    """Oldest first. Among ``tickets`` are all whose id is the uid of one of these episodes."""
    ordered = sorted(episodes, key=lambda episode: (episode.start_ms, episode.uid))
    found: list[list[Episode]] = []
    reach_ms = 0
    for episode in ordered:
        if not found or episode.start_ms > reach_ms + window_ms:
            found.append([])
            reach_ms = episode.start_ms
        found[-1].append(episode)
        reach_ms = max(reach_ms, FOREVER_MS if episode.end_ms is None else episode.end_ms)
        if (ticket := tickets.get(episode.uid)) is not None:
            reach_ms = max(reach_ms, held_until_ms(ticket) or 0)
    return [_chain(tuple(members), tickets) for members in found]


def facts(episodes: Sequence[Episode]) -> Facts:
    """At least one episode, oldest first."""
    periods: list[list[Episode]] = []
    reach_ms = -1
    for episode in episodes:
        if not periods or episode.start_ms > reach_ms:
            periods.append([])
        periods[-1].append(episode)
        reach_ms = max(reach_ms, FOREVER_MS if episode.end_ms is None else episode.end_ms)
    open_ones = [episode for episode in episodes if episode.end_ms is None]
    if not open_ones:
        condition = Condition.CLEARED
    elif all(episode.unknown for episode in open_ones):
        condition = Condition.UNKNOWN
    else:
        condition = Condition.ACTIVE
    newest = episodes[-1]
    counts = open_ones or periods[-1]
    hidden = all(episode.is_hidden for episode in counts)
    causes = [episode.because for episode in counts if episode.because is not None]
    return Facts(
        condition=condition,
        severity=max(episode.severity for episode in open_ones or periods[-1]),
        first_ms=episodes[0].start_ms,
        last_ms=None if open_ones else reach_ms,
        period_ms=periods[-1][0].start_ms,
        returns=len(periods) - 1,
        # Each may be the most that a database keeps; more than that is as many as that.
        count=min(MAX_INT, sum(episode.count for episode in episodes)),
        error_ms=episodes[0].error_ms,
        title=newest.title,
        advice=newest.advice,
        because=causes[-1] if hidden and causes else None,
        waits=hidden and not causes,
    )


def _chain(episodes: tuple[Episode, ...], tickets: Mapping[str, Ticket]) -> Chain:
    own = [tickets[episode.uid] for episode in episodes if episode.uid in tickets]
    kept = min(own, key=_preference, default=None)
    goes_on = any(episode.end_ms is None for episode in episodes)
    if kept is not None and goes_on and kept.closed_ms is not None and kept.merged_into is None:
        kept = None
    fresh = [episode for episode in episodes if episode.uid not in tickets]
    if kept is None and not fresh:
        # Only when a part of a ticket that was one with another stands alone again: it gets back its own.
        kept = max(own, key=_preference)
    new_id = ""
    if kept is None:
        first_open = next((episode for episode in fresh if goes_on and episode.end_ms is None), fresh[0])
        new_id = first_open.uid
    absorbed = tuple(ticket for ticket in own if ticket is not kept and ticket.merged_into is None)
    return Chain(episodes=episodes, ticket=kept, new_id=new_id, absorbed=absorbed)


def _preference(ticket: Ticket) -> tuple[bool, bool, int]:
    return (ticket.closed_ms is not None, ticket.merged_into is not None, ticket.number)
