"""Conditions over signals of several devices: known together, dated exactly, in any order of the devices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rigs.journals import opened
from rigs.moments import HandClock, ids
from rigs.watching import Floor, conveyor

from edge_agent import across
from edge_agent.across import SiteCondition
from edge_agent.config import ConfigError, load
from edge_agent.excerpt import around
from edge_agent.inventory import inventory
from edge_agent.recorder import Recorder
from edge_agent.sample import Trouble
from edge_agent.watch import Watch
from edge_agent.wire import read_part

BELT, SCANNER = replace(conveyor("belt-1"), bus="plc"), replace(conveyor("scanner-1"), bus="port")


def condition(when: dict[str, Any], **more: Any) -> SiteCondition:
    given = {
        "device": "scanner-1",
        "component": "reader",
        "fault": "silent-while-moving",
        "title": "The line moves and the scanner reads nothing",
        "severity": "stop",
        "when": when,
    }
    return SiteCondition.model_validate(given | more)


# The belt draws current, and the scanner has said nothing for 20 s.
SILENT = condition(
    {
        "all": [
            {"above": {"signal": "belt-1/current", "limit": 2}},
            {
                "given": {
                    "that": {"above": {"signal": "belt-1/current", "limit": 2}},
                    "rule": {"no_data_s": {"signal": "scanner-1/heard", "s": 20}},
                }
            },
        ]
    }
)
# The scanner's own photo-eye, called jam here, is blocked while the belt runs.
BLOCKED = condition(
    {
        "all": [
            {"above": {"signal": "belt-1/current", "limit": 2}},
            {"is": {"signal": "scanner-1/jam", "value": True}},
        ]
    },
    component="infeed",
    fault="blocked-while-running",
    on_delay_s=8,
    off_delay_s=1,
)


@asynccontextmanager
async def site(
    folder: Path,
    clock: HandClock,
    *conditions: SiteCondition,
    new_id: Callable[[], str] | None = None,
) -> AsyncIterator[Floor]:
    devices = [BELT, SCANNER]
    assert not list(across.problems(conditions, devices))
    async with opened(folder, clock, new_id or ids()) as journal:
        watch = await Watch.start(
            devices, journal, Recorder(devices), clock.stamp, across=across.across(conditions)
        )
        yield Floor(watch, journal, clock)


async def test_a_line_that_moves_while_its_scanner_is_silent_is_a_fault_of_the_scanner(
    tmp_path: Path,
) -> None:
    clock = HandClock()
    async with site(tmp_path, clock, SILENT) as floor:
        await floor.status(current=5.0, device="belt-1")
        await floor.voice(b"4012345678901", device="scanner-1")
        spoke = clock.stamp()
        clock.go(15)
        await floor.status(current=5.0, device="belt-1")
        assert await floor.open() == []
        clock.go(10)
        assert await floor.look() == ["scanner-1 silent-while-moving"]
        (row,) = await floor.journal.open_occurrences()
        # When the twenty seconds were over, not when somebody looked.
        assert row.first_bad.mono_ns == row.raised.mono_ns == spoke.mono_ns + 20 * 10**9
        assert row.evidence is not None
        assert [(one["signal"], one["value"]) for one in row.evidence["samples"]] == [
            ("belt-1/current", "5"),
            ("scanner-1/heard", True),
        ]
        (rule,) = across.across([SILENT])[0].rules
        where = around(SCANNER.profile, rule.key, row.raised.mono_ns // 1_000_000, rule.signals)
        recorded = floor.watch._recorder.excerpt("scanner-1", where, from_ms=-60_000, to_ms=0)
        assert recorded is not None
        read_part({"uid": row.uid, "part": "before", "evidence": recorded})
        assert [(one["signal"], one["points"]) for one in recorded["signals"]] == [
            ("belt-1/current", [[-20_000, 5]]),
            ("scanner-1/heard", [[-20_000, True]]),
        ]
        assert {one["read"] for one in recorded["readings"]} == {"belt-1/status", "scanner-1/voice"}
        assert recorded["reads"] == {"belt-1/status": "S?\\x0d"}
        await floor.voice(b"4012345678902", device="scanner-1")
        assert await floor.open() == []


async def test_a_line_that_stands_needs_no_scanner(tmp_path: Path) -> None:
    clock = HandClock()
    async with site(tmp_path, clock, SILENT) as floor:
        await floor.status(current=0.0, device="belt-1")
        await floor.voice(b"x", device="scanner-1")
        clock.go(40)
        assert await floor.look() == []
        began = clock.go(1)
        await floor.status(current=5.0, device="belt-1")
        clock.go(18)
        assert await floor.look() == []
        clock.go(3)
        assert "scanner-1 silent-while-moving" in await floor.look()
        (row,) = [one for one in await floor.journal.open_occurrences() if one.component == "reader"]
        assert row.first_bad.mono_ns == began.mono_ns + 20 * 10**9
        await floor.status(current=0.0, device="belt-1")
        assert "scanner-1 silent-while-moving" not in await floor.open()


async def test_what_is_unknown_of_one_device_makes_it_unknown(tmp_path: Path) -> None:
    clock = HandClock()
    async with site(tmp_path, clock, SILENT, BLOCKED) as floor:
        assert {"scanner-1|reader|silent-while-moving", "scanner-1|infeed|blocked-while-running"} <= set(
            floor.watch.unsettled()
        )
        # Nothing is known of the belt: neither the silence nor the eye is a fault.
        await floor.voice(b"x", device="scanner-1")
        await floor.status(jam=True, device="scanner-1")
        clock.go(40)
        assert "scanner-1 silent-while-moving" not in await floor.look()
        assert "scanner-1|infeed|blocked-while-running" in floor.watch.unsettled()
        await floor.status(current=5.0, device="belt-1")
        clock.go(21)
        assert "scanner-1 silent-while-moving" in await floor.look()
        # The link of the scanner is gone: its silence says nothing, and what was raised stays.
        await floor.trouble(Trouble.NO_LINK, device="scanner-1")
        assert "scanner-1 silent-while-moving" in await floor.open()
        await floor.status(current=0.0, device="belt-1")
        assert "scanner-1 silent-while-moving" not in await floor.open()


async def test_silence_counts_on_the_link_of_who_is_silent(tmp_path: Path) -> None:
    clock = HandClock()
    plain = condition({"no_data_s": {"signal": "scanner-1/heard", "s": 20}}, device="belt-1")
    async with site(tmp_path, clock, plain) as floor:
        await floor.voice(b"x", device="scanner-1")
        clock.go(10)
        # The belt, whose ticket it would be, is lost and comes back: the scanner's twenty seconds go on.
        await floor.trouble(Trouble.NO_LINK, device="belt-1")
        await floor.status(device="belt-1")
        clock.go(10)
        assert await floor.look() == ["belt-1 silent-while-moving"]
        await floor.voice(b"x", device="scanner-1")
        await floor.trouble(Trouble.NO_LINK, device="scanner-1")
        clock.go(25)
        assert await floor.look() == []
        await floor.voice(device="scanner-1")
        clock.go(20)
        assert await floor.look() == ["belt-1 silent-while-moving"]


async def test_an_eye_that_is_blocked_while_the_belt_runs_is_a_jam_after_its_delay(tmp_path: Path) -> None:
    clock = HandClock()
    async with site(tmp_path, clock, BLOCKED) as floor:
        await floor.status(current=5.0, device="belt-1")
        blocked = clock.go(1)
        await floor.status(jam=True, device="scanner-1")
        clock.go(4)
        # It stops for a moment: what passes then is no jam.
        await floor.status(current=0.0, device="belt-1")
        again = clock.go(1)
        await floor.status(current=5.0, device="belt-1")
        clock.go(7)
        assert await floor.look() == ["scanner-1 jam"]
        clock.go(1)
        assert await floor.look() == ["scanner-1 blocked-while-running", "scanner-1 jam"]
        (row,) = [one for one in await floor.journal.open_occurrences() if one.component == "infeed"]
        assert row.first_bad == again != blocked


@pytest.mark.parametrize("first", ["belt-1", "scanner-1"])
async def test_it_is_the_same_to_the_nanosecond_whichever_device_is_written_first(
    tmp_path: Path, first: str
) -> None:
    """Both change at once, each with a fault of its own to be written."""
    clock = HandClock()
    async with site(tmp_path, clock, at_once(BLOCKED)) as floor:
        await floor.status(device="belt-1")
        await floor.status(device="scanner-1")
        both = clock.go(1)
        told = {
            "belt-1": lambda: floor.status(jam=True, current=5.0, device="belt-1"),
            "scanner-1": lambda: floor.status(jam=True, device="scanner-1"),
        }
        order = sorted(told, key=lambda name: name != first)
        await asyncio.gather(*(told[name]() for name in order))
        rows = {f"{row.device} {row.fault}": row for row in await floor.journal.open_occurrences()}
        assert rows.keys() == {"belt-1 jam", "scanner-1 jam", "scanner-1 blocked-while-running"}
        assert {row.first_bad for row in rows.values()} == {both}


def at_once(one: SiteCondition) -> SiteCondition:
    return one.model_copy(update={"on_delay_s": 0.0, "off_delay_s": 0.0})


async def test_after_a_restart_it_is_active_until_both_were_read(tmp_path: Path) -> None:
    clock, new_id = HandClock(), ids()
    async with site(tmp_path, clock, at_once(BLOCKED), new_id=new_id) as floor:
        await floor.status(current=5.0, device="belt-1")
        await floor.status(jam=True, device="scanner-1")
        before = await floor.journal.open_occurrences()
    clock.reboot()
    async with site(tmp_path, clock, at_once(BLOCKED), new_id=new_id) as floor:
        await floor.status(jam=True, device="scanner-1")
        assert await floor.journal.open_occurrences() == before
        await floor.status(current=0.0, device="belt-1")
        assert await floor.open() == ["scanner-1 jam"]
    # And it is no longer watched once it is no longer configured.
    async with site(tmp_path, clock, at_once(BLOCKED), new_id=new_id) as floor:
        await floor.status(current=5.0, device="belt-1")
        await floor.status(jam=True, device="scanner-1")
        assert len(await floor.open()) == 2
    async with site(tmp_path, clock, new_id=new_id) as floor:
        assert await floor.open() == ["scanner-1 jam"]


async def test_what_the_collector_closed_is_asked_again(tmp_path: Path) -> None:
    clock = HandClock()
    async with site(tmp_path, clock, at_once(BLOCKED)) as floor:
        await floor.status(current=5.0, device="belt-1")
        await floor.status(jam=True, device="scanner-1")
        (row,) = [one for one in await floor.journal.open_occurrences() if one.component == "infeed"]
        await floor.watch.close_here({row.uid})
        assert await floor.look() == ["scanner-1 blocked-while-running", "scanner-1 jam"]


def test_it_is_in_the_inventory_of_its_device() -> None:
    found = inventory([BELT, SCANNER], across.across([SILENT]))
    told = {device.id: [one.fault for one in device.conditions] for device in found.devices}
    assert "silent-while-moving" in told["scanner-1"]
    assert "silent-while-moving" not in told["belt-1"]
    assert found.hash != inventory([BELT, SCANNER]).hash


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ('device = "nobody"', "device: no [[device]] has the id 'nobody'"),
        ('fault = "unreachable"', "fault: 'unreachable' is raised by the agent itself"),
        ('component = "reader"\nfault = "gone-quiet"', "of scanner-1 has reader/gone-quiet already"),
        (
            'when = {is = {signal = "line", value = true}}',
            "write it as device/signal, such as",
        ),
        ('when = {is = {signal = "drive-9/line", value = true}}', "no [[device]] has the id 'drive-9'"),
        (
            'when = {is = {signal = "drive-1/lines", value = true}}',
            "drive-1 has no such signal; expected ready",
        ),
        ('when = {is = {signal = "drive-1/ready", value = 7}}', "when.is.value: signal 'drive-1/ready'"),
        ('when = {above = {signal = "scanner-1/line", limit = 1}}', "when.above.signal: signal"),
        ('when = {is = {signal = "a b", value = true}}', "condition[0].when.is.signal"),
        ('severety = "stop"', "condition[0].severety: unknown key"),
    ],
)
def test_a_mistake_is_named_with_its_key_and_what_was_expected(
    tmp_path: Path, condition: str, expected: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        load(written(tmp_path, condition))
    assert expected in str(raised.value)
    assert "condition[0]" in str(raised.value)


def test_a_condition_that_is_right_is_taken(tmp_path: Path) -> None:
    settings = load(written(tmp_path, ""))
    assert [(one.device, one.sources) for one in settings.across] == [
        ("scanner-1", frozenset({"scanner-1", "drive-1"}))
    ]


def written(folder: Path, changed: str) -> Path:
    given = {
        "device": '"scanner-1"',
        "component": '"reader"',
        "fault": '"silent-while-moving"',
        "title": '"The line moves and the scanner reads nothing"',
        "severity": '"stop"',
        "when": '{all = [{is = {signal = "drive-1/rotating_forward", value = true}}, '
        '{no_data_s = {signal = "scanner-1/line", s = 30}}]}',
    }
    given |= dict(line.split(" = ", 1) for line in changed.splitlines())
    keys = "\n".join(f"{key} = {value}" for key, value in given.items())
    file = folder / "agent.toml"
    file.write_text(f"""
[agent]
site = "north"
gateway = "gw-1"
[[bus]]
name = "scanner"
transport = "serial"
port = "/dev/ttyS7"
[[bus]]
name = "drives"
transport = "modbus"
mode = "rtu"
port = "/dev/ttyS8"
[[device]]
id = "scanner-1"
bus = "scanner"
profile = "line-scanner"
[[device]]
id = "drive-1"
bus = "drives"
profile = "powerflex-520"
[[condition]]
{keys}
""")
    return file
