"""The collector's application without a network around it, a clock that is set by hand, and the cast."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from rigs.edge_voice import MINUTE_MS, MONDAY_MS, EdgeVoice
from starlette.types import ASGIApp

from collector import admin, auth, passwords
from collector.app import assemble, assemble_parts
from collector.config import load
from collector.exchange import GatewayIdentity
from collector.ingest import Applied
from collector.parts import Parts
from collector.store import Store
from collector.tickets import Role
from edge_agent import wire

ROOT = "http://collector.test"
PASSWORD = "correct horse battery"
# Hashed once: it is the hashing that costs.
PASSWORD_HASH = passwords.hash_password(PASSWORD)

# Who is who in every test of the web side.
CAST: dict[str, tuple[Role, list[str]]] = {
    "alice": (Role.LEAD, ["north"]),
    "bob": (Role.TECHNICIAN, ["north"]),
    "carol": (Role.TECHNICIAN, ["south"]),
    "dave": (Role.INSTALLER, ["north"]),
    "erin": (Role.ADMIN, ["*"]),
}


@dataclass
class Clock:
    """Wall and monotonic time that stand still until they are moved."""

    ms: int = MONDAY_MS

    def now_ms(self) -> int:
        return self.ms

    def monotonic_s(self) -> float:
        return self.ms / 1000

    def forward(self, *, minutes: float = 0.0) -> None:
        self.ms += int(minutes * MINUTE_MS)

    @property
    def minute(self) -> float:
        return (self.ms - MONDAY_MS) / MINUTE_MS


@dataclass
class Gateway:
    """An enrolled gateway that speaks HTTP; ``voice`` keeps its rows and positions."""

    voice: EdgeVoice
    bearer: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.bearer}", "Content-Type": "application/json"}


@dataclass
class House:
    """One collector with its store and clock."""

    parts: Parts
    app: ASGIApp
    clock: Clock
    store: Store
    clients: list[httpx.AsyncClient] = field(default_factory=list)

    def client(self, **headers: str) -> httpx.AsyncClient:
        """A browser or program that knows nobody here yet."""
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        made = httpx.AsyncClient(transport=transport, base_url=ROOT, headers=headers)
        self.clients.append(made)
        return made

    def order(self, order: admin.AnyOrder) -> admin.Answer:
        now_ms, hours = self.clock.now_ms(), self.parts.settings.enrolment_hours
        return self.store.write(
            lambda connection: admin.perform(connection, order, now_ms, enrolment_hours=hours)
        )

    def add_cast(self) -> None:
        for name, (role, sites) in CAST.items():
            self.order(admin.AddPerson(name=name, role=role, sites=sites, password_hash=PASSWORD_HASH))

    def add_token(self, *, role: Role = Role.READ, sites: tuple[str, ...] = ("north",)) -> str:
        token_id, secret = auth.new_id(), auth.new_secret()
        order = admin.AddToken(
            id=token_id,
            secret_sha256=auth.sha256(secret),
            role=role,
            sites=list(sites),
            label=f"test {token_id}",
        )
        self.order(order)
        return f"atk_{token_id}.{secret}"

    def enrolment_token(self, site: str = "north", name: str = "gw1") -> str:
        token = f"enr_{auth.new_secret()}"
        self.order(admin.AddGateway(site=site, name=name, token_hash=auth.sha256(token)))
        return token

    async def log_in(self, name: str) -> httpx.AsyncClient:
        """Through the form, as a browser does."""
        client = self.client()
        form = await client.get("/login")
        answer = await client.post(
            "/login", data={"csrf": csrf_in(form.text), "name": name, "password": PASSWORD}
        )
        assert answer.status_code == 303, answer.text
        return client

    async def enrol(self, site: str = "north", name: str = "gw1") -> Gateway:
        secret = auth.new_secret()
        answer = await self.client().post(
            wire.ENROLL_PATH,
            json={"token": self.enrolment_token(site, name), "secret_hash": auth.sha256(secret)},
        )
        assert answer.status_code == 200, answer.text
        voice = EdgeVoice(gateway=GatewayIdentity(id="", site=site, name=name), seed=hash((site, name)))
        return Gateway(voice=voice, bearer=f"{answer.json()['credential']}.{secret}")

    async def sync(self, gateway: Gateway) -> wire.SyncAnswer:
        """One sync at the present minute."""
        message = gateway.voice.message(self.clock.minute)
        answer = await self.client().post(
            wire.SYNC_PATH, content=wire.encode(message), headers=gateway.headers
        )
        assert answer.status_code == 200, answer.text
        heard = wire.decode_answer(answer.content)
        gateway.voice.hear(Applied(answer=heard, changed=()))
        return heard

    async def ticket(self, *, site: str = "north", fault: str = "paper-out") -> str:
        """A printer of that site has stopped; the id of the ticket."""
        gateway = await self.enrol(site, f"gw-{fault}")
        gateway.voice.watches("printer-1")
        uid = gateway.voice.raises(self.clock.minute, fault=fault)
        await self.sync(gateway)
        return uid


@contextlib.asynccontextmanager
async def house(folder: Path, store: Store | None = None, **settings: object) -> AsyncIterator[House]:
    """Closed with its clients at the end."""
    clock = Clock()
    given = load(data_dir=folder, **settings)
    opened = store or Store.open(given.database)
    parts = assemble_parts(given, opened, now_ms=clock.now_ms, monotonic_s=clock.monotonic_s)
    made = House(parts=parts, app=assemble(parts), clock=clock, store=opened)
    try:
        yield made
    finally:
        for client in made.clients:
            await client.aclose()
        if store is None:
            opened.close()


def csrf_in(page: str) -> str:
    """The token in a page's forms."""
    found = re.search(r'name="csrf" value="([0-9a-f]+)"', page)
    assert found is not None, page
    return found[1]


def fields_in(page: str, action: str) -> dict[str, str]:
    """The hidden fields of the form that posts to ``action``."""
    form = re.search(rf'<form[^>]*action="{re.escape(action)}"[^>]*>(.*?)</form>', page, re.DOTALL)
    assert form is not None, f"no form for {action}"
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', form[1]))
