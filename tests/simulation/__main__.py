"""``python -m simulation``, behind ``make simulate`` and ``make simulate-mutants``."""

from __future__ import annotations

import argparse
import os
import sys

from simulation import runs


def main() -> int:
    parser = argparse.ArgumentParser(prog="simulation")
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="replay this one and tell everything")
    parser.add_argument("--on", action="store_true", help="go on after a seed that fails")
    parser.add_argument("--mutants", action="store_true", help="run mutants of the real code instead")
    parser.add_argument("--everywhere", action="store_true", help="kill a small world at every point of it")
    parser.add_argument("--only", default="", help="of the mutants those whose name has this in it")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    asked = parser.parse_args()
    runs.quiet()
    if asked.seed is not None:
        return runs.replay(asked.seed)
    if asked.everywhere:
        return runs.everywhere(asked.jobs)
    if asked.mutants:
        return runs.mutate(asked.first, asked.seeds, asked.only, asked.jobs)
    return runs.many(asked.first, asked.seeds, asked.on, asked.jobs)


if __name__ == "__main__":
    sys.exit(main())
