"""One bus and its devices: keeps a session going for ever, tells them when the link goes or returns.

This package is what transports are made of. Here is the session; ``link`` has bytes on a descriptor,
``stream`` text on a link, ``broker`` a connection of MQTT. What may stand in a configuration is in
``transports`` alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from math import inf
from random import Random
from typing import ClassVar, NoReturn

import structlog

from edge_agent.backoff import Backoff
from edge_agent.device import Device
from edge_agent.profile import ListenRead, TopicRead
from edge_agent.sample import Again, Deliver, Payload, Reading, Trouble
from edge_agent.schedule import Service
from edge_agent.wire import Stamp

log = structlog.get_logger()

# Opening a port or a connection is cheap, and a device that returned should be seen soon.
REOPEN_FIRST_S = 0.5
REOPEN_CAP_S = 10.0
REOPEN_FLOOR_S = 0.1
# A refusal (wrong password) does not heal by itself.
REFUSED_FIRST_S = 10.0
REFUSED_CAP_S = 60.0
# What takes one connection at a time may need so long to see that the one before is closed.
FREED_WITHIN_S = 5.0
# A link that held so long was well: the next attempt is quick again. After one that did not, the next must
# hold so long before it counts. Else a port that accepts and hangs up would be news twice in each attempt,
# and a link to devices that only listen.
STEADY_S = 5.0


class LinkError(Exception):
    """The port, connection or broker is not there; the text tells a technician why."""


class RefusedError(LinkError):
    """It is there and does not want us; a person must act."""


class StaleLinkError(Exception):
    """The link looks open and did not bring what was asked for: open it anew, without telling anybody."""


class Bus:
    """What transports share; a transport hands its session to ``keep``."""

    acknowledges: ClassVar[bool] = False

    def __init__(
        self,
        name: str,
        devices: Sequence[Device],
        deliver: Deliver,
        stamp: Callable[[], Stamp],
        *,
        again: Again | None = None,
        clock: Callable[[], float] | None = None,
        random: Random | None = None,
    ) -> None:
        """``again`` None: all is delivered."""
        self.name = name
        self.devices = tuple(devices)
        self.stamp = stamp
        self.random = random or Random()  # noqa: S311  # jitter, no secret
        self._deliver = deliver
        self.again: Again = again or (lambda _readings, _at: False)
        self._clock = clock
        # Why there is no link as the log said last; "" for one that is up, None before anything was said.
        self._said: str | None = None
        # The same as the devices were told; None once they heard anything else.
        self._told: str | None = None
        self._opened_at: float | None = None
        self._broke_soon = False
        self._behind = False
        # When a link that has come is to be believed; inf when there is nothing to wait for.
        self.believed_at = inf

    def clock(self) -> float:
        """Monotonic seconds."""
        if self._clock is None:
            # Kept: to find the loop costs a call of the system each time.
            self._clock = asyncio.get_running_loop().time
        return self._clock()

    def service(self) -> Service | None:
        """What it gave in the last minute; None where nothing is polled, and before the first minute."""
        return None

    def notice(self, gave: Service | None) -> None:
        """Say once when the bus carries less than is asked of it, and once when it carries it again."""
        if gave is None or gave.is_behind == self._behind:
            return
        self._behind = gave.is_behind
        said = "carries less than is asked of it" if gave.is_behind else "carries again what is asked of it"
        log.warning(said, bus=self.name, due=gave.due, kept=gave.kept)

    async def keep(self, session: Callable[[], Awaitable[None]]) -> NoReturn:
        """Run ``session`` (open, use until LinkError) again and again; cancel to stop."""
        reopen = Backoff(
            random=self.random, first_s=REOPEN_FIRST_S, cap_s=REOPEN_CAP_S, floor_s=REOPEN_FLOOR_S
        )
        refused = Backoff(
            random=self.random, first_s=REFUSED_FIRST_S, cap_s=REFUSED_CAP_S, floor_s=REOPEN_FIRST_S
        )
        quiet_until = -inf
        while True:
            self._opened_at = None
            try:
                await session()
            except StaleLinkError:
                log.debug("opened anew because nothing answers", bus=self.name)
                quiet_until = self.clock() + FREED_WITHIN_S
            except LinkError as error:
                if self._opened_at is not None:
                    self._broke_soon = self.clock() - self._opened_at < STEADY_S
                    if not self._broke_soon:
                        reopen.reset()
                        refused.reset()
                self.believed_at = inf
                if self.clock() >= quiet_until:
                    await self.gone(str(error))
                await asyncio.sleep((refused if isinstance(error, RefusedError) else reopen).next())

    async def gone(self, detail: str) -> None:
        """Every read of every device has no link; told again only when the reason changes."""
        if detail != self._said:
            self._said = detail
            log.warning("no link", bus=self.name, detail=detail)
        if detail == self._told:
            return
        at = self.stamp()
        for device in self.devices:
            for read in device.profile.reads:
                await self.tell(device.id, read, trouble=Trouble.NO_LINK, detail=detail, at=at)
        self._told = detail

    async def opened(self) -> None:
        """The session has its link. From now on it calls ``believe`` at ``believed_at``."""
        self._opened_at = self.clock()
        self.believed_at = self._opened_at + (STEADY_S if self._broke_soon else 0.0)
        await self.believe()

    async def believe(self) -> None:
        """Say that the link is there, once it is time. What only listens hears it by an empty reading."""
        if self.clock() < self.believed_at:
            return
        self.believed_at = inf
        if self._said == "":
            return
        self._said = ""
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
    ) -> Reading:
        """What was told. For a transport that acknowledges it returns once what that changed is durable."""
        self._told = None
        reading = Reading(
            device=device,
            read=read,
            at=at or self.stamp(),
            payload=payload,
            trouble=trouble,
            detail=detail,
            retained=retained,
        )
        await self._deliver(reading)
        return reading
