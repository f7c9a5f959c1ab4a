from __future__ import annotations

import asyncio

from collector.live import QUEUE_LENGTH, Live, News, Word


async def test_each_page_hears_of_its_sites_alone() -> None:
    live = Live(limit=9)
    north, every = live.subscribe({"north"}), live.subscribe({"*"})
    assert north is not None
    assert every is not None
    live.publish([("t1", "north"), ("t2", "south"), ("t1", "north")])
    assert await north.next(1) == News(word=Word.CHANGE, ticket="t1", site="north")
    assert await north.next(0.01) is None
    assert [(await every.next(1)).ticket for _ in range(2)] == ["t1", "t2"]  # type: ignore[union-attr]


async def test_a_page_that_does_not_keep_up_is_told_to_reload_once() -> None:
    live = Live(limit=9)
    slow, quick = live.subscribe({"*"}), live.subscribe({"*"})
    assert slow is not None
    assert quick is not None
    for number in range(QUEUE_LENGTH * 3):
        live.publish([(f"t{number}", "north")])
        assert (await quick.next(1)) is not None
    assert list(slow.waiting) == [News(word=Word.RELOAD)]
    assert (await slow.next(1)) == News(word=Word.RELOAD)
    live.publish([("after", "north")])
    assert (await slow.next(1)) == News(word=Word.CHANGE, ticket="after", site="north")


async def test_waiting_ends_with_the_news() -> None:
    live = Live(limit=9)
    page = live.subscribe({"*"})
    assert page is not None
    waiting = asyncio.create_task(page.next(60))
    await asyncio.sleep(0)
    live.publish([("t1", "north")])
    news = await waiting
    assert news is not None
    assert news.ticket == "t1"


async def test_stopping_lets_every_page_go_and_takes_no_new_one() -> None:
    live = Live(limit=9)
    page = live.subscribe({"*"})
    assert page is not None
    waiting = asyncio.create_task(page.next(60))
    await asyncio.sleep(0)
    live.close()
    assert await waiting is None
    assert page.closed
    assert live.subscribe({"*"}) is None


async def test_there_is_an_end_to_how_many_may_listen() -> None:
    live = Live(limit=2)
    first, second = live.subscribe({"*"}), live.subscribe({"*"})
    assert live.subscribe({"*"}) is None
    assert first is not None
    assert second is not None
    live.leave(first)
    assert len(live) == 1
    assert live.subscribe({"*"}) is not None
