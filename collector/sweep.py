"""The hand of the clock: gateways that fell silent, resolved tickets that stayed quiet."""

from __future__ import annotations

from sqlalchemy import Connection

from collector.ingest import Change


def sweep(connection: Connection, now_ms: int, *, started_ms: int = 0) -> tuple[Change, ...]:
    """To be called every second. ``started_ms`` is when this collector began to listen: nobody was silent
    before.
    """
    raise NotImplementedError
