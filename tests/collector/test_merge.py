from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.merge import BEGINNING, Reconciliation, digest, judge, rank, rank_of, reconcile
from edge_agent.wire import Boundary, Head, Row, Verdict

A: Boundary = (3, "a" * 32)
B: Boundary = (5, "b" * 32)
C: Boundary = (9, "c" * 32)
STRANGER: Boundary = (5, "e" * 32)
STAMP = {"boot": "0" * 32, "mono_ns": 1, "wall_ms": 1, "source": "ntp"}


@pytest.mark.parametrize(
    ("what", "held", "from_", "to", "lineage", "verdict"),
    [
        ("the first message of a stream", BEGINNING, BEGINNING, A, [BEGINNING, A], Verdict.OK),
        ("a heartbeat", B, B, B, [B], Verdict.OK),
        ("a heartbeat of a journal without rows", BEGINNING, BEGINNING, BEGINNING, [], Verdict.OK),
        ("what follows", B, B, C, [B, C], Verdict.OK),
        ("what follows, sent from further back", B, A, C, [A, B, C], Verdict.OK),
        ("a hole between", A, B, C, [B, C], Verdict.BEHIND),
        ("a collector that forgot everything", BEGINNING, B, C, [B, C], Verdict.BEHIND),
        ("a heartbeat past what is held", A, B, B, [B], Verdict.BEHIND),
        ("the same message again", B, A, B, [A, B], Verdict.OLD),
        ("a message from long ago", C, A, B, [A, B], Verdict.OLD),
        ("a heartbeat from long ago", C, B, B, [B], Verdict.OLD),
        ("another history of the same length", B, A, STRANGER, [A, STRANGER], Verdict.OLD),
        ("another history that went on", B, A, C, [A, STRANGER, C], Verdict.FORK),
        ("another history that begins where we are", B, STRANGER, C, [STRANGER, C], Verdict.FORK),
    ],
)
def test_a_position_is_judged_by_boundaries_alone(
    what: str, held: Boundary, from_: Boundary, to: Boundary, lineage: list[Boundary], verdict: Verdict
) -> None:
    assert judge(held, from_, to, lineage) is verdict, what


def test_a_row_counts_only_when_it_ranks_higher_than_what_is_held() -> None:
    rising = [
        rank(is_open=True, estimated=False, rev=1, digest="b"),
        rank(is_open=True, estimated=False, rev=2, digest="a"),
        # Closed here, because the edge no longer named it.
        rank(is_open=False, estimated=True, rev=2, digest="a"),
        # The edge's own end, even at a lower rev than an open form that came in between.
        rank(is_open=False, estimated=False, rev=2, digest="a"),
        rank(is_open=False, estimated=False, rev=2, digest="b"),
        rank(is_open=False, estimated=False, rev=3, digest="a"),
    ]
    assert rising == sorted(rising)


@given(st.permutations([(1, True), (2, True), (3, False), (2, True), (4, True)]))
def test_the_highest_rank_wins_in_any_order(forms: list[tuple[int, bool]]) -> None:
    rows = [_row(rev=rev, state="open" if is_open else "closed") for rev, is_open in forms]
    held = rows[0]
    for row in rows:
        held = max(held, row, key=rank_of)
    assert (held.rev, held.state) == (3, "closed")


def test_a_row_that_is_sent_again_at_a_new_position_is_the_same_row() -> None:
    assert digest(_row(mod_seq=4)) == digest(_row(mod_seq=9))
    assert digest(_row(severity=20)) != digest(_row(severity=30))
    assert digest(_row(later_field=1)) != digest(_row(later_field=2))


def test_a_form_without_its_evidence_is_lower_than_the_same_with_it() -> None:
    """A full journal gives evidence up; what is held of it must not be replaced by less."""
    thinned = _row(rev=2, state="closed", evidence={"thinned": True})
    for evidence in (None, {}, {"samples": []}):
        assert rank_of(thinned) < rank_of(_row(rev=2, state="closed", evidence=evidence))
    assert rank_of(thinned) > rank_of(_row(rev=1, state="closed", evidence={"samples": []}))


OPEN_HERE = {"1" * 32: "a|x|f", "2" * 32: "b|x|f"}
UNREADABLE = {"9" * 32: "b|x|f", "8" * 32: None}


@pytest.mark.parametrize(
    ("what", "open_there", "unsettled", "closed_here", "expected"),
    [
        ("both agree", list(OPEN_HERE), [], [], Reconciliation()),
        ("one is missing there", ["1" * 32], [], [], Reconciliation(missing=("2" * 32,))),
        ("missing, but not looked at yet", ["1" * 32], ["b|x|f"], [], Reconciliation()),
        ("unknown here", [*OPEN_HERE, "3" * 32], [], [], Reconciliation(want=("3" * 32,))),
        (
            "unknown here, perhaps the same fault",
            ["1" * 32, "3" * 32],
            [],
            [],
            Reconciliation(want=("3" * 32,)),
        ),
        ("unreadable here", [*OPEN_HERE, "9" * 32], [], [], Reconciliation()),
        ("its fault goes on in an unreadable row", ["1" * 32, "9" * 32], [], [], Reconciliation()),
        ("another fault is unreadable", ["2" * 32, "9" * 32], [], [], Reconciliation(missing=("1" * 32,))),
        ("nobody knows what is unreadable", ["2" * 32, "8" * 32], [], [], Reconciliation()),
        (
            "a conflict holds everything back",
            ["1" * 32, "4" * 32],
            [],
            ["4" * 32],
            Reconciliation(closed_here=("4" * 32,)),
        ),
    ],
)
def test_absence_closes_only_what_is_settled_and_undisputed(
    what: str, open_there: list[str], unsettled: list[str], closed_here: list[str], expected: Reconciliation
) -> None:
    head = Head(seq=1, open=open_there, unsettled=unsettled, inventory_hash="")
    unreadable = {uid: key for uid, key in UNREADABLE.items() if uid in open_there}
    told = reconcile(head, held_open=OPEN_HERE, held_closed=closed_here, unreadable=unreadable)
    assert told == expected, what


def test_what_is_in_question_is_wanted_and_nothing_is_closed_by_absence_meanwhile() -> None:
    head = Head(seq=1, open=["1" * 32], unsettled=[], inventory_hash="")
    told = reconcile(head, held_open=OPEN_HERE, held_closed=[], unreadable={}, in_question=["1" * 32])
    assert told == Reconciliation(want=("1" * 32,))


def test_verdicts_never_depend_on_anything_but_the_four_positions() -> None:
    """Total: every combination of a few boundaries has a verdict, and OK never moves backwards."""
    some = [BEGINNING, A, B, STRANGER, C]
    for held, from_, to in itertools.product(some, repeat=3):
        if from_[0] > to[0]:
            continue
        verdict = judge(held, from_, to, [from_, to])
        if verdict is Verdict.OK:
            assert to[0] >= held[0]


def _row(**changed: Any) -> Row:
    row = {
        "uid": "1" * 32,
        "device": "a",
        "component": "x",
        "fault": "f",
        "rev": 1,
        "state": "open",
        "severity": 30,
        "mod_seq": 1,
        "first_bad": STAMP,
        "raised": STAMP,
        "cleared": STAMP,
        "title": "t",
    }
    return Row.model_validate(row | changed)
