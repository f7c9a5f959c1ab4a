from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from rigs.journals import closing, opened, opening
from rigs.moments import HandClock, ids
from rigs.ports import wait_until
from rigs.readings import running
from rigs.watching import conveyor
from structlog.testing import capture_logs

from edge_agent import wire
from edge_agent.forward import CollectorAwayError, Forwarder, Reply, Rest
from edge_agent.inventory import inventory
from edge_agent.journal import FEW_ROWS, Journal
from edge_agent.wire import ORIGIN, Health, SyncAnswer, SyncRequest

Answer = Callable[[SyncRequest], SyncAnswer | Reply | Exception]


def holds_all(message: SyncRequest) -> SyncAnswer:
    return SyncAnswer(verdict="ok", stream=message.stream, hwm=message.to, server_ms=0)


class Line:
    """The forwarder of one gateway; ``answer`` is what the collector makes of each message."""

    def __init__(self, journal: Journal, clock: HandClock) -> None:
        self.journal, self.clock = journal, clock
        self.answer: Answer = holds_all
        self.messages: list[SyncRequest] = []
        self.unsettled: list[str] = []
        self.closed: list[str] = []
        self.inventory = inventory([conveyor("belt-1")])
        self.forwarder = self.made()

    def made(self) -> Forwarder:
        return Forwarder(
            self.journal,
            self.post,
            inventory=self.inventory,
            unsettled=lambda: list(self.unsettled),
            health=lambda: Health(agent_version="1"),
            on_closed_here=self.close_here,
            stamp=self.clock.stamp,
            random=random.Random(1),
        )

    async def post(self, body: bytes) -> Reply:
        self.messages.append(wire.decode_sync(body))
        made = self.answer(self.messages[-1])
        if isinstance(made, Exception):
            raise made
        return made if isinstance(made, Reply) else Reply(status=200, body=wire.encode(made))

    async def close_here(self, uids: Collection[str]) -> None:
        self.closed += sorted(uids)

    async def exchange(self, answer: Answer | None = None) -> tuple[SyncRequest, Rest]:
        self.answer = answer or holds_all
        rest = await self.forwarder.exchange()
        return self.messages[-1], rest

    async def jam(self, *devices: str) -> None:
        await self.journal.commit([opening(self.clock, device) for device in devices])

    async def was_jammed(self, *devices: str) -> None:
        await self.jam(*devices)
        await self.journal.commit([closing(self.clock, device) for device in devices])


@asynccontextmanager
async def line(folder: Path) -> AsyncIterator[Line]:
    clock = HandClock()
    async with opened(folder, clock) as journal:
        yield Line(journal, clock)


def devices(message: SyncRequest) -> list[str]:
    return [row["device"] for row in message.rows]


# --- what is sent -------------------------------------------------------------------------------------------


async def test_news_go_once_and_then_the_heartbeat_says_that_nothing_changed(tmp_path: Path) -> None:
    async with line(tmp_path) as gateway:
        await gateway.jam("belt-1", "belt-2")
        first, rest = await gateway.exchange()
        assert devices(first) == ["belt-1", "belt-2"]
        assert (first.from_, first.to[0], first.lineage) == (ORIGIN, 2, [ORIGIN, first.to])
        assert rest.until_rows
        beat, _ = await gateway.exchange()
        assert (beat.rows, beat.from_, beat.to, beat.lineage) == ([], first.to, first.to, [first.to])


async def test_at_the_head_the_present_is_told(tmp_path: Path) -> None:
    async with line(tmp_path) as gateway:
        gateway.unsettled = ["belt-9|belt|jam", "belt-3|belt|jam"]
        rows = await gateway.journal.commit(
            [opening(gateway.clock, "belt-1"), opening(gateway.clock, "belt-2")]
        )
        await gateway.journal.commit([closing(gateway.clock, "belt-1")])
        message, _ = await gateway.exchange()
        assert message.head is not None
        assert message.head.open == [rows[1].uid]
        assert message.head.unsettled == ["belt-3|belt|jam", "belt-9|belt|jam"]
        assert (message.head.seq, message.head.inventory_hash) == (3, gateway.inventory.hash)
        assert message.health.agent_version == "1"
        assert message.clock == gateway.clock.stamp()


