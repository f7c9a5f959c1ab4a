"""Tells every collector on one PostgreSQL which tickets changed, with the commit that changes them (NOTIFY).

What is told in a transaction is heard when it commits and not at all otherwise; a collector that is killed
right after its commit has told it. SQLite has one collector, which need not be told.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from sqlalchemy import Connection, bindparam, func, select

CHANNEL = "andon_tickets"
# More in one transaction are told as "many". 64 ids and a site are 2.4 kB; 8000 bytes are possible.
MAX_NAMED = 64
_TELL = select(func.pg_notify(CHANNEL, bindparam("payload")))


def tell(connection: Connection, changes: Iterable[tuple[str, str]]) -> None:
    """``changes`` are (ticket id, site)."""
    if connection.dialect.name != "postgresql":
        return
    by_site: dict[str, list[str]] = {}
    for ticket, site in dict.fromkeys(changes):
        by_site.setdefault(site, []).append(ticket)
    for site, tickets in by_site.items():
        named = tickets if len(tickets) <= MAX_NAMED else []
        payload = json.dumps({"site": site, "tickets": named}, separators=(",", ":"))
        connection.execute(_TELL, {"payload": payload})


def read(payload: str) -> tuple[str, list[str]]:
    """Site and tickets; none are many. Raises ValueError: whoever may connect to the database may tell."""
    told = json.loads(payload)
    if not isinstance(told, dict) or not isinstance(told.get("site"), str):
        raise ValueError("not a message of a collector")
    tickets = told.get("tickets")
    if not isinstance(tickets, list) or not all(isinstance(one, str) for one in tickets):
        raise ValueError("not a message of a collector")
    return told["site"], tickets
