from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from rigs import postgres
from rigs.edge_voice import MINUTE_MS, MONDAY_MS, EdgeVoice, enrol, send
from sqlalchemy import Connection, insert, select, text

from collector.command import Actor, carry_out
from collector.exchange import GatewayIdentity
from collector.folding import Change
from collector.ingest import Applied, apply
from collector.minted import silent_uid
from collector.store import Store, moment, occurrences, streams, tables
from collector.store import tickets as ticket_store
from collector.store.devices import devices
from collector.store.figures import figures
from collector.store.gateways import gateways
from collector.store.tickets import State, TicketFilter, TicketView
from collector.sweep import sweep
from collector.tickets import EVERY_SITE, Ack, Condition, Policy, Resolve, Role, Work
from edge_agent.wire import dedupe_key


def swept(store: Store, minute: float, started: float = 0) -> tuple[Change, ...]:
    now_ms, started_ms = (MONDAY_MS + int(moment * MINUTE_MS) for moment in (minute, started))
    return store.write(lambda connection: sweep(connection, now_ms, started_ms=started_ms))


def tickets(store: Store, state: State | None = State.OPEN) -> dict[str, TicketView]:
    wanted = TicketFilter(sites=None, state=state)
    found = store.read(lambda connection: ticket_store.find(connection, wanted, None, 100)).items
    return {ticket.fault if ticket.fault == "silent" else ticket.device: ticket for ticket in found}


def states(store: Store) -> dict[str, str]:
    return {one.id: one.state for one in store.read(lambda connection: devices(connection, None))}


@pytest.fixture
def edge(store: Store) -> EdgeVoice:
    edge = EdgeVoice(enrol(store))
    edge.watches("printer-1", "printer-2")
    edge.raises(0)
    edge.sync(store, 0.1)
    return edge


def test_a_gateway_that_falls_silent_is_a_ticket_and_its_devices_are_unknown(
    store: Store, edge: EdgeVoice
) -> None:
    assert swept(store, 1.05) == ()
    assert states(store) == {"printer-1": "stop", "printer-2": "ok"}
    assert len(swept(store, 1.2)) == 2
    found = tickets(store)
    assert (found["silent"].device, found["silent"].severity) == ("gw1", "stop")
    assert found["silent"].occurred_ms == MONDAY_MS + 6_000
    assert found["silent"].id == silent_uid(edge.gateway.id, MONDAY_MS + 6_000)
    assert (found["printer-1"].condition, found["printer-1"].word) == (Condition.UNKNOWN, "Unknown")
    assert states(store) == {"printer-1": "unknown", "printer-2": "unknown"}
    counted = store.read(figures)
    assert (counted.gateways, counted.gateways_silent) == (1, 1)
    assert swept(store, 1.3) == ()


def test_a_nul_in_what_a_gateway_advised_does_not_stop_the_clock_of_all(store: Store) -> None:
    edge = EdgeVoice(enrol(store))
    edge.raises(0, advice="Pull\0the plug.", title="No\0paper")
    edge.sync(store, 0.1)
    assert len(swept(store, 2)) == 2
    assert tickets(store)["printer-1"].advice == "Pull\ufffdthe plug."


def test_it_comes_back_without_a_storm(store: Store, edge: EdgeVoice) -> None:
    swept(store, 2)
    before = tickets(store)
    told = edge.sync(store, 5)
    assert {change.ticket_id for change in told.changed} == {ticket.id for ticket in before.values()}
    after = tickets(store)
    assert after.keys() == before.keys()
    assert (after["silent"].work, after["silent"].ended_ms) == (Work.RESOLVED, MONDAY_MS + 5 * MINUTE_MS)
    assert after["printer-1"].condition is Condition.ACTIVE
    assert (after["printer-1"].id, after["printer-1"].number) == (before["printer-1"].id, 1)
    assert states(store) == {"printer-1": "stop", "printer-2": "ok"}
    assert swept(store, 5.5) == ()