async def test_a_backlog_goes_without_a_pause_and_the_present_comes_with_its_end(tmp_path: Path) -> None:
    async with line(tmp_path) as gateway:
        await gateway.was_jammed(*(f"belt-{number}" for number in range(1_000)))
        sizes, rests, heads = [], [], []
        for _ in range(3):
            message, rest = await gateway.exchange()
            sizes.append(len(message.rows))
            rests.append(rest.seconds == 0)
            heads.append(message.head is not None)
        assert sum(sizes) == 1_000
        assert (rests, heads) == ([True, True, False], [False, False, True])


async def test_a_collector_that_always_wants_the_inventory_is_asked_no_more_often(tmp_path: Path) -> None:
    async with line(tmp_path) as gateway:

        def wants(message: SyncRequest) -> SyncAnswer:
            return holds_all(message).model_copy(update={"want_inventory": True})

        found = [await gateway.exchange(wants) for _ in range(4)]
        assert [message.inventory is not None for message, _ in found] == [False, True, True, True]
        assert [rest.seconds > 0 for _, rest in found] == [False, True, True, True]


async def test_the_inventory_goes_when_it_is_asked_for(tmp_path: Path) -> None:
    async with line(tmp_path) as gateway:
        message, rest = await gateway.exchange(
            lambda m: holds_all(m).model_copy(update={"want_inventory": True})
        )
        assert message.inventory is None
        assert rest.seconds == 0
        message, _ = await gateway.exchange()
        assert message.inventory == gateway.inventory
        message, _ = await gateway.exchange()
        assert message.inventory is None


async def test_health_says_how_many_rows_wait(tmp_path: Path) -> None:
    async with line(tmp_path) as gateway:
        await gateway.jam("belt-1", "belt-2")
        message, _ = await gateway.exchange(lambda _: CollectorAwayError("no route"))
        assert message.health.rows_waiting == 2
        assert gateway.forwarder.rows_waiting == 2


# --- the present first --------------------------------------------------------------------------------------


async def lanes_until_head(gateway: Line, answer: Answer | None = None) -> list[str]:
    """The lane of each message, and how many rows it carried, until the newest row was sent in order."""
    found = []
    while not found or gateway.messages[-1].lane != "feed" or gateway.messages[-1].head is None:
        message, rest = await gateway.exchange(answer)
        assert rest.seconds == 0 or message.head is not None
        found.append(f"{message.lane} {len(message.rows)}")
    return found


async def test_a_stop_at_the_end_of_a_long_history_goes_first(tmp_path: Path) -> None:
    async with line(tmp_path) as gateway:
        await gateway.was_jammed(*(f"belt-{number}" for number in range(600)))
        await gateway.jam("belt-9999")
        gateway.unsettled = ["belt-3|belt|jam"]
        first, _ = await gateway.exchange()
        assert (first.lane, devices(first), first.from_, first.to) == (
            "present",
            ["belt-9999"],
            ORIGIN,
            ORIGIN,
        )
        assert first.lineage == [ORIGIN]
        assert first.head is not None
        assert (first.head.seq, first.head.open, first.head.unsettled) == (
            1201,
            [first.rows[0]["uid"]],
            ["belt-3|belt|jam"],
        )
        second, _ = await gateway.exchange()
        assert (second.lane, second.from_, second.head) == ("feed", ORIGIN, None)
        assert devices(second)[0] == "belt-0"


async def test_a_stop_that_comes_while_history_is_being_sent_goes_ahead_of_the_rest(tmp_path: Path) -> None:
    async with line(tmp_path) as gateway:
        await gateway.was_jammed(*(f"belt-{number}" for number in range(2_000)))
        assert (await gateway.exchange())[0].lane == "feed"
        await gateway.jam("belt-9999")
        message, _ = await gateway.exchange()
        assert (message.lane, devices(message)) == ("present", ["belt-9999"])
        assert {lane.split()[0] for lane in await lanes_until_head(gateway)} == {"feed"}


async def test_more_open_rows_than_fit_go_in_several_messages_and_then_the_history(tmp_path: Path) -> None:
    async with line(tmp_path) as gateway:
        await gateway.was_jammed(*(f"belt-{number}" for number in range(600)))
        await gateway.jam(*(f"stuck-{number}" for number in range(800)))
        sent = await lanes_until_head(gateway)
        ahead = [one for one in sent if one.startswith("present")]
        assert sent[: len(ahead)] == ahead
        rows = [device for m in gateway.messages if m.lane == "present" for device in devices(m)]
        assert rows == [f"stuck-{number}" for number in range(800)]
        in_order = [device for m in gateway.messages if m.lane == "feed" for device in devices(m)]
        assert len(in_order) == len(set(in_order)) == 1_400


