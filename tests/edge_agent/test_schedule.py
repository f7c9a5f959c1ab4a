"""When each request is due, and what a silent unit may cost."""

import itertools
from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.poll import Block
from edge_agent.schedule import Schedule


def poll(device: str, every_s: float = 1.0, timeout_s: float = 1.0, address: int = 0) -> Block:
    return Block(
        device=device,
        unit=1,
        function=3,
        address=address,
        count=1,
        every_s=every_s,
        timeout_s=timeout_s,
        parts=(),
    )


def due(schedule: Schedule[Block]) -> tuple[float, Block]:
    found = schedule.next()
    assert found is not None
    return found


def test_a_bus_without_requests_has_nothing_due() -> None:
    empty: list[Block] = []
    assert Schedule(empty, now=0.0, random=Random(1)).next() is None


def test_a_late_poll_does_not_shift_the_next_one() -> None:
    one = poll("a")
    schedule = Schedule([one], now=100.0, random=Random(1))
    schedule.asked(one, 100.7)
    assert due(schedule)[0] == 101.0


def test_missed_cycles_are_skipped_not_queued() -> None:
    one = poll("a")
    schedule = Schedule([one], now=100.0, random=Random(1))
    schedule.asked(one, 107.2)
    assert due(schedule)[0] == 108.0


@given(
    every=st.floats(min_value=0.01, max_value=3600),
    late=st.floats(min_value=0, max_value=1e6),
    start=st.floats(min_value=0, max_value=1e7),
)
def test_the_next_time_always_lies_ahead_and_at_most_one_interval(
    every: float, late: float, start: float
) -> None:
    one = poll("a", every_s=every)
    schedule = Schedule([one], now=start, random=Random(1))
    schedule.asked(one, start + late)
    assert 0 < due(schedule)[0] - (start + late) <= every * 1.001 + 1e-6


def test_on_a_bus_that_is_too_slow_every_poll_still_gets_its_turn() -> None:
    polls = [poll("a", 0.1, address=1), poll("b", 0.2, address=2), poll("c", 1.0, address=3)]
    schedule = Schedule(polls, now=0.0, random=Random(1))
    now, turns = 0.0, {"a": 0, "b": 0, "c": 0}
    for _ in range(60):
        moment, one = due(schedule)
        now = max(now, moment)
        schedule.asked(one, now)
        turns[one.device] += 1
        now += 0.5
        schedule.answered(one, now)
    assert min(turns.values()) >= 10


def play(
    schedule: Schedule[Block], dead: set[str], until: float, answer_s: float = 0.01
) -> list[tuple[float, str]]:
    """Ask what is due; a dead unit costs its timeout. Returns when each request began."""
    now, asked = 0.0, []
    while True:
        moment, one = due(schedule)
        now = max(now, moment)
        if now > until:
            return asked
        schedule.asked(one, now)
        asked.append((now, one.device))
        if one.device in dead:
            now += one.timeout_s
            schedule.silent(one, now)
        else:
            now += answer_s
            schedule.answered(one, now)


def test_a_dead_unit_costs_its_neighbours_at_most_a_tenth() -> None:
    polls = [poll("well", 0.5), *(poll("dead", 0.5, address=n) for n in range(3))]
    schedule = Schedule(polls, now=0.0, random=Random(1))
    asked = play(schedule, {"dead"}, until=1000.0)
    probes = [moment for moment, device in asked if device == "dead" and moment > 30]
    assert len(probes) * 1.0 <= 100
    assert all(30 <= later - sooner <= 62 for sooner, later in itertools.pairwise(probes))
    assert len({round(later - sooner, 3) for sooner, later in itertools.pairwise(probes)}) > 3
    assert sum(device == "well" for _, device in asked) >= 0.9 * 2000


def test_twenty_dead_units_together_cost_at_most_a_tenth() -> None:
    polls = [poll("well", 1.0), *(poll(f"dead-{n}", 1.0) for n in range(20))]
    schedule = Schedule(polls, now=0.0, random=Random(1))
    asked = play(schedule, {f"dead-{n}" for n in range(20)}, until=5000.0)
    settled = [device for moment, device in asked if moment > 1000]
    assert sum(device != "well" for device in settled) * 1.0 <= 0.1 * 4000
    assert sum(device == "well" for device in settled) >= 0.9 * 4000


