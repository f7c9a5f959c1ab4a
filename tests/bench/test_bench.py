"""A few steps of each benchmark, so that they do not rot; what they measure here is not looked at."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bench import bus, cost, floor, intake, journal, lists, soak, syncs
from bench.table import Figure

# PostgreSQL takes the same way; each of its clusters takes some seconds to make.
KINDS = ("sqlite",)


@pytest.mark.parametrize(
    "figures",
    [
        pytest.param(journal.figures(transitions=40), id="journal"),
        pytest.param(bus.figures(seconds=0.6, dead_seconds=1.0), id="bus"),
        pytest.param(floor.figures(changes=4), id="floor"),
        pytest.param(cost.figures(devices=2, many=3, seconds=2.2), id="cost"),
        pytest.param(intake.figures(messages=50, samples=50), id="intake"),
        pytest.param(lists.figures(stored=1_500), id="lists"),
        pytest.param(
            syncs.figures(kinds=KINDS, messages=1, singles=2, gateways=3, few=10, many=20), id="syncs"
        ),
    ],
)
def test_a_benchmark_runs_to_its_end(figures: Iterator[Figure]) -> None:
    found = list(figures)
    # Nothing costs less than nothing; an agent that watches nothing may cost that for some seconds.
    assert all(one.value >= 0 for one in found)
    assert sum(one.value > 0 for one in found) >= 3


async def test_a_soak_of_seconds_counts_and_judges() -> None:
    counts = await soak.soak(4.0, devices=3, every_s=0.2, tell=lambda _count, _left_s: None)
    assert {one.name for one in soak.judge(counts)} == {"rss_mb", "descriptors", "tasks"}
    assert all(one.tasks > 3 and one.descriptors > 3 for one in counts)


def test_what_grows_all_the_time_is_called_a_leak() -> None:
    counts = [soak.Count(rss_mb=60 + n / 2, descriptors=20, tasks=9) for n in range(60)]
    assert [one.name for one in soak.judge(counts) if one.leaks] == ["rss_mb"]
