"""`edge-agent` as it is typed: a program beside the test, or (quicker) its command line in this process."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
from typer.testing import CliRunner

from edge_agent.cli import app

ROOT = Path(__file__).parents[2]
WITHIN_S = 60


def typed_here(*words: object, code: int = 0) -> str:
    """stdout and stderr of the command line in this process; for what starts no loop that a test needs."""
    before = structlog.get_config()
    try:
        done = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "160"})
    finally:
        # A command sets the log up for its own process.
        structlog.configure(**before)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code == code, done.output
    return done.output


class Command:
    """One that was started."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    def hears_signals(self) -> bool:
        """Before that a SIGTERM just ends it."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        (caught,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
        return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)

    def press_ctrl_c(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        self._process.kill()

    async def ends(self, code: int) -> str:
        """stdout and stderr, once it has ended with this code."""
        async with asyncio.timeout(WITHIN_S):
            out, _ = await self._process.communicate()
        said = out.decode()
        assert self._process.returncode == code, said
        assert "Traceback" not in said, said
        return said

    async def end(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def command(*words: object, folder: Path | None = None) -> AsyncIterator[Command]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "edge_agent", *map(str, words)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
        env=os.environ | {"COLUMNS": "160", "PYTHONPATH": str(ROOT)},
    )
    started = Command(process)
    try:
        yield started
    finally:
        await started.end()


async def typed(*words: object, code: int = 0, folder: Path | None = None) -> str:
    """stdout and stderr of a command that ends by itself."""
    async with command(*words, folder=folder) as started:
        return await started.ends(code)
