"""Takes readings off their transports, so that no bus waits for the disk.

Each device has its own taken in their order, one after the other; what those of several devices change is
committed together.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection

import structlog

from edge_agent.journal import JournalError
from edge_agent.sample import Deliver, Reading

# A device whose change is being written keeps at most its polls of that time here: a thousand seconds of one
# that is asked four times a second.
MAX_WAITING = 4_096

log = structlog.get_logger()


class Intake:
    """One per watch. ``take`` returns once what a reading changed is durable."""

    def __init__(self, take: Deliver, *, worked_off: Callable[[str], None]) -> None:
        """``worked_off`` hears of each device of which nothing waits any more, and returns at once."""
        self._take = take
        self._worked_off = worked_off
        # By device, while there are any; the first of each is being taken.
        self._waiting: dict[str, deque[Reading]] = {}
        self._working: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(MAX_WAITING)

    def is_busy_with(self, devices: Collection[str]) -> bool:
        """Whether a reading of one of them is being taken or waits for that."""
        return bool(self._waiting) and not self._waiting.keys().isdisjoint(devices)

    async def put(self, reading: Reading) -> None:
        """Returns at once; when MAX_WAITING wait because the disk stands still, once there is room."""
        await self._room.acquire()
        line = self._waiting.get(reading.device)
        if line is not None:
            line.append(reading)
            return
        self._waiting[reading.device] = deque([reading])
        working = asyncio.create_task(self._work_off(reading.device), name=f"intake {reading.device}")
        self._working.add(working)
        working.add_done_callback(self._working.discard)

    async def take(self, reading: Reading) -> None:
        """Returns once what it changed is durable. Raises JournalError if it cannot be. What cannot be
        understood is told in the log and passed over: it would be no better if it came again.
        """
        try:
            await self._take(reading)
        except JournalError:
            raise
        except Exception:
            log.exception("a reading could not be taken", device=reading.device, read=reading.read)

    async def close(self) -> None:
        """Once all that waits was taken; nothing may be put any more."""
        while self._working:
            await asyncio.wait(self._working)

    async def _work_off(self, device: str) -> None:
        line = self._waiting[device]
        while line:
            try:
                await self.take(line[0])
            except JournalError:
                # The journal has told why. What could not be written is decided anew when its time is due,
                # and that ends the agent when the journal is broken.
                log.debug("a change could not be written yet", device=device)
            line.popleft()
            self._room.release()
        del self._waiting[device]
        self._worked_off(device)
