"""What an agent costs its gateway: the real program with 50 and 200 Modbus TCP devices of four reads each,
against a loop of pymodbus and uvloop that makes the same requests and does nothing with the answers.

The devices are a program of their own, which notes when it was asked.
"""

from __future__ import annotations

import argparse
import array
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvloop
from bench.profiles import text
from bench.table import Figure, show
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice
from rigs.ports import free_port

DEVICES, MANY = 50, 200
# Four reads that lie beside each other, and so are one request.
READS, REGISTERS = 4, 10
BLOCK = READS * REGISTERS
# Until all links stand and the program is as large as it gets.
WARM_UP_S = 3.0
STARTS_WITHIN_S = 30.0
SITE = "north"


def _profile() -> str:
    """Two bits and a number of each read are looked at."""
    reads, signals, conditions, examples = [], [], [], []
    for n in range(READS):
        first = n * REGISTERS
        reads.append(f"  block{n}: {{function: 3, address: {first}, count: {REGISTERS}, every_s: 1}}")
        kind = "{read: block%d, register: %d, %s source: tests/bench/cost.py}"
        signals.append(f"  fault{n}: {kind % (n, first, 'bit: 0,')}")
        signals.append(f"  jam{n}: {kind % (n, first, 'bit: 1,')}")
        signals.append(f"  load{n}: {kind % (n, first + 1, '')}")
        for name, when in (
            ("fault", f"is: {{signal: fault{n}, value: true}}"),
            ("jam", f"is: {{signal: jam{n}, value: true}}"),
            ("load", f"above: {{signal: load{n}, limit: 500, deadband: 10}}"),
        ):
            conditions.append(
                f"  - {{fault: {name}{n}, component: block{n}, title: {name}, advice: Look., severity: stop,"
                f" when: {{{when}}}, on_delay_s: 0.5, off_delay_s: 0.5}}"
            )
            bad = {"fault": "[1, 0", "jam": "[2, 0", "load": "[0, 900"}[name] + ", 0" * (REGISTERS - 2) + "]"
            good = "[" + ", ".join("0" * REGISTERS) + "]"
            examples.append(
                f"  - {{condition: block{n}/{name}{n}, trips: {{block{n}: {bad}}},"
                f" clears: {{block{n}: {good}}}}}"
            )
    return text(
        "bench-block", __file__, reads=reads, signals=signals, conditions=conditions, examples=examples
    )


def figures(*, devices: int = DEVICES, many: int = MANY, seconds: float = 30.0) -> Iterator[Figure]:
    for every_s in (1.0, 0.1):
        with _floor(devices) as floor:
            bare = _bare(floor.ports, every_s, seconds)
            with _agent(floor.ports, every_s) as agent:
                cores, asked = _watched(agent, floor, seconds)
                kept, late_ms = _grid(asked, every_s, seconds)
                what = f"{devices} devices, each {every_s:g} s"
                yield Figure(f"{what}: cores of a loop that only reads", bare)
                yield Figure(f"{what}: cores of the agent", cores, "", cores / bare, "1.5")
                yield Figure(f"{what}: share of the polls that were made", kept, "0.995")
                yield Figure(f"{what}: how late they began, p99, ms", late_ms, "10")
                yield Figure(f"{what}: memory, MB", _rss_mb(agent.pid), "75")
    with _floor(devices, "--changing") as floor:
        bare = _bare(floor.ports, 0.1, seconds)
        with _agent(floor.ports, 0.1) as agent:
            cores, _ = _watched(agent, floor, seconds)
            what = f"{devices} devices, each 0.1 s, one read of each says something else each time"
            yield Figure(f"{what}: cores of the agent", cores, "", cores / bare)
    with _floor(many) as floor, _agent(floor.ports, 1.0) as agent:
        cores, _ = _watched(agent, floor, seconds)
        yield Figure(f"{many} devices, each 1 s: cores of the agent", cores)
        yield Figure(f"{many} devices, each 1 s: memory, MB", _rss_mb(agent.pid), "95")
    with _agent([], 1.0) as agent:
        before_s = _cpu_s(agent.pid)
        time.sleep(seconds)
        yield Figure("an agent that watches nothing: cores", (_cpu_s(agent.pid) - before_s) / seconds)


def _watched(agent: subprocess.Popen[str], floor: _Floor, seconds: float) -> tuple[float, list[list[int]]]:
    """Cores that it takes, and when each device was asked, in ns."""
    time.sleep(min(WARM_UP_S, seconds))
    floor.order("begin")
    before_s, began_s = _cpu_s(agent.pid), time.perf_counter()
    time.sleep(seconds)
    took_s = time.perf_counter() - began_s
    cores = (_cpu_s(agent.pid) - before_s) / took_s
    asked: list[list[int]] = json.loads(floor.order("tell"))
    return cores, asked


