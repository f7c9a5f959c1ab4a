"""``python -m fuzz``: every parser under a coverage-guided fuzzer, several at once, and a table."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

LOOK_S = 0.5
INSTRUMENTED = ["edge_agent", "collector", "tomllib", "paho", "pymodbus"]
# Watched where it is what is tried: under a profile it would take four fifths of the time.
YAML = {"plain yaml": ["yaml"]}
# RSS holds the fuzzer's own corpus too.
MAX_GROWTH_KIB = 10 << 10


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzz")
    parser.add_argument(
        "--cases", type=int, default=20_000, help="of each parser; of slow ones a part of that"
    )
    parser.add_argument("--only", default="", help="those whose name has this in it")
    parser.add_argument("--at-once", type=int, default=2, help="processes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        child(asked.child[0], asked.cases, Path(asked.child[1]), asked.seed)
        return 0
    with tempfile.TemporaryDirectory(prefix="andon-fuzz-") as folder:
        return 0 if many(asked, Path(folder)) else 1


def child(name: str, cases: int, figures: Path, seed: int) -> None:
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED + YAML.get(name, [])):
        from fuzz.engine import guided
    guided(name, cases, figures, seed)


def many(asked: argparse.Namespace, folder: Path) -> bool:
    from fuzz.parsers import PARSERS

    cases = {one.name: asked.cases // one.cost for one in PARSERS if asked.only in one.name}
    waiting = list(cases)[::-1]
    running: dict[str, subprocess.Popen[bytes]] = {}
    well = True
    print("| parser | cases | a second | taken | refusals | uncaught | slowest ms (bytes) | growth KiB |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|", flush=True)
    bars = (
        TextColumn("{task.description:<24}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}"),
        TimeRemainingColumn(),
    )
    with Progress(*bars, console=Console(stderr=True), transient=True) as progress:
        tasks = {}
        while waiting or running:
            while waiting and len(running) < asked.at_once:
                name = waiting.pop()
                running[name] = start(asked.seed, name, cases[name], folder)
                tasks[name] = progress.add_task(name, total=cases[name])
            time.sleep(LOOK_S)
            for name in list(running):
                told = figures_of(folder, name)
                progress.update(tasks[name], completed=told.get("cases", 0))
                if running[name].poll() is not None:
                    progress.remove_task(tasks[name])
                    well = report(folder, name, running.pop(name).returncode, cases[name]) and well
    return well


def start(seed: int, name: str, cases: int, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "fuzz", "--cases", str(cases), "--seed", str(seed)]
    command += ["--child", name, str(file_of(folder, name))]
    with (folder / f"{slug(name)}.log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def slug(name: str) -> str:
    return name.replace(" ", "-")


def file_of(folder: Path, name: str) -> Path:
    return folder / f"{slug(name)}.json"


def figures_of(folder: Path, name: str) -> dict[str, object]:
    file = file_of(folder, name)
    return json.loads(file.read_text()) if file.exists() else {}


def report(folder: Path, name: str, code: int, cases: int) -> bool:
    """One line of the table, and below it what went wrong."""
    told = figures_of(folder, name)
    wrong = [*problems(told, code, cases), *slow(file_of(folder, name).with_suffix(".slow"), name)]
    if told:
        rate = told["cases"] / max(0.001, told["seconds"])
        print(
            f"| {name} | {told['cases']:,} | {rate:,.0f} | {told['taken']:,} | {told['refusals']:,} "
            f"| {told['uncaught']:,} | {told['slowest_ms']:.1f} ({told['slowest_bytes']:,}) "
            f"| {told['rss_growth_kib']:,} |"
        )
    for line in wrong:
        print(f"  {name}: {line}")
    if wrong and code:
        print((folder / f"{slug(name)}.log").read_text(errors="replace")[-800:])
    sys.stdout.flush()
    return not wrong


def slow(file: Path, name: str) -> Iterator[str]:
    """The slowest case, where it took long, as the product runs: this process is not instrumented."""
    from fuzz.engine import MAX_MS, fastest_ms
    from fuzz.parsers import named

    if file.exists() and (took_ms := fastest_ms(named(name), case := file.read_bytes())) > MAX_MS:
        yield f"a case of {len(case)} bytes takes {took_ms:.0f} ms, without instrumentation"


def problems(told: dict[str, object], code: int, cases: int) -> Iterator[str]:
    if code or told.get("cases", 0) < cases:
        yield f"ended with code {code} after {told.get('cases', 0)} cases"
    yield from told.get("problems", ())
    if told.get("rss_growth_kib", 0) > MAX_GROWTH_KIB:
        yield f"the process grew by {told['rss_growth_kib']} KiB"


if __name__ == "__main__":
    sys.exit(main())
