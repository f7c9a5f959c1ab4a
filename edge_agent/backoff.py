"""How long to wait before the next attempt: exponential, capped, jittered so that no fleet returns as one."""

from __future__ import annotations

from typing import Protocol

# 2 ** 30 s is past every cap; a larger exponent would only overflow a float after weeks of failures.
MAX_DOUBLINGS = 30


class Dice(Protocol):
    """What is used of ``random.Random``; injected, so that a simulation replays."""

    def random(self) -> float:
        """Uniform in [0, 1)."""


class Backoff:
    """Delays of one peer: ``floor_s`` + U(0, min(``cap_s``, ``first_s`` * 2^n)); ``reset`` makes n 0."""

    def __init__(
        self, *, random: Dice, first_s: float = 1.0, cap_s: float = 300.0, floor_s: float = 0.0
    ) -> None:
        self._random = random
        self._first_s = first_s
        self._cap_s = cap_s
        self._floor_s = floor_s
        self.failures = 0

    def next(self) -> float:
        """The delay in seconds before the next attempt; counts a failure."""
        limit = min(self._cap_s, self._first_s * (1 << min(self.failures, MAX_DOUBLINGS)))
        self.failures += 1
        return self._floor_s + limit * self._random.random()

    def reset(self) -> None:
        """The peer is well again."""
        self.failures = 0
