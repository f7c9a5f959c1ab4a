from __future__ import annotations

import asyncio
from pathlib import Path

from rigs.web import house

from collector import auth
from collector.api.live import CHECK_SESSION_S, tell
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


async def test_a_session_that_ended_hears_no_more_however_much_there_is_to_tell(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        home.add_cast()
        client = await home.log_in("bob")
        session = await home.parts.identities.session(client.cookies[auth.SESSION_COOKIE], touch=False)
        assert session is not None
        stream = tell(home.parts, session)
        assert (await anext(stream)).comment == "listening"
        await client.post("/logout", data={"csrf": session.csrf})
        heard = 0
        async with asyncio.timeout(60):
            while heard < 100:
                home.parts.live.publish([(f"t{heard}", "north")])
                home.clock.forward(minutes=CHECK_SESSION_S / 60 / 4)
                if await anext(stream, None) is None:
                    break
                heard += 1
        assert heard == 3, "until the session is looked at again"
        assert len(home.parts.live) == 0


async def test_a_page_that_leaves_before_the_answer_begins_takes_no_room(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        home.add_cast()
        client = await home.log_in("bob")
        session = await home.parts.identities.session(client.cookies[auth.SESSION_COOKIE], touch=False)
        assert session is not None
        stream = tell(home.parts, session)
        await stream.aclose()  # type: ignore[attr-defined]  # an async generator
        assert len(home.parts.live) == 0


async def test_one_page_too_many_is_asked_to_come_back(tmp_path: Path) -> None:
    async with house(tmp_path, max_live=1) as home:
        home.add_cast()
        client = await home.log_in("bob")
        assert home.parts.live.subscribe({"north"}) is not None
        answer = await client.get("/live")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "15")
