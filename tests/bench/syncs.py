"""From the bytes of a sync to a committed ticket, through HTTP: rows and requests a second, and memory.

Against a bare loop of the same run, which inserts the same rows 500 to a transaction into a
table with a primary key and nothing else.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from bench import bare_app, lists, load, rows, serving
from bench.rows import Voice
from bench.table import Figure, show

from collector.store import Store

ROWS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    before_mb: float
    after_mb: float


def through_http(
    kind: str, voices: Sequence[Voice], *, packed: bool = False, before: Sequence[Voice] = ()
) -> Measured:
    """``before``: what they say first, while nothing is measured."""
    with _collector(kind, voices) as collector:
        if before:
            load.run(collector.load(before))
        before_mb, cpu_s = collector.rss_mb(), collector.cpu_s()
        heard = load.run(collector.load(voices, packed=packed))
        took = sorted(heard.took_ms)
        return Measured(
            requests_per_s=heard.requests / heard.seconds,
            p50_ms=took[len(took) // 2],
            p99_ms=took[len(took) * 99 // 100],
            cpu_us=(collector.cpu_s() - cpu_s) / heard.requests * 1e6,
            before_mb=before_mb,
            after_mb=collector.rss_mb(),
        )


def in_turns(kind: str, voices: Sequence[Voice], stored: Sequence[int]) -> list[float]:
    """Requests a second where so many tickets of these gateways are there already, for each of ``stored``.

    They take turns with a tenth of what there is to say: a machine that is slower in one minute than in the
    next is so to each of them.
    """
    with ExitStack() as stack:
        collectors = [stack.enter_context(_collector(kind, voices, many)) for many in stored]
        requests, seconds = [0] * len(stored), [0.0] * len(stored)
        for turn, part in enumerate(_turns(voices)):
            for number in range(len(stored))[:: -1 if turn % 2 else 1]:
                heard = load.run(collectors[number].load(part))
                requests[number] += heard.requests
                seconds[number] += heard.seconds
    return [made / took for made, took in zip(requests, seconds, strict=True)]


def bare_http(kind: str, voices: Sequence[Voice]) -> float:
    """Requests a second of the least that takes them durably, in groups too."""
    with serving.database(kind) as url, bare_app.serving(url) as port:
        credentials = [""] * len(voices)
        heard = load.run(load.Load(host="127.0.0.1", port=port, voices=voices, credentials=credentials))
        return heard.requests / heard.seconds


def beside_each_other(collectors: int, voices: Sequence[Voice]) -> float:
    """Requests a second of so many collectors on one PostgreSQL, each with its share of the gateways."""
    with _database("postgresql", voices) as url, ExitStack() as stack:
        serve = [stack.enter_context(serving.serving(url)) for _ in range(collectors)]
        heard = load.run(*(one.load(voices[n::collectors]) for n, one in enumerate(serve)))
        return heard.requests / heard.seconds


def _turns(voices: Sequence[Voice], turns: int = 10) -> Iterator[list[Voice]]:
    """What they say, one part of it after the other."""
    at_once = -(-len(voices[0].messages) // turns)
    for start in range(0, len(voices[0].messages), at_once):
        yield [replace(voice, messages=voice.messages[start : start + at_once]) for voice in voices]


@contextmanager
def _collector(kind: str, voices: Sequence[Voice], stored: int = 0) -> Iterator[serving.Serving]:
    with _database(kind, voices, stored) as url, serving.serving(url) as collector:
        yield collector


@contextmanager
def _database(kind: str, voices: Sequence[Voice], stored: int = 0) -> Iterator[str]:
    """It knows these gateways, and has so many tickets of theirs."""
    with serving.database(kind) as url:
        store = Store.open(url)
        serving.enrol(store, [voice.name for voice in voices])
        lists.age(store, [voice.name for voice in voices], stored)
        store.close()
        yield url


def bare(kind: str, voices: Sequence[Voice]) -> float:
    """Rows a second of a loop that does nothing but insert them, durably."""
    told = [_flat(row) for voice in voices for row in _rows(voice)]
    names = list(told[0])
    values = [tuple(row.values()) for row in told]
    with serving.database(kind) as url:
        if kind == "sqlite":
            with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=FULL")
                connection.execute(f"CREATE TABLE told (uid PRIMARY KEY, {', '.join(names[1:])})")
                marks = ", ".join("?" * len(names))
                started_s = time.perf_counter()
                for part in _parts(values):
                    connection.execute("BEGIN")
                    connection.executemany(f"INSERT INTO told VALUES ({marks})", part)
                    connection.execute("COMMIT")
                return len(values) / (time.perf_counter() - started_s)
        with psycopg.connect(url) as server:
            server.execute(
                f"CREATE TABLE told (uid text PRIMARY KEY, {', '.join(f'{n} text' for n in names[1:])})"
            )
            server.commit()
            marks = ", ".join(["%s"] * len(names))
            started_s = time.perf_counter()
            for part in _parts(values):
                with server.cursor() as cursor:
                    cursor.executemany(f"INSERT INTO told VALUES ({marks})", part)
                server.commit()
            return len(values) / (time.perf_counter() - started_s)


def _rows(voice: Voice) -> Iterator[dict[str, Any]]:
    for before, after in voice.messages:
        yield from json.loads(before + b'0,"mono_ns":0' + after)["rows"]


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """What the collector makes columns of, and the row itself."""
    names = ("uid", "device", "component", "fault", "rev", "state", "severity", "count", "title", "advice")
    flat = {name: str(row[name]) for name in names}
    for name in ("first_bad", "raised", "cleared"):
        stamp = row.get(name) or {}
        flat |= {f"{name}_boot": stamp.get("boot"), f"{name}_ns": str(stamp.get("mono_ns"))}
    return flat | {"severities": json.dumps(row["severities"]), "told": json.dumps(row)}


def _parts(values: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(values), ROWS):
        yield values[start : start + ROWS]


def figures(
    *,
    kinds: Sequence[str] = serving.KINDS,
    messages: int = 20,
    singles: int = 100,
    gateways: int = 64,
    few: int = 2_000,
    many: int = 100_000,
) -> Iterator[Figure]:
    for kind in kinds:
        backlog = [rows.voice(f"gw-{n}", messages=messages, rows=ROWS, burst=5) for n in range(4)]
        plain = bare(kind, backlog)
        full = through_http(kind, backlog)
        rate = full.requests_per_s * ROWS
        yield Figure(f"rows/s, {ROWS} a sync, {kind}", rate, "10,000", rate / plain, "0.12")
        yield Figure(f"CPU of the collector per row, us, {kind}", full.cpu_us / ROWS)
        yield Figure(f"memory after {4 * messages * ROWS:,} rows, MB, {kind}", full.after_mb, "100")
        quick, slow = (rate * ROWS for rate in in_turns(kind, backlog, (few, many)))
        yield Figure(f"rows/s with {few:,} tickets stored, {kind}", quick)
        yield Figure(f"rows/s with {many:,} of them, against {few:,}, {kind}", slow, "", slow / quick, "0.95")
        said = [
            rows.voice(f"gw-{n}", messages=2 * singles, rows=1, burst=1, live=True) for n in range(gateways)
        ]
        ones = [replace(voice, messages=voice.messages[:singles]) for voice in said]
        more = [replace(voice, messages=voice.messages[singles:]) for voice in said]
        least = bare_http(kind, ones)
        single = through_http(kind, ones)
        ratio = single.requests_per_s / least
        yield Figure(
            f"syncs/s of one row, {gateways} gateways, {kind}", single.requests_per_s, "2,500", ratio
        )
        yield Figure(f"CPU of the collector per sync, us, {kind}", single.cpu_us)
        yield Figure(f"p50 of a sync, ms, {kind}", single.p50_ms)
        yield Figure(f"p99 of a sync, ms, {kind}", single.p99_ms)
        if kind == "postgresql":
            two = beside_each_other(2, ones)
            yield Figure("syncs/s of one row, two collectors, postgresql", two, "2,500", two / least)
        later = through_http(kind, more, before=ones)
        yield Figure(f"the next as many syncs/s of one row, {kind}", later.requests_per_s)
        as_agents_do = through_http(kind, ones, packed=True)
        yield Figure(f"syncs/s of one row, packed as agents do, {kind}", as_agents_do.requests_per_s)


if __name__ == "__main__":
    show(figures())
