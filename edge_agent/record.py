"""Moves what devices say into a file, from the agent that runs or from the buses themselves.

A port can be open once. So when an agent runs, what it reads is heard through its ``tap``, and it is not
disturbed: the room that it needs on its disk is left to it, too. When none runs, the buses are opened here;
nothing is detected or forwarded meanwhile.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from pathlib import Path
from typing import Protocol

from edge_agent import tap, transports
from edge_agent.clock import Clock
from edge_agent.config import ConfigError, Settings
from edge_agent.journal import LOCK
from edge_agent.journal_caps import MIB
from edge_agent.journal_disk import Disk
from edge_agent.recording import WAITING_BYTES, Recording, beating
from edge_agent.sample import Reading
from edge_agent.tap import TapError
from edge_agent.trace_file import TraceFile
from edge_agent.transports import Transport

# So often what came is moved to the disk: a recording that is killed lacks no more.
MOVE_EVERY_S = 1.0
# For so long the agent may take to begin, and to tell the rest.
HEADER_WITHIN_S = 30.0
REST_WITHIN_S = 5.0
# Of the disk, of what the user may have of it, of a file.
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class RecordError(Exception):
    """A person must act; the text says how."""


class Ended(StrEnum):
    """Why a recording is over."""

    TOLD = "stopped as told"
    TIME = "the time is over"
    FULL = "the file is as large as it may be"
    AGENT_GONE = "the agent has stopped"
    DISK_SHORT = "the disk is nearly full, and what is left of it is the agent's"
    DISK_FULL = "the disk is full"


@dataclass(slots=True, kw_only=True)
class Progress:
    """How far it is."""

    path: Path
    # From an agent that runs, or from the buses.
    live: bool = False
    packed_bytes: int = 0
    # By device; each is there from the start.
    readings: Counter[str] = field(default_factory=Counter)
    missing: int = 0
    ended: Ended | None = None


class Source(Protocol):
    """Where lines come from; the first is the header."""

    # Nothing more will come.
    over: bool

    def taken(self) -> bytes:
        """Whole lines that came since the last call."""

    async def end(self) -> None:
        """No more, please; what is left can be ``taken``."""


async def record(
    settings: Settings,
    path: Path,
    *,
    devices: Sequence[str] = (),
    seconds: float | None,
    max_bytes: int,
    told: asyncio.Event,
    tell: Callable[[Progress], None],
) -> Progress:
    """Until ``told``, for so many ``seconds`` or ``max_bytes``. Raises RecordError; OSError of the file."""
    progress = Progress(path=path)
    try:
        async with tap.listening(settings.agent.data_dir, devices) as agent:
            progress.live = agent is not None
            opened = _heard(*agent, told) if agent is not None else _buses(settings, devices)
            async with opened as source:
                room = _Room(settings, path)
                await _move(
                    source, progress, room, seconds=seconds, max_bytes=max_bytes, told=told, tell=tell
                )
    except (TapError, ConfigError) as error:
        raise RecordError(str(error)) from error
    return progress


async def _move(
    source: Source,
    progress: Progress,
    room: _Room,
    *,
    seconds: float | None,
    max_bytes: int,
    told: asyncio.Event,
    tell: Callable[[Progress], None],
) -> None:
    if room.is_short():
        raise RecordError(f"{progress.path}: {Ended.DISK_SHORT}; give a file on another disk")
    file = await asyncio.to_thread(TraceFile, progress.path)
    clock = asyncio.get_running_loop().time
    end = inf if seconds is None else clock() + seconds
    try:
        while progress.ended is None:
            fits = await _put(file, source.taken(), progress)
            tell(progress)
            progress.ended = (
                Ended.DISK_FULL
                if not fits
                else Ended.TOLD
                if told.is_set()
                else Ended.FULL
                if file.size >= max_bytes
                else Ended.TIME
                if clock() >= end
                else Ended.AGENT_GONE
                if source.over
                else Ended.DISK_SHORT
                if room.is_short()
                else None
            )
            if progress.ended is None:
                with suppress(TimeoutError):
                    await asyncio.wait_for(told.wait(), max(0.0, min(MOVE_EVERY_S, end - clock())))
        await source.end()
        # Nothing after a gap that nobody would see.
        if progress.ended is not Ended.DISK_FULL and not await _put(file, source.taken(), progress):
            progress.ended = Ended.DISK_FULL
    finally:
        await asyncio.to_thread(file.close)
        if not file.size:
            progress.path.unlink()


async def _put(file: TraceFile, lines: bytes, progress: Progress) -> bool:
    """Whether there was room for them. Raises OSError: for anything else, or where not even the header has
    any.
    """
    if not lines:
        return True
    try:
        await asyncio.to_thread(file.write, lines)
    except OSError as error:
        if error.errno in NO_ROOM and file.size:
            return False
        raise
    _count(lines, progress)
    progress.packed_bytes = file.size
    return True


class _Room:
    """On the disk that a recording is written to, where it is the agent's."""

    def __init__(self, settings: Settings, path: Path) -> None:
        data_dir = settings.agent.data_dir
        try:
            is_shared = data_dir.stat().st_dev == path.absolute().parent.stat().st_dev
        except OSError:
            is_shared = False
        ballast_bytes = settings.journal.ballast_mib * MIB
        self._disk = Disk(data_dir, ballast_bytes=ballast_bytes) if is_shared else None

    def is_short(self) -> bool:
        return self._disk is not None and self._disk.spare() <= 0


