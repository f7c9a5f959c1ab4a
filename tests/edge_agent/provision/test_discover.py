"""A collector that advertises itself is found by an agent that knows nothing."""

import socket

from zeroconf import ServiceInfo, Zeroconf

from edge_agent.provision import discover
from edge_agent.wire import SERVICE_TYPE

LOOPBACK = ["127.0.0.1"]


def test_an_advertised_collector_is_found_with_its_scheme_and_port() -> None:
    service = ServiceInfo(
        SERVICE_TYPE,
        f"collector-test.{SERVICE_TYPE}",
        addresses=[socket.inet_aton("127.0.0.1")],
        port=8443,
        properties={"tls": "1", "host": "andon.example"},
    )
    zeroconf = Zeroconf(interfaces=LOOPBACK)
    try:
        zeroconf.register_service(service)
        assert "https://andon.example:8443" in discover.collectors(wait_s=2, interfaces=LOOPBACK)
    finally:
        zeroconf.close()


def test_where_nobody_advertises_nothing_is_found() -> None:
    assert discover.collectors(wait_s=0.2, interfaces=LOOPBACK) == []