def test_a_technician_who_acknowledged_before_the_silence_is_not_called_again(
    store: Store, edge: EdgeVoice
) -> None:
    ticket = tables.ticket
    store.write(
        lambda connection: connection.execute(
            ticket.update().values(ack_seen=ticket.c.version, acked_by="tina")
        )
    )
    swept(store, 2)
    edge.sync(store, 5)
    assert tickets(store)["printer-1"].ack is Ack.ACKED


def test_what_is_not_looked_at_yet_stays_unknown_after_the_return(store: Store, edge: EdgeVoice) -> None:
    swept(store, 2)
    edge.unsettled = ["printer-1|media|paper-out"]
    edge.sync(store, 5)
    assert tickets(store)["printer-1"].condition is Condition.UNKNOWN
    edge.unsettled = []
    edge.sync(store, 5.2)
    assert tickets(store)["printer-1"].condition is Condition.ACTIVE


def test_a_fault_that_ended_during_the_silence_ends_when_it_ended(store: Store, edge: EdgeVoice) -> None:
    swept(store, 2)
    (uid,) = edge.rows
    edge.clears(uid, 3)
    edge.sync(store, 9)
    ticket = tickets(store)["printer-1"]
    assert (ticket.condition, ticket.ended_ms) == (Condition.CLEARED, MONDAY_MS + 3 * MINUTE_MS)


def test_a_fault_that_another_gateway_still_sees_stays_known(store: Store, edge: EdgeVoice) -> None:
    other = EdgeVoice(enrol(store, "gw2"), seed=2)
    other.watches("printer-1")
    other.raises(0)
    other.sync(store, 1)
    swept(store, 1.5)
    assert tickets(store)["printer-1"].condition is Condition.ACTIVE
    assert states(store) == {"printer-1": "stop", "printer-2": "unknown"}


def test_a_collector_that_just_started_declares_nobody_silent(store: Store, edge: EdgeVoice) -> None:
    assert swept(store, 60, started=59.5) == ()
    assert swept(store, 60.6, started=59.5) != ()


def test_a_gateway_that_never_spoke_or_is_revoked_is_not_silent(store: Store, edge: EdgeVoice) -> None:
    enrol(store, "gw9")
    gateway = tables.gateway
    store.write(
        lambda connection: connection.execute(
            gateway.update().where(gateway.c.name == "gw1").values(revoked_ms=MONDAY_MS)
        )
    )
    assert [change.ticket_id for change in swept(store, 30)] == list(edge.rows)
    assert swept(store, 31) == ()
    shown = {one.name: one.state for one in store.read(lambda connection: gateways(connection, None))}
    assert shown == {"gw1": "revoked", "gw9": "never"}


def test_what_a_revoked_gateway_told_is_watched_by_nobody_and_ends(store: Store, edge: EdgeVoice) -> None:
    swept(store, 2)
    gateway = tables.gateway
    revoked_ms = MONDAY_MS + 3 * MINUTE_MS
    store.write(lambda connection: connection.execute(gateway.update().values(revoked_ms=revoked_ms)))
    assert len(swept(store, 3)) == 2
    assert {ticket.work for ticket in tickets(store).values()} == {Work.RESOLVED}
    assert states(store) == {"printer-1": "unknown", "printer-2": "unknown"}
    assert swept(store, 4) == ()
    # It is enrolled again, and the fault is still there: the agent is told, and raises it anew.
    store.write(lambda connection: connection.execute(gateway.update().values(revoked_ms=None)))
    (uid,) = edge.rows
    assert edge.sync(store, 5).answer.closed_here == [uid]
    edge.clears(uid, 5, reason="closed_here")
    edge.raises(5.1)
    edge.sync(store, 5.2)
    ticket = tickets(store)["printer-1"]
    assert (ticket.id, ticket.condition) == (uid, Condition.ACTIVE)


