"""A few steps of each benchmark, so that they do not rot; what they measure here is not looked at."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bench import bus, floor, journal, lists, syncs
from bench.table import Figure

# PostgreSQL takes the same way; each of its clusters takes some seconds to make.
KINDS = ("sqlite",)


@pytest.mark.parametrize(
    "figures",
    [
        pytest.param(journal.figures(transitions=40), id="journal"),
        pytest.param(bus.figures(seconds=0.6, dead_seconds=1.0), id="bus"),
        pytest.param(floor.figures(changes=4), id="floor"),
        pytest.param(lists.figures(stored=1_500), id="lists"),
        pytest.param(
            syncs.figures(kinds=KINDS, messages=1, singles=2, gateways=3, few=10, many=20), id="syncs"
        ),
    ],
)
def test_a_benchmark_runs_to_its_end(figures: Iterator[Figure]) -> None:
    found = list(figures)
    assert len(found) >= 5
    assert all(one.value > 0 for one in found)
