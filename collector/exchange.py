"""One message of one gateway on its way through: who speaks, what it said, what is to be stored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from sqlalchemy import Connection

from collector.folding import Pending
from collector.store.streams import GatewayState, StreamState
from edge_agent.wire import Boundary, Lane, SyncRequest, Verdict


class RefusedError(Exception):
    """Nothing of the message was taken."""


class CredentialRefusedError(RefusedError):
    """It is not the gateway's any more, or is revoked."""

    def __init__(self, gateway: GatewayIdentity) -> None:
        super().__init__(f"the credential of gateway {gateway.name} is void")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayIdentity:
    """Who speaks, from the credential, never from the message."""

    id: str
    site: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sync:
    """A message as it came."""

    gateway: GatewayIdentity
    message: SyncRequest
    now_ms: int
    # By which it was let in; looked at once more in the transaction. None: nobody had to be.
    credential_id: str | None = None
    # Places in its rows of those that the collector stumbles over.
    spoilt: frozenset[int] = frozenset()
    # By how much the clock here was behind before it was put forward, lately.
    behind_ms: tuple[int, ...] = ()


@dataclass(slots=True, kw_only=True)
class Exchange:
    """Filled on the way, stored at its end."""

    connection: Connection
    gateway: GatewayIdentity
    state: GatewayState
    message: SyncRequest
    now_ms: int
    # What was held of its stream; None when nothing was.
    held: StreamState | None
    verdict: Verdict
    # The position that is held, in the end that of the answer.
    hwm: Boundary
    # As in the sync.
    spoilt: frozenset[int] = frozenset()
    behind_ms: tuple[int, ...] = ()
    # The newest position of which the stream has told something ahead of its history (C10).
    told_ahead: int = 0
    # What is to be stored, by uid; rows that could not be taken, each with why.
    pending: dict[str, Pending] = field(default_factory=dict)
    bad: list[tuple[object, str]] = field(default_factory=list)
    # What is to be told again: a row that nobody could read may have been about it.
    in_question: frozenset[str] = frozenset()
    # Tickets whose place is another one now.
    moved: list[str] = field(default_factory=list)

    @property
    def doubted(self) -> bool:
        return self.held is not None and self.held.doubted

    @property
    def begins(self) -> bool:
        """Whether its stream is believed from now on."""
        return self.verdict is Verdict.OK and (self.held is None or self.held.doubted)

    def at_head(self) -> bool:
        """Whether its head tells the present and all before it is held. One that is older than what was told
        ahead was late on its way.
        """
        head = self.message.head
        in_order = self.message.lane is Lane.FEED and head is not None and head.seq == self.hwm[0]
        return in_order and self.hwm[0] >= self.told_ahead


def uids_in(rows: Iterable[object]) -> Iterator[str]:
    """Each uid in them as they were sent, of those that can be read and of others; of a roll-up its members'
    too.
    """
    for raw in rows:
        for one in (raw, *_members(raw)):
            if isinstance(one, dict) and isinstance(uid := one.get("uid"), str):
                yield uid


def stands_for(rows: Iterable[object]) -> int:
    """How many occurrences: a roll-up is what its members were; none is less than a row."""
    return sum(len(_members(raw)) or 1 for raw in rows)


def _members(raw: object) -> list[object]:
    members = raw.get("members") if isinstance(raw, dict) else None
    return members if isinstance(members, list) else []
