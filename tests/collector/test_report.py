from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rigs.edge_voice import MINUTE_MS, MONDAY_MS, SITE, EdgeVoice, enrol, key, send
from sqlalchemy import Connection

from collector.report import By, Item, Report, downtime
from collector.store import Store, enrolment
from collector.sweep import sweep

HOUR = 60


# Each example has a site of its own, each voice its own numbers.
SITES = count(1)


def at(minute: float) -> int:
    return MONDAY_MS + int(minute * MINUTE_MS)


def enrol_again(store: Store, minute: float) -> None:
    def unit(connection: Connection) -> None:
        now_ms = at(minute)
        enrolment.add_token(
            connection,
            token_hash="t",
            site=SITE,
            gateway="gw1",
            created_by="x",
            now_ms=now_ms,
            expires_ms=now_ms + 1,
        )
        enrolment.redeem(
            connection,
            token_hash="t",
            secret_sha256="s",
            new_gateway_id="new",
            new_credential_id="c",
            now_ms=now_ms,
        )

    store.write(unit)


def reported(store: Store, from_: float, to: float, by: By = By.DEVICE, now: float = 24 * HOUR) -> Report:
    bounds = [MONDAY_MS + int(minute * MINUTE_MS) for minute in (from_, to)]
    now_ms = MONDAY_MS + int(now * MINUTE_MS)
    report = store.read(lambda connection: downtime(connection, SITE, bounds[0], bounds[1], by, now_ms))
    for item in (*report.items, report.total):
        assert item.observed_ms + item.unknown_ms == item.window_ms
        assert 0 <= item.down_ms <= item.observed_ms
    return report


def minutes(item: Item) -> tuple[float, float]:
    return item.down_ms / MINUTE_MS, item.unknown_ms / MINUTE_MS


def keyed(report: Report) -> dict[str, Item]:
    return {item.key: item for item in report.items}


@pytest.fixture
def edge(store: Store) -> EdgeVoice:
    edge = EdgeVoice(enrol(store))
    edge.watches("printer-1", "printer-2")
    edge.sync(store, 0)
    return edge


def test_overlapping_stops_of_a_device_count_once_and_degraded_not_at_all(
    store: Store, edge: EdgeVoice
) -> None:
    for fault, start, end in (("paper-out", 10, 20), ("head-open", 15, 30), ("dirty", 31, 50)):
        uid = edge.raises(start, fault=fault, severity=20 if fault == "dirty" else 30)
        edge.clears(uid, end)
    edge.sync(store, 51)
    report = reported(store, 0, HOUR)
    items = keyed(report)
    assert minutes(items["printer-1"]) == (20, 0)
    assert minutes(items["printer-2"]) == (0, 0)
    assert (items["printer-1"].stops, items["printer-1"].place) == (1, "hall/line-1")
    assert minutes(report.total) == (20, 0)
    assert report.total.window_ms == 2 * HOUR * MINUTE_MS
    by_fault = keyed(reported(store, 0, HOUR, By.FAULT))
    assert {key: minutes(item)[0] for key, item in by_fault.items()} == {"paper-out": 10, "head-open": 15}


def test_a_fault_that_goes_on_counts_to_now_and_is_flagged(store: Store, edge: EdgeVoice) -> None:
    uid = edge.raises(10)
    edge.sync(store, 11)
    report = reported(store, 0, 8 * HOUR, now=40)
    item = keyed(report)["printer-1"]
    assert (minutes(item), item.open) == ((30, 0), True)
    assert report.to_ms == MONDAY_MS + 40 * MINUTE_MS
    (interval,) = item.intervals
    assert (interval.kind, interval.open, interval.ticket) == ("down", True, uid)


