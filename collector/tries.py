"""Wrong passwords as all collectors on one database count them."""

from __future__ import annotations

from collections.abc import Callable

from collector.passwords import Limits, begins_anew
from collector.store import Store, tries


class StoredTries:
    """One write for each try, after the limits of this collector."""

    def __init__(self, store: Store, *, window_s: int, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._window_ms = window_s * 1000
        self._now_ms = now_ms

    async def enter(self, limits: Limits) -> int | None:
        now_ms = self._now_ms()
        until_ms = await self._store.write_soon(
            lambda connection: tries.enter(connection, limits, now_ms, self._window_ms)
        )
        return None if until_ms is None else max(1, (until_ms - now_ms) // 1000 + 1)

    async def forgive(self, limits: Limits) -> None:
        anew = [key for key in limits if begins_anew(key)]
        once = [key for key in limits if not begins_anew(key)]
        await self._store.write_soon(lambda connection: tries.forgive(connection, anew=anew, once=once))
