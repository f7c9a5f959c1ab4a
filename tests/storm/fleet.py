"""Many gateways in one process: of each the real journal (in memory), forwarder, wire and HTTP client; no
devices.

What a gateway hears is counted here, as its operator would feel it: how long a fresh stop takes to its
ticket, and which requests were for nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import trustme
from rigs.journals import InMemory
from rigs.watching import conveyor
from sqlalchemy import insert
from storm import backlog

from collector import admin, auth
from collector.store import Store, tables
from collector.tickets import Role
from edge_agent import clock
from edge_agent.forward import CollectorAwayError, Forwarder, Reply
from edge_agent.inventory import inventory
from edge_agent.journal import Journal
from edge_agent.post import Line, http_post
from edge_agent.wire import Health, Stamp, Verdict, decode_answer

# Boots lie so far back that a backlog of months fits into this one.
BOOTED_AGO_NS = 400 * 86_400 * 1_000_000_000
DEVICES = 5
FRESH_DEVICES = 400
SITES = 10
# Of a quiet time: so many exchanges at once.
GENTLY = 16
_CLOCK = clock.Clock()


@dataclass
class Counts:
    """Of a class of gateways. A request is for nothing when it was refused, or not answered, or its answer
    says that it was not needed."""

    requests: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    # From the commit of a fresh stop to the answer that confirms it.
    fresh_s: list[float] = field(default_factory=list)
    retry_after_s: list[float] = field(default_factory=list)
    # Answers that no agent may ever see.
    errors: list[str] = field(default_factory=list)

    def begin(self) -> None:
        """What was until now does not count."""
        for found in (self.requests, self.seconds, self.fresh_s, self.retry_after_s):
            found.clear()

    @property
    def wasted(self) -> int:
        return sum(self.requests.values()) - self.requests["200 ok"]


class Gateway:
    """``present`` is what is broken when it comes back, ``pending`` what was raised and is not confirmed."""

    def __init__(
        self, number: int, *, bearer: str, url: str, ca_file: Path, counts: Counts, devices: int
    ) -> None:
        self.name = _name(number)
        self.rng = random.Random(number)
        self.boot = self.new_id()
        self.counts = counts
        self.devices = [f"{self.name}-belt-{place}" for place in range(devices)]
        self.disk = InMemory(self.new_id)
        self.journal = Journal(self.disk, stamp=self.stamp)
        self.client = Line(ca_file)
        self.http = http_post(self.client, url, bearer)
        self.forwarder = Forwarder(
            self.journal,
            self._post,
            inventory=inventory([conveyor(device) for device in self.devices[:DEVICES]]),
            unsettled=list,
            health=lambda: Health(agent_version="0"),
            on_closed_here=self._closed_here,
            stamp=self.stamp,
            random=self.rng,
        )
        self.pending: dict[str, float] = {}
        self.present: set[str] = set()
        self.known_at: float | None = None
        self.caught_up_at: float | None = None

    def new_id(self) -> str:
        return f"{self.rng.getrandbits(128):032x}"

    def stamp(self) -> Stamp:
        real = _CLOCK.stamp()
        return Stamp(
            boot=self.boot, mono_ns=real.mono_ns + BOOTED_AGO_NS, wall_ms=real.wall_ms, source=real.source
        )

    @property
    def waiting(self) -> int:
        """Rows that the collector lacks, as far as this gateway knows."""
        found = self.disk.sql.execute(
            "SELECT count(*) FROM occurrence WHERE mod_seq > (SELECT cursor_seq FROM stream)"
        )
        return int(found.fetchone()[0])

    async def jam(self, device: str) -> str:
        """A stop begins; it is waiting for its confirmation from this moment on."""
        (row,) = await self.journal.commit([backlog.jam(device, self.stamp())])
        self.pending[row.uid] = time.monotonic()
        return row.uid

    async def clear(self, device: str) -> None:
        await self.journal.commit([backlog.cleared(device, self.stamp())])

    def gather(self, rows: int) -> None:
        backlog.gather(self.disk.ledger, self.rng, self.devices[1:DEVICES], rows, self.stamp())

    async def break_down(self) -> None:
        """While nobody hears of it, one device stops; that is its present when it comes back."""
        self.present = {await self.jam(self.devices[0])}
        self.pending.clear()
        self.known_at = self.caught_up_at = None

    def rows(self) -> dict[str, bool]:
        """Uid of each row in its journal, and whether it is open."""
        return {
            uid: bool(is_open) for uid, is_open in self.disk.sql.execute("SELECT uid, open FROM occurrence")
        }

    async def close(self) -> None:
        await self.client.aclose()
        await self.journal.close()

    async def _closed_here(self, uids: Collection[str]) -> None:
        self.counts.errors.append(f"{self.name}: closed here: {len(uids)}")

    async def _post(self, body: bytes) -> Reply:
        begun = time.monotonic()
        carried = {uid for uid in (*self.pending, *self.present) if uid.encode() in body}
        try:
            reply = await self.http(body)
        except CollectorAwayError as away:
            self.counts.requests[f"no answer: {type(away.__cause__).__name__}"] += 1
            raise
        now = time.monotonic()
        self.counts.seconds.append(now - begun)
        if reply.status != 200:
            self.counts.requests[str(reply.status)] += 1
            if reply.status not in (429, 503) or reply.retry_after_s is None:
                self.counts.errors.append(f"{self.name}: {reply.status} {reply.body[:200]!r}")
            else:
                self.counts.retry_after_s.append(reply.retry_after_s)
            return reply
        answer = decode_answer(reply.body)
        self.counts.requests[f"200 {answer.verdict}"] += 1
        if answer.verdict == Verdict.OK:
            for uid in carried.difference(answer.want):
                if (committed := self.pending.pop(uid, None)) is not None:
                    self.counts.fresh_s.append(now - committed)
                self.present.discard(uid)
            if not self.present and self.known_at is None:
                self.known_at = now
            if self.caught_up_at is None and b'"lane":"feed"' in body and b'"head":{' in body:
                self.caught_up_at = now
        return reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The credential of each gateway, and an API token that may read everything."""

    bearers: list[str]
    token: str


