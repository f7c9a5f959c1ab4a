"""Starts programs, shows what they say, starts them again when they die, and leaves none behind."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

STOP_WITHIN_S = 8.0
# A program that dies again and again is started at this pace.
AGAIN_AFTER_S = 2.0
PR_SET_PDEATHSIG = 1
COLOURS = {"broker": 36, "floor": 35, "collector": 34, "agent": 32, "andon": 33}


class DemoError(Exception):
    """The demo cannot go on; one line that says why and what to do."""


@dataclass(frozen=True, slots=True)
class Program:
    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


class Supervisor:
    """Owns the programs between ``__aenter__`` and ``__aexit__``."""

    def __init__(self) -> None:
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._told = asyncio.Event()
        self._colour = sys.stdout.isatty()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        # A script that starts us in its background has SIGINT ignored; a handler of our own undoes that.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._told.set)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._told.set()
        self.say("stopping ...")
        for process in reversed(self._running.values()):
            await _stop(process)
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        self.say("stopped")

    @property
    def told_to_stop(self) -> bool:
        return self._told.is_set()

    async def until_told(self) -> None:
        await self._told.wait()

    async def start(self, program: Program) -> None:
        process = await self._spawn(program)
        self._keepers.append(asyncio.create_task(self._keep(program, process), name=f"keep {program.name}"))

    async def once(self, program: Program, text: str = "") -> str:
        """Run to the end and return what it printed. Raises DemoError when it failed."""
        process = await asyncio.create_subprocess_exec(
            *program.command,
            env={**os.environ, **program.environment},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            preexec_fn=_die_with_parent,
        )
        printed, complaint = await process.communicate(text.encode())
        if process.returncode != 0:
            raise DemoError(f"{program.name} failed: {complaint.decode(errors='replace').strip()}")
        return printed.decode()

    def say(self, text: str) -> None:
        self._show("andon", text)

    async def _spawn(self, program: Program) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *program.command,
            env={**os.environ, **program.environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            # A group of its own: Ctrl-C reaches the supervisor alone, which then stops the programs in order.
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        self._running[program.name] = process
        return process

    async def _keep(self, program: Program, process: asyncio.subprocess.Process) -> None:
        while True:
            assert process.stdout is not None
            async for line in process.stdout:
                self._show(program.name, line.decode(errors="replace").rstrip())
            code = await process.wait()
            if self._told.is_set():
                return
            self.say(f"{program.name} ended with {code}; starting it again")
            await asyncio.sleep(AGAIN_AFTER_S)
            process = await self._spawn(program)

    def _show(self, name: str, text: str) -> None:
        for line in text.splitlines() or [""]:
            head = f"\x1b[{COLOURS[name]}m{name:<9}\x1b[0m" if self._colour else f"{name:<9}"
            # A reader that went away must not keep the programs from being stopped.
            with contextlib.suppress(BrokenPipeError):
                print(f"{head} | {line}", flush=True)


def _die_with_parent() -> None:
    """Linux: the kernel sends SIGTERM when the supervisor is gone, however it went."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_WITHIN_S)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
