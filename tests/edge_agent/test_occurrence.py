from __future__ import annotations

from dataclasses import replace
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rigs.journals import closing, opening
from rigs.moments import HandClock, condition, ids

from edge_agent import occurrence
from edge_agent.detect import Act, Transition, rule
from edge_agent.occurrence import Closing, Opening, Reason
from edge_agent.wire import Row, read_row

CLOCK = HandClock()
JAM = rule(condition({"is": {"signal": "jam", "value": True}}, advice="Clear it."))


def transition(act: Act) -> Transition:
    first = CLOCK.stamp()
    return Transition(rule=JAM, act=act, first=first, at=replace(first, mono_ns=first.mono_ns + 5))


def test_a_raise_becomes_an_opening_with_its_evidence() -> None:
    raised = transition(Act.RAISE)
    (change,) = occurrence.changes("belt-1", [raised], lambda one: {"seen": one.rule.key})
    assert isinstance(change, Opening)
    assert change.key == "belt-1|belt|jam"
    assert (change.title, change.advice) == ("Jam", "Clear it.")
    assert (change.first_bad, change.raised) == (raised.first, raised.at)
    assert change.evidence == {"seen": "belt/jam"}


def test_a_clear_becomes_a_closing_dated_at_the_first_good_sample() -> None:
    cleared = transition(Act.CLEAR)
    (change,) = occurrence.changes("belt-1", [cleared], lambda one: {})
    assert change == Closing(key="belt-1|belt|jam", cleared=cleared.first, reason=Reason.CLEARED)


def test_changes_keep_their_order() -> None:
    both = [transition(Act.RAISE), transition(Act.CLEAR)]
    assert [type(one) for one in occurrence.changes("b", both, lambda one: {})] == [Opening, Closing]


def test_every_row_is_what_the_wire_expects() -> None:
    row = occurrence.opened(opening(CLOCK, evidence={"samples": []}), uid="a" * 32, mod_seq=1)
    ended = occurrence.closed(row, closing(CLOCK, reason=Reason.NOT_WATCHED), mod_seq=2)
    for one in (row, ended, occurrence.touched(ended, mod_seq=3)):
        assert read_row(one.model_dump(mode="json", exclude_none=True)) == one
    assert (ended.rev, ended.reason, ended.state) == (2, "not_watched", "closed")


@given(st.lists(st.booleans(), max_size=20))
def test_rev_grows_with_every_change_and_with_nothing_else(again: list[bool]) -> None:
    new_id, seq = ids(), 1
    row: Row = occurrence.opened(opening(CLOCK), uid=new_id(), mod_seq=seq)
    for send_again in again:
        seq += 1
        after = (
            occurrence.touched(row, mod_seq=seq)
            if send_again
            else occurrence.closed(row, closing(CLOCK), mod_seq=seq)
        )
        assert after.rev == row.rev + (not send_again)
        assert after.mod_seq > row.mod_seq
        row = after


@given(st.integers(0, (1 << 48) - 2), st.integers(0, (1 << 128) - 1))
def test_a_uid_is_a_uuid_that_lies_with_others_of_its_time(wall_ms: int, chance: int) -> None:
    uid = occurrence.uid_at(wall_ms, f"{chance:032x}")
    read = UUID(hex=uid)
    assert (read.hex, read.version, read.variant) == (uid, 7, RFC_4122)
    assert read.int >> 80 == wall_ms
    assert uid < occurrence.uid_at(wall_ms + 1, "0" * 32)


@pytest.mark.parametrize("bit", range(128))
def test_a_uid_takes_74_random_bits(bit: int) -> None:
    plain, other = (occurrence.uid_at(0, f"{chance:032x}") for chance in (0, 1 << bit))
    # Counted from the right: 62, two of the variant, 12, four of the version, 48 of the time.
    assert (plain != other) == (bit < 62 or 64 <= bit < 76)


def test_the_time_without_an_agent_is_an_occurrence_of_the_gateway() -> None:
    since = CLOCK.stamp()
    opening_, closing_ = occurrence.not_running("gw-1", since=since, now=CLOCK.go(90))
    assert isinstance(opening_, Opening)
    assert isinstance(closing_, Closing)
    assert opening_.key == closing_.key == "gw-1|agent|not-running"
    assert (opening_.first_bad, closing_.reason) == (since, Reason.RESTARTED)
