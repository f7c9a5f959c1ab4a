from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.grouping import Chain, Episode, chains, facts, held_until_ms, span
from collector.tickets import FOREVER_MS, Condition, Ticket, Work

WINDOW = 10


def episode(uid: str, start: int, end: int | None, **more: object) -> Episode:
    plain = Episode(
        uid=uid,
        start_ms=start,
        end_ms=end,
        unknown=False,
        severity=30,
        count=1,
        error_ms=1,
        title=uid,
        advice="",
    )
    return plain._replace(**more)  # type: ignore[arg-type]  # a table of tests


def ticket(uid: str, number: int = 1, **more: object) -> Ticket:
    plain = Ticket(
        id=uid,
        number=number,
        site="s",
        dedupe_key="k",
        device="d",
        place="",
        component="c",
        fault="f",
        title="",
        advice="",
        severity=30,
        condition=Condition.CLEARED,
        work=Work.RESOLVED,
        first_ms=0,
        last_ms=5,
        period_ms=0,
        error_ms=0,
        returns=0,
        count=1,
        received_ms=0,
    )
    return plain._replace(**more)  # type: ignore[arg-type]  # a table of tests


def runs(found: list[Chain]) -> list[str]:
    return ["".join(one.uid for one in chain.episodes) for chain in found]


@pytest.mark.parametrize(
    ("what", "episodes", "expected"),
    [
        ("one", [episode("a", 0, 5)], ["a"]),
        ("back within the window", [episode("a", 0, 5), episode("b", 15, 20)], ["ab"]),
        ("back after it", [episode("a", 0, 5), episode("b", 16, 20)], ["a", "b"]),
        ("two gateways at once", [episode("a", 0, 50), episode("b", 10, 12)], ["ab"]),
        ("the long one reaches", [episode("a", 0, 50), episode("b", 1, 2), episode("c", 60, 61)], ["abc"]),
        ("an open one reaches for ever", [episode("a", 0, None), episode("b", 999, 1000)], ["ab"]),
        ("late news bridges", [episode("a", 0, 5), episode("c", 22, 25), episode("b", 12, 15)], ["abc"]),
    ],
)
def test_faults_with_short_gaps_are_one_chain(
    what: str, episodes: list[Episode], expected: list[str]
) -> None:
    assert runs(chains(episodes, {}, WINDOW)) == expected, what


def test_work_in_hand_bridges_a_longer_gap() -> None:
    both = [episode("a", 0, 5), episode("b", 100, 105)]
    at_it = ticket("a", work=Work.IN_PROGRESS)
    assert runs(chains(both, {"a": at_it}, WINDOW)) == ["ab"]
    reopened = ticket("a", work=Work.NEW, worked_until_ms=FOREVER_MS)
    assert runs(chains(both, {"a": reopened}, WINDOW)) == ["ab"]
    let_go = ticket("a", worked_until_ms=95)
    assert runs(chains(both, {"a": let_go}, WINDOW)) == ["ab"]
    long_ago = ticket("a", worked_until_ms=50)
    assert runs(chains(both, {"a": long_ago}, WINDOW)) == ["a", "b"]


def test_a_chain_keeps_the_open_ticket_else_the_oldest_and_absorbs_the_rest() -> None:
    bridged = [episode("a", 0, 5), episode("b", 12, 15), episode("c", 22, 25)]
    old, young = ticket("a", 1, closed_ms=9), ticket("c", 2)
    (chain,) = chains(bridged, {"a": old, "c": young}, WINDOW)
    assert (chain.ticket, chain.absorbed) == (young, (old,))
    both_closed = {"a": old, "c": young._replace(closed_ms=9)}
    (chain,) = chains(bridged, both_closed, WINDOW)
    assert (chain.ticket, chain.absorbed) == (old, (both_closed["c"],))


def test_a_closed_ticket_that_goes_on_gets_a_new_one() -> None:
    (chain,) = chains([episode("a", 0, 5), episode("b", 9, None)], {"a": ticket("a", closed_ms=9)}, WINDOW)
    assert (chain.ticket, chain.new_id) == (None, "b")
    assert [one.id for one in chain.absorbed] == ["a"]


def test_a_part_that_stands_alone_again_gets_back_its_own_ticket() -> None:
    gone = ticket("a", closed_ms=9, merged_into="b")
    (chain,) = chains([episode("a", 0, None)], {"a": gone}, WINDOW)
    assert (chain.ticket, chain.absorbed) == (gone, ())


@pytest.mark.parametrize(
    ("what", "episodes", "expected"),
    [
        ("all over", [episode("a", 0, 5)], Condition.CLEARED),
        ("one says so", [episode("a", 0, 5), episode("b", 6, None)], Condition.ACTIVE),
        ("one is silent", [episode("a", 0, None, unknown=True), episode("b", 6, None)], Condition.ACTIVE),
        ("all are silent", [episode("a", 0, None, unknown=True), episode("b", 1, 2)], Condition.UNKNOWN),
    ],
)  # fmt: skip
def test_a_condition_is_active_while_any_gateway_says_so(
    what: str, episodes: list[Episode], expected: Condition
) -> None:
    assert facts(episodes).condition is expected, what


def test_facts_are_counted_from_sets() -> None:
    told = facts([
        episode("a", 0, 5, severity=20, count=3),
        episode("b", 3, 9, severity=30),
        episode("c", 12, None, severity=10, title="newest"),
    ])  # fmt: skip
    assert (told.count, told.returns, told.period_ms, told.first_ms, told.last_ms) == (5, 1, 12, 0, None)
    assert (told.severity, told.title) == (10, "newest")


def test_a_ticket_spans_until_its_end_or_until_people_let_go() -> None:
    assert span(ticket("a")) == (0, 5)
    assert span(ticket("a", last_ms=None)) == (0, FOREVER_MS)
    assert span(ticket("a", worked_until_ms=70)) == (0, 70)
    assert held_until_ms(ticket("a", work=Work.ON_HOLD)) == FOREVER_MS
    assert held_until_ms(ticket("a", work=Work.CLOSED, closed_ms=3)) is None


@given(
    st.lists(st.tuples(st.integers(0, 200), st.none() | st.integers(0, 40)), min_size=1, max_size=8),
    st.randoms(use_true_random=False),
)
def test_chains_and_facts_do_not_depend_on_the_order(
    pairs: list[tuple[int, int | None]], chance: object
) -> None:
    episodes = [
        episode(chr(97 + place), start, None if length is None else start + length)
        for place, (start, length) in enumerate(pairs)
    ]
    in_order = chains(episodes, {}, WINDOW)
    chance.shuffle(episodes)  # type: ignore[attr-defined]  # hypothesis' random
    assert chains(episodes, {}, WINDOW) == in_order
    assert sum(len(chain.episodes) for chain in in_order) == len(episodes)
    starts = [facts(chain.episodes).first_ms for chain in in_order]
    ends = [facts(chain.episodes).last_ms for chain in in_order]
    assert all(end is not None and start - end > WINDOW for end, start in zip(ends, starts[1:], strict=False))
