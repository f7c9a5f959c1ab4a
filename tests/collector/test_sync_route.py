from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import random
import sqlite3
import threading
import zlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from rigs.ports import wait_until
from rigs.web import Gateway, House, house
from sqlalchemy import Connection, select
from sqlalchemy.exc import OperationalError
from starlette.requests import Request
from starlette.types import Message

from collector import admin, boots, guard, ingest, rows
from collector.admission import ROWS_OF_A_SYNC, SHORT_BYTES
from collector.api import sync
from collector.api.sync import gunzip
from collector.exchange import Sync, stands_for
from collector.gathering import Gathering
from collector.guard import SYNCS_OF_ONE
from collector.problems import Problem
from collector.store import Store, tables
from edge_agent import wire

Told = asyncio.Task[httpx.Response]


@pytest.fixture
async def home(tmp_path: Path, store: Store) -> AsyncIterator[House]:
    async with house(tmp_path, store, max_syncs=2) as made:
        made.add_cast()
        yield made


async def post(home: House, gateway: Gateway, content: bytes, **headers: str) -> httpx.Response:
    return await home.client().post(wire.SYNC_PATH, content=content, headers=gateway.headers | headers)


async def test_a_fault_on_the_floor_becomes_a_ticket_in_the_list(home: House) -> None:
    ticket = await home.ticket()
    client = await home.log_in("bob")
    listed = (await client.get("/api/v1/tickets?state=open")).json()["items"]
    assert [item["id"] for item in listed] == [ticket]


async def test_a_gzipped_sync_is_the_same_as_a_plain_one(home: House) -> None:
    gateway = await home.enrol()
    gateway.voice.raises(0)
    body = wire.encode(gateway.voice.message(0))
    packed = await post(home, gateway, gzip.compress(body), **{"Content-Encoding": "gzip"})
    again = await post(home, gateway, body)
    assert (packed.json()["verdict"], again.json()["verdict"]) == ("ok", "old")


async def test_a_row_that_the_collector_stumbles_over_is_put_aside_and_blocks_nothing_behind_it(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    understood = boots.dated

    def dated(row: wire.Row, *more: Any, **named: Any) -> dict[str, Any]:
        if row.device == "cursed":
            raise ZeroDivisionError("a fault of ours")
        return understood(row, *more, **named)

    monkeypatch.setattr(boots, "dated", dated)
    gateway = await home.enrol()
    for device in ("belt-1", "cursed", "belt-2"):
        gateway.voice.raises(0, device)
    told = await post(home, gateway, wire.encode(gateway.voice.message(0)))
    assert (told.status_code, told.json()["verdict"], told.json()["hwm"][0]) == (200, "ok", 3)
    client = await home.log_in("bob")
    listed = (await client.get("/api/v1/tickets?state=open")).json()["items"]
    assert sorted(item["device"] for item in listed) == ["belt-1", "belt-2"]
    kept = home.store.read(lambda connection: connection.execute(select(tables.quarantine)).all())
    assert [(json.loads(one.raw)["device"], one.error) for one in kept] == [("cursed", rows.SPOILT)]


@pytest.mark.parametrize(
    "authorization", ["", "Bearer agw_0123456789abcdef.nothing", "Bearer atk_x.y", "Basic eDp5"]
)
async def test_a_sync_without_a_gateways_credential_is_refused(home: House, authorization: str) -> None:
    gateway = await home.enrol()
    answer = await post(home, gateway, b"{}", Authorization=authorization)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_logged_in_lead_is_no_gateway(home: House) -> None:
    client = await home.log_in("alice")
    assert (await client.post(wire.SYNC_PATH, content=b"{}")).status_code == 401


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not JSON"),
        (b"\xff", "not UTF-8"),
        (b"[]", "message"),
        (b'{"v":1,"v":1}', "same key twice"),
        (b'{"v":NaN}', "NaN"),
        (b'{"v":"\\ud800"}', "surrogate"),
        (b"[" * 5000, "nested"),
    ],
)
async def test_bytes_that_are_no_sync_are_refused_in_words(home: House, body: bytes, says: str) -> None:
    answer = await post(home, await home.enrol(), body)
    assert (answer.status_code, answer.json()["reason"]) == (400, "message")
    assert says in answer.json()["detail"]