def test_a_silent_gateway_leaves_unknown_and_its_return_fills_it_in(store: Store, edge: EdgeVoice) -> None:
    uid = edge.raises(5)
    edge.sync(store, 6)
    store.write(lambda connection: sweep(connection, MONDAY_MS + 20 * MINUTE_MS))
    items = keyed(reported(store, 0, HOUR, now=30))
    # Down while it was known, unknown since the last contact.
    assert minutes(items["printer-1"]) == (1, 24)
    assert minutes(items["printer-2"]) == (0, 24)
    assert items["printer-2"].intervals[0].kind == "unknown"
    edge.clears(uid, 15)
    edge.sync(store, 31)
    items = keyed(reported(store, 0, 32, now=32))
    assert minutes(items["printer-1"]) == (10, 0)


def test_a_replaced_box_cannot_tell_what_happened_before(store: Store, edge: EdgeVoice) -> None:
    store.write(lambda connection: sweep(connection, MONDAY_MS + 20 * MINUTE_MS))
    swapped = EdgeVoice(edge.gateway, seed=5)
    swapped.inventory, swapped.inventory_hash = edge.inventory, edge.inventory_hash
    swapped.sync(store, 40)
    swapped.sync(store, 40)
    assert minutes(keyed(reported(store, 0, HOUR))["printer-1"]) == (0, 40)


def test_time_in_which_the_agent_did_not_run_is_unknown_not_down(store: Store, edge: EdgeVoice) -> None:
    edge.raises(10)
    gap = edge.raises(20, device="gw1", component="agent", fault="not-running", severity=10)
    edge.clears(gap, 30, reason="restarted")
    edge.sync(store, 31)
    item = keyed(reported(store, 0, 40, now=40))["printer-1"]
    assert minutes(item) == (20, 10)
    assert [(one.kind, one.from_ms - MONDAY_MS) for one in item.intervals] == [
        ("down", 10 * MINUTE_MS),
        ("unknown", 20 * MINUTE_MS),
        ("down", 30 * MINUTE_MS),
    ]
    assert item.stops == 1


def test_a_device_that_cannot_be_reached_is_unknown_unless_another_gateway_sees_it(
    store: Store, edge: EdgeVoice
) -> None:
    lost = edge.raises(10, component="link", fault="unreachable", severity=30)
    edge.clears(lost, 25)
    edge.sync(store, 26)
    assert minutes(keyed(reported(store, 0, HOUR))["printer-1"]) == (0, 15)
    other = EdgeVoice(enrol(store, "gw2"), seed=2)
    other.watches("printer-1")
    other.sync(store, 20)
    assert minutes(keyed(reported(store, 0, HOUR))["printer-1"]) == (0, 10)


def test_before_a_device_was_watched_it_is_unknown(store: Store, edge: EdgeVoice) -> None:
    assert minutes(keyed(reported(store, -30, 30))["printer-2"]) == (0, 30)
    # An offline agent that tells of an earlier fault had been watching by then.
    uid = edge.raises(-20)
    edge.clears(uid, -10)
    edge.sync(store, 1)
    assert minutes(keyed(reported(store, -30, 30))["printer-1"]) == (10, 10)


def test_a_device_is_listed_from_when_it_was_watched_until_it_left_the_inventory(
    store: Store, edge: EdgeVoice
) -> None:
    edge.watches("printer-2", "printer-3")
    edge.sync(store, 20)
    assert set(keyed(reported(store, -30, -10, now=40))) == set()
    assert set(keyed(reported(store, 0, 10, now=40))) == {"printer-1", "printer-2"}
    items = keyed(reported(store, 10, 30, now=40))
    assert set(items) == {"printer-1", "printer-2", "printer-3"}
    assert minutes(items["printer-1"]) == (0, 10)
    later = reported(store, 25, 35, now=40)
    assert set(keyed(later)) == {"printer-2", "printer-3"}
    assert later.total.unknown_ms == 0


def test_what_left_the_inventory_with_a_stop_that_goes_on_is_not_down_for_ever(
    store: Store, edge: EdgeVoice
) -> None:
    edge.raises(10)
    edge.sync(store, 11)
    edge.watches("printer-2")
    edge.sync(store, 20)
    assert minutes(keyed(reported(store, 0, 40, now=40))["printer-1"]) == (10, 20)
    assert "printer-1" not in keyed(reported(store, 25, 35, now=40))


