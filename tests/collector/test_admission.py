from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.admission import (
    GRACE_S,
    MAX_RETRY_S,
    MAX_SHORT_RETRY_S,
    SHORT_BYTES,
    Account,
    Lane,
    Step,
    Visit,
    is_short,
    retry_after,
    rooms,
)


@pytest.mark.parametrize(
    ("content_length", "short"),
    [
        ("0", True),
        ("500", True),
        (str(SHORT_BYTES), True),
        (str(SHORT_BYTES + 1), False),
        # Chunked: nobody knows how much comes.
        (None, False),
        ("", False),
        ("-1", False),
        ("a lot", False),
        ("١٢", True),
    ],
)
def test_what_does_not_say_that_it_is_short_is_long(content_length: str | None, short: bool) -> None:
    assert is_short(content_length) is short


@pytest.mark.parametrize(
    ("limit", "short", "long"), [(64, 60, 4), (16, 15, 1), (2, 1, 1), (1, 1, 1), (1024, 960, 64)]
)
def test_history_has_a_small_room_of_its_own(limit: int, short: int, long: int) -> None:
    assert rooms(limit) == (short, long)


@pytest.mark.parametrize(
    ("inside", "waiting", "step"),
    [
        (0, 0, Step.ENTER),
        (1, 0, Step.ENTER),
        (2, 0, Step.WAIT),
        (2, 3, Step.WAIT),
        (2, 4, Step.AWAY),
        (1, 4, Step.ENTER),
    ],
)
def test_first_the_room_fills_then_the_line_and_then_nobody_is_let_in(
    inside: int, waiting: int, step: Step
) -> None:
    lane = Lane(room=2, cost_s=0.1)
    lane.inside, lane.waiting = inside, waiting
    assert lane.arrive("gw1") is step


def test_the_line_is_as_long_as_can_be_worked_off_soon() -> None:
    lane = Lane(room=60, cost_s=0.01, line_s=3.0)
    assert lane.line == 300
    lane.inside, lane.waiting = 60, 149
    assert lane.arrive("gw1", heard=False) is Step.WAIT
    lane.waiting = 150
    assert lane.arrive("gw1", heard=False) is Step.AWAY, "it comes back after long"
    assert lane.arrive("gw1", heard=True) is Step.WAIT, "what it says is fresh"
    lane.cost_s = 0.001
    assert lane.line == 3000
    lane.cost_s = 10.0
    assert lane.line == 60


def test_syncs_at_once_share_the_time_that_they_took() -> None:
    lane, now_s = Lane(room=64, cost_s=0.5), 0.0
    for _ in range(20):
        visits = [lane.entered(now_s) for _ in range(10)]
        now_s += 0.2
        # One commit for all of them.
        for visit in visits:
            lane.left(visit, now_s)
        now_s += 3.0
    assert lane.cost_s == pytest.approx(0.02, rel=0.01)


def test_one_after_the_other_each_takes_its_own_time() -> None:
    lane, now_s = Lane(room=64, cost_s=0.5), 0.0
    for _ in range(200):
        visit = lane.entered(now_s)
        lane.left(visit, now_s + 0.2)
        now_s += 0.2
    assert lane.cost_s == pytest.approx(0.2, rel=0.01)


def test_who_is_sent_away_comes_back_after_all_that_were_sent_away_before() -> None:
    lane = Lane(room=4, cost_s=0.1)
    lane.waiting = 8
    turns = [lane.turn_s(f"gw{number}", 0.0) for number in range(100)]
    assert turns == pytest.approx([(8 + number) * 0.1 for number in range(100)])


def test_a_short_sync_is_never_sent_away_for_long() -> None:
    short, long = Lane(room=60, cost_s=10.0, line_s=4.0), Lane(room=4, cost_s=10.0)
    for lane in (short, long):
        for number in range(100):
            lane.turn_s(f"gw{number}", 0.0)
    assert short.turn_s("gw999", 0.0) == MAX_SHORT_RETRY_S
    assert long.turn_s("gw999", 0.0) == MAX_RETRY_S


def test_who_comes_back_is_expected_no_more_and_who_never_does_neither() -> None:
    lane = Lane(room=4, cost_s=0.1)
    for number in range(10):
        lane.turn_s(f"gw{number}", 0.0)
    lane.arrive("gw3")
    assert lane.expected(0.0) == 9
    assert lane.expected(2 + GRACE_S + 0.1) == 0


def test_a_gateway_that_asks_again_is_expected_once_and_keeps_its_place() -> None:
    lane = Lane(room=4, cost_s=1.0)
    for number in range(10):
        lane.turn_s(f"gw{number}", 0.0)
    assert [lane.turn_s("gw9", now_s) for now_s in (0.0, 3.0, 6.0)] == [9.0, 6.0, 3.0]
    assert [lane.turn_s("gw0", now_s) for now_s in (0.0, 3.0, 6.0)] == [0.0, 0.0, 0.0]
    assert lane.expected(6.0) == 10
    lane.arrive("gw0")
    assert lane.turn_s("gw0", 6.0) == 9.0, "it was there, and has more: behind the others"


