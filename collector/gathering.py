"""What many ask for at the same time is done for all of them at once: while a batch is worked on the next one
gathers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

I = TypeVar("I")  # noqa: E741  what goes in
O = TypeVar("O")  # noqa: E741  what comes out

# How often at most more of them are waited for.
LINGERS = 5


class Gathering(Generic[I, O]):
    """``work`` does a batch and returns one outcome for each, in order; one that is an exception is raised to
    its caller alone. When it raises, nothing of the batch was done, and each is tried alone, so that one that
    cannot be done is refused alone; except after ``everybodys``, which would meet each of them.

    A batch weighs at most ``at_most``, or is a single one, and has no ``owner`` twice. Who was answered
    together asks again together: after a batch of several the next one waits, ``linger_s`` at a time, as long
    as more come in, instead of being the first of them alone. Who comes alone waits for nobody.

    A caller that is cancelled does not cancel the work: the outcome is then unknown.
    """

    def __init__(
        self,
        work: Callable[[Sequence[I]], Awaitable[Sequence[O | Exception]]],
        *,
        at_most: int,
        weight: Callable[[I], int] = lambda _: 1,
        owner: Callable[[I], object] = lambda _: object(),
        at_once: int = 1,
        linger_s: float = 0.0,
        everybodys: tuple[type[Exception], ...] = (),
    ) -> None:
        self._work = work
        self._at_most = at_most
        self._weight = weight
        self._owner = owner
        self._at_once = at_once
        self._linger_s = linger_s
        self._everybodys = everybodys
        self._waiting: deque[tuple[I, int, asyncio.Future[O]]] = deque()
        self._waiting_weight = 0
        self._several = False
        self._running: set[asyncio.Task[None]] = set()

    async def __call__(self, one: I) -> O:
        future: asyncio.Future[O] = asyncio.get_running_loop().create_future()
        weight = self._weight(one)
        self._waiting.append((one, weight, future))
        self._waiting_weight += weight
        # Beside a batch that is worked on another one is begun only when it is whole.
        if not self._running or (
            self._waiting_weight >= self._at_most and len(self._running) < self._at_once
        ):
            self._begin()
        return await future

    def _begin(self) -> None:
        async def work() -> None:
            try:
                await self._work_off()
            finally:
                # Not when the loop gets round to it: who comes in between would wait for nobody.
                self._running.discard(task)

        task = asyncio.create_task(work(), name="gathering")
        self._running.add(task)

    async def _work_off(self) -> None:
        while self._waiting:
            await self._linger()
            if not (batch := self._batch()):
                # Another one has begun meanwhile, and took them.
                return
            self._several = len(batch) > 1
            try:
                outcomes: Sequence[O | Exception] = await self._work([one for one, _ in batch])
            except self._everybodys as error:
                outcomes = [error] * len(batch)
            except Exception as error:  # noqa: BLE001  the callers get it
                outcomes = [error] if len(batch) == 1 else await self._alone([one for one, _ in batch])
            for (_, future), outcome in zip(batch, outcomes, strict=True):
                if future.done():  # its caller was cancelled
                    continue
                if isinstance(outcome, Exception):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)

    async def _linger(self) -> None:
        if not self._linger_s or not (self._several or len(self._waiting) > 1):
            return
        for _ in range(LINGERS):
            before = len(self._waiting)
            if self._waiting_weight >= self._at_most:
                return
            await asyncio.sleep(self._linger_s)
            if len(self._waiting) == before:
                return

    async def _alone(self, items: Sequence[I]) -> list[O | Exception]:
        outcomes: list[O | Exception] = []
        for one in items:
            try:
                outcomes += await self._work([one])
            except Exception as error:  # noqa: BLE001  its caller gets it
                outcomes.append(error)
        return outcomes

    def _batch(self) -> list[tuple[I, asyncio.Future[O]]]:
        batch: list[tuple[I, asyncio.Future[O]]] = []
        left, owners = self._at_most, set[object]()
        while self._waiting and (not batch or self._waiting[0][1] <= left):
            if (owner := self._owner(self._waiting[0][0])) in owners:
                break
            owners.add(owner)
            one, weight, future = self._waiting.popleft()
            self._waiting_weight -= weight
            left -= weight
            batch.append((one, future))
        return batch
