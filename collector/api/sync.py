"""``POST /api/v1/sync``: bytes of a gateway in, what the collector durably holds out.

Limits come before work: bytes on the wire, bytes after gunzip, and (in the guard) the number of syncs at
once. The gateway is the one of the credential; nothing in the body can change that.
"""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import Callable, Sequence

import structlog
from fastapi import APIRouter, Request
from sqlalchemy import Connection
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from collector import auth, evidence, ingest, parsing
from collector.admission import SHORT_BYTES
from collector.exchange import CredentialRefusedError, GatewayIdentity, RefusedError, Sync, stands_for
from collector.gathering import Gathering
from collector.guard import ENDED_EARLY, evidence_of, is_evidence, no_gateway
from collector.ingest import Applied, StreamRefusedError
from collector.parts import Parts, gateway_of, parts_of
from collector.problems import TOO_LARGE, Problem
from collector.store import DATABASE_AWAY, audit, enrolment
from edge_agent import wire

# What one transaction takes of messages that wait: some tens of ms. A message itself costs some rows.
ROWS_AT_ONCE = 1_000
ROWS_OF_A_SYNC = 4
# A transaction costs what ten messages cost: it waits so long for those that come right after each other.
LINGER_S = 0.001
# What a part of evidence counts in the quota, in rows.
ROWS_OF_A_PART = 10

Outcome = Applied | RefusedError
Taking = Gathering[Sync, Applied]

router = APIRouter()
log = structlog.get_logger()

# Above this, unpacked, reading the JSON would hold up the others for some milliseconds: it goes to a thread.
INLINE_BYTES = 64 << 10
GZIP_WINDOW = 31
# A sync that trickles in takes the room of another.
BODY_WITHIN_S = 60.0


@router.post(
    wire.SYNC_PATH,
    tags=["gateways"],
    summary="Rows that changed since the last sync; empty = heartbeat",
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": "See docs/wire.md. `Content-Encoding: gzip` is accepted: "
            f"{wire.MAX_WIRE_BYTES} bytes on the wire, {wire.MAX_BODY_BYTES} after.",
            "content": {"application/json": {"schema": {"type": "object"}}},
        }
    },
    responses={200: {"description": "What is held now", "content": {"application/json": {}}}},
)
async def sync(request: Request) -> Response:
    parts = parts_of(request)
    try:
        return await _answered(request, parts)
    except Problem as problem:
        parts.metrics.syncs_refused.labels(status=str(problem.status)).inc()
        raise


async def _answered(request: Request, parts: Parts) -> Response:
    started_s = parts.monotonic_s()
    body, encoding = await _read(request), request.headers.get("content-encoding", "identity").lower()
    now_ms = parts.now_ms()
    if encoding not in ("identity", "gzip"):
        raise Problem(415, "Content-Encoding: identity and gzip are understood", reason="encoding")
    if (plain := _small(body, encoding)) is not None:
        return await _take(request, parts, decoded(plain), now_ms, started_s)
    turn = contextlib.nullcontext() if is_evidence(request) else request.app.state.history
    async with turn:
        message = await asyncio.to_thread(decoded, body, encoding)
        # Not kept while it is stored.
        del body
        return await _take(request, parts, message, now_ms, started_s)


async def _take(
    request: Request,
    parts: Parts,
    message: wire.SyncRequest | wire.EvidenceRequest,
    now_ms: int,
    started_s: float,
) -> Response:
    """``now_ms`` is when the message was there: waiting for its turn is no time on the way."""
    gateway, credential_id = gateway_of(request), auth.GATEWAY_PREFIX + request.state.caller
    try:
        if isinstance(message, wire.EvidenceRequest):
            return await _take_evidence(parts, gateway, credential_id, message, now_ms)
        if is_evidence(request):
            # They would pass by the quota of rows and by the turns of history.
            raise Problem(400, f"{wire.LANE_HEADER} says evidence, and here are rows", reason="message")
        told = Sync(
            gateway=gateway,
            message=message,
            now_ms=now_ms,
            credential_id=credential_id,
            behind_ms=parts.put_forward_ms(),
        )
        return await _take_rows(request, parts, told, started_s)
    except CredentialRefusedError as refused:
        parts.identities.forget(credential_id)
        raise no_gateway() from refused


async def _take_rows(request: Request, parts: Parts, told: Sync, started_s: float) -> Response:
    gateway, message = told.gateway, told.message
    try:
        applied = await request.app.state.taking(told)
    except StreamRefusedError as refused:
        log.warning("a gateway sent a stream that is not its own", gateway=gateway.name, site=gateway.site)
        await parts.store.write_soon(
            lambda connection: _audit(connection, gateway, message.stream, told.now_ms)
        )
        raise Problem(403, "this stream belongs to another gateway", reason="stream") from refused
    # No more than what one transaction takes at once: what is fresh may come again some seconds later.
    parts.syncs.charge(gateway.id, min(ROWS_AT_ONCE, stands_for(message.rows)))
    answer = applied.answer
    if message.head is None or message.lane is not wire.Lane.FEED:
        pause_ms = parts.syncs.history_ms(gateway.id, request.state.caller)
        answer = answer.model_copy(update={"history_ms": pause_ms or None})
    parts.metrics.syncs.labels(verdict=answer.verdict).inc()
    parts.metrics.rows.inc(len(message.rows))
    parts.metrics.rows_quarantined.inc(applied.quarantined)
    parts.metrics.sync_seconds.observe(parts.monotonic_s() - started_s)
    if applied.answer.verdict != wire.Verdict.OK:
        log.info(
            "a sync was not simply taken",
            gateway=gateway.name,
            site=gateway.site,
            verdict=applied.answer.verdict,
        )
    if applied.quarantined:
        log.warning(
            "rows could not be taken and were put aside",
            gateway=gateway.name,
            site=gateway.site,
            rows=applied.quarantined,
        )
    return Response(wire.encode(answer), media_type="application/json")


