"""How long to wait for an answer: learned from the answers before it, as TCP learns it (RFC 6298).

Who waits for too long lets a dead unit hold up its neighbours; who waits too short calls a slow one dead. So
nothing is learned from less than an answer, what was missed once is given all the time there is until it
answers again, and the slowest of the last answers is remembered: a drive that stores its parameters every few
minutes is slow then each time.
"""

from __future__ import annotations

# RFC 6298, 2: gains of the mean and of the deviation, and how many deviations are waited for.
MEAN_GAIN, DEVIATION_GAIN, DEVIATIONS = 1 / 8, 1 / 4, 4
# The slowest of the last 500 to 1,000 answers, and a quarter more.
REMEMBERED, HEADROOM = 500, 1.25


class Patience:
    """Of one request; seconds. It never waits for less than ``floor_s`` nor for more than ``ceiling_s``."""

    __slots__ = (
        "_before",
        "_ceiling_s",
        "_counted",
        "_deviation_s",
        "_floor_s",
        "_missed",
        "_slowest_s",
        "mean_s",
    )

    def __init__(self, *, floor_s: float, ceiling_s: float) -> None:
        self._floor_s = min(floor_s, ceiling_s)
        self._ceiling_s = ceiling_s
        # None before the first answer.
        self.mean_s: float | None = None
        self._deviation_s = 0.0
        self._slowest_s = self._before = 0.0
        self._counted = 0
        self._missed = False

    @property
    def within_s(self) -> float:
        """How long to wait for the next answer."""
        if self.mean_s is None or self._missed:
            return self._ceiling_s
        learned_s = max(
            self.mean_s + DEVIATIONS * self._deviation_s, HEADROOM * max(self._slowest_s, self._before)
        )
        return min(max(learned_s, self._floor_s), self._ceiling_s)

    def took(self, seconds: float) -> None:
        """An answer came after so long, in time or late."""
        self._missed = False
        if self.mean_s is None:
            self.mean_s, self._deviation_s = seconds, seconds / 2
        else:
            self._deviation_s += DEVIATION_GAIN * (abs(seconds - self.mean_s) - self._deviation_s)
            self.mean_s += MEAN_GAIN * (seconds - self.mean_s)
        self._counted += 1
        if self._counted == REMEMBERED:
            self._before, self._slowest_s, self._counted = self._slowest_s, 0.0, 0
        self._slowest_s = max(self._slowest_s, seconds)

    def missed(self) -> None:
        """No answer came within ``within_s``."""
        self._missed = True
