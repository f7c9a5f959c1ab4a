"""Downtime of a site in a window: what the store says, folded by ``downtime``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection


class By(StrEnum):
    DEVICE = "device"
    FAULT = "fault"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    from_ms: int
    to_ms: int
    # down or unknown.
    kind: str
    # It goes on now; `to_ms` is now or the end of the window.
    open: bool
    # Ids of a ticket that explains it.
    ticket: str | None
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """observed_ms + unknown_ms = window_ms; down_ms is a part of observed_ms."""

    # The device's id or the fault's name; empty in the total.
    key: str
    place: str
    down_ms: int
    unknown_ms: int
    observed_ms: int
    window_ms: int
    stops: int
    # Down at the end of the window, still counting.
    open: bool
    intervals: tuple[Interval, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    site: str
    by: By
    from_ms: int
    # Not after now.
    to_ms: int
    timezone: str
    as_of_ms: int
    items: tuple[Item, ...]
    total: Item


def downtime(connection: Connection, site: str, from_ms: int, to_ms: int, by: By, now_ms: int) -> Report:
    """Raises ValueError when the window is empty or begins after now."""
    raise NotImplementedError