def enrol(database_url: str, gateways: int) -> Access:
    """Into a database that no collector uses yet."""
    bearers, rows = [], []
    for number in range(gateways):
        public, secret = f"agw_{auth.new_id()}", auth.new_secret()
        bearers.append(f"{public}.{secret}")
        rows.append(
            {
                "id": secrets.token_hex(16),
                "site": f"site-{number % SITES}",
                "name": _name(number),
                "created_ms": 1,
                "credential_id": public,
                "secret_sha256": auth.sha256(secret),
            }
        )
    token, secret = auth.new_id(), auth.new_secret()
    order = admin.AddToken(
        id=token, secret_sha256=auth.sha256(secret), role=Role.READ, sites=["*"], label="storm"
    )
    store = Store.open(database_url)
    try:
        store.write(lambda connection: connection.execute(insert(tables.gateway), rows))
        now_ms = int(time.time() * 1000)
        store.write(lambda connection: admin.perform(connection, order, now_ms, enrolment_hours=1))
    finally:
        store.close()
    return Access(bearers=bearers, token=f"atk_{token}.{secret}")


def _name(number: int) -> str:
    return f"gw-{number}"


def fleet_of(
    bearers: Sequence[str], url: str, directory: Path, counts: Sequence[Counts], *, fresh: Collection[int]
) -> list[Gateway]:
    """One gateway for each credential. Those of the numbers in ``fresh`` have many devices, so that each of
    their stops can be a new ticket."""
    ca_file = directory / "ca.pem"
    # A small one: the system's takes 10 ms to load, for each of a thousand.
    trustme.CA().cert_pem.write_to_path(ca_file)
    return [
        Gateway(
            number,
            bearer=bearer,
            url=url,
            ca_file=ca_file,
            counts=counts[number],
            devices=FRESH_DEVICES if number in fresh else DEVICES,
        )
        for number, bearer in enumerate(bearers)
    ]


async def quietly(fleet: Iterable[Gateway]) -> None:
    """Each until the collector has all of it and knows what it watches."""
    room = asyncio.Semaphore(GENTLY)

    async def settle(gateway: Gateway) -> None:
        async with room:
            rest = await gateway.forwarder.exchange()
            while not rest.until_rows:
                await asyncio.sleep(rest.seconds)
                rest = await gateway.forwarder.exchange()

    await asyncio.gather(*map(settle, fleet))


@contextlib.asynccontextmanager
async def forwarding(gateways: Collection[Gateway]) -> AsyncIterator[None]:
    """While inside, all of them forward; all begin at once."""
    tasks = [asyncio.create_task(gateway.forwarder.run(), name=gateway.name) for gateway in gateways]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if not isinstance(outcome, asyncio.CancelledError):
                raise AssertionError("a forwarder ended") from outcome
