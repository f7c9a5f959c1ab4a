"""What the demo's programs are told: folders, ports, logins, configuration; kept between runs."""

from __future__ import annotations

import asyncio
import fcntl
import getpass
import json
import os
import secrets
import shutil
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx

from deploy.demo.programs import DemoError, Program, Supervisor

SITE = "demo"
GATEWAY = "gw-dock-1"
PREFERRED_PORT = 8420
MAX_PORT = 65_535
COLLECTOR_READY_WITHIN_S = 60
PEOPLE = {"tina": "technician", "leo": "lead", "ada": "admin"}
# Easy to read aloud and to type with gloves on.
WORDS = [
    "amber",
    "barrel",
    "castle",
    "dragon",
    "ember",
    "falcon",
    "garden",
    "harbor",
    "island",
    "jacket",
    "kettle",
    "ladder",
    "magnet",
    "needle",
    "orange",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    folder: Path
    port: int
    printer_port: int
    conveyor_port: int
    broker_port: int
    passwords: dict[str, str]
    lock: IO[str]

    @classmethod
    def prepare(cls, folder: Path) -> Site:
        """Raises DemoError when another demo runs on this folder."""
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DemoError(
                f"another demo is running on {folder}; stop it first, or set ANDON_DEMO_DIR"
            ) from error
        kept = _kept(folder / "demo.json")
        taken: set[int] = set()
        site = cls(
            folder=folder,
            port=_port(_wanted_port(), taken),
            printer_port=_port(19100, taken),
            conveyor_port=_port(15020, taken),
            broker_port=_port(11883, taken),
            passwords=kept,
            lock=lock,
        )
        site._write_configuration()
        return site

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        return {"PYTHONUNBUFFERED": "1"}

    def broker_command(self) -> list[str]:
        path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
        mosquitto = shutil.which("mosquitto", path=path)
        if mosquitto:
            return [mosquitto, "-c", str(self.folder / "mosquitto.conf")]
        return [sys.executable, "-m", "deploy.demo.broker", str(self.broker_port)]

    def floor_command(self) -> list[str]:
        return [
            *(sys.executable, "-m", "deploy.demo.floor", "--folder", str(self.folder / "floor")),
            *("--printer-port", str(self.printer_port), "--conveyor-port", str(self.conveyor_port)),
            *("--broker-port", str(self.broker_port)),
        ]

    def collector_command(self) -> list[str]:
        return [*self._collector("serve"), "--listen", f"127.0.0.1:{self.port}", "--log", "text"]

    def agent_command(self) -> list[str]:
        return [
            *(sys.executable, "-m", "edge_agent", "run"),
            *("--config", str(self.folder / "agent.toml"), "--log", "text"),
        ]

    async def first_run(self, supervisor: Supervisor) -> None:
        """Logins and the read-only token, before the collector serves; only where they are missing."""
        done = self.folder / "people.done"
        if done.exists():
            return
        supervisor.say("first run: making the database, the logins and an API token ...")
        for name, role in PEOPLE.items():
            command = [
                *self._collector("user", "add", name),
                "--role",
                role,
                "--site",
                "*",
                "--password-stdin",
            ]
            await supervisor.once(Program(f"user {name}", command), self.passwords[name] + "\n")
        # A first run that was broken off has made one whose secret nobody knows.
        label = f"demo {secrets.token_hex(4)}"
        command = [*self._collector("token", "add"), "--role", "read", "--site", "*", "--label", label]
        printed = await supervisor.once(Program("token", command))
        token = next(word for word in printed.split() if word.startswith("atk_"))
        _write_private(self.folder / "token", token)
        done.touch()

    async def wait_for_collector(self, supervisor: Supervisor) -> None:
        deadline = time.monotonic() + COLLECTOR_READY_WITHIN_S
        async with httpx.AsyncClient(trust_env=False) as client:
            while time.monotonic() < deadline and not supervisor.told_to_stop:
                try:
                    if (await client.get(f"{self.url}/readyz")).status_code == httpx.codes.OK:
                        return
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.2)
        if not supervisor.told_to_stop:
            raise DemoError(
                f"the collector did not become ready within {COLLECTOR_READY_WITHIN_S} s; see its lines above"
            )

    async def enroll(self, supervisor: Supervisor) -> None:
        if (self.folder / "agent" / "credential.json").exists():
            return
        printed = await supervisor.once(Program("gateway", self._collector("gateway", "add", SITE, GATEWAY)))
        token = next(word for word in printed.split() if word.startswith("enr_"))
        command = [sys.executable, "-m", "edge_agent", "enroll", self.url, token]
        await supervisor.once(Program("enroll", [*command, "--config", str(self.folder / "agent.toml")]))

    def welcome(self) -> str:
        token = (self.folder / "token").read_text().strip()
        logins = ", ".join(f"{name} / {self.passwords[name]} ({role})" for name, role in PEOPLE.items())
        return "\n".join(
            [
                "",
                f"Open {self.url} (desk) or {self.url}/m (handheld)",
                f"Logins: {logins}",
                f"API token (read-only): {token}",
                "Faults come and go by themselves; two stay for you to acknowledge. Ctrl-C stops everything.",
                "",
            ]
        )

    def _collector(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "collector", *words, "--data-dir", str(self.folder / "collector")]

    def _write_configuration(self) -> None:
        (self.folder / "floor").mkdir(exist_ok=True)
        # Started by root it would change its user, and with it lose the order to end with its parent.
        (self.folder / "mosquitto.conf").write_text(
            f"listener {self.broker_port} 127.0.0.1\nallow_anonymous true\npersistence false\n"
            f"user {getpass.getuser()}\nlog_dest stderr\nlog_type error\nlog_type warning\n"
        )
        template = (Path(__file__).parent / "agent.toml").read_text(encoding="utf-8")
        values = {
            "URL": self.url,
            "FOLDER": str(self.folder),
            "PRINTER_PORT": str(self.printer_port),
            "CONVEYOR_PORT": str(self.conveyor_port),
            "BROKER_PORT": str(self.broker_port),
        }
        for name, value in values.items():
            template = template.replace(f"@{name}@", value)
        (self.folder / "agent.toml").write_text(template, encoding="utf-8")


def _kept(file: Path) -> dict[str, str]:
    """Passwords: made at the first run, the same at every later one."""
    if not file.exists():
        made = {
            name: "-".join(secrets.choice(WORDS) for _ in range(3)) + f"-{secrets.randbelow(90) + 10}"
            for name in PEOPLE
        }
        _write_private(file, json.dumps(made))
    kept: dict[str, str] = json.loads(file.read_text())
    return kept


def _write_private(file: Path, text: str) -> None:
    file.touch(mode=0o600)
    file.write_text(text)


def _wanted_port() -> int:
    given = os.environ.get("ANDON_DEMO_PORT", str(PREFERRED_PORT))
    if not (given.isascii() and given.isdecimal() and len(given) <= 5 and int(given) <= MAX_PORT):
        raise DemoError(
            f"ANDON_DEMO_PORT: {given!r} is not a port, expected 1 to {MAX_PORT}, or 0 for a free one"
        )
    return int(given)


def _port(preferred: int, taken: set[int]) -> int:
    """The preferred port where it is free, else any."""
    for wanted in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", wanted))
            except OSError:
                continue
            port: int = probe.getsockname()[1]
            if port not in taken:
                taken.add(port)
                return port
    raise DemoError("no free TCP port on 127.0.0.1")
