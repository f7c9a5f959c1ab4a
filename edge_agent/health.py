"""How the agent itself is: what it tells the collector with each sync, and what it tells systemd."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NoReturn

from edge_agent.journal import FILE as JOURNAL
from edge_agent.schedule import KEPT_SHARE, Service
from edge_agent.wire import BusService, Health

# The collector hears of so many buses.
BUSES_TOLD = 16
# So often systemd hears that the agent is still starting, and for how much longer it should wait.
STARTING_EVERY_S, STARTING_FOR_S = 10.0, 30


def agent_version() -> str:
    try:
        return version("warehouse-andon")
    except PackageNotFoundError:
        return "unknown"


def measure(
    *,
    data_dir: Path,
    uptime_s: int,
    devices: int,
    devices_unreachable: int,
    counted: Mapping[str, int] | None = None,
    ballast: str | None = None,
    buses: Sequence[BusService] = (),
) -> Health:
    """What the forwarder sends along; it adds the rows that wait itself."""
    return Health(
        agent_version=agent_version(),
        uptime_s=uptime_s,
        # Not those that were set aside.
        journal_bytes=sum(
            file.stat().st_size for end in ("", "-wal") for file in data_dir.glob(f"{JOURNAL}{end}")
        ),
        disk_free_bytes=shutil.disk_usage(data_dir).free,
        devices=devices,
        devices_unreachable=devices_unreachable,
        ballast=ballast,
        buses_behind=sum(one.kept < KEPT_SHARE * one.due for one in buses),
        buses=sorted(buses, key=lambda one: one.kept / one.due if one.due else 1.0)[:BUSES_TOLD] or None,
        **{name: count for name, count in (counted or {}).items() if name in Health.model_fields},
    )


def bus_service(name: str, gave: Service, planned_s: float) -> BusService:
    return BusService(
        name=name,
        due=gave.due,
        kept=gave.kept,
        cycle_ms=None if gave.cycle_s is None else round(gave.cycle_s * 1000),
        planned_ms=round(planned_s * 1000),
        silent=gave.silent,
    )


class Systemd:
    """sd_notify(3): one datagram per message to $NOTIFY_SOCKET; silent where systemd did not start us."""

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        found = os.environ if environment is None else environment
        self._address = found.get("NOTIFY_SOCKET", "")
        # systemd wants a sign of life well inside its limit; sd_watchdog_enabled(3) recommends half of it.
        limit_us = int(found.get("WATCHDOG_USEC", "0") or "0")
        self.watchdog_every_s: float | None = limit_us / 2_000_000 if limit_us else None

    def tell(self, message: str) -> None:
        if not self._address:
            return
        # An address that starts with @ lies in the abstract namespace.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        # systemd is away while it is updated, and its queue may be full: no reason to stop watching.
        with (
            suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel,
        ):
            channel.setblocking(False)
            channel.sendto(message.encode(), address)

    @asynccontextmanager
    async def starting(self, every_s: float = STARTING_EVERY_S) -> AsyncIterator[None]:
        """Have systemd wait for as long as this takes: whoever is killed in it would begin again."""

        async def ask() -> NoReturn:
            while True:
                self.tell(f"EXTEND_TIMEOUT_USEC={STARTING_FOR_S * 1_000_000}\nSTATUS=opening the journal")
                await asyncio.sleep(every_s)

        asking = asyncio.create_task(ask(), name="starting")
        try:
            yield
        finally:
            asking.cancel()

    def ready(self, status: str) -> None:
        self.tell(f"READY=1\nSTATUS={status}")

    def alive(self) -> None:
        self.tell("WATCHDOG=1")

    def stopping(self) -> None:
        self.tell("STOPPING=1")