async def _take_evidence(
    parts: Parts, gateway: GatewayIdentity, credential_id: str, message: wire.EvidenceRequest, now_ms: int
) -> Response:
    packed = await asyncio.to_thread(evidence.read, message)

    def take(connection: Connection) -> evidence.Taken:
        if not enrolment.is_good(connection, gateway.id, credential_id):
            raise CredentialRefusedError(gateway)
        return evidence.take(connection, gateway, packed, now_ms)

    taken = await parts.write(take, lambda taken: taken.changed)
    parts.syncs.charge(evidence_of(gateway.id), ROWS_OF_A_PART * len(packed))
    for outcome in wire.Outcome:
        parts.metrics.evidence.labels(outcome=outcome).inc(taken.answer.outcomes.count(outcome))
    if taken.refused or taken.foreign:
        log.warning(
            "evidence could not be taken",
            gateway=gateway.name,
            site=gateway.site,
            unreadable=taken.refused,
            of_other_gateways=taken.foreign,
        )
    return Response(wire.encode(taken.answer), media_type="application/json")


class Straight:
    """ASGI middleware, directly within the guard: takes syncs past the routing, dependencies and exit stacks
    of the framework, which cost more than all else that HTTP costs. Raises Problem, which the guard answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != wire.SYNC_PATH or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        try:
            answer = await sync(Request(scope, receive))
        except ClientDisconnect as gone:
            raise Problem(400, ENDED_EARLY, reason="request") from gone
        await answer(scope, receive, send)


def taking(parts: Parts) -> Taking:
    """Messages that come at the same time share a transaction, and all that goes with one."""
    skew_ms = parts.settings.clock_skew_s * 1000

    async def together(syncs: Sequence[Sync]) -> list[Outcome]:
        try:
            return await written(lambda connection: ingest.apply_all(connection, syncs, skew_ms=skew_ms))
        except (*DATABASE_AWAY, RefusedError):
            raise
        except Exception:
            # Of several, each is tried alone before it comes to that.
            if len(syncs) > 1 or not syncs[0].message.rows:
                raise
            log.exception(
                "a sync could not be taken; its rows are tried one by one", gateway=syncs[0].gateway.name
            )
        return await written(lambda connection: [ingest.apply_sparing(connection, syncs[0], skew_ms=skew_ms)])

    async def written(work: Callable[[Connection], list[Outcome]]) -> list[Outcome]:
        return await parts.write(
            work,
            lambda outcomes: (
                change for one in outcomes if isinstance(one, Applied) for change in one.changed
            ),
        )

    return Gathering(
        together,
        at_most=ROWS_AT_ONCE,
        weight=lambda sync: stands_for(sync.message.rows) + ROWS_OF_A_SYNC,
        # Gateways are locked in one order, which begins anew with a second message of one of them.
        owner=lambda sync: sync.gateway.id,
        # SQLite has one writer.
        at_once=2 if parts.store.shared else 1,
        linger_s=LINGER_S,
        everybodys=DATABASE_AWAY,
    )


def _audit(connection: Connection, gateway: GatewayIdentity, stream: str, now_ms: int) -> None:
    audit.write(
        connection,
        actor=f"gateway {gateway.name}",
        action="sync refused: foreign stream",
        subject=stream,
        site=gateway.site,
        at_ms=now_ms,
    )


async def _read(request: Request) -> bytes:
    """Raises Problem 408 or 413."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > wire.MAX_WIRE_BYTES:
                    raise Problem(
                        413, f"a sync has at most {wire.MAX_WIRE_BYTES} bytes on the wire", reason=TOO_LARGE
                    )
    except TimeoutError as error:
        raise Problem(408, f"the body took more than {BODY_WITHIN_S:.0f} s", reason="too-slow") from error
    return bytes(body)


def _small(body: bytes, encoding: str) -> bytes | None:
    """What is read without a thread and without waiting for a turn: nearly all that is not history."""
    if encoding == "identity":
        return body if len(body) <= INLINE_BYTES else None
    if len(body) <= SHORT_BYTES:
        with contextlib.suppress(wire.WireError, Problem):
            return gunzip(body, INLINE_BYTES)
    return None


def decoded(body: bytes, encoding: str = "identity") -> wire.SyncRequest | wire.EvidenceRequest:
    """Raises Problem 400 or 413."""
    try:
        return wire.decode_message(gunzip(body) if encoding == "gzip" else body, parsing.parse)
    except wire.WireError as error:
        raise Problem(400, str(error), reason="message") from error


def gunzip(body: bytes, most: int = wire.MAX_BODY_BYTES) -> bytes:
    """At most so many bytes come out, however little went in. Raises Problem 413, WireError."""
    unpacker = zlib.decompressobj(wbits=GZIP_WINDOW)
    try:
        unpacked = unpacker.decompress(body, most + 1)
    except zlib.error as error:
        raise wire.WireError("not gzip") from error
    if len(unpacked) > most:
        raise Problem(413, f"a sync has at most {most} bytes after gunzip", reason=TOO_LARGE)
    if not unpacker.eof or unpacker.unused_data:
        raise wire.WireError("gzip: cut short, or more than one member")
    return unpacked
