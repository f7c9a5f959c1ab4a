"""Indexes of some rows of a table, as the migrations make them: few rows among all that ever were.

Apart from ``tables``, which a server loads: to say WHERE in two dialects SQLAlchemy loads both, 3 MB that a
server on SQLite has no use for.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Index, text

from collector.store.tables import FAR_END, LONG, evidence, occurrence, out_of_service, ticket


def _of_some(name: str, *columns: Any, where: str, on_sqlite: str = "", unique: bool = False) -> None:
    Index(name, *columns, unique=unique, postgresql_where=text(where), sqlite_where=text(on_sqlite or where))


_of_some(
    "ux_out_of_service_goes_on",
    out_of_service.c.site,
    out_of_service.c.device,
    unique=True,
    where="ended_ms IS NULL",
)

# Who may go on after a pause: by when people let go of it.
_of_some(
    "ix_ticket_worked", ticket.c.dedupe_key, ticket.c.worked_until_ms, where="worked_until_ms IS NOT NULL"
)
_of_some("ix_ticket_because", ticket.c.because, ticket.c.device, where="because IS NOT NULL")

# What people look at, in the orders in which pages show them.
OPEN = "closed_ms IS NULL"
_of_some("ix_ticket_open_received", ticket.c.received_ms, ticket.c.id, where=OPEN)
_of_some("ix_ticket_open_site_received", ticket.c.site, ticket.c.received_ms, ticket.c.id, where=OPEN)
_of_some("ix_ticket_open_worst", ticket.c.severity.desc(), ticket.c.first_ms, ticket.c.id, where=OPEN)
_of_some(
    "ix_ticket_open_site_worst",
    ticket.c.site,
    ticket.c.severity.desc(),
    ticket.c.first_ms,
    ticket.c.id,
    where=OPEN,
)
# What the sweep asks for every second, and a handheld.
_of_some(
    "ix_ticket_resolved", ticket.c.site, ticket.c.last_ms, where="closed_ms IS NULL AND work = 'resolved'"
)
# Promise 2: at most one open ticket of a key, with any number of writers.
_of_some("ux_ticket_open", ticket.c.dedupe_key, unique=True, where=OPEN)

# SQLite takes an index of some rows only where the question says what they are as the index does: SQLAlchemy
# asks it for ``open = 1``, PostgreSQL for ``open``.
_of_some("ix_occurrence_open", occurrence.c.gateway_id, where="open", on_sqlite="open = 1")
_of_some(
    "ix_occurrence_because",
    occurrence.c.because,
    where="because IS NOT NULL AND open",
    on_sqlite="because IS NOT NULL AND open = 1",
)
_of_some(
    "ix_occurrence_far_end",
    occurrence.c.gateway_id,
    occurrence.c.end_boot,
    occurrence.c.end_mono_ms,
    where=FAR_END.text,
)
_of_some("ix_occurrence_long", occurrence.c.site, occurrence.c.end_ms, where=LONG.text)

_of_some(
    "ix_evidence_kept",
    evidence.c.gateway_id,
    evidence.c.received_ms,
    evidence.c.bytes,
    where="bytes > 0",
)
