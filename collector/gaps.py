"""Decides what is declared when an edge has forgotten rows before they were here (C8), and when that was.

What was forgotten happened after all was held for the last time, and before the first row that comes after
the gap. In between nobody knows how the devices of that gateway were: it is unknown time, never up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from collector.exchange import Exchange
from collector.store import streams
from edge_agent.wire import MAX_INT, Boundary, SyncRequest


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
    known: Sequence[Gap], *, held_seq: int, gone_through: int, lost: int, caught_up_ms: int, now_ms: int
) -> Gap | None:
    """The part that was not declared before, or the gap in which there is more than was counted before.
    ``known``: gaps of this stream, in order; ``lost``: occurrences that were counted in none.
    """
    from_seq = max([held_seq, *(gap.to_seq for gap in known)]) + 1
    if gone_through >= from_seq:
        return Gap(
            from_seq=from_seq,
            to_seq=gone_through,
            count=lost,
            from_ms=min(caught_up_ms, now_ms),
            to_ms=now_ms,
        )
    if not (known and lost):
        return None
    return replace(known[-1], count=min(known[-1].count + lost, MAX_INT))


def declare(exchange: Exchange, held: Boundary) -> None:
    """To be called with a message that goes on from ``held``, once its rows were taken."""
    message, connection = exchange.message, exchange.connection
    losses = message.losses or []
    if message.to[0] <= held[0] or max(_gone(message), default=0) < held[0]:
        return
    known = [Gap(**values) for values in streams.gaps(connection, message.stream)]
    state = exchange.state
    gone_through, lost = _by_loss(exchange, held[0]) if losses else _by_stream(message, known)
    fresh = declared(
        known,
        held_seq=held[0],
        gone_through=gone_through,
        lost=lost,
        caught_up_ms=state.created_ms if state.caught_up_ms is None else state.caught_up_ms,
        now_ms=exchange.now_ms,
    )
    if fresh is not None:
        known = [*(gap for gap in known if gap.from_seq != fresh.from_seq), fresh]
    if not known:
        return
    newest = max(known, key=lambda gap: gap.to_seq)
    if held[0] <= newest.to_seq < message.to[0]:
        newest = _until(newest, _first_after(exchange, newest.to_seq))
    elif fresh is None:
        return
    streams.declare_gap(connection, exchange.gateway.id, message.stream, exchange.now_ms, asdict(newest))


def _gone(message: SyncRequest) -> list[int]:
    """Positions up to which something is not in the journal any more."""
    return [message.pruned_through, *(loss.through for loss in message.losses or ())]


def _by_loss(exchange: Exchange, held_seq: int) -> tuple[int, int]:
    """Up to where something is gone that was not declared before, in this stream or an earlier one, and how
    many occurrences. What the position has passed was sent before it was lost.
    """
    message = exchange.message
    losses = message.losses or []
    counted = streams.losses(exchange.connection, exchange.gateway.id, [loss.id for loss in losses])
    gone_through = lost = 0
    if message.pruned_through > max(loss.through for loss in losses):
        gone_through = message.pruned_through
    for loss in losses:
        through, count = counted.get(loss.id, (-1, 0))
        if loss.through > held_seq and (loss.through > through or loss.count > count):
            gone_through = max(gone_through, loss.through)
            lost += max(0, loss.count - count)
        counted[loss.id] = max(through, loss.through), max(count, loss.count)
    streams.count_losses(exchange.connection, exchange.gateway.id, counted)
    return gone_through, min(lost, MAX_INT)


def _by_stream(message: SyncRequest, known: Sequence[Gap]) -> tuple[int, int]:
    """The same of an agent that counts what it lost from the beginning of the stream on."""
    return message.pruned_through, max(0, (message.lost or 0) - sum(gap.count for gap in known))


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
