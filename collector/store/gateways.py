"""Gateways: who they are, when they last spoke, and what could not be understood of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayView:
    id: str
    site: str
    name: str
    # never (not heard of yet), ok, silent or revoked.
    state: str
    created_ms: int
    revoked_ms: int | None
    # To about five seconds.
    last_contact_ms: int | None
    silent_ms: int | None
    devices: int
    # Rows that could not be read; gaps that were declared.
    quarantined: int
    gaps: int
    # The last `health` it sent, as on the wire.
    health: Mapping[str, object] | None


def gateways(
    connection: Connection, sites: frozenset[str] | None, site: str | None = None
) -> list[GatewayView]:
    """All gateways of these sites, revoked ones too; None is all sites. By site and name."""
    raise NotImplementedError