@given(seconds=st.floats(min_value=0, allow_nan=False, allow_infinity=False))
def test_retry_after_is_whole_seconds_and_never_for_ever(seconds: float) -> None:
    assert 1 <= retry_after(seconds) <= MAX_RETRY_S
    assert retry_after(seconds) >= min(seconds, MAX_RETRY_S)


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["arrive", "leave"]), st.integers(0, 20), st.floats(0.0, 5.0)), max_size=200
    ),
    room=st.integers(1, 5),
)
def test_however_they_come_and_go_room_and_line_hold(steps: list[tuple[str, int, float]], room: int) -> None:
    lane, now_s = Lane(room=room, cost_s=0.1), 0.0
    visits: list[Visit] = []
    for what, number, passed_s in steps:
        now_s += passed_s
        if what == "leave" and visits:
            lane.left(visits.pop(number % len(visits)), now_s)
            if lane.waiting:
                lane.waiting -= 1
                visits.append(lane.entered(now_s))
        elif what == "arrive":
            step = lane.arrive(f"gw{number}")
            if step is Step.ENTER:
                visits.append(lane.entered(now_s))
            lane.waiting += step is Step.WAIT
            if step is Step.AWAY:
                assert lane.inside == lane.room, "nobody is sent away while there is room"
                assert 0 <= lane.turn_s(f"gw{number}", now_s) <= MAX_RETRY_S
        assert lane.inside <= lane.room
        assert lane.waiting <= lane.line
        assert lane.expected(now_s) <= 21
        assert lane.cost_s >= 0


@given(
    charges=st.lists(st.tuples(st.integers(0, 500), st.floats(0.0, 100.0)), max_size=100),
    rows_per_s=st.integers(1, 10_000),
)
def test_over_any_time_a_gateway_gets_its_quota_and_one_burst(
    charges: list[tuple[int, float]], rows_per_s: int
) -> None:
    account, now_s, taken = Account.opened(0.0, rows_per_s), 0.0, 0
    for rows, passed_s in charges:
        now_s += passed_s
        if account.debt_s(now_s, rows_per_s) == 0:
            account = account.charged(rows, now_s, rows_per_s)
            taken += rows
    assert taken <= 10 * rows_per_s + rows_per_s * now_s + 500 + 1e-6


def test_a_debt_is_worked_off_with_time_alone() -> None:
    account = Account.opened(0.0, 100).charged(1500, 0.0, 100)
    assert account.debt_s(0.0, 100) == pytest.approx(5.0)
    assert account.debt_s(4.0, 100) == pytest.approx(1.0)
    assert account.debt_s(5.0, 100) == 0


def fleet(gateways: int, cost_s: float, *, spread: bool, seconds: float) -> tuple[int, int, float]:
    """(served, sent away, when the last was served) of a fleet that comes at once to one lane, in steps of
    10 ms. Each comes back as an agent does: after once to twice what it was told."""
    rng = random.Random(7)
    lane = Lane(room=4, cost_s=cost_s)
    due = [(0.0, f"gw{number}") for number in range(gateways)]
    work_s = served = away = 0
    visits: list[Visit] = []
    last_s = now_s = 0.0
    while now_s < seconds and (due or visits):
        now_s += 0.01
        work_s += 0.01
        while visits and work_s >= cost_s:
            work_s -= cost_s
            lane.left(visits.pop(0), now_s)
            served, last_s = served + 1, now_s
            if lane.waiting:
                lane.waiting -= 1
                visits.append(lane.entered(now_s))
        if not visits:
            work_s = 0.0
        arriving = [one for one in due if one[0] <= now_s]
        due = [one for one in due if one[0] > now_s]
        for _, who in arriving:
            step = lane.arrive(who)
            lane.waiting += step is Step.WAIT
            if step is Step.ENTER:
                visits.append(lane.entered(now_s))
            elif step is Step.AWAY:
                away += 1
                after_s = retry_after(lane.turn_s(who, now_s)) if spread else 5
                due.append((now_s + after_s * (1 + rng.random()), who))
    return served, away, last_s


@pytest.mark.parametrize("cost_s", [0.025, 0.1])
def test_a_fleet_that_is_told_when_to_come_asks_in_vain_once_and_with_a_constant_again_and_again(
    cost_s: float,
) -> None:
    served, away, last_s = fleet(1000, cost_s, spread=True, seconds=600)
    _, away_by_constant, _ = fleet(1000, cost_s, spread=False, seconds=600)
    assert served == 1000
    assert last_s < 3 * 1000 * cost_s
    assert away < 1.2 * 1000
    assert away_by_constant > 2 * away
