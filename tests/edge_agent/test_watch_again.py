"""An answer that says what the one before said is not decoded, and all comes out as if it had been."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from rigs.journals import InMemory
from rigs.moments import HandClock, ids
from rigs.watching import Floor, conveyor

from edge_agent import decode
from edge_agent.detect import Detector
from edge_agent.journal import Journal
from edge_agent.recorder import Recorder
from edge_agent.sample import Trouble
from edge_agent.watch import Watch

# What happens, and how many seconds later.
Act = tuple[str, Any, float]
WAITS_S = st.sampled_from([0.0, 0.5, 1.0, 4.5, 6.0, 11.0, 61.0])
ACTS = st.lists(
    st.tuples(
        st.sampled_from(["status"] * 6 + ["voice", "trouble", "look", "stood still", "closed here"]),
        st.tuples(st.booleans(), st.sampled_from([1.0, 9.0, 11.0])),
        WAITS_S,
    ),
    max_size=40,
)


async def told(acts: list[Act]) -> list[Any]:
    """All rows of the journal in the end, and what is open and unsettled after each act."""
    clock, disk = HandClock(), InMemory(ids())
    device = conveyor()
    journal = Journal(disk, stamp=clock.stamp)
    found: list[Any] = []
    try:
        floor = Floor(await Watch.start([device], journal, Recorder([device]), clock.stamp), journal, clock)
        for act, (jam, current), wait_s in acts:
            if act == "status":
                await floor.status(jam=jam, current=current)
            elif act == "voice":
                await floor.voice(b"4012345678901")
            elif act == "trouble":
                await floor.trouble(Trouble.NO_LINK if jam else Trouble.NO_ANSWER, "status")
            elif act == "stood still":
                floor.watch.stood_still(clock.stamp())
            elif act == "closed here":
                await floor.watch.close_here([row.uid for row in await journal.open_occurrences()])
            await floor.watch.look(clock.stamp())
            found.append((await floor.open(), sorted(floor.watch.unsettled())))
            clock.go(wait_s)
        found.append((await journal.batch(max_rows=500, max_bytes=1 << 20)).rows)
    finally:
        await journal.close()
    return found


@settings(max_examples=150, deadline=None)
@given(ACTS)
def test_what_is_told_is_the_same_as_if_every_answer_were_decoded(acts: list[Act]) -> None:
    quickly = asyncio.run(told(acts))
    with patch.object(Detector, "again", lambda *_: False):
        assert asyncio.run(told(acts)) == quickly


async def test_an_answer_that_says_what_the_one_before_said_is_not_decoded() -> None:
    acts: list[Act] = [("status", (False, 1.0), 1.0)] * 20
    with patch.object(decode, "samples", wraps=decode.samples) as decoded:
        await told(acts)
    assert decoded.call_count == 1