def test_an_inventory_that_came_late_gives_its_places_to_what_was_told_before(
    store: Store, edge: EdgeVoice
) -> None:
    edge.clears(edge.raises(-20, device="printer-9"), -10)
    edge.sync(store, 1)
    edge.watches("printer-9", place="hall/line-9")
    edge.sync(store, 20)
    item = keyed(reported(store, -30, -5, now=40))["printer-9"]
    assert (item.place, minutes(item)) == ("hall/line-9", (10, 10))
    assert "printer-9" in keyed(reported(store, -10, -5, now=40))


def test_a_severity_that_changes_counts_only_while_it_stops(store: Store, edge: EdgeVoice) -> None:
    uid = edge.raises(10, severity=20)
    edge.worsens(uid, 20, 30)
    edge.clears(uid, 35)
    edge.sync(store, 36)
    assert minutes(keyed(reported(store, 0, HOUR))["printer-1"]) == (15, 0)


def test_a_stop_that_comes_and_goes_counts_while_it_is_there(store: Store, edge: EdgeVoice) -> None:
    uid = edge.raises(10)
    edge.comes_and_goes(uid, 12, 20, 21.5)
    edge.sync(store, 25)
    item = keyed(reported(store, 0, HOUR, now=30))["printer-1"]
    assert (minutes(item), item.stops, item.open) == ((3.5, 0), 2, False)
    edge.comes_and_goes(uid, 12, 20, 21.5, 31)
    edge.sync(store, 32)
    item = keyed(reported(store, 0, HOUR, now=33))["printer-1"]
    assert (minutes(item), item.stops, item.open) == ((5.5, 0), 3, True)
    edge.clears(uid, 40)
    edge.sync(store, 41)
    assert minutes(keyed(reported(store, 0, HOUR))["printer-1"]) == (12.5, 0)
    # A shift that ends in between gets what was in it.
    assert minutes(keyed(reported(store, 11, 21))["printer-1"]) == (2, 0)
    assert minutes(keyed(reported(store, 12, 20))["printer-1"]) == (0, 0)


@pytest.mark.parametrize(("from_", "to"), [(10, 10), (20, 10), (50, 60)])
def test_a_window_that_is_empty_or_ahead_is_refused(
    store: Store, edge: EdgeVoice, from_: float, to: float
) -> None:
    with pytest.raises(ValueError, match="window"):
        reported(store, from_, to, now=40)


def test_a_device_that_was_taken_out_and_came_back_is_unknown_in_between(
    store: Store, edge: EdgeVoice
) -> None:
    edge.watches("printer-2")
    edge.sync(store, 10)
    edge.watches("printer-1", "printer-2")
    edge.sync(store, 25)
    items = keyed(reported(store, 0, HOUR))
    assert (minutes(items["printer-1"]), minutes(items["printer-2"])) == ((0, 15), (0, 0))
    assert [(one.from_ms, one.to_ms) for one in items["printer-1"].intervals] == [(at(10), at(25))]
    # Gone again: unknown from then on, and what was before stays as it was.
    edge.watches("printer-2")
    edge.sync(store, 40)
    assert minutes(keyed(reported(store, 0, HOUR))["printer-1"]) == (0, 35)


def test_what_a_revoked_gateway_watched_is_unknown_until_it_is_enrolled_again(
    store: Store, edge: EdgeVoice
) -> None:
    edge.raises(5)
    edge.sync(store, 6)
    store.write(lambda c: enrolment.revoke(c, site=SITE, gateway="gw1", now_ms=at(10)))
    store.write(lambda c: sweep(c, at(10.1)))
    assert minutes(keyed(reported(store, 0, HOUR))["printer-1"]) == (5, 50)
    # Also in a window that begins later.
    assert minutes(keyed(reported(store, 20, HOUR))["printer-2"]) == (0, 40)
    enrol_again(store, 30)
    assert minutes(keyed(reported(store, 0, HOUR))["printer-1"]) == (5, 20)


