"""`kill -9` of the real agent at random moments, while its devices toggle as fast as they can."""

import asyncio
import contextlib
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from kills import books, figures
from kills.books import Book, CollectorBooks
from kills.figures import Figures
from rigs import postgres
from rigs.collector_program import CollectorProgram, collector_program
from rigs.ports import wait_until
from rigs.warehouse import SITE, Agent

from device_profiles.simulators.serving import Tcp

GATEWAY = "gw-1"
DEVICES = 3
BELTS = 8
EVERY_S = 0.01
# How long it lives once it watches; one in ten is killed before that.
LIVES_S = 0.8
STARTS_S = 1.2

PROFILE = f"""\
schema: 1
name: belts
title: Some belts that say in one line which of them are jammed
maker: Nobody
models: [B{BELTS}]
evidence: simulated
source: made for a test
transports: [tcp]
framing: line
reads:
  voice: {{listen: true}}
signals:
""" + "".join(
    f"  jam-{n}: {{read: voice, field: {n}, type: bool, source: made for a test}}\n" for n in range(BELTS)
)
PROFILE += "conditions:\n" + "".join(
    f"  - {{component: belt-{n}, fault: jam, title: Jam, severity: stop, "
    f"when: {{is: {{signal: jam-{n}, value: true}}}}}}\n"
    for n in range(BELTS)
)


class Belts:
    """One device: each line that it says changes some of its belts."""

    def __init__(self, name: str, dice: random.Random) -> None:
        self.name = name
        self.outlet = Tcp()
        self._dice = dice
        self._jammed = [False] * BELTS
        # How often each belt was said to be jammed after it was not.
        self.jams: Counter[str] = Counter()
        self.calm = False

    async def run(self) -> None:
        while True:
            for number in range(BELTS):
                jammed = not self.calm and self._jammed[number] ^ (self._dice.random() < 0.2)
                if jammed and not self._jammed[number]:
                    self.jams[f"{self.name}|belt-{number}|jam"] += 1
                self._jammed[number] = jammed
            self.outlet.say(",".join(str(int(jammed)) for jammed in self._jammed).encode() + b"\r\n")
            await asyncio.sleep(EVERY_S)


@contextlib.asynccontextmanager
async def belts(dice: random.Random) -> AsyncIterator[list[Belts]]:
    devices = [Belts(f"conveyor-{number}", dice) for number in range(DEVICES)]
    talking = []
    for device in devices:
        await device.outlet.start(lambda: lambda _: b"")
        talking.append(asyncio.create_task(device.run()))
    try:
        yield devices
    finally:
        for talk in talking:
            talk.cancel()
        await asyncio.gather(*talking, return_exceptions=True)
        for device in devices:
            await device.outlet.stop()


def configured(folder: Path, collector: CollectorProgram, devices: list[Belts]) -> Agent:
    agent = Agent(folder / GATEWAY, GATEWAY)
    profiles = folder / "profiles"
    profiles.mkdir()
    (profiles / "belts.yaml").write_text(PROFILE)
    tables = f'profiles_dir = "{profiles}"\n' + "".join(
        f'[[bus]]\nname = "{one.name}"\ntransport = "tcp"\nhost = "127.0.0.1"\nport = {one.outlet.port}\n'
        f'[[device]]\nid = "{one.name}"\nbus = "{one.name}"\nprofile = "belts"\nplace = "hall"\n'
        for one in devices
    )
    agent.configure(tables)
    printed = collector.command("gateway", "add", SITE, GATEWAY)
    agent.enroll(collector.url, next(word for word in printed.split() if word.startswith("enr_")))
    return agent


class Said:
    """What the agent says that it has written down, across its lives."""

    def __init__(self, agent: Agent) -> None:
        self._log = agent.log
        self._read = 0
        self.raised: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self.starts = 0

    def more(self) -> None:
        with self._log.open("rb") as log:
            log.seek(self._read)
            for line in log.read().splitlines(keepends=True):
                if line.endswith(b"\n"):
                    self._read += len(line)
                    self._hear(line.decode())

    def _hear(self, line: str) -> None:
        self.starts += "watching=" in line
        found = re.search(r"\b(raised|ended)\b.*condition=(\S+)", line)
        if found is not None:
            (self.raised if found[1] == "raised" else self.ended)[found[2].strip("'\"")] += 1


