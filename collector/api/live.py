"""``GET /live``: tells an open page which tickets changed, as server-sent events. Ends when the session
does."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.responses import Response

from collector.guard import Session
from collector.parts import Parts, parts_of, session_of
from collector.problems import busy

router = APIRouter()

# How long a revoked session can go on listening, at most.
CHECK_SESSION_S = 20.0
# What a browser waits before it connects again, ms.
RETRY_MS = 2000
# The same of a page whose place another page of the same person took: else they would take it from each other
# all the time.
MOVED_RETRY_MS = 30_000
# Time in which a stream ends by itself when the collector stops; less than the server waits for it.
FAREWELL_S = 1.0


@router.get("/live", include_in_schema=False)
async def live(request: Request) -> Response:
    parts = parts_of(request)
    if parts.live.full:
        raise busy("too many pages listen at once", retry_after_s=15)
    return EventSourceResponse(
        tell(parts, session_of(request)),
        ping=15,
        # A comment would not reach the page, which has to notice a link that died without a word.
        ping_message_factory=lambda: ServerSentEvent(event="ping", data=""),
        shutdown_grace_period=FAREWELL_S,
    )


async def tell(parts: Parts, session: Session) -> AsyncIterator[ServerSentEvent]:
    """Subscribes only when the answer is under way: a browser that has left before is not remembered."""
    subscriber = parts.live.subscribe(session.actor.name, session.actor.sites)
    if subscriber is None:
        return
    try:
        checked_s = parts.monotonic_s()
        yield ServerSentEvent(comment="listening", retry=RETRY_MS)
        while not subscriber.closed:
            news = await subscriber.next(CHECK_SESSION_S)
            if parts.monotonic_s() - checked_s >= CHECK_SESSION_S:
                if await parts.identities.session(session.cookie, touch=False) is None:
                    return
                checked_s = parts.monotonic_s()
            if news is not None:
                body = json.dumps({"ticket": news.ticket, "site": news.site})
                yield ServerSentEvent(event=news.word.value, data=body)
        if not parts.live.closed:
            yield ServerSentEvent(comment="another page took this place", retry=MOVED_RETRY_MS)
    finally:
        parts.live.leave(subscriber)
