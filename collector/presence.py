"""The present of a gateway: what it says is open against what is open here (C6, C10), and that it
spoke at all.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from collector import merge
from collector.exchange import Exchange
from collector.folding import Pending
from collector.minted import CONTACT_MS, RECONCILED, REPLACED, RETURNED, believable, ended_here, silence
from collector.store import aside, occurrences, streams
from collector.store.occurrences import Held
from collector.store.streams import clean
from edge_agent.wire import ID_PATTERN, Head, Lane, Verdict, condition_key


def tells(exchange: Exchange) -> bool:
    """Whether it is believed in what it says of the present."""
    ahead = exchange.message.lane is Lane.PRESENT
    told = exchange.message.head is not None and (ahead or exchange.at_head())
    return exchange.verdict is Verdict.OK and told


def present(exchange: Exchange, open_here: Mapping[str, Held]) -> merge.Reconciliation:
    """C6, when the newest row of the stream is held here; ahead of that nothing ends by being absent.
    ``open_here`` is what the gateway has told to be open.
    """
    head = exchange.message.head
    assert head is not None
    if exchange.message.lane is Lane.PRESENT:
        _settle(exchange, head, merge.Reconciliation(), open_here)
        return merge.Reconciliation()
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
        unreadable=foreign | _unreadable(exchange, set(elsewhere) - stored.keys()),
        in_question=exchange.in_question,
    )
    _settle(exchange, head, told, open_here)
    return told


def _unreadable(exchange: Exchange, uids: Collection[str]) -> dict[str, str | None]:
    """By uid: the condition that each is about, as far as that can be read."""
    before = aside.about(exchange.connection, exchange.gateway.id, uids)
    now = (raw for raw, _ in exchange.bad if isinstance(raw, dict) and aside.legible_uid(raw) in uids)
    return {str(raw["uid"]): _told_key(raw) for raw in (*before, *now)}


def _told_key(raw: Mapping[str, object]) -> str | None:
    names = [raw.get(name) for name in ("device", "component", "fault")]
    if all(isinstance(name, str) and re.fullmatch(ID_PATTERN, name) for name in names):
        return condition_key(*map(str, names))
    return None


def _key(values: Mapping[str, Any]) -> str:
    return condition_key(values["device"], values["component"], values["fault"])


def _settle(
    exchange: Exchange, head: Head, told: merge.Reconciliation, open_here: Mapping[str, Held]
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
        since_ms = believable(exchange.state.last_contact_ms, exchange.now_ms) or exchange.now_ms
        exchange.pending[uid] = ended_here(values, RECONCILED, exchange.now_ms, since_ms=since_ms)
    for uid in known_again:
        if uid not in exchange.pending:
            values = whole[uid]
            advice = str(values["row"].get("advice", ""))
            exchange.pending[uid] = Pending(
                values=values | {"unknown": False, "unknown_ms": None}, advice=clean(advice)
            )


def contact(exchange: Exchange) -> None:
    """Somebody spoke: silence ends, and once in a while it is written down when."""
    state, message, now_ms = exchange.state, exchange.message, exchange.now_ms
    changed: dict[str, Any] = {}
    if state.silent_ms is not None:
        same_stream = exchange.held is not None and exchange.held.live
        reason = RETURNED if same_stream else REPLACED
        end_ms = max(now_ms, state.silent_ms)
        ended = silence(exchange.gateway, state.silent_ms, now_ms, until_ms=end_ms, reason=reason)
        exchange.pending[ended.uid] = ended
        changed["silent_ms"] = None
    last_ms = believable(state.last_contact_ms, now_ms)
    if last_ms is None or now_ms - last_ms >= CONTACT_MS or changed:
        changed["last_contact_ms"] = max(now_ms, last_ms or 0)
        changed["health"] = message.health.model_dump(mode="json")
    caught_up_ms = believable(state.caught_up_ms, now_ms)
    caught_up = exchange.verdict is Verdict.OK and exchange.at_head()
    if caught_up and (caught_up_ms is None or now_ms - caught_up_ms >= CONTACT_MS):
        changed["caught_up_ms"] = now_ms
    if changed:
        streams.save_gateway(exchange.connection, exchange.gateway.id, **changed)
    told = message.inventory if exchange.verdict is Verdict.OK else None
    if told is not None and clean(told.hash) != state.inventory_hash:
        gateway = exchange.gateway
        exchange.moved += streams.save_inventory(exchange.connection, gateway.id, gateway.site, told, now_ms)


def wants_inventory(exchange: Exchange) -> bool:
    head = exchange.message.head
    if head is None or exchange.verdict is not Verdict.OK:
        return False
    inventory = exchange.message.inventory
    known = exchange.state.inventory_hash if inventory is None else clean(inventory.hash)
    return clean(head.inventory_hash) != known