def judge(book: Book, before: Book, said: Said, jams: Counter[str], kills: int) -> None:
    """The journal after a kill."""
    assert books.lost(before, book) == []
    rows = Counter(entry.key for entry in book.values())
    closed = Counter(entry.key for entry in book.values() if not entry.open)
    opened = Counter(entry.key for entry in book.values() if entry.open)
    assert max(opened.values(), default=0) <= 1
    for key, times in jams.items():
        assert said.raised[key] <= rows[key] <= said.raised[key] + kills, f"{key}: said, then not there"
        assert said.ended[key] <= closed[key] <= said.ended[key] + kills, f"{key}: said, then not there"
        assert rows[key] <= times, f"{key}: raised more often than it was jammed"
    not_running = [key for key in rows if key == f"{GATEWAY}|agent|not-running"]
    assert len(rows) == len(jams.keys() & rows.keys()) + len(not_running), f"invented: {rows.keys()}"


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_what_the_agent_has_written_down_survives_kill_9(database: str, tmp_path: Path) -> None:
    # The agent does not know which one it is: half of the kills each.
    kills, seed = figures.KILLS // 2 or figures.IN_THE_SUITE, 1 if database == "sqlite" else 2
    with contextlib.ExitStack() as stack:
        flags: list[str] = []
        if database == "postgresql":
            flags = [
                "--database-url",
                postgres.new_database(stack.enter_context(postgres.running(tmp_path / "pg"))),
            ]
        program = stack.enter_context(collector_program(tmp_path / "collector", *flags))
        url = flags[1] if flags else f"sqlite:///file:{tmp_path}/collector/collector.sqlite3?mode=ro&uri=true"
        collector = CollectorBooks(url)
        stack.callback(collector.close)
        async with belts(random.Random(seed)) as devices:
            agent = configured(tmp_path, program, devices)
            try:
                await _killed_again_and_again(agent, devices, collector, kills, seed, database)
            finally:
                agent.stop()


async def _killed_again_and_again(
    agent: Agent, devices: list[Belts], collector: CollectorBooks, kills: int, seed: int, database: str
) -> None:
    dice, said, book = random.Random(seed), Said(agent), Book()
    told = Figures(what=f"agent (its collector on {database})")
    for _ in range(kills):
        begun, starts = time.monotonic(), said.starts
        agent.start()
        if dice.random() < 0.1:
            await asyncio.sleep(dice.random() * STARTS_S)
        else:
            await _started(said, begun, told)
            await asyncio.sleep(dice.random() * LIVES_S)
        agent.kill()
        said.more()
        told.while_starting += said.starts == starts
        after = await asyncio.to_thread(books.of_journal, agent.data_dir)
        told.killed()
        jams = sum((device.jams for device in devices), Counter[str]())
        told.lost += len(books.lost(book, after))
        judge(after, book, said, jams, told.kills)
        book = after
        told.promised = len(book)
    # All is well now, and the agent lives: everything arrives.
    for device in devices:
        device.calm = True
    agent.start()
    await wait_until(
        lambda: _all_arrived(collector, book), deadline_s=60 + kills, what="all rows at the collector"
    )
    agent.stop()
    book = books.of_journal(agent.data_dir)
    found = collector.occurrences()
    told.lost += len(books.lost(book, found))
    assert found == book
    assert not any(entry.open for entry in found.values())
    broken = collector.broken_promises()
    told.doubled += len(broken)
    assert broken == []
    assert said.raised.total() > kills, "there was no load"


async def _started(said: Said, begun: float, told: Figures) -> None:
    starts = said.starts

    def has_started() -> bool:
        said.more()
        return said.starts > starts

    await wait_until(has_started, what="the agent watches")
    told.start_s.append(time.monotonic() - begun)


def _all_arrived(collector: CollectorBooks, book: Book) -> bool:
    found = collector.occurrences()
    return not books.lost(book, found) and not any(entry.open for entry in found.values())
