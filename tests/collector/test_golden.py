"""Golden messages: what agents of every release send is understood and answered the same.

Each file of ``tests/wire/v1`` is one conversation, with the moments at which it came in. Files are added,
never edited.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rigs.edge_voice import enrol
from sqlalchemy import select

from collector import evidence
from collector.ingest import apply
from collector.store import Store, tables
from collector.store import evidence as evidence_store
from edge_agent.wire import (
    EnrollAnswer,
    EnrollRequest,
    EvidenceRequest,
    Verdict,
    decode_answer,
    decode_evidence_answer,
    decode_message,
    decode_sync,
    encode,
)

FILES = sorted(Path(__file__).parents[1].glob("wire/v1/*.json"))
CONVERSATIONS = [file for file in FILES if file.stem not in ("enroll", "evidence")]


def spoken(file: Path) -> list[dict[str, Any]]:
    exchanges: list[dict[str, Any]] = json.loads(file.read_text())["exchanges"]
    return exchanges


def raw(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode()


@pytest.mark.parametrize("file", CONVERSATIONS, ids=lambda file: file.stem)
def test_a_conversation_is_answered_as_it_was_when_it_was_frozen(store: Store, file: Path) -> None:
    gateway = enrol(store)
    for exchange in spoken(file):
        message = decode_sync(raw(exchange["request"]))
        now_ms = exchange["at_ms"]
        answer = store.write(partial(apply, gateway=gateway, message=message, now_ms=now_ms)).answer
        assert json.loads(encode(answer)) == exchange["answer"]


@pytest.mark.parametrize("file", CONVERSATIONS, ids=lambda file: file.stem)
def test_nothing_that_was_said_is_lost_in_between(file: Path) -> None:
    for exchange in spoken(file):
        assert json.loads(encode(decode_sync(raw(exchange["request"])))) == exchange["request"]
        assert json.loads(encode(decode_answer(raw(exchange["answer"])))) == exchange["answer"]


def test_what_a_later_agent_adds_to_a_row_is_stored_as_it_came(sqlite_store: Store) -> None:
    gateway = enrol(sqlite_store)
    (exchange,) = spoken(next(file for file in FILES if file.stem == "later-version"))
    message = decode_sync(raw(exchange["request"]))
    sqlite_store.write(lambda connection: apply(connection, gateway, message, exchange["at_ms"]))
    stored = sqlite_store.read(
        lambda connection: connection.execute(select(tables.occurrence.c.row)).scalars().all()
    )
    assert list(stored) == exchange["request"]["rows"]


def test_a_loss_that_is_told_again_is_one_gap(store: Store) -> None:
    gateway = enrol(store)
    for exchange in spoken(next(file for file in FILES if file.stem == "loss-told-again")):
        message = decode_sync(raw(exchange["request"]))
        store.write(partial(apply, gateway=gateway, message=message, now_ms=exchange["at_ms"]))
    gap = tables.gap.c
    held = select(gap.from_seq, gap.to_seq, gap.count)
    assert store.read(lambda connection: connection.execute(held).all()) == [(3, 4, 2)]


def test_every_verdict_is_in_a_conversation() -> None:
    verdicts = {exchange["answer"]["verdict"] for file in CONVERSATIONS for exchange in spoken(file)}
    assert verdicts == set(Verdict)


def test_enrolment_is_understood() -> None:
    golden = json.loads(next(file for file in FILES if file.stem == "enroll").read_text())
    asked = EnrollRequest.model_validate(golden["request"])
    told = EnrollAnswer.model_validate(golden["answer"])
    assert json.loads(encode(asked)) == golden["request"]
    assert json.loads(encode(told)) == golden["answer"]


def test_evidence_is_taken_as_it_was_when_it_was_frozen(store: Store) -> None:
    gateway = enrol(store)
    sync, told = spoken(next(file for file in FILES if file.stem == "evidence"))
    feed = decode_sync(raw(sync["request"]))
    answer = store.write(partial(apply, gateway=gateway, message=feed, now_ms=sync["at_ms"])).answer
    assert json.loads(encode(answer)) == sync["answer"]
    message = decode_message(raw(told["request"]))
    assert isinstance(message, EvidenceRequest)
    taken = store.write(
        partial(evidence.take, gateway=gateway, parts=evidence.read(message), now_ms=told["at_ms"])
    )
    assert json.loads(encode(taken.answer)) == told["answer"]
    (uid,) = {row["uid"] for row in sync["request"]["rows"]}
    kept = store.read(partial(evidence_store.parts_of, uids=[uid]))[uid]
    wanted = {one["part"]: one.get("evidence") for one in told["request"]["parts"] if one["uid"] == uid}
    del wanted["UNREADABLE"]
    assert {one.part: one.evidence for one in kept} == wanted
    assert json.loads(encode(message)) == told["request"]
    assert json.loads(encode(decode_evidence_answer(raw(told["answer"])))) == told["answer"]
