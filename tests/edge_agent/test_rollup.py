"""What may become one row, and that whoever unpacks it has the rows again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rigs.moments import MONDAY_MS

from edge_agent.rollup import kind, rolled_up, together
from edge_agent.wire import (
    MAX_EVIDENCE_BYTES,
    MAX_MEMBERS,
    THINNED,
    Row,
    SeverityChange,
    Stamp,
    encode,
    parse_json,
    read_row,
    unpacked,
)

BOOT = "b" * 32
moments = st.builds(
    Stamp,
    boot=st.just(BOOT),
    mono_ns=st.integers(0, 1 << 60),
    wall_ms=st.integers(0, 1 << 50),
    source=st.sampled_from(["none", "rtc", "ntp", "collector", "gps"]),
)


@st.composite
def ended(draw: st.DrawFn) -> Row:
    raised, severity = draw(moments), draw(st.sampled_from([10, 20, 25, 30]))
    return Row(
        uid=f"{draw(st.integers(0, 1 << 127)):032x}",
        device="belt-1",
        component="belt",
        fault="jam",
        rev=draw(st.integers(1, 9)),
        state="closed",
        severity=severity,
        severities=[SeverityChange(severity=severity, at=raised)],
        mod_seq=draw(st.integers(1, 1 << 40)),
        first_bad=draw(moments),
        raised=raised,
        cleared=draw(moments),
        reason=draw(st.sampled_from(["cleared", "closed_here", "not_watched"])),
        title="Jam",
        advice="Clear it.",
        evidence=draw(st.none() | st.just({"samples": [1]})),
    )


def told(rows: list[Row]) -> list[dict[str, Any]]:
    """Without what a roll-up gives up: evidence, and the positions, which only the journal needs."""
    return [row.model_dump(exclude={"evidence", "mod_seq"}) for row in rows]


@given(st.lists(ended(), min_size=1, max_size=30), st.data())
def test_rolling_up_and_unpacking_is_to_have_the_rows_again(rows: list[Row], data: st.DataObject) -> None:
    """Also when roll-ups are rolled up, and over the wire."""
    waiting = list(rows)
    while len(waiting) > 1:
        few = data.draw(st.integers(1, len(waiting)))
        waiting = [rolled_up(waiting[:few], uid="f" * 32), *waiting[few:]]
        if few == 1:
            break
    sent = [read_row(parse_json(encode(row))) for row in waiting]
    back = [one for row in sent for one in unpacked(row)]
    assert told(back) == told(rows)
    assert all(one.evidence == THINNED for row in sent if row.members for one in unpacked(row))
    assert sum(row.count for row in sent) == len(rows)


@pytest.mark.parametrize(
    "changed",
    [
        {"state": "open"},
        {"cleared": None},
        {"cleared": Stamp(boot="c" * 32, mono_ns=5, wall_ms=MONDAY_MS, source="ntp")},
        {"severities": []},
        {"later_field": 1},
    ],
)
def test_what_a_member_cannot_tell_stays_a_row_of_its_own(changed: dict[str, Any]) -> None:
    row = an_ended_jam()
    assert kind(row) is not None
    assert kind(Row.model_validate(row.model_dump() | changed)) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"fault": "overload"},
        {"title": "Stuck"},
        {"advice": "Call."},
        {"first_bad": Stamp(boot="c" * 32, mono_ns=5, wall_ms=MONDAY_MS, source="ntp")},
    ],
)
def test_another_condition_boot_or_text_is_of_another_kind(changed: dict[str, Any]) -> None:
    row = an_ended_jam()
    assert kind(row.model_copy(update=changed)) != kind(row)


def test_a_roll_up_has_at_most_a_hundred_members_and_fits_into_a_message() -> None:
    rows = [an_ended_jam(uid=f"{n:032x}", mod_seq=n + 1) for n in range(250)]
    few = [list(one) for one in together(rows)]
    assert [len(one) for one in few] == [MAX_MEMBERS, MAX_MEMBERS, 50]
    made = [rolled_up(one, uid=f"{n:032x}") for n, one in enumerate(few)]
    assert [row.mod_seq for row in made] == [100, 200, 250]
    assert [list(one) for one in together(made)] == [[one] for one in made]
    assert len(encode(made[0])) < 4 * MAX_EVIDENCE_BYTES
    # A row of its own takes twice as much even without any evidence.
    assert len(encode(made[0])) < len(encode(rows[0])) * MAX_MEMBERS // 2


def an_ended_jam(**changed: Any) -> Row:
    at = Stamp(boot=BOOT, mono_ns=5, wall_ms=MONDAY_MS, source="ntp")
    row = Row(
        uid="a" * 32,
        device="belt-1",
        component="belt",
        fault="jam",
        rev=2,
        state="closed",
        severity=30,
        severities=[SeverityChange(severity=30, at=at)],
        mod_seq=7,
        first_bad=at,
        raised=at,
        cleared=at,
        reason="cleared",
        title="Jam",
        advice="Clear it.",
        evidence={"samples": []},
    )
    return row.model_copy(update=changed)
