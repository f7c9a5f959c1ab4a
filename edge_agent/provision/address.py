"""Decides whether a text is a collector's address that a credential may be sent to."""

from __future__ import annotations

from urllib.parse import urlsplit

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class AddressError(ValueError):
    """It is not; the text says what was expected."""


def check_url(url: str, *, allow_plain_http: bool) -> str:
    """The root of the collector's URL; plain http is for loopback alone unless told otherwise."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  # raises when it is no number
    except ValueError as error:
        raise AddressError(f"{url!r} is not a collector's address: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
        raise AddressError(f"{url!r} is not a collector's address; expected https://host:port")
    if parts.scheme == "http" and parts.hostname not in LOOPBACK and not allow_plain_http:
        raise AddressError(
            f"{url}: a credential does not travel over plain http; use https, or allow_plain_http"
        )
    return f"{parts.scheme}://{parts.netloc}"
