"""A block of registers that came as it came before is not cut up, and all comes out as if it had been."""

from __future__ import annotations

import asyncio
from typing import Any, cast
from unittest.mock import patch

from hypothesis import example, given, settings
from hypothesis import strategies as st
from rigs.journals import InMemory
from rigs.moments import HandClock, ids

from edge_agent import decode, profile
from edge_agent.config import Settings as AgentSettings
from edge_agent.device import Device
from edge_agent.journal import Journal
from edge_agent.recorder import Recorder
from edge_agent.sample import Reading, Trouble
from edge_agent.tap import Tap
from edge_agent.transports.modbus import Settings, Transport
from edge_agent.watch import Watch

# Two reads that lie beside each other, and two of which one has to be heard each time.
PRESS = """
schema: 1
name: press
title: Two blocks of two reads
maker: Nobody
models: [P1]
evidence: simulated
source: made for a test
transports: [modbus]
reads:
  state: {function: 3, address: 0, count: 1, every_s: 1}
  load: {function: 3, address: 2, count: 2, every_s: 1}
  beat: {function: 4, address: 0, count: 1, every_s: 1}
  speed: {function: 4, address: 1, count: 1, every_s: 1}
signals:
  jam: {read: state, register: 0, bit: 0, source: made for a test}
  current: {read: load, register: 2, source: made for a test}
  alive: {read: beat, register: 0, source: made for a test}
  turns: {read: speed, register: 1, source: made for a test}
conditions:
  - {component: press, fault: jam, title: Jam, severity: stop, when: {is: {signal: jam, value: true}}}
  - component: motor
    fault: overload
    title: Motor draws too much
    severity: degraded
    when: {above: {signal: current, limit: 10, deadband: 2}}
    on_delay_s: 5
    off_delay_s: 10
  - {component: press, fault: hangs, title: Hangs, severity: stop, when: {stuck_s: {signal: alive, s: 20}}}
  - {component: motor, fault: still, title: Stands, severity: notice, when: {is: {signal: turns, value: 0}}}
"""
GOOD, JAMMED, OVERLOADED, LESS, WITH_A_HOLE = (
    (0, 7, 1, 0),
    (1, 7, 1, 0),
    (0, 7, 11, 0),
    (0, 7, 9, 0),
    (0, 7, None, 0),
)

# A few entries: what changes pushes out what does not.
TAPE_BYTES = 250

# What happens, and how many seconds later.
Act = tuple[tuple[str, Any], float]
ACTS = st.lists(
    st.tuples(
        st.one_of(
            *[st.tuples(st.just("same"), st.sampled_from(["states", "beats"]))] * 4,
            st.tuples(st.just("states"), st.sampled_from([GOOD, JAMMED, OVERLOADED, LESS, WITH_A_HOLE])),
            st.tuples(st.just("beats"), st.sampled_from([(1, 50), (2, 50), (2, 0)])),
            st.tuples(st.just("trouble"), st.sampled_from(["state", "load", "beat"])),
            st.tuples(st.sampled_from(["no link", "stood still", "closed here"]), st.none()),
        ),
        st.sampled_from([0.0, 0.5, 1.0, 4.5, 6.0, 11.0]),
    ),
    max_size=40,
)
# A delay that ends between two answers, how old the last one is told with it; a jam that somebody closed and
# that is there still.
AGES: list[Act] = [(("states", OVERLOADED), 4.5), (("same", "states"), 4.5), (("same", "states"), 4.5)]
CLOSED: list[Act] = [(("states", JAMMED), 1.0), (("closed here", None), 1.0), (("same", "states"), 1.0)]


class Listener:
    """What a recording hears."""

    def __init__(self) -> None:
        self.heard: list[Reading] = []

    def take(self, reading: Reading) -> None:
        self.heard.append(reading)


async def told(acts: list[Act], *, again: bool = True) -> list[Any]:
    """Rows, recordings and what was on the tape in the end; what is open and unsettled after each act."""
    clock, listener = HandClock(), Listener()
    press = Device(id="press", place="", bus="bus", profile=profile.parse(PRESS, name="press"))
    journal, recorder = (
        Journal(InMemory(ids()), stamp=clock.stamp),
        Recorder([press], memory_bytes=TAPE_BYTES),
    )
    tap = Tap(cast(AgentSettings, None), clock.stamp)
    tap._listeners.add(listener)  # type: ignore[arg-type]  # it hears what a recording hears
    found: list[Any] = []
    try:
        watch = await Watch.start([press], journal, recorder, clock.stamp)
        bus = Transport(
            Settings(name="bus", host="127.0.0.1"),
            [press],
            tap.before(watch.put),
            clock.stamp,
            again=tap.beside(watch.again) if again else None,
            clock=lambda: clock.mono_ns / 1e9,
        )
        states, beats = bus._blocks
        answers: dict[str, tuple[int | None, ...]] = {"states": GOOD, "beats": (1, 50)}
        for (act, what), wait_s in acts:
            if act in ("states", "beats", "same"):
                block = what if act == "same" else act
                answers[block] = answers[block] if act == "same" else what
                await bus._tell_values(states if block == "states" else beats, answers[block])
            elif act == "trouble":
                await bus.tell("press", what, trouble=Trouble.NO_ANSWER)
            elif act == "no link":
                await bus.gone("unplugged")
            elif act == "stood still":
                watch.stood_still(clock.stamp())
            elif act == "closed here":
                await watch.close_here([row.uid for row in await journal.open_occurrences()])
            await watch.close()
            await watch.look(clock.stamp())
            unreachable = watch.devices_unreachable()
            found.append((await journal.open_occurrences(), sorted(watch.unsettled()), unreachable))
            clock.go(wait_s)
        found.append((await journal.batch(max_rows=500, max_bytes=1 << 20)).rows)
    finally:
        await journal.close()
    tape = recorder.tapes["press"]
    return [*found, listener.heard, tape.said(), list(tape.meant())]


@settings(max_examples=150, deadline=None)
@given(ACTS)
@example(AGES)
@example(CLOSED)
def test_what_is_told_and_recorded_is_the_same_as_if_each_block_were_cut_up_and_decoded(
    acts: list[Act],
) -> None:
    quickly = asyncio.run(told(acts))
    assert asyncio.run(told(acts, again=False)) == quickly
    with patch.object(Watch, "_says_nothing_new", lambda *_: False):
        assert asyncio.run(told(acts, again=False)) == quickly


async def test_a_block_that_came_as_before_is_told_as_one_and_not_decoded() -> None:
    acts: list[Act] = [(("same", "states"), 1.0)] * 20
    with (
        patch.object(decode, "samples", wraps=decode.samples) as decoded,
        patch.object(Transport, "tell", autospec=True, side_effect=Transport.tell) as one_by_one,
    ):
        *_, heard, said, _ = await told(acts)
    assert decoded.call_count == one_by_one.call_count == 2
    assert len(heard) == 40
    assert [(one.read, one.times) for one in said] == [("state", 20), ("load", 20)]


async def test_what_has_to_be_heard_each_time_is_though_its_block_is_the_same() -> None:
    acts: list[Act] = [(("same", "beats"), 1.0)] * 30
    *_, rows, _, _, _ = await told(acts)
    assert [row["fault"] for row in rows] == ["hangs"]
