from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rigs.moments import NS_PER_S, HandClock, condition, sample

from edge_agent import detect, windows
from edge_agent.detect import LINK_SIGNAL, TRANSITIONS, Act, Detector, Rule, State, Transition, unreachable
from edge_agent.profile import ListenRead, RequestRead
from edge_agent.sample import Trouble, Value

JAM = {"is": {"signal": "jam", "value": True}}


@dataclass
class Floor:
    """One device, its detector and its clock."""

    rules: list[Rule]
    clock: HandClock = field(default_factory=HandClock)
    active: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.detector = Detector(self.rules, start=self.clock.stamp(), active=self.active)

    def restart(self) -> None:
        self.active = tuple(self.detector.active())
        self.start()

    def read(self, *, link_up: bool = True, **values: Value) -> list[Transition]:
        at = self.clock.stamp()
        return self.detector.take([sample(n, v, at) for n, v in values.items()], at, link_up=link_up)

    def wait(self, seconds: float) -> list[Transition]:
        return self.detector.look(self.clock.go(seconds))


def floor(when: dict[str, Any] = JAM, **more: Any) -> Floor:
    return Floor([detect.rule(condition(when, **more))])


def acts(transitions: list[Transition]) -> list[Act]:
    return [one.act for one in transitions]


# --- the table
# ---------------------------------------------------------------------------------------------------


def test_every_state_knows_what_to_do_with_every_verdict() -> None:
    assert set(TRANSITIONS) == set(itertools.product(State, (True, False, None), (True, False)))


def test_only_a_bad_verdict_raises_and_only_a_good_one_clears() -> None:
    for (state, verdict, _), (after, act) in TRANSITIONS.items():
        was_open, is_open = state in (State.ACTIVE, State.CLEARING), after in (State.ACTIVE, State.CLEARING)
        assert (act is Act.RAISE) == (not was_open and is_open)
        assert (act is Act.CLEAR) == (was_open and not is_open)
        if act is not Act.REST:
            assert verdict is (act is Act.RAISE)


# --- delays
# ------------------------------------------------------------------------------------------------------


def test_a_jam_without_delays_raises_and_clears_at_once() -> None:
    line = floor()
    assert acts(line.read(jam=False)) == []
    assert acts(line.read(jam=True)) == [Act.RAISE]
    assert acts(line.read(jam=True)) == []
    assert acts(line.read(jam=False)) == [Act.CLEAR]
    assert line.detector.active() == frozenset()


def test_a_jam_shorter_than_the_on_delay_raises_nothing() -> None:
    line = floor(on_delay_s=5)
    line.read(jam=True)
    assert line.wait(4.9) == []
    assert line.read(jam=False) == []
    assert line.wait(60) == []


def test_a_jam_is_raised_at_its_deadline_and_dates_from_its_first_bad_sample() -> None:
    line = floor(on_delay_s=5)
    began = line.clock.stamp()
    line.read(jam=True)
    assert line.detector.deadline_ns() == began.mono_ns + 5 * NS_PER_S
    line.clock.go(2)
    line.read(jam=True)
    (raised,) = line.wait(10)
    assert raised.act is Act.RAISE
    assert raised.first == began
    assert raised.at.mono_ns == began.mono_ns + 5 * NS_PER_S
    assert raised.at.wall_ms == began.wall_ms + 5_000
    assert line.detector.deadline_ns() is None


def test_a_jam_that_ended_after_its_deadline_was_a_jam_though_nobody_looked_in_between() -> None:
    line = floor(on_delay_s=5)
    line.read(jam=True)
    line.clock.go(7)
    assert acts(line.read(jam=False)) == [Act.RAISE, Act.CLEAR]


def test_one_good_sample_starts_the_on_delay_anew() -> None:
    line = floor(on_delay_s=5)
    line.read(jam=True)
    line.clock.go(4)
    line.read(jam=False)
    again = line.clock.go(1)
    line.read(jam=True)
    assert line.wait(4.9) == []
    (raised,) = line.wait(0.1)
    assert raised.first == again


