"""Dates again what is stored when more becomes known of a clock: a little at once, much in slices by a sweep,
so that no message waits for all that happened in a bad hour.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection
from sqlalchemy import Row as StoredRow

from collector import boots, dating
from collector.dating import HOUR_MS, Clocks, Link
from collector.exchange import Exchange, GatewayIdentity
from collector.folding import Pending
from collector.store import dates_due, occurrences, streams
from collector.store.dates_due import Stretch
from collector.store.streams import clean
from edge_agent.wire import NOT_RUNNING, Row, Verdict

# A transaction dates no more than about so many again: some 20 ms.
AT_ONCE = 250
# All of a boot, in ms of its monotonic clock.
WHOLE = (0, 1 << 60)
# A boot that never spoke has no hour that is known better.
NO_HOUR = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Dating:
    """Occurrences of one gateway; what is ``pending`` already is dated by what is known now."""

    connection: Connection
    gateway: GatewayIdentity
    # When it was enrolled.
    floor_ms: int
    pending: dict[str, Pending] = field(default_factory=dict)


def again(exchange: Exchange) -> None:
    """The clock of a boot is known better now: what began or ended near that hour may move by a little, and
    with it boots that never spoke.
    """
    work, told = _of(exchange), dating.sample(exchange.message.clock, exchange.now_ms)
    own = exchange.gateway.id
    offsets = streams.offsets_near(exchange.connection, {(own, told.boot): [told.hour]})[own]
    before, after = dating.reach(offsets[told.boot], told.hour)
    if before < 0:
        # None of those near it.
        offsets = streams.offsets(exchange.connection, {(own, told.boot)})[own]
        before, after = dating.reach(offsets[told.boot], told.hour)
    # What began up to an hour before it may have ended in it.
    stretch = Stretch(
        boot=told.boot, hour=told.hour, from_ms=(before - 1) * HOUR_MS, to_ms=(after + 1) * HOUR_MS
    )
    _beside(work, {told.boot}, _now_or_later(work, stretch))


def put_right(connection: Connection, exchanges: Sequence[Exchange]) -> set[str]:
    """The clock here was put forward: of these gateways it is seen now that offsets of their boot were learnt
    before that, and they are put right.
    """
    told = {(one.gateway.id, one.message.clock.boot): one for one in exchanges if one.verdict is Verdict.OK}
    if not told:
        return set()
    near = streams.offsets_near(
        connection, {boot: [dating.hour(one.message.clock)] for boot, one in told.items()}
    )
    done = set()
    for (own, boot), one in told.items():
        hours = near.get(own, {}).get(boot, {})
        right = dating.put_right(hours, one.message.clock, one.now_ms, one.behind_ms)
        if right:
            streams.put_offsets(connection, own, boot, right)
            done.add(own)
    return done


def all_of(exchange: Exchange) -> None:
    """All of its boot, and with it boots that never spoke."""
    told, (from_ms, to_ms) = dating.sample(exchange.message.clock, exchange.now_ms), WHOLE
    stretch = Stretch(boot=told.boot, hour=told.hour, from_ms=from_ms, to_ms=to_ms)
    work = _of(exchange)
    _beside(work, {told.boot}, _now_or_later(work, stretch))


def between(exchange: Exchange, fresh: Sequence[Link], clocks: Clocks) -> None:
    """Boots that never spoke lie between others now: what is stored of them may move."""
    ends = {stamp.boot for link in fresh for stamp in (link.before, link.after)} - clocks.offsets.keys()
    _beside(_of(exchange), ends, clocks)


def go_on(
    connection: Connection, gateway: GatewayIdentity, stretch: Stretch, *, floor_ms: int
) -> list[Pending]:
    """A slice of what was left for later, and what of it moves. The gateway is locked."""
    work = _Dating(connection=connection, gateway=gateway, floor_ms=floor_ms)
    end_ms = occurrences.nth_of_boot(connection, gateway.id, stretch, AT_ONCE)
    if end_ms is None:
        dates_due.done(connection, gateway.id, stretch)
        part = stretch
    else:
        # More than that in one millisecond go together.
        end_ms = max(end_ms, stretch.from_ms + 1)
        dates_due.shorten(connection, gateway.id, stretch, from_ms=end_ms)
        part = stretch.until(end_ms)
    clocks = _date(work, occurrences.of_boot(connection, gateway.id, part))
    if stretch.hour != NO_HOUR:
        _beside(work, {stretch.boot}, clocks)
    return list(work.pending.values())


def _of(exchange: Exchange) -> _Dating:
    return _Dating(
        connection=exchange.connection,
        gateway=exchange.gateway,
        floor_ms=exchange.state.created_ms,
        pending=exchange.pending,
    )


def _beside(work: _Dating, changed: Collection[str], clocks: Clocks) -> None:
    """Boots that never spoke, of which one of these has a say in the dates."""
    if not clocks.links:
        return
    for boot in sorted(dating.beside(changed, clocks.links, clocks.offsets)):
        from_ms, to_ms = WHOLE
        _now_or_later(work, Stretch(boot=boot, hour=NO_HOUR, from_ms=from_ms, to_ms=to_ms))


def _now_or_later(work: _Dating, stretch: Stretch) -> Clocks:
    """What was known for it; nothing when it is left for later."""
    if occurrences.nth_of_boot(work.connection, work.gateway.id, stretch, AT_ONCE) is not None:
        dates_due.put(work.connection, work.gateway.id, stretch)
        return boots.NOTHING
    return _date(work, occurrences.of_boot(work.connection, work.gateway.id, stretch))


def _date(work: _Dating, stored: Iterable[StoredRow[Any]]) -> Clocks:
    """What of it moves is stored anew."""
    own = work.gateway
    rows = {one.uid: (Row.model_validate(one.row), one) for one in stored if one.uid not in work.pending}
    fresh = boots.told_by(
        (one.values["row"] for one in work.pending.values() if one.values["fault"] == NOT_RUNNING), own.name
    )
    known = boots.known(work.connection, [(own, row) for row, _ in rows.values()], {own.id: fresh})
    clocks = known.get(own.id, boots.NOTHING)
    for uid, (row, one) in rows.items():
        values = dict(one._mapping)
        dated = boots.dated(row, clocks, floor_ms=work.floor_ms)
        if one.estimated:
            dated["end_ms"] = max(dated["start_ms"], values["end_ms"])
        if any(values[name] != value for name, value in dated.items()):
            work.pending[uid] = Pending(values=values | dated, advice=clean(row.advice))
    return clocks
