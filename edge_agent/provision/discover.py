"""Finds the collector on the local network by DNS-SD, so that an installer types a token and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable

from zeroconf import ServiceBrowser, ServiceListener, Zeroconf

from edge_agent.wire import SERVICE_TYPE


class DiscoverError(Exception):
    """The network cannot be asked; the text says why."""


class _Found(ServiceListener):
    def __init__(self) -> None:
        self.names: list[str] = []

    def add_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        self.names.append(name)

    def remove_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        self.names = [known for known in self.names if known != name]

    def update_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        """An address that changed is resolved when it is asked for."""


def collectors(
    *,
    wait_s: float = 4.0,
    interfaces: list[str] | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> list[str]:
    """URLs of the collectors that answer within ``wait_s``; ``progress`` is told the seconds gone.

    Raises DiscoverError.
    """
    try:
        zeroconf = Zeroconf(interfaces=interfaces) if interfaces else Zeroconf()
    except (OSError, RuntimeError) as error:
        raise DiscoverError(f"no network interface of this machine can be asked: {error}") from error
    try:
        found = _Found()
        ServiceBrowser(zeroconf, SERVICE_TYPE, found)
        started = time.monotonic()
        while (gone := time.monotonic() - started) < wait_s:
            progress(gone)
            time.sleep(0.1)
        return sorted({url for name in found.names for url in _urls(zeroconf, name)})
    finally:
        zeroconf.close()


def _urls(zeroconf: Zeroconf, name: str) -> list[str]:
    service = zeroconf.get_service_info(SERVICE_TYPE, name, timeout=3000)
    if service is None:
        return []
    scheme = "https" if (service.decoded_properties or {}).get("tls") == "1" else "http"
    # A name that the certificate can hold is better than an address.
    host = (service.decoded_properties or {}).get("host")
    hosts = [host] if host else service.parsed_addresses()
    return [f"{scheme}://{f'[{h}]' if ':' in h else h}:{service.port}" for h in hosts if h]