def test_a_unit_is_given_up_only_after_three_silent_rounds_and_a_silent_round_costs_one_timeout() -> None:
    polls = [poll("well", 10.0), poll("dead", 10.0, address=1), poll("dead", 10.0, address=2)]
    schedule = Schedule(polls, now=0.0, random=Random(1))
    asked = play(schedule, {"dead"}, until=29.0)
    assert [device for _, device in asked].count("dead") == 3
    assert schedule.quarantined("dead")
    assert not schedule.quarantined("well")


def test_one_answer_ends_the_quarantine_and_everything_is_read_at_once() -> None:
    first, second = poll("back", 10.0, address=1), poll("back", 10.0, address=2)
    schedule = Schedule([poll("well", 1000.0), first, second], now=0.0, random=Random(1))
    play(schedule, {"back"}, until=25.0)
    moment, probe = due(schedule)
    assert schedule.quarantined("back")
    schedule.asked(probe, moment)
    assert schedule.answered(probe, moment + 0.1)
    assert not schedule.quarantined("back")
    following, other = due(schedule)
    assert (following, {probe.address, other.address}) == (moment + 0.1, {1, 2})


def test_a_unit_alone_on_its_bus_keeps_its_rate_but_counts_as_silent() -> None:
    alone = poll("alone", 1.0)
    schedule = Schedule([alone], now=0.0, random=Random(1))
    verdicts = []
    for now in range(4):
        schedule.asked(alone, float(now))
        verdicts.append(schedule.silent(alone, now + 0.5))
    assert verdicts == [False, False, True, True]
    assert due(schedule)[0] == 4.0


def test_a_unit_that_leaves_out_one_of_its_answers_is_not_given_up() -> None:
    deaf, well = poll("odd", 1.0, address=1), poll("odd", 1.0, address=2)
    schedule = Schedule([deaf, well, poll("neighbour", 1.0)], now=0.0, random=Random(1))
    now, answered = 0.0, 0
    while now < 60:
        moment, one = due(schedule)
        now = max(now, moment)
        schedule.asked(one, now)
        if one is deaf:
            schedule.silent(one, now + 0.2)
        else:
            answered += one is well
            schedule.answered(one, now)
    assert not schedule.quarantined("odd")
    assert answered >= 25


def with_probes(*polls: Block) -> Schedule[Block]:
    return Schedule(polls, now=0.0, random=Random(1), probe=lambda poll: replace(poll, count=0))


def test_a_unit_in_doubt_is_asked_its_probe_and_nothing_else_until_it_answers() -> None:
    first, second = poll("a", address=1), poll("a", address=2)
    schedule = with_probes(first, second, poll("b", 100.0))
    schedule.asked(first, 0.0)
    assert not schedule.silent(first, 0.2)
    assert due(schedule)[1].device == "b"
    schedule.asked(due(schedule)[1], 0.2)
    moment, probe = due(schedule)
    assert (moment, probe.count) == (1.0, 0)
    schedule.asked(probe, 1.0)
    assert not schedule.answered(probe, 1.1)
    asked = []
    for _ in range(2):
        moment, one = due(schedule)
        assert moment == 1.1
        schedule.asked(one, 1.2)
        asked.append(one)
    assert asked == [first, second] or asked == [second, first]


def test_the_probe_is_that_of_what_was_answered_last() -> None:
    deaf, well = poll("a", address=1), poll("a", address=2)
    schedule = with_probes(deaf, well, poll("b", 100.0))
    schedule.asked(well, 0.0)
    schedule.answered(well, 0.0)
    schedule.asked(deaf, 0.0)
    schedule.silent(deaf, 0.2)
    schedule.asked(due(schedule)[1], 0.2)
    assert due(schedule)[1].address == 2


def test_before_anything_was_answered_each_probe_has_its_turn() -> None:
    polls = [poll("a", address=address) for address in (1, 2, 3)]
    schedule = with_probes(*polls)
    schedule.asked(polls[0], 0.0)
    schedule.silent(polls[0], 0.2)
    probed = []
    for _ in range(4):
        moment, probe = due(schedule)
        schedule.asked(probe, moment)
        schedule.silent(probe, moment + 0.2)
        probed.append(probe.address)
    assert probed == [2, 3, 1, 2]


def test_one_read_that_is_never_answered_costs_at_most_a_tenth() -> None:
    deaf, well, other = poll("odd", address=1), poll("odd", address=2), poll("neighbour")
    schedule = with_probes(deaf, well, other)
    now, lost, asked = 0.0, 0.0, {"odd": 0, "neighbour": 0}
    while now < 1000:
        moment, one = due(schedule)
        now = max(now, moment)
        schedule.asked(one, now)
        if one is deaf:
            now += 1.0
            lost += 1.0
            schedule.silent(one, now)
        else:
            now += 0.01
            asked[one.device] += 1
            schedule.answered(one, now)
    assert not schedule.quarantined("odd")
    assert lost <= 100
    assert min(asked.values()) >= 900


