from __future__ import annotations

import pytest
from rigs.edge_voice import EdgeVoice, enrol

from collector.store import Store
from collector.store.figures import figures
from collector.store.tickets import Page, State, TicketFilter, at_hand, detail, find

EVERY = TicketFilter(sites=None)


@pytest.fixture
def edge(store: Store) -> EdgeVoice:
    """A hall with two lines of like names, and one ticket in every state."""
    edge = EdgeVoice(enrol(store))
    edge.watches("printer-1", "scanner-1")
    edge.sync(store, 0)
    other = EdgeVoice(enrol(store, "gw2"), seed=2)
    other.watches("printer-20", place="hall/line-10")
    other.sync(store, 0)
    over = edge.raises(0, device="scanner-1", fault="no-read", severity=20, title="Too many no-reads")
    edge.sync(store, 0.1)
    edge.clears(over, 1)
    edge.raises(2)
    edge.sync(store, 2.1)
    other.raises(3, device="printer-20", fault="head_open", severity=10, title="Print head 100% open")
    other.sync(store, 3.1)
    return edge


def found(store: Store, **wanted: object) -> list[str]:
    terms = TicketFilter(**({"sites": None} | wanted))  # type: ignore[arg-type]  # a table of tests
    page = store.read(lambda connection: find(connection, terms, None, 50))
    return [ticket.device for ticket in page.items]


def page_after(store: Store, after: str | None) -> Page:
    return store.read(lambda connection: find(connection, EVERY, after, 4))


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, ["printer-20", "printer-1", "scanner-1"]),
        ({"state": State.OPEN}, ["printer-20", "printer-1", "scanner-1"]),
        ({"state": State.ACTIVE}, ["printer-20", "printer-1"]),
        ({"state": State.UNACKNOWLEDGED}, ["printer-20", "printer-1"]),
        ({"state": State.RESOLVED}, ["scanner-1"]),
        ({"state": State.CLOSED}, []),
        ({"state": State.UNKNOWN}, []),
        ({"place": "hall/line-1"}, ["printer-1", "scanner-1"]),
        ({"place": "hall"}, ["printer-20", "printer-1", "scanner-1"]),
        ({"place": "/hall/line-10/"}, ["printer-20"]),
        ({"place": "h%"}, []),
        ({"device": "printer-1"}, ["printer-1"]),
        ({"severity": "stop"}, ["printer-1"]),
        ({"severity": "degraded"}, ["scanner-1"]),
        ({"severity": "notice"}, ["printer-20"]),
        ({"text": "PRINTER"}, ["printer-20", "printer-1"]),
        ({"text": "100%"}, ["printer-20"]),
        ({"text": "%"}, ["printer-20"]),
        ({"text": "head_open"}, ["printer-20"]),
        ({"text": "_"}, ["printer-20"]),
        ({"text": "\\"}, []),
        ({"text": "' OR 1=1 --\0"}, []),
        ({"text": "#2"}, ["printer-1"]),
        ({"site": "north"}, ["printer-20", "printer-1", "scanner-1"]),
        ({"site": "south"}, []),
        ({"sites": frozenset({"south"})}, []),
        ({"sites": frozenset()}, []),
        ({"sites": frozenset({"south"}), "site": "north"}, []),
    ],
)
def test_the_list_is_narrowed(
    store: Store, edge: EdgeVoice, wanted: dict[str, object], expected: list[str]
) -> None:
    assert found(store, **wanted) == expected


def test_capital_letters_of_any_alphabet_are_found(store: Store) -> None:
    edge = EdgeVoice(enrol(store))
    edge.raises(0, device="press-1", title="ÖLSTAND zu niedrig")
    edge.sync(store, 0.1)
    for words in ("ÖLSTAND", "ölstand", "Öl"):
        assert found(store, text=words) == ["press-1"], words


def test_a_severity_that_is_none_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="severity"):
        found(store, severity="fatal")


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("hall", ["a", "b"]),
        ("HALL", ["c"]),
        ("Hall", []),
        ("halle-ä/ö_%", ["d", "e"]),
        ("halle-ä/ö", []),
        ("halle-Ä/ö_%", []),
    ],
)
def test_a_place_is_narrowed_by_whole_levels_as_they_are_written(
    store: Store, place: str, expected: list[str]
) -> None:
    places = {"a": "hall", "b": "hall/line-1", "c": "HALL/line-1", "d": "halle-ä/ö_%/x", "e": "halle-ä/ö_%"}
    for seed, (device, its_place) in enumerate(places.items()):
        edge = EdgeVoice(enrol(store, f"gw-{device}"), seed=seed)
        edge.watches(device, place=its_place)
        edge.raises(0, device=device)
        edge.sync(store, 0.1)
    assert sorted(found(store, place=place)) == expected


@pytest.mark.parametrize("after", ["", "x", "-", "12", "12-", "12-'", "-5-aa", "9" * 40 + "-aa"])
def test_a_cursor_that_is_not_ours_is_refused(store: Store, after: str) -> None:
    with pytest.raises(ValueError, match="after"):
        store.read(lambda connection: find(connection, EVERY, after, 10))


def test_pages_neither_repeat_nor_skip_while_tickets_arrive(store: Store) -> None:
    edge = EdgeVoice(enrol(store))
    for number in range(25):
        edge.raises(number, device=f"d{number:02}")
        edge.sync(store, number // 3 + 0.1)
    seen: list[str] = []
    after: str | None = None
    for turn in range(100):
        page = page_after(store, after)
        seen += [ticket.device for ticket in page.items]
        after = page.next
        if after is None:
            break
        edge.raises(30 + turn, device=f"new{turn}")
        edge.sync(store, 30 + turn)
    assert sorted(seen) == [f"d{number:02}" for number in range(25)]


def test_of_a_storm_the_handheld_has_the_worst_and_oldest_and_says_that_there_is_more(store: Store) -> None:
    edge = EdgeVoice(enrol(store))
    edge.raises(0, device="oldest-stop")
    for number in range(12):
        edge.raises(1 + number, device=f"slow-{number:02}", severity=20)
    over = [edge.raises(20 + number, device=f"over-{number}") for number in range(4)]
    edge.raises(30, device="newest-stop")
    for number, uid in enumerate(over):
        edge.clears(uid, 40 - number)
    edge.sync(store, 41)

    def shown(sites: frozenset[str] | None, limit: int) -> tuple[list[str], bool]:
        found, more = store.read(lambda connection: at_hand(connection, sites, None, limit=limit, ended=2))
        return [one.device for one in found], more

    expected = ["oldest-stop", "newest-stop", "slow-00", "over-0", "over-1"]
    assert shown(None, 3) == (expected, True)
    assert shown(None, 14)[1] is False
    assert shown(frozenset({"south"}), 3) == ([], False)


def test_a_ticket_that_is_not_there_has_no_detail(store: Store) -> None:
    assert store.read(lambda connection: detail(connection, "nothing")) is None


def test_open_tickets_are_counted_by_condition_and_work(store: Store, edge: EdgeVoice) -> None:
    assert store.read(figures).open_tickets == {("active", "new"): 2, ("cleared", "resolved"): 1}
