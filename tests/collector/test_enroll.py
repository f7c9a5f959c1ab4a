from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import pytest
from rigs.edge_voice import MONDAY_MS
from rigs.web import House, house

from collector import admin, auth
from collector.store import Store, enrolment, tables
from collector.store.enrolment import Enrolled, Refused
from edge_agent import wire


@pytest.fixture
async def home(tmp_path: Path, store: Store) -> AsyncIterator[House]:
    async with house(tmp_path, store) as made:
        yield made


async def enroll(home: House, token: str, secret: str) -> httpx.Response:
    return await home.client().post(
        wire.ENROLL_PATH,
        json={"token": token, "secret_hash": auth.sha256(secret), "facts": {"hostname": "gw"}},
    )


def audit_of(home: House) -> list[str]:
    return [
        row.action
        for row in home.store.read(lambda connection: connection.execute(tables.audit.select()).all())
    ]


async def test_a_lost_reply_burns_nothing(home: House) -> None:
    token, secret = home.enrolment_token(), auth.new_secret()
    first, second = await enroll(home, token, secret), await enroll(home, token, secret)
    assert first.status_code == second.status_code == 200
    assert first.json() == second.json()
    assert (first.json()["site"], first.json()["gateway"]) == ("north", "gw1")


async def test_another_box_with_the_same_token_is_refused_and_in_the_audit(home: House) -> None:
    token = home.enrolment_token()
    await enroll(home, token, "mine")
    answer = await enroll(home, token, "thief")
    assert (answer.status_code, answer.json()["reason"]) == (409, "token-used")
    assert "enrolment refused: used" in audit_of(home)
    assert (await enroll(home, token, "mine")).status_code == 200, "the first box keeps what it has"


async def test_a_token_is_good_for_a_day(home: House) -> None:
    token = home.enrolment_token()
    home.clock.forward(minutes=24 * 60 + 1)
    answer = await enroll(home, token, "late")
    assert (answer.status_code, answer.json()["reason"]) == (410, "token-expired")


async def test_a_token_that_nobody_made_is_refused(home: House) -> None:
    assert (await enroll(home, "enr_" + "x" * 40, "s")).status_code == 401
    assert (await enroll(home, "short", "s")).status_code == 422


async def test_a_replaced_box_keeps_the_name_and_voids_the_old_secret(home: House) -> None:
    old = await home.enrol("north", "gw1")
    await home.sync(old)
    new = await home.enrol("north", "gw1")
    await home.sync(new)
    refused = await home.client().post(
        wire.SYNC_PATH, content=wire.encode(old.voice.message(0)), headers=old.headers
    )
    assert refused.status_code == 401
    gateways = home.store.read(lambda connection: connection.execute(tables.gateway.select()).all())
    assert len(gateways) == 1


async def test_a_revoked_gateway_is_refused_at_once_and_can_be_enrolled_again(home: House) -> None:
    gateway = await home.enrol("north", "gw1")
    await home.sync(gateway)
    home.order(admin.RevokeGateway(site="north", name="gw1"))
    message = wire.encode(gateway.voice.message(0))
    answer = await home.client().post(wire.SYNC_PATH, content=message, headers=gateway.headers)
    assert answer.status_code == 401
    await home.sync(await home.enrol("north", "gw1"))


async def test_a_revoked_box_does_not_come_back_by_what_it_was_given_before(home: House) -> None:
    first, second = home.enrolment_token(), home.enrolment_token()
    elsewhere = home.enrolment_token("south", "gw1")
    await enroll(home, first, "mine")
    third = home.enrolment_token()
    home.order(admin.RevokeGateway(site="north", name="gw1"))
    again = await enroll(home, first, "mine")
    assert (again.status_code, again.json()["reason"]) == (410, "token-revoked")
    for token in (second, third):
        answer = await enroll(home, token, "mine")
        assert (answer.status_code, answer.json()["reason"]) == (410, "token-expired")
    assert (await enroll(home, elsewhere, "another")).status_code == 200
    assert (await enroll(home, home.enrolment_token(), "mine")).status_code == 200, "made after that"


async def test_a_redeemed_token_voids_the_others_of_its_gateway(home: House) -> None:
    lost, found = home.enrolment_token(), home.enrolment_token()
    assert (await enroll(home, found, "mine")).status_code == 200
    answer = await enroll(home, lost, "finder")
    assert (answer.status_code, answer.json()["reason"]) == (410, "token-expired")
    assert (await enroll(home, found, "mine")).status_code == 200


async def test_a_token_of_a_gateway_that_never_came_is_revoked_by_its_name(home: House) -> None:
    token = home.enrolment_token()
    done = home.order(admin.RevokeGateway(site="north", name="gw1"))
    assert done == {"gateway": False, "tokens": 1}
    assert (await enroll(home, token, "finder")).status_code == 410
    assert audit_of(home) == ["enrolment token made", "enrolment token revoked", "enrolment refused: expired"]
    with pytest.raises(admin.OrderError, match="there is no gateway north/gw1"):
        home.order(admin.RevokeGateway(site="north", name="gw1"))


def add_token(store: Store, token: str) -> None:
    store.write(
        lambda connection: enrolment.add_token(
            connection,
            token_hash=token,
            site="north",
            gateway="gw1",
            created_by="test",
            now_ms=MONDAY_MS,
            expires_ms=MONDAY_MS + 1000,
        )
    )


def redeemed(store: Store, token: str, number: int) -> Enrolled | Refused:
    """By the box of that number."""
    return store.write(
        lambda connection: enrolment.redeem(
            connection,
            token_hash=token,
            secret_sha256=f"{number:064d}",
            new_gateway_id=f"id{number}",
            new_credential_id=f"agw_{number:08d}",
            now_ms=MONDAY_MS,
        )
    )


def test_of_two_tokens_redeemed_at_once_one_succeeds(store: Store) -> None:
    tokens = [f"t{number}" for number in range(8)]
    for one in tokens:
        add_token(store, one)
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(partial(redeemed, store), tokens, range(8)))
    assert sum(isinstance(outcome, Enrolled) for outcome in outcomes) == 1


async def test_enrolment_in_parallel_gives_one_credential(home: House) -> None:
    token = home.enrolment_token()
    answers = await asyncio.gather(*(enroll(home, token, f"box {number}") for number in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 7


def test_of_thirty_two_redeems_at_once_exactly_one_succeeds(store: Store) -> None:
    add_token(store, "t")
    with ThreadPoolExecutor(16) as pool:
        outcomes = list(pool.map(partial(redeemed, store, "t"), range(32)))
    assert sum(isinstance(outcome, Enrolled) for outcome in outcomes) == 1
    assert {outcome.why for outcome in outcomes if isinstance(outcome, Refused)} == {enrolment.Refusal.USED}
