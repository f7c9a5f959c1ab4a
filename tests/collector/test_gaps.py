from __future__ import annotations

from typing import Any

import pytest
from rigs.edge_voice import MINUTE_MS, MONDAY_MS, SITE, EdgeVoice, enrol, send
from sqlalchemy import select

from collector import report
from collector.gaps import Gap, declared
from collector.pages.floor import gateway_line
from collector.report import By, Interval
from collector.store import Store, tables
from collector.store.gateways import GatewayView, gateways
from edge_agent.wire import MAX_INT, Loss, SyncRequest


def moment(minute: float) -> int:
    return MONDAY_MS + int(minute * MINUTE_MS)


def shown(store: Store) -> GatewayView:
    (found,) = store.read(lambda connection: gateways(connection, None))
    return found


def kept(store: Store) -> list[Gap]:
    names = ("from_seq", "to_seq", "count", "from_ms", "to_ms")
    rows = store.read(
        lambda c: c.execute(
            select(*(tables.gap.c[name] for name in names)).order_by(tables.gap.c.to_seq)
        ).all()
    )
    return [Gap(**row._mapping) for row in rows]


def unknown(store: Store, device: str, to: float) -> list[Interval]:
    told = store.read(lambda c: report.downtime(c, SITE, moment(0), moment(to), By.DEVICE, moment(to)))
    (item,) = (item for item in told.items if item.key == device)
    assert item.observed_ms + item.unknown_ms == item.window_ms
    return [interval for interval in item.intervals if interval.kind == "unknown"]


@pytest.fixture
def edge(store: Store) -> EdgeVoice:
    """All that it has is held at minute 1. It watches a printer from minute 0 on."""
    edge = EdgeVoice(enrol(store))
    edge.watches("printer-1")
    edge.clears(edge.raises(0), 0.5)
    edge.sync(store, 1)
    return edge


def forgets(edge: EdgeVoice, *uids: str) -> None:
    """The journal was full: these are gone before anybody had them."""
    for uid in uids:
        edge.pruned_through = max(edge.pruned_through, edge.rows.pop(uid)["mod_seq"])


def lose(number: int, through: int, count: int) -> Loss:
    return Loss(id=f"{number:032x}", through=through, count=count)


def tells(store: Store, edge: EdgeVoice, minute: float, *losses: Loss, **how: Any) -> SyncRequest:
    message = edge.message(minute, **how)
    told = [loss for loss in losses if loss.through > message.from_[0]]
    message = message.model_copy(update={"losses": told or None})
    edge.hear(send(store, edge.gateway, message, minute))
    return message


def ended(edge: EdgeVoice, minute: float) -> str:
    uid = edge.raises(minute)
    edge.clears(uid, minute + 1)
    return uid


def says(store: Store, edge: EdgeVoice, minute: float, lost: int | None, **how: Any) -> None:
    message = edge.message(minute, **how).model_copy(update={"lost": lost})
    edge.hear(send(store, edge.gateway, message, minute))


@pytest.mark.parametrize(
    ("known", "held", "gone", "lost", "fresh"),
    [
        ([], 4, 4, 0, None),
        ([], 4, 9, 3, (5, 9, 3)),
        ([(5, 9, 3)], 6, 9, 0, None),
        # More was forgotten while the rest was on its way.
        ([(5, 9, 3)], 6, 12, 5, (10, 12, 5)),
        ([(5, 9, 3)], 6, 8, 5, (5, 9, 8)),
        ([(5, 9, 3)], 20, 25, 0, (21, 25, 0)),
        ([(5, 9, MAX_INT)], 6, 8, 5, (5, 9, MAX_INT)),
    ],
)
def test_a_gap_is_what_was_not_declared_before(
    known: list[tuple[int, int, int]], held: int, gone: int, lost: int, fresh: tuple[int, ...] | None
) -> None:
    before = [Gap(from_seq=a, to_seq=b, count=n, from_ms=0, to_ms=1) for a, b, n in known]
    found = declared(before, held_seq=held, gone_through=gone, lost=lost, caught_up_ms=100, now_ms=200)
    assert (found and (found.from_seq, found.to_seq, found.count)) == fresh


def test_the_time_of_a_gap_is_unknown_and_what_was_lost_is_counted(store: Store, edge: EdgeVoice) -> None:
    gone = [edge.raises(minute, device=f"belt-{minute}") for minute in (10, 11)]
    for uid in gone:
        edge.clears(uid, 12)
    edge.clears(edge.raises(20), 21)
    forgets(edge, *gone)
    says(store, edge, 30, 2)
    (gap,) = kept(store)
    assert (gap.count, gap.from_ms, gap.to_ms) == (2, moment(1), moment(21))
    assert (shown(store).gaps, shown(store).lost) == (1, 2)
    assert "1 gap in what it sent, 2 faults lost" in gateway_line(shown(store)).remarks
    (span,) = unknown(store, "printer-1", 40)
    assert (span.from_ms, span.to_ms) == (moment(1), moment(21))
    # Nothing changes when the same is said again.
    says(store, edge, 31, 2)
    assert kept(store) == [gap]


