"""Checks people's passwords without letting guesses cost much: limits first, then at most two hashes at
once.

argon2id with 19 MiB, two passes, one lane (the OWASP minimum): about 35 ms of one core, so two at once
leave the collector responsive. Failures are counted before anything is hashed: of an account from an address
and from all of them together, and of an address. Who guesses from everywhere can use up what an account has,
so a browser in which its owner has logged in before is counted apart from all others.
"""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

MIN_PASSWORD_LENGTH = 10
MAX_PASSWORD_LENGTH = 200
HASHES_AT_ONCE = 2
MAX_WAITING = 16
# Failures that one address may make on all accounts together, as a multiple of those on one account.
ADDRESS_FACTOR = 4
# The same of all addresses together on one account, where its owner has not logged in before.
ACCOUNT_FACTOR = 4
EVERYWHERE = "*"
# Keys; a try has four at most.
MAX_REMEMBERED = 20_000
# One customer of a provider has at least so much of IPv6, and may come from any address in it.
IPV6_PREFIX = 64
# One site has at most so much (RFC 6177): 65,536 of these networks.
IPV6_SITE_PREFIX = 48
SITE_FACTOR = 16
# Of an address that is none.
MAX_NETWORK_LENGTH = 64

_hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


class TooManyTriesError(Exception):
    """Refused before hashing; ``retry_after_s`` says when to come back."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"too many tries; again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


def hash_password(password: str) -> str:
    """An argon2id string with its salt and parameters. About 35 ms."""
    return _hasher.hash(password)


def weakness(password: str) -> str | None:
    """Why a new password is refused, or ``None``."""
    if len(password) < MIN_PASSWORD_LENGTH:
        return f"a password has at least {MIN_PASSWORD_LENGTH} characters"
    if len(password) > MAX_PASSWORD_LENGTH:
        return f"a password has at most {MAX_PASSWORD_LENGTH} characters"
    return None


# Account and network. The account None stands for all of them, the network EVERYWHERE too; a browser that
# knows the owner of the account is a network of its own.
Key = tuple[str | None, str]
# How many failures each may have.
Limits = Mapping[Key, int]


class Others(Protocol):
    """What several collectors count together."""

    async def enter(self, limits: Limits) -> int | None:
        """Counts one more failure of each; or none, and says after how many seconds there is room again."""

    async def forgive(self, limits: Limits) -> None:
        """It was none."""


class Passwords:
    """Counts tries, and verifies what is left of them; lives on one event loop."""

    def __init__(
        self, *, tries: int, window_s: int, monotonic_s: Callable[[], float], others: Others | None = None
    ) -> None:
        self._others = others
        self._tries = tries
        self._window_s = window_s
        self._monotonic_s = monotonic_s
        self._failures: dict[Key, deque[float]] = {}
        self._slots = asyncio.Semaphore(HASHES_AT_ONCE)
        self._waiting = 0
        # Verified when the account does not exist, so that its absence takes as long as a wrong password.
        self._nobody = hash_password(secrets.token_hex(16))

    async def verify(
        self, *, account: str, address: str, stored: str | None, password: str, browser: str | None = None
    ) -> bool:
        """``browser`` is one that knows the owner of the account. Raises TooManyTriesError before anything is
        hashed.
        """
        limits = self._limits(account, address, browser)
        self._refuse_if_exhausted(limits)
        if self._waiting >= MAX_WAITING:
            raise TooManyTriesError(1)
        # Counted as a failure until it succeeds: guesses sent at the same moment count too.
        self._count(limits)
        self._waiting += 1
        try:
            if self._others is not None:
                wait_s = await self._others.enter(limits)
                if wait_s is not None:
                    raise TooManyTriesError(wait_s)
            async with self._slots:
                right = await asyncio.to_thread(_verify, stored or self._nobody, password)
        finally:
            self._waiting -= 1
        right = right and stored is not None
        if right:
            self._forgive(limits)
            if self._others is not None:
                await self._others.forgive(limits)
        return right

    def _limits(self, account: str, address: str, browser: str | None) -> Limits:
        if browser is not None:
            return {(account, f"browser {browser}"): self._tries}
        network, *sites = networks_of(address)
        return {
            (account, network): self._tries,
            (account, EVERYWHERE): self._tries * ACCOUNT_FACTOR,
            (None, network): self._tries * ADDRESS_FACTOR,
            **{(None, site): self._tries * SITE_FACTOR for site in sites},
        }

    def _refuse_if_exhausted(self, limits: Limits) -> None:
        now = self._monotonic_s()
        for key, limit in limits.items():
            times = self._failures.get(key)
            while times and times[0] <= now - self._window_s:
                times.popleft()
            if times is not None and not times:
                del self._failures[key]
            elif times is not None and len(times) >= limit:
                raise TooManyTriesError(max(1, int(times[0] + self._window_s - now) + 1))

    def _count(self, limits: Limits) -> None:
        now = self._monotonic_s()
        for key, limit in limits.items():
            self._failures.setdefault(key, deque(maxlen=limit)).append(now)
        while len(self._failures) > MAX_REMEMBERED:
            del self._failures[next(iter(self._failures))]

    def _forgive(self, limits: Limits) -> None:
        for key in limits:
            if begins_anew(key):
                self._failures.pop(key, None)
            elif times := self._failures.get(key):
                times.pop()


def begins_anew(key: Key) -> bool:
    """Whether a right password forgives all failures, or only itself: what others guessed elsewhere stays."""
    account, network = key
    return account is not None and network != EVERYWHERE


def networks_of(address: str) -> tuple[str, ...]:
    """What is counted as one address: IPv4 alone, also when it comes mapped, IPv6 by its network and then its
    site. A proxy may have told the port as well.
    """
    try:
        found = ipaddress.ip_address(_without_port(address).partition("%")[0])
    except ValueError:
        return (address[:MAX_NETWORK_LENGTH],)
    if isinstance(found, ipaddress.IPv4Address):
        return (str(found),)
    if found.ipv4_mapped is not None:
        return (str(found.ipv4_mapped),)
    return tuple(
        str(ipaddress.ip_network((found, prefix), strict=False)) for prefix in (IPV6_PREFIX, IPV6_SITE_PREFIX)
    )


def _without_port(address: str) -> str:
    if address.startswith("["):
        return address[1:].partition("]")[0]
    host, _, port = address.partition(":")
    return host if port.isdecimal() and "." in host else address


def _verify(stored: str, password: str) -> bool:
    try:
        return _hasher.verify(stored, password[:MAX_PASSWORD_LENGTH])
    except (VerificationError, InvalidHashError):
        return False
