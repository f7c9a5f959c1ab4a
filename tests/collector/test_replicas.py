"""Two collectors on one PostgreSQL: what one has decided the other knows at its next request."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest
from rigs import postgres
from rigs.edge_voice import MONDAY_MS, EdgeVoice, enrol
from rigs.web import PASSWORD, ROOT, House, csrf_in, house
from sqlalchemy import Connection, func, select, text

from collector import admin, auth
from collector.ingest import Applied, StreamRefusedError, apply
from collector.store import Store, tables
from collector.tickets import Role
from edge_agent import wire


@pytest.fixture
async def houses(tmp_path: Path, postgres_url: str, made_database: str) -> AsyncIterator[tuple[House, House]]:
    url = postgres.new_database(postgres_url, made_database)
    async with contextlib.AsyncExitStack() as stack:
        made = []
        for _ in range(2):
            store = Store.open(url)
            stack.callback(store.close)
            made.append(await stack.enter_async_context(house(tmp_path, store)))
        made[0].add_cast()
        yield made[0], made[1]


async def test_a_gateway_that_one_has_revoked_is_refused_by_the_other(houses: tuple[House, House]) -> None:
    one, other = houses
    gateway = await one.enrol()
    await other.sync(gateway)
    one.order(admin.RevokeGateway(site="north", name="gw1"))
    body = wire.encode(gateway.voice.message(other.clock.minute))
    answer = await other.client().post(wire.SYNC_PATH, content=body, headers=gateway.headers)
    assert answer.status_code == 401


async def test_a_session_of_one_is_good_at_the_other_until_either_ends_it(
    houses: tuple[House, House],
) -> None:
    one, other = houses
    browser = await one.log_in("bob")
    cookie = browser.cookies[auth.SESSION_COOKIE]
    there = other.client()
    there.cookies.set(auth.SESSION_COOKIE, cookie)
    assert (await there.get("/m")).status_code == 200
    session = await other.parts.identities.session(cookie, touch=False)
    assert session is not None
    # The form comes from one, its answer goes to the other.
    answer = await there.post("/logout", data={"csrf": session.csrf}, headers={"Origin": ROOT})
    assert answer.status_code == 303
    assert (await browser.get("/m")).status_code == 303


async def test_one_command_that_comes_by_both_at_once_takes_effect_once(houses: tuple[House, House]) -> None:
    ticket = await houses[0].ticket()
    token = houses[0].add_token(role=Role.TECHNICIAN)
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "from-a-handheld"}

    async def note(home: House) -> int:
        path = f"/api/v1/tickets/{ticket}/note"
        answer = await home.client().post(path, json={"text": "belt is torn"}, headers=headers)
        return answer.status_code

    assert await asyncio.gather(*(note(home) for home in houses * 3)) == [200] * 6
    entry = tables.ticket_entry.c
    query = select(func.count()).where(entry.ticket_id == ticket, entry.reason == "noted")
    assert houses[1].store.read(lambda connection: connection.execute(query).scalar_one()) == 1


async def test_a_token_of_one_box_is_not_redeemed_by_a_second_box_at_the_other(
    houses: tuple[House, House],
) -> None:
    token = houses[0].enrolment_token()

    async def redeem(home: House) -> int:
        body = {"token": token, "secret_hash": auth.sha256(auth.new_secret())}
        return (await home.client().post(wire.ENROLL_PATH, json=body)).status_code

    assert sorted(await asyncio.gather(*(redeem(home) for home in houses))) == [200, 409]


async def guess(home: House, password: str) -> int:
    client = home.client()
    form = await client.get("/login")
    fields = {"csrf": csrf_in(form.text), "name": "bob", "password": password}
    return (await client.post("/login", data=fields)).status_code


async def test_guessing_at_both_gains_nothing(houses: tuple[House, House]) -> None:
    assert await guess(houses[0], "wrong") == 403
    # A right one is forgotten by both.
    assert await guess(houses[1], PASSWORD) == 303
    statuses = [await guess(houses[number % 2], "wrong") for number in range(7)]
    assert statuses == [403] * 5 + [429] * 2
    assert await guess(houses[1], PASSWORD) == 429
    for home in houses:
        home.clock.forward(minutes=6)
    assert await guess(houses[1], PASSWORD) == 303


async def test_guesses_at_the_same_moment_are_counted_too(houses: tuple[House, House]) -> None:
    statuses = await asyncio.gather(*(guess(houses[number % 2], f"wrong-{number}") for number in range(10)))
    assert sorted(statuses) == [403] * 5 + [429] * 5


def at_once(
    here: Store, there: Store, one: EdgeVoice, other: EdgeVoice
) -> tuple[Future[Applied], Future[Applied]]:
    """What becomes of both messages: the first is not committed before the second waits for it."""
    taken, waited_for = Event(), Event()

    def first(connection: Connection) -> Applied:
        applied = apply(connection, one.gateway, one.message(2), MONDAY_MS)
        taken.set()
        assert waited_for.wait(60)
        return applied

    with ThreadPoolExecutor(2) as pool:
        begun = pool.submit(here.write, first)
        assert taken.wait(60)
        second = pool.submit(there.write, lambda c: apply(c, other.gateway, other.message(2), MONDAY_MS))
        waits = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        while not here.read(lambda c: c.execute(waits).scalar_one()):
            assert not second.done()
        waited_for.set()
    return begun, second


@pytest.mark.parametrize("heard_before", [False, True])
def test_a_stream_that_two_gateways_begin_at_two_collectors_at_once_belongs_to_one(
    postgres_url: str, made_database: str, heard_before: bool
) -> None:
    url = postgres.new_database(postgres_url, made_database)
    with contextlib.closing(Store.open(url)) as here, contextlib.closing(Store.open(url)) as there:
        one, thief = (EdgeVoice(enrol(here, name), seed=place) for place, name in enumerate(("gw1", "gw2")))
        if heard_before:
            for voice in (one, thief):
                voice.sync(here, 0)
                voice.begin_again()
        thief.stream = one.stream
        one.raises(1, "printer-1")
        thief.raises(1, "printer-2")
        begun, second = at_once(here, there, one, thief)
        assert begun.result().answer.verdict == ("behind" if heard_before else "ok")
        with pytest.raises(StreamRefusedError):
            second.result()
        stream = tables.stream.c
        held = select(stream.gateway_id).where(stream.id == one.stream)
        assert here.read(lambda c: c.execute(held).scalar_one()) == one.gateway.id
        told = here.read(lambda c: c.execute(select(tables.occurrence.c.device)).scalars().all())
        assert told == ([] if heard_before else ["printer-1"])


@pytest.mark.parametrize("opens_a_ticket", [True, False])
def test_a_uid_that_two_gateways_tell_at_two_collectors_at_once_belongs_to_one(
    postgres_url: str, made_database: str, opens_a_ticket: bool
) -> None:
    url = postgres.new_database(postgres_url, made_database)
    with contextlib.closing(Store.open(url)) as here, contextlib.closing(Store.open(url)) as there:
        one, thief = (
            EdgeVoice(enrol(here, name, site), seed=place)
            for place, (name, site) in enumerate((("gw1", "north"), ("gw2", "south")))
        )
        if not opens_a_ticket:
            thief.raises(0, "printer-2")
        for voice in (one, thief):
            voice.sync(here, 0.5)
        uid = one.raises(1, "printer-1")
        thief.rows[uid] = thief.rows.pop(thief.raises(1, "printer-2")) | {"uid": uid}
        begun, second = at_once(here, there, one, thief)
        assert begun.result().quarantined == 0
        assert second.result().quarantined == 1
        occurrence = tables.occurrence.c
        of_it = select(occurrence.site).where(occurrence.uid == uid)
        assert here.read(lambda c: c.execute(of_it).scalars().all()) == ["north"]


def test_what_its_gateway_closes_while_another_closes_its_cause_stays_closed(
    postgres_url: str, made_database: str
) -> None:
    url = postgres.new_database(postgres_url, made_database)
    with contextlib.closing(Store.open(url)) as here, contextlib.closing(Store.open(url)) as there:
        one, other = (EdgeVoice(enrol(here, name), seed=place) for place, name in enumerate(("gw1", "gw2")))
        cause = one.raises(0, "bus-1", "down")
        one.sync(here, 0.1)
        explained = other.raises(0.2, "scanner-1", "unreachable")
        other.explains(explained, cause)
        other.sync(here, 0.3)
        one.clears(cause, 1)
        other.clears(explained, 1)
        closed, second = at_once(here, there, other, one)
        assert [told.result().answer.verdict for told in (closed, second)] == ["ok", "ok"]
        occurrence = tables.occurrence.c
        held = here.read(lambda c: c.execute(select(occurrence.uid, occurrence.open, occurrence.rev)).all())
        assert {tuple(row) for row in held} == {(cause, False, 2), (explained, False, 3)}
        open_tickets = select(func.count()).where(tables.ticket.c.condition != "cleared")
        assert here.read(lambda c: c.execute(open_tickets).scalar_one()) == 0
