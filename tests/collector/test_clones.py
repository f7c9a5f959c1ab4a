from __future__ import annotations

import os
import random
import shutil
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from rigs.edge_voice import MINUTE_MS, MONDAY_MS, EdgeVoice, enrol, send
from rigs.journals import opened
from rigs.moments import HandClock
from rigs.site import GATEWAY, Site
from rigs.watching import conveyor
from sqlalchemy import select, update

from collector import clones
from collector.clones import QUIET_MS, Standing, judge, went_back
from collector.pages.floor import gateway_line
from collector.store import Store, tables
from collector.store import tickets as ticket_store
from collector.store.gateways import gateways
from collector.store.tickets import TicketFilter, TicketView
from collector.sweep import sweep
from collector.tickets import Condition
from edge_agent.forward import Forwarder
from edge_agent.inventory import inventory
from edge_agent.journal import Journal
from edge_agent.wire import Health

# COPIES=100 for the figure of docs/reliability.md.
COPIES = int(os.environ.get("COPIES", "12"))


def alarms(store: Store) -> list[TicketView]:
    wanted = TicketFilter(sites=None, state=None)
    found = store.read(lambda connection: ticket_store.find(connection, wanted, None, 100)).items
    return [ticket for ticket in found if ticket.fault == "cloned"]


def audited(store: Store) -> list[str]:
    return list(store.read(lambda c: c.execute(select(tables.audit.c.action)).scalars().all()))


@pytest.mark.parametrize(
    ("boots", "back"),
    [
        (["a"], False),
        (["a", "a", "a"], False),
        (["a", "b", "c"], False),
        (["a", "b", "a"], True),
        (["a", "b", "c", "b"], True),
        # From before this was kept.
        ([None, "b", None, "b"], False),
        ([None, "b", "c", "b"], True),
    ],
)
def test_a_box_never_goes_back_to_an_earlier_boot(boots: list[str | None], back: bool) -> None:
    assert went_back(str(boots[-1]), boots) is back


def test_three_switches_within_an_hour_are_two_boxes_since_the_first() -> None:
    two = judge(judge(Standing(), "s1", 1_000), "s2", 2_000)
    assert two.since_ms is None
    assert judge(two, "s1", 2_500) == two, "the same switch again"
    assert judge(two, "s3", 3_000).since_ms == 1_000
    assert judge(two, "s3", 1_001 + QUIET_MS).since_ms is None


# --- real journals on copies of one disk ------------------------------------------------------------


class Box:
    """A journal in a folder and a forwarder on it, with a clock of its own."""

    def __init__(self, journal: Journal, site: Site, clock: HandClock, seed: int) -> None:
        self.clock = clock
        self.forward = Forwarder(
            journal,
            site.post,
            inventory=inventory([conveyor("belt-1")]),
            unsettled=list,
            health=Health,
            on_closed_here=lambda _: journal.anchor(),
            stamp=clock.stamp,
            random=random.Random(seed),
        )


async def powered(
    stack: AsyncExitStack, folder: Path, site: Site, seed: int, boot: int, clock: HandClock
) -> Box:
    own = HandClock()
    own.boots, own.wall_ms, own.mono_ns = boot, clock.wall_ms, clock.mono_ns
    journal = await stack.enter_async_context(opened(folder, own, ids_of(seed)))
    await journal.start("gw-1")
    return Box(journal, site, own, seed)


def ids_of(seed: int):  # type: ignore[no-untyped-def]  # as rigs.moments.ids
    rng = random.Random(seed)
    return lambda: f"{rng.getrandbits(128):032x}"


