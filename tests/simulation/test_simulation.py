"""The real agent, journal, forwarder, ingest and store in worlds that are all fault: a few seeds with every
run of the suite, every seed that ever failed, and mutants that must not live. ``make simulate`` runs more.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from simulation.mutants import MUTANTS, Mutant
from simulation.runs import killing_seed
from simulation.world import World

HERE = Path(__file__).parent
SEEDS = 24
KEPT = [
    int(line.split()[0])
    for line in (HERE / "seeds.txt").read_text().splitlines()
    if line[:1] not in ("", "#")
]
# Mutants that die within a few seeds; all of them: make simulate-mutants.
QUICK = {
    "never rewinds",
    "a restart forgets what is open",
    "nothing is ever unsettled",
    "absence closes nothing",
    "the position is answered, not stored",
    "a row that cannot be read blocks its stream",
}


@pytest.fixture(autouse=True)
def _silence() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_whatever_goes_wrong_no_law_is_broken(seed: int) -> None:
    World(seed).live()


@pytest.mark.parametrize("seed", KEPT)
def test_a_seed_that_once_failed_holds(seed: int) -> None:
    World(seed).live()


def test_a_seed_is_one_history_whatever_the_order_of_sets_is() -> None:
    root = HERE.parents[1]
    program = "from simulation.runs import digest; print(digest(7))"
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


@pytest.mark.parametrize(
    "mutant", [one for one in MUTANTS if one.name in QUICK], ids=lambda mutant: mutant.name
)
def test_without_its_rule_a_law_is_broken(mutant: Mutant) -> None:
    assert killing_seed(mutant, range(30)) is not None
