"""One message of one gateway on its way through: who speaks, what it said, what is to be stored."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import Connection

from collector.folding import Pending
from collector.store.streams import GatewayState
from edge_agent.wire import Boundary, Lane, SyncRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayIdentity:
    """Who speaks, from the credential, never from the message."""

    id: str
    site: str
    name: str


@dataclass(slots=True, kw_only=True)
class Exchange:
    """Filled on the way, stored at its end."""

    connection: Connection
    gateway: GatewayIdentity
    state: GatewayState
    message: SyncRequest
    now_ms: int
    # The newest position of which the stream has told something ahead of its history (C10).
    told_ahead: int = 0
    # What is to be stored, by uid; rows that could not be taken, each with why.
    pending: dict[str, Pending] = field(default_factory=dict)
    bad: list[tuple[object, str]] = field(default_factory=list)
    # Tickets whose place is another one now.
    moved: list[str] = field(default_factory=list)

    def at_head(self, hwm: Boundary) -> bool:
        """Whether its head tells the present and all before it is held. One that is older than what was told
        ahead was late on its way.
        """
        head = self.message.head
        in_order = self.message.lane is Lane.FEED and head is not None and head.seq == hwm[0]
        return in_order and hwm[0] >= self.told_ahead