def test_a_failed_read_starts_the_on_delay_anew() -> None:
    line = floor(on_delay_s=5)
    line.read(jam=True)
    line.clock.go(4)
    line.read(jam=None)
    line.clock.go(0.5)
    line.read(jam=True)
    assert line.wait(4.9) == []
    assert acts(line.wait(0.1)) == [Act.RAISE]


def test_an_ended_jam_dates_from_its_first_good_sample() -> None:
    line = floor(off_delay_s=10)
    line.read(jam=True)
    good = line.clock.go(3)
    line.read(jam=False)
    assert line.detector.active() == {"belt/jam"}
    assert line.wait(9) == []
    (cleared,) = line.wait(1)
    assert (cleared.act, cleared.first) == (Act.CLEAR, good)
    assert cleared.at.mono_ns == good.mono_ns + 10 * NS_PER_S


def test_a_jam_that_returns_within_the_off_delay_never_ended() -> None:
    line = floor(off_delay_s=10)
    line.read(jam=True)
    for _ in range(5):
        line.clock.go(9)
        assert line.read(jam=False) == []
        line.clock.go(0.5)
        assert line.read(jam=True) == []
    assert line.detector.active() == {"belt/jam"}


def test_an_active_jam_that_cannot_be_read_stays_active() -> None:
    line = floor(off_delay_s=10)
    line.read(jam=True)
    line.clock.go(1)
    assert line.read(jam=None) == []
    assert line.wait(3_600) == []
    assert line.detector.active() == {"belt/jam"}


def test_a_failed_read_starts_the_off_delay_anew() -> None:
    line = floor(off_delay_s=10)
    line.read(jam=True)
    line.read(jam=False)
    line.clock.go(9)
    line.read(jam=None)
    assert line.wait(60) == []
    line.read(jam=False)
    assert line.wait(9) == []
    assert acts(line.wait(1)) == [Act.CLEAR]


def test_a_late_reading_never_makes_time_run_backwards() -> None:
    line = floor()
    line.clock.go(10)
    line.detector.look(line.clock.stamp())
    now = line.clock.stamp()
    line.clock.mono_ns -= 4 * NS_PER_S
    (raised,) = line.read(jam=True)
    assert raised.first == now


# --- silence and shares
# ------------------------------------------------------------------------------------------


def silent_scanner(**more: Any) -> Floor:
    return floor({"no_data_s": {"signal": "scan", "s": 60}}, fault="silent-head", **more)


def test_silence_is_raised_when_it_is_due_and_cleared_by_the_next_scan() -> None:
    line = silent_scanner()
    heard = line.clock.go(5)
    line.read(scan=True)
    (raised,) = line.wait(100)
    assert raised.first.mono_ns == raised.at.mono_ns == heard.mono_ns + 60 * NS_PER_S
    assert line.wait(1_000) == []
    assert acts(line.read(scan=True)) == [Act.CLEAR]


def test_silence_counts_from_the_start_when_nothing_was_ever_heard() -> None:
    line = silent_scanner()
    assert line.wait(59) == []
    assert acts(line.wait(1)) == [Act.RAISE]


def test_silence_without_a_link_is_unknown_and_counts_anew_when_the_link_returns() -> None:
    line = silent_scanner()
    line.clock.go(30)
    line.read(link_up=False, scan=None)
    assert line.detector.deadline_ns() is None
    assert line.wait(600) == []
    line.read(link_up=True)
    assert line.wait(59) == []
    assert acts(line.wait(1)) == [Act.RAISE]


def test_a_silent_scanner_stays_raised_while_its_link_is_gone() -> None:
    line = silent_scanner()
    line.wait(60)
    assert line.read(link_up=False, scan=None) == []
    line.wait(600)
    assert line.read(link_up=True) == []
    assert line.detector.active() == {"belt/silent-head"}
    assert acts(line.read(scan=True)) == [Act.CLEAR]


def learning_scanner() -> Floor:
    return floor({"no_data_s": {"signal": "scan", "s": 900, "learned": {"at_least_s": 30, "times": 4}}})


def scanning(line: Floor, gaps: list[float]) -> None:
    for gap in gaps:
        assert line.read(scan=True) == []
        assert line.wait(gap) == []
    assert line.read(scan=True) == []


