"""Promise 3: the same rows and clock samples tell the same story in any order."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rigs.edge_voice import MINUTE_MS, MONDAY_MS, enrol
from sqlalchemy import Connection, select

from collector.exchange import GatewayIdentity
from collector.ingest import apply
from collector.merge import BEGINNING
from collector.report import By, downtime
from collector.store import Store, tables
from edge_agent.wire import SyncRequest, dedupe_key

FAULTS = ("paper-out", "ribbon-out")
# In minutes: shorter, as long as and longer than the reopen window of ten.
GAPS = (0.5, 3, 10, 10.5, 14, 40)
LENGTHS = (0.2, 2, 11, 35)
END = 400
BOOT = "b" * 32
sites = (f"site-{number}" for number in itertools.count())


@st.composite
def histories(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Every form of every row that two gateways wrote about one device, in order."""
    forms: list[tuple[float, dict[str, Any]]] = []
    for gateway, fault in itertools.product(range(2), FAULTS):
        minute = draw(st.sampled_from((1.0, 2.0, 30.0)))
        for number in range(draw(st.integers(0, 4))):
            length = draw(st.sampled_from(LENGTHS))
            uid = f"{gateway}{FAULTS.index(fault)}{number:030d}"
            row = _row(uid, fault, minute, draw(st.sampled_from((20, 30))))
            forms.append((minute, {"gateway": gateway, "row": row}))
            if draw(st.booleans()):
                worse = minute + length / 2
                steps = [*row["severities"], {"severity": 30, "at": _stamp(worse)}]
                row = row | {"rev": 2, "severity": 30, "severities": steps}
                forms.append((worse, {"gateway": gateway, "row": row}))
            stays = draw(st.integers(0, 7)) == 0
            if stays:
                break
            row = row | {"rev": row["rev"] + 1, "state": "closed", "cleared": _stamp(minute + length)}
            forms.append((minute + length, {"gateway": gateway, "row": row}))
            minute += length + draw(st.sampled_from(GAPS))
    return [form for _, form in sorted(forms, key=lambda pair: pair[0])]


