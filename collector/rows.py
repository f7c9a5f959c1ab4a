"""The rows of a message: each is read alone, held against what is stored of it, and dated."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection
from sqlalchemy import Row as StoredRow

from collector import dating, merge
from collector.dating import HOUR_MS, Clocks, Link
from collector.exchange import Exchange
from collector.folding import Pending
from collector.store import occurrences, streams
from collector.store.occurrences import Held
from collector.store.streams import clean
from edge_agent.wire import NOT_RUNNING, Row, Stamp, Verdict, WireError, dedupe_key, read_row, unpacked


def take(connection: Connection, exchanges: Sequence[Exchange]) -> None:
    """Of a live stream all; of a superseded one only what ended, and the rest is put aside. No uid is in two
    of these messages.
    """
    read = [(exchange, _readable(exchange)) for exchange in exchanges]
    held = occurrences.held(connection, [uid for _, rows in read for uid in rows])
    taken = [(exchange, *one) for exchange, rows in read for one in _wanted(exchange, rows, held)]
    links = _links([(exchange, row) for exchange, row, _, _ in taken])
    clocks = _clocks(connection, [(exchange, row) for exchange, row, _, _ in taken], links)
    thinned = [row.uid for _, row, _, known in taken if known is not None and row.is_thinned]
    whole = occurrences.whole(connection, thinned)
    for exchange, row, raw, known in taken:
        if row.uid in whole and isinstance(raw, dict):
            # What the edge gave up is kept where it arrived before.
            raw = raw | {"evidence": whole[row.uid]["row"].get("evidence") or row.evidence}
        exchange.pending[row.uid] = _pending(exchange, row, raw, known, clocks[exchange.gateway.id])
    for exchange in exchanges:
        told = links.get(exchange.gateway.id)
        if told:
            _date_between(exchange, told, clocks[exchange.gateway.id])


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
    for raw in exchange.message.rows:
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


def _links(rows: Iterable[tuple[Exchange, Row]]) -> dict[str, list[Link]]:
    """By gateway, of these rows."""
    found: dict[str, list[Link]] = defaultdict(list)
    for exchange, row in rows:
        link = dating.link(row, exchange.gateway.name)
        if link is not None:
            found[exchange.gateway.id].append(link)
    return found


def _clocks(
    connection: Connection, rows: Sequence[tuple[Exchange, Row]], fresh: Mapping[str, Sequence[Link]]
) -> dict[str, Clocks]:
    """By gateway, of all boots that these rows were written in; ``fresh`` are links that are not stored yet.
    Only where one of these boots never spoke more is asked for.
    """
    boots = {(exchange.gateway.id, stamp.boot) for exchange, row in rows for stamp in _stamps(row)}
    offsets = streams.offsets(connection, boots)
    clocks = {
        exchange.gateway.id: Clocks(offsets=offsets.get(exchange.gateway.id, {}), estimates={})
        for exchange, _ in rows
    }
    gateways = {exchange.gateway.id: exchange.gateway for exchange, _ in rows}
    for own in sorted({own for own, boot in boots if boot not in offsets.get(own, {})}):
        stored = occurrences.starts_of(connection, own, gateways[own].site, gateways[own].name)
        links = [*_told_by(stored, gateways[own].name), *fresh.get(own, ())]
        linked = {(own, stamp.boot) for link in links for stamp in (link.before, link.after)}
        known = streams.offsets(connection, linked | {one for one in boots if one[0] == own}).get(own, {})
        clocks[own] = Clocks(offsets=known, estimates=dating.estimates(links, known), links=links)
    return clocks


def _told_by(raws: Iterable[object], gateway: str) -> list[Link]:
    links = (dating.link(Row.model_validate(raw), gateway) for raw in raws)
    return [link for link in links if link is not None]


def _stamps(row: Row) -> list[Stamp]:
    stamps = [row.first_bad, row.raised, *(change.at for change in row.severities)]
    return stamps if row.cleared is None else [*stamps, row.cleared]


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
            **_dated(exchange, row, clocks),
        },
        advice=clean(row.advice),
        new=known is None,
    )


def _dated(exchange: Exchange, row: Row, clocks: Clocks) -> dict[str, Any]:
    dates = dating.dates(row, clocks, floor_ms=exchange.state.created_ms)
    return {
        "start_ms": dates.start_ms,
        "raised_ms": dates.raised_ms,
        "end_ms": dates.end_ms,
        "error_ms": dates.error_ms,
        "severities": [list(step) for step in dates.severities],
    }


def _date_between(exchange: Exchange, fresh: Sequence[Link], clocks: Clocks) -> None:
    """Boots that never spoke lie between others now: what is stored of them may move."""
    ends = {stamp.boot for link in fresh for stamp in (link.before, link.after)} - clocks.offsets.keys()
    if between := dating.beside(ends, clocks.links, clocks.offsets):
        _date_stored(exchange, occurrences.of_boots(exchange.connection, exchange.gateway.id, between))


def date_again(exchange: Exchange) -> None:
    """The clock of a boot is known better now: what began or ended near that hour may move by a little, and
    with it boots that never spoke.
    """
    told = dating.sample(exchange.message.clock, exchange.now_ms)
    own = exchange.gateway.id
    offsets = streams.offsets(exchange.connection, {(own, told.boot)})[own]
    before, after = dating.reach(offsets[told.boot], told.hour)
    stored = occurrences.of_boot(exchange.connection, own, told.boot, before * HOUR_MS, (after + 1) * HOUR_MS)
    clocks = _date_stored(exchange, stored)
    if clocks.links and (between := dating.beside({told.boot}, clocks.links, clocks.offsets)):
        _date_stored(exchange, occurrences.of_boots(exchange.connection, own, between))


def _date_stored(exchange: Exchange, stored: Iterable[StoredRow[Any]]) -> Clocks:
    """What of it moves is stored anew."""
    own, name = exchange.gateway.id, exchange.gateway.name
    rows = {one.uid: (Row.model_validate(one.row), one) for one in stored if one.uid not in exchange.pending}
    fresh = _told_by(
        (one.values["row"] for one in exchange.pending.values() if one.values["fault"] == NOT_RUNNING), name
    )
    clocks = _clocks(exchange.connection, [(exchange, row) for row, _ in rows.values()], {own: fresh}).get(
        own, Clocks(offsets={}, estimates={})
    )
    for uid, (row, one) in rows.items():
        values = dict(one._mapping)
        dated = _dated(exchange, row, clocks)
        if one.estimated:
            dated["end_ms"] = max(dated["start_ms"], values["end_ms"])
        if any(values[name] != value for name, value in dated.items()):
            exchange.pending[uid] = Pending(values=values | dated, advice=clean(row.advice))
    return clocks