async def test_the_present_never_goes_twice_before_the_history_has_its_turn(tmp_path: Path) -> None:
    async with line(tmp_path) as gateway:
        await gateway.was_jammed(*(f"belt-{number}" for number in range(2_000)))
        lanes = []
        for number in range(6):
            await gateway.jam(f"stuck-{number}")
            lanes.append((await gateway.exchange())[0].lane)
        assert lanes == ["present", "feed"] * 3


async def test_what_the_collector_did_not_take_ahead_goes_ahead_again(tmp_path: Path) -> None:
    def not_this_one(message: SyncRequest) -> SyncAnswer:
        verdict = "old" if message.lane == "present" else "ok"
        return SyncAnswer(verdict=verdict, stream=message.stream, hwm=message.to, server_ms=0)

    async with line(tmp_path) as gateway:
        await gateway.was_jammed(*(f"belt-{number}" for number in range(2_000)))
        await gateway.jam("belt-9999")
        lanes = [(await gateway.exchange(not_this_one))[0].lane for _ in range(3)]
        assert lanes == ["present", "feed", "present"]


async def test_a_collector_that_was_put_back_is_told_the_present_again(tmp_path: Path) -> None:
    async with line(tmp_path) as gateway:
        await gateway.was_jammed(*(f"belt-{number}" for number in range(2_000)))
        await gateway.jam("belt-9999")
        await gateway.exchange()
        await gateway.exchange(
            lambda m: SyncAnswer(verdict="behind", stream=m.stream, hwm=(0, "f" * 32), server_ms=0)
        )
        message, _ = await gateway.exchange()
        assert (message.lane, devices(message), message.from_) == ("present", ["belt-9999"], (0, "f" * 32))


async def test_an_older_collector_gets_the_history_alone_and_that_is_said_once(tmp_path: Path) -> None:
    def older(message: SyncRequest) -> SyncAnswer | Reply:
        return Reply(status=400) if message.lane != "feed" else holds_all(message)

    async with line(tmp_path) as gateway:
        with capture_logs() as logs:
            await gateway.was_jammed(*(f"belt-{number}" for number in range(1_000)))
            await gateway.jam("belt-9999")
            sent = await lanes_until_head(gateway, older)
            assert [one.split()[0] for one in sent][:2] == ["present", "feed"]
            assert sum(one.startswith("present") for one in sent) == 1
            # It may have been brought up to date while it was away.
            await gateway.was_jammed(*(f"belt-{number}" for number in range(2_000)))
            await gateway.jam("belt-9998")
            await gateway.exchange(lambda _: CollectorAwayError("connection refused"))
            await gateway.exchange(older)
            message, _ = await gateway.exchange()
            assert (message.lane, devices(message)) == ("present", ["belt-9998"])
            gateway.forwarder._lanes = gateway.forwarder._lanes.forgotten()
            await gateway.exchange(older)
        said = [one["event"] for one in logs if "present first" in one["event"]]
        assert len(said) == 1


async def test_history_waits_for_its_turn_and_the_present_does_not(tmp_path: Path) -> None:
    def later(message: SyncRequest) -> SyncAnswer:
        return holds_all(message).model_copy(update={"history_ms": 40_000})

    async with line(tmp_path) as gateway:
        await gateway.was_jammed(*(f"belt-{number}" for number in range(600)))
        first, rest = await gateway.exchange(later)
        assert (first.lane, rest.until_rows) == ("feed", True)
        assert 12 <= rest.seconds <= 18
        await gateway.jam("belt-9999")
        fresh, rest = await gateway.exchange(later)
        assert (fresh.lane, devices(fresh), rest.until_rows) == ("present", ["belt-9999"], True)
        gateway.clock.go(15)
        beat, rest = await gateway.exchange(lambda m: holds_all(m).model_copy(update={"history_ms": 25_000}))
        assert (beat.lane, beat.rows) == ("present", [])
        assert rest.seconds > 0
        gateway.clock.go(31)
        assert (await gateway.exchange())[0].lane == "feed"
        assert {lane.split()[0] for lane in await lanes_until_head(gateway)} == {"feed"}


