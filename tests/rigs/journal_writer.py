"""A program that opens and closes occurrences in a journal without end and says each one that is durable.

It is killed in the middle of it.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
from pathlib import Path

from edge_agent.clock import Clock
from edge_agent.journal import Journal
from edge_agent.occurrence import Closing, Opening, Reason
from edge_agent.wire import Severity

WRITERS = 3


async def write(journal: Journal, clock: Clock, device: str) -> None:
    open_keys = {row.key for row in await journal.open_occurrences()}
    while True:
        now = clock.stamp()
        opening = Opening(
            device=device,
            component="belt",
            fault="jam",
            severity=Severity.STOP,
            title="Jam",
            advice="",
            first_bad=now,
            raised=now,
        )
        if opening.key in open_keys:
            rows = await journal.commit([Closing(key=opening.key, cleared=now, reason=Reason.CLEARED)])
            open_keys.discard(opening.key)
        else:
            rows = await journal.commit([opening])
            open_keys.add(opening.key)
        for row in rows:
            print(row.uid, row.rev, row.mod_seq, flush=True)


async def main(folder: Path) -> None:
    clock = Clock()
    journal = await Journal.open(folder, new_id=lambda: secrets.token_hex(16), stamp=clock.stamp)
    try:
        async with asyncio.TaskGroup() as group:
            for number in range(WRITERS):
                group.create_task(write(journal, clock, f"belt-{number}"))
    finally:
        await journal.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
