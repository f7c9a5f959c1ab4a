"""Decides what is written down: transitions of conditions in; openings, pauses and closings of rows out.

An opening has no uid yet and a closing no rev: both come into being inside the transaction that stores them,
where ``opened``, ``paused``, ``resumed``, ``explained`` and ``closed`` make the row. A row is never rewritten
but by a higher ``rev``, and closed is terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from edge_agent.detect import Act, Transition
from edge_agent.wire import (
    AGENT_COMPONENT,
    DISK,
    JOURNAL,
    NOT_RUNNING,
    NS_PER_MS,
    Pause,
    Row,
    Severity,
    SeverityChange,
    Stamp,
    condition_key,
    mono_ms,
)

_UUID_TIME_MASK = (1 << 48) - 1

# What the agent tells of itself: no profile has these, and no device is watched for them.
OF_THE_AGENT = frozenset({DISK, JOURNAL, NOT_RUNNING})


class Reason(StrEnum):
    """Why a closed row is closed."""

    CLEARED = "cleared"
    # Its condition is no longer configured.
    NOT_WATCHED = "not_watched"
    # The collector had closed it already.
    CLOSED_HERE = "closed_here"
    # The agent runs again.
    RESTARTED = "restarted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A fault has begun, or is there again where its occurrence pauses."""

    device: str
    component: str
    fault: str
    severity: Severity
    title: str
    advice: str
    first_bad: Stamp
    raised: Stamp
    evidence: dict[str, Any] | None = None

    @property
    def key(self) -> str:
        return condition_key(self.device, self.component, self.fault)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pausing:
    """The fault is gone since then, and its occurrence waits for it to come again."""

    key: str
    since: Stamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """The open occurrence of a condition has ended; ``cleared`` is the first moment at which all was well."""

    key: str
    cleared: Stamp
    reason: Reason
    # Only if this is the one that is open.
    uid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explaining:
    """Why the open occurrence of a condition is there, or that nothing explains it."""

    key: str
    # Key of the condition whose open occurrence explains it.
    because: str | None = None
    # Until when it may still be explained; what explained it before is kept as long as it waits.
    waits: Stamp | None = None


Change = Opening | Pausing | Closing | Explaining


def changes(
    device: str, transitions: Iterable[Transition], evidence: Callable[[Transition], dict[str, Any]]
) -> list[Change]:
    """What the transitions of one device write down, in their order."""
    return [
        _opening(device, one, evidence(one)) if one.act is Act.RAISE else _ending(device, one)
        for one in transitions
    ]


def not_running(gateway: str, *, since: Stamp, now: Stamp) -> list[Change]:
    """The time in which the agent did not run: nothing is known of it."""
    opening = Opening(
        device=gateway,
        component=AGENT_COMPONENT,
        fault=NOT_RUNNING,
        severity=Severity.NOTICE,
        title="Edge agent was not running",
        advice="What happened meanwhile is not known.",
        first_bad=since,
        raised=since,
    )
    return [opening, Closing(key=opening.key, cleared=now, reason=Reason.RESTARTED)]


def journal_damaged(gateway: str, found: dict[str, Any], *, now: Stamp) -> list[Change]:
    """Something of the journal could not be read any more. Over at once: the agent runs."""
    opening = Opening(
        device=gateway,
        component=AGENT_COMPONENT,
        fault=JOURNAL,
        severity=Severity.DEGRADED,
        title="The gateway's journal was damaged",
        advice="Something that was recorded may be lost. If it comes again, replace the gateway's storage.",
        first_bad=now,
        raised=now,
        evidence=found,
    )
    return [opening, Closing(key=opening.key, cleared=now, reason=Reason.CLEARED)]


def disk_full(gateway: str, found: dict[str, Any], *, now: Stamp) -> Opening:
    return Opening(
        device=gateway,
        component=AGENT_COMPONENT,
        fault=DISK,
        severity=Severity.DEGRADED,
        title="The gateway's disk is full",
        advice="Find what fills it. Faults are still recorded; what equipment said may be left out.",
        first_bad=now,
        raised=now,
        evidence=found,
    )


def disk_free(gateway: str, *, now: Stamp) -> Closing:
    key = condition_key(gateway, AGENT_COMPONENT, DISK)
    return Closing(key=key, cleared=now, reason=Reason.CLEARED)


