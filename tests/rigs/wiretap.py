"""Hears every byte that is said to a simulated device, whatever it makes of it."""

from __future__ import annotations

from collections.abc import Callable, Collection

from device_profiles.simulators.serving import Outlet, Session


class Wiretap:
    """Put on an outlet before its device starts."""

    def __init__(self, outlet: Outlet) -> None:
        # One for each client, or for each time a pseudo-terminal was plugged in.
        self.lines: list[bytearray] = []
        self._start = outlet.start
        outlet.start = self._tapped  # type: ignore[method-assign]

    async def _tapped(self, new_session: Callable[[], Session]) -> None:
        await self._start(lambda: self._tap(new_session()))

    def _tap(self, session: Session) -> Session:
        line = bytearray()
        self.lines.append(line)

        def take(chunk: bytes) -> bytes:
            line.extend(chunk)
            return session(chunk)

        return take

    def beside(self, queries: Collection[bytes]) -> list[bytes]:
        """What was said on each line that is none of these queries, whole and one after another."""
        return [left for line in self.lines if (left := _beside(bytes(line), queries))]


def _beside(said: bytes, queries: Collection[bytes]) -> bytes:
    while query := next((query for query in queries if said.startswith(query)), None):
        said = said[len(query) :]
    # The last one may have been cut off when the agent was stopped.
    return b"" if any(query.startswith(said) for query in queries) else said
