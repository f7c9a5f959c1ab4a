from __future__ import annotations

import asyncio
import functools
import socket

from collector.advertise import addresses, advertised, service
from edge_agent.provision import discover

LOOPBACK = ["127.0.0.1"]


async def test_an_agent_finds_the_collector_on_its_network() -> None:
    async with advertised("http://127.0.0.1:8420", interfaces=LOOPBACK):
        look = functools.partial(discover.collectors, wait_s=2.0, interfaces=LOOPBACK)
        async with asyncio.timeout(60):
            while "http://127.0.0.1:8420" not in await asyncio.to_thread(look):
                pass


async def test_a_network_that_takes_no_announcement_stops_nobody() -> None:
    # TEST-NET-3 (RFC 5737): an address that this machine does not have.
    async with advertised("http://127.0.0.1:8420", interfaces=["203.0.113.1"]):
        pass


def test_with_tls_the_name_that_the_certificate_holds_goes_along() -> None:
    told = service("https://andon.example:8443").decoded_properties
    assert told == {"url": "https://andon.example:8443", "tls": "1", "host": "andon.example"}
    assert service("https://andon.example").port == 443
    assert "host" not in service("http://127.0.0.1:8420").decoded_properties


def test_a_name_that_leads_nowhere_is_no_crash() -> None:
    assert addresses("no-such-host.invalid") == ["127.0.0.1"]
    assert addresses(socket.gethostname())
