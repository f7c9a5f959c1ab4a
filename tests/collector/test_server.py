"""The sweep as the server runs it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from rigs.ports import wait_until
from rigs.web import House, house
from sqlalchemy.exc import OperationalError

from collector import server
from collector.clock import Clock
from collector.store import Store
from collector.store.figures import figures


@contextlib.asynccontextmanager
async def sweeping(home: House, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    for pause in ("SWEEP_EVERY_S", "SWEEP_ON_S", "SWEEP_AGAIN_S"):
        monkeypatch.setattr(server, pause, 0.001)
    task = asyncio.create_task(server._sweep(home.parts, Clock()))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def some_sweeps(sweeps: list[int]) -> None:
    so_far = len(sweeps)
    await wait_until(lambda: len(sweeps) >= so_far + 5)


async def test_nobody_is_called_silent_who_could_not_be_heard_while_the_database_was_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away, sweeps = False, list[int]()
    real = Store.write_soon

    async def write_soon(store: Store, unit: object) -> object:
        sweeps.append(1)
        if away:
            raise OperationalError("UPDATE", {}, Exception("the server is away"))
        return await real(store, unit)  # type: ignore[arg-type]

    async with house(tmp_path) as home:
        await home.sync(await home.enrol())
        monkeypatch.setattr(Store, "write_soon", write_soon)

        async def silent() -> int:
            await some_sweeps(sweeps)
            return (await home.store.read_soon(figures)).gateways_silent

        async with sweeping(home, monkeypatch):
            away = True
            await some_sweeps(sweeps)
            home.clock.forward(minutes=5)
            await some_sweeps(sweeps)
            away = False
            assert await silent() == 0
            for _ in range(9):
                home.clock.forward(minutes=0.1)
                assert await silent() == 0
            for _ in range(2):
                home.clock.forward(minutes=0.1)
                found = await silent()
            assert found == 1