def _grid(asked: Sequence[Sequence[int]], every_s: float, seconds: float) -> tuple[float, float]:
    """Share of the polls that came, and by how much later than on the grid, p99 in ms."""
    every_ns = every_s * 1e9
    late: list[float] = []
    for times in asked:
        behind = [(at - times[0] + every_ns / 2) % every_ns - every_ns / 2 for at in times]
        late += [one - min(behind) for one in behind]
    wanted = len(asked) * seconds / every_s
    late.sort()
    return min(1.0, len(late) / wanted), late[len(late) * 99 // 100] / 1e6


class _Floor:
    """All devices, in a program of their own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert process.stdout is not None
        self.ports: list[int] = json.loads(process.stdout.readline())

    def order(self, word: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()


@contextmanager
def _floor(devices: int, *more: str) -> Iterator[_Floor]:
    with _program("--serve", str(devices), *more) as process:
        yield _Floor(process)


def _bare(ports: Sequence[int], every_s: float, seconds: float) -> float:
    """Cores of a loop that makes the requests that the agent makes, and no more."""
    with _program("--read", ",".join(map(str, ports)), "--every", str(every_s)) as process:
        time.sleep(min(WARM_UP_S, seconds))
        before_s, began_s = _cpu_s(process.pid), time.perf_counter()
        time.sleep(seconds)
        return (_cpu_s(process.pid) - before_s) / (time.perf_counter() - began_s)


@contextmanager
def _program(*words: str) -> Iterator[subprocess.Popen[str]]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-m", "bench.cost", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def _agent(ports: Sequence[int], every_s: float) -> Iterator[subprocess.Popen[str]]:
    """The real program: watching, detecting, with a journal. It is not enrolled, so it sends nothing."""
    with tempfile.TemporaryDirectory(prefix="andon-bench-") as name:
        folder = Path(name)
        (folder / "profiles").mkdir()
        write_profile(folder / "profiles")
        (folder / "agent.toml").write_text(_config(folder, ports, every_s))
        command = [sys.executable, "-m", "edge_agent", "run", "--config", str(folder / "agent.toml")]
        with (
            (folder / "agent.log").open("wb") as log,
            subprocess.Popen(command, stdout=log, stderr=log, text=True) as process,
        ):
            try:
                until_s = time.monotonic() + STARTS_WITHIN_S
                while "started" not in (told := (folder / "agent.log").read_text()):
                    assert process.poll() is None, told
                    assert time.monotonic() < until_s, told
                    time.sleep(0.1)
                yield process
            finally:
                process.terminate()
                process.wait()


def write_profile(folder: Path) -> None:
    (folder / "bench-block.yaml").write_text(_profile())


def buses(ports: Sequence[int], every_s: float) -> str:
    """Of agent.toml: a device on each port."""
    told = []
    for number, port in enumerate(ports):
        told.append(
            f'[[bus]]\nname = "bus-{number}"\ntransport = "modbus"\nhost = "127.0.0.1"\nport = {port}\n'
            f'[[device]]\nid = "plc-{number}"\nbus = "bus-{number}"\nprofile = "bench-block"\n'
            f'place = "hall/line"\n[device.set]\n'
        )
        told += [f"reads.block{n}.every_s = {every_s}\n" for n in range(READS)]
    return "".join(told)


def _config(folder: Path, ports: Sequence[int], every_s: float) -> str:
    head = (
        f'[collector]\nurl = "http://127.0.0.1:{free_port()}"\n[agent]\nsite = "{SITE}"\ngateway = "gw-1"\n'
        f'data_dir = "{folder / "data"}"\nprofiles_dir = "{folder / "profiles"}"\n'
    )
    return head + buses(ports, every_s)


def _cpu_s(pid: int) -> float:
    """Of all threads, to the nanosecond (/proc/PID/stat counts in hundredths of a second)."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(one.read_text().split()[0]) for one in threads) / 1e9


def _rss_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


# --- the other programs ----------------------------------------------------------------------------------


async def _serve(devices: int, *, changing: bool) -> None:
    asked = [array.array("q") for _ in range(devices)]
    ports = []
    for number in range(devices):
        ports.append(free_port())
        await _one_device(ports[-1], asked[number], changing=changing)
    print(json.dumps(ports), flush=True)
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while order := (await orders.readline()).strip():
        if order == b"begin":
            for times in asked:
                del times[:]
            print("", flush=True)
        else:
            print(json.dumps([list(times) for times in asked]), flush=True)


async def _one_device(port: int, asked: array.array[int], *, changing: bool) -> None:
    async def note(*request: Any) -> None:
        asked.append(time.monotonic_ns())
        if changing:
            registers: list[int] = request[4]
            registers[REGISTERS - 1] = len(asked) & 0xFFFF

    memory = SimData(0, values=[0] * BLOCK, datatype=DataType.REGISTERS)
    server = ModbusTcpServer(SimDevice(1, simdata=memory, action=note), address=("127.0.0.1", port))
    await server.serve_forever(background=True)


async def _read(ports: Sequence[int], every_s: float) -> None:
    async def read(port: int) -> None:
        client = AsyncModbusTcpClient("127.0.0.1", port=port, retries=0)
        await client.connect()
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            answer = await client.read_holding_registers(0, count=BLOCK, device_id=1)
            assert not answer.isError()
            due += every_s
            await asyncio.sleep(due - loop.time())

    async with asyncio.TaskGroup() as group:
        for port in ports:
            group.create_task(read(port))


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.cost")
    parser.add_argument("--serve", type=int, help="so many devices; prints their ports")
    parser.add_argument("--changing", action="store_true", help="the last register of the first read")
    parser.add_argument("--read", help="ports, to be read as the agent reads them")
    parser.add_argument("--every", type=float, default=1.0)
    asked = parser.parse_args()
    if asked.serve:
        uvloop.run(_serve(asked.serve, changing=asked.changing))
    elif asked.read:
        uvloop.run(_read([int(port) for port in asked.read.split(",")], asked.every))
    else:
        show(figures())


if __name__ == "__main__":
    main()
