"""A collector that saw every row once, in the order in which the edges wrote it, with the same clock samples.
The one that went through everything has to tell the same: occurrences, tickets, downtime (promise 3).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from simulation.hub import EPOCH_MS, SITE, Hub
from sqlalchemy import insert, update

from collector import redating, report
from collector.report import By
from collector.store import tables
from edge_agent.wire import ORIGIN

if TYPE_CHECKING:
    from simulation.world import World

# Rows of one message; the law says that it does not matter how many.
BATCH = 12
BOOT = "e" * 32
LIMITLESS = 1 << 30
SAME = (
    "rev",
    "open",
    "start_ms",
    "raised_ms",
    "end_ms",
    "error_ms",
    "severities",
    "severity",
    "reason",
    "count",
)


def differences(world: World) -> Iterator[str]:
    """What the collector tells otherwise than the oracle. What it had to guess is left out: an occurrence
    that was closed because its disk is gone has an end that no edge ever told, and whether one goes on of
    which only an unreadable row may tell (I3 sees to it that it is one) is unknown.
    """
    rows = {row["uid"]: row for row in world.hub.all_of(tables.occurrence)}
    guessed = {row["dedupe_key"] for row in rows.values() if row["estimated"] or row["unknown"]}
    oracle = _told(world, [row for row in rows.values() if not row["minted"] and not row["estimated"]])
    expected = {row["uid"]: row for row in oracle.all_of(tables.occurrence)}
    for uid, row in rows.items():
        if row["minted"] or row["dedupe_key"] in guessed:
            continue
        for name in SAME:
            if name == "severities" and _changed_in_between(row["row"]):
                continue
            if row[name] != expected[uid][name]:
                yield f"{name} of {uid} is {row[name]}, told in order it is {expected[uid][name]}"
    in_hand = {row["dedupe_key"] for row in world.hub.all_of(tables.ticket) if row["worked_until_ms"]} | {
        row["dedupe_key"] for row in world.hub.all_of(tables.ticket) if row["work"] == "in_progress"
    }
    got, wanted = (_groups(found.values(), guessed | in_hand) for found in (rows, expected))
    if got != wanted:
        yield f"tickets hold {got - wanted}, told in order {wanted - got}"
    got_on, wanted_on = (_open_tickets(hub, guessed | in_hand) for hub in (world.hub, oracle))
    if got_on != wanted_on:
        yield f"open tickets are {got_on}, told in order {wanted_on}"
    moving = {row["device"] for row in expected.values() if _changed_in_between(row["row"])}
    yield from _downtime(world, oracle, moving | {key.split("|")[2] for key in guessed})


def _changed_in_between(row: dict[str, Any]) -> bool:
    """In a boot in which it neither began nor ended: that date is not moved by a better sample of that boot
    (docs/reliability.md, "Known and not mended").
    """
    boots = {row[name]["boot"] for name in ("first_bad", "raised", "cleared") if row.get(name)}
    return any(step["at"]["boot"] not in boots for step in row.get("severities", ()))


def _told(world: World, rows: Sequence[Any]) -> Hub:
    # It leaves nothing for later.
    redating.AT_ONCE = LIMITLESS
    oracle = Hub(gateways=world.hub.gateways, name="oracle")
    offsets = [dict(row) for row in world.hub.all_of(tables.boot_offset)]
    if offsets:
        oracle.database.write(lambda c: c.execute(insert(tables.boot_offset), offsets))
    # (when it was written, gateway, form): first as it was raised, then as it is held.
    forms: list[tuple[int, str, dict[str, Any]]] = []
    for row in rows:
        told = world.ledger.told[row["uid"]]
        place = told.place(row["row"])
        assert place is not None, "the laws have looked"
        for at in sorted({0, place}):
            forms.append((told.written[at], row["gateway_id"], told.forms[at]))
    forms.sort(key=lambda form: form[:2])
    position: dict[str, tuple[int, str]] = defaultdict(lambda: ORIGIN)
    for start in range(0, len(forms), BATCH):
        for gateway in world.hub.gateways:
            batch = [one for one in forms[start : start + BATCH] if one[1] == gateway.id]
            if batch:
                position[gateway.id] = _send(oracle, gateway, batch, position[gateway.id])
    return oracle


def _send(oracle: Hub, gateway: Any, batch: Sequence[tuple[int, str, Any]], from_: Any) -> tuple[int, str]:
    seq = from_[0] + len(batch)
    to = (seq, f"{seq:032x}")
    body = {
        "v": 1,
        "stream": gateway.id[1:] * 32,
        "from": from_,
        "to": to,
        "lineage": [from_, to],
        "rows": [form | {"mod_seq": from_[0] + n} for n, (_, _, form) in enumerate(batch, 1)],
        "clock": {"boot": BOOT, "mono_ns": 10**18, "wall_ms": EPOCH_MS + batch[-1][0], "source": "ntp"},
    }
    answer = oracle.sync(gateway, json.dumps(body).encode(), EPOCH_MS + batch[-1][0])
    assert answer.verdict == "ok"
    return to


def _groups(rows: Any, guessed: set[str]) -> set[frozenset[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if not row["minted"] and row["dedupe_key"] not in guessed:
            found[row["ticket_id"]].add(row["uid"])
    return {frozenset(uids) for uids in found.values()}


def _open_tickets(hub: Hub, guessed: set[str]) -> list[tuple[Any, ...]]:
    return sorted(
        (
            row["dedupe_key"],
            row["condition"],
            row["first_ms"],
            row["returns"],
            row["count"],
            row["because"] or row["waits"],
        )
        for row in hub.all_of(tables.ticket)
        if row["condition"] != "cleared" and row["dedupe_key"] not in guessed and row["component"] != "agent"
    )


def _downtime(world: World, oracle: Hub, guessed: set[str]) -> Iterator[str]:
    """The oracle is given what is not told in rows: inventories, contact, silences, gaps."""
    for table in (tables.device, tables.absence, tables.gap):
        rows = [dict(row) for row in world.hub.all_of(table)]
        if rows:
            oracle.database.write(lambda c, table=table, rows=rows: c.execute(insert(table), rows))
    for row in world.hub.all_of(tables.gateway):
        own = {name: row[name] for name in ("caught_up_ms", "last_contact_ms", "silent_ms")}
        statement = update(tables.gateway).where(tables.gateway.c.id == row["id"]).values(**own)
        oracle.database.write(lambda c, statement=statement: c.execute(statement))
    minted = [dict(row) for row in world.hub.all_of(tables.occurrence) if row["minted"]]
    ids = {row["ticket_id"] for row in minted}
    silences = [
        dict(row) | {"number": 100_000 + row["number"]}
        for row in world.hub.all_of(tables.ticket)
        if row["id"] in ids
    ]
    if minted:
        oracle.database.write(lambda c: c.execute(insert(tables.ticket), silences))
        oracle.database.write(lambda c: c.execute(insert(tables.occurrence), minted))
    found = [
        {
            item.key: (item.down_ms, item.unknown_ms, item.observed_ms, item.stops, item.open)
            for item in hub.database.write(
                lambda c: report.downtime(c, SITE, EPOCH_MS, world.now_ms, By.DEVICE, world.now_ms)
            ).items
            if item.key not in guessed
        }
        for hub in (world.hub, oracle)
    ]
    if found[0] != found[1]:
        yield f"downtime is {found[0]}, told in order {found[1]}"