def test_a_gap_ends_with_the_first_row_after_it_even_when_that_comes_in_a_later_message(
    store: Store, edge: EdgeVoice
) -> None:
    stays = edge.raises(5)
    gone = edge.raises(10, device="belt-1")
    edge.clears(gone, 11)
    edge.clears(edge.raises(20, device="belt-2"), 21)
    forgets(edge, gone)
    says(store, edge, 30, 1, limit=1)
    assert [(one.count, one.to_ms) for one in kept(store)] == [(1, moment(30))]
    says(store, edge, 31, 1)
    assert [(one.count, one.to_ms) for one in kept(store)] == [(1, moment(21))]
    assert stays in edge.rows


def test_another_gateway_that_watches_the_device_knows(store: Store, edge: EdgeVoice) -> None:
    other = EdgeVoice(enrol(store, "gw2"), seed=2)
    other.watches("printer-1")
    for minute in range(0, 31, 5):
        other.sync(store, minute)
    gone = edge.raises(10, device="belt-1")
    edge.clears(gone, 12)
    edge.clears(edge.raises(20), 21)
    forgets(edge, gone)
    says(store, edge, 30, 1)
    assert unknown(store, "printer-1", 30) == []


def test_a_restored_collector_that_gets_all_again_declares_no_gap(store: Store, edge: EdgeVoice) -> None:
    edge.begin_again()
    edge.sync(store, 2)
    edge.sync(store, 3)
    assert kept(store) == []


def test_a_gateway_that_says_that_it_lost_more_than_there_is_can_be_looked_at(
    store: Store, edge: EdgeVoice
) -> None:
    for seq in (10, 20):
        uid = edge.raises(seq)
        edge.raises(seq + 1, "printer-2")
        forgets(edge, uid)
        says(store, edge, seq + 2, MAX_INT)
        says(store, edge, seq + 3, MAX_INT)
        edge.begin_again()
    assert [gap.count for gap in kept(store)] == [MAX_INT, MAX_INT]
    assert (shown(store).gaps, shown(store).lost) == (2, 2 * (MAX_INT + 1))


def test_what_was_lost_is_counted_once_in_whatever_stream_it_is_told(store: Store, edge: EdgeVoice) -> None:
    gone = edge.raises(10)
    edge.clears(gone, 11)
    edge.clears(edge.raises(20), 21)
    forgets(edge, gone)
    loss = lose(1, edge.pruned_through, 2)
    tells(store, edge, 30, loss)
    before = kept(store)
    assert [(gap.count, gap.from_ms, gap.to_ms) for gap in before] == [(2, moment(1), moment(21))]
    # All is sent again, of what is gone there is only this.
    edge.begin_again()
    edge.pruned_through = 0
    for minute in (40, 41):
        tells(store, edge, minute, loss)
    assert edge.cursor[0] == edge.seq
    assert kept(store) == before


def test_a_collector_that_never_heard_of_a_loss_declares_it_in_a_later_stream(
    store: Store, edge: EdgeVoice
) -> None:
    """It was declared, and then the database was restored from a backup that knows nothing of it."""
    gone = edge.raises(10)
    edge.clears(gone, 11)
    edge.clears(edge.raises(20), 21)
    forgets(edge, gone)
    loss = lose(1, edge.pruned_through, 2)
    edge.begin_again()
    edge.pruned_through = 0
    for minute in (40, 41):
        tells(store, edge, minute, loss)
    assert [(gap.count, gap.from_ms, gap.to_ms) for gap in kept(store)] == [(2, moment(1), moment(21))]
    (span,) = unknown(store, "printer-1", 50)
    assert (span.from_ms, span.to_ms) == (moment(1), moment(21))


def test_of_a_loss_that_has_grown_only_what_is_new_is_counted(store: Store, edge: EdgeVoice) -> None:
    one, _, three, _ = [ended(edge, minute) for minute in (10, 15, 20, 25)]
    edge.rows.pop(one)
    # The answer to this is lost, and then more is.
    message = edge.message(30, limit=1)
    losses = [lose(1, through=4, count=1)]
    send(store, edge.gateway, message.model_copy(update={"losses": losses}), 30)
    edge.rows.pop(three)
    for minute in (31, 32):
        tells(store, edge, minute, lose(1, through=8, count=2))
        assert [(gap.from_seq, gap.to_seq, gap.count) for gap in kept(store)] == [(3, 4, 1), (7, 8, 1)]


def test_what_had_been_sent_before_it_was_lost_is_in_no_gap(store: Store, edge: EdgeVoice) -> None:
    gone = ended(edge, 10)
    # The answer to this is lost.
    send(store, edge.gateway, edge.message(12), 12)
    edge.rows.pop(gone)
    ended(edge, 20)
    tells(store, edge, 30, lose(1, through=4, count=1))
    edge.begin_again()
    for minute in (40, 41):
        tells(store, edge, minute, lose(1, through=4, count=1))
    assert edge.cursor[0] == edge.seq
    assert kept(store) == []


def test_an_edge_that_has_forgotten_how_much_it_lost_takes_nothing_back(
    store: Store, edge: EdgeVoice
) -> None:
    for minute, lost in ((10, 3), (20, 0)):
        gone = ended(edge, minute)
        ended(edge, minute + 2)
        forgets(edge, gone)
        says(store, edge, minute + 4, lost)
    assert [gap.count for gap in kept(store)] == [3, 0]
