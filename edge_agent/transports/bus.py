"""One bus and its devices: keeps a session going for ever, tells them when the link goes or returns."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import NoReturn

import structlog

from edge_agent.backoff import Backoff
from edge_agent.device import Device
from edge_agent.profile import ListenRead, TopicRead
from edge_agent.sample import Deliver, Payload, Reading, Trouble
from edge_agent.wire import Stamp

log = structlog.get_logger()

# Opening a port or a connection is cheap, and a device that returned should be seen soon.
REOPEN_FIRST_S = 0.5
REOPEN_CAP_S = 10.0
REOPEN_FLOOR_S = 0.1
# A refusal (wrong password) does not heal by itself.
REFUSED_FIRST_S = 10.0
REFUSED_CAP_S = 60.0
# A link that held so long was well: the next attempt is quick again.
STEADY_S = 5.0


class LinkError(Exception):
    """The port, connection or broker is not there; the text tells a technician why."""


class RefusedError(LinkError):
    """It is there and does not want us; a person must act."""


class StaleLinkError(Exception):
    """The link looks open but nothing answers: open it anew, without telling anybody."""


class Bus:
    """What transports share; a transport hands its session to ``keep``."""

    def __init__(
        self,
        name: str,
        devices: Sequence[Device],
        deliver: Deliver,
        stamp: Callable[[], Stamp],
        *,
        clock: Callable[[], float] | None = None,
        random: Random | None = None,
    ) -> None:
        self.name = name
        self.devices = tuple(devices)
        self.stamp = stamp
        self.random = random or Random()  # noqa: S311  # jitter, no secret
        self._deliver = deliver
        self._clock = clock
        # What the devices were told last; None before anything was, "" for a link that is up.
        self._told: str | None = None

    def clock(self) -> float:
        """Monotonic seconds."""
        return self._clock() if self._clock else asyncio.get_running_loop().time()

    async def keep(self, session: Callable[[], Awaitable[None]]) -> NoReturn:
        """Run ``session`` (open, use until LinkError) again and again; cancel to stop."""
        reopen = Backoff(
            random=self.random, first_s=REOPEN_FIRST_S, cap_s=REOPEN_CAP_S, floor_s=REOPEN_FLOOR_S
        )
        refused = Backoff(
            random=self.random, first_s=REFUSED_FIRST_S, cap_s=REFUSED_CAP_S, floor_s=REOPEN_FIRST_S
        )
        while True:
            began = self.clock()
            try:
                await session()
            except StaleLinkError:
                log.debug("opened anew because nothing answers", bus=self.name)
            except LinkError as error:
                await self.gone(str(error))
                if self.clock() - began > STEADY_S:
                    reopen.reset()
                await asyncio.sleep((refused if isinstance(error, RefusedError) else reopen).next())

    async def gone(self, detail: str) -> None:
        """Every read of every device has no link; told again only when the reason changes."""
        if detail == self._told:
            return
        self._told = detail
        log.warning("no link", bus=self.name, detail=detail)
        at = self.stamp()
        for device in self.devices:
            for read in device.profile.reads:
                await self.tell(device.id, read, trouble=Trouble.NO_LINK, detail=detail, at=at)

    async def back(self) -> None:
        """The link is there. What only listens hears of it by a reading without payload."""
        if self._told == "":
            return
        self._told = ""
        log.info("link is up", bus=self.name)
        at = self.stamp()
        for device in self.devices:
            for name, read in device.profile.reads.items():
                if isinstance(read, ListenRead | TopicRead):
                    await self.tell(device.id, name, detail="the link is up", at=at)

    async def tell(
        self,
        device: str,
        read: str,
        *,
        payload: Payload = (),
        trouble: Trouble | None = None,
        detail: str = "",
        retained: bool = False,
        at: Stamp | None = None,
    ) -> None:
        """Returns once what the reading changed is durable."""
        await self._deliver(
            Reading(
                device=device,
                read=read,
                at=at or self.stamp(),
                payload=payload,
                trouble=trouble,
                detail=detail,
                retained=retained,
            )
        )
