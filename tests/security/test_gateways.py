"""A gateway speaks for itself alone: stolen, forging, replayed, revoked."""

from __future__ import annotations

import json
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rigs.edge_voice import EdgeVoice, enrol, send
from rigs.web import House, house

from collector.admin import RevokeGateway
from collector.auth import ROUTES, Who
from collector.ingest import StreamRefusedError
from collector.store import Store, tables
from edge_agent import wire

REPLAYS = int(os.environ.get("REPLAYS", "1000"))
# Who spoke last, and what an agent said of its own health: a replay is somebody speaking.
FORGETTING = {"gateway": ("last_contact_ms", "caught_up_ms", "health")}


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as made:
        made.add_cast()
        yield made


def everything(store: Store) -> dict[str, list[Any]]:
    """What is stored, table by table, without the signs of life."""

    def read(connection: Any) -> dict[str, list[Any]]:
        found = {}
        for table in tables.metadata.sorted_tables:
            columns = [c for c in table.c if c.name not in FORGETTING.get(table.name, ())]
            found[table.name] = sorted(
                repr(tuple(row)) for row in connection.execute(table.select().with_only_columns(*columns))
            )
        return found

    return store.read(read)


async def test_a_stolen_gateway_opens_nothing_of_another_and_nothing_for_people(home: House) -> None:
    thief, other = await home.enrol("north", "gw-a"), await home.enrol("south", "gw-b")
    other.voice.watches("printer-1")
    ticket = other.voice.raises(0)
    await home.sync(other)
    before = everything(home.store)
    client = home.client(Authorization=thief.headers["Authorization"])
    for rule in ROUTES:
        if rule.who in (Who.ANYONE, Who.GATEWAY):
            continue
        path = rule.path.replace("{ticket}", ticket)
        answer = await client.request(rule.method, path, json={} if rule.method == "POST" else None)
        at_the_door = answer.status_code in (401, 403, 404) or answer.headers.get("location", "").startswith(
            "/login"
        )
        assert at_the_door, (rule, answer.status_code)
        assert "printer-1" not in answer.text
    stolen = await client.post(wire.SYNC_PATH, content=wire.encode(other.voice.message(0)))
    assert (stolen.status_code, stolen.json()["reason"]) == (403, "stream")
    after = everything(home.store)
    assert {name for name in before if before[name] != after[name]} == {"audit"}


