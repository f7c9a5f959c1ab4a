"""One sync request becomes occurrences and tickets, in the caller's transaction.

The rules are C1 to C8 of ``docs/wire.md``. The position is judged first, then each row alone, then the
present against what is held. What changed is folded into tickets once, at the end.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from collector import dating, merge
from collector.dating import HOUR_MS, Offsets
from collector.folding import Change, Pending, fold
from collector.store import occurrences, streams
from collector.store.occurrences import Held
from collector.store.streams import GatewayState, clean
from collector.tickets import Policy
from edge_agent.wire import (
    AGENT_COMPONENT,
    ID_PATTERN,
    SILENT,
    Boundary,
    Head,
    Row,
    Severity,
    Stamp,
    SyncAnswer,
    SyncRequest,
    Verdict,
    WireError,
    condition_key,
    dedupe_key,
    read_row,
)

# last_contact, caught_up and health are kept to this; a heartbeat inside it writes nothing.
CONTACT_MS = 5_000
NEXT_S = 15
# The namespace of the uids that are made here, so that every replica makes the same.
MINTED = uuid.UUID("6f2f3c1e-6f55-5d8c-9a39-3d2f7c1b0a11")
NO_BOOT = "0" * 32
# Why an occurrence is closed that no edge closed.
RECONCILED = "reconciled"
RETURNED = "returned"
REPLACED = "replaced"
REVOKED = "revoked"
NOT_WATCHED = "not_watched"

__all__ = ["Applied", "Change", "GatewayIdentity", "StreamRefusedError", "apply"]


class StreamRefusedError(Exception):
    """The stream belongs to another gateway: 403 and an audit entry, nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayIdentity:
    """Who speaks, from the credential, never from the message."""

    id: str
    site: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    answer: SyncAnswer
    changed: tuple[Change, ...]
    # Rows that could not be taken, for the log and the metrics.
    quarantined: int = 0


@dataclass(slots=True, kw_only=True)
class _Exchange:
    """One message on its way through."""

    connection: Connection
    gateway: GatewayIdentity
    state: GatewayState
    message: SyncRequest
    now_ms: int
    pending: dict[str, Pending] = field(default_factory=dict)
    bad: list[tuple[object, str]] = field(default_factory=list)


def apply(
    connection: Connection,
    gateway: GatewayIdentity,
    message: SyncRequest,
    now_ms: int,
    policy: Policy = Policy(),  # noqa: B008  frozen
) -> Applied:
    """Raises StreamRefusedError."""
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
    exchange = _Exchange(connection=connection, gateway=gateway, state=state, message=message, now_ms=now_ms)
    learnt = streams.learn_offset(connection, gateway.id, dating.sample(message.clock, now_ms))
    if verdict in (Verdict.OK, Verdict.SUPERSEDED):
        _take_rows(exchange, believed=verdict is Verdict.OK)
    if learnt:
        _date_again(exchange)
    if verdict is Verdict.OK:
        hwm = _advance(exchange, hwm, new=held is None or doubted)
    told = _present(exchange, hwm) if verdict is Verdict.OK else merge.Reconciliation()
    if verdict is Verdict.OK or not doubted:
        _contact(exchange, verdict, hwm, same_stream=held is not None and held.live)
    streams.put_aside(connection, gateway.id, message.stream, exchange.bad, now_ms)
    changed = fold(connection, gateway.site, list(exchange.pending.values()), now_ms, policy)
    answer = SyncAnswer(
        verdict=verdict,
        stream=message.stream,
        hwm=hwm,
        closed_here=list(told.closed_here),
        want=list(told.want),
        want_inventory=_wants_inventory(exchange, verdict),
        server_ms=now_ms,
        next_s=NEXT_S,
    )
    return Applied(answer=answer, changed=changed, quarantined=len(exchange.bad))


def silent_uid(gateway_id: str, last_contact_ms: int) -> str:
    """The same at every replica and in every restored backup."""
    return uuid.uuid5(MINTED, f"{gateway_id}|{last_contact_ms}").hex


