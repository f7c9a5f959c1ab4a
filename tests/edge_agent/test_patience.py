"""How long to wait for an answer: what is learned from those before it."""

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.patience import REMEMBERED, Patience


def after(*answers: float, floor_s: float = 0.1, ceiling_s: float = 1.0) -> Patience:
    patience = Patience(floor_s=floor_s, ceiling_s=ceiling_s)
    for seconds in answers:
        patience.took(seconds)
    return patience


def test_who_never_answered_gets_all_the_time_there_is() -> None:
    assert after().within_s == 1.0


def test_the_first_answer_is_trusted_to_three_times_what_it_took() -> None:
    # RFC 6298, 2.2: the mean is R, the deviation R/2, and four deviations are waited for.
    assert round(after(0.2).within_s, 6) == 0.6


def test_steady_answers_come_down_to_the_floor() -> None:
    assert after(*[0.02] * 50).within_s == 0.1


def test_a_steady_slow_one_is_waited_for_a_quarter_longer_than_it_takes() -> None:
    assert round(after(*[0.4] * 100).within_s, 3) == 0.5


def test_who_was_missed_once_gets_all_the_time_there_is_until_it_answers() -> None:
    patience = after(*[0.02] * 50)
    patience.missed()
    assert patience.within_s == 1.0
    patience.took(0.02)
    assert patience.within_s == 0.1


def test_a_slow_answer_among_a_hundred_quick_ones_is_waited_for_the_next_time() -> None:
    patience = after(0.3, *[0.02] * 99)
    for _ in range(20):
        assert patience.within_s > 0.3
        patience.took(0.3)
        for _ in range(99):
            patience.took(0.02)


def test_a_slow_answer_is_forgotten_in_the_end() -> None:
    assert after(0.3, *[0.02] * (2 * REMEMBERED)).within_s == 0.1


def test_a_unit_that_becomes_slower_step_by_step_is_never_missed() -> None:
    patience = after(*[0.02] * 20, ceiling_s=5.0)
    took = 0.02
    while took < 4.0:
        for _ in range(5):
            assert took <= patience.within_s
            patience.took(took)
        took *= 1.2


@given(
    floor=st.floats(min_value=0.001, max_value=1),
    ceiling=st.floats(min_value=0.001, max_value=60),
    answers=st.lists(st.floats(min_value=0, max_value=100), max_size=50),
)
def test_never_less_than_the_floor_nor_more_than_the_profile_allows(
    floor: float, ceiling: float, answers: list[float]
) -> None:
    within = after(*answers, floor_s=floor, ceiling_s=ceiling).within_s
    assert min(floor, ceiling) <= within <= ceiling
