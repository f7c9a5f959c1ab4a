"""Agents of other versions against this collector: each cell of the table in ``docs/wire.md``, "Versions"."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from rigs.edge_voice import MINUTE_MS, MONDAY_MS, EdgeVoice, enrol
from sqlalchemy import select

from collector.exchange import GatewayIdentity
from collector.ingest import Applied, apply
from collector.store import Store, tables
from collector.store import tickets as ticket_store
from collector.store.tickets import TicketFilter
from edge_agent.wire import VERSION, WireError, decode_sync, encode

# A value that must come back as it came: order, depth, characters, a number beyond 64 bits.
LATER = {"of_a_later_version": {"z": 1, "a": [None, True, "\u00e4\u2028</script>", {"n": 10**30}]}}

Body = dict[str, Any]


def _row(**more: Any) -> Callable[[Body], None]:
    return lambda body: body["rows"][0].update(more)


def _moment(name: str, **more: Any) -> Callable[[Body], None]:
    return lambda body: body["rows"][0][name].update(more)


def _inventory(body: Body) -> None:
    body["inventory"].update(LATER)
    body["inventory"]["devices"][0].update(LATER)
    body["inventory"]["devices"][0]["conditions"] = [
        {"component": "media", "fault": "paper-out", "severity": 25, "title": "t"} | LATER
    ]


# What an agent of a later minor version may say that nobody knows yet.
LATER_AGENT: dict[str, Callable[[Body], None]] = {
    "a-later-v": lambda body: body.update(v=VERSION + 1),
    "a-field-of-the-message": lambda body: body.update(LATER),
    "a-field-of-a-row": _row(**LATER),
    "a-field-of-a-step-of-severity": lambda body: body["rows"][0]["severities"][0].update(LATER),
    "a-field-of-a-moment": _moment("first_bad", **LATER),
    "a-field-of-the-evidence": _row(evidence=LATER),
    "a-field-of-the-clock": lambda body: body["clock"].update(LATER),
    "a-field-of-health": lambda body: body["health"].update(LATER),
    "a-field-of-the-head": lambda body: body["head"].update(LATER),
    "fields-of-the-inventory": _inventory,
    "a-reason": _row(reason="moved_house"),
    "a-severity": _row(severity=35),
    "a-severity-between-bands": _row(severity=29),
    "a-source-of-the-wall-clock": lambda body: body["clock"].update(source="gps"),
    "a-source-of-a-moment": _moment("raised", source="gps"),
}
# What the first agent did not send.
EARLIER_AGENT: dict[str, Callable[[Body], None]] = {
    f"without-{name}": lambda body, name=name: body.pop(name)  # type: ignore[misc]  # binds the name
    for name in ("lane", "pruned_through", "health", "inventory")
} | {
    "row-without-" + name: lambda body, name=name: body["rows"][0].pop(name, None)  # type: ignore[misc]
    for name in ("severities", "count", "reason", "advice", "evidence")
}


def said(change: Callable[[Body], Any]) -> Body:
    """A message of an agent of this version, changed."""
    edge = EdgeVoice(GatewayIdentity(id="id-north-gw1", site="north", name="gw1"))
    edge.watches("printer-1")
    edge.raises(0, evidence={"frames": ["x"]})
    body: Body = json.loads(encode(edge.message(1)))
    body["health"] = {"agent_version": "9"}
    change(body)
    return body


def taken(store: Store, body: Body) -> Applied:
    gateway = enrol(store)
    message = decode_sync(json.dumps(body).encode())
    return store.write(lambda c: apply(c, gateway, message, MONDAY_MS + MINUTE_MS))


def kept(store: Store) -> list[Body]:
    return list(store.read(lambda c: c.execute(select(tables.occurrence.c.row)).scalars().all()))


@pytest.mark.parametrize("cell", [*LATER_AGENT, *EARLIER_AGENT])
def test_an_agent_of_another_version_is_understood_and_its_row_is_kept_as_it_came(
    store: Store, cell: str
) -> None:
    body = said((LATER_AGENT | EARLIER_AGENT)[cell])
    applied = taken(store, body)
    assert (applied.answer.verdict, applied.quarantined) == ("ok", 0)
    assert tuple(applied.answer.hwm) == tuple(body["to"])
    (row,) = kept(store)
    # Byte for byte, whatever is in it, on both databases.
    assert json.dumps(row, sort_keys=True) == json.dumps(body["rows"][0], sort_keys=True)
    wanted = TicketFilter(sites=None, state=None)
    (ticket,) = store.read(lambda c: ticket_store.find(c, wanted, None, 9)).items
    severity = body["rows"][0]["severity"]
    assert ticket.severity == ("stop" if severity >= 30 else "degraded")


def test_a_lane_of_a_later_version_is_refused_and_nothing_of_it_is_taken() -> None:
    body = said(lambda body: body.update(lane="telemetry"))
    with pytest.raises(WireError, match="lane"):
        decode_sync(json.dumps(body).encode())
