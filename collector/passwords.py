"""Checks people's passwords without letting guesses cost much: limits first, then at most two hashes at
once.

argon2id with 19 MiB, two passes, one lane (the OWASP minimum): about 35 ms of one core, so two at once
leave the collector responsive. Failures are counted per account and address, and per address, before
anything is hashed.
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
MAX_REMEMBERED = 10_000
# One customer of a provider has at least so much of IPv6, and may come from any address in it.
IPV6_PREFIX = 64
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


# (Account, network) and how many failures it may have; the account None stands for all of them.
Limits = Mapping[tuple[str | None, str], int]


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
        # By the keys of ``Limits``.
        self._failures: dict[tuple[str | None, str], deque[float]] = {}
        self._slots = asyncio.Semaphore(HASHES_AT_ONCE)
        self._waiting = 0
        # Verified when the account does not exist, so that its absence takes as long as a wrong password.
        self._nobody = hash_password(secrets.token_hex(16))

    async def verify(self, *, account: str, address: str, stored: str | None, password: str) -> bool:
        """Raises TooManyTriesError before anything is hashed."""
        network = network_of(address)
        self._refuse_if_exhausted(account, network)
        if self._waiting >= MAX_WAITING:
            raise TooManyTriesError(1)
        # Counted as a failure until it succeeds: guesses sent at the same moment count too.
        self._count(account, network)
        self._waiting += 1
        try:
            if self._others is not None:
                wait_s = await self._others.enter(self._limits(account, network))
                if wait_s is not None:
                    raise TooManyTriesError(wait_s)
            async with self._slots:
                right = await asyncio.to_thread(_verify, stored or self._nobody, password)
        finally:
            self._waiting -= 1
        right = right and stored is not None
        if right:
            self._forgive(account, network)
            if self._others is not None:
                await self._others.forgive(self._limits(account, network))
        return right

    def _limits(self, account: str, network: str) -> Limits:
        return {(account, network): self._tries, (None, network): self._tries * ADDRESS_FACTOR}

    def _refuse_if_exhausted(self, account: str, network: str) -> None:
        now = self._monotonic_s()
        for key, limit in self._limits(account, network).items():
            times = self._failures.get(key)
            while times and times[0] <= now - self._window_s:
                times.popleft()
            if times is not None and not times:
                del self._failures[key]
            elif times is not None and len(times) >= limit:
                raise TooManyTriesError(max(1, int(times[0] + self._window_s - now) + 1))

    def _count(self, account: str, network: str) -> None:
        now = self._monotonic_s()
        for key, limit in self._limits(account, network).items():
            self._failures.setdefault(key, deque(maxlen=limit)).append(now)
        while len(self._failures) > MAX_REMEMBERED:
            del self._failures[next(iter(self._failures))]

    def _forgive(self, account: str, network: str) -> None:
        self._failures.pop((account, network), None)
        if times := self._failures.get((None, network)):
            times.pop()


def network_of(address: str) -> str:
    """What is counted as one address: IPv4 alone, also when it comes mapped, IPv6 by its network."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:MAX_NETWORK_LENGTH]
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, IPV6_PREFIX), strict=False))


def _verify(stored: str, password: str) -> bool:
    try:
        return _hasher.verify(stored, password[:MAX_PASSWORD_LENGTH])
    except (VerificationError, InvalidHashError):
        return False
