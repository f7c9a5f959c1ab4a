"""The rows of a message: each is read alone, held against what is stored of it, and dated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection

from collector import boots, merge, redating
from collector.dating import Clocks
from collector.exchange import Exchange
from collector.folding import Pending
from collector.store import occurrences, streams
from collector.store.occurrences import Held
from collector.store.streams import clean
from edge_agent.wire import Row, Verdict, WireError, dedupe_key, mono_ms, read_row, unpacked

SPOILT = "the collector stumbles over it; its log says more"


def take(connection: Connection, exchanges: Sequence[Exchange]) -> None:
    """Of a live stream all; of a superseded one only what ended, and the rest is put aside. No uid is in two
    of these messages.
    """
    read = [(exchange, _readable(exchange)) for exchange in exchanges]
    held = occurrences.held(connection, [uid for _, rows in read for uid in rows])
    taken = [(exchange, *one) for exchange, rows in read for one in _wanted(exchange, rows, held)]
    told = [(exchange.gateway, row) for exchange, row, _, _ in taken]
    links = boots.links(told)
    clocks = boots.known(connection, told, links)
    thinned = [row.uid for _, row, _, known in taken if known is not None and row.is_thinned]
    whole = occurrences.whole(connection, thinned)
    for exchange, row, raw, known in taken:
        if row.uid in whole and isinstance(raw, dict):
            # What the edge gave up is kept where it arrived before.
            raw = raw | {"evidence": whole[row.uid]["row"].get("evidence") or row.evidence}
        exchange.pending[row.uid] = _pending(exchange, row, raw, known, clocks[exchange.gateway.id])
    for exchange in exchanges:
        fresh = links.get(exchange.gateway.id)
        if fresh:
            redating.between(exchange, fresh, clocks[exchange.gateway.id])


def _wanted(
    exchange: Exchange, rows: Mapping[str, tuple[Row, object]], held: Mapping[str, Held]
) -> list[tuple[Row, object, Held | None]]:
    """What ranks higher than what is held; the rest is put where it belongs."""
    believed = exchange.verdict is Verdict.OK
    orphans = []
    wanted: list[tuple[Row, object, Held | None]] = []
    for uid, (row, raw) in rows.items():
        known = held.get(uid)
        if known is not None and (known.minted or known.gateway_id != exchange.gateway.id):
            exchange.bad.append((raw, "uid: belongs to another gateway"))
        elif known is not None and known.key != row.key:
            exchange.bad.append((raw, "uid: belongs to another condition"))
        elif not believed and row.state == "open":
            orphans.append((uid, raw))
        elif known is None or _outranks(row, known):
            wanted.append((row, raw, known))
    streams.keep_orphans(
        exchange.connection, exchange.gateway.id, exchange.message.stream, orphans, exchange.now_ms
    )
    return wanted


def _readable(exchange: Exchange) -> dict[str, tuple[Row, object]]:
    """By uid, with the row as it was sent; of two forms of one row in one message the higher rank counts. A
    roll-up is what its members were.
    """
    rows: dict[str, tuple[Row, object]] = {}
    for place, raw in enumerate(exchange.message.rows):
        if place in exchange.spoilt:
            exchange.bad.append((raw, SPOILT))
            continue
        try:
            row = read_row(raw)
        except WireError as error:
            exchange.bad.append((raw, str(error)))
            continue
        for one in unpacked(row):
            if one.uid not in rows or merge.rank_of(one) > merge.rank_of(rows[one.uid][0]):
                told = raw if row.members is None else one.model_dump(mode="json", exclude_none=True)
                rows[one.uid] = one, told
    return rows


def _outranks(row: Row, known: Held) -> bool:
    """The digest costs more than all else, and is asked for only where all else is equal."""
    *told, _ = merge.rank(is_open=row.state == "open", estimated=False, rev=row.rev, digest="")
    *held, digest = _rank(known)
    return told > held or (told == held and merge.digest(row) > digest)


def _rank(known: Held) -> merge.Rank:
    return merge.rank(is_open=known.open, estimated=known.estimated, rev=known.rev, digest=known.digest)


def _pending(exchange: Exchange, row: Row, raw: object, known: Held | None, clocks: Clocks) -> Pending:
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
            "unknown_ms": None,
            "minted": False,
            "estimated": False,
            "reason": clean(row.reason),
            "severity": row.severity,
            "count": row.count,
            "title": clean(row.title),
            "first_boot": row.first_bad.boot,
            "first_mono_ms": mono_ms(row.first_bad),
            "end_boot": ended.boot if ended else None,
            "end_mono_ms": mono_ms(ended) if ended else None,
            "received_ms": exchange.now_ms if known is None else known.received_ms,
            "because": row.because,
            "waits": row.waits is not None,
            "row": raw,
            **boots.dated(row, clocks, floor_ms=exchange.state.created_ms),
        },
        advice=clean(row.advice),
        new=known is None,
    )