def silence(
    gateway: GatewayIdentity, since_ms: int, now_ms: int, *, until_ms: int | None = None, reason: str = ""
) -> Pending:
    """The occurrence that is made here when a gateway is not heard of; ``until_ms`` closes it."""
    return Pending(
        values={
            "uid": silent_uid(gateway.id, since_ms),
            "gateway_id": gateway.id,
            "site": gateway.site,
            "dedupe_key": dedupe_key(gateway.site, gateway.name, AGENT_COMPONENT, SILENT),
            "device": gateway.name,
            "component": AGENT_COMPONENT,
            "fault": SILENT,
            "rev": 1 if until_ms is None else 2,
            "digest": "",
            "open": until_ms is None,
            "unknown": False,
            "minted": True,
            "estimated": False,
            "reason": reason,
            "severity": int(Severity.STOP),
            "count": 1,
            "title": f"Gateway {gateway.name} is silent",
            "first_boot": NO_BOOT,
            "first_mono_ms": 0,
            "end_boot": None,
            "end_mono_ms": None,
            "start_ms": since_ms,
            "raised_ms": since_ms,
            "end_ms": until_ms,
            "error_ms": CONTACT_MS,
            "severities": [[since_ms, int(Severity.STOP)]],
            "received_ms": now_ms,
            "row": {},
        },
        advice="Check its power and its network. What happens to its devices is unknown until it is back.",
    )


def ended_here(values: Mapping[str, Any], reason: str, now_ms: int, *, since_ms: int) -> Pending:
    """An occurrence that no edge has closed: it ended after ``since_ms``, at the latest now."""
    ended = {
        "open": False,
        "unknown": False,
        "estimated": True,
        "reason": reason,
        "end_ms": max(values["start_ms"], now_ms),
        "error_ms": max(values["error_ms"], now_ms - since_ms),
    }
    return Pending(values={**values, **ended}, advice=clean(str(values["row"].get("advice", ""))))


def _challenge(message: SyncRequest, now_ms: int) -> Boundary:
    """A position that only somebody can name who got this answer: C7, an older stream may speak late."""
    return (0, uuid.uuid5(MINTED, f"{message.stream}|{message.to}|{now_ms}").hex)


# --- rows -----------------------------------------------------------------------------------------------


def _take_rows(exchange: _Exchange, *, believed: bool) -> None:
    """``believed``: of a live stream. Of a superseded one only what ended is taken; the rest is put aside."""
    rows = _readable(exchange)
    held = occurrences.held(exchange.connection, rows.keys())
    orphans = []
    taken: list[tuple[Row, object, Held | None]] = []
    for uid, (row, raw) in rows.items():
        known = held.get(uid)
        if known is not None and (known.minted or known.gateway_id != exchange.gateway.id):
            exchange.bad.append((raw, "uid: belongs to another gateway"))
        elif known is not None and known.key != row.key:
            exchange.bad.append((raw, "uid: belongs to another condition"))
        elif not believed and row.state == "open":
            orphans.append((uid, raw))
        elif known is None or merge.rank_of(row) > _rank(known):
            taken.append((row, raw, known))
    offsets = _offsets(exchange, [row for row, _, _ in taken])
    for row, raw, known in taken:
        exchange.pending[row.uid] = _pending(exchange, row, raw, known, offsets)
    streams.keep_orphans(
        exchange.connection, exchange.gateway.id, exchange.message.stream, orphans, exchange.now_ms
    )


def _readable(exchange: _Exchange) -> dict[str, tuple[Row, object]]:
    """By uid, with the row as it was sent; of two forms of one row in one message the higher rank counts."""
    rows: dict[str, tuple[Row, object]] = {}
    for raw in exchange.message.rows:
        try:
            row = read_row(raw)
        except WireError as error:
            exchange.bad.append((raw, str(error)))
            continue
        if row.uid not in rows or merge.rank_of(row) > merge.rank_of(rows[row.uid][0]):
            rows[row.uid] = row, raw
    return rows


def _rank(known: Held) -> merge.Rank:
    return merge.rank(is_open=known.open, estimated=known.estimated, rev=known.rev, digest=known.digest)


def _offsets(exchange: _Exchange, rows: Sequence[Row]) -> Offsets:
    boots = {stamp.boot for row in rows for stamp in _stamps(row)}
    return streams.offsets(exchange.connection, exchange.gateway.id, boots)


