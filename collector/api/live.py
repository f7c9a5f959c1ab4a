"""``GET /live``: tells an open page which tickets changed, as server-sent events. Ends when the session
does."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.responses import Response

from collector.live import Subscriber
from collector.parts import Parts, parts_of, session_of
from collector.problems import busy

router = APIRouter()

# How long a revoked session can go on listening, at most.
CHECK_SESSION_S = 20.0
# What a browser waits before it connects again, ms.
RETRY_MS = 2000


@router.get("/live", include_in_schema=False)
async def live(request: Request) -> Response:
    parts = parts_of(request)
    session = session_of(request)
    subscriber = parts.live.subscribe(session.actor.sites)
    if subscriber is None:
        raise busy("too many pages listen at once", retry_after_s=15)
    return EventSourceResponse(_tell(parts, subscriber, session.cookie), ping=15)


async def _tell(parts: Parts, subscriber: Subscriber, cookie: str) -> AsyncIterator[ServerSentEvent]:
    parts.metrics.live_pages.set(len(parts.live))
    try:
        yield ServerSentEvent(comment="listening", retry=RETRY_MS)
        while not subscriber.closed:
            news = await subscriber.next(CHECK_SESSION_S)
            if news is not None:
                body = json.dumps({"ticket": news.ticket, "site": news.site})
                yield ServerSentEvent(event=news.word.value, data=body)
            elif await parts.identities.session(cookie, touch=False) is None:
                return
    finally:
        parts.live.leave(subscriber)
        parts.metrics.live_pages.set(len(parts.live))
