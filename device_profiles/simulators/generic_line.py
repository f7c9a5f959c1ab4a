"""Some device that sends lines: its value each so often, alarms, a heartbeat."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence

from device_profiles.simulators import serving
from device_profiles.simulators.serving import Outlet, Simulator


class LineSender(Simulator):
    """Says a line every ``every_s``; 0: only when ``line`` is called."""

    faults = ("alarm", "high", "low", "mute")

    def __init__(self, outlet: Outlet, *, every_s: float = 0) -> None:
        super().__init__()
        self.outlet = outlet
        self.every_s = every_s
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.outlet.start(lambda: lambda _: b"")
        if self.every_s > 0:
            self._task = asyncio.create_task(self._talk(), name="talk")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.outlet.stop()

    def line(self) -> None:
        """What it has to say now."""
        level = 90 if self.has("high") else 10 if self.has("low") else 50
        if not self.has("mute"):
            self.outlet.say(b"ALARM 17\r\n" if self.has("alarm") else f"level={level} cm\r\n".encode())

    async def _talk(self) -> None:
        while True:
            await asyncio.sleep(self.every_s)
            self.line()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="A device that sends lines. Type a fault and on or off.")
    serving.add_places(parser)
    parser.add_argument("--every", type=float, default=2.0, metavar="S", help="seconds between two lines")
    options = parser.parse_args(argv)
    serving.run(LineSender(serving.place(options), every_s=options.every))


if __name__ == "__main__":
    main()
