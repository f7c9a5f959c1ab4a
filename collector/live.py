"""Fans ticket changes out to the open pages of this process, whichever collector they came from.

Each subscriber has a bounded queue. One that does not keep up loses its queue and gets a single
``reload`` instead: a page that reloads what it shows is right again, whatever it missed. One person has
a part of the room; a page too many takes the place of the oldest, which is the likeliest to be a link that
died without a word.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from collector.tickets import may_see

QUEUE_LENGTH = 64
PAGES_OF_ONE = 20


class Word(StrEnum):
    """What a page is told."""

    CHANGE = "change"
    RELOAD = "reload"


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    word: Word
    ticket: str = ""
    site: str = ""


@dataclass(slots=True, kw_only=True, eq=False)
class Subscriber:
    """One open page; sees only its sites."""

    who: str
    sites: frozenset[str]
    waiting: deque[News] = field(default_factory=deque)
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    closed: bool = False

    def sees(self, site: str) -> bool:
        return may_see(self.sites, site)

    async def next(self, timeout_s: float) -> News | None:
        """The next news; ``None`` after the timeout or when closed."""
        if not self.waiting and not self.closed:
            self.woken.clear()
            try:
                await asyncio.wait_for(self.woken.wait(), timeout_s)
            except TimeoutError:
                return None
        return self.waiting.popleft() if self.waiting else None


class Live:
    """Lives on one event loop; ``publish`` never waits for anybody."""

    def __init__(self, *, limit: int) -> None:
        self.limit = limit
        self.closed = False
        # The oldest first.
        self._subscribers: dict[Subscriber, None] = {}

    def __len__(self) -> int:
        return len(self._subscribers)

    @property
    def full(self) -> bool:
        """Nobody more can listen: the limit is reached, or the collector is stopping."""
        return self.closed or len(self._subscribers) >= self.limit

    def subscribe(self, who: str, sites: Iterable[str]) -> Subscriber | None:
        """``None`` when it is full. The oldest page of a person who has too many is closed."""
        if self.full:
            return None
        own = [subscriber for subscriber in self._subscribers if subscriber.who == who]
        if len(own) >= PAGES_OF_ONE:
            self.leave(own[0])
            _close(own[0])
        subscriber = Subscriber(who=who, sites=frozenset(sites))
        self._subscribers[subscriber] = None
        return subscriber

    def leave(self, subscriber: Subscriber) -> None:
        self._subscribers.pop(subscriber, None)

    def publish(self, changes: Iterable[tuple[str, str]]) -> None:
        """``changes`` are (ticket id, site); several of one ticket in one call are one."""
        for ticket, site in dict.fromkeys(changes):
            for subscriber in self._subscribers:
                if subscriber.sees(site):
                    _hand(subscriber, News(word=Word.CHANGE, ticket=ticket, site=site))

    def reload(self, site: str | None = None) -> None:
        """Something of this site has changed, or of any: what, is not known here."""
        for subscriber in self._subscribers:
            if site is None or subscriber.sees(site):
                _reload(subscriber)

    def close(self) -> None:
        """Every stream ends at once, so that stopping does not wait for open pages."""
        self.closed = True
        for subscriber in self._subscribers:
            _close(subscriber)


def _close(subscriber: Subscriber) -> None:
    subscriber.closed = True
    subscriber.woken.set()


def _hand(subscriber: Subscriber, news: News) -> None:
    if any(old.word is Word.RELOAD for old in subscriber.waiting):
        return
    if len(subscriber.waiting) >= QUEUE_LENGTH:
        _reload(subscriber)
        return
    subscriber.waiting.append(news)
    subscriber.woken.set()


def _reload(subscriber: Subscriber) -> None:
    """Stands for everything that waits."""
    subscriber.waiting.clear()
    subscriber.waiting.append(News(word=Word.RELOAD))
    subscriber.woken.set()