def test_before_anything_is_learned_silence_is_as_long_as_the_profile_says() -> None:
    line = learning_scanner()
    scanning(line, [20] * 99)
    (raised,) = line.wait(10_000)
    assert raised.first.mono_ns - line.clock.mono_ns == -9_100 * NS_PER_S
    assert raised.why == ""


def test_a_scanner_that_is_silent_for_much_longer_than_usual_is_raised_sooner_and_says_why() -> None:
    line = learning_scanner()
    # Two breaks in a shift are not usual.
    scanning(line, [800, 800, *[5, 20] * 100])
    heard = line.clock.stamp()
    (raised,) = line.wait(100)
    assert raised.first.mono_ns - heard.mono_ns == 80 * NS_PER_S
    assert raised.why == "scan: silent for 80 s; usually for at most 20 s"
    assert acts(line.read(scan=True)) == [Act.CLEAR]


def test_what_is_learned_has_a_floor() -> None:
    line = learning_scanner()
    scanning(line, [1] * 150)
    heard = line.clock.stamp()
    (raised,) = line.wait(100)
    assert raised.first.mono_ns - heard.mono_ns == 30 * NS_PER_S


def test_what_is_learned_is_forgotten_with_a_restart_and_never_raises_from_too_little() -> None:
    line = learning_scanner()
    scanning(line, [20] * 150)
    line.restart()
    scanning(line, [20] * 50)
    assert line.wait(899) == []
    assert acts(line.wait(1)) == [Act.RAISE]


def test_time_without_a_link_or_in_which_the_line_stands_teaches_nothing() -> None:
    running = {"is": {"signal": "running", "value": True}}
    learned = {"signal": "scan", "s": 900, "learned": {"at_least_s": 30, "times": 2}}
    line = floor({"given": {"that": running, "rule": {"no_data_s": learned}}})
    line.read(running=True)
    for _ in range(60):
        scanning(line, [20, 20])
        line.wait(5)
        line.read(running=False)
        line.wait(600)
        line.read(running=True)
        line.wait(5)
        scanning(line, [20])
        line.read(link_up=False)
        line.wait(600)
        line.read(link_up=True)
    line.read(scan=True)
    heard = line.clock.stamp()
    (raised,) = line.wait(1_000)
    assert raised.first.mono_ns - heard.mono_ns == 40 * NS_PER_S


def test_an_on_delay_of_a_silence_runs_from_when_it_was_one() -> None:
    line = silent_scanner(on_delay_s=10)
    start = line.clock.stamp()
    (raised,) = line.wait(1_000)
    assert raised.first.mono_ns == start.mono_ns + 60 * NS_PER_S
    assert raised.at.mono_ns == start.mono_ns + 70 * NS_PER_S


def test_too_many_missed_reads_raise_and_good_ones_clear() -> None:
    share = {"signal": "no_read", "value": True, "of_last": 10, "above": 0.2, "at_least": 5}
    line = floor({"share": share}, fault="read-rate")
    for _ in range(3):
        assert line.read(no_read=True) == []
    assert line.detector.unsettled() == {"belt/read-rate"}
    line.read(no_read=True)
    assert acts(line.read(no_read=True)) == [Act.RAISE]
    cleared = [act for _ in range(10) for act in acts(line.read(no_read=False))]
    assert cleared == [Act.CLEAR]


def test_too_many_missed_reads_within_minutes_raise_and_are_forgotten_when_their_time_is_over() -> None:
    share = {"signal": "no_read", "value": True, "of_last_s": 60, "above": 0.5, "at_least": 3}
    line = floor({"share": share}, fault="read-rate")
    for missed in (False, False, True, True):
        assert line.read(no_read=missed) == []
        line.clock.go(10)
    # The first one is forgotten after a minute: 2 of 3 are left.
    (raised,) = line.wait(35)
    assert raised.first.mono_ns == HandClock().mono_ns + 60 * NS_PER_S
    # Then there are too few to tell.
    assert line.wait(600) == []
    assert line.detector.active() == {"belt/read-rate"}


# --- what stands still
# --------------------------------------------------------------------------------------------

STUCK = {"stuck_s": {"signal": "position", "s": 10}}


