"""From the change of a register in a Modbus server to the durable row at the edge and to the ticket that
people see: the real agent and the real collector, each a program of its own.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from bench.profiles import text
from bench.table import Figure, show
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice
from rigs.ports import free_port, listens, wait_until
from rigs.warehouse import People, warehouse

from edge_agent.journal import FILE

EVERY_S = 0.1
# The journal is looked at so often, the list of tickets pauses so long between two looks.
LOOK_ROW_S, LOOK_TICKET_S = 0.001, 0.005
WITHIN_S = 30.0
# A fault of its own for each change: one that came and went so often would be one that pauses.
WORDS, BITS = 8, 16


class Register:
    """The word of a device, which knows when it was first read after it was changed."""

    def __init__(self) -> None:
        self.asked_s: float | None = None
        self._words = [0] * WORDS

    def change(self, bit: int) -> float:
        """When it was changed."""
        self._words[bit // BITS] ^= 1 << bit % BITS
        self.asked_s = None
        return time.perf_counter()

    async def answer(
        self,
        _function: int,
        start: int,
        address: int,
        count: int,
        registers: list[int],
        _written: list[int] | list[bool] | None,
    ) -> None:
        """As pymodbus asks for it, just before it reads."""
        registers[address - start : address - start + count] = self._words[address : address + count]
        if self.asked_s is None:
            self.asked_s = time.perf_counter()


@dataclass(frozen=True, slots=True)
class Took:
    """Milliseconds from the change, and from the first read that saw it."""

    whole: list[float] = field(default_factory=list)
    net: list[float] = field(default_factory=list)

    def add(self, changed_s: float, register: Register, seen_s: float) -> None:
        assert register.asked_s is not None, "seen before it was read"
        self.whole.append((seen_s - changed_s) * 1000)
        self.net.append((seen_s - register.asked_s) * 1000)


def figures(*, changes: int = 150) -> Iterator[Figure]:
    row, ticket = asyncio.run(_measure(changes))
    for what, took in (("the durable row", row), ("the ticket over HTTP", ticket)):
        for share in (50, 99):
            yield Figure(f"register change to {what}, p{share}, ms", _at(took.whole, share))
            yield Figure(f"  of it after the register was read, p{share}, ms", _at(took.net, share))


async def _measure(changes: int) -> tuple[Took, Took]:
    row, ticket = Took(), Took()
    with tempfile.TemporaryDirectory(prefix="andon-bench-") as folder:
        async with plc() as (port, register), warehouse(Path(folder)) as site:
            profiles = Path(folder) / "profiles"
            profiles.mkdir()
            (profiles / "bench-bits.yaml").write_text(_profile())
            agent = site.agent(_lines(port), environment={"EDGE_AGENT_AGENT__PROFILES_DIR": str(profiles)})
            await site.reader.until(lambda: _is_watched(site.reader), "the device is known")
            with closing(sqlite3.connect(f"file:{agent.data_dir / FILE}?mode=ro", uri=True)) as journal:
                for number in range(changes):
                    await asyncio.sleep(EVERY_S * (1 + number % 10 / 10))
                    await _change(register, number, journal, site.reader, row, ticket)
    return row, ticket


async def _change(
    register: Register, number: int, journal: sqlite3.Connection, people: People, row: Took, ticket: Took
) -> None:
    """Each fault begins with one change and ends with the next."""
    fault, wanted = f"bit-{number // 2}", "cleared" if number % 2 else "active"
    before = _newest(journal)
    changed_s = register.change(number // 2)
    while _newest(journal) == before:
        assert time.perf_counter() - changed_s < WITHIN_S, "no row"
        await asyncio.sleep(LOOK_ROW_S)
    row.add(changed_s, register, time.perf_counter())
    while wanted not in [one["condition"] for one in await people.tickets() if one["fault"] == fault]:
        assert time.perf_counter() - changed_s < WITHIN_S, "no ticket"
        await asyncio.sleep(LOOK_TICKET_S)
    ticket.add(changed_s, register, time.perf_counter())


def _newest(journal: sqlite3.Connection) -> int:
    """In WAL another connection sees what is committed, and that is synced by then."""
    found = journal.execute("SELECT coalesce(max(mod_seq), 0) FROM occurrence WHERE key LIKE 'plc-1|%|bit-%'")
    return int(found.fetchone()[0])


async def _is_watched(people: People) -> bool:
    return bool((await people.get("/api/v1/devices"))["items"])


def _at(took: Sequence[float], share: int) -> float:
    return sorted(took)[len(took) * share // 100]


@asynccontextmanager
async def plc() -> AsyncIterator[tuple[int, Register]]:
    register, port = Register(), free_port()
    device = SimDevice(
        1, simdata=SimData(0, values=[0] * WORDS, datatype=DataType.REGISTERS), action=register.answer
    )
    server = ModbusTcpServer(device, address=("127.0.0.1", port))
    serving = asyncio.create_task(server.serve_forever())
    await wait_until(lambda: listens(port))
    try:
        yield port, register
    finally:
        await server.shutdown()
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving


def _profile() -> str:
    signals, conditions, examples = [], [], []
    for n in range(WORDS * BITS):
        word, bit = divmod(n, BITS)
        signals.append(
            f"  bit-{n}: {{read: words, register: {word}, bit: {bit}, source: tests/bench/floor.py}}"
        )
        conditions.append(
            f"  - {{fault: bit-{n}, component: words, title: Bit {n} is set, advice: Look., severity: stop,"
            f" when: {{is: {{signal: bit-{n}, value: true}}}}}}"
        )
        bad = [1 << bit if place == word else 0 for place in range(WORDS)]
        examples.append(
            f"  - {{condition: words/bit-{n}, trips: {{words: {bad}}}, clears: {{words: {[0] * WORDS}}}}}"
        )
    reads = [f"  words: {{function: 3, address: 0, count: {WORDS}, every_s: {EVERY_S}}}"]
    return text(
        "bench-bits", __file__, reads=reads, signals=signals, conditions=conditions, examples=examples
    )


def _lines(port: int) -> str:
    return f"""
[[bus]]
name = "plc"
transport = "modbus"
mode = "tcp"
host = "127.0.0.1"
port = {port}

[[device]]
id = "plc-1"
bus = "plc"
profile = "bench-bits"
unit = 1
"""


if __name__ == "__main__":
    show(figures())
