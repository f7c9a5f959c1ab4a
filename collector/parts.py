"""What a route may use. The application makes one and hangs it on its state; nothing else is global."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import cast

from starlette.requests import Request

from collector.config import Settings
from collector.exchange import GatewayIdentity
from collector.folding import Change
from collector.guard import Identities, Session, SyncGate
from collector.live import Live
from collector.metrics import Metrics
from collector.passwords import Passwords
from collector.store import Store
from collector.tickets import Actor


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    settings: Settings
    store: Store
    identities: Identities
    live: Live
    passwords: Passwords
    metrics: Metrics
    syncs: SyncGate
    now_ms: Callable[[], int]
    monotonic_s: Callable[[], float]

    def publish(self, changed: Iterable[Change]) -> None:
        """To the open pages of this process."""
        self.live.publish((change.ticket_id, change.site) for change in changed)


def parts_of(request: Request) -> Parts:
    return cast(Parts, request.app.state.parts)


def actor_of(request: Request) -> Actor:
    """Only behind a rule that names roles."""
    return cast(Actor, request.state.actor)


def session_of(request: Request) -> Session:
    """Only behind a rule for pages."""
    return cast(Session, request.state.session)


def gateway_of(request: Request) -> GatewayIdentity:
    """Only behind a rule for gateways."""
    return cast(GatewayIdentity, request.state.gateway)


def form_of(request: Request) -> dict[str, str]:
    """The fields of a posted form; empty when none was."""
    return cast(dict[str, str], getattr(request.state, "form", {}))