async def test_too_many_bytes_are_refused_before_they_are_read(home: House) -> None:
    async def undeclared() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b" " * (wire.MAX_WIRE_BYTES // 4)

    gateway = await home.enrol()
    for content in (b" " * (wire.MAX_WIRE_BYTES + 1), undeclared()):
        answer = await home.client().post(wire.SYNC_PATH, content=content, headers=gateway.headers)
        assert (answer.status_code, answer.json()["reason"]) == (413, "too-large")


async def test_a_bomb_is_refused_at_the_limit(home: House) -> None:
    bomb = gzip.compress(bytes(64 << 20))
    answer = await post(home, await home.enrol(), bomb, **{"Content-Encoding": "gzip"})
    assert answer.status_code == 413
    with pytest.raises(Problem):
        gunzip(bomb)


@pytest.mark.parametrize("broken", ["not gzip", "empty", "cut short", "two members", "more behind it"])
async def test_broken_gzip_is_a_bad_message(home: House, broken: str) -> None:
    gateway = await home.enrol()
    whole = packed(gateway, 2)
    body = {
        "not gzip": b"not gzip",
        "empty": b"",
        "cut short": whole[:-4],
        "two members": whole + gzip.compress(b" "),
        "more behind it": whole + b" ",
    }[broken]
    answer = await post(home, gateway, body, **{"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["reason"]) == (400, "message")
    assert "gzip" in answer.json()["detail"]
    assert (await post(home, gateway, whole, **{"Content-Encoding": "gzip"})).json()["verdict"] == "ok"


async def test_rows_in_the_lane_of_evidence_are_refused(home: House) -> None:
    """They would pass by the quota of rows."""
    gateway = await home.enrol()
    gateway.voice.raises(0)
    body = wire.encode(gateway.voice.message(0))
    answer = await post(home, gateway, body, **{wire.LANE_HEADER: wire.EVIDENCE_LANE})
    assert (answer.status_code, answer.json()["reason"]) == (400, "message")
    assert (await post(home, gateway, body)).json()["verdict"] == "ok"


async def test_another_packing_is_refused_by_name(home: House) -> None:
    packed = zlib.compress(b"{}")
    answer = await post(home, await home.enrol(), packed, **{"Content-Encoding": "deflate"})
    assert answer.status_code == 415


async def test_the_body_cannot_say_who_the_gateway_is(home: House) -> None:
    gateway = await home.enrol("north", "gw1")
    gateway.voice.raises(0)
    message: dict[str, Any] = json.loads(wire.encode(gateway.voice.message(0)))
    message |= {"site": "south", "gateway": "gw9"}
    assert (await post(home, gateway, json.dumps(message).encode())).status_code == 200
    carol, bob = await home.log_in("carol"), await home.log_in("bob")
    assert (await carol.get("/api/v1/tickets")).json()["items"] == []
    assert len((await bob.get("/api/v1/tickets")).json()["items"]) == 1


async def test_a_stream_of_another_gateway_is_refused_and_in_the_audit(home: House) -> None:
    owner, other = await home.enrol("north", "gw1"), await home.enrol("south", "gw2")
    await home.sync(owner)
    answer = await post(home, other, wire.encode(owner.voice.message(0)))
    assert (answer.status_code, answer.json()["reason"]) == (403, "stream")
    rows = home.store.read(lambda connection: connection.execute(tables.audit.select()).all())
    assert "sync refused: foreign stream" in [row.action for row in rows]


async def test_each_refusal_of_a_sync_is_counted_once(home: House) -> None:
    owner, other, revoked = [
        await home.enrol(*where) for where in (("north", "gw1"), ("south", "gw2"), ("north", "gw3"))
    ]
    await home.sync(owner)
    await home.sync(revoked)
    home.order(admin.RevokeGateway(site="north", name="gw3"))
    for gateway, body, status in (
        (owner, b"{}", 400),
        (revoked, wire.encode(revoked.voice.message(0)), 401),
        (other, wire.encode(owner.voice.message(0)), 403),
    ):
        assert (await post(home, gateway, body)).status_code == status
        counted = f'andon_syncs_refused_total{{status="{status}"}} 1.0'.encode()
        assert counted in home.parts.metrics.text()


@dataclass
class Writer:
    """Goes on when ``go_on`` is set."""

    go_on: threading.Event
    # Bodies of which all bytes are there; those that were unpacked as history; messages that asked for a
    # transaction; how many each transaction took.
    read: list[bytes]
    unpacked: list[bytes]
    asked: list[Sync]
    taken: list[int]


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> Writer:
    made = Writer(threading.Event(), [], [], [], [])
    read, gunzip, ask, apply_all = sync._read, sync.gunzip, Gathering.__call__, ingest.apply_all

    async def reading(request: Request) -> bytes:
        made.read.append(await read(request))
        return made.read[-1]

    def unpacking(body: bytes, *most: int) -> bytes:
        made.unpacked.append(body)
        return gunzip(body, *most)

    async def asking(taking: sync.Taking, one: Sync) -> object:
        if isinstance(one, Sync):
            made.asked.append(one)
        return await ask(taking, one)

    def held(connection: Connection, syncs: Sequence[Sync], **more: Any) -> object:
        made.taken.append(len(syncs))
        assert made.go_on.wait(20)
        return apply_all(connection, syncs, **more)

    monkeypatch.setattr(sync, "_read", reading)
    monkeypatch.setattr(sync, "gunzip", unpacking)
    monkeypatch.setattr(Gathering, "__call__", asking)
    monkeypatch.setattr(ingest, "apply_all", held)
    return made


def packed(gateway: Gateway, faults: int) -> bytes:
    for number in range(faults):
        gateway.voice.raises(0, f"belt-{number}")
    return gzip.compress(wire.encode(gateway.voice.message(0)))


def telling(home: House, group: asyncio.TaskGroup, gateway: Gateway, body: bytes) -> Told:
    return group.create_task(post(home, gateway, body, **{"Content-Encoding": "gzip"}))


async def test_history_is_unpacked_when_it_is_its_turn(tmp_path: Path, store: Store, writer: Writer) -> None:
    """One is written; the others wait as bytes."""
    async with house(tmp_path, store) as home, asyncio.TaskGroup() as group:
        made = [await home.enrol("north", f"gw{number}") for number in range(4)]
        bodies = [packed(gateway, 200) for gateway in made]
        assert min(map(len, bodies)) > SHORT_BYTES
        told = [telling(home, group, *one) for one in zip(made, bodies, strict=True)]
        await wait_until(lambda: len(writer.read) == 4 and bool(writer.taken))
        await asyncio.sleep(0.1)
        assert len(writer.unpacked) == 1
        writer.go_on.set()
        assert [(await one).json()["verdict"] for one in told] == ["ok"] * 4


async def test_what_is_fresh_shares_a_transaction_and_waits_for_no_turn_of_history(
    tmp_path: Path, writer: Writer
) -> None:
    async with house(tmp_path) as home, asyncio.TaskGroup() as group:
        made = [await home.enrol("north", f"gw{number}") for number in range(13)]
        told = [telling(home, group, made[0], packed(made[0], 200))]
        await wait_until(lambda: writer.taken)
        told += [telling(home, group, gateway, packed(gateway, 200)) for gateway in made[1:3]]
        await wait_until(lambda: len(writer.read) == 3)
        told += [telling(home, group, gateway, packed(gateway, 2)) for gateway in made[3:]]
        await wait_until(lambda: len(writer.asked) == 11)
        writer.go_on.set()
        assert [(await one).json()["verdict"] for one in told] == ["ok"] * len(made)
    # The first is alone; the fresh ones came while the second of history waited for its turn, which may come
    # while they wait a moment for each other.
    assert writer.taken[0] == 1
    assert writer.taken[1] in (10, 11)


async def test_evidence_neither_takes_nor_waits_for_a_turn_of_history(tmp_path: Path, writer: Writer) -> None:
    async with house(tmp_path) as home, asyncio.TaskGroup() as group:
        made = [await home.enrol("north", f"gw{number}") for number in range(3)]
        for gateway in made:
            telling(home, group, gateway, packed(gateway, 200))
        await wait_until(lambda: len(writer.read) == 3 and len(writer.unpacked) == 1)
        evidence = {wire.LANE_HEADER: wire.EVIDENCE_LANE, "Content-Encoding": "gzip"}
        nothing = gzip.compress(random.Random(1).randbytes(2 * SHORT_BYTES))
        answer = await asyncio.wait_for(post(home, made[0], nothing, **evidence), 10)
        assert (answer.status_code, answer.json()["reason"]) == (400, "message")
        writer.go_on.set()


async def test_waiting_for_its_turn_is_no_time_on_the_way(tmp_path: Path, writer: Writer) -> None:
    async with house(tmp_path) as home, asyncio.TaskGroup() as group:
        made = [await home.enrol("north", f"gw{number}") for number in range(3)]
        told = [telling(home, group, gateway, packed(gateway, 200)) for gateway in made]
        await wait_until(lambda: len(writer.read) == 3 and len(writer.unpacked) == 1)
        home.clock.forward(minutes=10)
        writer.go_on.set()
        await asyncio.wait(told)
        rows = home.store.read(lambda connection: connection.execute(select(tables.boot_offset)).all())
    assert len(rows) == 3
    assert len({row.offset_ms for row in rows}) == 1


async def test_more_history_than_the_collector_can_carry_is_sent_away_before_any_work(home: House) -> None:
    others = [await home.enrol("north", f"gw{number}") for number in range(3)]
    last = await home.enrol("north", "gw9")
    async with trickling(home, *others):
        assert (home.parts.syncs.inside, home.parts.syncs.waiting) == (1, 2)
        answer = await post(home, last, bytes(SHORT_BYTES + 1))
        assert (await home.sync(last)).verdict == "ok", "a heartbeat is not held up by history"
    assert (answer.status_code, answer.json()["reason"]) == (503, "busy")
    assert int(answer.headers["retry-after"]) > 0
    assert (home.parts.syncs.inside, home.parts.syncs.waiting) == (0, 0)
    assert not home.parts.syncs.was_deaf(), "its heartbeats were taken"
    assert b'andon_syncs_shed_total{reason="history"} 1.0' in home.parts.metrics.text()


async def test_a_gateway_whose_stop_is_fresh_waits_in_line_and_gets_in(home: House) -> None:
    slow, fresh = await home.enrol("north", "gw1"), await home.enrol("north", "gw2")
    fresh.voice.raises(0)
    async with trickling(home, slow, short=True):
        waiting = asyncio.create_task(home.sync(fresh))
        await wait_until(lambda: home.parts.syncs.waiting)
    assert (await waiting).verdict == "ok"


async def test_a_line_that_does_not_move_lets_nobody_wait_for_ever(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "LONGEST_LINE_S", 0.01)
    slow, fresh = await home.enrol("north", "gw1"), await home.enrol("north", "gw2")
    async with trickling(home, slow, short=True):
        answer = await post(home, fresh, b"{}")
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert b'andon_syncs_shed_total{reason="line"} 1.0' in home.parts.metrics.text()
    assert home.parts.syncs.was_deaf(), "who was sent away must not be called silent"
    assert not home.parts.syncs.was_deaf()


async def test_one_gateway_cannot_take_the_room_of_all(tmp_path: Path) -> None:
    async with house(tmp_path, max_syncs=8) as home:
        greedy, other = await home.enrol("north", "gw1"), await home.enrol("north", "gw2")
        async with trickling(home, *[greedy] * SYNCS_OF_ONE, short=True):
            answer = await post(home, greedy, b"{}")
            assert (answer.status_code, answer.json()["reason"]) == (429, "throttled")
            assert int(answer.headers["retry-after"]) > 0
            assert (await home.sync(other)).verdict == "ok"
        assert (await home.sync(greedy)).verdict == "ok"


async def test_a_noisy_gateway_is_throttled_alone_until_its_quota_has_grown_again(tmp_path: Path) -> None:
    async with house(tmp_path, gateway_rows_per_s=10) as home:
        noisy, other = await home.enrol("north", "gw1"), await home.enrol("north", "gw2")
        for number in range(200):
            noisy.voice.raises(number / 1000, device=f"printer-{number}")
        await home.sync(noisy)
        answer = await post(home, noisy, wire.encode(noisy.voice.message(1)))
        assert (answer.status_code, answer.json()["reason"]) == (429, "throttled")
        assert (await home.sync(other)).verdict == "ok"
        # 200 rows and what the message itself costs, at 10 rows/s, less what it may be ahead.
        after_s = int(answer.headers["retry-after"])
        assert after_s == (200 + ROWS_OF_A_SYNC - 100) // 10
        home.clock.forward(minutes=after_s / 60)
        assert (await home.sync(noisy)).verdict == "ok"


async def test_roll_ups_count_as_what_they_stand_for(tmp_path: Path) -> None:
    async with house(tmp_path, gateway_rows_per_s=10) as home:
        noisy = await home.enrol("north", "gw1")
        for start in (0, 50, 100, 150):
            faults = []
            for number in range(start, start + 50):
                faults.append(noisy.voice.raises(number / 100))
                noisy.voice.clears(faults[-1], number / 100 + 0.005)
            noisy.voice.rolls_up(*faults)
        await home.sync(noisy)
        answer = await post(home, noisy, wire.encode(noisy.voice.message(3)))
        assert (answer.status_code, answer.json()["reason"]) == (429, "throttled")
        assert int(answer.headers["retry-after"]) == (200 + ROWS_OF_A_SYNC - 100) // 10


def test_a_row_that_claims_to_stand_for_nothing_still_counts_as_one() -> None:
    assert stands_for([{"members": []}, {"members": 7}, None, {"members": [{}, {}]}]) == 5


async def test_who_has_more_to_tell_hears_when_it_is_its_turn(home: House) -> None:
    gateways = [await home.enrol("north", f"gw{number}") for number in range(3)]
    pauses = []
    for gateway in gateways:
        gateway.voice.raises(0)
        answer = await post(home, gateway, wire.encode(gateway.voice.message(0, head=False)))
        pauses.append(answer.json().get("history_ms", 0))
    assert pauses[0] == 0
    assert pauses[0] < pauses[1] < pauses[2]


@contextlib.asynccontextmanager
async def trickling(home: House, *gateways: Gateway, short: bool = False) -> AsyncIterator[None]:
    """While inside, each of these has a sync under way, or in line, that does not come to its end."""
    sent = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b"{"
        await sent.wait()
        yield b"}"

    declared = {"Content-Length": "2"} if short else {}
    slow = [
        asyncio.create_task(
            home.client().post(wire.SYNC_PATH, content=slowly(), headers=gateway.headers | declared)
        )
        for gateway in gateways
    ]
    await wait_until(lambda: home.parts.syncs.inside + home.parts.syncs.waiting == len(gateways))
    yield
    sent.set()
    assert {(await task).status_code for task in slow} == {400}


async def test_a_body_that_trickles_in_for_ever_is_given_up(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await home.enrol()
    monkeypatch.setattr(sync, "BODY_WITHIN_S", 0.0)

    async def never() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    answer = await home.client().post(wire.SYNC_PATH, content=never(), headers=gateway.headers)
    assert (answer.status_code, answer.json()["reason"]) == (408, "too-slow")
    assert (await home.sync(gateway)).verdict == "ok"


async def test_a_gateway_whose_link_breaks_in_the_middle_is_no_crash(home: House) -> None:
    gateway = await home.enrol()
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": wire.SYNC_PATH,
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in gateway.headers.items()],
    }
    given = iter(({"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}))
    said: list[Message] = []

    async def receive() -> Message:
        return next(given)

    async def send(message: Message) -> None:
        said.append(message)

    await home.app(scope, receive, send)
    assert said[0]["status"] == 400
    assert b"andon_crashes_total 0.0" in home.parts.metrics.text()
    assert (await home.sync(gateway)).verdict == "ok"


async def test_a_row_that_is_put_aside_is_counted(home: House) -> None:
    gateway = await home.enrol()
    gateway.voice.raises(0, severity=5_000)
    assert (await home.sync(gateway)).verdict == "ok"
    assert b"andon_rows_quarantined_total 1.0" in home.parts.metrics.text()


@pytest.mark.parametrize("at", ["read_soon", "write_soon"])
async def test_a_database_that_is_away_acknowledges_nothing_and_asks_to_come_back(
    home: House, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    gateway = await home.enrol()
    gateway.voice.raises(0)
    message = wire.encode(gateway.voice.message(0))

    async def full(*_: object) -> None:
        raise OperationalError("INSERT", {}, sqlite3.OperationalError("database or disk is full"))

    with monkeypatch.context() as patched:
        patched.setattr(type(home.store), at, full)
        answer = await post(home, gateway, message)
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert answer.json()["reason"] == "busy"
        assert "content-security-policy" in answer.headers
    assert (await post(home, gateway, message)).json()["verdict"] == "ok"


async def test_a_sync_tells_the_open_pages_of_its_site_alone(tmp_path: Path) -> None:
    # Several collectors: test_live.py.
    async with house(tmp_path) as home:
        await _tells_its_site_alone(home)


async def _tells_its_site_alone(home: House) -> None:
    north, south = home.parts.live.subscribe("bob", {"north"}), home.parts.live.subscribe("bob", {"south"})
    assert north is not None
    assert south is not None
    ticket = await home.ticket()
    news = await north.next(5)
    assert news is not None
    assert (news.ticket, news.site) == (ticket, "north")
    assert not south.waiting
