"""A real journal in a folder, and rows to put into it."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from rigs.moments import HandClock, ids

from edge_agent.journal import FILE, Journal
from edge_agent.journal_memory import InMemory
from edge_agent.ledger import Ledger
from edge_agent.occurrence import Closing, Opening, Reason
from edge_agent.wire import Severity, condition_key

__all__ = ["InMemory", "at_ledger", "change_file", "closing", "limit_pages", "opened", "opening"]

T = TypeVar("T")


@asynccontextmanager
async def opened(
    folder: Path, clock: HandClock, new_id: Callable[[], str] | None = None, **more: Any
) -> AsyncIterator[Journal]:
    """``more``: see ``Journal.open``."""
    journal = await Journal.open(folder, new_id=new_id or ids(), stamp=clock.stamp, **more)
    try:
        yield journal
    finally:
        await journal.close()


def opening(clock: HandClock, device: str = "belt-1", **more: Any) -> Opening:
    now = clock.stamp()
    return Opening(
        device=device,
        component="belt",
        fault="jam",
        severity=Severity.STOP,
        title="Jam",
        advice="Clear it.",
        first_bad=now,
        raised=now,
        **more,
    )


def closing(clock: HandClock, device: str = "belt-1", **more: Any) -> Closing:
    key = condition_key(device, "belt", "jam")
    return Closing(key=key, cleared=clock.stamp(), reason=more.pop("reason", Reason.CLEARED), **more)


async def at_ledger(journal: Journal, unit: Callable[[Ledger], T]) -> T:
    """A unit of the test's own."""
    return await journal._do(unit)


def change_file(folder: Path, statement: str, *values: Any) -> None:
    """What a fault of the disk would do, while no agent runs."""
    connection = sqlite3.connect(folder / FILE)
    with connection:
        assert connection.execute(statement, values).rowcount
    connection.close()


def limit_pages(ledger: Ledger, pages: int) -> int:
    """Pages in the file; at most ``pages`` from now on unless that is 0."""
    if pages:
        ledger.economy.let_go()
        ledger.economy.hold(0)
        ledger.economy._held = pages
        ledger.economy._limit()
    return int(ledger._sql.execute("PRAGMA page_count").fetchone()[0])
