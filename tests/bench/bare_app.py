"""The least that takes a sync durably: Starlette, one transaction for all that wait, a table with a key. It
neither asks who speaks nor dates, folds or answers anything: what the collector's rate is a part of.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg
import uvicorn
from rigs.ports import free_port, listens, wait_until_now
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edge_agent import wire

STARTS_WITHIN_S = 30.0
Write = Callable[[Sequence[bytes]], None]


@contextlib.contextmanager
def serving(database_url: str) -> Iterator[int]:
    """The port of one that runs as a process of its own."""
    port = free_port()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(database_url, port))
    process.start()
    try:
        wait_until_now(lambda: listens(port), STARTS_WITHIN_S)
        yield port
    finally:
        process.terminate()
        process.join()


def _serve(database_url: str, port: int) -> None:
    write = _sqlite(database_url) if database_url.startswith("sqlite") else _postgresql(database_url)
    uvicorn.run(_app(write), port=port, log_level="error", access_log=False)


def _app(write: Write) -> Starlette:
    waiting: list[tuple[bytes, asyncio.Future[None]]] = []
    at_work: set[asyncio.Task[None]] = set()

    async def work() -> None:
        while waiting:
            batch = waiting[:]
            waiting.clear()
            await asyncio.to_thread(write, [body for body, _ in batch])
            for _, written in batch:
                written.set_result(None)
        at_work.clear()

    async def sync(request: Request) -> Response:
        written = asyncio.get_running_loop().create_future()
        waiting.append((await request.body(), written))
        if not at_work:
            at_work.add(asyncio.create_task(work()))
        await written
        return Response(b'{"verdict":"ok"}', media_type="application/json")

    return Starlette(routes=[Route(wire.SYNC_PATH, sync, methods=["POST"])])


def _sqlite(url: str) -> Write:
    connection = sqlite3.connect(
        url.removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE told (uid, rev, body, PRIMARY KEY (uid, rev))")

    def write(bodies: Sequence[bytes]) -> None:
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO told VALUES (?, ?, ?)", map(_row, bodies))
        connection.execute("COMMIT")

    return write


def _postgresql(url: str) -> Write:
    connection = psycopg.connect(url)
    connection.execute("CREATE TABLE told (uid text, rev integer, body text, PRIMARY KEY (uid, rev))")
    connection.commit()

    def write(bodies: Sequence[bytes]) -> None:
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO told VALUES (%s, %s, %s)", list(map(_row, bodies)))
        connection.commit()

    return write


def _row(body: bytes) -> tuple[Any, ...]:
    (row,) = json.loads(body)["rows"]
    return row["uid"], row["rev"], body.decode()
