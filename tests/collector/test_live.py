from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from rigs import postgres
from rigs.web import House, house
from sqlalchemy import func, select, text

from collector import auth
from collector.api.live import CHECK_SESSION_S, MOVED_RETRY_MS, RETRY_MS, tell
from collector.guard import Session
from collector.ingest import Change
from collector.live import PAGES_OF_ONE, QUEUE_LENGTH, Live, News, Subscriber, Word
from collector.store import Store, news


async def test_each_page_hears_of_its_sites_alone() -> None:
    live = Live(limit=9)
    north, every = live.subscribe("bob", {"north"}), live.subscribe("bob", {"*"})
    assert north is not None
    assert every is not None
    live.publish([("t1", "north"), ("t2", "south"), ("t1", "north")])
    assert await north.next(1) == News(word=Word.CHANGE, ticket="t1", site="north")
    assert await north.next(0.01) is None
    assert [(await every.next(1)).ticket for _ in range(2)] == ["t1", "t2"]  # type: ignore[union-attr]


async def test_a_page_that_does_not_keep_up_is_told_to_reload_once() -> None:
    live = Live(limit=9)
    slow, quick = live.subscribe("bob", {"*"}), live.subscribe("bob", {"*"})
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
    page = live.subscribe("bob", {"*"})
    assert page is not None
    waiting = asyncio.create_task(page.next(60))
    await asyncio.sleep(0)
    live.publish([("t1", "north")])
    news = await waiting
    assert news is not None
    assert news.ticket == "t1"


async def test_stopping_lets_every_page_go_and_takes_no_new_one() -> None:
    live = Live(limit=9)
    page = live.subscribe("bob", {"*"})
    assert page is not None
    waiting = asyncio.create_task(page.next(60))
    await asyncio.sleep(0)
    live.close()
    assert await waiting is None
    assert page.closed
    assert live.subscribe("bob", {"*"}) is None


async def test_there_is_an_end_to_how_many_may_listen() -> None:
    live = Live(limit=2)
    first, second = live.subscribe("bob", {"*"}), live.subscribe("bob", {"*"})
    assert live.subscribe("bob", {"*"}) is None
    assert first is not None
    assert second is not None
    live.leave(first)
    assert len(live) == 1
    assert live.subscribe("bob", {"*"}) is not None


async def test_one_person_cannot_take_the_room_of_all() -> None:
    live = Live(limit=PAGES_OF_ONE + 2)
    others = live.subscribe("alice", {"*"})
    pages = [live.subscribe("bob", {"*"}) for _ in range(200)]
    assert len(live) == PAGES_OF_ONE + 1
    assert others is not None
    assert not others.closed
    # The newest stay: who reconnects after a link that died has no use for the oldest.
    assert [page is not None and page.closed for page in pages] == [True] * 180 + [False] * 20
    live.publish([("t1", "north")])
    newest, oldest = pages[-1], pages[0]
    assert newest is not None
    assert oldest is not None
    assert await newest.next(1) == News(word=Word.CHANGE, ticket="t1", site="north")
    assert await oldest.next(1) is None
    live.leave(oldest)
    assert live.subscribe("carol", {"*"}) is not None
    assert live.subscribe("dave", {"*"}) is None


async def bob(home: House) -> tuple[httpx.AsyncClient, Session]:
    """Logged in."""
    home.add_cast()
    client = await home.log_in("bob")
    session = await home.parts.identities.session(client.cookies[auth.SESSION_COOKIE], touch=False)
    assert session is not None
    return client, session


