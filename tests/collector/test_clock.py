from __future__ import annotations

import pytest

from collector import clock
from collector.clock import STEPS_KNOWN_S, Clock
from collector.store import Store, moment
from collector.store.moment import BREAK_MS


def test_alone_it_is_the_clock_of_this_machine() -> None:
    before = clock.now_ms()
    assert before <= Clock().now_ms() <= clock.now_ms()


def test_it_follows_the_database_wherever_the_own_wall_is(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = Clock()
    shared.follow(5_000_000, 100.0, 100.1)
    monkeypatch.setattr(clock, "now_ms", lambda: 99)
    monkeypatch.setattr(clock, "monotonic_s", lambda: 160.05)
    assert shared.now_ms() == 5_060_000


def test_an_answer_that_took_long_moves_it_only_if_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "monotonic_s", lambda: 0.0)
    shared = Clock()
    shared.follow(1_000_000, 0.0, 0.01)
    known_ms = shared.now_ms()
    # Within the two seconds that it took, nothing else is said than before.
    shared.follow(1_011_900, 10.0, 12.0)
    assert shared.now_ms() == known_ms
    # The database has set its clock.
    shared.follow(1_101_000, 10.0, 12.0)
    assert shared.now_ms() == 1_090_000


@pytest.mark.parametrize("alone", [True, False])
def test_it_knows_by_how_much_it_was_put_forward(monkeypatch: pytest.MonkeyPatch, alone: bool) -> None:
    at_s, wall_ms = 0.0, 1_000_000
    monkeypatch.setattr(clock, "monotonic_s", lambda: at_s)
    monkeypatch.setattr(clock, "now_ms", lambda: wall_ms)
    known = Clock()

    def passes(seconds: float, put_forward_ms: int = 0) -> None:
        nonlocal at_s, wall_ms
        at_s += seconds
        wall_ms += round(seconds * 1000) + put_forward_ms
        if alone:
            known.alone()
        else:
            known.follow(wall_ms, at_s, at_s)

    passes(0)
    # It waits, is slewed, is put back.
    passes(3_600)
    passes(1, clock.STEP_MS - 1)
    passes(1, -7_200_000)
    assert known.put_forward_ms() == ()
    passes(1, 2_400_000)
    passes(60)
    passes(1, 60_000)
    assert known.put_forward_ms() == (60_000, 2_460_000)
    passes(STEPS_KNOWN_S - 30)
    assert known.put_forward_ms() == (60_000,)
    passes(STEPS_KNOWN_S)
    assert known.put_forward_ms() == ()


def test_only_a_database_that_several_may_use_has_a_clock_and_turns(store: Store) -> None:
    theirs_ms = store.read(moment.now_ms)
    assert (theirs_ms is not None) == store.shared
    if theirs_ms is not None:
        assert abs(theirs_ms - clock.now_ms()) < 60_000
    assert store.write(moment.claim_timers)


def test_a_restart_that_is_quick_is_no_break_and_one_that_is_not_is(store: Store) -> None:
    def since(now_ms: int) -> int:
        return store.write(lambda connection: moment.listening_since(connection, now_ms))

    begun_ms = 1_000_000
    assert since(begun_ms) == begun_ms
    for second in range(1, 60):
        assert since(begun_ms + second * 1_000) == begun_ms
    again_ms = begun_ms + 59_000 + BREAK_MS - 4_000
    assert since(again_ms) == begun_ms
    # It was away for longer; then its clock is set back.
    late_ms = again_ms + BREAK_MS + 1
    assert since(late_ms) == late_ms
    assert since(late_ms - 3_600_000) == late_ms - 3_600_000


def test_collectors_whose_clocks_differ_by_a_little_do_not_begin_anew(store: Store) -> None:
    def since(now_ms: int) -> int:
        return store.write(lambda connection: moment.listening_since(connection, now_ms))

    begun_ms = since(1_000_000)
    for second in range(1, 60):
        assert since(begun_ms + second * 1_000 + 2_000) == begun_ms
        assert since(begun_ms + second * 1_000) == begun_ms


def test_a_collector_that_sent_heartbeats_away_begins_anew_to_listen(store: Store) -> None:
    def since(now_ms: int, *, deaf: bool) -> int:
        return store.write(lambda connection: moment.listening_since(connection, now_ms, deaf=deaf))

    assert since(1_000_000, deaf=False) == 1_000_000
    assert since(1_001_000, deaf=True) == 1_001_000
    assert since(1_002_000, deaf=False) == 1_001_000