def uid_at(wall_ms: int, chance: str) -> str:
    """A UUID of version 7 (RFC 9562) as hex; ``chance``: 128 random bits as hex, of which it takes 74.

    What began at one time lies together in every index, here and at the collector.
    Nothing is ever concluded from that time: clocks are wrong.
    """
    variant = "89ab"[int(chance[16], 16) & 0b11]
    return f"{wall_ms & _UUID_TIME_MASK:012x}7{chance[13:16]}{variant}{chance[17:]}"


def opened(opening: Opening, *, uid: str, mod_seq: int) -> Row:
    return Row(
        uid=uid,
        device=opening.device,
        component=opening.component,
        fault=opening.fault,
        rev=1,
        state="open",
        severity=opening.severity,
        severities=[SeverityChange(severity=opening.severity, at=opening.raised)],
        mod_seq=mod_seq,
        first_bad=opening.first_bad,
        raised=opening.raised,
        title=opening.title,
        advice=opening.advice,
        evidence=opening.evidence,
    )


def paused(row: Row, pausing: Pausing, *, mod_seq: int) -> Row:
    pauses = [*(row.pauses or ()), (_after_first(row, pausing.since), None)]
    changed = {"rev": row.rev + 1, "pauses": pauses, "waits": None, "mod_seq": mod_seq}
    return row.model_copy(update=changed)


def resumed(row: Row, opening: Opening, *, mod_seq: int) -> Row:
    """``row`` pauses, and the fault is there again."""
    ended, since_ms = _paused_since(row)
    pauses = [*ended, (since_ms, max(since_ms, _after_first(row, opening.first_bad)))]
    changed = {"rev": row.rev + 1, "pauses": pauses, "count": row.count + 1, "mod_seq": mod_seq}
    return row.model_copy(update=changed)


def closed(row: Row, closing: Closing, *, mod_seq: int) -> Row:
    """What is closed while it pauses, for whatever reason, ended when the pause began."""
    changed = {
        "rev": row.rev + 1,
        "state": "closed",
        "cleared": closing.cleared,
        "reason": str(closing.reason),
        "mod_seq": mod_seq,
        "waits": None,
    }
    if row.is_paused:
        ended, since_ms = _paused_since(row)
        changed |= {"cleared": _at(row, since_ms), "pauses": ended or None}
    return row.model_copy(update=changed)


def explained(row: Row, *, because: str | None, waits: Stamp | None, mod_seq: int) -> Row:
    """``because``: the uid of what explains it."""
    changed = {"rev": row.rev + 1, "because": because, "waits": waits, "mod_seq": mod_seq}
    return row.model_copy(update=changed)


def touched(row: Row, *, mod_seq: int) -> Row:
    """The same news at a new position, so that it is sent again."""
    return row.model_copy(update={"mod_seq": mod_seq})


def _opening(device: str, transition: Transition, evidence: dict[str, Any]) -> Opening:
    rule = transition.rule
    return Opening(
        device=device,
        component=rule.component,
        fault=rule.fault,
        severity=rule.severity,
        title=rule.title,
        advice=rule.advice,
        first_bad=transition.first,
        raised=transition.at,
        evidence=evidence,
    )


def _ending(device: str, transition: Transition) -> Closing | Pausing:
    key = condition_key(device, transition.rule.component, transition.rule.fault)
    if transition.act is Act.PAUSE:
        return Pausing(key=key, since=transition.first)
    return Closing(key=key, cleared=transition.first, reason=Reason.CLEARED)


def _paused_since(row: Row) -> tuple[list[Pause], int]:
    """The pauses that have ended, and since when ``row`` pauses."""
    assert row.pauses is not None, "it pauses"
    *ended, last = row.pauses
    return ended, last[0]


def _after_first(row: Row, at: Stamp) -> int:
    """In ms; both lie in one boot, for what was open before a restart never pauses after it."""
    return max(0, mono_ms(at) - mono_ms(row.first_bad))


def _at(row: Row, after_first_ms: int) -> Stamp:
    """That long after its first bad sample, by both clocks."""
    first = row.first_bad
    mono_ns = (mono_ms(first) + after_first_ms) * NS_PER_MS
    return replace(first, mono_ns=mono_ns, wall_ms=first.wall_ms + after_first_ms)
