"""Messages that share a transaction end as if each had been alone."""

from __future__ import annotations

from typing import Any

from rigs.edge_voice import MINUTE_MS, MONDAY_MS, SITE, EdgeVoice, enrol
from sqlalchemy import select

from collector.exchange import Sync
from collector.ingest import Applied, StreamRefusedError, apply_all
from collector.store import Store, tables
from edge_agent.wire import SyncRequest


def heard(
    store: Store, *told: tuple[EdgeVoice, SyncRequest], now: float
) -> list[Applied | StreamRefusedError]:
    at_ms = MONDAY_MS + int(now * MINUTE_MS)
    syncs = [Sync(gateway=voice.gateway, message=message, now_ms=at_ms) for voice, message in told]
    outcomes = store.write(lambda connection: apply_all(connection, syncs))
    for (voice, _), outcome in zip(told, outcomes, strict=True):
        if isinstance(outcome, Applied):
            voice.hear(outcome)
    return outcomes


def stored(store: Store, site: str) -> dict[str, list[dict[str, Any]]]:
    def query(connection: Any) -> dict[str, list[dict[str, Any]]]:
        occurrence, ticket = tables.occurrence, tables.ticket
        return {
            "occurrences": [
                dict(row)
                for row in connection.execute(
                    select(occurrence).where(occurrence.c.site == site).order_by(occurrence.c.start_ms)
                ).mappings()
            ],
            "tickets": [
                dict(row)
                for row in connection.execute(
                    select(ticket).where(ticket.c.site == site).order_by(ticket.c.first_ms)
                ).mappings()
            ],
        }

    return store.read(query)


def day(store: Store, site: str, *, together: bool) -> dict[str, list[dict[str, Any]]]:
    """Three gateways, two of which see one device; faults that begin, return, end and are found ended."""
    voices = [EdgeVoice(enrol(store, f"gw{n}", site), seed=10 * len(site) + n + together) for n in range(3)]
    open_uids = []
    for minute in (1.0, 2.0, 20.0):
        told = []
        for place, voice in enumerate(voices):
            open_uids.append((voice, voice.raises(minute + place / 10, f"belt-{place // 2}", "jam")))
            if place == 1:
                voice.clears(open_uids[-1][1], minute + 0.5)
            told.append((voice, voice.message(minute + 1)))
        if together:
            heard(store, *told, now=minute + 1)
        else:
            for one in told:
                heard(store, one, now=minute + 1)
    for voice, uid in open_uids[::2]:
        if voice.rows[uid]["state"] == "open":
            voice.clears(uid, 22)
    told = [(voice, voice.message(23)) for voice in voices]
    for part in [told] if together else [[one] for one in told]:
        heard(store, *part, now=23)
    return stored(store, site)


def test_messages_that_share_a_transaction_leave_what_each_would_have_left_alone(store: Store) -> None:
    alone, shared = day(store, "alone", together=False), day(store, "shared", together=True)

    def plain(rows: list[dict[str, Any]], *left_out: str) -> list[dict[str, Any]]:
        return [
            {
                name: value.replace("shared", "alone") if isinstance(value, str) else value
                for name, value in row.items()
                if name not in left_out
            }
            for row in rows
        ]

    assert len(alone["occurrences"]) == len(shared["occurrences"]) > 8
    random = ("uid", "ticket_id", "first_boot", "end_boot", "row", "digest")
    assert plain(alone["occurrences"], *random) == plain(shared["occurrences"], *random)
    # How often it was written, and which of its occurrences opened it, may differ.
    left_out = ("id", "number", "version", "alarm_version", "recurs_of", "merged_into")
    assert plain(alone["tickets"], *left_out) == plain(shared["tickets"], *left_out)


def test_a_foreign_stream_among_them_is_refused_alone(store: Store) -> None:
    one, other = (EdgeVoice(enrol(store, name), seed=place) for place, name in enumerate(("gw1", "gw2")))
    one.sync(store, 0)
    thief = EdgeVoice(enrol(store, "gw3"), seed=9)
    thief.stream = one.stream
    other.raises(1)
    outcomes = heard(store, (thief, thief.message(2)), (other, other.message(2)), now=2)
    assert isinstance(outcomes[0], StreamRefusedError)
    assert isinstance(outcomes[1], Applied)
    assert outcomes[1].answer.hwm[0] == 1
    assert len(stored(store, SITE)["tickets"]) == 1


def test_two_new_streams_of_one_name_are_never_both_believed(store: Store) -> None:
    one, thief = (EdgeVoice(enrol(store, name), seed=place) for place, name in enumerate(("gw1", "gw2")))
    thief.stream = one.stream
    outcomes = heard(store, (one, one.message(1)), (thief, thief.message(1)), now=1)
    assert isinstance(outcomes[0], Applied)
    assert isinstance(outcomes[1], StreamRefusedError)


def test_a_uid_that_two_gateways_tell_at_once_belongs_to_the_first(store: Store) -> None:
    one, thief = (EdgeVoice(enrol(store, name), seed=place) for place, name in enumerate(("gw1", "gw2")))
    uid = one.raises(1)
    thief.raises(1)
    thief.rows = {uid: next(iter(thief.rows.values())) | {"uid": uid, "title": "mine"}}
    outcomes = heard(store, (one, one.message(2)), (thief, thief.message(2)), now=2)
    assert [outcome.quarantined for outcome in outcomes if isinstance(outcome, Applied)] == [0, 1]
    held = stored(store, SITE)["occurrences"]
    assert [(row["uid"], row["gateway_id"]) for row in held] == [(uid, one.gateway.id)]


def test_two_messages_of_one_gateway_are_taken_one_after_the_other(store: Store) -> None:
    voice = EdgeVoice(enrol(store), seed=1)
    voice.sync(store, 0)
    uid = voice.raises(1)
    first = voice.message(1)
    # The answer is still on its way; the agent gave up waiting and tells the same again, and the end of it.
    voice.clears(uid, 2)
    outcomes = heard(store, (voice, first), (voice, voice.message(2)), now=2)
    assert [outcome.answer.verdict for outcome in outcomes if isinstance(outcome, Applied)] == ["ok", "ok"]
    assert [row["open"] for row in stored(store, SITE)["occurrences"]] == [False]
