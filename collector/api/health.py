"""``/healthz``, ``/readyz`` and ``/metrics``: for whoever starts, balances or watches the collector."""

from __future__ import annotations

import structlog
from fastapi import APIRouter, Request
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import PlainTextResponse, Response

from collector import metrics
from collector.parts import parts_of
from collector.problems import Problem
from collector.store import figures

router = APIRouter(tags=["health"])
log = structlog.get_logger()


@router.get("/healthz", summary="The process answers", response_class=PlainTextResponse)
async def healthz() -> str:
    return "ok\n"


@router.get(
    "/readyz",
    summary="The database answers, so syncs and people can be served",
    response_class=PlainTextResponse,
)
async def readyz(request: Request) -> str:
    parts = parts_of(request)
    if parts.live.closed:
        raise Problem(503, "stopping", reason="stopping")
    try:
        await parts.store.read_soon(figures.answers)
    except SQLAlchemyError as error:
        log.warning("the database does not answer", error=str(error))
        raise Problem(503, "the database does not answer", reason="database") from error
    return "ready\n"


@router.get("/metrics", summary="Prometheus metrics; totals only", response_class=PlainTextResponse)
async def read_metrics(request: Request) -> Response:
    parts = parts_of(request)
    found = await parts.store.read_soon(figures.figures)
    parts.metrics.count_tickets(found.open_tickets)
    parts.metrics.gateways.set(found.gateways)
    parts.metrics.gateways_silent.set(found.gateways_silent)
    parts.metrics.buses_behind.set(found.buses_behind)
    parts.metrics.cycle_over_plan.set(found.cycle_over_plan)
    parts.metrics.syncs_in_flight.set(parts.syncs.inside)
    parts.metrics.syncs_waiting.set(parts.syncs.waiting)
    parts.metrics.live_pages.set(len(parts.live))
    return Response(parts.metrics.text(), media_type=metrics.CONTENT_TYPE)