def _stamps(row: Row) -> list[Stamp]:
    stamps = [row.first_bad, row.raised, *(change.at for change in row.severities)]
    return stamps if row.cleared is None else [*stamps, row.cleared]


def _pending(exchange: _Exchange, row: Row, raw: object, known: Held | None, offsets: Offsets) -> Pending:
    gateway = exchange.gateway
    ended = row.cleared if row.state == "closed" else None
    return Pending(
        values={
            "uid": row.uid,
            "gateway_id": gateway.id,
            "site": gateway.site,
            "dedupe_key": dedupe_key(gateway.site, row.device, row.component, row.fault),
            "device": row.device,
            "component": row.component,
            "fault": row.fault,
            "rev": row.rev,
            "digest": merge.digest(row),
            "open": row.state == "open",
            "unknown": False,
            "minted": False,
            "estimated": False,
            "reason": clean(row.reason),
            "severity": row.severity,
            "count": row.count,
            "title": clean(row.title),
            "first_boot": row.first_bad.boot,
            "first_mono_ms": dating.mono_ms(row.first_bad),
            "end_boot": ended.boot if ended else None,
            "end_mono_ms": dating.mono_ms(ended) if ended else None,
            "received_ms": exchange.now_ms if known is None else known.received_ms,
            "row": raw,
            **_dated(exchange, row, offsets),
        },
        advice=clean(row.advice),
    )


def _dated(exchange: _Exchange, row: Row, offsets: Offsets) -> dict[str, Any]:
    dates = dating.dates(row, offsets, floor_ms=exchange.state.created_ms)
    return {
        "start_ms": dates.start_ms,
        "raised_ms": dates.raised_ms,
        "end_ms": dates.end_ms,
        "error_ms": dates.error_ms,
        "severities": [list(step) for step in dates.severities],
    }


def _date_again(exchange: _Exchange) -> None:
    """The clock of a boot is known better now: what began or ended near that hour may move by a little."""
    told = dating.sample(exchange.message.clock, exchange.now_ms)
    offsets = streams.offsets(exchange.connection, exchange.gateway.id, [told.boot])
    before, after = dating.reach(offsets[told.boot], told.hour)
    stored = occurrences.of_boot(
        exchange.connection, exchange.gateway.id, told.boot, before * HOUR_MS, (after + 1) * HOUR_MS
    )
    rows = {one.uid: (Row.model_validate(one.row), one) for one in stored if one.uid not in exchange.pending}
    all_offsets = _offsets(exchange, [row for row, _ in rows.values()])
    for uid, (row, one) in rows.items():
        values = dict(one._mapping)
        dated = _dated(exchange, row, all_offsets)
        if one.estimated:
            dated["end_ms"] = max(dated["start_ms"], values["end_ms"])
        if any(values[name] != value for name, value in dated.items()):
            exchange.pending[uid] = Pending(values=values | dated, advice=clean(row.advice))


# --- position, presence, contact ------------------------------------------------------------------------


def _advance(exchange: _Exchange, hwm: Boundary, *, new: bool) -> Boundary:
    message = exchange.message
    if message.pruned_through > hwm[0] and message.to[0] > hwm[0]:
        streams.declare_gap(
            exchange.connection,
            exchange.gateway.id,
            message.stream,
            hwm[0] + 1,
            message.pruned_through,
            exchange.now_ms,
        )
    if new:
        streams.begin_stream(
            exchange.connection, message.stream, exchange.gateway.id, message.to, exchange.now_ms
        )
    elif tuple(message.to) != tuple(hwm):
        streams.advance(exchange.connection, message.stream, message.to)
    return message.to


def _present(exchange: _Exchange, hwm: Boundary) -> merge.Reconciliation:
    """C6, when the newest row of the stream is held here."""
    head = exchange.message.head
    if head is None or head.seq != hwm[0]:
        return merge.Reconciliation()
    open_here = occurrences.open_of(exchange.connection, exchange.gateway.id)
    held_open = {uid: one.key for uid, one in open_here.items()}
    for uid, one in exchange.pending.items():
        if one.values["open"]:
            held_open[uid] = _key(one.values)
        else:
            held_open.pop(uid, None)
    elsewhere = [uid for uid in head.open if uid not in held_open]
    stored = occurrences.held(exchange.connection, elsewhere)
    foreign = {
        uid: one.key for uid, one in stored.items() if one.minted or one.gateway_id != exchange.gateway.id
    }
    told = merge.reconcile(
        head,
        held_open=held_open,
        held_closed=(stored.keys() - foreign.keys()) | {uid for uid in elsewhere if uid in exchange.pending},
        unreadable=foreign | _unreadable(exchange, elsewhere),
    )
    _settle(exchange, head, told, open_here)
    return told


