"""``python -m storm``: one storm, or one noisy gateway, and the figures."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import structlog
from rigs import postgres
from storm import noise, storm


def main() -> int:
    usual, usual_noise = storm.Plan(), noise.Noise()
    parser = argparse.ArgumentParser(prog="storm")
    parser.add_argument("--gateways", type=int, default=usual.gateways, help="that come back at once")
    parser.add_argument("--rows", type=int, default=usual.rows, help="that wait at each of them")
    parser.add_argument("--heavy", type=int, default=usual.heavy, help="of them with a huge backlog")
    parser.add_argument("--heavy-rows", type=int, default=usual.heavy_rows, help="of such a backlog")
    parser.add_argument("--healthy", type=int, default=usual.healthy, help="that were there all the time")
    parser.add_argument("--seconds", type=float, default=usual.at_most_s, help="at most")
    parser.add_argument("--noise", type=int, default=0, help="instead: a noisy one, so many rows a message")
    parser.add_argument("--turns", type=int, default=usual_noise.turns, help="of quiet and of noise")
    parser.add_argument("--postgres", action="store_true", help="on a PostgreSQL of its own")
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    with tempfile.TemporaryDirectory(prefix="storm-") as name, contextlib.ExitStack() as stack:
        directory, url = Path(name), ""
        if asked.postgres:
            url = postgres.new_database(stack.enter_context(postgres.running(directory)))
        for line in _noise(asked, directory, url) if asked.noise else _storm(asked, directory, url):
            print(line)
    return 0


def _storm(asked: argparse.Namespace, directory: Path, url: str) -> Iterator[str]:
    plan = storm.Plan(
        gateways=asked.gateways,
        rows=asked.rows,
        heavy=asked.heavy,
        heavy_rows=asked.heavy_rows,
        healthy=asked.healthy,
        at_most_s=asked.seconds,
    )
    return storm.told(asyncio.run(storm.storm(plan, directory, url, say=partial(print, flush=True))))


def _noise(asked: argparse.Namespace, directory: Path, url: str) -> Iterator[str]:
    plan = noise.Noise(rows=asked.noise, turns=asked.turns)
    return noise.told(plan, asyncio.run(noise.noise(plan, directory, url)))


if __name__ == "__main__":
    sys.exit(main())