def _count(lines: bytes, progress: Progress) -> None:
    for line in map(json.loads, lines.splitlines()):
        if "andon_trace" in line:
            progress.readings.update({str(table["id"]): 0 for table in line["device"]})
        elif "missing" in line:
            progress.missing += line["missing"]
        elif "read" in line:
            progress.readings[line["device"]] += 1


# --- through the agent that runs ----------------------------------------------------------------------------


class _Heard:
    def __init__(self, header: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.over = False
        self._writer = writer
        self._at_its_end = asyncio.Event()
        self._waiting = bytearray(header)
        self._reader = reader
        self._room = asyncio.Event()

    def taken(self) -> bytes:
        lines = bytes(self._waiting)
        self._waiting.clear()
        self._room.set()
        return lines

    async def end(self) -> None:
        self._room.set()
        if not self.over:
            self._writer.write_eof()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._at_its_end.wait(), REST_WITHIN_S)

    async def run(self) -> None:
        with suppress(ConnectionError):
            # One without its end is that of an agent that was killed.
            while (line := await self._reader.readline()).endswith(b"\n"):
                self._waiting += line
                if len(self._waiting) > WAITING_BYTES:
                    # The agent keeps what comes meanwhile, and leaves out what it cannot keep.
                    self._room.clear()
                    await self._room.wait()
        self.over = True
        self._at_its_end.set()


@asynccontextmanager
async def _heard(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, told: asyncio.Event
) -> AsyncIterator[Source]:
    header = await _header(reader, told)
    if not header.endswith(b"\n"):
        raise RecordError("the agent has stopped; start it, or try again to open the buses without it")
    if "error" in (answer := json.loads(header)):
        raise RecordError(f"the agent that runs says: {answer['error']}")
    source = _Heard(header, reader, writer)
    async with _running([source.run()]):
        yield source


async def _header(reader: asyncio.StreamReader, told: asyncio.Event) -> bytes:
    """Raises RecordError when it does not come in time, or before somebody wants the recording to end."""
    line, end = asyncio.ensure_future(reader.readline()), asyncio.ensure_future(told.wait())
    try:
        await asyncio.wait((line, end), timeout=HEADER_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
        if line.done():
            with suppress(ConnectionError):
                return line.result()
            return b""
    finally:
        line.cancel()
        end.cancel()
    raise RecordError(
        "stopped before the agent that runs had answered; nothing is recorded"
        if told.is_set()
        else f"the agent that runs has not answered for {HEADER_WITHIN_S:.0f} s: it hangs or is busy. "
        "Try again, or restart it"
    )


# --- from the buses themselves ------------------------------------------------------------------------------


class _Own:
    over = False

    def __init__(self, recording: Recording, clock: Clock) -> None:
        self._recording = recording
        self._clock = clock

    def taken(self) -> bytes:
        return self._recording.taken()

    async def end(self) -> None:
        self._recording.end(self._clock.stamp())

    async def deliver(self, reading: Reading) -> None:
        self._recording.take(reading)


@asynccontextmanager
async def _buses(settings: Settings, devices: Collection[str]) -> AsyncIterator[Source]:
    _refuse_beside_an_agent(settings.agent.data_dir)
    clock = Clock()
    recording = Recording(settings, clock.stamp(), devices)
    source = _Own(recording, clock)
    wanted = [device for device in settings.devices if not devices or device.id in devices]
    work = []
    for bus in settings.buses:
        module = transports.load(bus.transport)
        assert module is not None, "config checked it"
        on_bus = [device for device in wanted if device.bus == bus.name]
        transport: Transport = module.Transport(bus.as_a_guest(), on_bus, source.deliver, clock.stamp)
        work.append(transport.run())
    async with _running([*work, beating(recording, clock.stamp)]):
        yield source


def _refuse_beside_an_agent(data_dir: Path) -> None:
    """Its ports are open there, and one that is open twice gives each of the two half of the answers."""
    try:
        lock = os.open(data_dir / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as error:
        raise RecordError(
            f"{data_dir / LOCK}: {error.strerror or error}; run this as root or as the agent's user"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RecordError(
            f"an agent runs on {data_dir} and has the ports, but it cannot be heard: it is starting, or "
            "older than this command. Try again, restart it, or stop it"
        ) from error
    finally:
        os.close(lock)


@asynccontextmanager
async def _running(work: Sequence[Coroutine[None, None, None]]) -> AsyncIterator[None]:
    """Cancelled at the end; what one of them raised is raised."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
