"""One sync request becomes occurrences and tickets, in the caller's transaction.

The rules are C1 to C8 and C10 of ``docs/wire.md``. The position is judged first, then each row alone, then
the present against what is held. What changed is folded into tickets once, at the end.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from sqlalchemy import Connection

from collector import clones, dating, gaps, merge, presence, rows, skew
from collector.exchange import Exchange, GatewayIdentity
from collector.folding import Change, fold
from collector.minted import MINTED
from collector.store import streams
from collector.tickets import Policy
from edge_agent.wire import Boundary, Lane, SyncAnswer, SyncRequest, Verdict

NEXT_S = 15


class StreamRefusedError(Exception):
    """The stream belongs to another gateway: 403 and an audit entry, nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    answer: SyncAnswer
    changed: tuple[Change, ...]
    # Rows that could not be taken, for the log and the metrics.
    quarantined: int = 0


def apply(
    connection: Connection,
    gateway: GatewayIdentity,
    message: SyncRequest,
    now_ms: int,
    policy: Policy = Policy(),  # noqa: B008  frozen
    skew_ms: int = skew.SKEW_MS,
) -> Applied:
    """``skew_ms``: how far the wall clock of a gateway may be off. Raises StreamRefusedError."""
    if message.lane is Lane.PRESENT:
        # C10: it is judged as a heartbeat at its position is, and moves none.
        message = message.model_copy(update={"to": message.from_})
    state = streams.lock_gateway(connection, gateway.id)
    held = streams.stream_state(connection, message.stream)
    if held is not None and held.gateway_id != gateway.id:
        raise StreamRefusedError(f"stream {message.stream} is not of gateway {gateway.name}")
    if (held is None or held.doubted) and streams.is_heard(connection, gateway.id):
        held = held or streams.doubt(
            connection, message.stream, gateway.id, _challenge(message, now_ms), now_ms
        )
    hwm: Boundary = merge.BEGINNING if held is None else held.hwm
    verdict = merge.judge(hwm, message.from_, message.to, message.lineage)
    doubted = held is not None and held.doubted
    if doubted:
        verdict = Verdict.OK if tuple(message.from_) == tuple(hwm) else Verdict.BEHIND
    elif held is not None and not held.live:
        verdict = Verdict.SUPERSEDED
    exchange = Exchange(
        connection=connection,
        gateway=gateway,
        state=state,
        message=message,
        now_ms=now_ms,
        told_ahead=0 if held is None else held.told_ahead,
    )
    learnt = streams.learn_offset(connection, gateway.id, dating.sample(message.clock, now_ms))
    if verdict in (Verdict.OK, Verdict.SUPERSEDED):
        rows.take(exchange, believed=verdict is Verdict.OK)
    if learnt:
        rows.date_again(exchange)
    if verdict is Verdict.OK:
        hwm = _advance(exchange, hwm, new=held is None or doubted)
        _tell_ahead(exchange)
    told = presence.present(exchange, hwm) if verdict is Verdict.OK else merge.Reconciliation()
    if verdict is Verdict.OK or not doubted:
        presence.contact(exchange, verdict, hwm, same_stream=held is not None and held.live)
    if verdict is Verdict.OK:
        skew.look(exchange, skew_ms)
    begun = verdict is Verdict.OK and (held is None or doubted)
    if begun or verdict is Verdict.SUPERSEDED:
        clones.look(exchange, begun=begun)
    streams.put_aside(connection, gateway.id, message.stream, exchange.bad, now_ms)
    folded = fold(connection, gateway.site, list(exchange.pending.values()), now_ms, policy)
    moved = (Change(ticket_id=ticket_id, site=gateway.site) for ticket_id in exchange.moved)
    changed = tuple(dict.fromkeys((*moved, *folded)))
    answer = SyncAnswer(
        verdict=verdict,
        stream=message.stream,
        hwm=hwm,
        closed_here=list(told.closed_here),
        want=list(told.want),
        want_inventory=presence.wants_inventory(exchange, verdict),
        ahead=exchange.told_ahead if exchange.told_ahead > hwm[0] else None,
        server_ms=now_ms,
        next_s=NEXT_S,
    )
    return Applied(answer=answer, changed=changed, quarantined=len(exchange.bad))


def _challenge(message: SyncRequest, now_ms: int) -> Boundary:
    """A position that only somebody can name who got this answer: C7, an older stream may speak late."""
    return (0, uuid.uuid5(MINTED, f"{message.stream}|{message.to}|{now_ms}").hex)


def _advance(exchange: Exchange, hwm: Boundary, *, new: bool) -> Boundary:
    message = exchange.message
    gaps.declare(exchange, hwm)
    if new:
        streams.begin_stream(
            exchange.connection,
            message.stream,
            exchange.gateway.id,
            message.to,
            message.clock,
            exchange.now_ms,
        )
    elif tuple(message.to) != tuple(hwm):
        streams.advance(exchange.connection, message.stream, message.to)
    return message.to


def _tell_ahead(exchange: Exchange) -> None:
    message = exchange.message
    if message.lane is Lane.PRESENT and message.head is not None and message.head.seq > exchange.told_ahead:
        exchange.told_ahead = message.head.seq
        streams.tell_ahead(exchange.connection, message.stream, message.head.seq)
