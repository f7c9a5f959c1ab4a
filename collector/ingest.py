"""One sync request becomes occurrences and tickets, in the caller's transaction.

The rules are C1 to C8 and C10 of ``docs/wire.md``. The position is judged first, then each row alone, then
the present against what is held. What changed is folded into tickets once, at the end.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from collector import clones, dating, gaps, in_question, merge, presence, redating, rows, skew
from collector.exchange import (
    CredentialRefusedError,
    Exchange,
    GatewayIdentity,
    RefusedError,
    Sync,
    uids_in,
)
from collector.folding import Change, fold
from collector.minted import MINTED
from collector.store import aside, occurrences, streams
from collector.store.outage import DATABASE_AWAY
from collector.store.streams import GatewayState, StreamState
from collector.tickets import Policy
from edge_agent.wire import Boundary, Lane, SyncAnswer, SyncRequest, Verdict

NEXT_S = 15


class StreamRefusedError(RefusedError):
    """The stream belongs to another gateway: 403 and an audit entry, nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    answer: SyncAnswer
    # By this message and those of its site that shared its transaction; the first of them tells it.
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
    behind_ms: tuple[int, ...] = (),
) -> Applied:
    """``skew_ms``: how far the wall clock of a gateway may be off. Raises StreamRefusedError."""
    sync = Sync(gateway=gateway, message=message, now_ms=now_ms, behind_ms=behind_ms)
    outcome = apply_all(connection, [sync], policy, skew_ms)[0]
    if isinstance(outcome, RefusedError):
        raise outcome
    return outcome


def apply_all(
    connection: Connection,
    syncs: Sequence[Sync],
    policy: Policy = Policy(),  # noqa: B008  frozen
    skew_ms: int = skew.SKEW_MS,
) -> list[Applied | RefusedError]:
    """Several messages in one transaction, with one statement for all of them where that can be; each ends
    as if it were alone, in this order.
    """
    return [
        outcome
        for together in _apart(syncs)
        for outcome in _apply_together(connection, together, policy, skew_ms)
    ]


def apply_sparing(
    connection: Connection,
    sync: Sync,
    policy: Policy = Policy(),  # noqa: B008  frozen
    skew_ms: int = skew.SKEW_MS,
) -> Applied | RefusedError:
    """A message at which ``apply_all`` raised what nobody foresaw: a row that is enough for that is put aside
    as one that cannot be read is, so that it blocks nothing else of its gateway. Raises as ``apply_all``
    where no single row is to blame.
    """

    def breaks(place: int) -> bool:
        alone = replace(sync, message=sync.message.model_copy(update={"rows": [sync.message.rows[place]]}))
        trying = connection.begin_nested()
        try:
            apply_all(connection, [alone], policy, skew_ms)
        except DATABASE_AWAY:
            raise
        except RefusedError:
            return False
        except Exception:  # noqa: BLE001  whatever it is
            return True
        finally:
            trying.rollback()
        return False

    spoilt = frozenset(place for place in range(len(sync.message.rows)) if breaks(place))
    return apply_all(connection, [replace(sync, spoilt=spoilt)], policy, skew_ms)[0]


def _apart(syncs: Sequence[Sync]) -> Iterator[list[Sync]]:
    """In order, cut where one of them has something in common with one before it."""
    if len(syncs) == 1:
        yield list(syncs)
        return
    together: list[Sync] = []
    claimed: set[str] = set()
    for sync in syncs:
        names = {sync.gateway.id, sync.message.stream, *_named(sync.message)}
        if together and not claimed.isdisjoint(names):
            yield together
            together, claimed = [], set()
        together.append(sync)
        claimed |= names
    if together:
        yield together


def _named(message: SyncRequest) -> Iterator[str]:
    """Each uid in it, of rows that can be read and of others."""
    if message.head is not None:
        yield from message.head.open
    yield from uids_in(message.rows)


def _apply_together(
    connection: Connection, syncs: Sequence[Sync], policy: Policy, skew_ms: int
) -> list[Applied | RefusedError]:
    states = streams.lock_gateways(connection, [sync.gateway.id for sync in syncs])
    held = streams.stream_states(connection, [sync.message.stream for sync in syncs])
    judged = [
        _judge(connection, sync, states.get(sync.gateway.id), held.get(sync.message.stream)) for sync in syncs
    ]
    exchanges = [one for one in judged if isinstance(one, Exchange)]
    put_right = redating.put_right(connection, [one for one in exchanges if one.behind_ms])
    learnt = streams.learn_offsets(
        connection, {one.gateway.id: dating.sample(one.message.clock, one.now_ms) for one in exchanges}
    )
    rows.take(connection, [one for one in exchanges if one.verdict in (Verdict.OK, Verdict.SUPERSEDED)])
    for exchange in exchanges:
        if exchange.gateway.id in put_right:
            redating.all_of(exchange)
        elif exchange.gateway.id in learnt:
            redating.again(exchange)
    _advance(connection, [one for one in exchanges if one.verdict is Verdict.OK])
    telling = [one for one in exchanges if presence.tells(one)]
    asking = [one for one in exchanges if in_question.arises(one)]
    open_here = occurrences.open_of(connection, {one.gateway.id for one in (*telling, *asking)})
    for exchange in exchanges:
        in_question.look(exchange, open_here.get(exchange.gateway.id, {}))
    told = {one.gateway.id: presence.present(one, open_here[one.gateway.id]) for one in telling}
    for exchange in exchanges:
        if exchange.verdict is Verdict.OK or not exchange.doubted:
            presence.contact(exchange)
        if exchange.verdict is Verdict.OK:
            skew.look(exchange, skew_ms)
        if exchange.begins or exchange.verdict is Verdict.SUPERSEDED:
            clones.look(exchange, begun=exchange.begins)
        aside.put(connection, exchange.gateway.id, exchange.message.stream, exchange.bad, exchange.now_ms)
    changed = _fold(connection, exchanges, policy)
    return [
        one
        if isinstance(one, RefusedError)
        else _applied(
            one, told.get(one.gateway.id, merge.Reconciliation()), changed.pop(one.gateway.site, ())
        )
        for one in judged
    ]


