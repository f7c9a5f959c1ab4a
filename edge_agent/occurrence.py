"""Decides what is written down: transitions of conditions in, openings and closings of occurrence rows out.

An opening has no uid yet and a closing no rev: both come into being inside the transaction that stores them,
where ``opened``, ``explained`` and ``closed`` make the row. A row is never rewritten but by a higher
``rev``, and closed is terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from edge_agent.detect import Act, Transition
from edge_agent.wire import (
    AGENT_COMPONENT,
    DISK,
    JOURNAL,
    NOT_RUNNING,
    Row,
    Severity,
    SeverityChange,
    Stamp,
    condition_key,
)

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
    """A fault has begun."""

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


Change = Opening | Closing | Explaining


def changes(
    device: str, transitions: Iterable[Transition], evidence: Callable[[Transition], dict[str, Any]]
) -> list[Change]:
    """What the transitions of one device write down, in their order."""
    return [
        _opening(device, one, evidence(one)) if one.act is Act.RAISE else _closing(device, one)
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


def closed(row: Row, closing: Closing, *, mod_seq: int) -> Row:
    changed = {
        "rev": row.rev + 1,
        "state": "closed",
        "cleared": closing.cleared,
        "reason": str(closing.reason),
        "mod_seq": mod_seq,
        "waits": None,
    }
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


def _closing(device: str, transition: Transition) -> Closing:
    return Closing(
        key=condition_key(device, transition.rule.component, transition.rule.fault),
        cleared=transition.first,
        reason=Reason.CLEARED,
    )