@given(history=histories(), seed=st.integers(0, 1 << 32))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_order_any_batches_and_any_duplicates_tell_the_same_story(
    sqlite_store: Store, history: list[dict[str, Any]], seed: int
) -> None:
    chance = random.Random(seed)
    in_order = _told(sqlite_store, [[form] for form in history], range(8))
    shuffled = history + chance.sample(history, len(history) // 2)
    chance.shuffle(shuffled)
    batches = []
    while shuffled:
        size = chance.randint(1, 6)
        batches.append(shuffled[:size])
        shuffled = shuffled[size:]
    clocks = list(range(8))
    chance.shuffle(clocks)
    assert _told(sqlite_store, batches, clocks) == in_order


@given(history=histories())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_ticket_is_a_run_of_faults_with_gaps_no_longer_than_the_reopen_window(
    sqlite_store: Store, history: list[dict[str, Any]]
) -> None:
    told = _told(sqlite_store, [[form] for form in history], range(8))
    final = {form["row"]["uid"]: form["row"] for form in history}
    expected: set[frozenset[str]] = set()
    for fault in FAULTS:
        run: list[str] = []
        reach = 0.0
        for row in sorted(
            (row for row in final.values() if row["fault"] == fault),
            key=lambda row: row["first_bad"]["mono_ns"],
        ):
            if run and row["first_bad"]["mono_ns"] > reach + 10 * 60e9:
                expected.add(frozenset(run))
                run = []
            run.append(row["uid"])
            reach = max(reach, row["cleared"]["mono_ns"] if row["state"] == "closed" else float("inf"))
        expected |= {frozenset(run)} if run else set()
    assert told["groups"] == expected


@pytest.mark.parametrize(
    ("hours_apart", "late_ms", "dated_late_ms"), [(0, 9_000, 250), (2, 9_000, 250), (2, 750, 750)]
)
def test_dates_move_together_when_the_clock_is_known_better(
    sqlite_store: Store, hours_apart: int, late_ms: int, dated_late_ms: int
) -> None:
    site = next(sites)
    gateway = enrol(sqlite_store, "gw0", site)
    row = _row("a" * 32, "paper-out", 1, 30)
    slow = _message([{"row": row}], BEGINNING, (1, "1" * 32), clock=2)
    quick = _message([], (1, "1" * 32), (1, "1" * 32), clock=3 + 60 * hours_apart)
    _apply(sqlite_store, gateway, slow, MONDAY_MS + 2 * MINUTE_MS + late_ms)
    assert _starts(sqlite_store, site) == [MONDAY_MS + MINUTE_MS + late_ms]
    _apply(sqlite_store, gateway, quick, MONDAY_MS + (3 + 60 * hours_apart) * MINUTE_MS + 250)
    # A better clock two hours later says nothing about drift in between, but there is not more than that.
    assert _starts(sqlite_store, site) == [MONDAY_MS + MINUTE_MS + dated_late_ms]


def _starts(store: Store, site: str) -> list[int]:
    found = tables.occurrence.c
    return list(
        store.read(lambda c: c.execute(select(found.start_ms).where(found.site == site)).scalars().all())
    )


def _told(store: Store, batches: Sequence[list[dict[str, Any]]], clocks: Sequence[int]) -> dict[str, Any]:
    """Everything that must not depend on the order, after these batches came in."""
    site = next(sites)
    gateways = [enrol(store, f"gw{number}", site) for number in range(2)]
    position = [BEGINNING, BEGINNING]
    streams = [f"{number}{random.Random(site).getrandbits(120):031x}" for number in range(2)]
    # A uid is unique in the world; each telling is another world.
    world = random.Random(site)
    names: dict[str, str] = {}
    left = [list(clocks), list(clocks)]
    seq = 0

    def hand_in(number: int, forms: list[dict[str, Any]]) -> None:
        nonlocal seq
        seq += 1
        clock = left[number].pop(0) if left[number] else clocks[0]
        to = (seq, f"{seq:032x}") if forms else position[number]
        message = _message(forms, position[number], to, clock=END + clock, stream=streams[number])
        # The way takes 20 to 90 ms, differently for each clock sample.
        received_ms = MONDAY_MS + (END + clock) * MINUTE_MS + 20 + (clock * 37) % 71
        _apply(store, gateways[number], message, received_ms)
        position[number] = to

    for batch in batches:
        for number in range(2):
            mine = [form for form in batch if form["gateway"] == number]
            for form in mine:
                names.setdefault(form["row"]["uid"], f"{world.getrandbits(128):032x}")
            renamed = [
                {"gateway": number, "row": form["row"] | {"uid": names[form["row"]["uid"]]}} for form in mine
            ]
            if renamed:
                hand_in(number, renamed)
    for number in range(2):
        while left[number]:
            hand_in(number, [])
    return store.read(lambda connection: _story(connection, site, {new: old for old, new in names.items()}))


def _story(connection: Connection, site: str, real: dict[str, str]) -> dict[str, Any]:
    occurrence, ticket = tables.occurrence.c, tables.ticket.c
    rows = connection.execute(
        select(
            occurrence.uid, occurrence.ticket_id, occurrence.open, occurrence.start_ms, occurrence.end_ms,
            occurrence.severity, occurrence.rev, occurrence.severities, occurrence.error_ms,
        ).where(occurrence.site == site)
    ).all()  # fmt: skip
    tickets = connection.execute(select(tables.ticket).where(ticket.site == site)).mappings().all()
    members: dict[str, set[str]] = {}
    for row in rows:
        members.setdefault(row.ticket_id, set()).add(real[row.uid])
    report = downtime(
        connection, site, MONDAY_MS, MONDAY_MS + END * MINUTE_MS, By.DEVICE, MONDAY_MS + 2 * END * MINUTE_MS
    )
    assert all(one["merged_into"] or one["id"] in members for one in tickets)
    return {
        "occurrences": sorted((real[row.uid], *row[2:]) for row in rows),
        "groups": {frozenset(found) for found in members.values()},
        "open": {
            (
                one["dedupe_key"].removeprefix(dedupe_key(site, "", "", "")[:-2]),
                frozenset(members[one["id"]]),
                one["condition"],
                one["severity"],
                one["first_ms"],
                one["last_ms"],
                one["returns"],
                one["count"],
            )
            for one in tickets
            if one["closed_ms"] is None
        },
        "downtime": (report.total.down_ms, report.total.unknown_ms, report.total.stops),
    }


def _stamp(minute: float) -> dict[str, Any]:
    return {"boot": BOOT, "mono_ns": int(minute * 60_000) * 1_000_000, "wall_ms": 5, "source": "none"}


def _row(uid: str, fault: str, minute: float, severity: int) -> dict[str, Any]:
    return {
        "uid": uid,
        "device": "printer-1",
        "component": "media",
        "fault": fault,
        "rev": 1,
        "state": "open",
        "severity": severity,
        "severities": [{"severity": severity, "at": _stamp(minute)}],
        "mod_seq": 1,
        "first_bad": _stamp(minute),
        "raised": _stamp(minute),
        "title": fault,
    }


def _message(
    forms: Sequence[dict[str, Any]],
    from_: tuple[int, str],
    to: tuple[int, str],
    *,
    clock: float,
    stream: str = "c" * 32,
) -> SyncRequest:
    return SyncRequest.model_validate(
        {
            "v": 1,
            "stream": stream,
            "from": from_,
            "to": to,
            "lineage": [from_, to],
            "rows": [form["row"] for form in forms],
            # A gateway whose clock is right: a wrong one would be a ticket of its own.
            "clock": _stamp(clock) | {"wall_ms": MONDAY_MS + round(clock * MINUTE_MS), "source": "ntp"},
            "inventory": {
                "hash": "h",
                "devices": [{"id": "printer-1", "place": "p", "profile": "z", "bus": "b", "conditions": []}],
            },
        }
    )


def _apply(store: Store, gateway: GatewayIdentity, message: SyncRequest, now_ms: int) -> None:
    answer = store.write(lambda connection: apply(connection, gateway, message, now_ms)).answer
    assert answer.verdict == "ok"
