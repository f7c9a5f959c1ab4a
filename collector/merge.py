"""Decides what a message is worth: its position in its stream, each row against what is held, the present
against both.

Nothing here looks at a clock, and none of it depends on the order in which messages come: a row is taken only
when its rank is higher than the rank of what is held, and ranks are totally ordered.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import orjson

from edge_agent.wire import Boundary, Head, Row, Verdict

# What is held of a stream that was never seen; the first `from` of every stream.
BEGINNING: Boundary = (0, "0" * 32)

# Fields of a row that came later than the first version: they count where they are told.
LATER = ("because", "waits", "pauses")

# closed over open; told by the edge over estimated here; the higher rev; at last the digest, so that even two
# histories of one uid (a cloned disk) end the same in any order.
Rank = tuple[bool, bool, int, str]


def judge(held: Boundary, from_: Boundary, to: Boundary, lineage: Collection[Boundary]) -> Verdict:
    """Of a live stream: whether the rows between ``from_`` and ``to`` follow what is held. Only OK is
    applied.
    """
    if tuple(from_) == tuple(to) == tuple(held):
        return Verdict.OK
    if from_[0] > held[0]:
        return Verdict.BEHIND
    if to[0] <= held[0]:
        return Verdict.OLD
    if tuple(held) != tuple(from_) and tuple(held) not in {tuple(boundary) for boundary in lineage}:
        return Verdict.FORK
    return Verdict.OK


def digest(row: Row) -> str:
    """Of everything but the position, which changes when a row is sent again. A form without its evidence is
    lower than any that has it.
    """
    told = row.model_dump(mode="json", exclude={"mod_seq", "members"})
    for name in LATER:
        # As a collector has it that does not know the field.
        if told[name] is None:
            del told[name]
    try:
        canonical = orjson.dumps(told, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        # An integer beyond 64 bits, in a field that nobody knows yet.
        canonical = json.dumps(told, sort_keys=True, separators=(",", ":")).encode()
    found = hashlib.sha256(canonical).hexdigest()[:32]
    return f"-{found[:31]}" if row.is_thinned else found


def rank(*, is_open: bool, estimated: bool, rev: int, digest: str) -> Rank:
    return (not is_open, not estimated, rev, digest)


def rank_of(row: Row) -> Rank:
    return rank(is_open=row.state == "open", estimated=False, rev=row.rev, digest=digest(row))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    # Open at the edge, not here or not as it is there: send them again.
    want: tuple[str, ...] = ()
    # Open at the edge, closed here: the edge closes them and looks anew.
    closed_here: tuple[str, ...] = ()
    # Open here, no longer named by the edge: to be closed with an estimated end.
    missing: tuple[str, ...] = ()


def reconcile(
    head: Head,
    *,
    held_open: Mapping[str, str],
    held_closed: Collection[str],
    unreadable: Mapping[str, str | None],
    in_question: Collection[str] = (),
) -> Reconciliation:
    """Of a live stream whose newest row is held here.

    ``held_open`` maps the uids of this gateway that are open here to their condition keys; ``held_closed``
    are those of ``head.open`` that are closed here. ``unreadable`` are those that lie in quarantine, which
    asking again would not mend, with their conditions, None where not even that can be read. ``in_question``
    are those of ``held_open`` of which the edge may have told more than is held.

    Absence closes nothing while anything is disputed or asked for (it may be the same fault under another
    uid), while the condition has not been evaluated since the agent's start, or while an unreadable row may
    say that the fault goes on.
    """
    named = set(head.open)
    closed_here = tuple(uid for uid in head.open if uid in held_closed)
    known = {*held_open, *held_closed, *unreadable} - {*in_question}
    want = tuple(uid for uid in head.open if uid not in known)
    if closed_here or want or None in unreadable.values():
        return Reconciliation(want=want, closed_here=closed_here)
    unknown = {*head.unsettled, *unreadable.values()}
    missing = tuple(sorted(uid for uid, key in held_open.items() if uid not in named and key not in unknown))
    return Reconciliation(missing=missing)