def _unreadable(exchange: _Exchange, uids: Sequence[str]) -> dict[str, str | None]:
    """By uid: the condition that each is about, as far as that can be read."""
    now = [raw for raw, _ in exchange.bad]
    before = streams.unreadable(exchange.connection, exchange.gateway.id, uids)
    return {
        str(raw.get("uid")): _told_key(raw)
        for raw in (*before, *now)
        if isinstance(raw, dict) and raw.get("uid") in uids
    }


def _told_key(raw: Mapping[str, object]) -> str | None:
    names = [raw.get(name) for name in ("device", "component", "fault")]
    if all(isinstance(name, str) and re.fullmatch(ID_PATTERN, name) for name in names):
        return condition_key(*map(str, names))
    return None


def _key(values: Mapping[str, Any]) -> str:
    return condition_key(values["device"], values["component"], values["fault"])


def _settle(
    exchange: _Exchange, head: Head, told: merge.Reconciliation, open_here: Mapping[str, Held]
) -> None:
    """What the edge no longer names is closed; what it names after a silence is known again."""
    named = set(head.open)
    unsettled = set(head.unsettled)
    known_again = [
        uid for uid, one in open_here.items() if one.unknown and uid in named and one.key not in unsettled
    ]
    touched = [uid for uid in (*told.missing, *known_again) if uid not in exchange.pending]
    whole = occurrences.whole(exchange.connection, touched)
    for uid in told.missing:
        values = exchange.pending[uid].values if uid in exchange.pending else whole[uid]
        since_ms = exchange.state.last_contact_ms or exchange.now_ms
        exchange.pending[uid] = ended_here(values, RECONCILED, exchange.now_ms, since_ms=since_ms)
    for uid in known_again:
        if uid not in exchange.pending:
            values = whole[uid]
            advice = str(values["row"].get("advice", ""))
            exchange.pending[uid] = Pending(values=values | {"unknown": False}, advice=clean(advice))


def _contact(exchange: _Exchange, verdict: Verdict, hwm: Boundary, *, same_stream: bool) -> None:
    """Somebody spoke: silence ends, and once in a while it is written down when."""
    state, message, now_ms = exchange.state, exchange.message, exchange.now_ms
    changed: dict[str, Any] = {}
    if state.silent_ms is not None:
        reason = RETURNED if same_stream else REPLACED
        end_ms = max(now_ms, state.silent_ms)
        ended = silence(exchange.gateway, state.silent_ms, now_ms, until_ms=end_ms, reason=reason)
        exchange.pending[ended.uid] = ended
        changed["silent_ms"] = None
    if state.last_contact_ms is None or now_ms - state.last_contact_ms >= CONTACT_MS or changed:
        changed["last_contact_ms"] = max(now_ms, state.last_contact_ms or 0)
        changed["health"] = message.health.model_dump(mode="json")
    at_head = verdict is Verdict.OK and message.head is not None and message.head.seq == hwm[0]
    if at_head and (state.caught_up_ms is None or now_ms - state.caught_up_ms >= CONTACT_MS):
        changed["caught_up_ms"] = now_ms
    if changed:
        streams.save_gateway(exchange.connection, exchange.gateway.id, **changed)
    told = message.inventory if verdict is Verdict.OK else None
    if told is not None and told.hash != state.inventory_hash:
        gateway = exchange.gateway
        streams.save_inventory(exchange.connection, gateway.id, gateway.site, told, now_ms)


def _wants_inventory(exchange: _Exchange, verdict: Verdict) -> bool:
    head = exchange.message.head
    if head is None or verdict is not Verdict.OK:
        return False
    inventory = exchange.message.inventory
    known = exchange.state.inventory_hash if inventory is None else inventory.hash
    return head.inventory_hash != known