async def exchanges(site: Site, boxes: list[Box], seconds: int, rng: random.Random) -> None:
    """Each box speaks about four times a minute, as agents do."""
    for _ in range(seconds // 5):
        site.clock.go(5)
        for box in boxes:
            box.clock.go(5)
            if rng.random() < 0.4:
                await box.forward.exchange()


async def test_two_boxes_with_a_copy_of_one_disk_are_found_out_every_time(tmp_path: Path) -> None:
    found = 0
    for seed in range(COPIES):
        folder = tmp_path / str(seed)
        folder.mkdir()
        found += await _a_copy_runs_beside_the_original(folder, seed)
    assert found == COPIES


async def _a_copy_runs_beside_the_original(folder: Path, seed: int) -> bool:
    rng = random.Random(seed)
    clock = HandClock()
    site = Site(folder, clock)
    first, second = folder / "one", folder / "two"
    first.mkdir()
    async with AsyncExitStack() as stack:
        box = await powered(stack, first, site, rng.getrandbits(32), 1, clock)
        await exchanges(site, [box], rng.randrange(20, 60), rng)
    shutil.copytree(first, second)
    clock.go(30)
    async with AsyncExitStack() as stack:
        # Two boxes, or two containers on one machine.
        boots = (2, 3) if seed % 2 else (2, 2)
        boxes = [
            await powered(stack, place, site, rng.getrandbits(32), boot, clock)
            for place, boot in zip((first, second), boots, strict=True)
        ]
        await exchanges(site, boxes, 400, rng)
        found = alarms(site.store)
        said = audited(site.store).count("two boxes speak as one gateway")
    site.store.close()
    assert said == len(found)
    return [(one.severity, one.condition) for one in found] == [("stop", Condition.ACTIVE)]


async def test_a_box_that_was_swapped_or_whose_disk_was_put_back_is_one_box(tmp_path: Path) -> None:
    for seed in range(20):
        rng = random.Random(seed)
        folder = tmp_path / str(seed)
        folder.mkdir()
        clock = HandClock()
        site = Site(folder, clock)
        kept: list[Path] = []
        disk = folder / "disk"
        disk.mkdir()
        late = []
        for life in range(8):
            clock.boots += 1
            async with AsyncExitStack() as stack:
                box = await powered(stack, disk, site, rng.getrandbits(32), clock.boots, clock)
                await exchanges(site, [box], rng.randrange(10, 120), rng)
            clock.go(60)
            late += rng.sample(site.messages, min(3, len(site.messages)))
            happens = rng.random()
            if happens < 0.4 or not kept:
                kept.append(folder / f"kept-{life}")
                shutil.copytree(disk, kept[-1])
            elif happens < 0.8:
                shutil.rmtree(disk)
                shutil.copytree(rng.choice(kept), disk)
            else:
                shutil.rmtree(disk)
                disk.mkdir()
            for message in rng.sample(late, min(4, len(late))):
                send(site.store, GATEWAY, message, (clock.wall_ms - MONDAY_MS) / MINUTE_MS)
        assert alarms(site.store) == []
        site.store.close()


# --- what becomes of the alarm ---------------------------------------------------------------------------


@pytest.fixture
def two(store: Store) -> tuple[EdgeVoice, EdgeVoice]:
    """They have spoken in turns since minute 1, and the alarm is there."""
    one = EdgeVoice(enrol(store))
    one.sync(store, 0)
    other = EdgeVoice(one.gateway, seed=5)
    for minute in range(1, 8):
        for voice in (one, other):
            for _ in range(3):
                voice.sync(store, minute)
    (alarm,) = alarms(store)
    assert alarm.condition is Condition.ACTIVE
    return one, other


def swept(store: Store, minute: float) -> None:
    store.write(lambda c: sweep(c, MONDAY_MS + int(minute * MINUTE_MS)))


def test_the_alarm_ends_an_hour_after_one_of_them_was_switched_off(
    store: Store, two: tuple[EdgeVoice, EdgeVoice]
) -> None:
    one, _ = two
    for minute in range(8, 66):
        one.sync(store, minute)
        swept(store, minute)
    assert alarms(store)[0].condition is Condition.ACTIVE
    one.sync(store, 80)
    swept(store, 80)
    (alarm,) = alarms(store)
    assert alarm.condition is Condition.CLEARED
    assert alarm.ended_ms is not None
    assert abs(alarm.ended_ms - MONDAY_MS - 9 * MINUTE_MS) <= 2 * MINUTE_MS
    assert audited(store) == ["two boxes speak as one gateway"]


def test_the_alarm_says_what_to_do_and_has_the_same_name_everywhere(
    store: Store, two: tuple[EdgeVoice, EdgeVoice]
) -> None:
    (alarm,) = alarms(store)
    assert alarm.title == "Two boxes speak as gateway gw1"
    (gateway,) = store.read(lambda c: gateways(c, None))
    assert gateway_line(gateway).remarks == ("two boxes speak as this one",)
    detail = store.read(lambda c: ticket_store.detail(c, alarm.id))
    assert detail is not None
    assert "Switch one of the two off" in detail.ticket.advice
    assert alarm.id == clones.minted.uid(two[0].gateway.id, "cloned", alarm.occurred_ms)


def test_a_gateway_that_was_revoked_and_enrolled_anew_begins_without_what_was_seen_before(
    store: Store, two: tuple[EdgeVoice, EdgeVoice]
) -> None:
    for revoked_ms in (MONDAY_MS + 8 * MINUTE_MS, None):
        store.write(lambda c, at=revoked_ms: c.execute(update(tables.gateway).values(revoked_ms=at)))
        swept(store, 8)
    for voice in two:
        for _ in range(3):
            voice.sync(store, 9)
    assert [alarm.condition for alarm in alarms(store)] == [Condition.CLEARED]