def test_on_a_noisy_line_a_read_that_is_often_lost_does_not_rest_for_it() -> None:
    """Every second answer to one read is lost; its neighbour on the same unit is always read."""
    noisy, well = poll("a", timeout_s=0.1), poll("a", timeout_s=0.1, address=100)
    schedule, now = Schedule([noisy, well], now=0.0, random=Random(1)), 0.0
    random, asked = Random(2), 0
    while now < 600:
        at, one = due(schedule)
        now = max(now, at)
        schedule.asked(one, now)
        asked += one is noisy
        if one is noisy and asked > 1 and random.random() < 0.5:
            now += 0.1
            schedule.silent(one, now)
        else:
            schedule.answered(one, now)
    # With a rest of 30 to 60 s after each three that are lost in a row it would be far fewer.
    assert asked > 300


def test_a_poll_that_is_wanted_again_is_due_at_once() -> None:
    one, other = poll("a"), poll("b", 0.5)
    schedule = Schedule([one, other], now=0.0, random=Random(1))
    for each in (one, other):
        schedule.asked(each, 0.0)
    schedule.again(one, 0.1)
    assert due(schedule) == (0.1, one)


@given(st.data())
def test_whatever_is_answered_or_not_everything_stays_in_turn(data: st.DataObject) -> None:
    polls = [
        poll(name, every, address=n)
        for n, (name, every) in enumerate(zip("aabbbc", (1, 2, 1, 1, 5, 3), strict=True))
    ]
    schedule = with_probes(*polls)
    now, asked = 0.0, set()
    for _ in range(60):
        moment, one = due(schedule)
        assert moment <= now + 120
        now = max(now, moment)
        schedule.asked(one, now)
        asked.add(one.device)
        now += data.draw(st.sampled_from([0.01, 0.5, 2.0]))
        if data.draw(st.booleans()):
            schedule.answered(one, now)
        else:
            schedule.silent(one, now)
    assert asked == {"a", "b", "c"}
    # From now on all is well: everything is asked again within two minutes.
    end, again = now + 121, set()
    while now < end:
        moment, one = due(schedule)
        now = max(now, moment)
        schedule.asked(one, now)
        again.add(one)
        schedule.answered(one, now)
    assert set(polls) <= again


def test_a_bus_that_carries_what_is_asked_keeps_all_of_it_and_one_that_is_too_slow_a_share() -> None:
    for answer_s, share in ((0.01, 1.0), (0.4, 0.625)):
        polls = [poll(f"unit-{n}", 1.0) for n in range(4)]
        schedule = Schedule(polls, now=0.0, random=Random(1))
        assert schedule.service() is None
        play(schedule, set(), until=200.0, answer_s=answer_s)
        gave = schedule.service()
        assert gave is not None
        assert abs(gave.due - 240) <= 4
        assert abs(gave.kept / gave.due - share) < 0.02
        assert gave.is_behind == (share < 0.9)
        assert gave.cycle_s is not None
        assert abs(gave.cycle_s - 4 * answer_s) < 1e-6


def test_a_silent_unit_is_told_and_does_not_count_as_a_bus_that_is_behind() -> None:
    polls = [poll("well", 1.0), poll("dead", 1.0)]
    schedule = Schedule(polls, now=0.0, random=Random(1))
    play(schedule, {"dead"}, until=200.0)
    gave = schedule.service()
    assert gave is not None
    assert (gave.silent, gave.cycle_s) == (1, None)
    assert not gave.is_behind
    assert 58 <= gave.due <= 62


def test_each_minute_is_told_once() -> None:
    one = poll("a", 1.0)
    schedule = Schedule([one], now=0.0, random=Random(1))
    over = [now for now in range(200) if schedule.asked(one, float(now))]
    assert over == [60, 120, 180]


def test_what_is_put_off_lets_others_have_their_turn() -> None:
    one, other = poll("a"), poll("b")
    schedule = Schedule([one, other], now=0.0, random=Random(1))
    schedule.put_off(one, 1.5)
    assert due(schedule) == (0.0, other)
    schedule.asked(other, 0.0)
    schedule.asked(other, 1.0)
    assert due(schedule) == (1.5, one)
    schedule.asked(one, 1.5)
    schedule.silent(one, 1.6)
    schedule.put_off(one, 2.5)
    schedule.asked(other, 2.0)
    assert due(schedule)[0] == 2.5
