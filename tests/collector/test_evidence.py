"""What was recorded around a fault: kept with its occurrence, by the gateway that told it, within a cap."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from rigs.ports import wait_until
from rigs.web import Gateway, House, house
from sqlalchemy import delete, select

from collector import evidence
from collector.store import Store, tables
from collector.store import evidence as kept
from edge_agent import wire

SAID = {"readings": [{"at_ms": -500, "read": "status", "frames": ["0,1,0"]}]}


@pytest.fixture
async def home(tmp_path: Path, store: Store) -> AsyncIterator[House]:
    async with house(tmp_path, store, max_syncs=2) as made:
        made.add_cast()
        yield made


def part(uid: str, name: str = "before", said: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"uid": uid, "part": name, "evidence": SAID if said is None else said}


def message(*parts: object) -> bytes:
    return json.dumps({"v": 1, "lane": "evidence", "parts": parts}).encode()


async def post(home: House, gateway: Gateway, *parts: object, **headers: str) -> httpx.Response:
    return await home.client().post(
        wire.SYNC_PATH,
        content=message(*parts),
        headers=gateway.headers | {wire.LANE_HEADER: wire.EVIDENCE_LANE} | headers,
    )


async def tell(home: House, gateway: Gateway, *parts: object) -> list[str]:
    answer = await post(home, gateway, *parts)
    assert answer.status_code == 200
    return wire.decode_evidence_answer(answer.content).outcomes


def held(home: House, uid: str) -> dict[str, Any]:
    found = home.store.read(lambda connection: kept.parts_of(connection, [uid]))
    return {one.part: one.evidence for one in found.get(uid, ())}


async def raised(home: House, site: str = "north", name: str = "gw1") -> tuple[Gateway, str]:
    gateway = await home.enrol(site, name)
    uid = gateway.voice.raises(0)
    await home.sync(gateway)
    return gateway, uid


async def test_what_was_before_and_what_came_after_are_kept_with_their_occurrence(home: House) -> None:
    gateway, uid = await raised(home)
    assert await tell(home, gateway, part(uid)) == ["held"]
    assert await tell(home, gateway, part(uid, "after", {"readings": []})) == ["held"]
    assert held(home, uid) == {"before": SAID, "after": {"readings": []}}


async def test_a_part_that_is_told_twice_is_kept_once_as_it_was_told_first(home: House) -> None:
    gateway, uid = await raised(home)
    assert await tell(home, gateway, part(uid), part(uid, said={"other": 1})) == ["held", "held"]
    assert await tell(home, gateway, part(uid, said={"other": 2})) == ["held"]
    assert held(home, uid) == {"before": SAID}


async def test_evidence_of_an_occurrence_that_is_not_there_yet_is_wanted_later(home: House) -> None:
    gateway = await home.enrol()
    uid = gateway.voice.raises(0)
    assert await tell(home, gateway, part(uid)) == ["unknown"]
    await home.sync(gateway)
    assert await tell(home, gateway, part(uid)) == ["held"]


async def test_a_gateway_attaches_evidence_to_its_own_occurrences_alone(home: House) -> None:
    _, uid = await raised(home)
    liar = await home.enrol("south", "gw-b")
    neighbour = await home.enrol("north", "gw-c")
    for other in (liar, neighbour):
        assert await tell(home, other, part(uid), part("0" * 32)) == ["unknown", "unknown"]
    assert held(home, uid) == {}


async def test_nobody_attaches_evidence_to_what_the_collector_made_itself(home: House) -> None:
    gateway, uid = await raised(home)
    home.store.write(lambda connection: connection.execute(tables.occurrence.update().values(minted=True)))
    assert await tell(home, gateway, part(uid)) == ["unknown"]


@pytest.mark.parametrize(
    "bad",
    [
        7,
        None,
        {},
        {"uid": "x", "part": "before", "evidence": {}},
        {"part": "../etc", "evidence": {}},
        {"part": "before"},
        {"part": "before", "evidence": []},
        {"part": "before", "given_up": 1},
        {"part": "before", "given_up": True, "evidence": {}},
        {"part": "before", "evidence": {"x": "y" * wire.MAX_PART_BYTES}},
    ],
)
async def test_a_part_that_cannot_be_read_is_refused_and_the_others_are_kept(
    home: House, bad: object
) -> None:
    gateway, uid = await raised(home)
    if isinstance(bad, dict) and bad:
        bad = {"uid": uid} | bad
    assert await tell(home, gateway, bad, part(uid, "after")) == ["refused", "held"]
    assert list(held(home, uid)) == ["after"]
    assert b'andon_evidence_parts_total{outcome="refused"} 1.0' in home.parts.metrics.text()


async def test_an_occurrence_has_a_handful_of_parts_and_no_more(home: House) -> None:
    gateway, uid = await raised(home)
    many = [part(uid, f"part-{number}") for number in range(kept.MAX_OF_ONE + 2)]
    assert await tell(home, gateway, *many) == ["held"] * kept.MAX_OF_ONE + ["refused"] * 2


async def test_what_the_edge_gave_up_is_known_and_stands_back_for_what_it_had_sent(home: House) -> None:
    gateway, uid = await raised(home)
    given_up = {"uid": uid, "part": "before", "given_up": True}
    assert await tell(home, gateway, given_up) == ["held"]
    assert held(home, uid) == {"before": None}
    assert await tell(home, gateway, part(uid), given_up) == ["held", "held"]
    assert held(home, uid) == {"before": SAID}


async def test_it_moves_no_position_and_is_no_sign_of_the_present(home: House) -> None:
    gateway, uid = await raised(home)

    def told(connection: Any) -> list[Any]:
        return [
            *connection.execute(select(tables.stream)),
            *connection.execute(select(tables.gateway)),
            *connection.execute(select(tables.ticket)),
        ]

    before = home.store.read(told)
    home.clock.forward(minutes=5)
    assert await tell(home, gateway, part(uid)) == ["held"]
    assert home.store.read(told) == before


async def test_evidence_goes_with_its_occurrence(home: House) -> None:
    gateway, uid = await raised(home)
    await tell(home, gateway, part(uid))
    home.store.write(
        lambda connection: connection.execute(delete(tables.occurrence).where(tables.occurrence.c.uid == uid))
    )
    assert held(home, uid) == {}


async def test_a_collector_with_much_to_do_refuses_evidence_first(home: House) -> None:
    """A place in each lane; the long one is taken by history that trickles in."""
    gateway, uid = await raised(home)
    slow = await home.enrol("north", "gw-slow")
    sent = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b"{"
        await sent.wait()

    history = asyncio.create_task(home.client().post(wire.SYNC_PATH, content=slowly(), headers=slow.headers))
    await wait_until(lambda: home.parts.syncs.inside == 1)
    refused = await post(home, gateway, part(uid))
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) >= 10
    assert b'andon_syncs_shed_total{reason="evidence"} 1.0' in home.parts.metrics.text()
    gateway.voice.raises(1)
    assert (await home.sync(gateway)).verdict == "ok"
    sent.set()
    await history
    assert await tell(home, gateway, part(uid)) == ["held"]


async def test_a_gateway_that_says_too_much_of_it_is_throttled_in_that_alone(home: House) -> None:
    gateway, uid = await raised(home)
    while (answer := await post(home, gateway, *[part(uid)] * 50)).status_code == 200:
        pass
    assert (answer.status_code, answer.json()["reason"]) == (429, "throttled")
    gateway.voice.raises(1)
    assert (await home.sync(gateway)).verdict == "ok"


async def test_a_packed_message_is_as_good_as_a_plain_one_and_a_stranger_is_refused(home: House) -> None:
    gateway, uid = await raised(home)
    packed = await home.client().post(
        wire.SYNC_PATH,
        content=gzip.compress(message(part(uid))),
        headers=gateway.headers | {"Content-Encoding": "gzip"},
    )
    assert packed.json()["outcomes"] == ["held"]
    stranger = await home.client().post(
        wire.SYNC_PATH, content=message(part(uid)), headers={wire.LANE_HEADER: wire.EVIDENCE_LANE}
    )
    assert stranger.status_code == 401


async def test_above_the_cap_the_gateway_that_has_most_gives_up_its_oldest(home: House) -> None:
    modest, one = await raised(home)
    assert await tell(home, modest, part(one)) == ["held"]
    greedy = await home.enrol("north", "gw-greedy")
    uids = [greedy.voice.raises(minute) for minute in range(6)]
    await home.sync(greedy)
    noise = random.Random(7)
    for uid in uids:
        home.clock.forward(minutes=1)
        said = {"readings": [noise.randbytes(5_000).hex()]}
        assert await tell(home, greedy, part(uid, said=said)) == ["held"]
    cap = 3 * 6_000
    while home.store.write(lambda connection: evidence.thin(connection, cap)):
        pass
    sizes = home.store.read(kept.bytes_by_gateway)
    assert sum(sizes.values()) <= cap
    assert held(home, one) == {"before": SAID}
    there = [held(home, uid)["before"] is not None for uid in uids]
    assert there == sorted(there)
    assert any(there)
    assert not all(there)
