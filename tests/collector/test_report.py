from __future__ import annotations

import pytest
from rigs.edge_voice import MINUTE_MS, MONDAY_MS, SITE, EdgeVoice, enrol

from collector.report import By, Item, Report, downtime
from collector.store import Store
from collector.sweep import sweep

HOUR = 60


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


def test_a_severity_that_changes_counts_only_while_it_stops(store: Store, edge: EdgeVoice) -> None:
    uid = edge.raises(10, severity=20)
    edge.worsens(uid, 20, 30)
    edge.clears(uid, 35)
    edge.sync(store, 36)
    assert minutes(keyed(reported(store, 0, HOUR))["printer-1"]) == (15, 0)


@pytest.mark.parametrize(("from_", "to"), [(10, 10), (20, 10), (50, 60)])
def test_a_window_that_is_empty_or_ahead_is_refused(
    store: Store, edge: EdgeVoice, from_: float, to: float
) -> None:
    with pytest.raises(ValueError, match="window"):
        reported(store, from_, to, now=40)
