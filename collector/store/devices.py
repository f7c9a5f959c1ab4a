"""Devices as their gateways' inventories and open tickets show them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceView:
    site: str
    id: str
    place: str
    profile: str
    # Names of the gateways that watch it now.
    gateways: tuple[str, ...]
    # ok, notice, degraded, stop, or unknown (no gateway that watches it speaks, or it cannot be reached).
    state: str
    open_tickets: int
    first_ms: int


def devices(
    connection: Connection, sites: frozenset[str] | None, site: str | None = None
) -> list[DeviceView]:
    """All devices of these sites that are watched now; None is all sites. By site, place, id."""
    raise NotImplementedError
