"""Decides what is declared when an edge has forgotten rows before they were here (C8), and when that was.

What was forgotten happened after all was held for the last time, and before the first row that comes after
the gap. In between nobody knows how the devices of that gateway were: it is unknown time, never up.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from collector.exchange import Exchange
from collector.store import streams
from edge_agent.wire import Boundary


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Positions ``from_seq`` to ``to_seq`` of a stream, both included."""

    from_seq: int
    to_seq: int
    # Occurrences that the edge counted when it gave them up.
    count: int
    from_ms: int
    to_ms: int


def declared(
    known: list[Gap], *, held_seq: int, pruned_through: int, lost: int, caught_up_ms: int, now_ms: int
) -> Gap | None:
    """The part that was not declared before. ``lost`` counts from the beginning of the stream."""
    from_seq = max([held_seq, *(gap.to_seq for gap in known)]) + 1
    if pruned_through < from_seq:
        return None
    return Gap(
        from_seq=from_seq,
        to_seq=pruned_through,
        count=max(0, lost - sum(gap.count for gap in known)),
        from_ms=min(caught_up_ms, now_ms),
        to_ms=now_ms,
    )


def declare(exchange: Exchange, held: Boundary) -> None:
    """To be called with a message that goes on from ``held``, once its rows were taken."""
    message, connection = exchange.message, exchange.connection
    if message.pruned_through < held[0] or message.to[0] <= held[0]:
        return
    known = [Gap(**values) for values in streams.gaps(connection, message.stream)]
    state = exchange.state
    fresh = declared(
        known,
        held_seq=held[0],
        pruned_through=message.pruned_through,
        lost=message.lost or 0,
        caught_up_ms=state.created_ms if state.caught_up_ms is None else state.caught_up_ms,
        now_ms=exchange.now_ms,
    )
    if fresh is not None:
        known.append(fresh)
    if not known:
        return
    newest = max(known, key=lambda gap: gap.to_seq)
    if held[0] <= newest.to_seq < message.to[0]:
        newest = _until(newest, _first_after(exchange, newest.to_seq))
    elif fresh is None:
        return
    streams.declare_gap(connection, exchange.gateway.id, message.stream, exchange.now_ms, asdict(newest))


def _until(gap: Gap, first_ms: int | None) -> Gap:
    if first_ms is None or first_ms >= gap.to_ms:
        return gap
    return Gap(
        from_seq=gap.from_seq,
        to_seq=gap.to_seq,
        count=gap.count,
        from_ms=gap.from_ms,
        to_ms=max(gap.from_ms, first_ms),
    )


def _first_after(exchange: Exchange, seq: int) -> int | None:
    """When the first row after ``seq`` was written; None if it is not among what was taken."""
    after = [
        (raw["mod_seq"], raw.get("uid"))
        for raw in exchange.message.rows
        if isinstance(raw, dict) and isinstance(raw.get("mod_seq"), int) and raw["mod_seq"] > seq
    ]
    for _, uid in sorted(after, key=lambda one: one[0]):
        if (one := exchange.pending.get(str(uid))) is not None:
            told = [at_ms for at_ms, _ in one.values["severities"]]
            return int(one.values["end_ms"] or max([one.values["raised_ms"], *told]))
    return None