def test_an_encoder_that_does_not_move_is_stuck_at_the_sample_that_shows_it() -> None:
    line = floor(STUCK, fault="stuck")
    line.read(position=7)
    line.clock.go(1)
    began = line.clock.stamp()
    for _ in range(10):
        assert line.read(position=8) == []
        line.clock.go(1)
    (raised,) = line.read(position=8)
    assert (raised.act, raised.first) == (Act.RAISE, line.clock.stamp())
    assert raised.first.mono_ns - began.mono_ns == 10 * NS_PER_S
    line.clock.go(1)
    assert acts(line.read(position=9)) == [Act.CLEAR]


def test_no_data_is_not_stuck() -> None:
    line = floor(STUCK, fault="stuck", on_delay_s=30)
    line.read(position=7)
    for _ in range(11):
        line.clock.go(1)
        line.read(position=7)
    assert line.detector.phases["belt/stuck"].state is State.PENDING
    assert line.wait(600) == []
    assert line.detector.phases["belt/stuck"].state is State.NORMAL
    # It says the same after a long pause: nobody knows whether it moved.
    assert line.read(position=7) == []
    assert line.detector.phases["belt/stuck"].state is State.NORMAL


def test_what_is_stuck_no_more_for_want_of_data_lends_no_time_to_another_reason() -> None:
    jammed = {"any": [STUCK, {"is": {"signal": "torque", "value": "high"}}]}
    line = floor(jammed, on_delay_s=60)
    for _ in range(11):
        line.read(position=7)
        line.clock.go(1)
    line.clock.go(29)
    again = line.clock.stamp()
    line.read(torque="high")
    (raised,) = line.wait(100)
    assert raised.first == again


def test_one_failed_read_does_not_make_a_stuck_value_move() -> None:
    line = floor(STUCK, fault="stuck")
    found = []
    for second in range(12):
        found += line.read(position=None if second == 5 else 7)
        line.clock.go(1)
    assert acts(found) == [Act.RAISE]


def test_a_value_that_moves_within_its_deadband_is_stuck_and_one_that_creeps_is_not() -> None:
    trembling, creeping = (floor({"stuck_s": STUCK["stuck_s"] | {"deadband": 2}}) for _ in range(2))
    found = []
    for second in range(30):
        found += trembling.read(position=100 + second % 3)
        creeping.read(position=100 + second / 2)
        trembling.clock.go(1)
        creeping.clock.go(1)
    assert acts(found) == [Act.RAISE]
    assert creeping.detector.active() == frozenset()


def test_a_value_that_stood_while_the_line_stood_is_not_stuck_when_the_line_starts() -> None:
    running = {"is": {"signal": "running", "value": True}}
    line = floor({"given": {"that": running, "rule": STUCK}}, fault="stuck")
    for _ in range(100):
        assert line.read(running=False, position=7) == []
        line.clock.go(1)
    for _ in range(10):
        assert line.read(running=True, position=7) == []
        line.clock.go(1)
    assert acts(line.read(running=True, position=7)) == [Act.RAISE]
    # It stops: nobody knows. It starts and moves.
    line.clock.go(1)
    assert line.read(running=False, position=7) == []
    line.clock.go(1)
    assert line.read(running=True, position=7) == []
    line.clock.go(1)
    assert acts(line.read(running=True, position=8)) == [Act.CLEAR]


def test_a_stuck_encoder_is_stuck_after_a_restart_until_it_moves() -> None:
    line = floor(STUCK, fault="stuck")
    for _ in range(11):
        line.read(position=7)
        line.clock.go(1)
    assert line.detector.active() == {"belt/stuck"}
    line.restart()
    for _ in range(5):
        assert line.read(position=7) == []
        line.clock.go(1)
    assert acts(line.read(position=8)) == [Act.CLEAR]


# --- rates
# ------------------------------------------------------------------------------------------------------


def counting(line: Floor, cartons: list[int]) -> list[Act]:
    """One value each second."""
    found = []
    for value in cartons:
        line.clock.go(1)
        found += acts(line.read(cartons=value))
    return found


def test_a_line_that_makes_too_few_cartons_is_raised_once_its_window_is_full() -> None:
    line = floor({"rate": {"signal": "cartons", "below": 60, "per": "min", "of_last_s": 10}})
    assert counting(line, list(range(10))) == []
    assert line.detector.unsettled() == {"belt/jam"}
    # As many as it has to: 1/s is not below 60/min.
    assert counting(line, [10]) == []
    assert line.detector.unsettled() == frozenset()
    assert counting(line, [10]) == [Act.RAISE]
    assert counting(line, [13, 14]) == [Act.CLEAR]


