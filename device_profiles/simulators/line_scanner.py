"""A fixed-mount barcode reader: a line for each parcel, a text when nothing was read, a heartbeat."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence

from device_profiles.simulators import serving
from device_profiles.simulators.serving import Outlet, Simulator


class LineScanner(Simulator):
    """Parcels come every ``every_s``; 0: only when ``parcel`` is called. ``heartbeat_s`` 0: none."""

    # dirty_window: every third parcel is not read. blind: none is. quiet: the reader is hung.
    faults = ("dirty_window", "blind", "quiet")

    def __init__(
        self,
        outlet: Outlet,
        *,
        every_s: float = 0,
        heartbeat_s: float = 0,
        no_read: bytes = b"NoRead",
        heartbeat: bytes = b"HEARTBEAT",
        terminator: bytes = b"\r\n",
    ) -> None:
        super().__init__()
        self.outlet = outlet
        self.every_s = every_s
        self.heartbeat_s = heartbeat_s
        self.no_read = no_read
        self.heartbeat = heartbeat
        self.terminator = terminator
        self.parcels = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        await self.outlet.start(lambda: lambda _: b"")
        if self.every_s > 0:
            self._tasks.append(asyncio.create_task(self._conveyor(), name="conveyor"))
        if self.heartbeat_s > 0:
            self._tasks.append(asyncio.create_task(self._beat(), name="heartbeat"))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        await self.outlet.stop()

    def parcel(self) -> None:
        """One parcel passes the trigger."""
        self.parcels += 1
        unread = self.has("blind") or (self.has("dirty_window") and self.parcels % 3 == 0)
        self._say(self.no_read if unread else ean13(400_000_000_000 + self.parcels).encode())

    def _say(self, line: bytes) -> None:
        if not self.has("quiet"):
            self.outlet.say(line + self.terminator)

    async def _conveyor(self) -> None:
        while True:
            await asyncio.sleep(self.every_s)
            self.parcel()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self.heartbeat_s)
            self._say(self.heartbeat)


def ean13(body: int) -> str:
    """Twelve digits and the check digit (GS1 General Specifications, 7.9)."""
    digits = f"{body:012d}"
    total = sum(int(digit) * (3 if number % 2 else 1) for number, digit in enumerate(digits))
    return digits + str(-total % 10)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="A line scanner. Type a fault's name and on or off.")
    serving.add_places(parser)
    parser.add_argument("--every", type=float, default=2.0, metavar="S", help="seconds between two parcels")
    parser.add_argument("--heartbeat", type=float, default=10.0, metavar="S", help="seconds; 0 for none")
    options = parser.parse_args(argv)
    outlet = serving.place(options)
    serving.run(LineScanner(outlet, every_s=options.every, heartbeat_s=options.heartbeat))


if __name__ == "__main__":
    main()