def _judge(
    connection: Connection, sync: Sync, state: GatewayState | None, held: StreamState | None
) -> Exchange | RefusedError:
    gateway, message, now_ms = sync.gateway, sync.message, sync.now_ms
    if state is None or not _may_speak(sync.credential_id, state):
        return CredentialRefusedError(gateway)
    if message.lane is Lane.PRESENT:
        # C10: it is judged as a heartbeat at its position is, and moves none.
        message = message.model_copy(update={"to": message.from_})
    if held is not None and held.gateway_id != gateway.id:
        return _not_of(gateway, message)
    if (held is None or held.doubted) and streams.is_heard(connection, gateway.id):
        held = held or streams.doubt(
            connection, message.stream, gateway.id, _challenge(message, now_ms), now_ms
        )
        if held is None:
            return _not_of(gateway, message)
    hwm: Boundary = merge.BEGINNING if held is None else held.hwm
    verdict = merge.judge(hwm, message.from_, message.to, message.lineage)
    if held is not None and held.doubted:
        verdict = Verdict.OK if tuple(message.from_) == tuple(hwm) else Verdict.BEHIND
    elif held is not None and not held.live:
        verdict = Verdict.SUPERSEDED
    return Exchange(
        connection=connection,
        gateway=gateway,
        state=state,
        message=message,
        now_ms=now_ms,
        spoilt=sync.spoilt,
        behind_ms=sync.behind_ms,
        held=held,
        verdict=verdict,
        hwm=hwm,
        told_ahead=0 if held is None else held.told_ahead,
    )


def _may_speak(credential_id: str | None, state: GatewayState) -> bool:
    return credential_id is None or (credential_id == state.credential_id and state.revoked_ms is None)


def _not_of(gateway: GatewayIdentity, message: SyncRequest) -> StreamRefusedError:
    return StreamRefusedError(f"stream {message.stream} is not of gateway {gateway.name}")


def _fold(
    connection: Connection, exchanges: Sequence[Exchange], policy: Policy
) -> dict[str, tuple[Change, ...]]:
    """By site, what changed."""
    changed: dict[str, tuple[Change, ...]] = {}
    for site in sorted({one.gateway.site for one in exchanges}):
        here = [one for one in exchanges if one.gateway.site == site]
        pending = [pending for one in here for pending in one.pending.values()]
        folded = fold(connection, site, pending, max(one.now_ms for one in here), policy)
        moved = (Change(ticket_id=ticket_id, site=site) for one in here for ticket_id in one.moved)
        changed[site] = tuple(dict.fromkeys((*moved, *folded)))
    return changed


def _applied(exchange: Exchange, told: merge.Reconciliation, changed: tuple[Change, ...]) -> Applied:
    hwm = exchange.hwm
    answer = SyncAnswer(
        verdict=exchange.verdict,
        stream=exchange.message.stream,
        hwm=hwm,
        closed_here=list(told.closed_here),
        want=list(told.want),
        want_inventory=presence.wants_inventory(exchange),
        ahead=exchange.told_ahead if exchange.told_ahead > hwm[0] else None,
        server_ms=exchange.now_ms,
        next_s=NEXT_S,
    )
    return Applied(answer=answer, changed=changed, quarantined=len(exchange.bad))


def _challenge(message: SyncRequest, now_ms: int) -> Boundary:
    """A position that only somebody can name who got this answer: C7, an older stream may speak late."""
    return (0, uuid.uuid5(MINTED, f"{message.stream}|{message.to}|{now_ms}").hex)


def _advance(connection: Connection, exchanges: Sequence[Exchange]) -> None:
    """What these brought is held from now on."""
    moved: dict[str, Boundary] = {}
    for exchange in exchanges:
        gateway_id, message, now_ms = exchange.gateway.id, exchange.message, exchange.now_ms
        before = exchange.hwm
        gaps.declare(exchange, before)
        if exchange.begins:
            clock = message.clock
            if not streams.begin_stream(connection, message.stream, gateway_id, message.to, clock, now_ms):
                # Its rows are taken already: nothing of it may be committed.
                raise _not_of(exchange.gateway, message)
        elif tuple(message.to) != tuple(before):
            moved[message.stream] = message.to
        exchange.hwm = message.to
        _tell_ahead(exchange)
    streams.advance(connection, moved)


def _tell_ahead(exchange: Exchange) -> None:
    message = exchange.message
    if message.lane is Lane.PRESENT and message.head is not None and message.head.seq > exchange.told_ahead:
        exchange.told_ahead = message.head.seq
        streams.tell_ahead(exchange.connection, message.stream, message.head.seq)