def test_another_devices_link_that_comes_and_goes_concerns_only_what_looks_at_that_device() -> None:
    runs = {"is": {"signal": "drive/running", "value": True}}
    silent = {"given": {"that": runs, "rule": {"no_data_s": {"signal": "scan/line", "s": 600}}}}
    rules = [
        detect.rule(condition(silent, fault="silent")),
        detect.rule(condition({"is": {"signal": "wifi/jam", "value": True}}, fault="jam")),
    ]
    line = Floor(rules)

    def hears(other: str, link_up: bool, **values: Value) -> list[Transition]:
        at = line.clock.stamp()
        samples = [sample(f"{other}/{name}", value, at) for name, value in values.items()]
        return line.detector.take(samples, at, link_up=link_up, other=other)

    hears("drive", True, running=True)
    hears("scan", True, line="4006381333931")
    found = []
    for _ in range(3):
        line.clock.go(150)
        found += hears("wifi", False)
        line.clock.go(150)
        found += hears("wifi", True)
    assert acts(found) == [Act.RAISE]


def test_a_rate_that_counts_only_while_the_line_runs_lets_time_go_on_when_it_stands() -> None:
    running = {"is": {"signal": "running", "value": True}}
    rate = {"rate": {"signal": "code", "value": "NOREAD", "above": 3, "of_last_s": 60}}
    line = floor({"given": {"that": running, "rule": rate}})
    line.read(running=True, code="NOREAD")
    line.clock.go(10)
    line.read(running=False)
    # What was read leaves the window while nobody asks how much is in it.
    assert line.wait(60) == []
    deadline_ns = line.detector.deadline_ns()
    assert deadline_ns is None or deadline_ns > line.clock.stamp().mono_ns


def test_a_counter_that_turns_over_or_was_reset_is_no_giant_rate() -> None:
    rate = {"signal": "cartons", "above": 5, "per": "s", "of_last_s": 4, "modulus": 65_536}
    line = floor({"rate": rate})
    assert counting(line, [65_530, 65_532, 65_534, 0, 2, 4]) == []
    assert counting(line, [3, 5, 7]) == []
    assert counting(line, [40_000]) == [Act.RAISE]


def test_events_are_counted_in_the_last_while_and_end_to_the_millisecond() -> None:
    rate = {"signal": "no_read", "value": True, "above": 2, "of_last_s": 60}
    line = floor({"rate": rate})
    began = line.clock.stamp()
    line.wait(60)
    found = []
    for _ in range(3):
        line.clock.go(7)
        found += line.read(no_read=True) + line.read(no_read=False)
    (raised,) = found
    assert raised.first.mono_ns == began.mono_ns + 81 * NS_PER_S
    (cleared,) = line.wait(1_000)
    assert cleared.first.mono_ns == began.mono_ns + 127 * NS_PER_S


def test_too_few_events_are_told_by_time_alone_and_not_before_it_was_watched_for_so_long() -> None:
    rate = {"signal": "scan", "value": True, "below": 2, "of_last_s": 60}
    line = floor({"rate": rate})
    began = line.clock.stamp()
    assert line.wait(59) == []
    (raised,) = line.wait(1)
    assert raised.first.mono_ns == began.mono_ns + 60 * NS_PER_S
    assert acts(line.read(scan=True) + line.read(scan=True)) == [Act.CLEAR]
    # Without a link nobody hears anything; with it one has to listen again.
    line.read(link_up=False)
    assert line.wait(3_600) == []
    line.read(link_up=True)
    assert line.wait(59) == []
    assert acts(line.wait(1)) == [Act.RAISE]


def test_a_rate_after_a_standstill_is_unknown_until_its_window_is_full() -> None:
    line = floor({"rate": {"signal": "scan", "value": True, "below": 1, "of_last_s": 10}}, off_delay_s=0)
    line.wait(5)
    line.detector.stood_still(line.clock.go(60))
    assert line.wait(9) == []
    assert acts(line.wait(1)) == [Act.RAISE]


