"""Plays a trace in its own time, as if its devices were here: for demonstrations and training.

Each device gets what the trace holds of the device of its id. When the trace is over its devices cannot be
reached, unless it is played again and again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from random import Random
from typing import Annotated, Literal

from pydantic import Field

from edge_agent import trace_file
from edge_agent.bus import Bus
from edge_agent.device import Device
from edge_agent.poll import Line
from edge_agent.profile import Profile
from edge_agent.sample import Again, Deliver, Reading
from edge_agent.trace import Happening, TraceError, t_s
from edge_agent.transports import BusSettings
from edge_agent.wire import Stamp

# Lines that are read at once, in a thread.
AT_ONCE = 500
# Between the end of a trace and its next beginning; also how soon one that cannot be read is tried again.
PAUSE_S = 1.0
AGAIN_S = 10.0


class Settings(BusSettings):
    transport: Literal["replay"] = "replay"
    file: Annotated[Path, Field(description="what `edge-agent record` wrote")]
    speed: Annotated[float, Field(gt=0, le=1_000, description="so many times as fast as it was")] = 1.0
    loop: Annotated[bool, Field(description="again and again")] = False

    @property
    def line(self) -> Line:
        fast = "" if self.speed == 1 else f", {self.speed:g} times as fast"
        return Line(
            words=f"replay of {self.file}{fast}{', again and again' if self.loop else ''}", asks=False
        )

    def carries(self, profile: Profile) -> bool:
        return True

    def check(self, devices: Sequence[Device]) -> None:
        try:
            known = [str(table["id"]) for table in trace_file.opened(self.file).header.device]
        except TraceError as error:
            raise ValueError(str(error)) from error
        for device in devices:
            if device.id not in known:
                raise ValueError(
                    f"{self.file} has no device {device.id!r}; give the device the id of one that it has: "
                    f"{', '.join(known)}"
                )


class Transport(Bus):
    def __init__(
        self,
        settings: Settings,
        devices: Sequence[Device],
        deliver: Deliver,
        stamp: Callable[[], Stamp],
        *,
        again: Again | None = None,
        clock: Callable[[], float] | None = None,
        random: Random | None = None,
    ) -> None:
        super().__init__(settings.name, devices, deliver, stamp, again=again, clock=clock, random=random)
        self._settings = settings
        self._reads = {(device.id, read) for device in self.devices for read in device.profile.reads}

    async def run(self) -> None:
        while self.devices:
            try:
                await self._play()
            except TraceError as error:
                await self.gone(str(error))
                await asyncio.sleep(AGAIN_S)
                continue
            if not self._settings.loop:
                await self.gone(f"{self._settings.file} is over")
                await asyncio.Event().wait()
            await asyncio.sleep(PAUSE_S / self._settings.speed)

    async def _play(self) -> None:
        trace = await asyncio.to_thread(trace_file.opened, self._settings.file)
        began, happened = self.clock(), trace.happened()
        await self.opened()
        while some := await asyncio.to_thread(_next, happened):
            for one in some:
                if not isinstance(one, Reading):
                    continue
                await self._until(began + t_s(one.at) / self._settings.speed)
                if (one.device, one.read) in self._reads:
                    await self.tell(
                        one.device,
                        one.read,
                        payload=one.payload,
                        trouble=one.trouble,
                        detail=one.detail,
                        retained=one.retained,
                    )

    async def _until(self, due: float) -> None:
        # Also when it is late: others shall have their turn.
        await asyncio.sleep(max(0.0, due - self.clock()))


def _next(happened: Iterator[Happening]) -> list[Happening]:
    return list(islice(happened, AT_ONCE))
