"""Decides which closed rows may become one, and makes it: a compaction that loses nothing but evidence.

Every member keeps what tells it from the others, so that whoever unpacks the roll-up (``wire.unpacked``) has
the rows again. What cannot be told that way is never rolled up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edge_agent.wire import (
    MAX_MEMBERS,
    THINNED,
    Member,
    Moment,
    Row,
    SeverityChange,
    Stamp,
    unpacked,
)

ROLLED_UP = "rolled_up"

# Rows with the same may become one: condition, boot, title, advice.
Kind = tuple[str, str, str, str]


def kind(row: Row) -> Kind | None:
    """None: this row has to stay as it is."""
    if row.state == "open" or row.cleared is None:
        return None
    if row.members is None and not _is_told_by_a_member(row):
        return None
    return (row.key, row.first_bad.boot, row.title, row.advice)


def together(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Of rows of one kind, in order, those that fit into one roll-up each."""
    found: list[Row] = []
    for row in rows:
        if found and sum(one.count for one in found) + row.count > MAX_MEMBERS:
            yield found
            found = []
        found.append(row)
    if found:
        yield found


def rolled_up(rows: Sequence[Row], *, uid: str) -> Row:
    """One row in the place of ``rows``, which are of one kind and in order, at the position of the last."""
    members = [member for row in rows for member in _members(row)]
    first = min(rows, key=lambda row: row.first_bad.mono_ns)
    last = max((row.cleared for row in rows if row.cleared), key=lambda stamp: stamp.mono_ns)
    return Row(
        uid=uid,
        device=first.device,
        component=first.component,
        fault=first.fault,
        rev=1,
        state="closed",
        severity=max(member.severity for member in members),
        mod_seq=rows[-1].mod_seq,
        first_bad=first.first_bad,
        raised=first.raised,
        cleared=last,
        count=len(members),
        reason=ROLLED_UP,
        title=first.title,
        advice=first.advice,
        members=members,
    )


def _members(row: Row) -> Sequence[Member]:
    return [_member(row)] if row.members is None else row.members


def _member(row: Row) -> Member:
    assert row.cleared is not None, "kind() has looked"
    return Member(
        uid=row.uid,
        rev=row.rev,
        severity=row.severity,
        first_bad=_moment(row.first_bad),
        raised=_moment(row.raised),
        cleared=_moment(row.cleared),
        reason=row.reason,
        because=row.because,
    )


def _moment(stamp: Stamp) -> Moment:
    return (stamp.mono_ns, stamp.wall_ms, stamp.source)


def _is_told_by_a_member(row: Row) -> bool:
    if row.cleared is None or not row.first_bad.boot == row.raised.boot == row.cleared.boot:
        return False
    if row.severities != [SeverityChange(severity=row.severity, at=row.raised)]:
        return False
    (again,) = unpacked(row.model_copy(update={"members": [_member(row)]}))
    return again == row.model_copy(update={"evidence": THINNED})
