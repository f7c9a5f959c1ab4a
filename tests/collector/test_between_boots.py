"""A boot in which the agent could never speak is dated by the boots before and after it."""

from __future__ import annotations

import random
from typing import Any

import pytest
from rigs.edge_voice import MINUTE_MS, MONDAY_MS, EdgeVoice, enrol, send
from sqlalchemy import select

from collector import redating
from collector.store import Store, dates_due, tables
from collector.sweep import sweep
from edge_agent.wire import Stamp

# When each boot began, in minutes. The agent spoke in a, n and z, never in d and e.
BEGAN = {"a": -900.0, "d": 100.0, "e": 140.0, "n": 200.0, "z": 500.0}
SPOKEN = (("a", 0.0), ("a", 85.0), ("n", 201.0), ("n", 230.0))
NOW = 600.0


def at(boot: str, minute: float, **more: Any) -> dict[str, Any]:
    """No wall clock was ever set."""
    mono_ns = int((minute - BEGAN[boot]) * MINUTE_MS) * 1_000_000
    return {"boot": boot.encode().hex() * 16, "mono_ns": mono_ns, "wall_ms": 0, "source": "none"} | more


def history(gateway: str, **wall: Any) -> list[dict[str, Any]]:
    """All has ended. ``wall``: what the clock of boot d said at its anchor."""
    rows: list[dict[str, Any]] = []

    def add(first: dict[str, Any], last: dict[str, Any], **more: Any) -> None:
        row = {
            "uid": f"{gateway.encode().hex()}{len(rows):026x}", "rev": 2, "state": "closed", "title": "t",
            "device": "printer-1", "component": "media", "fault": "jam", "severity": 30,
            "severities": [{"severity": 30, "at": first}], "first_bad": first, "raised": first,
            "cleared": last, "reason": "cleared", "mod_seq": len(rows) + 1,
        }  # fmt: skip
        rows.append(row | more)

    own = {"device": gateway, "component": "agent", "fault": "not-running"}
    add(at("a", 50), at("a", 55))
    add(at("a", 89), at("d", 100.5), **own)
    add(at("d", 105), at("d", 112))
    add(at("d", 129, **wall), at("e", 140.5), **own)
    add(at("e", 145), at("e", 146), device="printer-2")
    add(at("e", 159), at("n", 200.5), **own)
    add(at("e", 150), at("n", 201), device="printer-3")
    return rows


def taken(
    store: Store, gateway: str, seed: int | None, *, left_out: tuple[int, ...] = (), **wall: Any
) -> list[tuple[float, float, int]]:
    """(began, ended, error), in minutes and ms, of the rows above. Of a stream that is over what ended is
    taken in any order, with the clock of any message.
    """
    edge = EdgeVoice(enrol(store, gateway), seed=int(gateway[2:]))
    first = edge.message(0)
    say(store, edge, first, "z", NOW)
    edge.begin_again()
    for _ in range(2):
        edge.hear(say(store, edge, edge.message(0), "z", NOW))
    rows = [row for number, row in enumerate(history(gateway, **wall)) if number not in left_out]
    told: list[tuple[list[dict[str, Any]], tuple[str, float]]] = [
        *(([row], ("z", NOW)) for row in rows),
        *(([], spoken) for spoken in SPOKEN),
    ]
    chance = random.Random(seed)
    if seed is not None:
        told += chance.sample(told, 5)
        chance.shuffle(told)
    for some, (boot, minute) in told:
        say(store, edge, first.model_copy(update={"rows": some, "head": None}), boot, minute)
    now_ms = MONDAY_MS + int(NOW * MINUTE_MS)
    while store.read(dates_due.whose):
        store.write(lambda connection: sweep(connection, now_ms, started_ms=now_ms))
    found = store.read(lambda connection: connection.execute(select(tables.occurrence)).all())
    return [
        ((one.start_ms - MONDAY_MS) / MINUTE_MS, (one.end_ms - MONDAY_MS) / MINUTE_MS, one.error_ms)
        for one in sorted(found, key=lambda one: one.uid)
        if not one.minted and one.gateway_id == edge.gateway.id
    ]


def say(store: Store, edge: EdgeVoice, message: Any, boot: str, minute: float) -> Any:
    clock = Stamp(**at(boot, minute))
    return send(store, edge.gateway, message.model_copy(update={"clock": clock}), minute)


def test_a_boot_that_never_spoke_lies_between_those_that_did(store: Store) -> None:
    in_order = taken(store, "gw1", None)
    true = [(50, 55), (89, 100.5), (105, 112), (129, 140.5), (145, 146), (159, 200.5), (150, 201)]
    for (began, ended, error_ms), (truly_began, truly_ended) in zip(in_order, true, strict=True):
        assert abs(began - truly_began) * MINUTE_MS <= error_ms
        assert abs(ended - truly_ended) * MINUTE_MS <= error_ms
    # Boot d had not begun before minute 88.5 and had by minute 153, if e ended when n began.
    began, ended, error_ms = in_order[2]
    assert began == pytest.approx((88.5 + 153) / 2 + 5, abs=0.01)
    assert round((ended - began) * MINUTE_MS) == 7 * MINUTE_MS
    assert error_ms == pytest.approx((153 - 88.5) / 2 * MINUTE_MS, abs=2_500)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("at_once", [redating.AT_ONCE, 1])
def test_whatever_arrives_first_the_dates_are_the_same(
    store: Store, seed: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_order = taken(store, "gw1", None)
    monkeypatch.setattr(redating, "AT_ONCE", at_once)
    assert taken(store, "gw2", seed) == in_order


def test_a_wall_clock_that_agrees_with_it_says_it_closer(store: Store) -> None:
    right = {"wall_ms": MONDAY_MS + 129 * MINUTE_MS + 2_000, "source": "ntp"}
    began, ended, error_ms = taken(store, "gw1", None, **right)[2]
    assert (began, ended) == (pytest.approx(105, abs=0.05), pytest.approx(began + 7))
    assert error_ms == 5_000 + 360 + 360 * 7 // 60


def test_a_wall_clock_that_cannot_be_right_is_not_believed(store: Store) -> None:
    wrong = {"wall_ms": MONDAY_MS + 400 * MINUTE_MS, "source": "ntp"}
    assert taken(store, "gw1", None, **wrong) == taken(store, "gw2", None)


def test_with_nothing_before_it_a_boot_ends_when_the_next_one_begins_and_the_error_says_so(
    store: Store,
) -> None:
    began, _, error_ms = taken(store, "gw1", None, left_out=(1,))[1]
    assert began == pytest.approx(153 + 5, abs=0.05)
    assert error_ms > 300 * 24 * 60 * MINUTE_MS


def test_messages_of_boots_that_all_spoke_ask_for_nothing_more(store: Store, monkeypatch: Any) -> None:
    edge = EdgeVoice(enrol(store))
    edge.raises(0)
    edge.sync(store, 0.1)
    monkeypatch.setattr("collector.store.occurrences.starts_of", None)
    monkeypatch.setattr("collector.redating.between", None)
    edge.clears(edge.raises(1), 2)
    edge.sync(store, 70)
