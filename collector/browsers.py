"""Browsers in which people have logged in before: what others guess elsewhere does not shut the door there.

The cookie names the browser and has, for each of those who logged in there last, a proof that follows from
their stored password. So nothing is kept for it here, every collector on a database takes it, nobody can make
one who never gave that password, and a new password voids it. (OWASP calls these device cookies.)
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass

from collector.auth import new_id, same

# Those of some shifts share a handheld; the cookie is then 220 bytes long.
MAX_PEOPLE = 12
# 64 bits: a wrong one is a guess like others, and counted like them.
PROOF_DIGITS = 16
COOKIE_PATTERN = rf"[0-9a-f]{{16}}(\.[0-9a-f]{{{PROOF_DIGITS}}}){{0,{MAX_PEOPLE}}}"
COOKIE_DAYS = 180


@dataclass(frozen=True, slots=True, kw_only=True)
class Browser:
    """``proofs`` newest first."""

    id: str
    proofs: tuple[str, ...] = ()

    @property
    def cookie(self) -> str:
        return ".".join((self.id, *self.proofs))

    def knows(self, account: str, stored: str) -> bool:
        """``stored`` is what is kept of the password."""
        own = _proof(self.id, account, stored)
        return any(same(own, proof) for proof in self.proofs)

    def met(self, account: str, stored: str) -> Browser:
        """After a log-in."""
        own = _proof(self.id, account, stored)
        others = [proof for proof in self.proofs if proof != own]
        return Browser(id=self.id, proofs=(own, *others[: MAX_PEOPLE - 1]))


def read(cookie: str) -> Browser:
    """A new one when the cookie is none of ours."""
    if not re.fullmatch(COOKIE_PATTERN, cookie):
        return Browser(id=new_id())
    found, *proofs = cookie.split(".")
    return Browser(id=found, proofs=tuple(proofs))


def _proof(browser: str, account: str, stored: str) -> str:
    whole = hmac.new(
        stored.encode(), f"andon browser {browser} {account}".encode(), hashlib.sha256
    ).hexdigest()
    return whole[:PROOF_DIGITS]
