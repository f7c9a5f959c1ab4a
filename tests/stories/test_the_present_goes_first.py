"""After a long outage somebody is called for what is broken now, not after weeks of history have arrived."""

import random
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from rigs.collector_program import SpeakingGateway, collector_program
from rigs.journals import closing, opened, opening
from rigs.moments import HandClock
from rigs.warehouse import SITE, People
from rigs.watching import conveyor

from edge_agent.forward import Forwarder
from edge_agent.inventory import inventory
from edge_agent.post import Line, http_post
from edge_agent.wire import Health

FAULTS_THAT_PASSED = 20_000
AT_ONCE = 500


async def test_a_stop_behind_twenty_thousand_rows_is_a_ticket_after_the_first_exchange(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # At its quota the history would take minutes; what waits for what is the same.
    monkeypatch.setenv("COLLECTOR_GATEWAY_ROWS_PER_S", "1000000")
    clock = HandClock()
    with collector_program(tmp_path / "collector") as collector:
        gateway = SpeakingGateway(collector, site=SITE, name="gw-1")
        people = People(collector, "read")
        async with opened(tmp_path, clock) as journal, Line() as client:
            for first in range(0, FAULTS_THAT_PASSED, AT_ONCE):
                clock.go(60)
                names = [f"belt-{number}" for number in range(first, first + AT_ONCE)]
                await journal.commit([opening(clock, name) for name in names])
                await journal.commit([closing(clock, name) for name in names])
            await journal.commit([opening(clock, "sorter-1")])
            clock.go(1_800)
            forward = Forwarder(
                journal,
                http_post(client, collector.url, gateway.credential),
                inventory=inventory([conveyor("belt-1")]),
                unsettled=list,
                health=Health,
                on_closed_here=lambda _: journal.anchor(),
                stamp=clock.stamp,
                random=random.Random(1),
            )
            await forward.exchange()
            (ticket,) = await people.tickets()
            assert (ticket["device"], ticket["condition"], ticket["work"]) == ("sorter-1", "active", "new")
            late = datetime.fromisoformat(ticket["received_at"]) - datetime.fromisoformat(
                ticket["occurred_at"]
            )
            assert abs(late - timedelta(minutes=30)) < timedelta(minutes=2)
            assert forward.rows_waiting == FAULTS_THAT_PASSED + 1

            while forward.rows_waiting > 1:
                await forward.exchange()
            after = await people.get(f"/api/v1/tickets/{ticket['id']}")
            assert (after["id"], after["version"]) == (ticket["id"], ticket["version"])
            (watched,) = (await people.get("/api/v1/gateways"))["items"]
            assert watched["state"] == "ok"
        await people.close()
        gateway.close()