async def test_a_page_whose_place_was_taken_comes_back_later_than_others(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        _, session = await bob(home)
        stream = tell(home.parts, session)
        assert (await anext(stream)).retry == RETRY_MS
        for _ in range(PAGES_OF_ONE):
            home.parts.live.subscribe("bob", {"north"})
        assert (await anext(stream)).retry == MOVED_RETRY_MS
        assert await anext(stream, None) is None
        assert len(home.parts.live) == PAGES_OF_ONE


async def test_a_session_that_ended_hears_no_more_however_much_there_is_to_tell(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        client, session = await bob(home)
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
        _, session = await bob(home)
        stream = tell(home.parts, session)
        await stream.aclose()  # type: ignore[attr-defined]  # an async generator
        assert len(home.parts.live) == 0


async def test_one_page_too_many_is_asked_to_come_back(tmp_path: Path) -> None:
    async with house(tmp_path, max_live=1) as home:
        home.add_cast()
        client = await home.log_in("bob")
        assert home.parts.live.subscribe("bob", {"north"}) is not None
        answer = await client.get("/live")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "15")


# --- several collectors on one PostgreSQL


@contextlib.asynccontextmanager
async def two_houses(folder: Path, url: str) -> AsyncIterator[tuple[House, House]]:
    """Collectors on one database, each with pages of its own."""
    async with contextlib.AsyncExitStack() as stack:
        houses = []
        for _ in range(2):
            store = Store.open(url)
            stack.callback(store.close)
            home = await stack.enter_async_context(house(folder, store))
            page = listening(home, "*")
            stack.enter_context(home.parts.hearing())
            # Whatever was shown before it listened may be old.
            assert await page.next(30) == News(word=Word.RELOAD)
            home.parts.live.leave(page)
            houses.append(home)
        yield houses[0], houses[1]


def listening(home: House, *sites: str) -> Subscriber:
    page = home.parts.live.subscribe("bob", sites)
    assert page is not None
    return page


async def write(home: House, *changes: tuple[str, str]) -> None:
    await home.parts.write(
        lambda connection: None, lambda _: [Change(ticket_id=ticket, site=site) for ticket, site in changes]
    )


async def test_what_came_in_through_one_collector_is_told_to_the_pages_of_all(
    tmp_path: Path, postgres_url: str
) -> None:
    async with two_houses(tmp_path, postgres.new_database(postgres_url)) as (one, other):
        pages = [listening(one, "north"), listening(other, "north"), listening(other, "*")]
        gateway = await one.enrol()
        gateway.voice.watches("printer-1")
        uid = gateway.voice.raises(one.clock.minute)
        await one.sync(gateway)
        for page in pages:
            assert await page.next(30) == News(word=Word.CHANGE, ticket=uid, site="north")
        await write(other, ("t1", "south"), ("t2", "north"))
        assert await pages[0].next(30) == News(word=Word.CHANGE, ticket="t2", site="north")
        assert {(await pages[2].next(30)).ticket for _ in range(2)} == {"t1", "t2"}  # type: ignore[union-attr]
        # Once each, and nothing of what was not meant for them.
        assert [len(page.waiting) for page in pages] == [0, 1, 0]


async def test_what_was_not_committed_is_told_to_nobody(tmp_path: Path, postgres_url: str) -> None:
    async with two_houses(tmp_path, postgres.new_database(postgres_url)) as (one, other):
        page = listening(other, "*")

        def breaks(_: object) -> list[Change]:
            raise RuntimeError("after the unit, before the commit")

        with pytest.raises(RuntimeError):
            await one.parts.write(lambda connection: news.tell(connection, [("never", "north")]), breaks)
        await write(one, ("t1", "north"))
        assert await page.next(30) == News(word=Word.CHANGE, ticket="t1", site="north")


async def test_a_storm_is_told_in_one_word(tmp_path: Path, postgres_url: str) -> None:
    async with two_houses(tmp_path, postgres.new_database(postgres_url)) as (one, other):
        north, south = listening(other, "north"), listening(other, "south")
        storm = [(f"{number:032x}", "north") for number in range(news.MAX_NAMED + 1)]
        await write(one, *storm, ("t1", "south"))
        assert await north.next(30) == News(word=Word.RELOAD)
        assert await south.next(30) == News(word=Word.CHANGE, ticket="t1", site="south")
        longest = max(len(ticket) for ticket, _ in storm) * news.MAX_NAMED + 64
        assert longest < 4_000


async def test_a_collector_that_could_not_listen_for_a_while_has_its_pages_reload(
    tmp_path: Path, postgres_url: str
) -> None:
    async with two_houses(tmp_path, postgres.new_database(postgres_url)) as (one, other):
        page = listening(other, "north")
        hunt = text(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE 'LISTEN%'"
        )
        assert await one.store.read_soon(lambda connection: connection.execute(hunt).scalar_one()) == 2
        assert await page.next(30) == News(word=Word.RELOAD)
        await write(one, ("t1", "north"))
        assert await page.next(30) == News(word=Word.CHANGE, ticket="t1", site="north")


async def test_what_others_say_on_the_channel_harms_nobody(tmp_path: Path, postgres_url: str) -> None:
    async with two_houses(tmp_path, postgres.new_database(postgres_url)) as (one, other):
        page = listening(other, "north")
        for payload in ("", "{", "[]", '{"site": 1}', '{"site": "north", "tickets": [1]}'):
            query = select(func.pg_notify(news.CHANNEL, payload))
            await one.store.write_soon(lambda connection, query=query: connection.execute(query).all())
        await write(one, ("t1", "north"))
        assert await page.next(30) == News(word=Word.CHANGE, ticket="t1", site="north")
