"""Decides when two boxes speak as one gateway: a copy of its disk runs, with the same credential.

Each of them finds that the collector holds another history, begins a new stream and thereby supersedes the
other's, in turns and without end. One box alone can begin as many streams as it likes, and what it said
before may come late, but two things it cannot do, and each of them is a *switch*: go back to an earlier boot
(a stream is believed only after an answer went there and back), and speak on an older stream after it has
begun a newer one in the same boot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from collector import minted
from collector.exchange import Exchange, GatewayIdentity
from collector.folding import Pending
from collector.store import audit, occurrences, streams
from edge_agent.wire import CLONED, Severity, mono_ms

# Each box may begin a stream once a minute, so it takes about two minutes until there are so many. One or two
# may be a disk that was put back while the machine ran on.
SWITCHES = 3
# Older ones are forgotten, and without a new one for so long there is one box again.
QUIET_MS = 3_600_000
ONE_AGAIN = "one_again"

# (live stream, when)
Switch = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    switches: tuple[Switch, ...] = ()
    # Since when there are two; None while there is one.
    since_ms: int | None = None


def judge(was: Standing, live: str, now_ms: int) -> Standing:
    """There was a switch while ``live`` is the stream that counts. Once for each."""
    recent = tuple(one for one in was.switches if one[1] > now_ms - QUIET_MS)
    if any(stream == live for stream, _ in recent):
        return was
    switches = (*recent, (live, now_ms))[-SWITCHES:]
    since_ms = was.since_ms
    if since_ms is None and len(switches) >= SWITCHES:
        since_ms = switches[0][1]
    return Standing(switches=switches, since_ms=since_ms)


def look(exchange: Exchange, *, begun: bool) -> None:
    """To be called for messages of a superseded stream, and for the one with which a stream has ``begun``."""
    boot, now_ms = exchange.message.clock.boot, mono_ms(exchange.message.clock)
    told = streams.believed(exchange.connection, exchange.gateway.id)
    if begun and went_back(boot, [one.boot for one in told]):
        _note(exchange, exchange.message.stream)
    elif not begun and told and told[-1].boot == boot and now_ms > told[-1].mono_ms:
        _note(exchange, told[-1].id)


def went_back(boot: str, before: Sequence[str | None]) -> bool:
    """``before``: the boots of all streams as they were believed, the newest and that of ``boot`` last."""
    earlier = [one for one in before if one is not None]
    return boot in earlier and any(one != boot for one in earlier[earlier.index(boot) :])


def _note(exchange: Exchange, live: str) -> None:
    connection, gateway = exchange.connection, exchange.gateway
    was = _standing(exchange.state.switches, exchange.state.cloned_ms)
    now = judge(was, live, exchange.now_ms)
    if now == was:
        return
    streams.save_gateway(
        connection,
        gateway.id,
        switches=[list(one) for one in now.switches],
        switched_ms=exchange.now_ms,
        cloned_ms=now.since_ms,
    )
    if was.since_ms is None and now.since_ms is not None:
        one = _two(gateway, now.since_ms, exchange.now_ms)
        exchange.pending[one.uid] = one
        audit.write(
            connection,
            at_ms=exchange.now_ms,
            actor=f"gateway {gateway.name}",
            action="two boxes speak as one gateway",
            subject=gateway.name,
            site=gateway.site,
            detail={"streams": sorted({exchange.message.stream, live})},
        )


def over(connection: Connection, gateway: GatewayIdentity, now_ms: int) -> list[Pending]:
    """What ends once it was quiet for ``QUIET_MS``; the gateway is locked."""
    state = streams.lock_gateway(connection, gateway.id)
    if state.cloned_ms is None or state.switched_ms is None or state.switched_ms > now_ms - QUIET_MS:
        return []
    streams.save_gateway(connection, gateway.id, cloned_ms=None, switches=None, switched_ms=None)
    uid = minted.uid(gateway.id, CLONED, state.cloned_ms)
    found = occurrences.whole(connection, [uid]).values()
    return [minted.over(values, ONE_AGAIN, state.switched_ms) for values in found]


def _standing(switches: Sequence[Sequence[object]] | None, cloned_ms: int | None) -> Standing:
    stored = tuple((str(stream), int(str(at_ms))) for stream, at_ms in switches or ())
    return Standing(switches=stored, since_ms=cloned_ms)


def _two(gateway: GatewayIdentity, since_ms: int, now_ms: int) -> Pending:
    return minted.made_here(
        gateway,
        CLONED,
        since_ms=since_ms,
        now_ms=now_ms,
        severity=Severity.STOP,
        title=f"Two boxes speak as gateway {gateway.name}",
        advice="A copy of its disk runs somewhere. Switch one of the two off; if it is to stay, empty its "
        "data folder and enrol it as a gateway of its own. If nobody knows of a copy, revoke the gateway and "
        "enrol it anew: somebody else may have its credential.",
    )
