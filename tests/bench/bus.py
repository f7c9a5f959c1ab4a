"""What a bus gives while something on it, or on another one, is dead: real ptys, real connections.

The units of the serial line are a program of their own and answer at the pace of a line of 19,200 baud.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import uvloop
from bench.table import Figure, show
from pymodbus.framer import FramerType
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice
from rigs.ports import drops_whoever_knocks, free_port, listens, wait_until
from rigs.pty import Line
from rigs.readings import device, running, stamp

from edge_agent.device import Device
from edge_agent.plan import plan
from edge_agent.profile import ModbusRead
from edge_agent.sample import Reading
from edge_agent.transports.modbus import Settings, Transport

BAUD, UNITS, DEAD_UNIT = 19_200, 10, 5
LINE_EVERY_S, NETWORK_EVERY_S = 0.5, 0.02
# How often it is looked whether the loop comes round.
LAG_EVERY_S = 0.005


@dataclass(slots=True)
class Counted:
    """Readings with values, by device."""

    of: Counter[str] = field(default_factory=Counter)

    async def deliver(self, reading: Reading) -> None:
        if reading.trouble is None:
            self.of[reading.device] += 1


def figures(*, seconds: float = 20.0, dead_seconds: float = 70.0) -> Iterator[Figure]:
    with (
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        tempfile.TemporaryDirectory() as folder,
    ):
        well, dead, measured_s, planned_s = runner.run(_one_dead_unit(Path(folder), seconds, dead_seconds))
        yield Figure("polls/s of nine units on a serial line, the tenth well", well)
        yield Figure("  the same, the tenth dies and stays dead", dead, "", dead / well, "0.9")
        yield Figure("everything once on that line as check predicts, ms", planned_s * 1000)
        yield Figure("  as measured; of the prediction", measured_s * 1000, "", measured_s / planned_s, "1")
        alone, beside, lag_s = runner.run(_dead_buses(Path(folder), seconds))
        yield Figure("polls/s of a Modbus TCP device, alone", alone)
        yield Figure("  the same, beside five dead buses", beside, "", beside / alone, "1")
        yield Figure("  longest time for which the loop stood still, ms", lag_s * 1000, "100")


async def _one_dead_unit(
    folder: Path, seconds: float, dead_seconds: float
) -> tuple[float, float, float, float]:
    path = folder / "line"
    with _units(path) as peer:
        settings = Settings(name="line", mode="rtu", port=str(path), baud=BAUD)
        devices = [_device(f"unit-{unit}", unit, LINE_EVERY_S) for unit in range(1, UNITS + 1)]
        counted = Counted()
        transport = Transport(settings, devices, counted.deliver, stamp)
        others = [one.id for one in devices if one.unit != DEAD_UNIT]
        async with running(transport.run()):
            await wait_until(lambda: all(counted.of[one.id] >= 2 for one in devices))
            well = await _rate(counted, others, seconds)
            measured_s = transport.cycle_s or 0.0
            _tell(peer, f"dead {DEAD_UNIT}")
            dead = await _rate(counted, others, dead_seconds)
        return well, dead, measured_s, plan(settings, devices).cycle_s


async def _dead_buses(folder: Path, seconds: float) -> tuple[float, float, float]:
    counted = Counted()
    async with _plc() as port:
        healthy = Transport(_tcp("well", port), [_device("plc", 1, NETWORK_EVERY_S)], counted.deliver, stamp)
        async with running(healthy.run()):
            await wait_until(lambda: counted.of["plc"] >= 10)
            alone = await _rate(counted, ["plc"], seconds)
            async with _all_dead(folder, counted), _lag() as lag:
                beside = await _rate(counted, ["plc"], seconds)
    return alone, beside, max(lag)


@asynccontextmanager
async def _all_dead(folder: Path, counted: Counted) -> AsyncIterator[None]:
    """Nobody listens; takes the connection and says nothing; drops it; a line that takes nothing; one that is
    not there.
    """
    with ExitStack() as held:
        deaf = Line(folder / "deaf").plug(reads=False)
        held.callback(deaf.unplug)
        buses = [
            _tcp("nobody", free_port()),
            _tcp("silent", held.enter_context(_silent())),
            _tcp("dropped", held.enter_context(drops_whoever_knocks())),
            Settings(name="deaf", mode="rtu", port=str(deaf.path), baud=BAUD),
            Settings(name="gone", mode="rtu", port=str(folder / "gone"), baud=BAUD),
        ]
        async with asyncio.TaskGroup() as group:
            working = [
                group.create_task(
                    Transport(bus, [_device(bus.name, 1, NETWORK_EVERY_S)], counted.deliver, stamp).run()
                )
                for bus in buses
            ]
            await asyncio.sleep(0.1)
            yield
            for one in working:
                one.cancel()
        assert not any(counted.of[bus.name] for bus in buses)


@asynccontextmanager
async def _lag() -> AsyncIterator[list[float]]:
    """How much later than asked for the loop came round, in seconds."""
    found = [0.0]
    loop = asyncio.get_running_loop()

    async def look() -> None:
        while True:
            before = loop.time()
            await asyncio.sleep(LAG_EVERY_S)
            found.append(loop.time() - before - LAG_EVERY_S)

    looking = asyncio.create_task(look())
    try:
        yield found
    finally:
        looking.cancel()


@asynccontextmanager
async def _plc() -> AsyncIterator[int]:
    port = free_port()
    memory = SimDevice(1, simdata=[SimData(0, count=200, values=7, datatype=DataType.REGISTERS)])
    server = ModbusTcpServer(memory, framer=FramerType.SOCKET, address=("127.0.0.1", port))
    serving = asyncio.create_task(server.serve_forever())
    await wait_until(lambda: listens(port))
    try:
        yield port
    finally:
        await server.shutdown()
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving


@contextmanager
def _silent() -> Iterator[int]:
    """The kernel takes connections and what is said; nobody reads it."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield server.getsockname()[1]


@contextmanager
def _units(path: Path) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-m", "rigs.paced_units", str(path), str(BAUD), str(UNITS)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as peer:
        assert peer.stdout is not None
        peer.stdout.readline()
        try:
            yield peer
        finally:
            peer.terminate()


def _tell(peer: subprocess.Popen[str], words: str) -> None:
    assert peer.stdin is not None
    peer.stdin.write(words + "\n")
    peer.stdin.flush()


def _tcp(name: str, port: int) -> Settings:
    return Settings(name=name, host="127.0.0.1", port=port)


def _device(name: str, unit: int, every_s: float) -> Device:
    return device(name, {"all": ModbusRead(function=3, address=0, count=10, every_s=every_s)}, unit=unit)


async def _rate(counted: Counted, names: Sequence[str], seconds: float) -> float:
    before = sum(counted.of[name] for name in names)
    await asyncio.sleep(seconds)
    return (sum(counted.of[name] for name in names) - before) / seconds


if __name__ == "__main__":
    show(figures())
