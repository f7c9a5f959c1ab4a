"""One device that speaks text over a byte link: asks on schedule, collects the frames, listens in between.

An answer that comes too late must never be taken for the answer to the next request. So what lies around is
drained before each request, and after an unanswered one the line is left alone for one more timeout. A
network may keep an answer for longer than that and still bring it: where it would look like that of another
request, the connection is opened anew.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from importlib import import_module
from random import Random
from typing import Protocol

from edge_agent.bus import Bus, LinkError, StaleLinkError
from edge_agent.bus.link import DeafPeerError, Link
from edge_agent.device import Device
from edge_agent.poll import Ask, asks
from edge_agent.profile import ListenRead
from edge_agent.sample import Again, Deliver, Trouble
from edge_agent.schedule import Schedule, Service
from edge_agent.transports import BusSettings
from edge_agent.wire import Stamp

# How long to look at a link at a time when there is nothing to ask.
IDLE_S = 3600.0
# After so many unanswered requests a connection is opened anew: the peer may have forgotten it.
UNANSWERED_UNTIL_STALE = 3


class TextSettings(BusSettings):
    """A bus that carries text."""

    def check(self, devices: Sequence[Device]) -> None:
        if len(devices) > 1:
            names = ", ".join(device.id for device in devices)
            raise ValueError(f"{names}: a line of text has one device; give each a bus of its own")


class Framer(Protocol):
    dropped: int

    def feed(self, chunk: bytes) -> list[bytes]: ...
    def reset(self) -> None: ...


class Stream(Bus, ABC):
    """What serial and tcp share; they say how to ``open``. Raises ValueError as its settings' ``check``."""

    _settings: TextSettings

    def __init__(
        self,
        settings: TextSettings,
        devices: Sequence[Device],
        deliver: Deliver,
        stamp: Callable[[], Stamp],
        *,
        again: Again | None = None,
        clock: Callable[[], float] | None = None,
        random: Random | None = None,
    ) -> None:
        super().__init__(settings.name, devices, deliver, stamp, again=again, clock=clock, random=random)
        settings.check(self.devices)
        self._settings = settings
        self._asks = [ask for device in self.devices for ask in asks(device)]
        self._listens = [
            (device.id, read)
            for device in self.devices
            for read, kind in device.profile.reads.items()
            if isinstance(kind, ListenRead)
        ]
        self._framers = [_framer(device) for device in self.devices]
        # Nothing in an answer tells what it answers.
        self._alike = any(ask.answer is None for ask in self._asks) or any(
            device.profile.framing == "byte" for device in self.devices
        )
        self._schedule: Schedule[Ask] | None = None
        self._unanswered = 0

    @abstractmethod
    async def open(self) -> Link:
        """Raises LinkError."""

    def service(self) -> Service | None:
        return self._schedule.service() if self._schedule else None

    async def run(self) -> None:
        if self.devices:
            await self.keep(self._session)

    async def _session(self) -> None:
        link = await self.open()
        try:
            await self.opened()
            await self._use(link)
        except LinkError:
            self._schedule = None
            raise
        finally:
            link.close()

    async def _use(self, link: Link) -> None:
        framer = self._framers[0]
        framer.reset()
        self._unanswered = 0
        schedule = self._schedule = self._schedule or Schedule(
            self._asks, now=self.clock(), random=self.random
        )
        while True:
            await self.believe()
            due, ask = schedule.next() or (self.clock() + IDLE_S, None)
            if self.clock() < due:
                if chunk := await link.read_within(min(due, self.believed_at) - self.clock()):
                    await self._heard(framer.feed(chunk))
            elif ask is not None:
                schedule.asked(ask, self.clock())
                await self._ask(link, framer, ask)

    async def _heard(self, frames: list[bytes]) -> None:
        for frame in frames:
            for device, read in self._listens:
                await self.tell(device, read, payload=(frame,))

    async def _ask(self, link: Link, framer: Framer, ask: Ask) -> None:
        await self._heard(framer.feed(link.drain()))
        if not self._listens:
            framer.reset()
        try:
            await link.write(ask.send, ask.timeout_s)
        except DeafPeerError:
            await self.tell(
                ask.device,
                ask.read,
                trouble=Trouble.NO_ANSWER,
                detail="it does not take what we send: paused, offline or out of memory?",
            )
            if not link.drop_output():
                raise StaleLinkError from None
            return
        frames, strays, size = await self._collect(link, framer, ask)
        await self._heard(strays)
        if len(frames) < ask.frames:
            await self._missed(link, framer, ask, len(frames), size)
            return
        self._unanswered = 0
        await self.tell(ask.device, ask.read, payload=tuple(frames[: ask.frames]))
        await self._heard(frames[ask.frames :])

    async def _collect(self, link: Link, framer: Framer, ask: Ask) -> tuple[list[bytes], list[bytes], int]:
        """The frames that came in time, what came before them and is no answer, and how many bytes."""
        frames: list[bytes] = []
        strays: list[bytes] = []
        size = 0
        deadline = self.clock() + ask.timeout_s
        while len(frames) < ask.frames and (left := deadline - self.clock()) > 0:
            chunk = await link.read_within(left)
            if chunk is None:
                break
            size += len(chunk)
            for frame in framer.feed(chunk):
                (frames if frames or ask.is_answered_by(frame) else strays).append(frame)
        return frames, strays, size

    async def _missed(self, link: Link, framer: Framer, ask: Ask, frames: int, size: int) -> None:
        within = f"within {ask.timeout_s:g} s"
        if frames:
            detail = f"{frames} of {ask.frames} frames came {within}"
        else:
            detail = f"{size} bytes and no whole frame came {within}" if size else f"nothing came {within}"
        await self.tell(
            ask.device,
            ask.read,
            trouble=Trouble.WRONG_ANSWER if size else Trouble.NO_ANSWER,
            detail=detail,
        )
        # Requests that pile up unread would all be answered at once when the device wakes up.
        can_drop = link.drop_output()
        owed = ask.frames - frames
        quiet_until = self.clock() + ask.timeout_s
        while (left := quiet_until - self.clock()) > 0:
            late = framer.feed(await link.read_within(left) or b"")
            owed -= len(late)
            if ask.answer is not None:
                # Whoever says what its answer looks like may be spoken to and listened to at once.
                await self._heard([frame for frame in late if not ask.is_answered_by(frame)])
        framer.reset()
        self._unanswered += 1
        is_stale = self._unanswered >= UNANSWERED_UNTIL_STALE or (self._alike and owed > 0)
        if is_stale and not can_drop:
            raise StaleLinkError


def _framer(device: Device) -> Framer:
    assert device.profile.framing is not None, "a profile for a line of text has a framing"
    made: Framer = import_module(f"edge_agent.framing.{device.profile.framing}").Framer()
    return made
