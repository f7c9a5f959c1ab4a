"""All benchmarks, one table at the end. Each module can be run alone: ``python -m bench.journal``."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Iterator

from bench import bus, cost, floor, intake, journal, lists, serving, syncs
from bench.table import Figure, line, show

# One after the other, so that none disturbs another; one that fails takes no other's figures with it.
BENCHES: tuple[tuple[str, Iterator[Figure]], ...] = (
    ("journal", journal.figures()),
    ("bus", bus.figures()),
    ("floor", floor.figures()),
    ("cost", cost.figures()),
    ("intake", intake.figures()),
    *((f"lists, {kind}", lists.figures(kinds=(kind,))) for kind in serving.KINDS),
    *((f"syncs, {kind}", syncs.figures(kinds=(kind,))) for kind in serving.KINDS),
)


def main() -> int:
    found: list[Figure] = []
    failed: list[str] = []
    for name, figures in BENCHES:
        print(f"... {name}", file=sys.stderr, flush=True)
        started_s = time.monotonic()
        try:
            for figure in figures:
                print(f"    {line(figure)}", file=sys.stderr, flush=True)
                found.append(figure)
        except Exception:  # noqa: BLE001  said below; the next one has its turn
            traceback.print_exc()
            failed.append(name)
        print(f"    {time.monotonic() - started_s:.0f} s", file=sys.stderr, flush=True)
    show(found)
    for name in failed:
        print(f"{name}: failed, see above; its figures are not complete")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