@pytest.mark.parametrize("speaks_again", [True, False])
def test_a_heartbeat_that_came_while_the_clock_here_was_ahead_hides_no_silence(
    store: Store, edge: EdgeVoice, speaks_again: bool
) -> None:
    day = 24 * 60.0
    edge.hear(send(store, edge.gateway, edge.message(0.3), day))
    if speaks_again:
        edge.sync(store, 0.5)
    assert swept(store, 0.6) == ()
    assert swept(store, 1.4) == ()
    assert len(swept(store, 1.7)) == 2
    assert tickets(store)["silent"].occurred_ms == MONDAY_MS + int((0.5 if speaks_again else 0.6) * MINUTE_MS)


def test_a_second_silence_soon_after_is_the_same_ticket(store: Store, edge: EdgeVoice) -> None:
    swept(store, 2)
    first = tickets(store)["silent"]
    edge.sync(store, 3)
    edge.sync(store, 4)
    swept(store, 6)
    ticket = tickets(store)["silent"]
    assert (ticket.id, ticket.returns, ticket.condition) == (first.id, 1, Condition.ACTIVE)


def test_a_restored_backup_tells_the_same_silence_once(store: Store, edge: EdgeVoice) -> None:
    swept(store, 2)
    gateway = tables.gateway
    store.write(lambda connection: connection.execute(gateway.update().values(silent_ms=None)))
    swept(store, 2.1)
    uids = store.read(
        lambda connection: connection.execute(
            select(tables.occurrence.c.uid).where(tables.occurrence.c.minted)
        ).all()
    )
    assert len(uids) == 1


def test_quiet_tickets_are_closed_when_their_gateway_has_told_all(store: Store, edge: EdgeVoice) -> None:
    (uid,) = edge.rows
    edge.clears(uid, 1)
    edge.sync(store, 1.1)
    for minute in range(2, 31):
        edge.sync(store, minute)
        assert swept(store, minute + 0.1) == ()
    edge.sync(store, 31)
    assert [change.ticket_id for change in swept(store, 31.2)] == [uid]
    assert tickets(store, State.CLOSED)["printer-1"].work is Work.CLOSED
    assert Policy().quiet_ms == 30 * MINUTE_MS


def test_what_a_silent_gateway_may_still_tell_keeps_a_ticket_open_for_a_day(
    store: Store, edge: EdgeVoice
) -> None:
    (uid,) = edge.rows
    edge.clears(uid, 1)
    edge.sync(store, 1.1)
    swept(store, 40)
    assert tickets(store)["printer-1"].work is Work.RESOLVED
    # It raised again at minute 5, in time; the news comes hours later, and it is the same ticket.
    edge.raises(5)
    edge.sync(store, 300)
    assert (tickets(store)["printer-1"].id, tickets(store)["printer-1"].returns) == (uid, 1)
    again = list(edge.rows)[-1]
    edge.clears(again, 6)
    edge.sync(store, 301, head=False)
    # One sweep calls the gateway silent, the next closes.
    for minute in (7, 7.1):
        swept(store, 24 * 60 + minute)
    assert tickets(store, State.CLOSED)["printer-1"].id == uid


def overridden(store: Store, uid: str, minute: float) -> None:
    """A lead resolves it although it is reported."""
    lead = Actor(name="leo", role=Role.LEAD, sites=frozenset({EVERY_SITE}))
    (ticket,) = [one for one in tickets(store).values() if one.id == uid]
    outcome = store.write(
        lambda connection: carry_out(
            connection,
            lead,
            uid,
            Resolve(note="cosmetic", override=True),
            idempotency_key=None,
            if_match=ticket.version,
            now_ms=MONDAY_MS + int(minute * MINUTE_MS),
        )
    )
    assert outcome.result == "applied"


def reasons(store: Store) -> list[str]:
    entry = tables.ticket_entry.c
    return list(
        store.read(lambda connection: connection.execute(select(entry.reason).order_by(entry.id)).scalars())
    )


