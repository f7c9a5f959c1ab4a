"""A small storm at the real program: what is promised, without a clock. `make storm` is the large one."""

from __future__ import annotations

from pathlib import Path

import pytest
from kills.books import CollectorBooks
from rigs import postgres
from storm.noise import Noise, noise
from storm.storm import Plan, database_of, storm

# Little room, so that a small fleet is a crowd.
MAX_SYNCS = "8"
PLAN = Plan(
    gateways=40,
    rows=120,
    heavy=1,
    heavy_rows=1500,
    healthy=3,
    fresh_every_s=1,
    at_least_s=5,
    at_most_s=100,
)
SEEN = {"200 ok", "429", "503"}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_a_fleet_that_comes_back_at_once_loses_nothing_and_is_told_when_to_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    monkeypatch.setenv("COLLECTOR_MAX_SYNCS", MAX_SYNCS)
    if database == "sqlite":
        await _storm(tmp_path, "")
    else:
        with postgres.running(tmp_path / "postgres") as cluster:
            await _storm(tmp_path, postgres.new_database(cluster))


async def _storm(directory: Path, database_url: str) -> None:
    outcome = await storm(PLAN, directory, database_url, say=print)
    for counts in (outcome.healthy, outcome.returning):
        assert set(counts.requests) <= SEEN, counts.errors
        assert counts.errors == []
    assert outcome.watcher.errors == []
    assert len(outcome.known_s) == len(outcome.caught_up_s) == PLAN.gateways
    assert (outcome.unconfirmed, outcome.rows_left) == (0, 0)
    assert outcome.healthy.fresh_s
    books = CollectorBooks(database_of(directory, database_url))
    try:
        held = books.occurrences()
        assert {uid: entry.open for uid, entry in held.items()} == outcome.journals
        assert books.broken_promises() == []
    finally:
        books.close()


@pytest.mark.timeout(240)
async def test_a_gateway_that_heeds_no_refusal_is_throttled_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLLECTOR_GATEWAY_ROWS_PER_S", "20")
    heard = await noise(Noise(gateways=8, turns=1, turn_s=6), tmp_path)
    assert set(heard.others) == {"200 ok"}
    assert set(heard.noisy) == {"200 ok", "429"}
    assert heard.errors == []
    assert heard.fresh_s[True]
