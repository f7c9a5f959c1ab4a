"""What a route may use. The application makes one and hangs it on its state; nothing else is global."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar, cast

import structlog
from sqlalchemy import Connection
from starlette.requests import Request

from collector.config import Settings
from collector.exchange import GatewayIdentity
from collector.folding import Change
from collector.guard import Identities, Session, SyncGate
from collector.live import Live
from collector.metrics import Metrics
from collector.passwords import Passwords
from collector.store import Store, news
from collector.tickets import Actor

T = TypeVar("T")
log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    settings: Settings
    store: Store
    identities: Identities
    live: Live
    passwords: Passwords
    metrics: Metrics
    syncs: SyncGate
    reports: asyncio.Semaphore
    now_ms: Callable[[], int]
    monotonic_s: Callable[[], float]
    # By how much the clock was behind before it was put forward (clock.py).
    put_forward_ms: Callable[[], tuple[int, ...]] = tuple

    async def write(self, unit: Callable[[Connection], T], changed: Callable[[T], Iterable[Change]]) -> T:
        """Durable when it returns, and told to the open pages of every collector. ``changed`` says of the
        result which tickets are others now.
        """

        def told(connection: Connection) -> T:
            result = unit(connection)
            news.tell(connection, _named(changed(result)))
            return result

        result = await self.store.write_soon(told)
        if not self.store.shared:
            self.live.publish(_named(changed(result)))
        return result

    async def report_soon(self, query: Callable[[Connection], T]) -> T:
        """As ``store.read_soon``, for what may take seconds: few at once, so that all else finds a reader."""
        async with self.reports:
            return await self.store.read_soon(query)

    @contextlib.contextmanager
    def hearing(self) -> Iterator[None]:
        """What any collector on this database tells reaches the pages of this one."""
        loop = asyncio.get_running_loop()
        listening = self.store.listen(
            lambda payload: _on(loop, self._hear, payload), lambda: _on(loop, self.live.reload)
        )
        try:
            yield
        finally:
            if listening is not None:
                listening.close()

    def _hear(self, payload: str) -> None:
        try:
            site, tickets = news.read(payload)
        except ValueError as error:
            log.warning("somebody else uses the channel of the collectors", error=str(error))
            return
        if tickets:
            self.live.publish((ticket, site) for ticket in tickets)
        else:
            self.live.reload(site)


def _named(changed: Iterable[Change]) -> list[tuple[str, str]]:
    return [(change.ticket_id, change.site) for change in changed]


def _on(loop: asyncio.AbstractEventLoop, act: Callable[..., None], *given: str) -> None:
    # RuntimeError: the loop has ended, and with it the pages.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(act, *given)


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