def test_what_was_resolved_while_it_was_reported_calls_again_after_a_day(
    store: Store, edge: EdgeVoice
) -> None:
    (uid,) = edge.rows
    overridden(store, uid, 1)
    day = 24 * 60
    for minute in (2, day, day + 0.9):
        edge.sync(store, minute)
        assert swept(store, minute) == ()
    assert [change.ticket_id for change in swept(store, day + 1)] == [uid]
    ticket = tickets(store)["printer-1"]
    assert (ticket.work, ticket.ack, ticket.word) == (Work.NEW, Ack.UNACKED, "Unacknowledged")
    assert swept(store, day + 1.1) == ()
    assert reasons(store)[-2:] == ["overridden", "still_reported"]
    overridden(store, uid, day + 2)
    edge.sync(store, 2 * day + 2)
    assert len(swept(store, 2 * day + 2)) == 1


def test_several_collectors_call_again_once(postgres_url: str, made_database: str) -> None:
    url = postgres.new_database(postgres_url, made_database)
    stores = [Store.open(url) for _ in range(3)]
    edge, day = EdgeVoice(enrol(stores[0])), 24 * 60
    uids = [edge.raises(0, f"belt-{number}") for number in range(12)]
    edge.sync(stores[0], 0.1)
    for uid in uids:
        overridden(stores[0], uid, 1)
    edge.sync(stores[0], day + 1)
    with ThreadPoolExecutor(len(stores)) as threads:
        called = list(threads.map(lambda store: len(swept(store, day + 1) + swept(store, day + 1)), stores))
    assert sum(called) == len(uids)
    assert reasons(stores[0]).count("still_reported") == len(uids)
    for store in stores:
        store.close()