MINE = st.fixed_dictionaries(
    {
        "uid": st.sampled_from(["theirs", "new"]),
        "device": st.sampled_from(["printer-1", "printer-2"]),
        "state": st.sampled_from(["open", "closed"]),
        "rev": st.integers(1, 9),
        "site": st.sampled_from(["south", "north"]),
        "gateway": st.just("gw-b"),
    }
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(forged=st.lists(MINE, min_size=1, max_size=4), closes=st.booleans())
def test_no_row_that_a_gateway_forges_changes_what_is_held_of_another(
    tmp_path_factory: pytest.TempPathFactory, forged: list[dict[str, Any]], closes: bool
) -> None:
    store = Store.open(f"sqlite:///{tmp_path_factory.mktemp('forged')}/collector.db")
    try:
        honest, liar = (
            EdgeVoice(enrol(store, "gw-b", "south")),
            EdgeVoice(enrol(store, "gw-a", "north"), seed=2),
        )
        theirs = honest.raises(0)
        honest.sync(store, 0)
        held = occurrences_of(store, "gw-b")
        for one in forged:
            uid = liar.raises(1, one["device"])
            row = liar.rows.pop(uid) | one | {"uid": theirs if one["uid"] == "theirs" else uid}
            if one["state"] == "closed":
                row |= {"cleared": row["raised"]}
            liar.rows[row["uid"]] = row
        if closes:
            liar.unsettled = []
        liar.sync(store, 1)
        assert occurrences_of(store, "gw-b") == held
        assert {site for _, site, _ in occurrences_of(store, "gw-a")} <= {"north"}
        try:
            send(store, liar.gateway, honest.message(2), 2)
        except StreamRefusedError:
            assert occurrences_of(store, "gw-b") == held
        else:
            raise AssertionError("a stream belongs to one gateway")
    finally:
        store.close()


def occurrences_of(store: Store, gateway: str) -> list[tuple[str, str, str]]:
    table, names = tables.occurrence, tables.gateway
    return store.read(
        lambda connection: sorted(
            (row.uid, row.site, repr(row._mapping))
            for row in connection.execute(
                table.select().join(names, names.c.id == table.c.gateway_id).where(names.c.name == gateway)
            )
        )
    )


def test_requests_that_were_captured_and_are_sent_again_change_nothing(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path}/collector.db")
    voice = EdgeVoice(enrol(store))
    voice.watches("printer-1", "printer-2")
    captured, uids = [], []
    for minute in range(60):
        if minute % 3 == 0:
            uids.append(voice.raises(minute, f"printer-{minute % 2 + 1}", f"fault-{minute}"))
        if minute % 5 == 4:
            voice.clears(uids[minute % len(uids)], minute)
        message = voice.message(minute)
        captured.append(wire.encode(message))
        voice.hear(send(store, voice.gateway, message, minute))
    before = everything(store)
    rng = random.Random(7)
    for _ in range(REPLAYS):
        message = wire.decode_sync(rng.choice(captured))
        send(store, voice.gateway, message, 61 + rng.random())
    assert everything(store) == before
    store.close()


@pytest.mark.parametrize("lane", ["rows", "evidence", "evidence among the rows"])
async def test_what_a_revoked_gateway_sends_is_refused_at_once_on_every_route(home: House, lane: str) -> None:
    gateway = await home.enrol("north", "gw-a")
    gateway.voice.watches("printer-1")
    uid = gateway.voice.raises(0)
    await home.sync(gateway)
    admin = await home.log_in("erin")
    assert json.loads((await admin.get("/api/v1/gateways")).text)["items"][0]["state"] == "ok"
    home.order(RevokeGateway(site="north", name="gw-a"))
    before = everything(home.store)
    gateway.voice.clears(uid, 1)
    body, headers = wire.encode(gateway.voice.message(1)), dict(gateway.headers)
    if lane != "rows":
        part = {"uid": uid, "part": "before", "evidence": {"readings": []}}
        body = json.dumps({"v": 1, "lane": wire.EVIDENCE_LANE, "parts": [part]}).encode()
    if lane == "evidence":
        headers[wire.LANE_HEADER] = wire.EVIDENCE_LANE
    # The first one finds out, the second one is not remembered any more.
    for _ in range(2):
        answer = await home.client().post(wire.SYNC_PATH, content=body, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    assert everything(home.store) == before


async def test_the_box_that_was_replaced_is_refused_and_the_new_one_is_heard(home: House) -> None:
    old = await home.enrol("north", "gw-a")
    uid = old.voice.raises(0)
    await home.sync(old)
    new = await home.enrol("north", "gw-a")
    before = everything(home.store)
    old.voice.clears(uid, 1)
    answer = await home.client().post(
        wire.SYNC_PATH, content=wire.encode(old.voice.message(1)), headers=old.headers
    )
    assert answer.status_code == 401
    assert everything(home.store) == before
    await home.sync(new)


async def test_a_secret_that_is_wrong_is_refused_when_the_right_one_is_remembered(home: House) -> None:
    gateway = await home.enrol("north", "gw-a")
    await home.sync(gateway)
    bearer = gateway.bearer.partition(".")[0] + "." + "x" * 43
    answer = await home.client().post(
        wire.SYNC_PATH,
        content=wire.encode(gateway.voice.message(0)),
        headers=gateway.headers | {"Authorization": f"Bearer {bearer}"},
    )
    assert answer.status_code == 401
