"""Runs seeds on all cores, shows figures, replays one, hunts mutants."""

from __future__ import annotations

import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import structlog
from simulation.mutants import MUTANTS, Mutant
from simulation.scenes import SCENES
from simulation.small import Point, kill_at, points
from simulation.world import BrokenLawError, World

T = TypeVar("T")
R = TypeVar("R")
SCENES_BY_NAME = {scene.__name__: scene for scene in SCENES}
TELL_EVERY_S = 30.0
# So many wait for a core: enough that none is idle, few enough to stop soon after a failure.
AHEAD = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    seed: int
    figures: Counter[str]
    # Empty when every law held.
    broken: str = ""


# --- worlds ---------------------------------------------------------------------------------------------


def replay(seed: int) -> int:
    world = World(seed, loud=True)
    try:
        world.live()
    except BrokenLawError as broken:
        print(f"\n{broken}")
        if broken.__cause__ is not None:
            traceback.print_exception(broken.__cause__)
        return 1
    print(dict(world.figures), world.digest(), world.hub.verdicts)
    return 0


def digest(seed: int) -> str:
    """Of the whole history of that seed."""
    quiet()
    world = World(seed)
    world.live()
    return world.digest()


def ran(seed: int, kind: type[World] = World) -> Ran:
    world = kind(seed)
    try:
        world.live()
    except BrokenLawError as broken:
        cause = "" if broken.__cause__ is None else f" ({broken.__cause__!r})"
        return Ran(seed=seed, figures=world.figures, broken=f"{broken}{cause}")
    return Ran(seed=seed, figures=world.figures)


def worlds(seeds: Iterable[int], jobs: int) -> Iterator[Ran]:
    return _spread(ran, seeds, jobs)


def many(first: int, seeds: int, go_on: bool, jobs: int) -> int:
    figures: Counter[str] = Counter()
    failed: list[int] = []
    began = told = time.monotonic()
    done = 0
    for done, one in enumerate(worlds(range(first, first + seeds), jobs), 1):
        figures += one.figures
        if one.broken:
            failed.append(one.seed)
            print(f"{one.broken}\n  replay: make simulate SEED={one.seed}", flush=True)
            if not go_on:
                break
        now = time.monotonic()
        if now - told >= TELL_EVERY_S:
            told = now
            left_min = (now - began) / done * (seeds - done) / 60
            print(
                f"{done} of {seeds} seeds, {len(failed)} failed, {(now - began) / done:.2f} s each, "
                f"{left_min:.0f} min left",
                flush=True,
            )
    for name, count in sorted(figures.items()):
        print(f"{count:>12,}  {name}")
    print(
        f"{done} seeds from {first} on, {done - len(failed)} hold, {len(failed)} failed"
        f"{f': {sorted(failed)}' if failed else ''}; {time.monotonic() - began:.0f} s on {jobs} processes"
    )
    return 1 if failed else 0


# --- kills everywhere ---------------------------------------------------------------------------------


def killed(point: Point) -> str:
    """Why it did not converge; empty when it did."""
    try:
        kill_at(point)
    except BrokenLawError as broken:
        return f"killed {point.where} {point.number}: {broken}"
    return ""


def kills(at: Iterable[Point], jobs: int) -> Iterator[str]:
    return _spread(killed, at, jobs)


def everywhere(jobs: int) -> int:
    """The small world, killed at every point of it in turn."""
    every = list(points())
    failed = [why for why in kills(every, jobs) if why]
    for where, count in Counter(point.where for point in every).items():
        print(f"{count:>6,}  {where}")
    print("\n".join(failed) or f"{len(every)} kills, each at another point of one history: all converge")
    return 1 if failed else 0


# --- mutants --------------------------------------------------------------------------------------------


def mutate(first: int, seeds: int, only: str, jobs: int) -> int:
    """Each mutant until its first kill."""
    hunts = [
        (number, first, seeds)
        for number, mutant in enumerate(MUTANTS)
        if only.casefold() in mutant.name.casefold()
    ]
    survivors = []
    for number, killed in _spread(_hunt, hunts, jobs):
        mutant = MUTANTS[number]
        if killed is None:
            survivors.append(mutant.name)
            print(f"{'SURVIVES':<18}  {mutant.rule:<8}  {mutant.name}", flush=True)
        else:
            where, law = killed
            print(f"{where:<18}  {mutant.rule:<8}  {mutant.name}  ({law})", flush=True)
    print(f"{len(hunts)} mutants, {len(survivors)} survive" + (f": {survivors}" if survivors else ""))
    return 1 if survivors else 0


def _hunt(hunt: tuple[int, int, int]) -> tuple[int, tuple[str, str] | None]:
    number, first, seeds = hunt
    return number, killing_world(MUTANTS[number], range(first, first + seeds))


def killing_world(mutant: Mutant, seeds: Iterable[int]) -> tuple[str, str] | None:
    """The first scene or seed in which it breaks a law that holds without it, and that law. Where it died
    before is looked first.
    """
    known = known_kills().get(mutant.name)
    places = ([known] if known else []) + [*SCENES_BY_NAME, *map(str, seeds)]
    for place in dict.fromkeys(places):
        undo = mutant.apply()
        try:
            broken = _broken(place)
        finally:
            undo()
        if broken and _holds(place):
            return place, broken.partition(" s: ")[2][:60]
    return None


def _broken(place: str) -> str:
    """``place``: the name of a scene, or the number of a seed."""
    scene = SCENES_BY_NAME.get(place)
    return ran(int(place)).broken if scene is None else ran(0, scene).broken


@cache
def _holds(place: str) -> bool:
    return not _broken(place)


@cache
def known_kills() -> dict[str, str]:
    """By mutant."""
    lines = (Path(__file__).parent / "kills.txt").read_text().splitlines()
    split = [line.split(maxsplit=1) for line in lines if line[:1] not in ("", "#")]
    return {name: place for place, name in split}


# --- cores ----------------------------------------------------------------------------------------------


def _spread(work: Callable[[T], R], on: Iterable[T], jobs: int) -> Iterator[R]:
    """The outcomes, as each is done."""
    if jobs == 1:
        yield from map(work, on)
        return
    waiting = iter(on)
    running: set[Future[R]] = set()
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=quiet) as pool:
        try:
            while True:
                while len(running) < AHEAD * jobs and (one := next(waiting, None)) is not None:
                    running.add(pool.submit(work, one))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        finally:
            pool.shutdown(cancel_futures=True)


def quiet() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
