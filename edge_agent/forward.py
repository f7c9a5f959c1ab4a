"""Moves what the journal holds to the collector, for ever, and the cursor to where the collector stands.

The journal is the queue. One request at a time carries the oldest rows that the collector lacks; a boundary
is durable before it is announced, and the answer alone moves the cursor, forwards or backwards. Until an
answer comes the same boundary is announced again, so that a lost reply costs nothing. While the history is
long the present goes ahead of it (``lanes``), and goes on while the collector has no time for history.
Nothing is ever dropped: whatever the collector says, the rows stay where they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Never, Protocol

import structlog

from edge_agent.backoff import Backoff, Dice
from edge_agent.journal import FEW_ROWS, Batch, Journal, Moved, Present
from edge_agent.lanes import Lanes
from edge_agent.wire import (
    MAX_ROWS,
    SOFT_BODY_BYTES,
    VERSION,
    Head,
    Health,
    Inventory,
    Lane,
    Stamp,
    SyncAnswer,
    SyncRequest,
    Verdict,
    WireError,
    decode_answer,
    encode,
)

NS_PER_S = 1_000_000_000
# So that rows of one moment travel together.
COALESCE_S = 0.05
# +-20 %: agents that were started together do not stay together.
JITTER = 0.2
# A refusal that only a person can end.
REFUSED_S = 60.0
# A gateway that is always told to begin anew is one of two with the same disk: it may do so once a minute.
NEW_STREAM_EVERY_S = 60.0
MAX_RETRY_AFTER_S = 3600.0
# Who reaches nobody costs nobody anything, and may try often: when the link is up again the first attempt
# comes within U(0, 30 s), and a fleet is spread over that.
UNREACHED_CAP_S = 30.0
# How soon the present is told again while the history waits, until the collector has said how soon.
BEAT_S = 15.0

OK, BAD_REQUEST, UNAUTHORISED, FORBIDDEN, TOO_LARGE, TOO_MANY, UNAVAILABLE = 200, 400, 401, 403, 413, 429, 503

log = structlog.get_logger()


class CollectorAwayError(Exception):
    """There was no reply; the text tells a technician why. ``reached``: somebody was there."""

    def __init__(self, why: str, *, reached: bool = True) -> None:
        super().__init__(why)
        self.reached = reached


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    status: int
    body: bytes = b""
    retry_after_s: float | None = None


# One sync to the collector and its reply back. Raises CollectorAwayError.
Post = Callable[[bytes], Awaitable[Reply]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """How long to wait before the next exchange, and whether new rows end the wait."""

    seconds: float
    until_rows: bool = False
    # There is nothing else to tell.
    idle: bool = False


class Aside(Protocol):
    """What may be told while there is nothing else to tell."""

    async def run(self) -> Never:
        """Until it is cancelled, which it may be at any moment."""

    async def send_again(self) -> None:
        """The collector holds less than it did."""

    def asked_again(self) -> None:
        """The collector was away: it may have been brought up to date."""


class Forwarder:
    """One per agent. ``exchange`` is one request and what follows from its answer; ``run`` repeats it."""

    def __init__(
        self,
        journal: Journal,
        post: Post,
        *,
        inventory: Inventory,
        unsettled: Callable[[], list[str]],
        health: Callable[[], Health],
        on_closed_here: Callable[[Collection[str]], Awaitable[None]],
        stamp: Callable[[], Stamp],
        random: Dice,
        max_rows: int = MAX_ROWS,
        aside: Aside | None = None,
    ) -> None:
        self._journal = journal
        self._aside = aside
        self._post = post
        self._inventory = inventory
        self._unsettled = unsettled
        self._health = health
        self._on_closed_here = on_closed_here
        self._stamp = stamp
        self._random = random
        self._backoff = Backoff(random=random)
        self._unreached = Backoff(random=random, cap_s=UNREACHED_CAP_S)
        self._at_most_rows = self._max_rows = max_rows
        self._inventory_wanted = False
        self._lanes = Lanes()
        self._told_of_lane = False
        # The collector has no time for history before this moment.
        self._history_from_ns = 0
        self._beat_s = BEAT_S
        # Position of the boundary that was announced and not yet answered.
        self._announced: int | None = None
        self._renewed_ns: int | None = None
        # Why there are no answers, told once; empty while there are.
        self._trouble = ""
        self._away_since: Stamp | None = None
        # As of the last exchange, for people.
        self.rows_waiting = 0

    @property
    def collector_away(self) -> bool:
        return self._away_since is not None

    async def run(self) -> None:
        while True:
            await self._rest(await self.exchange())

    async def exchange(self) -> Rest:
        self._journal.changed.clear()
        # Before the batch: a condition that settles in between is told as unsettled once too often, never too
        # rarely.
        unsettled = self._unsettled()
        batch = await self._journal.batch(
            max_rows=self._max_rows, max_bytes=self._max_bytes, through=self._announced
        )
        present = await self._ahead(batch)
        is_history = batch.crowded and present is None
        if present is None:
            self._announced = batch.to[0]
        self.rows_waiting = batch.waiting
        try:
            reply = await self._post(encode(self._message(batch, present, unsettled)))
        except CollectorAwayError as away:
            return self._missed(str(away), reached=away.reached)
        if reply.status == BAD_REQUEST and present is not None:
            return self._history_alone()
        if reply.status != OK:
            return self._refused(reply, is_history=is_history)
        try:
            answer = decode_answer(reply.body)
        except WireError as error:
            return self._missed(f"its answer cannot be understood: {error}")
        return await self._take(answer, batch, present)

    @property
    def _max_bytes(self) -> int:
        return max(1, SOFT_BODY_BYTES * self._max_rows // MAX_ROWS)

    async def _ahead(self, batch: Batch) -> Present | None:
        """The open rows that go ahead of this batch, if it is their turn and there are any."""
        paused = self._history_pause_s() > 0
        after = self._lanes.present_after(crowded=batch.crowded, paused=paused, held_through=batch.from_[0])
        if after is None:
            return None
        present = await self._journal.present(
            after=after, max_rows=min(self._max_rows, FEW_ROWS), max_bytes=self._max_bytes
        )
        # Without rows it is a heartbeat.
        return present if present.rows or paused else None

    def _message(self, batch: Batch, present: Present | None, unsettled: list[str]) -> SyncRequest:
        told = batch if present is None else present
        head = Head(
            seq=told.head_seq,
            open=told.open_uids,
            unsettled=sorted(unsettled),
            inventory_hash=self._inventory.hash,
        )
        return SyncRequest(
            v=VERSION,
            lane=Lane.FEED if present is None else Lane.PRESENT,
            stream=batch.stream,
            from_=batch.from_,
            to=batch.to if present is None else batch.from_,
            lineage=batch.lineage if present is None else [batch.from_],
            rows=told.rows,
            pruned_through=batch.pruned_through,
            lost=batch.lost or None,
            losses=batch.losses or None,
            clock=self._stamp(),
            health=self._health().model_copy(update={"rows_waiting": batch.waiting}),
            head=head if batch.at_head or present is not None else None,
            inventory=self._inventory if self._inventory_wanted else None,
        )

    async def _take(self, answer: SyncAnswer, batch: Batch, present: Present | None) -> Rest:
        renewal_s = self._renewal_s()
        moved = await self._journal.take_answer(answer, may_renew=renewal_s <= 0)
        if moved is Moved.IGNORED:
            return self._missed("its answer is about another stream")
        if present is None or moved is not Moved.STAYED:
            self._announced = None
        self._answered(answer, moved, present)
        if self._aside is not None and moved in (Moved.BACKWARDS, Moved.NEW_STREAM):
            await self._aside.send_again()
        # Whoever has it and wants it again gets it, but not in a hurry.
        in_vain, self._inventory_wanted = self._inventory_wanted, answer.want_inventory
        self._max_rows = min(self._at_most_rows, self._max_rows * 2)
        self._returned(batch)
        if answer.closed_here:
            await self._on_closed_here(frozenset(answer.closed_here))
        if moved is Moved.NEW_STREAM:
            self._renewed_ns = self._stamp().mono_ns
            log.warning("the collector knows another history; all is sent again", verdict=answer.verdict)
            return Rest(seconds=0.0)
        if moved is Moved.NEW_STREAM_LATER:
            return Rest(seconds=renewal_s)
        if moved is Moved.BACKWARDS:
            log.warning(
                "the collector holds less than before; what it lacks is sent again", position=answer.hwm[0]
            )
        stuck = moved is Moved.STAYED and batch.to != batch.from_ and present is None
        if moved is Moved.BACKWARDS or stuck:
            # Progress is not certain, so that haste could go on for ever.
            return Rest(seconds=self._backoff.next())
        self._backoff.reset()
        self._unreached.reset()
        self._beat_s = answer.next_s
        self._pause_history(self._spread((answer.history_ms or 0) / 1000))
        if (answer.want_inventory and not in_vain) or (present is not None and not present.complete):
            return Rest(seconds=0.0)
        if not batch.at_head:
            return self._until_history()
        return Rest(seconds=self._spread(answer.next_s), until_rows=True, idle=True)

    def _pause_history(self, seconds: float) -> None:
        self._history_from_ns = self._stamp().mono_ns + round(seconds * NS_PER_S)

    def _history_pause_s(self) -> float:
        return max(0.0, (self._history_from_ns - self._stamp().mono_ns) / NS_PER_S)

    def _until_history(self) -> Rest:
        """The next message of the history may go then; the present, and heartbeats, need not wait for it."""
        pause_s = self._history_pause_s()
        if pause_s <= 0:
            return Rest(seconds=0.0)
        return Rest(seconds=min(pause_s, self._spread(self._beat_s)), until_rows=True)

    def _answered(self, answer: SyncAnswer, moved: Moved, present: Present | None) -> None:
        if moved in (Moved.BACKWARDS, Moved.NEW_STREAM):
            self._lanes = self._lanes.forgotten()
        elif present is None:
            self._lanes = self._lanes.history_told()
        else:
            self._lanes = self._lanes.told(
                taken=answer.verdict == Verdict.OK, through=present.through, complete=present.complete
            )

    def _history_alone(self) -> Rest:
        """Said once: it comes in order then, only later."""
        self._lanes = self._lanes.refused_here()
        if not self._told_of_lane:
            self._told_of_lane = True
            log.warning("the collector is older and cannot be told the present first; history goes in order")
        return Rest(seconds=0.0)

    def _refused(self, reply: Reply, *, is_history: bool) -> Rest:
        if reply.status == TOO_LARGE and self._max_rows > 1:
            self._max_rows //= 2
            self._announced = None
            return Rest(seconds=0.0)
        if reply.status in (UNAUTHORISED, FORBIDDEN):
            self._gone(f"it refuses this gateway's credential ({reply.status}); enrol the gateway anew")
            return Rest(seconds=self._spread(REFUSED_S))
        if reply.status in (BAD_REQUEST, TOO_LARGE):
            self._gone(f"it does not accept what we send ({reply.status})")
            return Rest(seconds=self._spread(REFUSED_S))
        if reply.status in (TOO_MANY, UNAVAILABLE) and reply.retry_after_s is not None:
            wait_s = min(MAX_RETRY_AFTER_S, max(0.0, reply.retry_after_s)) * (1 + self._random.random())
            if is_history and not self._lanes.refused:
                self._pause_history(wait_s)
                return self._until_history()
            self._gone(f"it has too much to do ({reply.status})")
            return Rest(seconds=wait_s)
        return self._missed(f"it answers with status {reply.status}")

    def _missed(self, why: str, *, reached: bool = True) -> Rest:
        self._gone(why)
        return Rest(seconds=(self._backoff if reached else self._unreached).next())

    def _gone(self, why: str) -> None:
        self._away_since = self._away_since or self._stamp()
        if why != self._trouble:
            self._trouble = why
            log.warning(
                "the collector takes nothing; everything is kept", why=why, rows_kept=self.rows_waiting
            )

    def _returned(self, batch: Batch) -> None:
        if self._away_since is not None:
            away_s = (self._stamp().mono_ns - self._away_since.mono_ns) // NS_PER_S
            log.info("the collector is back", away_s=away_s, rows_kept=batch.waiting)
            self._lanes = self._lanes.asked_again()
            if self._aside is not None:
                self._aside.asked_again()
        self._away_since, self._trouble = None, ""

    def _renewal_s(self) -> float:
        """How long until this journal may begin a new stream again."""
        if self._renewed_ns is None:
            return 0.0
        return NEW_STREAM_EVERY_S - (self._stamp().mono_ns - self._renewed_ns) / NS_PER_S

    def _spread(self, seconds: float) -> float:
        return seconds * (1 - JITTER + 2 * JITTER * self._random.random())

    async def _rest(self, rest: Rest) -> None:
        if not rest.until_rows:
            await asyncio.sleep(rest.seconds)
            return
        try:
            async with asyncio.timeout(rest.seconds):
                await self._until_rows(rest)
                await asyncio.sleep(COALESCE_S)
        except TimeoutError:
            pass

    async def _until_rows(self, rest: Rest) -> None:
        """What may be told aside is broken off as soon as there are rows."""
        if self._aside is None or not rest.idle:
            await self._journal.changed.wait()
            return
        await either(self._aside.run(), self._journal.changed.wait())


async def either(*works: Awaitable[object]) -> None:
    """Until one of them is over; the others are broken off. Raises what one of them raised."""
    tasks = [asyncio.ensure_future(one) for one in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        # Not ``await task``: it could not tell its end from ours.
        await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.result()
