"""Decides what becomes of a message of evidence: each part is kept with its occurrence, or is not.

It moves no position, changes no ticket and locks nothing that rows need. A gateway reaches its own
occurrences alone: those of others look to it like those that are not there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from collector.exchange import GatewayIdentity
from collector.folding import Change
from collector.store import evidence, moment
from collector.store.evidence import Owner, Packed
from edge_agent.wire import EvidenceAnswer, EvidenceRequest, Outcome, WireError, read_part

# Above the cap so much is given up that it is not needed again at once, in steps of so many parts.
GIVE_UP_TO = 0.95
AT_ONCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    answer: EvidenceAnswer
    # Tickets that have more to show now.
    changed: tuple[Change, ...]
    # Parts of occurrences of other gateways.
    foreign: int

    @property
    def refused(self) -> int:
        return self.answer.outcomes.count(Outcome.REFUSED)


def read(message: EvidenceRequest) -> list[Packed | None]:
    """None where a part cannot be read. Takes its time: not for the thread that writes."""
    found: list[Packed | None] = []
    for raw in message.parts:
        try:
            found.append(evidence.packed(read_part(raw)))
        except WireError:
            found.append(None)
    return found


def take(
    connection: Connection, gateway: GatewayIdentity, parts: Sequence[Packed | None], now_ms: int
) -> Taken:
    uids = {part.uid for part in parts if part is not None}
    owners, names = evidence.owners(connection, uids), evidence.names_of(connection, uids)
    kept: list[Packed] = []
    outcomes: list[str] = []
    changed: dict[str, None] = {}
    for part in parts:
        outcome = _outcome(part, gateway.id, owners, names)
        if part is not None and outcome is Outcome.HELD:
            kept.append(part)
            if (part.uid, part.part) not in names:
                changed[owners[part.uid].ticket_id] = None
            names.add((part.uid, part.part))
        outcomes.append(outcome)
    evidence.save(connection, gateway.id, kept, now_ms)
    return Taken(
        answer=EvidenceAnswer(outcomes=outcomes),
        changed=tuple(Change(ticket_id=ticket_id, site=gateway.site) for ticket_id in changed),
        foreign=sum(
            part is not None and part.uid in owners and owners[part.uid].gateway_id != gateway.id
            for part in parts
        ),
    )


def thin(connection: Connection, cap_bytes: int) -> int:
    """Keep all together within the cap: whoever has most gives up its oldest. Of how many bytes; to be called
    again while there are any.
    """
    if not moment.claim_timers(connection):
        return 0
    held = evidence.bytes_by_gateway(connection)
    if sum(held.values()) <= cap_bytes:
        return 0
    most = max(held, key=lambda gateway_id: held[gateway_id])
    wanted = sum(held.values()) - round(cap_bytes * GIVE_UP_TO)
    return evidence.give_up(connection, most, wanted, at_most=AT_ONCE)


def _outcome(
    part: Packed | None, gateway_id: str, owners: Mapping[str, Owner], names: Collection[tuple[str, str]]
) -> Outcome:
    if part is None:
        return Outcome.REFUSED
    if part.uid not in owners or owners[part.uid].gateway_id != gateway_id:
        return Outcome.UNKNOWN
    others = {name for uid, name in names if uid == part.uid} - {part.part}
    return Outcome.REFUSED if len(others) >= evidence.MAX_OF_ONE else Outcome.HELD
