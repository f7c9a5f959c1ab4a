"""Many power cuts and bit flips, and the same with journals that are opened wrongly, which must lose; one
table at the end: ``make power-cuts IMAGES=5000 FLIPS=600``.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog
from powercut import collector_cuts, cuts, evidence_cuts, evidence_writer, flips, witness, writer
from powercut.cuts import Figures
from powercut.disk import without_folder_sync_of_new_wal
from rich.console import Console
from rich.table import Table

# One recording gives so many images; every fifth is the second witness's.
IMAGES_EACH = 1_000
WITNESS_EACH = 5
TRANSITIONS = 3_000
# Wrong ways show soon.
WRONG_IMAGES = 200
WRONG_TRANSITIONS = 300
EXCHANGES = 1_000
ROWS = 1_500


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    what: str
    figures: Figures
    # Opened as the product does it, or wrongly: then it must lose.
    wrong: bool = False

    @property
    def well(self) -> bool:
        return self.figures.lossy > 0 if self.wrong else not self.figures.lossy and not self.figures.corrupt


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5_000)
    parser.add_argument("--collector-images", type=int, default=1_000)
    parser.add_argument("--evidence-images", type=int, default=1_000)
    parser.add_argument("--flips", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        results: list[Result] = []
        if options.images:
            results += await _as_built(Path(folder), options.images, options.seed)
            results += await _wrong(Path(folder), options.seed)
        if options.collector_images:
            results += await _collector(Path(folder), options.collector_images, options.seed)
        well, lost = True, ""
        if options.evidence_images:
            more, lost, well = await _evidence(Path(folder), options.evidence_images, options.seed)
            results += more
        print(table(results), end="")
        print(lost, end="")
        well &= all(result.well for result in results)
        well &= await _flips(Path(folder), options.flips, options.seed) if options.flips else True
    print(f"{time.monotonic() - begun:.0f} s; {'all as promised' if well else 'NOT AS PROMISED'}")
    return 0 if well else 1


async def _as_built(folder: Path, images: int, seed: int) -> list[Result]:
    """Of each way to look at it one line."""
    strace = Result(what="journal, recorded by strace", figures=Figures())
    without = Result(what="  the same, no folder synced by SQLite's own file layer", figures=Figures())
    second = Result(what="journal on APSW's SQLite, told by its file layer", figures=Figures())
    done, number = 0, 0
    while done < images:
        number += 1
        here = folder / f"as-built-{number}"
        count = min(IMAGES_EACH, images - done)
        recorded = witness.record if number % WITNESS_EACH == 0 else cuts.record
        steps = recorded(here, seed=seed + number, transitions=TRANSITIONS)
        result = second
        if recorded is cuts.record:
            result = without if number % 2 == 0 else strace
            steps = without_folder_sync_of_new_wal(steps) if number % 2 == 0 else steps
        await cuts.cut(
            steps, here, images=count, seed=seed + number, progress=_every(250), figures=result.figures
        )
        done += count
    return [result for result in (strace, without, second) if result.figures.images]


async def _wrong(folder: Path, seed: int) -> list[Result]:
    """The same test must fail here, or it proves nothing."""
    results = []
    for way in (writer.NORMAL, writer.NOT_CREATED_SAFELY):
        for name, recorded in (("strace", cuts.record), ("APSW", witness.record)):
            here = folder / f"{way}-{name}"
            steps = recorded(here, seed=seed, transitions=WRONG_TRANSITIONS, way=way, endings=cuts.SHORT)
            if way == writer.NOT_CREATED_SAFELY:
                steps = without_folder_sync_of_new_wal(steps)
            figures = await cuts.cut(steps, here, images=WRONG_IMAGES, seed=seed)
            results.append(Result(what=f"journal, {way}, {name}", figures=figures, wrong=True))
    return results


async def _collector(folder: Path, images: int, seed: int) -> list[Result]:
    what = "collector's SQLite"
    here = folder / "collector"
    steps = collector_cuts.record(here, seed=seed, exchanges=EXCHANGES, endings=cuts.ENDINGS)
    strace, without = Figures(), Figures()
    for recorded, figures in ((steps, strace), (without_folder_sync_of_new_wal(steps), without)):
        await collector_cuts.cut(
            recorded, here, images=images // 2, seed=seed, progress=_every(250), figures=figures
        )
    here = folder / "collector-normal"
    steps = collector_cuts.record(here, seed=seed, exchanges=WRONG_TRANSITIONS, way=writer.NORMAL)
    normal = await collector_cuts.cut(steps, here, images=WRONG_IMAGES, seed=seed)
    return [
        Result(what=f"{what}, recorded by strace", figures=strace),
        Result(what="  the same, no folder synced by SQLite's own file layer", figures=without),
        Result(what=f"{what}, {writer.NORMAL}, strace", figures=normal, wrong=True),
    ]


async def _evidence(folder: Path, images: int, seed: int) -> tuple[list[Result], str, bool]:
    """Of the journal and the evidence beside it nothing may go wrong; what of the evidence was lost; whether
    files that are beyond use were among those that were never synced.
    """
    results, told, is_hard = [], [], False
    for way, count in ((writer.AS_BUILT, images), (evidence_writer.NEVER_SYNCED, images // 2)):
        here = folder / f"evidence-{way}"
        steps = evidence_cuts.record(here, seed=seed, transitions=TRANSITIONS, way=way)
        figures, seen = await evidence_cuts.cut(steps, here, images=count, seed=seed, progress=_every(250))
        results.append(Result(what=f"journal with evidence beside it, that one {way}", figures=figures))
        lost = f"lost at most {seen.most_lost} of the newest"
        told.append(f"evidence, {way}: begun anew {seen.begun_anew} times, {lost}\n")
        is_hard = seen.begun_anew > 0
    return results, "".join(told), is_hard


async def _flips(folder: Path, bits: int, seed: int) -> bool:
    figures, silent = await flips.flips(folder / "flips", rows=ROWS, bits=bits, seed=seed)
    print(f"{bits} flipped bits in a journal of {ROWS} rows:")
    print(*(f"  {figures[found]:5} {found}" for found in flips.Found), *silent, sep="\n", flush=True)
    return not silent


def table(results: Sequence[Result]) -> str:
    shown = Table(box=None, pad_edge=False)
    shown.add_column("opened as built, or as it should not be")
    for head in ("images", "confirmed", "lossy", "corrupt", "expected", ""):
        shown.add_column(head, justify="right" if head else "left")
    for result in results:
        figures = result.figures
        numbers = (figures.images, figures.confirmed, figures.lossy, figures.corrupt)
        expected = "some lossy" if result.wrong else "0 and 0"
        shown.add_row(result.what, *map(str, numbers), expected, "" if result.well else "NO")
    console = Console(width=120, color_system=None)
    with console.capture() as captured:
        console.print(shown)
    bad = [line for result in results if not result.well for line in result.figures.bad]
    return "\n".join([captured.get().rstrip(), *bad, ""])


def _every(images: int) -> Callable[[Figures], None]:
    def tell(figures: Figures) -> None:
        if figures.images % images == 0:
            print(f"  {figures}", flush=True)

    return tell


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
