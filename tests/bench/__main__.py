"""All benchmarks, one table. Each module can be run alone: ``python -m bench.journal``."""

from __future__ import annotations

from itertools import chain

from bench import journal, lists, syncs
from bench.table import show

if __name__ == "__main__":
    show(chain(journal.figures(), lists.figures(), syncs.figures()))
