from random import Random

import pytest

from edge_agent.backoff import Backoff


class Loaded:
    """Dice that always show the same."""

    def __init__(self, shows: float) -> None:
        self.shows = shows

    def random(self) -> float:
        return self.shows


@pytest.mark.parametrize(
    ("shows", "delays"),
    [(0.0, [0.0, 0.0, 0.0, 0.0, 0.0]), (0.5, [0.5, 1.0, 2.0, 4.0, 5.0]), (1.0, [1.0, 2.0, 4.0, 8.0, 10.0])],
)
def test_the_limit_doubles_up_to_the_cap_and_the_dice_choose_below_it(
    shows: float, delays: list[float]
) -> None:
    backoff = Backoff(random=Loaded(shows), first_s=1.0, cap_s=10.0)
    assert [backoff.next() for _ in delays] == delays


def test_a_peer_that_came_back_is_tried_quickly_when_it_goes_again() -> None:
    backoff = Backoff(random=Loaded(1.0), first_s=1.0, cap_s=10.0)
    for _ in range(5):
        backoff.next()
    backoff.reset()
    assert backoff.next() == 1.0


def test_the_floor_keeps_an_unlucky_throw_from_hammering() -> None:
    assert Backoff(random=Loaded(0.0), floor_s=0.2).next() == 0.2


def test_weeks_of_failures_do_not_overflow() -> None:
    backoff = Backoff(random=Random(1), first_s=1.0, cap_s=300.0)
    assert all(0 <= backoff.next() <= 300 for _ in range(5_000))


def test_two_gateways_do_not_return_at_the_same_moment() -> None:
    one, other = (Backoff(random=Random(seed)) for seed in (1, 2))
    assert [one.next() for _ in range(5)] != [other.next() for _ in range(5)]