def test_a_stop_of_which_nothing_is_known_is_not_down_also_once_its_gateway_is_back(
    store: Store, edge: EdgeVoice
) -> None:
    edge.raises(5)
    edge.raises(5, device="printer-2", severity=20)
    edge.sync(store, 6)
    store.write(lambda c: sweep(c, at(20)))
    # The agent has started, told all that it has, and has not read the printers yet.
    edge.unsettled = [f"printer-{number}|media|paper-out" for number in (1, 2)]
    edge.sync(store, 30)
    items = keyed(reported(store, 0, 40, now=40))
    assert (minutes(items["printer-1"]), items["printer-1"].open) == ((1, 34), False)
    assert [(one.kind, one.open) for one in items["printer-1"].intervals] == [
        ("down", False),
        ("unknown", True),
    ]
    assert minutes(items["printer-2"]) == (0, 0)
    # A window that ended before is not touched by that.
    assert minutes(keyed(reported(store, 0, 6, now=40))["printer-1"]) == (1, 0)
    edge.unsettled = []
    edge.sync(store, 41)
    item = keyed(reported(store, 0, 41, now=41))["printer-1"]
    assert (minutes(item), item.open) == ((36, 0), True)


def test_a_second_silence_leaves_unknown_what_was_not_read_again_after_the_first(
    store: Store, edge: EdgeVoice
) -> None:
    uid = edge.raises(5)
    edge.sync(store, 6)
    store.write(lambda c: sweep(c, at(20)))
    edge.unsettled = [key(edge.rows[uid])]
    edge.sync(store, 30)
    store.write(lambda c: sweep(c, at(50)))
    item = keyed(reported(store, 0, 60, now=60))["printer-1"]
    assert (minutes(item), item.open) == ((1, 54), False)
    # It was read: what is unknown after that begins with the next silence.
    edge.unsettled = []
    edge.sync(store, 60)
    assert minutes(keyed(reported(store, 0, 60, now=60))["printer-1"]) == (55, 0)
    store.write(lambda c: sweep(c, at(70)))
    assert minutes(keyed(reported(store, 0, 80, now=80))["printer-1"]) == (55, 20)


def test_a_gateway_that_speaks_but_has_not_told_its_history_has_not_told_what_it_saw(
    store: Store, edge: EdgeVoice
) -> None:
    for start in (5, 10):
        edge.clears(edge.raises(start), start + 2)
    send(store, edge.gateway, edge.ahead(20), 20)
    assert minutes(keyed(reported(store, 0, 20, now=20))["printer-1"]) == (0, 20)
    edge.sync(store, 21)
    assert minutes(keyed(reported(store, 0, 21, now=21))["printer-1"]) == (4, 0)


