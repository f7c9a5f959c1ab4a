from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rigs.journals import InMemory
from rigs.moments import NS_PER_S, HandClock, condition, ids, sample

from edge_agent import chatter, detect, occurrence
from edge_agent.detect import Act, Detector, Transition
from edge_agent.sample import Value
from edge_agent.wire import MAX_PAUSES, Row, mono_ms, read_row

JAM = {"is": {"signal": "jam", "value": True}}


@dataclass
class Belt:
    """One belt whose jams go into a journal."""

    more: dict[str, Any] = field(default_factory=dict)
    clock: HandClock = field(default_factory=HandClock)

    def __post_init__(self) -> None:
        self.journal = InMemory(new_id=ids())
        self.acts: list[Act] = []
        self.detector = Detector([detect.rule(condition(JAM, **self.more))], start=self.clock.stamp())

    def read(self, jam: Value) -> None:
        at = self.clock.stamp()
        self.write(self.detector.take([sample("jam", jam, at)], at))

    def wait(self, seconds: float) -> None:
        self.write(self.detector.look(self.clock.go(seconds)))

    def write(self, transitions: list[Transition]) -> None:
        self.acts += [one.act for one in transitions]
        changes = occurrence.changes("belt-1", transitions, lambda _: {})
        now = self.clock.stamp()
        self.journal.ledger.together([lambda ledger: ledger.write(changes, now=now)])

    def flicker(self, times: int, *, on_s: float, off_s: float) -> None:
        for _ in range(times):
            self.read(True)
            self.clock.go(on_s)
            self.read(False)
            self.clock.go(off_s)

    def rows(self) -> list[Row]:
        """As they would be sent, oldest first."""
        found: list[Row] = []
        (batch,) = self.journal.ledger.together(
            [lambda ledger: ledger.batch(max_rows=500, max_bytes=1 << 22)]
        )
        for raw in batch.rows:  # type: ignore[union-attr]  # a batch
            found.append(read_row(raw))
        return sorted(found, key=lambda row: row.first_bad.mono_ns)


def spans(rows: list[Row]) -> list[tuple[int, int | None]]:
    """From when to when the fault was there, in ms of this boot."""
    found: list[tuple[int, int | None]] = []
    for row in rows:
        first_ms = begun_ms = mono_ms(row.first_bad)
        for gone_ms, back_ms in row.pauses or ():
            found.append((begun_ms, first_ms + gone_ms))
            begun_ms = -1 if back_ms is None else first_ms + back_ms
        if not row.is_paused:
            found.append((begun_ms, mono_ms(row.cleared) if row.cleared else None))
    return found


def test_an_eye_that_flickers_is_one_occurrence_from_the_third_time_on() -> None:
    belt = Belt()
    belt.flicker(20, on_s=0.7, off_s=1.3)
    first, second, third = belt.rows()
    assert [row.state for row in (first, second, third)] == ["closed", "closed", "open"]
    assert (third.is_paused, third.count, third.rev) == (True, 18, 36)
    assert [back - gone for gone, back in third.pauses[:-1]] == [1_300] * 17
    assert belt.acts == [Act.RAISE, Act.CLEAR] * 2 + [Act.RAISE, Act.PAUSE] * 18


def test_it_ends_when_it_was_quiet_for_a_quarter_of_an_hour_and_ended_when_its_last_pause_began() -> None:
    belt = Belt()
    belt.flicker(5, on_s=1, off_s=1)
    gone_ns = belt.clock.mono_ns - NS_PER_S
    assert belt.detector.deadline_ns() == gone_ns + chatter.QUIET_NS
    belt.wait(898.9)
    assert belt.rows()[-1].state == "open"
    belt.wait(0.1)
    last = belt.rows()[-1]
    assert (last.state, last.reason, last.count, len(last.pauses or ())) == ("closed", "cleared", 3, 2)
    assert last.cleared is not None
    assert last.cleared.mono_ns == gone_ns
    assert last.cleared.wall_ms - last.first_bad.wall_ms == 5_000
    assert belt.detector.deadline_ns() is None
    # What comes after it is another.
    belt.read(True)
    assert len(belt.rows()) == 4


def test_a_slow_flap_is_one_occurrence_for_a_whole_shift() -> None:
    belt = Belt()
    belt.flicker(240, on_s=25, off_s=95)
    *before, flap = belt.rows()
    assert [row.count for row in before] == [1, 1, 1, 1]
    assert (flap.count, flap.state) == (236, "open")
    assert sum(end - start for start, end in spans(belt.rows()) if end) == 240 * 25_000


def test_what_stays_for_long_is_no_chatter_any_more() -> None:
    belt = Belt()
    belt.flicker(4, on_s=1, off_s=1)
    belt.read(True)
    belt.clock.go(900)
    belt.read(False)
    assert belt.rows()[-1].state == "closed"
    assert belt.acts[-3:] == [Act.PAUSE, Act.RAISE, Act.CLEAR]


