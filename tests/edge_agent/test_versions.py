"""This agent with collectors of other versions, and with a journal that a later agent has written: each cell
of the table in ``docs/wire.md``, "Versions".
"""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rigs.journals import change_file
from rigs.moments import HandClock, ids
from rigs.site import Site, forwarder
from rigs.watching import watching

from edge_agent import stored
from edge_agent.forward import Post, Reply
from edge_agent.journal import FILE

LATER = {"of_a_later_version": {"z": 1, "a": [None, True, "\u00e4\u2028</script>", {"n": 10**30}]}}

Answer = dict[str, Any]


def _without(name: str) -> Callable[[Answer], Any]:
    return lambda answer: answer.pop(name, None)


COLLECTORS: dict[str, Callable[[Answer], Any]] = {
    "later-adds-fields": lambda answer: answer.update(LATER),
    "later-has-a-later-v": lambda answer: answer.update(v=2),
    "later-says-another-word-and-holds-the-rows": lambda answer: answer.update(verdict="taken_over"),
    **{
        f"earlier-leaves-out-{name}": _without(name)
        for name in ("v", "closed_here", "want", "want_inventory", "ahead", "next_s", "history_ms")
    },
}


def of_another_version(post: Post, change: Callable[[Answer], Any]) -> Post:
    async def answered(body: bytes) -> Reply:
        reply = await post(body)
        answer: Answer = json.loads(reply.body)
        change(answer)
        return Reply(status=reply.status, body=json.dumps(answer).encode())

    return answered


@pytest.mark.parametrize("cell", COLLECTORS)
async def test_a_collector_of_another_version_gets_every_row_and_is_understood(
    tmp_path: Path, cell: str
) -> None:
    clock = HandClock()
    site = Site(tmp_path, clock)
    async with watching(tmp_path, clock) as floor:
        forward = forwarder(floor.journal, floor.watch, site, random.Random(1))
        forward._post = of_another_version(forward._post, COLLECTORS[cell])
        await floor.status(jam=True)
        await forward.exchange()
        assert site.open_tickets() == ["v1|north|belt-1|belt|jam"]
        await floor.status(jam=False)
        await forward.exchange()
        assert (site.open_tickets(), forward.collector_away) == ([], False)
        batch = await floor.journal.batch(max_rows=9, max_bytes=1 << 20)
        assert (batch.waiting, batch.from_[0]) == (0, batch.head_seq)


async def test_a_word_that_nobody_knows_and_that_moves_nothing_loses_nothing(tmp_path: Path) -> None:
    clock = HandClock()
    site = Site(tmp_path, clock)

    async def later(body: bytes) -> Reply:
        message = json.loads(body)
        answer = {
            "verdict": "not_now",
            "stream": message["stream"],
            "hwm": message["from"],
            "server_ms": 0,
        }
        return Reply(status=200, body=json.dumps(answer).encode())

    async with watching(tmp_path, clock) as floor:
        forward = forwarder(floor.journal, floor.watch, site, random.Random(1))
        post, forward._post = forward._post, later
        await floor.status(jam=True)
        for _ in range(3):
            # Not at once: it may say so for ever.
            assert (await forward.exchange()).seconds > 0
        assert (await floor.journal.batch(max_rows=9, max_bytes=1 << 20)).waiting == 1
        forward._post = post
        await forward.exchange()
        assert site.open_tickets() == ["v1|north|belt-1|belt|jam"]


async def test_a_row_of_a_later_agent_is_sent_on_as_it_is_and_keeps_its_fields_when_it_ends(
    tmp_path: Path,
) -> None:
    """After a downgrade: the row was written by a later agent and had not been sent."""
    clock, new_id = HandClock(), ids()
    site = Site(tmp_path, clock)
    async with watching(tmp_path, clock, new_id=new_id) as floor:
        await floor.status(jam=True)
    with sqlite3.connect(tmp_path / FILE) as connection:
        (text,) = connection.execute("SELECT body FROM occurrence").fetchone()
    connection.close()
    row = json.loads(text)
    row |= LATER | {"severity": 35, "reason": "later"}
    row["first_bad"] |= LATER | {"source": "gps"}
    row["severities"][0] |= LATER
    body = json.dumps(row, separators=(",", ":"), ensure_ascii=False)
    change_file(tmp_path, "UPDATE occurrence SET body = ?, crc = ?", body, stored.crc(body))
    async with watching(tmp_path, clock, new_id=new_id) as floor:
        forward = forwarder(floor.journal, floor.watch, site, random.Random(1))
        await forward.exchange()
        (told,) = site.messages[-1].rows
        assert told == row
        clock.go(20)
        await floor.status(jam=False)
        await forward.exchange()
        (told,) = site.messages[-1].rows
        assert (told["state"], told["rev"], told["severity"]) == ("closed", 2, 35)
        assert LATER.items() <= told.items()
        assert LATER.items() <= told["severities"][0].items()
        # There is no room for it in a moment that is written again.
        plain = {name: value for name, value in row["first_bad"].items() if name not in LATER}
        assert told["first_bad"] == plain
