from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from collector.gathering import Gathering


class AwayError(Exception):
    pass


class Desk:
    """Works on batches when it is let; ``bad`` items make a whole batch fail, ``odd`` ones are refused."""

    def __init__(self, *, bad: int | None = None, odd: int | None = None) -> None:
        self.bad = bad
        self.odd = odd
        self.away = False
        self.batches: list[list[int]] = []
        self.begun = asyncio.Event()
        self.free = asyncio.Event()

    async def work(self, batch: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(batch))
        self.begun.set()
        await self.free.wait()
        if self.away:
            raise AwayError
        if self.bad in batch:
            raise KeyError(self.bad)
        return [ValueError(one) if one == self.odd else one * 10 for one in batch]


async def ask(gathering: Gathering[int, int], *items: int) -> list[int | BaseException]:
    return await asyncio.gather(*(gathering(one) for one in items), return_exceptions=True)


async def test_what_comes_while_a_batch_is_worked_on_is_the_next_batch() -> None:
    desk = Desk()
    gathering: Gathering[int, int] = Gathering(desk.work, at_most=3)
    first = asyncio.create_task(ask(gathering, 1))
    await desk.begun.wait()
    rest = asyncio.create_task(ask(gathering, 2, 3, 4, 5))
    await asyncio.sleep(0)
    desk.free.set()
    assert await first == [10]
    assert await rest == [20, 30, 40, 50]
    assert desk.batches == [[1], [2, 3, 4], [5]]


async def test_nobody_is_twice_in_a_batch() -> None:
    desk = Desk()
    desk.free.set()
    gathering: Gathering[int, int] = Gathering(desk.work, at_most=9, owner=lambda one: one % 10)
    assert await ask(gathering, 1, 2, 11, 3, 12) == [10, 20, 110, 30, 120]
    assert desk.batches == [[1, 2], [11, 3, 12]]


async def test_one_that_weighs_more_than_a_batch_is_a_batch() -> None:
    desk = Desk()
    desk.free.set()
    gathering: Gathering[int, int] = Gathering(desk.work, at_most=3, weight=lambda one: one)
    assert await ask(gathering, 1, 2, 7, 1) == [10, 20, 70, 10]
    assert desk.batches == [[1, 2], [7], [1]]


async def test_a_second_batch_runs_beside_the_first_only_when_it_is_whole() -> None:
    desk = Desk()
    gathering: Gathering[int, int] = Gathering(desk.work, at_most=2, at_once=2)
    asked = asyncio.create_task(ask(gathering, 1))
    await desk.begun.wait()
    more = asyncio.create_task(ask(gathering, 2, 3, 4))
    for _ in range(5):
        await asyncio.sleep(0)
    assert desk.batches == [[1], [2, 3]]
    desk.free.set()
    assert (await asked, await more) == ([10], [20, 30, 40])


async def test_those_who_were_answered_together_are_answered_together_again() -> None:
    desk = Desk()
    desk.free.set()
    gathering: Gathering[int, int] = Gathering(desk.work, at_most=9, linger_s=0.001)

    async def again_and_again(one: int) -> None:
        for _ in range(4):
            await gathering(one)
            for _ in range(one):
                await asyncio.sleep(0)

    await asyncio.gather(*map(again_and_again, range(4)))
    assert [sorted(batch) for batch in desk.batches] == [[0, 1, 2, 3]] * 4


async def test_a_whole_batch_and_one_that_comes_alone_wait_for_nobody() -> None:
    desk = Desk()
    desk.free.set()
    gathering: Gathering[int, int] = Gathering(desk.work, at_most=2, linger_s=3600.0)
    assert await ask(gathering, 1, 2) == [10, 20]
    never: Gathering[int, int] = Gathering(desk.work, at_most=9, linger_s=3600.0)
    assert [await never(3), await never(4)] == [30, 40]
    assert desk.batches == [[1, 2], [3], [4]]


async def test_what_another_batch_took_while_one_waited_for_more_is_done_once() -> None:
    desk = Desk()
    desk.free.set()
    gathering: Gathering[int, int] = Gathering(desk.work, at_most=3, at_once=2, linger_s=0.05)
    waits = asyncio.create_task(ask(gathering, 1, 2))
    for _ in range(5):
        await asyncio.sleep(0)
    assert desk.batches == []
    assert await ask(gathering, 3) == [30]
    assert await waits == [10, 20]
    assert desk.batches == [[1, 2, 3]]


async def test_one_that_cannot_be_done_is_refused_alone() -> None:
    desk = Desk(bad=2)
    desk.free.set()
    found = await ask(Gathering(desk.work, at_most=9), 1, 2, 3)
    assert (found[0], found[2]) == (10, 30)
    assert isinstance(found[1], KeyError)
    assert desk.batches == [[1, 2, 3], [1], [2], [3]]


async def test_an_outcome_that_is_an_exception_is_raised_to_its_caller() -> None:
    desk = Desk(odd=2)
    desk.free.set()
    found = await ask(Gathering(desk.work, at_most=9), 1, 2)
    assert found[0] == 10
    assert isinstance(found[1], ValueError)


async def test_what_would_meet_each_of_them_is_not_tried_again() -> None:
    desk = Desk()
    desk.away = True
    desk.free.set()
    found = await ask(Gathering(desk.work, at_most=9, everybodys=(AwayError,)), 1, 2)
    assert all(isinstance(one, AwayError) for one in found)
    assert desk.batches == [[1, 2]]


async def test_who_no_longer_waits_stops_nobody() -> None:
    desk = Desk()
    gathering: Gathering[int, int] = Gathering(desk.work, at_most=9)
    gone = asyncio.create_task(gathering(1))
    stays = asyncio.create_task(gathering(2))
    await desk.begun.wait()
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    desk.free.set()
    assert await stays == 20
    assert await gathering(3) == 30


async def test_one_that_comes_at_the_moment_when_all_are_done_is_not_left_waiting() -> None:
    desk = Desk()
    gathering: Gathering[int, int] = Gathering(desk.work, at_most=3)
    first = asyncio.create_task(gathering(1))
    await desk.begun.wait()

    async def when_free() -> int:
        await desk.free.wait()
        return await gathering(2)

    second = asyncio.create_task(when_free())
    await asyncio.sleep(0)
    desk.free.set()
    for _ in range(9):
        await asyncio.sleep(0)
    assert (first.done(), second.done()) == (True, True)
