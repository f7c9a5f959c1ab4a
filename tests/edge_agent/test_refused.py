"""Which registers a device refuses: found by halving, and what is asked in place of a refused block."""

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import assume, given
from hypothesis import strategies as st

from edge_agent import refused
from edge_agent.poll import Block, Part
from edge_agent.refused import Search


def block(*parts: tuple[int, int], address: int = 100) -> Block:
    """``parts``: offset and count."""
    return Block(
        device="plc",
        unit=1,
        function=3,
        address=address,
        count=max(offset + count for offset, count in parts),
        every_s=1.0,
        timeout_s=1.0,
        parts=tuple(
            Part(read=f"r{n}", offset=offset, count=count) for n, (offset, count) in enumerate(parts)
        ),
    )


def found_on(one: Block, missing: set[int], at_most: int = 125) -> tuple[Search, int]:
    """Against a device that lacks these registers. What was found, and in how many requests."""
    search, asked = refused.search(one), 0
    while not search.over:
        (trial,) = refused.requests(one, search)
        asked += 1
        search = refused.learned(search, answered=is_answered(trial, missing, at_most))
    return search, asked


def is_answered(trial: Block, missing: set[int], at_most: int = 125) -> bool:
    span = range(trial.address, trial.address + trial.count)
    return trial.count <= at_most and not missing & set(span)


def spans(one: Block, search: Search) -> list[tuple[int, int]]:
    return [(run.address, run.address + run.count - 1) for run in refused.requests(one, search)]


def test_one_bad_register_of_125_is_found_in_a_few_requests_and_its_neighbours_take_two() -> None:
    one = block((0, 125))
    search, asked = found_on(one, {142})
    assert search.refused == (142,)
    assert spans(one, search) == [(100, 141), (143, 224)]
    assert asked <= 16


def test_a_hole_that_is_refused_is_read_around_and_nothing_is_called_bad() -> None:
    one = block((0, 4), (8, 4))
    search, _ = found_on(one, {105})
    assert search.refused == ()
    assert spans(one, search) == [(100, 103), (108, 111)]


def test_a_device_that_answers_at_most_40_at_a_time_is_asked_for_40_at_a_time() -> None:
    one = block((0, 100))
    search, _ = found_on(one, set(), at_most=40)
    assert search.refused == ()
    assert spans(one, search) == [(100, 139), (140, 179), (180, 199)]


def test_a_device_that_refuses_everything_is_not_asked_for_each_register() -> None:
    one = block((0, 125))
    search, asked = found_on(one, set(range(100, 225)))
    assert search.refused == tuple(range(100, 225))
    assert search.runs == ()
    assert asked <= 120


def test_every_second_register_missing_costs_no_other_its_value() -> None:
    one = block((0, 60))
    search, _ = found_on(one, set(range(101, 160, 2)))
    assert search.refused == tuple(range(101, 160, 2))
    assert spans(one, search) == [(address, address) for address in range(100, 160, 2)]


def test_two_reads_of_which_one_is_not_there() -> None:
    one = block((0, 2), (6, 2))
    search, _ = found_on(one, {106, 107})
    assert search.refused == (106, 107)
    assert spans(one, search) == [(100, 101)]


def test_a_read_that_is_longer_than_the_device_answers_is_cut_from_the_start() -> None:
    one = replace(block((0, 100)), at_most=45)
    assert one.in_pieces
    assert spans(one, refused.cut(one)) == [(100, 144), (145, 189), (190, 199)]


@given(
    parts=st.lists(
        st.tuples(st.integers(min_value=0, max_value=60), st.integers(min_value=1, max_value=30)),
        min_size=1,
        max_size=4,
    ),
    missing=st.sets(st.integers(min_value=100, max_value=190), max_size=refused.MAX_IN_A_ROW - 1),
    at_most=st.integers(min_value=1, max_value=125),
)
def test_what_is_there_is_read_and_what_is_not_is_not_asked_for(
    parts: Sequence[tuple[int, int]], missing: set[int], at_most: int
) -> None:
    first = min(offset for offset, _ in parts)
    parts = [(offset - first, count) for offset, count in parts]
    one = block(*parts)
    assume(one.count > 1 and not is_answered(one, missing, at_most))
    search, _ = found_on(one, missing, at_most)
    wanted = {100 + offset + n for offset, count in parts for n in range(count)}
    assert set(search.refused) == wanted & missing
    runs = refused.requests(one, search)
    assert all(is_answered(run, missing, at_most) for run in runs)
    covered = [address for run in runs for address in range(run.address, run.address + run.count)]
    assert wanted - missing <= set(covered)
    assert len(covered) == len(set(covered))
