"""A replay raises what the agent raised, each time and anywhere, and shows what other rules would change."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rigs.journals import InMemory
from rigs.moments import HandClock, ids
from rigs.traces import Tape, header, jammed
from rigs.watching import conveyor

from edge_agent import what_if
from edge_agent.config import ConfigError
from edge_agent.journal import Journal
from edge_agent.recorder import Recorder
from edge_agent.sample import Reading, Trouble
from edge_agent.trace import moved
from edge_agent.watch import Watch
from edge_agent.what_if import ChangeError, What, differences, with_change, with_profile
from edge_agent.wire import Row

# Seconds between two readings, and what comes then.
MOMENTS = st.lists(
    st.tuples(
        st.sampled_from([0.001, 0.4, 1.0, 4.999, 5.0, 5.001, 9.0, 31.0, 61.0]),
        st.sampled_from(["jam", "well", "much", "between", "voice", "gone", "deaf", "up"]),
    ),
    max_size=40,
)


def reading(clock: HandClock, what: str) -> Reading:
    at = clock.stamp()
    status = {"jam": b"1,1.0", "well": b"0,1.0", "much": b"0,12.0", "between": b"0,9.0"}
    if what in status:
        return Reading(device="belt-1", read="status", at=at, payload=(status[what],))
    if what == "voice":
        return Reading(device="belt-1", read="voice", at=at, payload=(b"hello",))
    if what == "up":
        return Reading(device="belt-1", read="voice", at=at, detail="the link is up")
    trouble = Trouble.NO_LINK if what == "gone" else Trouble.NO_ANSWER
    return Reading(device="belt-1", read="status", at=at, trouble=trouble)


async def live(moments: list[tuple[float, str]]) -> tuple[list[Row], Tape]:
    """What an agent writes down of these moments, and the trace that was recorded beside it."""
    clock = HandClock()
    tape = Tape(clock)
    journal = Journal(InMemory(ids()), stamp=clock.stamp)
    devices = [conveyor()]
    try:
        watch = await Watch.start(devices, journal, Recorder(devices), clock.stamp)
        for seconds, what in moments:
            until = clock.mono_ns + round(seconds * 1e9)
            while (due := watch.deadline_ns()) is not None and due < until:
                clock.go((max(due, clock.mono_ns) - clock.mono_ns) / 1e9)
                await watch.look(moved(clock.stamp(), max(due, clock.mono_ns)))
            clock.go((until - clock.mono_ns) / 1e9)
            one = reading(clock, what)
            tape.put(one)
            await watch.take(one)
        batch = await journal.batch(max_rows=10_000, max_bytes=1 << 30)
    finally:
        await journal.close()
    return sorted(map(Row.model_validate, batch.rows), key=lambda row: row.uid), tape


@settings(deadline=None)
@given(MOMENTS)
def test_a_replay_raises_what_the_agent_raised(moments: list[tuple[float, str]]) -> None:
    async def both() -> None:
        rows, tape = await live(moments)
        again = await tape.played()
        began_ns = HandClock().mono_ns
        for was, row in zip(rows, again.rows, strict=True):
            assert (was.key, was.state, was.severity, was.reason) == (
                row.key,
                row.state,
                row.severity,
                row.reason,
            )
            for one, other in (
                (was.first_bad, row.first_bad),
                (was.raised, row.raised),
                (was.cleared, row.cleared),
            ):
                assert (one is None) == (other is None)
                if one is not None and other is not None:
                    assert abs((one.mono_ns - began_ns) - (other.mono_ns - again.start.mono_ns)) <= 1_000
                    assert one.wall_ms == other.wall_ms

    asyncio.run(both())


async def test_a_jam_is_raised_when_it_was_and_an_overload_after_its_delay() -> None:
    jam, overload = await jammed().raised()
    assert (jam.fault, jam.first_bad_s, jam.raised_s, jam.cleared_s) == ("jam", 2.0, 2.0, 10.0)
    assert (overload.fault, overload.first_bad_s, overload.raised_s) == ("overload", 20.0, 25.0)
    assert overload.cleared_s is None


async def test_time_goes_on_to_the_last_line_and_no_further() -> None:
    """Nobody knows what came after it."""
    tape = Tape().status(current=12).go(4)
    assert await tape.status(current=12).raised() == []
    (one,) = await tape.go(1).status(current=12).raised()
    assert one.raised_s == 5.0


async def test_the_same_trace_comes_to_the_same_rows_each_time() -> None:
    first, second = await jammed().played(), await jammed().played()
    assert first == second
    assert first.rows[0].evidence == second.rows[0].evidence
    assert first.rows[0].evidence


async def test_silence_alone_raises_while_nothing_comes() -> None:
    tape = Tape().says("voice", b"hello").status().go(300).status()
    (one,) = await tape.raised()
    assert (one.fault, one.raised_s) == ("quiet", 60.0)


async def test_silence_while_nobody_listened_raises_nothing() -> None:
    tape = Tape().says("voice", b"hello").go(20).stands_still(3_600).go(59).status()
    assert await tape.raised() == []
    (one,) = await tape.go(2).status().raised()
    assert (one.fault, one.raised_s) == ("quiet", 3_680.0)


async def test_a_bus_that_dies_is_unreachable_after_the_time_of_its_agent() -> None:
    tape = Tape()
    for read in ("status", "voice"):
        tape.says(read, trouble=Trouble.NO_LINK, detail="unplugged?")
    tape.go(100).says("status", trouble=Trouble.NO_LINK)
    (one,) = await tape.raised()
    assert (one.fault, one.raised_s) == ("unreachable", 30.0)
    (sooner,) = await tape.raised(with_change(tape.header, "unreachable_after_s=10"))
    assert sooner.raised_s == 10.0


async def test_what_was_never_settled_is_unknown_not_well() -> None:
    tape = Tape().status()
    assert (await tape.played()).unsettled == ("belt-1|belt|quiet",)


async def test_what_was_recorded_of_a_bus_that_is_not_here_can_be_replayed() -> None:
    """Such as one that played a trace of its own."""
    tape = jammed()
    bus = {"name": "bus-belt-1", "transport": "replay", "file": "/nowhere/demo.gz"}
    assert len(await tape.raised(tape.header.model_copy(update={"bus": (bus,)}))) == 2


async def test_a_read_that_the_rules_do_not_have_is_counted() -> None:
    tape = Tape().says("weight", b"12").status()
    assert (await tape.played()).strange == 1


def test_a_trace_of_a_transport_that_is_not_here_says_so() -> None:
    tape = jammed()
    strange = tape.header.model_copy(update={"bus": ({"name": "bus-belt-1", "transport": "telepathy"},)})
    with pytest.raises(ConfigError, match="'telepathy' is not a transport"):
        asyncio.run(tape.played(strange))


# --- other rules --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "typed",
    [
        "belt/jam.on_delay_s=9",
        "belt-1:belt/jam.on_delay_s=9",
        "belt-1:belt/jam.on_delay=9s",
        "jam.on_delay = 9000ms",
        'belt-1:conditions."belt/jam".on_delay_s=9',
        "on_delay=9s",
    ],
)
async def test_a_longer_delay_is_typed_in_many_ways_and_swallows_the_jam(typed: str) -> None:
    tape = jammed()
    assert "jam" not in [one.fault for one in await tape.raised(with_change(tape.header, typed))]


async def test_a_change_for_one_device_leaves_the_others_alone() -> None:
    tape = Tape(
        devices={"belt-1": {}, "belt-2": {"set": {"conditions": {"belt/jam": {"severity": "notice"}}}}}
    )
    for name in ("belt-1", "belt-2"):
        tape.status(device=name)
    tape.go(1)
    for name in ("belt-1", "belt-2"):
        tape.status(jam=True, device=name)
    rules = with_change(tape.header, "belt-2:belt/jam.title=Parcel stuck")
    assert [(one.device, one.severity, one.title) for one in await tape.raised(rules)] == [
        ("belt-1", "stop", "Jam"),
        ("belt-2", "notice", "Parcel stuck"),
    ]


async def test_other_limits_and_signals_can_be_tried() -> None:
    tape = jammed()
    rules = with_change(tape.header, "motor/overload.when.above.limit=20")
    assert [one.fault for one in await tape.raised(rules)] == ["jam"]
    rules = with_change(tape.header, "signals.current.scale=0.5")
    assert [one.fault for one in await tape.raised(rules)] == ["jam"]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("5", "expected [DEVICE:]KEY=VALUE"),
        ("belt-9:on_delay=5", "the trace has no device 'belt-9'; there are: belt-1"),
        ("belt/jamm.on_delay_s=5", "there is no 'belt/jamm.on_delay_s'"),
        ("belt/jamm.on_delay_s=5", "belt/jam, belt/quiet, motor/overload"),
        ("unreachable_after_s=soon", "seconds are expected, 1 to 3600"),
        ("unreachable_after_s=0", "seconds are expected, 1 to 3600"),
        ("signals.a b.c=1", "no key of TOML"),
    ],
)
def test_a_change_that_cannot_be_is_refused_and_what_there_is_named(typed: str, said: str) -> None:
    with pytest.raises(ChangeError) as refused:
        with_change(jammed().header, typed)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("belt/jam.on_delay_x=5", "unknown key; expected one of fault, component"),
        ("belt/jam.on_delay_s=long", "a number is expected"),
        ("reads.statuss.every_s=5", "unknown name; expected status, voice"),
    ],
)
async def test_what_the_grammar_forbids_is_refused_in_its_words(typed: str, said: str) -> None:
    tape = jammed()
    with pytest.raises(ConfigError) as refused:
        await tape.played(with_change(tape.header, typed))
    assert said in str(refused.value)
    assert "device[0] (belt-1)" in str(refused.value)


async def test_another_text_of_the_profile_can_be_tried() -> None:
    tape = jammed()
    text = tape.header.profiles["conveyor"].replace("limit: 10", "limit: 11.5")
    assert len(await tape.raised(with_profile(tape.header, "conveyor", text))) == 2
    with pytest.raises(ChangeError, match="no device of the trace has a profile 'lift'; there are: conveyor"):
        with_profile(tape.header, "lift", text)


def scanner_and_line() -> Tape:
    """belt-2 is jammed while belt-1 runs, from 10 s to 40 s."""
    when = {
        "all": [
            {"is": {"signal": "belt-2/jam", "value": True}},
            {"above": {"signal": "belt-1/current", "limit": 2}},
        ]
    }
    of_site = {
        "device": "belt-2",
        "component": "line",
        "fault": "blocked",
        "title": "Line is blocked",
        "severity": "stop",
        "when": when,
        "on_delay_s": 5,
    }
    tape = Tape(devices={"belt-1": {}, "belt-2": {"fed_by": ["belt-1"]}}, conditions=[of_site])
    tape.status(current=5).status(device="belt-2").go(10).status(device="belt-2", jam=True).go(30)
    return tape.status(current=5).status(device="belt-2").go(5).status()


async def test_conditions_over_several_devices_are_replayed_and_can_be_changed() -> None:
    tape = scanner_and_line()
    raised = [(one.fault, one.raised_s, one.cleared_s) for one in await tape.raised()]
    assert raised == [("jam", 10.0, 40.0), ("blocked", 15.0, 40.0)]
    later = with_change(tape.header, "belt-2:line/blocked.on_delay=20s")
    assert [one.raised_s for one in await tape.raised(later)] == [10.0, 30.0]
    none = with_change(tape.header, "blocked.when.all=[{above = {signal = 'belt-1/current', limit = 9}}]")
    assert [one.fault for one in await tape.raised(none)] == ["jam"]
    assert [one.fault for one in await tape.raised(with_change(tape.header, "on_delay=35s"))] == []
    with pytest.raises(ChangeError, match="motor/overload, line/blocked"):
        with_change(tape.header, "belt-2:line/blokced.on_delay=20s")


async def test_what_hangs_on_a_dead_device_is_explained_in_a_replay_too() -> None:
    tape = scanner_and_line()
    for name in ("belt-1", "belt-2"):
        for read in ("status", "voice"):
            tape.says(read, device=name, trouble=Trouble.NO_LINK)
    feeder, fed = (one for one in await tape.go(60).status().raised() if one.fault == "unreachable")
    assert (feeder.device, feeder.because) == ("belt-1", "")
    assert (fed.device, fed.because) == ("belt-2", "belt-1 link/unreachable")


# --- what differs -------------------------------------------------------------------------------------------


async def differing(tape: Tape, *typed: str) -> list[tuple[What, str, float]]:
    rules = tape.header
    for change in typed:
        rules = with_change(rules, change)
    end_s = (tape.clock.mono_ns - HandClock().mono_ns) / 1e9
    found = differences(await tape.raised(), await tape.raised(rules), end_s=end_s)
    return [(one.what, (one.after or one.before).fault, round(one.by_s, 3)) for one in found]  # type: ignore[union-attr]


async def test_nothing_differs_from_itself() -> None:
    assert await differing(jammed(), "on_delay_s=0", "on_delay_s=0", "motor/overload.on_delay_s=5") == []


async def test_what_is_new_and_gone_earlier_and_later_is_told() -> None:
    assert await differing(jammed(), "belt/jam.on_delay=9s") == [(What.GONE, "jam", 0.0)]
    assert await differing(jammed(), "belt/jam.on_delay=3s") == [(What.LATER, "jam", 3.0)]
    assert await differing(jammed(), "motor/overload.on_delay=2s") == [(What.EARLIER, "overload", 3.0)]
    assert await differing(jammed(), "belt/jam.severity=notice") == [(What.SEVERITY, "jam", 0.0)]


async def test_what_lasts_longer_and_shorter_is_told() -> None:
    limit = "motor/overload.when.above.limit"
    assert await differing(_ramp(), f"{limit}=13") == [
        (What.LATER, "overload", 3.0),
        (What.SHORTER, "overload", 6.0),
    ]
    assert await differing(_ramp(), f"{limit}=9") == [
        (What.EARLIER, "overload", 1.0),
        (What.LONGER, "overload", 2.0),
    ]


def _ramp() -> Tape:
    """Up to 20 and down again, by 1 a second from 1 on."""
    tape = Tape()
    for current in (*range(1, 21), *range(20, 0, -1), *[0] * 20):
        tape.status(current=current).go(1)
    return tape


async def test_two_that_become_one_are_one_longer_and_one_gone() -> None:
    tape = Tape()
    for _ in range(2):
        tape.status(jam=True).go(3).status().go(3)
    found = await differing(tape.status(), "belt/jam.off_delay=10s")
    assert [what for what, *_ in found] == [What.LONGER, What.GONE]


def test_a_header_is_not_changed_by_what_is_tried_with_it() -> None:
    was = header(HandClock())
    with_change(was, "belt/jam.on_delay_s=9")
    assert was == header(HandClock())
    assert what_if.conditions(was, "belt-1")["belt/jam"].on_delay_s == 0


def test_the_path_of_a_trace_stands_in_front_of_what_is_wrong_with_it(tmp_path: Path) -> None:
    tape = jammed()
    broken = tape.header.model_copy(update={"device": ({"id": "belt-1"},)})
    with pytest.raises(ConfigError, match=r"tape: device\[0\].bus: missing"):
        asyncio.run(tape.played(broken))
