"""The noisy gateway, a program of its own: what it costs itself nobody else shall feel.

Arguments are its number, the collector's address, its credential, a folder, rows a message and seconds
between two messages. Each line that comes is a number of seconds to be loud for, answered by an empty line;
at the end of its input it tells what it heard, as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog
from storm.fleet import DEVICES, Counts, Gateway, quietly


class Loud:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        assert process.stdin is not None and process.stdout is not None  # noqa: PT018
        self._order, self._said = process.stdin, process.stdout

    async def be_loud(self, seconds: float) -> None:
        self._order.write(f"{seconds}\n".encode())
        if await self._said.readline() != b"\n":
            raise RuntimeError("the noisy gateway has died")

    async def heard(self) -> Any:
        """{"requests": {what: count}, "errors": [text]}"""
        self._order.close()
        return json.loads(await self._said.read())


@asynccontextmanager
async def running(
    number: int, url: str, bearer: str, folder: Path, *, rows: int, pause_s: float
) -> AsyncIterator[Loud]:
    """``folder`` has the ``ca.pem`` of the fleet."""
    arguments = [str(number), url, bearer, str(folder), str(rows), str(pause_s)]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "storm.loud",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    try:
        yield Loud(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def main(number: int, url: str, bearer: str, folder: Path, rows: int, pause_s: float) -> None:
    counts = Counts()
    gateway = Gateway(
        number, bearer=bearer, url=url, ca_file=folder / "ca.pem", counts=counts, devices=DEVICES
    )
    await quietly([gateway])
    counts.begin()
    while line := await asyncio.to_thread(sys.stdin.readline):
        until_s = time.monotonic() + float(line)
        while (begun_s := time.monotonic()) < until_s:
            gateway.gather(rows)
            await gateway.forwarder.exchange()
            await asyncio.sleep(max(0.0, pause_s - (time.monotonic() - begun_s)))
        print(flush=True)
    print(json.dumps({"requests": counts.requests, "errors": counts.errors}))
    await gateway.close()


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    number, url, bearer, folder, rows, pause_s = sys.argv[1:]
    asyncio.run(main(int(number), url, bearer, Path(folder), int(rows), float(pause_s)))