def test_a_rate_is_that_of_the_time_in_which_the_line_runs() -> None:
    running = {"is": {"signal": "running", "value": True}}
    rate = {"rate": {"signal": "scan", "value": True, "below": 1, "of_last_s": 10}}
    line = floor({"given": {"that": running, "rule": rate}})
    line.read(running=False)
    assert line.wait(3_600) == []
    line.read(running=True)
    assert line.wait(9) == []
    assert acts(line.wait(1)) == [Act.RAISE]


def test_what_a_counter_did_not_count_while_the_line_stood_is_not_too_little() -> None:
    running = {"is": {"signal": "running", "value": True}}
    rate = {"rate": {"signal": "cartons", "below": 1, "per": "s", "of_last_s": 10}}
    line = floor({"given": {"that": running, "rule": rate}})
    line.read(running=False)
    assert counting(line, [5] * 100) == []
    line.clock.go(0.5)
    line.read(running=True)
    assert counting(line, list(range(6, 16))) == []
    assert line.detector.unsettled() == {"belt/jam"}
    assert counting(line, [16]) == []
    assert line.detector.unsettled() == frozenset()


# --- restart and settling
# ----------------------------------------------------------------------------------------


def test_nothing_is_settled_before_it_was_read_well() -> None:
    line = floor()
    assert line.detector.unsettled() == {"belt/jam"}
    line.read(jam=None)
    assert line.detector.unsettled() == {"belt/jam"}
    line.read(jam=False)
    assert line.detector.unsettled() == frozenset()
    line.read(jam=None)
    assert line.detector.unsettled() == frozenset()


def test_a_jam_whose_delay_still_runs_after_the_start_is_not_settled() -> None:
    line = floor(on_delay_s=5)
    line.read(jam=True)
    assert line.detector.unsettled() == {"belt/jam"}
    line.wait(5)
    assert line.detector.unsettled() == frozenset()


def test_after_a_restart_an_active_jam_is_active_until_it_is_read_as_gone() -> None:
    line = floor()
    line.read(jam=True)
    line.restart()
    assert line.detector.active() == {"belt/jam"}
    assert line.detector.unsettled() == {"belt/jam"}
    assert line.wait(3_600) == []
    assert line.read(jam=True) == []
    line.restart()
    assert acts(line.read(jam=False)) == [Act.CLEAR]


def test_after_a_restart_a_pending_delay_starts_again() -> None:
    line = floor(on_delay_s=5)
    line.read(jam=True)
    line.wait(4)
    line.restart()
    line.read(jam=True)
    assert line.wait(4) == []
    assert acts(line.wait(1)) == [Act.RAISE]


def test_what_could_not_be_written_is_decided_anew() -> None:
    line = floor(on_delay_s=5)
    line.read(jam=True)
    line.clock.go(5)
    before = dict(line.detector.phases)
    (first,) = line.detector.look(line.clock.stamp())
    line.detector.put_back(before)
    assert line.detector.look(line.clock.stamp()) == [first]


def test_after_a_standstill_delays_start_again_also_for_what_is_not_read_again() -> None:
    line = floor(on_delay_s=5, off_delay_s=5)
    line.read(jam=True)
    line.detector.stood_still(line.clock.go(60))
    assert line.wait(4) == []
    (raised,) = line.wait(1)
    assert raised.at.mono_ns - raised.first.mono_ns == 5 * NS_PER_S
    line.read(jam=False)
    line.detector.stood_still(line.clock.go(60))
    assert line.wait(4) == []
    assert acts(line.wait(1)) == [Act.CLEAR]


def test_what_could_not_be_written_before_a_standstill_is_decided_anew_after_it() -> None:
    line = floor({"no_data_s": {"signal": "jam", "s": 10}})
    line.read(jam=False)
    line.clock.go(10)
    before = dict(line.detector.phases)
    assert acts(line.detector.look(line.clock.stamp())) == [Act.RAISE]
    line.detector.put_back(before)
    line.detector.stood_still(line.clock.go(60))
    assert line.wait(9) == []
    assert acts(line.wait(1)) == [Act.RAISE]


# --- reachability
# ------------------------------------------------------------------------------------------------