def test_of_many_gateways_that_fall_silent_at_once_a_sweep_takes_some(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collector.sweep.MAX_SILENCED", 2)
    for number in range(3):
        EdgeVoice(enrol(store, f"gw-{number}"), seed=number).sync(store, 0)
    assert [len(swept(store, 2)) for _ in range(3)] == [2, 1, 0]


def test_the_timers_of_several_collectors_fire_once(postgres_url: str, made_database: str) -> None:
    url = postgres.new_database(postgres_url, made_database)
    stores = [Store.open(url) for _ in range(3)]
    gateways = 12
    for number in range(gateways):
        edge = EdgeVoice(enrol(stores[0], f"gw-{number}"), seed=number)
        edge.watches(f"belt-{number}")
        edge.raises(0, f"belt-{number}")
        cleared = edge.raises(0, "shared", fault=f"f{number}")
        edge.clears(cleared, 0.01)
        edge.sync(stores[0], 0.1)

    def sweeps(store: Store) -> int:
        # The last one: the tickets that have been quiet for long enough are closed.
        return sum(len(swept(store, minute)) for minute in (2, 2.1, 3, 3.1, 2_000, 2_000.1))

    with ThreadPoolExecutor(len(stores)) as threads:
        list(threads.map(sweeps, stores))
    entry = tables.ticket_entry.c
    written = stores[0].read(
        lambda connection: connection.execute(select(entry.ticket_id, entry.reason)).all()
    )
    assert len(set(written)) == len(written), "an entry was written twice"
    reasons = [reason for _, reason in written]
    assert (reasons.count("quiet"), reasons.count("lost")) == (gateways, gateways)
    for store in stores:
        store.close()


def test_while_one_collector_sweeps_the_others_do_not(postgres_url: str, made_database: str) -> None:
    url = postgres.new_database(postgres_url, made_database)
    stores = [Store.open(url) for _ in range(2)]
    EdgeVoice(enrol(stores[0])).sync(stores[0], 0)

    def during(connection: Connection) -> tuple[Change, ...]:
        assert moment.claim_timers(connection)
        return swept(stores[1], 2)

    assert stores[0].write(during) == ()
    assert len(swept(stores[1], 2)) == 1
    for store in stores:
        store.close()


def test_a_gateway_that_speaks_while_it_is_called_silent_and_the_sweep_do_not_wait_for_each_other(
    made_database: str, postgres_url: str
) -> None:
    url = postgres.new_database(postgres_url, made_database)
    store, other = Store.open(url), Store.open(url)
    voices = [EdgeVoice(enrol(store, name), seed=seed) for seed, name in enumerate(("gw1", "gw2"))]
    for voice in voices:
        voice.sync(store, 0.1)
    speaks = voices[1]
    speaks.raises(2)
    tries: list[str] = []

    def sweeps(connection: Connection) -> tuple[Change, ...]:
        tries.append("sweep")
        return sweep(connection, MONDAY_MS + 3 * MINUTE_MS)

    def is_held_up(connection: Connection) -> bool:
        waits = text("SELECT 1 FROM pg_locks WHERE NOT granted")
        return connection.execute(waits).first() is not None

    def speak(connection: Connection) -> Applied:
        tries.append("message")
        streams.lock_gateway(connection, speaks.gateway.id)
        sweeping.append(pool.submit(other.write, sweeps))
        while not other.read(is_held_up):
            time.sleep(0.01)
        return apply(connection, speaks.gateway, speaks.message(3), MONDAY_MS + 3 * MINUTE_MS)

    sweeping: list[Future[tuple[Change, ...]]] = []
    with ThreadPoolExecutor(1) as pool:
        assert store.write(speak).answer.verdict == "ok"
        assert len(sweeping[0].result()) == 1
    assert sorted(tries) == ["message", "sweep"]
    assert [one.state for one in store.read(lambda c: gateways(c, None))] == ["silent", "ok"]
    store.close()
    other.close()


# In the order in which messages take them, which is not that of their keys.
SITES = ("north", "north-2")


@pytest.mark.parametrize("what", ["silent", "quiet"])
def test_messages_of_two_sites_and_the_sweep_do_not_wait_for_each_other(
    made_database: str, postgres_url: str, what: str
) -> None:
    url = postgres.new_database(postgres_url, made_database)
    store, other = Store.open(url), Store.open(url)
    # The first gateway by its id is of the last site.
    voices = [
        EdgeVoice(enrol_as(store, gateway_id, site), seed=seed)
        for seed, (gateway_id, site) in enumerate(zip("ba", SITES, strict=True))
    ]
    for voice in voices:
        voice.clears(voice.raises(0), 1)
        voice.sync(store, 2)
    tries: list[str] = []

    def sweeps(connection: Connection) -> tuple[Change, ...]:
        tries.append("sweep")
        # After the last: who could be silent is not asked.
        started_ms = MONDAY_MS if what == "silent" else MONDAY_MS + 10_000 * MINUTE_MS
        return sweep(connection, MONDAY_MS + 2_000 * MINUTE_MS, started_ms=started_ms)

    def is_held_up(connection: Connection) -> bool:
        waits = text("SELECT 1 FROM pg_locks WHERE NOT granted")
        return connection.execute(waits).first() is not None

    def keys(site: str) -> list[str]:
        names = ("gw", "agent", "silent"), ("printer-1", "media", "paper-out")
        return [dedupe_key(site, *one) for one in names]

    def messages(connection: Connection) -> None:
        tries.append("messages")
        occurrences.lock_conditions(connection, SITES[0], keys(SITES[0]))
        if not sweeping:
            sweeping.append(pool.submit(other.write, sweeps))
        while not other.read(is_held_up):
            time.sleep(0.01)
        occurrences.lock_conditions(connection, SITES[1], keys(SITES[1]))

    sweeping: list[Future[tuple[Change, ...]]] = []
    with ThreadPoolExecutor(1) as pool:
        store.write(messages)
        assert len(sweeping[0].result()) == len(SITES)
    assert sorted(tries) == ["messages", "sweep"]
    store.close()
    other.close()


def enrol_as(store: Store, gateway_id: str, site: str) -> GatewayIdentity:
    values = {"id": gateway_id, "site": site, "name": "gw", "created_ms": MONDAY_MS}
    store.write(lambda connection: connection.execute(insert(tables.gateway).values(**values)))
    return GatewayIdentity(id=gateway_id, site=site, name="gw")
