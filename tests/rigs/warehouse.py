"""A warehouse in a test: the real collector, real agents on folders of their own, equipment on real lines."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
from rigs.collector_program import CollectorProgram, collector_program

SITE = "north"
# Long enough for a loaded machine; a story that passes never waits for it.
PATIENCE_S = 60.0
LOOK_AGAIN_S = 0.2
STOP_WITHIN_S = 20.0

Json = dict[str, Any]


class Agent:
    """`edge-agent run` as a program; may be killed and started again on the same folder."""

    def __init__(self, folder: Path, gateway: str) -> None:
        self.folder = folder
        self.gateway = gateway
        self.config = folder / "agent.toml"
        self.data_dir = folder / "data"
        self.log = folder / "agent.log"
        # Of its program, beside that of the test.
        self.environment: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def configure(self, buses_and_devices: str, collector: str = "") -> None:
        """``collector``: keys of that table; empty: as enrolled."""
        head = (
            f'[collector]\n{collector}\n[agent]\nsite = "{SITE}"\ngateway = "{self.gateway}"\n'
            f'data_dir = "{self.data_dir}"\nunreachable_after_s = 2\n'
        )
        self.config.write_text(head + buses_and_devices)

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "edge_agent", *words], capture_output=True, text=True, timeout=60
        )

    def enroll(self, url: str, token: str, *options: str) -> None:
        """As whom it is configured, if it is already."""
        kept = ["--config", str(self.config), "--data-dir", str(self.data_dir)]
        done = self.command("enroll", url, token, *kept, *options)
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "edge_agent", "run", "--config", str(self.config), "--log", "text"],
                stdout=log,
                stderr=log,
                env=os.environ | self.environment,
            )

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """It has its sockets and does nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """As a pulled plug would, but for what the kernel has not written yet."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        """As systemd does; the agent ends in order."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            assert self._process.wait(STOP_WITHIN_S) == 0, self.said()
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            self._process = None

    def said(self) -> str:
        return self.log.read_text(errors="replace")


class People:
    """Somebody with an API token of a role."""

    def __init__(self, collector: CollectorProgram, role: str, *, ca_file: Path | None = None) -> None:
        label = f"{role} {secrets.token_hex(4)}"
        token = collector.command("token", "add", "--role", role, "--site", SITE, "--label", label).strip()
        self._client = httpx.AsyncClient(
            base_url=collector.url,
            headers={"Authorization": f"Bearer {token}"},
            verify=ssl.create_default_context(cafile=ca_file),
            trust_env=False,
            timeout=30,
        )
        self._commands = 0
        self._role = role

    async def close(self) -> None:
        await self._client.aclose()

    async def get(self, path: str, **query: str) -> Json:
        answer = await self._client.get(path, params=query)
        answer.raise_for_status()
        found: Json = answer.json()
        return found

    async def tickets(self, **query: str) -> list[Json]:
        found = await self.get("/api/v1/tickets", **query)
        items: list[Json] = found["items"]
        return items

    async def order(self, ticket: Json, command: str, **body: Any) -> httpx.Response:
        self._commands += 1
        return await self._client.post(
            f"/api/v1/tickets/{ticket['id']}/{command}",
            json=body,
            headers={
                "Idempotency-Key": f"{self._role}-command-{self._commands}",
                "If-Match": f'"{ticket["version"]}"',
            },
        )

    async def eventually(
        self, look: Callable[[list[Json]], Json | bool | None], what: str, patience_s: float = PATIENCE_S
    ) -> Any:
        """The first truthy thing that ``look`` finds in the tickets."""
        end = time.monotonic() + patience_s
        while True:
            with contextlib.suppress(httpx.TransportError):
                tickets = await self.tickets()
                if found := look(tickets):
                    return found
                assert time.monotonic() < end, f"not within {patience_s:g} s: {what}; there are: {tickets}"
            assert time.monotonic() < end, f"not within {patience_s:g} s: {what}; the collector is away"
            await asyncio.sleep(LOOK_AGAIN_S)

    async def until(self, true: Callable[[], Awaitable[bool]], what: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while not await true():
            assert time.monotonic() < end, f"not within {PATIENCE_S:g} s: {what}"
            await asyncio.sleep(LOOK_AGAIN_S)

    async def ticket(
        self, device: str, fault: str, *, patience_s: float = PATIENCE_S, **fields: object
    ) -> Json:
        """Wait for the newest ticket of that fault with these fields."""

        def look(tickets: list[Json]) -> Json | None:
            for ticket in tickets:
                if ticket["device"] == device and ticket["fault"] == fault:
                    return ticket if fields.items() <= ticket.items() else None
            return None

        found: Json = await self.eventually(look, f"{device} {fault} {fields}", patience_s)
        return found


class Warehouse:
    """One collector and what is around it."""

    def __init__(self, folder: Path, collector: CollectorProgram) -> None:
        self.folder = folder
        self.collector = collector
        self.agents: list[Agent] = []
        self._people: dict[str, People] = {}

    @property
    def reader(self) -> People:
        return self._somebody("read")

    @property
    def technician(self) -> People:
        return self._somebody("technician")

    def _somebody(self, role: str) -> People:
        if role not in self._people:
            self._people[role] = People(self.collector, role)
        return self._people[role]

    async def close(self) -> None:
        for people in self._people.values():
            await people.close()
        for agent in self.agents:
            agent.stop()

    def gateway_token(self, name: str) -> str:
        printed = self.collector.command("gateway", "add", SITE, name)
        return next(word for word in printed.split() if word.startswith("enr_"))

    def agent(
        self, buses_and_devices: str, name: str = "gw-1", environment: dict[str, str] | None = None
    ) -> Agent:
        """An enrolled agent, started."""
        agent = Agent(self.folder / name, name)
        agent.environment = environment or {}
        agent.configure(buses_and_devices)
        agent.enroll(self.collector.url, self.gateway_token(name))
        agent.start()
        self.agents.append(agent)
        return agent


@contextlib.asynccontextmanager
async def warehouse(folder: Path) -> AsyncIterator[Warehouse]:
    with collector_program(folder / "collector") as collector:
        site = Warehouse(folder, collector)
        try:
            yield site
        finally:
            await site.close()


def serial_printer(path: Path, device: str = "printer-1") -> str:
    """A Zebra printer on a serial line, asked often so that a story is short."""
    return f"""
[[bus]]
name = "{device}"
transport = "serial"
port = "{path}"

[[device]]
id = "{device}"
bus = "{device}"
profile = "zebra-zpl"
place = "packing/line-1/station-3"

[device.set]
reads.status.every_s = 0.2
reads.errors.every_s = 0.2
"""
