"""What is known of the clocks of a gateway's boots, and when a row was by them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from collector import dating
from collector.dating import Clocks, Link
from collector.exchange import GatewayIdentity
from collector.store import occurrences, streams
from edge_agent.wire import Row, Stamp

NOTHING = Clocks(offsets={}, estimates={})


def links(rows: Iterable[tuple[GatewayIdentity, Row]]) -> dict[str, list[Link]]:
    """By gateway, of these rows."""
    found: dict[str, list[Link]] = defaultdict(list)
    for gateway, row in rows:
        link = dating.link(row, gateway.name)
        if link is not None:
            found[gateway.id].append(link)
    return found


def told_by(raws: Iterable[object], gateway: str) -> list[Link]:
    found = (dating.link(Row.model_validate(raw), gateway) for raw in raws)
    return [link for link in found if link is not None]


def stored_links(connection: Connection, gateway: GatewayIdentity) -> list[Link]:
    raws = occurrences.starts_of(connection, gateway.id, gateway.site, gateway.name)
    return told_by(raws, gateway.name)


def known(
    connection: Connection,
    rows: Sequence[tuple[GatewayIdentity, Row]],
    fresh: Mapping[str, Sequence[Link]],
) -> dict[str, Clocks]:
    """By gateway, of all boots that these rows were written in; ``fresh`` are links that are not stored yet.
    Only where one of these boots never spoke more is asked for.
    """
    hours: dict[tuple[str, str], set[int]] = defaultdict(set)
    for gateway, row in rows:
        for stamp in _stamps(row):
            hours[gateway.id, stamp.boot].add(dating.hour(stamp))
    boots = hours.keys()
    offsets = streams.offsets_near(connection, hours)
    gateways = {gateway.id: gateway for gateway, _ in rows}
    found = {own: Clocks(offsets=offsets.get(own, {}), estimates={}) for own in gateways}
    for own in sorted({own for own, boot in boots if boot not in offsets.get(own, {})}):
        told = [*stored_links(connection, gateways[own]), *fresh.get(own, ())]
        linked = {(own, stamp.boot) for link in told for stamp in (link.before, link.after)}
        heard = streams.offsets(connection, linked | {one for one in boots if one[0] == own}).get(own, {})
        found[own] = Clocks(offsets=heard, estimates=dating.estimates(told, heard), links=told)
    return found


def dated(row: Row, by: Clocks, *, floor_ms: int) -> dict[str, Any]:
    """The columns of an occurrence that tell when it was. ``floor_ms``: when its gateway was enrolled."""
    dates = dating.dates(row, by, floor_ms=floor_ms)
    return {
        "start_ms": dates.start_ms,
        "raised_ms": dates.raised_ms,
        "end_ms": dates.end_ms,
        "error_ms": dates.error_ms,
        "severities": [list(step) for step in dates.severities],
    }


def _stamps(row: Row) -> list[Stamp]:
    """Those that are dated: inside the boot of the first one all others are so long after it."""
    first, raised, cleared = row.first_bad, row.raised, row.cleared
    others = [change.at for change in row.severities if change.at.boot != first.boot]
    if raised.boot != first.boot:
        others.append(raised)
    if cleared is not None and cleared.boot != first.boot:
        others.append(cleared)
    return [first, *others]
