"""Decides whether the wall clock of a gateway is right, and makes a ticket of it while it is not.

Dates do not depend on it as long as the gateway speaks; what it recorded in a boot in which it never could
speak does. A message may be late, so the wall clock is held against the moment at which it was sent, as far
as the messages of that boot tell it, and has to be wrong for a while.
"""

from __future__ import annotations

from dataclasses import dataclass

from collector import dating, minted
from collector.exchange import Exchange
from collector.store import occurrences, streams
from edge_agent.wire import CLOCK, Severity

# How far it may be off. Half of that ends it, so that a clock at the limit is one ticket, not many.
SKEW_MS = 30_000
# So long it has to be wrong: by then there was a message that was not late.
SETTLES_MS = 60_000
RIGHT_AGAIN = "right_again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    # Since when the clock is seen to be wrong; None while it is right.
    since_ms: int | None = None
    told: bool = False


def judge(was: Standing, skew_ms: int, now_ms: int, limit_ms: int = SKEW_MS) -> Standing:
    allowed_ms = limit_ms // 2 if was.told else limit_ms
    if abs(skew_ms) <= allowed_ms:
        return Standing()
    since_ms = now_ms if was.since_ms is None else was.since_ms
    return Standing(since_ms=since_ms, told=was.told or now_ms - since_ms >= SETTLES_MS)


def look(exchange: Exchange, limit_ms: int) -> None:
    """To be called for messages of a live stream, once the clock sample of this one has been learnt."""
    gateway, clock, now_ms = exchange.gateway, exchange.message.clock, exchange.now_ms
    told, stored_ms = exchange.state.clock_told, exchange.state.clock_ms
    seen_ms = minted.believable(stored_ms, now_ms)
    # A ticket bears the moment of which it was told, whatever clock it was by.
    was = Standing(since_ms=stored_ms if told else seen_ms, told=told)
    if was.since_ms is None and abs(clock.wall_ms - now_ms) <= limit_ms // 2:
        return
    hours = {(gateway.id, clock.boot): [dating.hour(clock)]}
    offsets = streams.offsets_near(exchange.connection, hours).get(gateway.id, {})
    sent_ms, _ = dating.date(clock, dating.Clocks(offsets=offsets, estimates={}), floor_ms=0)
    if seen_ms is not None and sent_ms < seen_ms:
        # Late: what the clock showed before it was seen to be wrong.
        return
    skew_ms = clock.wall_ms - sent_ms
    now = judge(was, skew_ms, now_ms, limit_ms)
    if now == was:
        return
    streams.save_gateway(exchange.connection, gateway.id, clock_ms=now.since_ms, clock_told=now.told)
    if now.told and not was.told and now.since_ms is not None:
        one = minted.made_here(
            gateway,
            CLOCK,
            since_ms=now.since_ms,
            now_ms=now_ms,
            severity=Severity.NOTICE,
            title=sentence(gateway.name, clock.source, skew_ms),
            advice="Give it a time server that it can reach (timedatectl), or a new battery for its clock. "
            "Order and durations are right in spite of it; what it records without network may be misdated.",
        )
        exchange.pending[one.uid] = one
    elif was.told and not now.told and was.since_ms is not None:
        uid = minted.uid(gateway.id, CLOCK, was.since_ms)
        for values in occurrences.whole(exchange.connection, [uid]).values():
            exchange.pending[uid] = minted.over(values, RIGHT_AGAIN, now_ms)


def sentence(name: str, source: str, skew_ms: int) -> str:
    """The title of the ticket."""
    if source == "none":
        return f"The clock of gateway {name} was never set"
    return f"The clock of gateway {name} is {_about(abs(skew_ms))} {'ahead' if skew_ms > 0 else 'behind'}"


def _about(ms: int) -> str:
    for unit_ms, unit in ((86_400_000, "days"), (3_600_000, "h"), (60_000, "min")):
        if ms >= 2 * unit_ms:
            return f"{ms // unit_ms} {unit}"
    return f"{ms // 1000} s"
