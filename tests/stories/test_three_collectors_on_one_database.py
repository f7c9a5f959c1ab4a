"""Three collectors with different clocks on one PostgreSQL, a balancer that hops with every request, and one
of the three killed again and again: nothing is lost, nothing counts twice, and pages follow.

`make kill-test` does it for longer.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
from kills import books, figures
from kills.books import Book, CollectorBooks
from kills.figures import Figures
from rigs import collector_program as programs
from rigs import postgres
from rigs.balancer import Balancer, balancing
from rigs.collector_server import CollectorServer
from rigs.journals import closing, opening
from rigs.ports import wait_until
from rigs.web import csrf_in
from sqlalchemy import create_engine, select

from collector import auth
from collector.store import tables
from edge_agent import wire
from edge_agent.clock import Clock
from edge_agent.forward import Forwarder
from edge_agent.journal import Journal
from edge_agent.post import Line, http_post

SITE = "north"
CLOCKS_OFF_S = (0, -90, 90)
AGENTS = 3
IN_THE_SUITE = 3
# Of the kills of `make kill-test`, one in so many.
SHARE = 5
# Each agent toggles its own belts and two that all of them watch.
BELTS = 3
SHARED = ("scale-1", "scale-2")
EVERY_S = 0.1
# Between two kills.
LIVES_S = (1.0, 3.0)
PATIENCE_S = 120.0


class Agent:
    """The real journal and forwarder; ``toggles`` is the equipment."""

    def __init__(self, name: str, journal: Journal, forwarder: Forwarder, clock: Clock) -> None:
        self.name, self.journal, self.forwarder = name, journal, forwarder
        self._clock = clock
        self._dice = random.Random(name)
        self._broken: set[str] = set()
        # By uid, on the clock of this machine.
        self.raised_ms: dict[str, int] = {}
        self.belts = [f"{name}-belt-{number}" for number in range(BELTS)]

    async def toggles(self) -> None:
        while True:
            await self.turn(self._dice.choice([*self.belts, *SHARED]))
            await asyncio.sleep(EVERY_S)

    async def turn(self, device: str) -> str:
        """The uid of what was raised or closed."""
        make = closing if device in self._broken else opening
        (row,) = await self.journal.commit([make(self._clock, device)])
        if make is opening:
            self.raised_ms[row.uid] = row.raised.wall_ms
        self._broken ^= {device}
        return row.uid

    async def calm(self) -> None:
        """What the journal holds open: the last toggle may have been cut off after its commit."""
        for row in await self.journal.open_occurrences():
            await self.journal.commit([closing(self._clock, row.device)])
        self._broken.clear()


async def enrolled(server: CollectorServer, url: str, name: str, database: str) -> str:
    printed = await asyncio.to_thread(
        programs.run, server.data_dir, "gateway", "add", SITE, name, "--database-url", database
    )
    token = next(word for word in printed.split() if word.startswith("enr_"))
    secret = auth.new_secret()
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as client:
        body = {"token": token, "secret_hash": auth.sha256(secret)}
        answer = (await client.post(wire.ENROLL_PATH, json=body)).raise_for_status()
    return f"{answer.json()['credential']}.{secret}"


@contextlib.asynccontextmanager
async def agent(folder: Path, name: str, url: str, credential: str) -> AsyncIterator[Agent]:
    clock = Clock()
    journal = await Journal.open(folder, new_id=_id, stamp=clock.stamp)
    client = Line()
    inventory = wire.Inventory(hash="0" * 64, devices=[])
    forwarder = Forwarder(
        journal,
        http_post(client, url, credential),
        inventory=inventory,
        unsettled=list,
        health=wire.Health,
        on_closed_here=_ignore,
        stamp=clock.stamp,
        random=random.Random(name),
    )
    forwarding = asyncio.create_task(forwarder.run())
    try:
        yield Agent(name, journal, forwarder, clock)
    finally:
        forwarding.cancel()
        await asyncio.gather(forwarding, return_exceptions=True)
        await client.aclose()
        await journal.close()


def _id() -> str:
    return f"{random.SystemRandom().getrandbits(128):032x}"


async def _ignore(_: object) -> None:
    """Nothing here is closed by the collector while it goes on."""


class Page:
    """An open page of a technician: what it was told, over as many streams as it took."""

    def __init__(self, cookies: httpx.Cookies, where: Callable[[], str]) -> None:
        self._cookies = cookies
        self._where = where
        self.told: list[str] = []
        self.streams = 0

    async def listen(self) -> None:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                async with (
                    httpx.AsyncClient(cookies=self._cookies, trust_env=False, timeout=30) as client,
                    client.stream("GET", f"{self._where()}/live") as stream,
                ):
                    stream.raise_for_status()
                    async for line in stream.aiter_lines():
                        # The first word of a collector that hears the others.
                        self.streams += line.startswith(": listening")
                        self.told.append(line)
            await asyncio.sleep(0.1)

    def was_told(self, ticket: str) -> bool:
        return any(ticket in line for line in self.told)


async def logged_in(url: str) -> httpx.Cookies:
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as client:
        form = await client.get("/login")
        fields = {"csrf": csrf_in(form.text), "name": "bob", "password": programs.PASSWORD}
        answer = await client.post("/login", data=fields)
        assert answer.status_code == 303, answer.text
        return client.cookies


@contextlib.asynccontextmanager
async def running(*tasks: asyncio.Task[None]) -> AsyncIterator[None]:
    try:
        yield
        for task in tasks:
            assert not task.done(), task.exception()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_three_collectors_behind_a_balancer_are_as_good_as_one(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        database = postgres.new_database(stack.enter_context(postgres.running(tmp_path / "pg")))
        servers = [
            CollectorServer(tmp_path / f"collector-{number}", database, clock_off_s=off_s)
            for number, off_s in enumerate(CLOCKS_OFF_S)
        ]
        for server in servers:
            stack.callback(server.kill)
            # Together: one of them makes the tables.
            server.start()
        for server in servers:
            await asyncio.to_thread(server.until_it_listens)
        balancer = await stack.enter_async_context(balancing([server.port for server in servers]))
        await asyncio.to_thread(
            programs.run,
            servers[0].data_dir,
            *("user", "add", "bob", "--role", "technician", "--site", SITE, "--password-stdin"),
            *("--database-url", database),
            text=f"{programs.PASSWORD}\n",
        )
        agents = []
        for number in range(AGENTS):
            name = f"gw-{number}"
            credential = await enrolled(servers[0], balancer.url, name, database)
            (tmp_path / name).mkdir()
            agents.append(
                await stack.enter_async_context(agent(tmp_path / name, name, balancer.url, credential))
            )
        cookies = await logged_in(balancer.url)
        await _a_page_at_one_hears_of_what_comes_in_by_another(servers, cookies, tmp_path, database)
        told = Figures(what="one of three collectors on postgresql")
        page = Page(cookies, lambda: balancer.url)
        toggling = [asyncio.create_task(one.toggles()) for one in agents]
        async with running(asyncio.create_task(page.listen()), *toggling):
            await _kill_again_and_again(servers, told)
        for one in agents:
            await one.calm()
        async with running(asyncio.create_task(page.listen())):
            before = page.streams
            await wait_until(lambda: page.streams > before, PATIENCE_S, "the page listens again")
            last = await agents[0].turn("the-last-one")
            await wait_until(lambda: page.was_told(last), PATIENCE_S, "the page follows after all that")
            await agents[0].turn("the-last-one")
        await _all_there(agents, tmp_path, database, told, balancer)


async def _a_page_at_one_hears_of_what_comes_in_by_another(
    servers: list[CollectorServer], cookies: httpx.Cookies, folder: Path, database: str
) -> None:
    page = Page(cookies, lambda: servers[0].url)
    credential = await enrolled(servers[0], servers[0].url, "gw-gone", database)
    (folder / "gw-gone").mkdir()
    async with (
        running(asyncio.create_task(page.listen())),
        agent(folder / "gw-gone", "gw-gone", servers[1].url, credential) as other,
    ):
        await wait_until(lambda: page.streams, PATIENCE_S, "the page listens")
        uid = await other.turn("gate-1")
        await wait_until(lambda: page.was_told(uid), PATIENCE_S, "the page follows")
        await other.turn("gate-1")
        told, held = books.of_journal(folder / "gw-gone"), CollectorBooks(database)
        await wait_until(lambda: not books.lost(told, held.occurrences()), PATIENCE_S, "its end has arrived")


async def _kill_again_and_again(servers: list[CollectorServer], told: Figures) -> None:
    dice = random.Random(1)
    for _ in range(figures.KILLS // SHARE or IN_THE_SUITE):
        await asyncio.sleep(dice.uniform(*LIVES_S))
        victim = dice.choice(servers)
        await asyncio.to_thread(victim.kill)
        told.killed()
        begun = time.monotonic()
        await asyncio.to_thread(victim.start)
        await asyncio.to_thread(victim.until_it_listens)
        told.start_s.append(time.monotonic() - begun)


async def _all_there(
    agents: list[Agent], folder: Path, database: str, told: Figures, balancer: Balancer
) -> None:
    collector = CollectorBooks(database)
    expected: Book = {}
    for one in agents:
        for row in await one.journal.open_occurrences():
            raise AssertionError(f"still open: {row}")
    names = [one.name for one in agents]

    def arrived() -> bool:
        expected.clear()
        for name in [*names, "gw-gone"]:
            expected.update(books.of_journal(folder / name))
        found = collector.occurrences()
        return not books.lost(expected, found) and not any(entry.open for entry in found.values())

    await wait_until(arrived, PATIENCE_S, "all rows at the collectors")
    told.promised = len(expected)
    assert collector.occurrences() == expected
    broken = collector.broken_promises()
    entries = _entries(database)
    told.doubled += len(broken)
    assert broken == []
    twice = [entry for entry, times in entries.items() if times > 1 and entry[1] in ("opened", "history")]
    assert twice == []
    dated = _dates(database)
    true_ms = {uid: raised_ms for one in agents for uid, raised_ms in one.raised_ms.items()}
    off_ms = max(abs(dated[uid] - raised_ms) for uid, raised_ms in true_ms.items())
    assert off_ms < min(abs(off_s) for off_s in CLOCKS_OFF_S if off_s) * 1000 / 2, "dated by a wrong clock"
    if figures.KILLS:
        # No collector lived for as long as a gateway may be silent; together they did.
        await wait_until(lambda: _tickets_of(database, "silent"), PATIENCE_S, "who is gone is called silent")
    silent = _tickets_of(database, "silent")
    assert silent <= Counter({"gw-gone": 1}), "somebody who was heard was called silent, or one twice"
    # Every collector was asked, the one with the slow clock and the one with the quick one too.
    assert min(balancer.requests.values()) > 5
    assert len(balancer.requests) == len(CLOCKS_OFF_S)


def _entries(database: str) -> Counter[tuple[str, str]]:
    entry = tables.ticket_entry.c
    return Counter(
        (row.ticket_id, row.reason) for row in _rows(database, select(entry.ticket_id, entry.reason))
    )


def _dates(database: str) -> dict[str, int]:
    occurrence = tables.occurrence.c
    return {row.uid: row.raised_ms for row in _rows(database, select(occurrence.uid, occurrence.raised_ms))}


def _tickets_of(database: str, fault: str) -> Counter[str]:
    ticket = tables.ticket.c
    return Counter(row.device for row in _rows(database, select(ticket.device).where(ticket.fault == fault)))


def _rows(database: str, query: object) -> list[object]:
    engine = create_engine(database.replace("postgresql://", "postgresql+psycopg://"))
    try:
        with engine.connect() as connection:
            return list(connection.execute(query))  # type: ignore[call-overload]
    finally:
        engine.dispose()