def test_a_device_in_no_inventory_is_observed_while_it_is_told_of(store: Store, edge: EdgeVoice) -> None:
    edge.clears(edge.raises(10, device="scale-9"), 15)
    edge.clears(edge.raises(20, device="scale-9", severity=20), 30)
    edge.sync(store, 31)
    item = keyed(reported(store, 0, HOUR))["scale-9"]
    assert (minutes(item), item.place, item.stops) == ((5, 40), "", 1)
    assert "scale-9" not in keyed(reported(store, 40, HOUR))
    assert "scale-9" not in keyed(reported(store, 0, 10))
    edge.raises(50, device="scale-9")
    edge.sync(store, 51)
    item = keyed(reported(store, 0, HOUR, now=HOUR))["scale-9"]
    assert (minutes(item), item.open) == ((15, 10), True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one gateway has to say of one device, in minutes."""

    watched: tuple[tuple[int, int], ...]
    stops: tuple[tuple[int, int], ...]
    blind: tuple[tuple[str, int, int], ...]
    # What comes again is one occurrence that pauses.
    chatters: bool


END = 30
# Fault, what else its row has, when it came, went, came ...
Told = tuple[str, dict[str, Any], tuple[int, ...]]
BLIND: dict[str, dict[str, Any]] = {
    "not-running": {"device": "gw{n}", "component": "agent", "fault": "not-running", "severity": 10},
    "unreachable": {"device": "printer-1", "component": "link", "fault": "unreachable"},
}


@st.composite
def seen(draw: st.DrawFn) -> Seen:
    def apart(at_most: int) -> tuple[tuple[int, int], ...]:
        edges = sorted(draw(st.sets(st.integers(1, END - 1), max_size=2 * at_most)))
        return tuple(zip(edges[::2], edges[1::2], strict=False))

    bounds = sorted(draw(st.sets(st.integers(1, END - 1), min_size=1, max_size=4)))
    watched = tuple(zip(bounds[::2], [*bounds[1::2], END], strict=False))
    blind = tuple((fault, *span) for fault in BLIND for span in apart(2))
    return Seen(watched=watched, stops=apart(3), blind=blind, chatters=draw(st.booleans()))


def minute_by_minute(gateways: Sequence[Seen]) -> tuple[int, int]:
    """Down and unknown minutes, told naively."""
    down = unknown = 0
    for minute in range(END):
        observed = False
        for one in gateways:
            since = min(start for start, _ in (*one.watched, *one.stops, *_unreachable(one)))
            watched = any(a <= minute < b for a, b in one.watched) or since <= minute < one.watched[0][0]
            observed |= watched and not any(a <= minute < b for _, a, b in one.blind)
        stopped = any(a <= minute < b for one in gateways for a, b in one.stops)
        unknown += not observed
        down += observed and stopped
    return down, unknown


def _unreachable(one: Seen) -> list[tuple[int, int]]:
    return [(a, b) for fault, a, b in one.blind if fault == "unreachable"]


def told(store: Store, site: str, gateways: Sequence[Seen], chance: Random) -> None:
    """Of each gateway its rows in any order, its inventories between them."""
    order = list(enumerate(gateways, 1))
    chance.shuffle(order)
    for number, one in order:
        edge = EdgeVoice(enrol(store, f"gw{number}", site), seed=next(SITES))
        rows = [("paper-out", {}, (a, b)) for a, b in one.stops]
        rows += [(fault, BLIND[fault], (a, b)) for fault, a, b in one.blind]
        if one.chatters:
            rows = _one_of_each(rows)
        chance.shuffle(rows)
        for fault, more, (came, *goings, gone) in rows:
            named = more | {"fault": fault, "device": str(more.get("device", "printer-1")).format(n=number)}
            uid = edge.raises(came, **named)
            if goings:
                edge.comes_and_goes(uid, *goings)
            edge.clears(uid, gone)
        turns = sorted([(a, ("printer-1",)) for a, _ in one.watched] + [(b, ()) for _, b in one.watched])
        for minute, devices in turns:
            if minute == END:
                continue
            edge.watches(*devices)
            edge.sync(store, minute, limit=chance.randrange(1, 9))
        while edge.cursor[0] < edge.seq:
            edge.sync(store, END, limit=chance.randrange(1, 9))


def _one_of_each(rows: Sequence[Told]) -> list[Told]:
    """What comes again is one; an agent that does not run never pauses."""
    alone = [row for row in rows if row[0] == "not-running"]
    folded = {}
    for fault, more, moments in rows:
        if fault != "not-running":
            before = folded[fault][2] if fault in folded else ()
            folded[fault] = (fault, more, (*before, *moments))
    return [*alone, *folded.values()]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(seen(), min_size=1, max_size=2), st.randoms(use_true_random=False))
def test_down_and_unknown_are_those_of_counting_every_minute_whoever_tells_what_first(
    store: Store, gateways: list[Seen], chance: Random
) -> None:
    site = f"s{next(SITES)}"
    told(store, site, gateways, chance)
    report = store.read(lambda c: downtime(c, site, at(0), at(END), By.DEVICE, at(END)))
    (item,) = report.items
    assert item.observed_ms + item.unknown_ms == item.window_ms == END * MINUTE_MS
    assert (item.down_ms, item.unknown_ms) == tuple(MINUTE_MS * n for n in minute_by_minute(gateways))
