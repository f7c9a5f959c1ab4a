"""Says on the local network where the collector is (DNS-SD), so that an installer types a token and
nothing else."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import structlog
import zeroconf
from zeroconf import ServiceInfo
from zeroconf.asyncio import AsyncZeroconf

from edge_agent.wire import SERVICE_TYPE

log = structlog.get_logger()


@contextlib.asynccontextmanager
async def advertised(url: str, *, interfaces: list[str] | None = None) -> AsyncIterator[None]:
    """While inside, agents find ``url`` by ``--discover``. On a network that does not take it the collector
    works all the same."""
    async with contextlib.AsyncExitStack() as stack:
        try:
            announcer = AsyncZeroconf(interfaces=interfaces) if interfaces else AsyncZeroconf()
            stack.push_async_callback(announcer.async_close)
            await announcer.async_register_service(service(url), allow_name_change=True)
        except (OSError, zeroconf.Error) as error:
            log.error("agents cannot find this collector by themselves", url=url, error=str(error))
        yield


def service(url: str) -> ServiceInfo:
    """What is announced. With TLS the host's name goes along, because certificates hold names."""
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    host = parts.hostname or socket.gethostname()
    name = socket.gethostname().partition(".")[0] or "collector"
    return ServiceInfo(
        SERVICE_TYPE,
        f"{name}.{SERVICE_TYPE}",
        port=parts.port or (443 if tls else 80),
        properties={"url": url, "tls": "1" if tls else "0"} | ({"host": host} if tls else {}),
        server=f"{name}.local.",
        parsed_addresses=addresses(host),
    )


def addresses(host: str) -> list[str]:
    """Where other machines reach ``host``: this machine's own name often leads to its loopback only."""
    if host == socket.gethostname() and (outward := _outward_address()):
        return [outward]
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return ["127.0.0.1"]
    return sorted({str(entry[4][0]) for entry in found})


def _outward_address() -> str | None:
    """The address from which packets leave; nothing is sent to find out."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # TEST-NET-1 (RFC 5737): belongs to nobody.
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address: str = probe.getsockname()[0]
        return address
