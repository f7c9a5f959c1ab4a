"""One parser, many cases: what each ends as, how long it takes, what the process grows by."""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import re
import resource
import sys
import time
import traceback
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

import structlog
from fuzz.parsers import Parser, named

FOUND = Path(__file__).parent / "found"
# One case in so many is repeated up to the largest size that reaches the parser.
STRETCH_EVERY = 500
# Of one case, as the product runs: instrumented it is three to fifteen times as slow.
MAX_MS = 50.0
# A case that seems slow is measured again: another process may have had the processor's cache.
MEASURED_AGAIN = 3
# Importing, filling caches and compiling patterns is over by then.
WARM_CASES = 5_000
PAGE = resource.getpagesize()
REPORT_EVERY_S = 2.0
# By the wall clock: more than a machine stands still.
HANGS_S = 600


@dataclass(frozen=True, slots=True)
class Outcome:
    taken: bool
    # What was refused, without what it quotes.
    refusal: str = ""


@dataclass(slots=True)
class Figures:
    parser: str
    cases: int = 0
    taken: int = 0
    refusals: int = 0
    uncaught: int = 0
    slowest_ms: float = 0.0
    slowest_bytes: int = 0
    rss_growth_kib: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


def folder_of(parser: Parser) -> Path:
    return FOUND / re.sub(r"[^a-z0-9]+", "-", parser.name)


def run(parser: Parser, data: bytes) -> Outcome:
    """Raises what the parser must not."""
    try:
        parser.parse(data)
    except parser.refuses as refusal:
        said = str(getattr(refusal, "reason", "") or refusal)
        return Outcome(taken=False, refusal=type(refusal).__name__ + re.sub(r"[^a-z ]+.*", "", said[:60]))
    return Outcome(taken=True)


def fastest_ms(parser: Parser, data: bytes) -> float:
    """Of some tries, the processor's time of this thread."""
    took_ns = []
    for _ in range(MEASURED_AGAIN):
        began = time.thread_time_ns()
        run(parser, data)
        took_ns.append(time.thread_time_ns() - began)
    return min(took_ns) / 1e6


class Counted:
    """Runs cases of one parser; writes ``figures`` now and then, and ends the process when all are done."""

    def __init__(self, parser: Parser, cases: int, figures: Path) -> None:
        self._parser = parser
        self._cases = cases
        self._file = figures
        self._told_s = self._began_s = time.monotonic()
        self._refusals: Counter[str] = Counter()
        self._places: set[str] = set()
        self._warm_kib = 0
        self.figures = Figures(parser.name)

    def __call__(self, data: bytes) -> None:
        figures = self.figures
        figures.cases += 1
        if figures.cases % STRETCH_EVERY == 0 and data:
            data = data * (self._parser.longest // len(data) + 1)
        data = data[: self._parser.longest]
        began = time.thread_time_ns()
        try:
            outcome = run(self._parser, data)
        except Exception as error:  # noqa: BLE001  # that there is none is what is looked for
            self._keep(data, error)
        else:
            took_ms = (time.thread_time_ns() - began) / 1e6
            if took_ms > figures.slowest_ms:
                self._measure(data, took_ms)
            if outcome.taken:
                figures.taken += 1
            elif len(self._refusals) < 10_000:
                self._refusals[outcome.refusal] += 1
        if figures.cases == WARM_CASES:
            gc.collect()
            self._warm_kib = _rss_kib()
        if figures.cases >= self._cases or figures.cases % 256 == 0:
            self._tell()

    def _measure(self, data: bytes, took_ms: float) -> None:
        took_ms = min(took_ms, fastest_ms(self._parser, data))
        if took_ms > self.figures.slowest_ms:
            self.figures.slowest_ms = took_ms
            self.figures.slowest_bytes = len(data)
            if took_ms > MAX_MS:
                self._file.with_suffix(".slow").write_bytes(data)

    def _keep(self, data: bytes, error: Exception) -> None:
        """Each place that raises is kept once, as a file that the suite replays."""
        self.figures.uncaught += 1
        place = traceback.extract_tb(error.__traceback__)[-1]
        key = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
        if key in self._places:
            return
        self._places.add(key)
        self.figures.problems.append(f"{key}: {str(error)[:200]}")
        folder = folder_of(self._parser)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / hashlib.sha256(data).hexdigest()[:12]).write_bytes(data)

    def _tell(self) -> None:
        now_s = time.monotonic()
        done = self.figures.cases >= self._cases
        if not done and now_s - self._told_s < REPORT_EVERY_S:
            return
        self._told_s = now_s
        if done:
            gc.collect()
        self.figures.seconds = now_s - self._began_s
        self.figures.refusals = len(self._refusals)
        self.figures.rss_growth_kib = _rss_kib() - self._warm_kib if self._warm_kib else 0
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps(asdict(self.figures)))
        new.replace(self._file)


def _rss_kib() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE // 1024


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


def guided(name: str, cases: int, figures: Path, seed: int) -> None:
    """Never returns: the library ends the process."""
    import atheris

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    parser = named(name)
    corpus = figures.with_suffix(".corpus")
    corpus.mkdir(exist_ok=True)
    for number, data in enumerate(parser.seeds):
        (corpus / str(number)).write_bytes(data)
    words = figures.with_suffix(".words")
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in parser.words))
    flags = [
        f"-runs={cases}",
        f"-seed={seed}",
        f"-max_len={min(parser.longest, parser.guided)}",
        *([f"-dict={words}"] if parser.words else []),
        f"-artifact_prefix={figures.with_suffix('')}-",
        f"-timeout={HANGS_S}",
        "-verbosity=0",
        str(corpus),
    ]
    atheris.Setup([sys.argv[0], *flags], Counted(parser, cases, figures))
    atheris.Fuzz()
