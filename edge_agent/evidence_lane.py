"""Moves evidence to the collector while there is nothing else to tell.

It is broken off whenever rows come, and what then becomes of it is unknown: it is told again, which changes
nothing. Nothing that happens here holds up a row.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Never

import structlog

from edge_agent.backoff import Backoff, Dice
from edge_agent.evidence import Evidence
from edge_agent.evidence_file import Waiting
from edge_agent.forward import (
    BAD_REQUEST,
    MAX_RETRY_AFTER_S,
    NS_PER_S,
    OK,
    TOO_LARGE,
    TOO_MANY,
    UNAVAILABLE,
    CollectorAwayError,
    Post,
    Reply,
)
from edge_agent.wire import EVIDENCE_LANE, VERSION, EvidenceRequest, Part, Stamp, WireError, encode
from edge_agent.wire import decode_evidence_answer as decode_answer

# Of the JSON of a message; packed it has a tenth of that.
MOST_BYTES = 128 << 10
# After an answer that only a person can change, and while the collector does not know an occurrence.
PAUSE_S = 60.0

log = structlog.get_logger()


class EvidenceLane:
    """One per forwarder. ``run`` tells what waits until it is cancelled, which it may be at any moment."""

    def __init__(self, evidence: Evidence, post: Post, *, stamp: Callable[[], Stamp], random: Dice) -> None:
        self._evidence = evidence
        self._post = post
        self._stamp = stamp
        self._random = random
        self._backoff = Backoff(random=random)
        self._max_bytes = MOST_BYTES
        self._from_ns = 0
        # The collector is of a version that does not know this lane.
        self._refused = False
        self._told_of_it = False

    def asked_again(self) -> None:
        """The collector was away: it may have been brought up to date."""
        self._refused = False

    async def send_again(self) -> None:
        """The collector holds less than it did."""
        await self._evidence.send_again()

    async def run(self) -> Never:
        while True:
            pause_s = (self._from_ns - self._stamp().mono_ns) / NS_PER_S
            if self._refused or pause_s > 0:
                await asyncio.sleep(PAUSE_S if self._refused else pause_s)
                continue
            try:
                await self._tell_what_waits()
            except Exception:
                # Rows go on.
                log.exception("evidence could not be told; it is tried again")
                self._pause(PAUSE_S)

    async def _tell_what_waits(self) -> None:
        self._evidence.news.clear()
        parts = await self._evidence.waiting(self._max_bytes)
        told = {one.seq: _as_told(one) for one in parts}
        if damaged := [seq for seq, part in told.items() if part is None]:
            log.error("evidence is damaged and cannot be told", parts=len(damaged))
            await self._evidence.drop(damaged)
        elif parts:
            await self._tell(parts, EvidenceRequest(v=VERSION, lane=EVIDENCE_LANE, parts=list(told.values())))
        else:
            await self._until_news()

    async def _tell(self, parts: Sequence[Waiting], message: EvidenceRequest) -> None:
        try:
            reply = await self._post(encode(message))
        except CollectorAwayError:
            self._pause(self._backoff.next())
            return
        except asyncio.CancelledError:
            # Perhaps the way is slow: less is more likely to get through between two rows.
            self._max_bytes = max(1, self._max_bytes // 2)
            raise
        if reply.status != OK:
            self._not_taken(reply)
            return
        try:
            outcomes = decode_answer(reply.body).outcomes
        except WireError:
            self._pause(self._backoff.next())
            return
        await self._evidence.told(parts, outcomes)
        self._backoff.reset()
        self._max_bytes = min(MOST_BYTES, self._max_bytes * 2)

    def _not_taken(self, reply: Reply) -> None:
        if reply.status == BAD_REQUEST:
            self._refused = True
            if not self._told_of_it:
                self._told_of_it = True
                log.warning(
                    "the collector is older and takes no evidence; it stays here, faults are told as ever"
                )
        elif reply.status == TOO_LARGE and self._max_bytes > 1:
            self._max_bytes //= 2
        elif reply.status in (TOO_MANY, UNAVAILABLE) and reply.retry_after_s is not None:
            self._pause(min(MAX_RETRY_AFTER_S, reply.retry_after_s) * (1 + self._random.random()))
        else:
            self._pause(max(PAUSE_S, self._backoff.next()))

    def _pause(self, seconds: float) -> None:
        self._from_ns = self._stamp().mono_ns + round(seconds * NS_PER_S)

    async def _until_news(self) -> None:
        """Or until what the collector did not know may be told again."""
        try:
            async with asyncio.timeout(PAUSE_S):
                await self._evidence.news.wait()
        except TimeoutError:
            pass


def _as_told(one: Waiting) -> dict[str, Any] | None:
    """None: it is damaged, and no collector would take it."""
    try:
        part = Part(
            uid=one.uid,
            part=one.part,
            given_up=one.evidence is None,
            evidence=None if one.evidence is None else dict(one.evidence),
        )
    except (TypeError, ValueError):
        return None
    return part.model_dump(exclude_none=True, exclude_defaults=True)
