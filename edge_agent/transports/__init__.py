"""Transports move bytes and know no meaning. The name in the configuration is the name of the module.

A transport module has two names that the wiring uses: ``Settings`` (a ``BusSettings`` that validates its
``[[bus]]`` table) and ``Transport`` (below). A new transport is one module and its test, registered nowhere.
Nothing else lies in this folder; what transports have in common is in ``edge_agent/bus``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from ipaddress import ip_address
from pkgutil import iter_modules
from types import ModuleType
from typing import ClassVar, Protocol

from pydantic import BaseModel, ConfigDict, Field

from edge_agent.device import Device
from edge_agent.poll import Line
from edge_agent.profile import Profile
from edge_agent.sample import Again, Deliver
from edge_agent.schedule import Service
from edge_agent.wire import Id, Stamp


class BusSettings(BaseModel):
    """What every ``[[bus]]`` table has; each transport adds its own keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Id = Field(description="unique in the file; devices name it")
    transport: str

    @property
    def line(self) -> Line:
        """What the plan for people may assume of this bus."""
        return Line(words=self.transport)

    @property
    def claims(self) -> str:
        """What no second bus may have, such as the path of a port; empty: nothing."""
        return ""

    def hints(self) -> list[str]:
        """What an installer had better change though it works; looks at this machine as it is now."""
        return []

    def carries(self, profile: Profile) -> bool:
        """Whether devices of that profile can be on this bus."""
        return self.transport in profile.transports

    def as_a_guest(self) -> BusSettings:
        """The same bus for a program that is there for a while, beside the agent or in its absence."""
        return self

    @property
    def adapter(self) -> str:
        """What it shares with other buses, in the words of a technician, such as a USB adapter with several
        ports; empty: nothing.
        """
        return ""

    def check(self, devices: Sequence[Device]) -> None:
        """Raises ValueError, in words for an installer, when these devices cannot be on this bus."""


def host_adapter(host: str) -> str:
    """Whoever has the address: a serial device server, a controller. This machine itself is no adapter."""
    name = host.strip().lower().rstrip(".")
    try:
        loopback = ip_address(name).is_loopback
    except ValueError:
        loopback = name == "localhost" or name.endswith(".localhost")
    return "" if loopback else f"Host {name}"


class Transport(Protocol):
    """One bus and all devices on it. One instance has one task."""

    # Whether it tells the other side what is durable. ``deliver`` of any other returns before that.
    acknowledges: ClassVar[bool]

    def __init__(
        self,
        settings: BusSettings,
        devices: Sequence[Device],
        deliver: Deliver,
        stamp: Callable[[], Stamp],
        *,
        again: Again | None = None,
    ) -> None: ...

    def service(self) -> Service | None:
        """What the bus gave in the last minute."""

    async def run(self) -> None:
        """Deliver readings until cancelled. A peer that goes is a reading with ``trouble``, no exception."""


def names() -> tuple[str, ...]:
    """What ``transport`` may be in a configuration."""
    return tuple(sorted(module.name for module in iter_modules(__path__)))


def load(name: str) -> ModuleType | None:
    """The transport module of that name, or None when there is none."""
    return import_module(f"{__name__}.{name}") if name in names() else None
