"""What no edge says and the collector does: a fault of a gateway itself, and that an occurrence has ended."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from collector.exchange import GatewayIdentity
from collector.folding import Pending
from collector.store.streams import clean
from edge_agent.wire import AGENT_COMPONENT, SILENT, Severity, dedupe_key

# The namespace of the uids that are made here, so that every replica makes the same.
MINTED = uuid.UUID("6f2f3c1e-6f55-5d8c-9a39-3d2f7c1b0a11")
NO_BOOT = "0" * 32
# Who is not heard for so long is silent: four heartbeats.
SILENT_MS = 60_000
# When a gateway was last heard of is known to this.
CONTACT_MS = 5_000
# Nobody's clock is ahead by so much that is right: what was written down as later than that, a clock was that
# has been set back since.
AHEAD_MS = 12_000
# Why an occurrence is closed that no edge closed.
RECONCILED = "reconciled"
RETURNED = "returned"
REPLACED = "replaced"
REVOKED = "revoked"
NOT_WATCHED = "not_watched"


def silent_uid(gateway_id: str, last_contact_ms: int) -> str:
    """The same at every replica and in every restored backup."""
    return uuid.uuid5(MINTED, f"{gateway_id}|{last_contact_ms}").hex


def uid(gateway_id: str, fault: str, since_ms: int) -> str:
    """Of every other fault that is made here; the same at every replica and in every restored backup."""
    return uuid.uuid5(MINTED, f"{gateway_id}|{fault}|{since_ms}").hex


def believable(at_ms: int | None, now_ms: int) -> int | None:
    """None for what was written down by a clock that was ahead."""
    return None if at_ms is None or at_ms > now_ms + AHEAD_MS else at_ms


def silence(
    gateway: GatewayIdentity, since_ms: int, now_ms: int, *, until_ms: int | None = None, reason: str = ""
) -> Pending:
    """The occurrence that is made here when a gateway is not heard of; ``until_ms`` closes it."""
    one = made_here(
        gateway,
        SILENT,
        since_ms=since_ms,
        now_ms=now_ms,
        severity=Severity.STOP,
        title=f"Gateway {gateway.name} is silent",
        advice="Check its power and its network. What happens to its devices is unknown until it is back.",
    )
    one = Pending(values={**one.values, "uid": silent_uid(gateway.id, since_ms)}, advice=one.advice)
    return one if until_ms is None else over(one.values, reason, until_ms)


def made_here(
    gateway: GatewayIdentity,
    fault: str,
    *,
    since_ms: int,
    now_ms: int,
    severity: Severity,
    title: str,
    advice: str,
) -> Pending:
    """An occurrence of the gateway itself that no edge tells."""
    return Pending(
        values={
            "uid": uid(gateway.id, fault, since_ms),
            "gateway_id": gateway.id,
            "site": gateway.site,
            "dedupe_key": dedupe_key(gateway.site, gateway.name, AGENT_COMPONENT, fault),
            "device": gateway.name,
            "component": AGENT_COMPONENT,
            "fault": fault,
            "rev": 1,
            "digest": "",
            "open": True,
            "unknown": False,
            "unknown_ms": None,
            "minted": True,
            "estimated": False,
            "reason": "",
            "severity": int(severity),
            "count": 1,
            "title": title,
            "first_boot": NO_BOOT,
            "first_mono_ms": 0,
            "end_boot": None,
            "end_mono_ms": None,
            "start_ms": since_ms,
            "raised_ms": since_ms,
            "end_ms": None,
            "error_ms": CONTACT_MS,
            "severities": [[since_ms, int(severity)]],
            "received_ms": now_ms,
            "because": None,
            "waits": False,
            "row": {"advice": advice},
        },
        advice=advice,
    )


def over(values: Mapping[str, Any], reason: str, until_ms: int) -> Pending:
    """What was made here has ended."""
    ended = {"rev": 2, "open": False, "reason": reason, "end_ms": max(values["start_ms"], until_ms)}
    return Pending(values={**values, **ended}, advice=str(values["row"].get("advice", "")))


def ended_here(values: Mapping[str, Any], reason: str, now_ms: int, *, since_ms: int) -> Pending:
    """An occurrence that no edge has closed: it ended after ``since_ms``, at the latest now."""
    ended = {
        "open": False,
        "unknown": False,
        "unknown_ms": None,
        "estimated": True,
        "reason": reason,
        "end_ms": max(values["start_ms"], now_ms),
        "error_ms": max(values["error_ms"], now_ms - since_ms),
    }
    return Pending(values={**values, **ended}, advice=clean(str(values["row"].get("advice", ""))))
