"""Decides whether a text is a collector's address that a credential may be sent to."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
# Labels of a name as DNS carries them (RFC 1035); an underscore is against the rules and met all the same.
_NAME = re.compile(r"(?=.{1,253}\Z)([A-Za-z0-9_-]{1,63}\.)*(?![0-9.]+\Z)[A-Za-z0-9_-]{1,63}\.?")


class AddressError(ValueError):
    """It is not; the text says what was expected."""


def check_url(url: str, *, allow_plain_http: bool) -> str:
    """The root of the collector's URL; plain http is for loopback alone unless told otherwise."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # raises when it is no number
    except ValueError as error:
        raise AddressError(f"{url!r} is not a collector's address: {error}") from error
    beside = parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc
    if parts.scheme not in ("http", "https") or not host or beside:
        raise AddressError(f"{url!r} is not a collector's address; expected https://host:port")
    if not _is_host(host) or ("[" in parts.netloc and ":" not in host):
        raise AddressError(
            f"{url!r} is not a collector's address; expected https://host:port, the host as DNS has it "
            "(labels of letters, digits and hyphens, between dots) or an IP address"
        )
    if parts.scheme == "http" and host not in LOOPBACK and not allow_plain_http:
        raise AddressError(
            f"{url}: a credential does not travel over plain http; use https, or allow_plain_http"
        )
    return f"{parts.scheme}://{parts.netloc}"


def _is_host(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return _NAME.fullmatch(host) is not None
    return True