@pytest.mark.parametrize("status", [429, 503])
async def test_a_collector_without_time_for_history_still_gets_the_present(
    tmp_path: Path, status: int
) -> None:
    def no_history(message: SyncRequest) -> SyncAnswer | Reply:
        return Reply(status=status, retry_after_s=40) if message.lane == "feed" else holds_all(message)

    async with line(tmp_path) as gateway:
        await gateway.was_jammed(*(f"belt-{number}" for number in range(600)))
        refused, rest = await gateway.exchange(no_history)
        assert (refused.lane, rest.until_rows) == ("feed", True)
        assert 12 <= rest.seconds <= 18
        assert not gateway.forwarder.collector_away
        await gateway.jam("belt-9999")
        fresh, rest = await gateway.exchange(no_history)
        assert (fresh.lane, devices(fresh)) == ("present", ["belt-9999"])


async def test_a_few_rows_need_no_present_ahead_of_them(tmp_path: Path) -> None:
    async with line(tmp_path) as gateway:
        await gateway.was_jammed(*(f"belt-{number}" for number in range(FEW_ROWS // 2)))
        await gateway.exchange()
        await gateway.was_jammed(*(f"belt-{number}" for number in range(FEW_ROWS)))
        await gateway.jam("belt-9999")
        assert [(await gateway.exchange())[0].lane for _ in range(2)] == ["present", "feed"]
        assert [message.lane for message in gateway.messages] == ["feed", "present", "feed"]


async def test_a_present_is_short_so_that_it_is_taken_at_once(tmp_path: Path) -> None:
    async with line(tmp_path) as gateway:
        await gateway.jam(*(f"stuck-{number}" for number in range(200)))
        await lanes_until_head(gateway)
        assert max(len(message.rows) for message in gateway.messages if message.lane == "present") == FEW_ROWS


# --- what an answer does ------------------------------------------------------------------------------------


async def test_a_lost_reply_costs_nothing_and_the_same_boundary_is_announced_again(tmp_path: Path) -> None:
    async with line(tmp_path) as gateway:
        await gateway.jam("belt-1")
        first, _ = await gateway.exchange(lambda _: CollectorAwayError("reset by peer"))
        await gateway.jam("belt-2")
        again, rest = await gateway.exchange()
        assert (again.to, devices(again), again.head) == (first.to, ["belt-1"], None)
        assert rest.seconds == 0
        rest_of_it, _ = await gateway.exchange()
        assert (devices(rest_of_it), rest_of_it.from_) == (["belt-2"], first.to)


async def test_after_a_restart_an_answer_to_an_older_boundary_is_understood(tmp_path: Path) -> None:
    async with line(tmp_path) as gateway:
        await gateway.jam("belt-1")
        lost, _ = await gateway.exchange(lambda _: CollectorAwayError("reset by peer"))
        await gateway.jam("belt-2")
        gateway.forwarder = gateway.made()
        message, _ = await gateway.exchange(
            lambda m: SyncAnswer(verdict="ok", stream=m.stream, hwm=lost.to, server_ms=0)
        )
        assert message.lineage == [ORIGIN, lost.to, message.to]
        message, _ = await gateway.exchange()
        assert (message.from_, devices(message)) == (lost.to, ["belt-2"])


async def test_a_collector_that_was_restored_is_refilled(tmp_path: Path) -> None:
    async with line(tmp_path) as gateway:
        await gateway.jam("belt-1", "belt-2")
        await gateway.exchange()
        _, rest = await gateway.exchange(
            lambda m: SyncAnswer(verdict="behind", stream=m.stream, hwm=ORIGIN, server_ms=0)
        )
        assert not rest.until_rows
        message, _ = await gateway.exchange()
        assert (message.from_, devices(message)) == (ORIGIN, ["belt-1", "belt-2"])


async def test_a_history_that_is_not_ours_begins_a_new_stream_once_a_minute(tmp_path: Path) -> None:
    def foreign(message: SyncRequest) -> SyncAnswer:
        return SyncAnswer(verdict="superseded", stream=message.stream, hwm=message.to, server_ms=0)

    async with line(tmp_path) as gateway:
        await gateway.jam("belt-1")
        first, rest = await gateway.exchange(foreign)
        assert rest.seconds == 0
        second, rest = await gateway.exchange(foreign)
        assert second.stream != first.stream
        assert devices(second) == ["belt-1"]
        assert 59 < rest.seconds <= 60
        gateway.clock.go(30)
        third, rest = await gateway.exchange(foreign)
        assert third.stream == second.stream
        assert 29 < rest.seconds <= 30
        gateway.clock.go(30)
        await gateway.exchange(foreign)
        fifth, _ = await gateway.exchange()
        assert fifth.stream != third.stream


async def test_wanted_rows_are_sent_again_at_once(tmp_path: Path) -> None:
    async with line(tmp_path) as gateway:
        (row,) = await gateway.journal.commit([opening(gateway.clock, "belt-1")])
        await gateway.exchange(lambda m: holds_all(m).model_copy(update={"want": [row.uid]}))
        assert gateway.journal.changed.is_set()
        message, _ = await gateway.exchange()
        assert [(sent["uid"], sent["rev"]) for sent in message.rows] == [(row.uid, 1)]


async def test_what_is_closed_there_is_told_to_the_watch(tmp_path: Path) -> None:
    async with line(tmp_path) as gateway:
        await gateway.exchange(
            lambda m: holds_all(m).model_copy(update={"closed_here": ["a" * 32, "b" * 32]})
        )
        assert gateway.closed == ["a" * 32, "b" * 32]


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"v":1}', b"\xff"])
async def test_an_answer_that_is_none_moves_nothing(tmp_path: Path, body: bytes) -> None:
    async with line(tmp_path) as gateway:
        await gateway.jam("belt-1")
        await gateway.exchange(lambda _: Reply(status=200, body=body))
        message, _ = await gateway.exchange()
        assert devices(message) == ["belt-1"]


async def test_an_answer_about_another_stream_moves_nothing(tmp_path: Path) -> None:
    async with line(tmp_path) as gateway:
        await gateway.jam("belt-1")
        _, rest = await gateway.exchange(lambda m: holds_all(m).model_copy(update={"stream": "e" * 32}))
        assert not rest.until_rows
        message, _ = await gateway.exchange()
        assert devices(message) == ["belt-1"]


async def test_a_collector_that_never_takes_a_row_is_not_stormed(tmp_path: Path) -> None:
    def stuck(message: SyncRequest) -> SyncAnswer:
        return SyncAnswer(verdict="ok", stream=message.stream, hwm=message.from_, server_ms=0)

    async with line(tmp_path) as gateway:
        await gateway.jam("belt-1")
        rests = [(await gateway.exchange(stuck))[1].seconds for _ in range(40)]
        assert sum(rests[-20:]) > 20 * 60


# --- pace ---------------------------------------------------------------------------------------------------


async def test_the_heartbeat_comes_when_the_collector_says_give_or_take_a_fifth(tmp_path: Path) -> None:
    async with line(tmp_path) as gateway:
        rests = [
            (await gateway.exchange(lambda m: holds_all(m).model_copy(update={"next_s": 20})))[1].seconds
            for _ in range(200)
        ]
        assert 16 <= min(rests) < 17
        assert 23 < max(rests) <= 24


async def test_failures_wait_longer_and_longer_and_never_much_over_five_minutes(tmp_path: Path) -> None:
    async with line(tmp_path) as gateway:
        rests = [(await gateway.exchange(lambda _: CollectorAwayError("refused")))[1] for _ in range(200)]
        assert rests[0].seconds <= 1
        assert 250 < max(rest.seconds for rest in rests) <= 300
        assert not any(rest.until_rows for rest in rests)
        _, rest = await gateway.exchange()
        assert rest.until_rows
        _, rest = await gateway.exchange(lambda _: CollectorAwayError("refused"))
        assert rest.seconds <= 1


async def test_who_reaches_nobody_tries_often_so_that_a_link_is_noticed_soon(tmp_path: Path) -> None:
    async with line(tmp_path) as gateway:
        rests = [
            (await gateway.exchange(lambda _: CollectorAwayError("refused", reached=False)))[1].seconds
            for _ in range(200)
        ]
        assert rests[0] <= 1
        assert 25 < max(rests) <= 30


@pytest.mark.parametrize("status", [429, 503])
async def test_a_busy_collector_is_left_alone_for_as_long_as_it_asks_and_up_to_twice(
    tmp_path: Path, status: int
) -> None:
    async with line(tmp_path) as gateway:
        rests = [
            (await gateway.exchange(lambda _: Reply(status=status, retry_after_s=10)))[1].seconds
            for _ in range(100)
        ]
        assert 10 <= min(rests) < 11
        assert 19 < max(rests) <= 20


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_a_refusal_keeps_every_row_and_slows_down(tmp_path: Path, status: int) -> None:
    async with line(tmp_path) as gateway:
        await gateway.jam("belt-1")
        _, rest = await gateway.exchange(lambda _: Reply(status=status))
        assert 48 <= rest.seconds <= 72
        assert not rest.until_rows
        message, _ = await gateway.exchange()
        assert devices(message) == ["belt-1"]


async def test_what_is_too_large_is_halved_until_it_fits(tmp_path: Path) -> None:
    async with line(tmp_path) as gateway:
        await gateway.was_jammed(*(f"belt-{number}" for number in range(100)))

        def at_most_thirty(message: SyncRequest) -> SyncAnswer | Reply:
            return Reply(status=413) if len(message.rows) > 30 else holds_all(message)

        sent: list[str] = []
        for _ in range(20):
            before = len(gateway.messages)
            await gateway.exchange(at_most_thirty)
            sent += devices(gateway.messages[before]) if len(gateway.messages[before].rows) <= 30 else []
        assert sent == [f"belt-{number}" for number in range(100)]


async def test_a_single_row_that_is_too_large_is_kept_and_said(tmp_path: Path) -> None:
    async with line(tmp_path) as gateway:
        await gateway.jam("belt-1")
        rests = [(await gateway.exchange(lambda _: Reply(status=413)))[1].seconds for _ in range(12)]
        assert rests[-1] >= 48
        message, _ = await gateway.exchange()
        assert devices(message) == ["belt-1"]


async def test_the_collector_is_told_gone_once_and_back_once(tmp_path: Path) -> None:
    async with line(tmp_path) as gateway:
        await gateway.jam("belt-1", "belt-2")
        with capture_logs() as logs:
            for _ in range(5):
                await gateway.exchange(lambda _: CollectorAwayError("connection refused"))
                assert gateway.forwarder.collector_away
                gateway.clock.go(60)
            await gateway.exchange()
            await gateway.exchange()
        assert not gateway.forwarder.collector_away
        assert [(one["event"], one.get("rows_kept"), one.get("away_s")) for one in logs] == [
            ("the collector takes nothing; everything is kept", 2, None),
            ("the collector is back", 2, 300),
        ]


async def test_new_rows_end_the_wait_for_the_next_heartbeat(tmp_path: Path) -> None:
    async with line(tmp_path) as gateway, running(gateway.forwarder.run()):
        await wait_until(lambda: gateway.messages)
        await gateway.jam("belt-1")
        await wait_until(lambda: len(gateway.messages) > 1)
        assert devices(gateway.messages[1]) == ["belt-1"]


async def test_a_gateway_whose_collector_was_never_there_gathers_and_then_sends_all(tmp_path: Path) -> None:
    clock, new_id = HandClock(), ids()
    for day in range(5):
        async with opened(tmp_path, clock, new_id) as journal:
            gateway = Line(journal, clock)
            await gateway.exchange(lambda _: CollectorAwayError("no network"))
            await journal.commit([opening(clock, f"belt-{day}"), closing(clock, f"belt-{day}")])
            clock.go(86_400)
    async with opened(tmp_path, clock, new_id) as journal:
        message, _ = await Line(journal, clock).exchange()
        assert devices(message) == [f"belt-{day}" for day in range(5)]


async def test_one_request_at_a_time(tmp_path: Path) -> None:
    async with line(tmp_path) as gateway:
        under_way = 0

        async def slow(body: bytes) -> Reply:
            nonlocal under_way
            under_way += 1
            assert under_way == 1
            await asyncio.sleep(0)
            under_way -= 1
            return await gateway.post(body)

        gateway.forwarder._post = slow
        async with running(gateway.forwarder.run()):
            for number in range(20):
                await gateway.jam(f"belt-{number}")
                await wait_until(lambda n=number: sum(len(m.rows) for m in gateway.messages) == n + 1)