def test_a_fault_that_comes_now_and_then_is_told_each_time() -> None:
    belt = Belt()
    belt.flicker(10, on_s=60, off_s=900)
    assert [row.state for row in belt.rows()] == ["closed"] * 10


def test_a_row_has_room_for_so_many_pauses_and_the_next_goes_on() -> None:
    belt = Belt()
    belt.flicker(600, on_s=0.5, off_s=0.5)
    rows = belt.rows()
    assert [len(row.pauses or ()) for row in rows] == [0, 0, MAX_PAUSES, MAX_PAUSES, 84]
    assert sum(row.count for row in rows) == 600
    assert [row.state for row in rows] == ["closed"] * 4 + ["open"]


def test_a_blip_shorter_than_the_on_delay_is_no_return() -> None:
    belt = Belt(more={"on_delay_s": 2})
    belt.flicker(4, on_s=3, off_s=1)
    before = belt.rows()
    belt.flicker(3, on_s=1, off_s=1)
    assert belt.rows() == before


def test_what_could_not_be_written_is_decided_anew() -> None:
    belt = Belt()
    belt.flicker(3, on_s=1, off_s=1)
    before = dict(belt.detector.phases)
    at = belt.clock.stamp()
    lost = belt.detector.take([sample("jam", True, at)], at)
    belt.detector.put_back(before)
    belt.wait(0)
    assert [one.act for one in lost] == belt.acts[-1:] == [Act.RAISE]
    assert belt.rows()[-1].count == 2


def test_after_a_standstill_what_pauses_still_pauses() -> None:
    belt = Belt()
    belt.flicker(3, on_s=1, off_s=1)
    belt.detector.stood_still(belt.clock.go(60))
    assert belt.detector.active() == frozenset()
    belt.read(True)
    last = belt.rows()[-1]
    assert (last.count, last.is_paused, last.pauses) == (2, False, [(1_000, 62_000)])


def test_a_condition_that_was_closed_elsewhere_pauses_no_more() -> None:
    belt = Belt()
    belt.flicker(3, on_s=1, off_s=1)
    belt.detector.forget("belt/jam", ask_again=False)
    assert belt.detector.deadline_ns() is None
    belt.read(True)
    assert belt.acts[-1] is Act.RAISE


# --- whatever happens
# --------------------------------------------------------------------------------------------

TOGGLES = st.lists(
    st.sampled_from([0.001, 0.0014, 0.4, 2, 7, 19, 61, 130, 300, 700, 899.999, 900, 901, 3_700]), max_size=60
)


def played(toggles: list[float], *, look_every_s: float | None = None, **more: Any) -> list[Row]:
    belt, jam = Belt(more=more), True
    for after_s in toggles:
        rest = after_s
        while look_every_s and rest > look_every_s:
            belt.wait(look_every_s)
            rest = round(rest - look_every_s, 6)
        belt.clock.go(rest)
        belt.read(jam)
        jam = not jam
    belt.wait(2_000)
    return belt.rows()


@given(TOGGLES)
@settings(max_examples=100, deadline=None)
def test_count_and_times_are_those_of_the_fault_to_the_millisecond(toggles: list[float]) -> None:
    at_ms, was, expected = HandClock().mono_ns, None, []
    for number, after_s in enumerate(toggles):
        at_ms += round(after_s * NS_PER_S)
        if number % 2:
            expected.append((was // 1_000_000, at_ms // 1_000_000))  # type: ignore[operator]  # it came first
        was = at_ms
    if len(toggles) % 2:
        expected.append((was // 1_000_000, None))  # type: ignore[operator]
    rows = played(toggles)
    assert spans(rows) == expected
    assert sum(row.count for row in rows) == len(expected)


@given(TOGGLES, st.sampled_from([0, 0.4, 5]), st.sampled_from([0, 0.4, 5]))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_pauses_is_what_there_would_have_been_without_pauses(
    monkeypatch: pytest.MonkeyPatch, toggles: list[float], on_delay_s: float, off_delay_s: float
) -> None:
    delays = {"on_delay_s": on_delay_s, "off_delay_s": off_delay_s}
    folded = played(toggles, **delays)
    with monkeypatch.context() as patch:
        patch.setattr(chatter, "RAISES", 1_000)
        patch.setattr(chatter, "SLOW_RAISES", 1_000)
        one_by_one = played(toggles, **delays)
    assert [row.pauses for row in one_by_one] == [None] * len(one_by_one)
    assert spans(folded) == spans(one_by_one)
    assert sum(row.count for row in folded) == len(one_by_one)


@given(TOGGLES, st.sampled_from([0.3, 50]))
@settings(max_examples=30, deadline=None)
def test_how_often_one_looks_changes_nothing(toggles: list[float], look_every_s: float) -> None:
    shorter = [after_s for after_s in toggles if after_s < 1_000 or look_every_s > 1]
    assert spans(played(shorter[:20])) == spans(played(shorter[:20], look_every_s=look_every_s))