STATUS = RequestRead(send="~HS")
PRESENCE = RequestRead(send="~HS", no_answer="silent")


def test_a_device_is_cut_off_while_none_of_its_reads_brings_anything() -> None:
    reads = {"a": STATUS, "b": ListenRead(listen=True)}
    assert unreachable(reads, {}) is None
    assert unreachable(reads, {"a": Trouble.NO_LINK}) is True
    assert unreachable(reads, {"a": Trouble.WRONG_ANSWER, "b": Trouble.OFFLINE}) is True
    assert unreachable(reads, {"a": Trouble.NO_ANSWER, "b": None}) is False


def test_silence_that_the_profile_explains_is_not_a_lost_device() -> None:
    assert unreachable({"a": STATUS}, {"a": Trouble.NO_ANSWER}) is True
    assert unreachable({"a": PRESENCE}, {"a": Trouble.NO_ANSWER}) is False
    assert unreachable({"a": PRESENCE}, {"a": Trouble.NO_LINK}) is True


def test_a_lost_device_is_raised_after_half_a_minute() -> None:
    line = Floor([detect.unreachable_rule()])
    line.read(**{LINK_SIGNAL: True})
    assert line.wait(29) == []
    (raised,) = line.wait(1)
    assert raised.rule.key == "link/unreachable"
    assert acts(line.read(**{LINK_SIGNAL: False})) == [Act.CLEAR]


def test_what_is_said_of_a_lost_device_is_true_of_one_that_answers_something_else() -> None:
    """A printer that wants a password is on, and its cable is well."""
    assert unreachable({"a": STATUS}, {"a": Trouble.WRONG_ANSWER}) is True
    told = detect.unreachable_rule()
    assert told.title == "Device cannot be read"
    for cause in ("power", "cable", "address", "answers", "settings", "profile", "password"):
        assert cause in told.advice


def test_every_device_has_the_condition_of_being_cut_off() -> None:
    keys = [rule.key for rule in detect.rules([condition(JAM)])]
    assert keys == ["belt/jam", "link/unreachable"]


# --- whatever happens
# --------------------------------------------------------------------------------------------

RULES = [
    detect.rule(condition(JAM, fault="at-once")),
    detect.rule(condition(JAM, fault="delayed", on_delay_s=3, off_delay_s=5)),
    detect.rule(
        condition(
            {
                "all": [
                    {"not": JAM},
                    {"above": {"signal": "current", "limit": 10, "deadband": 3}},
                ]
            },
            fault="overload",
            on_delay_s=1,
            off_delay_s=2,
        )
    ),
    detect.rule(condition({"no_data_s": {"signal": "scan", "s": 6}}, fault="quiet", on_delay_s=1)),
    detect.rule(
        condition(
            {"no_data_s": {"signal": "scan", "s": 7, "learned": {"at_least_s": 0.2, "times": 2}}},
            fault="quieter-than-usual",
        )
    ),
    detect.rule(
        condition(
            {"share": {"signal": "scan", "value": False, "of_last": 5, "above": 0.4, "at_least": 2}},
            fault="read-rate",
            off_delay_s=1,
        )
    ),
    detect.rule(
        condition(
            {"share": {"signal": "scan", "value": False, "of_last_s": 4, "above": 0.4, "at_least": 2}},
            fault="read-rate-lately",
            on_delay_s=1,
        )
    ),
    detect.rule(
        condition({"rate": {"signal": "scan", "value": True, "below": 2, "of_last_s": 5}}, fault="few-scans")
    ),
    detect.rule(
        condition(
            {
                "given": {
                    "that": {"not": JAM},
                    "rule": {
                        "any": [
                            {"stuck_s": {"signal": "current", "s": 3}},
                            {"rate": {"signal": "current", "above": 3, "of_last_s": 4, "deadband": 1}},
                            {"no_data_s": {"signal": "current", "s": 7}},
                        ]
                    },
                }
            },
            fault="motor",
            off_delay_s=1,
        )
    ),
]


@dataclass(frozen=True)
class Step:
    after_s: float
    signal: str
    value: Value
    link_up: bool
    jump_s: int = 0


