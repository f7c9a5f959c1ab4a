"""``python -m simulation``: run seeds, show figures, replay one."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable

import structlog
from simulation.mutants import MUTANTS, Mutant
from simulation.world import BrokenLawError, World


def main() -> int:
    parser = argparse.ArgumentParser(prog="simulation")
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="replay this one and tell everything")
    parser.add_argument("--on", action="store_true", help="go on after a seed that fails")
    parser.add_argument("--mutants", action="store_true", help="run mutants of the real code instead")
    parser.add_argument("--only", default="", help="of the mutants those whose name has this in it")
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    if asked.seed is not None:
        return 0 if one(asked.seed, loud=True) is not None else 1
    if asked.mutants:
        return mutate(asked.first, asked.seeds, asked.only)
    return many(asked.first, asked.seeds, asked.on)


def mutate(first: int, seeds: int, only: str) -> int:
    """Each mutant until its first kill."""
    survivors = []
    for mutant in MUTANTS:
        if only not in mutant.name:
            continue
        killed = killing_seed(mutant, range(first, first + seeds))
        if killed is None:
            survivors.append(mutant.name)
            print(f"SURVIVES {seeds} seeds  {mutant.rule:<5} {mutant.name}", flush=True)
        else:
            number, law = killed
            print(f"dies at seed {number:>5}  {mutant.rule:<5} {mutant.name}  ({law})", flush=True)
    print(f"{len(survivors)} survivors" + (f": {survivors}" if survivors else ""))
    return 1 if survivors else 0


def killing_seed(mutant: Mutant, seeds: Iterable[int]) -> tuple[int, str] | None:
    undo = mutant.apply()
    try:
        for seed in seeds:
            try:
                World(seed).live()
            except BrokenLawError as broken:
                law = str(broken).partition(" s: ")[2][:60]
                break
        else:
            return None
    finally:
        undo()
    # It is the mutant that died, not the simulation.
    World(seed).live()
    return seed, law


def one(seed: int, *, loud: bool) -> Counter[str] | None:
    world = World(seed, loud=loud)
    try:
        world.live()
    except BrokenLawError as broken:
        print(f"\n{broken}")
        if broken.__cause__ is not None:
            traceback.print_exception(broken.__cause__)
        print(f"replay: make simulate SEED={seed}")
        return None
    if loud:
        print(dict(world.figures), world.digest(), world.hub.verdicts)
    return world.figures


def digest(seed: int) -> str:
    """Of the whole history of that seed."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    world = World(seed)
    world.live()
    return world.digest()


def many(first: int, seeds: int, go_on: bool) -> int:
    figures: Counter[str] = Counter()
    failed: list[int] = []
    began = time.monotonic()
    for number, seed in enumerate(range(first, first + seeds), 1):
        found = one(seed, loud=False)
        if found is None:
            failed.append(seed)
            if not go_on:
                break
        else:
            figures += found
        if number % 50 == 0 or number == seeds:
            rate = (time.monotonic() - began) / number
            print(f"{number} of {seeds} seeds, {len(failed)} failed, {rate:.2f} s each", flush=True)
    for name, count in sorted(figures.items()):
        print(f"{count:>12,}  {name}")
    if failed:
        print(f"failed: {failed}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
