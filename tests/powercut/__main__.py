"""Many power cuts and bit flips, with figures: ``make power-cuts IMAGES=5000 FLIPS=600``."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import structlog
from powercut import collector_cuts, cuts, flips
from powercut.cuts import Figures
from powercut.disk import without_folder_sync_of_new_wal

# One recording gives so many images.
IMAGES_EACH = 1_000
TRANSITIONS = 4_000
EXCHANGES = 1_200
ROWS = 3_000


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5_000)
    parser.add_argument("--collector-images", type=int, default=1_000)
    parser.add_argument("--flips", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with tempfile.TemporaryDirectory() as folder:
        well = await _cuts(Path(folder), options.images, options.seed) if options.images else True
        if options.collector_images:
            well &= await _collector_cuts(Path(folder), options.collector_images, options.seed)
        well &= await _flips(Path(folder), options.flips, options.seed) if options.flips else True
    return 0 if well else 1


async def _cuts(folder: Path, images: int, seed: int) -> bool:
    done, well, kinds = 0, True, Counter[str]()
    while done < images:
        here = folder / f"recording-{seed}"
        begun = time.monotonic()
        steps = cuts.record(here, seed=seed, transitions=TRANSITIONS)
        print(f"recording {seed}: {len(steps)} steps in {time.monotonic() - begun:.0f} s", flush=True)
        # Every second recording without what only SQLite's file layer on Linux does.
        if seed % 2 == 0:
            steps = without_folder_sync_of_new_wal(steps)
        count = min(IMAGES_EACH, images - done)
        figures = await cuts.cut(steps, here, images=count, seed=seed, progress=_every(100))
        print(figures, *figures.bad, sep="\n", flush=True)
        well &= not figures.lossy and not figures.corrupt
        kinds += figures.kinds
        done, seed = done + count, seed + 1
    print(f"{done} images in all:", *(f"  {n:5} kept {kind}" for kind, n in sorted(kinds.items())), sep="\n")
    return well


async def _collector_cuts(folder: Path, images: int, seed: int) -> bool:
    here = folder / "collector"
    steps = collector_cuts.record(here, seed=seed, exchanges=EXCHANGES)
    print(f"the collector's SQLite: {len(steps)} steps", flush=True)
    figures = await collector_cuts.cut(steps, here, images=images, seed=seed, progress=_every(100))
    print(figures, *figures.bad, sep="\n", flush=True)
    return not figures.lossy and not figures.corrupt


async def _flips(folder: Path, bits: int, seed: int) -> bool:
    figures, silent = await flips.flips(folder / "flips", rows=ROWS, bits=bits, seed=seed)
    print(f"{bits} flipped bits in a journal of {ROWS} rows:")
    print(*(f"  {figures[found]:5} {found}" for found in flips.Found), *silent, sep="\n", flush=True)
    return not silent


def _every(images: int) -> Callable[[Figures], None]:
    def tell(figures: Figures) -> None:
        if figures.images % images == 0:
            print(f"  {figures}", flush=True)

    return tell


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
