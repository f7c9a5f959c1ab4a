"""What could not be taken is kept within bounds, the oldest of it in short."""

from __future__ import annotations

import json

import pytest
from rigs.edge_voice import EdgeVoice, enrol
from sqlalchemy import select

from collector.store import Store, aside, tables


@pytest.fixture
def edge(store: Store, monkeypatch: pytest.MonkeyPatch) -> EdgeVoice:
    monkeypatch.setattr(aside, "WHOLE", 3)
    monkeypatch.setattr(aside, "MOST", 6)
    return EdgeVoice(enrol(store))


def cannot_be_read(edge: EdgeVoice, **more: object) -> str:
    uid = edge.raises(0)
    edge.rows[uid] |= {"rev": 0, "words": "x" * 1_000, **more}
    return uid


def kept(store: Store) -> list[dict[str, object]]:
    query = select(tables.quarantine.c.raw).order_by(tables.quarantine.c.id)
    return [json.loads(raw) for raw in store.read(lambda c: c.execute(query).scalars().all())]


def test_the_newest_are_whole_of_older_ones_it_is_known_what_they_are_about(
    store: Store, edge: EdgeVoice
) -> None:
    uids = [cannot_be_read(edge) for _ in range(5)]
    edge.sync(store, 1)
    assert store.write(aside.thin) == 2
    about = {"device": "printer-1", "component": "media", "fault": "paper-out"}
    assert kept(store)[:2] == [{"uid": uid, **about} for uid in uids[:2]]
    assert all("words" in one for one in kept(store)[2:])
    assert store.write(aside.thin) == 0
    # It is not asked for again, and closes nothing of its condition.
    assert edge.sync(store, 2).answer.want == []


def test_the_oldest_of_too_many_are_let_go_of_of_each_gateway_its_own(store: Store, edge: EdgeVoice) -> None:
    other = EdgeVoice(enrol(store, "gw2"), seed=2)
    others = cannot_be_read(other)
    other.sync(store, 0)
    uids = [cannot_be_read(edge) for _ in range(8)]
    edge.sync(store, 1)
    while store.write(aside.thin):
        pass
    assert [one["uid"] for one in kept(store)] == [others, *uids[2:]]


@pytest.mark.parametrize("monstrous", ["words", "device"])
def test_of_a_monstrous_one_what_can_be_read_is_kept(store: Store, edge: EdgeVoice, monstrous: str) -> None:
    cannot_be_read(edge, **{monstrous: "x" * (aside.MAX_RAW_CHARS - 5_000)})
    for _ in range(3):
        cannot_be_read(edge)
    edge.sync(store, 1)
    assert store.write(aside.thin) == 1
    assert len(str(kept(store)[0])) < aside.BRIEF_CHARS
    assert store.write(aside.thin) == 0


def test_what_was_put_aside_is_asked_for_in_parts(
    store: Store, edge: EdgeVoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aside, "AT_ONCE", 2)
    uids = [cannot_be_read(edge) for _ in range(5)]
    held = edge.raises(0, "printer-2")
    edge.sync(store, 1)
    told = store.read(lambda connection: list(aside.about(connection, edge.gateway.id, {*uids, held})))
    assert sorted(str(one["uid"]) for one in told) == sorted(uids)
    assert edge.sync(store, 2).answer.want == []
