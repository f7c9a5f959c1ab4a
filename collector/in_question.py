"""Decides what a row whose uid nobody can read may have been about: that is asked for until it has been told
again (C6).
"""

from __future__ import annotations

from collections.abc import Mapping

from collector.exchange import Exchange, uids_in
from collector.store import aside, streams
from collector.store.occurrences import Held
from edge_agent.wire import Lane, Verdict


def arises(exchange: Exchange) -> bool:
    """Whether it brought such a row. What is told ahead comes once more, in the history."""
    in_order = exchange.verdict is Verdict.OK and exchange.message.lane is Lane.FEED
    return in_order and bool(_nameless(exchange))


def look(exchange: Exchange, open_here: Mapping[str, Held]) -> None:
    """``open_here`` is what the gateway has told to be open, where a question arises or it tells its present.

    A row that comes again as it was, while something is asked for, will not be mended by asking: no more is.
    """
    if exchange.verdict is not Verdict.OK:
        return
    before = exchange.state.in_question or []
    asked = before
    if arises(exchange):
        in_vain = before and aside.were_put(exchange.connection, exchange.gateway.id, _nameless(exchange))
        asked = [] if in_vain else sorted(open_here)
    if asked:
        told = set(uids_in(exchange.message.rows))
        asked = [uid for uid in asked if uid not in told]
        head = exchange.message.head
        if head is not None and exchange.at_head():
            # What the edge names no more it could not send.
            named = open_here.keys() & set(head.open)
            asked = [uid for uid in asked if uid in named]
    exchange.in_question = frozenset(asked)
    if asked != before:
        streams.save_gateway(exchange.connection, exchange.gateway.id, in_question=asked or None)


def _nameless(exchange: Exchange) -> list[object]:
    return [raw for raw, _ in exchange.bad if aside.legible_uid(raw) is None]
