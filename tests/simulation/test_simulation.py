"""The real agent, journal, forwarder, ingest, commands and store in worlds that are all fault: some hundred
seeds with every run of the suite, every seed that ever failed, one history killed at many points of it, and
mutants that must not live. ``make simulate``, ``simulate-kills`` and ``simulate-mutants`` run them all.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from simulation import runs, scenes, small
from simulation.mutants import MUTANTS, Mutant
from simulation.world import World

HERE = Path(__file__).parent
JOBS = os.cpu_count() or 1
# Two minutes on two cores, a quarter of them at once.
SEEDS, AT_ONCE = 400, 100
# Of the points of the small world every so many-th; the rest: make simulate-kills.
EVERY = 9
KEPT = [
    int(line.split()[0])
    for line in (HERE / "seeds.txt").read_text().splitlines()
    if line[:1] not in ("", "#")
]
# Mutants that die in a scene of less than a second; all of them: make simulate-mutants.
LONG = {"FullJournal", "LongSilence", "TwoBoxes"}
QUICK = {name for name, place in runs.known_kills().items() if place in runs.SCENES_BY_NAME.keys() - LONG}
# A busy machine is no failure.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(autouse=True)
def _silence() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    yield
    structlog.reset_defaults()


@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_whatever_goes_wrong_no_law_is_broken(first: int) -> None:
    ran = runs.worlds(range(first, first + AT_ONCE), JOBS)
    broken = [f"{one.broken}; make simulate SEED={one.seed}" for one in ran if one.broken]
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize("seed", KEPT)
def test_a_seed_that_once_failed_holds(seed: int) -> None:
    World(seed).live()


def test_wherever_it_is_killed_one_short_history_ends_the_same() -> None:
    points = list(small.points())[::EVERY]
    assert {point.where for point in points} == set(small.Where)
    failed = [why for why in runs.kills(points, JOBS) if why]
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("scene", scenes.SCENES)
def test_in_a_scene_that_seeds_seldom_play_no_law_is_broken(scene: type[World], seed: int) -> None:
    scene(seed).live()


def test_a_seed_is_one_history_whatever_the_order_of_sets_is() -> None:
    root = HERE.parents[1]
    program = "from simulation.runs import digest; print([digest(seed) for seed in (7, 8, 10)])"
    told = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": number, "PYTHONPATH": f"{root}:{root / 'tests'}"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for number in ("1", "2")
    ]
    assert told[0] == told[1] != ""


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_still_finds_the_rule_that_it_removes(mutant: Mutant) -> None:
    mutant.apply()()


def test_it_is_known_where_each_mutant_dies() -> None:
    assert runs.known_kills().keys() == {mutant.name for mutant in MUTANTS}


@pytest.mark.parametrize(
    "mutant", [one for one in MUTANTS if one.name in QUICK], ids=lambda mutant: mutant.name
)
def test_without_its_rule_a_law_is_broken(mutant: Mutant) -> None:
    assert runs.killing_world(mutant, range(0)) is not None
