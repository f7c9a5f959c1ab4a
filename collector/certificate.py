"""The certificate that is served: loaded again when a person says so, and named in the log before it ends."""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import structlog

from collector.moments import rfc3339, rfc3339_or_none

log = structlog.get_logger()

DAY_S = 86_400.0
# Whoever renews by itself does so a month before the end (certbot, acme.sh): what is still there was missed.
ENDS_SOON_MS = 14 * 86_400_000
# The first in the file is ours, those after it vouch for it. By all names that OpenSSL takes.
PEM = re.compile(rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----(.+?)-----END", re.DOTALL)
# Validity (RFC 5280, 4.1.2.5): a sequence of two moments, each with a year of two digits or of four.
VALIDITY = re.compile(
    rb"\x30.(?:\x17\x0d\d{12}Z|\x18\x0f\d{14}Z)(?:\x17\x0d(\d{12}Z)|\x18\x0f(\d{14}Z))", re.DOTALL
)


class Certificate:
    """Of ``served``, which has loaded these files just now. Raises OSError where they cannot be read."""

    def __init__(self, served: ssl.SSLContext, cert: Path, key: Path) -> None:
        self._cert, self._key = cert, key
        self._ends_ms = _ends_ms(cert)
        # A context of its own each time: one that loads again keeps the half of a pair that it took before
        # the other was refused, and the old certificate beside a new one with another kind of key.
        self._newest = served
        served.sni_callback = self._pick

    def load_again(self, now_ms: int) -> None:
        """What cannot be used changes nothing but the log."""
        newest = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            for file in (self._cert, self._key):
                file.open("rb").close()
            newest.load_cert_chain(self._cert, self._key)
            ends_ms = _ends_ms(self._cert)
        except OSError as error:
            log.error(
                "the new certificate cannot be used; the one before it is served on",
                tls_cert=str(self._cert),
                tls_key=str(self._key),
                why=str(error),
            )
            return
        self._newest, self._ends_ms = newest, ends_ms
        log.info("the certificate was loaded again", tls_cert=str(self._cert), ends=rfc3339_or_none(ends_ms))
        self.tell_end(now_ms)

    def tell_end(self, now_ms: int) -> None:
        """Into the log, when it is near or over."""
        if self._ends_ms is None or self._ends_ms - now_ms > ENDS_SOON_MS:
            return
        ended = self._ends_ms <= now_ms
        said = "has ended: agents and browsers refuse it" if ended else "ends soon"
        log.warning(
            f"the certificate {said}; renew it, then send SIGHUP",
            tls_cert=str(self._cert),
            ends=rfc3339(self._ends_ms),
        )

    async def remind(self, now_ms: Callable[[], int]) -> None:
        """At once, and every day."""
        while True:
            self.tell_end(now_ms())
            await asyncio.sleep(DAY_S)

    def _pick(self, peer: ssl.SSLSocket | ssl.SSLObject, _name: str | None, _served: ssl.SSLContext) -> None:
        """Called in each handshake, also of a peer that names no server."""
        peer.context = self._newest


def _ends_ms(cert: Path) -> int | None:
    """None where it is not written as RFC 5280 wants it: what OpenSSL has loaded is served all the same."""
    pem = PEM.search(cert.read_bytes())
    with suppress(ValueError):
        found = VALIDITY.search(base64.b64decode(pem[1])) if pem else None
        if found is not None:
            short, long = found.groups()
            # A short year of less than 50 is one after 2000.
            written = (long or (b"20" if short < b"50" else b"19") + short).decode()
            ends = datetime.strptime(written, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
            return int(ends.timestamp()) * 1000
    return None
