"""The only place that wires: routes, the guard before them, the shield around them, and what refusals
look like."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from collector.api import enroll, floor, health, live, shapes, sync
from collector.api import tickets as api_tickets
from collector.auth import TOKEN_PREFIX, Table
from collector.config import Settings
from collector.guard import ENDED_EARLY, Guard, SyncGate, database_away, wants_page
from collector.identity import StoredIdentities
from collector.live import Live
from collector.metrics import Metrics, collector_version
from collector.pages import downtime, login, static
from collector.pages import floor as floor_pages
from collector.pages import tickets as ticket_pages
from collector.pages.refuse import refuse
from collector.pages.render import Renderer
from collector.parts import Parts
from collector.passwords import Passwords
from collector.problems import TOO_LARGE, Problem
from collector.shield import Shield
from collector.store import DATABASE_AWAY, Store
from collector.tries import StoredTries
from edge_agent import wire

log = structlog.get_logger()

OPENAPI_PATH = "/api/v1/openapi.json"
# At once; half of the readers of SQLite stay free.
MAX_REPORTS = 2
ROUTERS = (
    health.router,
    sync.router,
    enroll.router,
    api_tickets.router,
    floor.router,
    live.router,
    static.router,
    login.router,
    ticket_pages.router,
    downtime.router,
    floor_pages.router,
)


class UnruledRouteError(Exception):
    """A route without a line in the table of auth.py: the collector does not start with it."""


def assemble_parts(
    settings: Settings,
    store: Store,
    *,
    now_ms: Callable[[], int],
    monotonic_s: Callable[[], float],
    put_forward_ms: Callable[[], tuple[int, ...]] = tuple,
) -> Parts:
    metrics = Metrics()
    return Parts(
        settings=settings,
        store=store,
        identities=StoredIdentities(store, idle_ms=settings.session_idle_minutes * 60_000, now_ms=now_ms),
        live=Live(limit=settings.max_live),
        passwords=Passwords(
            tries=settings.login_tries,
            window_s=settings.login_window_s,
            monotonic_s=monotonic_s,
            others=StoredTries(store, window_s=settings.login_window_s, now_ms=now_ms)
            if store.shared
            else None,
        ),
        metrics=metrics,
        syncs=SyncGate(
            settings.max_syncs,
            rows_per_s=settings.gateway_rows_per_s,
            now_s=monotonic_s,
            shed=lambda reason: metrics.syncs_shed.labels(reason=reason).inc(),
        ),
        reports=asyncio.Semaphore(MAX_REPORTS),
        now_ms=now_ms,
        monotonic_s=monotonic_s,
        put_forward_ms=put_forward_ms,
    )


def assemble(parts: Parts, table: Table | None = None) -> ASGIApp:
    """The application as a server runs it. Raises UnruledRouteError."""
    table = table or Table()
    app = build(parts)
    if missing := table.missing(routes(app)):
        raise UnruledRouteError("; ".join(missing))
    # Around the framework, not within it: what its own layers cost is a part of what a sync costs.
    guard = Guard(
        sync.Straight(app),
        table=table,
        identities=parts.identities,
        syncs=parts.syncs,
        refuse=refuse,
        origin=parts.settings.public_url,
    )
    within = ServerErrorMiddleware(guard, handler=_crash)

    async def named(scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = app
        await within(scope, receive, send)

    return Shield(named, https=parts.settings.https)


def build(parts: Parts) -> FastAPI:
    """Routes alone, without guard and shield."""
    app = FastAPI(
        title="Andon collector",
        version=collector_version(),
        description=(
            "Tickets, devices and downtime for people and their programs; syncs for gateways. Moments are "
            "RFC 3339 in UTC, durations integer milliseconds, refusals RFC 9457 problem documents."
        ),
        openapi_url=OPENAPI_PATH,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses={
            "4XX": {
                "model": shapes.Refusal,
                "content": {"application/problem+json": {}},
                "description": "Refused",
            }
        },
    )
    app.state.parts = parts
    app.state.taking = sync.taking(parts)
    # Whose turn it is to be unpacked and stored: some 4 MB as objects. The others wait as bytes.
    app.state.history = asyncio.Lock()
    app.state.renderer = Renderer(zone=parts.settings.zone, now_ms=parts.now_ms)
    for router in ROUTERS:
        app.include_router(router)
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    for away in DATABASE_AWAY:
        app.add_exception_handler(away, _database)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _crash)
    _describe(app)
    return app


def routes(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Every (method, path template) that the application would answer; the guard makes a GET of a HEAD."""
    for route in iter_route_contexts(app.routes):
        for method in route.methods or {"ANY"}:
            if method != "HEAD":
                yield method, route.path or ""


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return refuse(request, error, wants_page(request))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    reason = TOO_LARGE if error.status_code == 413 else ""
    problem = Problem(error.status_code, str(error.detail), reason=reason, headers=error.headers)
    return refuse(request, problem, wants_page(request))


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = [
        {"where": ".".join(str(part) for part in one["loc"]), "expected": one["msg"]}
        for one in error.errors()
    ]
    first = f"{errors[0]['where']}: {errors[0]['expected']}"
    problem = Problem(422, first, reason="validation", more={"errors": errors})
    return refuse(request, problem, wants_page(request))


async def _database(request: Request, _error: Exception) -> Response:
    return refuse(request, database_away(), wants_page(request))


async def _gone(request: Request, _error: Exception) -> Response:
    """The network is theirs, not ours: nobody reads this, and nothing broke."""
    return refuse(request, Problem(400, ENDED_EARLY, reason="request"), wants_page(request))


async def _crash(request: Request, _error: Exception) -> Response:
    """The server logs the traceback."""
    request.app.state.parts.metrics.crashes.inc()
    problem = Problem(500, "this is a fault of the collector; its log says more", reason="crash")
    return refuse(request, problem, wants_page(request))


def _describe(app: FastAPI) -> None:
    plain = app.openapi

    def described() -> dict[str, Any]:
        found = plain()
        found.setdefault("components", {})["securitySchemes"] = {
            "token": {
                "type": "http",
                "scheme": "bearer",
                "description": f"API token, {TOKEN_PREFIX}<id>.<secret>",
            },
            "gateway": {
                "type": "http",
                "scheme": "bearer",
                "description": "Gateway credential, agw_<id>.<secret>",
            },
        }
        for name, examples in shapes.examples().items():
            found["components"]["schemas"][name]["examples"] = examples
        found["security"] = [{"token": []}]
        found["paths"][wire.SYNC_PATH]["post"]["security"] = [{"gateway": []}]
        found["paths"][wire.ENROLL_PATH]["post"]["security"] = []
        for path in ("/healthz", "/readyz", "/metrics"):
            found["paths"][path]["get"]["security"] = []
        return found

    app.openapi = described  # type: ignore[method-assign]  # the documented way to extend it
