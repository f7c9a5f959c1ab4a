"""The program whose power is cut: a real journal under load, which says what it was told is durable.

What it says goes to one file, outside of the journal's folder, with one write each and only after the journal
has confirmed: whoever records its system calls has both in one order.

Usage: python writer.py FOLDER SAID SEED TRANSITIONS WAY HOW_IT_ENDS
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rigs.journals import closing, opening
from rigs.moments import HandClock

from edge_agent import journal_file
from edge_agent.journal import Journal
from edge_agent.wire import SyncAnswer, Verdict

WRITERS = 6
DAY_S = 86_400.0
# Rows of all sizes: some fit on a page with others, some need pages of their own.
EVIDENCE_BYTES = (0, 0, 200, 900, 6_000)
# Ways to open the file. All but the first are wrong, and the recording must show it.
AS_BUILT, NORMAL, NO_EXTRA, NOT_CREATED_SAFELY = "as-built", "normal", "no-extra", "not-created-safely"


class Spoilt(sqlite3.Connection):
    """A connection that does not do everything that it is told."""

    instead: Mapping[str, str] = {}

    def execute(self, sql: str, *more: Any) -> sqlite3.Cursor:
        return super().execute(self.instead.get(sql.replace(" ", ""), sql), *more)


def spoil(way: str) -> None:
    """Open journals another way than the product does, in this program only."""
    Spoilt.instead = instead_of(way)
    if way == AS_BUILT:
        return
    if way == NOT_CREATED_SAFELY:
        journal_file._sync_folder = lambda folder: None
    real = sqlite3.connect
    sqlite3.connect = lambda *given, **more: real(*given, **more, factory=Spoilt)  # type: ignore[assignment]


def instead_of(way: str) -> Mapping[str, str]:
    """What is told to SQLite instead of what the product tells it."""
    if way == AS_BUILT:
        return {}
    extra, full = "PRAGMAsynchronous=EXTRA", "PRAGMAsynchronous=FULL"
    if way == NORMAL:
        return {full: "PRAGMA synchronous = NORMAL", extra: "PRAGMA synchronous = NORMAL"}
    return {extra: "PRAGMA synchronous = FULL"}


class Load:
    """Writers that raise and clear, a forwarder that is answered, and old rows that are pruned."""

    def __init__(
        self, journal: Journal, clock: HandClock, dice: random.Random, say: Callable[..., None]
    ) -> None:
        self.journal, self.clock, self.dice, self.say = journal, clock, dice, say
        self.left = 0

    async def run(self, transitions: int) -> None:
        self.left = transitions
        async with asyncio.TaskGroup() as group:
            for number in range(WRITERS):
                group.create_task(self._write(f"belt-{number}"))
            group.create_task(self._forward())

    async def _write(self, device: str) -> None:
        is_open = any(row.device == device for row in await self.journal.open_occurrences())
        while self.left > 0:
            self.left -= 1
            self.clock.go(self.dice.random() * DAY_S / 6)
            if is_open:
                change: Any = closing(self.clock, device)
            else:
                text = "x" * self.dice.choice(EVIDENCE_BYTES)
                change = opening(self.clock, device, evidence={"text": text})
            for row in await self.journal.commit([change]):
                self.say("row", row.uid, row.rev, row.mod_seq, row.state)
            is_open = not is_open
            # Now together with others, now alone.
            for _ in range(self.dice.choice((0, 0, 0, 1, 5, 20))):
                await asyncio.sleep(0)

    async def _forward(self) -> None:
        while self.left > 0:
            batch = await self.journal.batch(max_rows=self.dice.randrange(1, 60), max_bytes=1 << 18)
            self.say("stream", batch.stream)
            self.say("boundary", *batch.to)
            for _ in range(self.dice.choice((1, 10, 40))):
                await asyncio.sleep(0)
            answer = SyncAnswer(
                verdict=Verdict.OK, stream=batch.stream, hwm=batch.to, server_ms=self.clock.wall_ms, next_s=15
            )
            await self.journal.take_answer(answer, may_renew=True)
            self.say("cursor", *batch.to)
            if self.dice.random() < 0.1:
                await self.journal.prune()
                await self.journal.anchor()


async def main(arguments: Sequence[str]) -> None:
    folder, said, seed, transitions, way, ending = arguments
    spoil(way)
    descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def say(*words: object) -> None:
        os.write(descriptor, (" ".join(map(str, words)) + "\n").encode())

    await live(folder, seed, transitions, say, ending)
    if ending == "killed":
        os._exit(0)


async def live(folder: str, seed: str, transitions: str, say: Callable[..., None], ending: str) -> None:
    """One session; it ends before the journal is closed if it is to be killed."""
    clock, dice = HandClock(), random.Random(seed)
    # Later than whatever an earlier session has written.
    clock.go(DAY_S * 1_000 * int(seed))
    journal = await Journal.open(
        Path(folder), new_id=lambda: f"{dice.getrandbits(128):032x}", stamp=clock.stamp
    )
    await Load(journal, clock, dice, say).run(int(transitions))
    if ending != "killed":
        await journal.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
