"""Many tickets in the database: the rate of syncs with few and with many of them, and the lists of people."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from random import Random

from bench import serving
from bench.table import Figure, show
from sqlalchemy import Connection, insert, text

from collector.store import Store, tables, tickets
from collector.store.tickets import State, TicketFilter
from edge_agent.occurrence import uid_at

PAGE = 500
TRIES = 7
EVERYWHERE = None


def figures(*, kinds: Sequence[str] = serving.KINDS, stored: int = 100_000) -> Iterator[Figure]:
    for kind in kinds:
        with serving.database(kind) as url:
            store = Store.open(url)
            try:
                fill(store, stored)
                for name, ask in questions().items():
                    yield Figure(f"{name} of {stored:,}, ms, {kind}", _best_ms(store, ask), "50")
            finally:
                store.close()


def fill(store: Store, stored: int) -> None:
    """All of them open, over 50 sites: the worst that a list can meet."""
    if not stored:
        return
    rows = [_ticket(number) for number in range(stored)]

    def unit(connection: Connection) -> None:
        for start in range(0, stored, 2_000):
            connection.execute(insert(tables.ticket), rows[start : start + 2_000])

    store.write(unit)
    store.write(lambda connection: connection.execute(text("ANALYZE")))


def age(store: Store, gateways: Sequence[str], stored: int) -> None:
    """``stored`` tickets of these gateways, each with its occurrence, all over long ago: what years leave
    behind at one site.
    """
    if not stored:
        return
    told = [_over(number, gateways[number % len(gateways)]) for number in range(stored)]

    def unit(connection: Connection) -> None:
        connection.execute(insert(tables.site_number), [{"site": serving.SITE, "last": stored}])
        for start in range(0, stored, 2_000):
            part = told[start : start + 2_000]
            connection.execute(insert(tables.ticket), [ticket for ticket, _ in part])
            connection.execute(insert(tables.occurrence), [occurrence for _, occurrence in part])

    store.write(unit)


def questions() -> dict[str, Callable[[Connection], object]]:
    def two_pages(wanted: TicketFilter) -> Callable[[Connection], object]:
        def ask(connection: Connection) -> object:
            first = tickets.find(connection, wanted, None, PAGE)
            return first, tickets.find(connection, wanted, first.next, PAGE) if first.next else None

        return ask

    opened = State.OPEN
    return {
        "first 1,000 open tickets": two_pages(TicketFilter(sites=EVERYWHERE, state=opened)),
        "first 1,000 of a site": two_pages(TicketFilter(sites=EVERYWHERE, state=opened, site="site-7")),
        "first 1,000 unacknowledged": two_pages(TicketFilter(sites=EVERYWHERE, state=State.UNACKNOWLEDGED)),
        "first 1,000 that stop": two_pages(TicketFilter(sites=EVERYWHERE, state=opened, severity="stop")),
        "a handheld's page": lambda connection: tickets.at_hand(
            connection, EVERYWHERE, "site-7", limit=100, ended=20
        ),
        "a desk's page, the worst first": lambda connection: tickets.at_hand(
            connection, EVERYWHERE, None, limit=100, ended=20
        ),
    }


def _best_ms(store: Store, ask: Callable[[Connection], object]) -> float:
    took = []
    for _ in range(TRIES):
        started_s = time.perf_counter()
        store.read(ask)
        took.append((time.perf_counter() - started_s) * 1000)
    return sorted(took)[TRIES // 2]


def _ticket(number: int) -> dict[str, object]:
    site, device = f"site-{number % 50}", f"device-{number // 4}"
    return {
        "id": f"{number:032x}",
        "number": number,
        "site": site,
        "dedupe_key": f"v1|{site}|{device}|media|fault-{number}",
        "device": device,
        "place": f"hall/line-{number % 9}",
        "component": "media",
        "fault": f"fault-{number}",
        "title": f"Fault {number} at {device}",
        "advice": "Load a new roll and close the head.",
        "severity": (10, 20, 30)[number % 3],
        "condition": "active",
        "work": "new",
        "version": 1,
        "alarm_version": 1,
        "ack_seen": number % 2,
        "first_ms": 1_767_600_000_000 + number,
        "period_ms": 1_767_600_000_000 + number,
        "error_ms": 1_000,
        "returns": 0,
        "count": 1,
        "received_ms": 1_767_600_000_000 + number,
        "history": False,
    }


def _over(number: int, gateway: str) -> tuple[dict[str, object], dict[str, object]]:
    began_ms = 1_767_600_000_000 + number * 60_000
    ended_ms = began_ms + 20_000
    device, boot = f"{gateway}-device-{number % 50}", f"{number % 12:032x}"
    names = {
        "site": serving.SITE,
        "dedupe_key": f"v1|{serving.SITE}|{device}|media|paper-out",
        "device": device,
        "component": "media",
        "fault": "paper-out",
    }
    ticket = _ticket(number) | names
    ticket["id"] = uid_at(began_ms, f"{Random(number).getrandbits(128):032x}")
    ticket |= {"number": number + 1, "condition": "cleared", "work": "closed", "first_ms": began_ms}
    ticket |= {"period_ms": began_ms, "last_ms": ended_ms, "closed_ms": ended_ms, "received_ms": began_ms}
    occurrence = names | {
        "uid": ticket["id"],
        "ticket_id": ticket["id"],
        "gateway_id": f"id-{gateway}",
        "rev": 2,
        "digest": f"{number:032x}",
        "open": False,
        "unknown": False,
        "minted": False,
        "estimated": False,
        "reason": "cleared",
        "severity": 30,
        "count": 1,
        "title": f"paper out at {device}",
        "first_boot": boot,
        "first_mono_ms": number * 60_000,
        "end_boot": boot,
        "end_mono_ms": number * 60_000 + 20_000,
        "start_ms": began_ms,
        "raised_ms": began_ms,
        "end_ms": ended_ms,
        "error_ms": 1_000,
        "severities": [[began_ms, 30]],
        "received_ms": began_ms,
        "row": {"uid": ticket["id"]},
    }
    return ticket, occurrence


if __name__ == "__main__":
    show(figures())