STEPS = st.lists(
    st.builds(
        Step,
        after_s=st.sampled_from([0, 0.1, 0.5, 1, 2, 3, 5, 8]),
        signal=st.sampled_from(["jam", "current", "scan"]),
        value=st.sampled_from([True, False, None, 5.0, 8.0, 11.0]),
        link_up=st.sampled_from([True, True, True, False]),
        jump_s=st.sampled_from([0, 0, 0, 86_400, -86_400, -400_000_000]),
    ),
    max_size=40,
)
Seen = list[tuple[str, Act, int, int]]


def play(steps: list[Step], *, look_every_s: float | None = None, jumps: bool = True) -> list[Transition]:
    line = Floor(RULES)
    found: list[Transition] = []
    for step in steps:
        rest = step.after_s
        while look_every_s and rest > look_every_s:
            found += line.wait(look_every_s)
            rest = round(rest - look_every_s, 6)
        line.clock.go(rest)
        if jumps:
            line.clock.jump(step.jump_s)
        found += line.read(link_up=step.link_up, **{step.signal: step.value})
    return found + line.wait(60)


def seen(transitions: list[Transition]) -> Seen:
    return sorted((one.rule.fault, one.act, one.first.mono_ns, one.at.mono_ns) for one in transitions)


def comings_and_goings(own: list[Transition]) -> list[Transition]:
    """Without the ends of what had paused."""
    pairs = zip([None, *own], own, strict=False)
    return [one for before, one in pairs if not (before and before.act is Act.PAUSE and one.act is Act.CLEAR)]


@given(STEPS)
@settings(max_examples=200, deadline=None)
def test_each_condition_is_raised_and_cleared_in_turn(steps: list[Step]) -> None:
    found = play(steps)
    for rule in RULES:
        own = comings_and_goings([one for one in found if one.rule is rule])
        assert [one.act is Act.RAISE for one in own] == [True, False] * (len(own) // 2) + [True] * (
            len(own) % 2
        )
        for one, after in itertools.pairwise(own):
            assert one.first.mono_ns <= one.at.mono_ns
            assert one.at.mono_ns <= after.first.mono_ns <= after.at.mono_ns


@given(STEPS, st.sampled_from([0.07, 0.3, 1.1]))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_how_often_one_looks_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, steps: list[Step], look_every_s: float
) -> None:
    # So that steps as short as these teach something.
    monkeypatch.setattr(windows, "LEARNED_FROM", 3)
    assert seen(play(steps)) == seen(play(steps, look_every_s=look_every_s))


@given(STEPS)
@settings(max_examples=100, deadline=None)
def test_a_wall_clock_that_jumps_changes_no_decision_and_no_duration(steps: list[Step]) -> None:
    assert seen(play(steps, jumps=True)) == seen(play(steps, jumps=False))


@given(STEPS)
@settings(max_examples=200, deadline=None)
def test_a_restart_by_itself_neither_raises_nor_clears(steps: list[Step]) -> None:
    line = Floor(RULES)
    for step in steps:
        line.clock.go(step.after_s)
        line.read(link_up=step.link_up, **{step.signal: step.value})
        active = line.detector.active()
        line.restart()
        assert line.detector.active() == active
        assert line.detector.unsettled() == {rule.key for rule in RULES}
        # The same value again tells nothing new about what is active or clear at once.
        repeated = line.read(link_up=step.link_up, **{step.signal: step.value})
        assert [one for one in repeated if one.rule.fault == "at-once" and step.link_up] == []


@pytest.mark.parametrize("jump_s", [-30 * 86_400, 30 * 86_400])
def test_the_dates_of_a_deadline_follow_the_wall_clock_as_it_is(jump_s: int) -> None:
    line = floor(on_delay_s=10)
    line.read(jam=True)
    line.clock.go(2)
    line.clock.jump(jump_s)
    (raised,) = line.wait(20)
    assert raised.at.mono_ns - raised.first.mono_ns == 10 * NS_PER_S
    assert raised.at.wall_ms == line.clock.wall_ms - 12_000


def test_a_condition_that_is_not_enabled_is_no_rule() -> None:
    off = condition(JAM).model_copy(update={"enabled": False})
    assert [rule.key for rule in detect.rules([off])] == ["link/unreachable"]
