"""What there is and how long it stood: devices, gateways, downtime; and who is asking."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from collector import act, report
from collector.api.shapes import (
    NUL_FREE,
    PROBLEM,
    Absent,
    Device,
    Devices,
    Downtime,
    Gateway,
    Gateways,
    Me,
    Serviced,
)
from collector.auth import scope_of
from collector.moments import parse
from collector.out_of_service import MAX_REASON, BringBack, Order, TakeOut
from collector.parts import actor_of, parts_of
from collector.problems import Problem, not_found
from collector.report import By
from collector.store import devices as device_store
from collector.store import gateways as gateway_store
from edge_agent.wire import ID_PATTERN

router = APIRouter(prefix="/api/v1", tags=["floor"])

MAX_WINDOW_MS = 366 * 86_400_000
Site = Annotated[str | Absent, Query(max_length=64, json_schema_extra=NUL_FREE)]
Moment = Annotated[
    str, Query(max_length=40, description="RFC 3339 with an offset.", examples=["2026-11-22T06:00:00+01:00"])
]


@router.get("/me", summary="Who this credential stands for", response_model=Me)
async def me(request: Request) -> Me:
    return Me.of(actor_of(request))


@router.get(
    "/devices",
    summary="All devices that are watched or out of service, and how they are",
    response_model=Devices,
)
async def devices(request: Request, site: Site = None) -> Devices:
    sites = scope_of(actor_of(request))
    found = await parts_of(request).store.read_soon(
        lambda connection: device_store.devices(connection, sites, site or None)
    )
    return Devices(items=[Device.of(view) for view in found])


SiteName = Annotated[str, Path(pattern=ID_PATTERN, examples=["leipzig"])]
DeviceId = Annotated[str, Path(pattern=ID_PATTERN, examples=["printer-07"])]
SERVICE_RESPONSES: dict[int | str, dict[str, object]] = {403: PROBLEM, 404: PROBLEM, 422: PROBLEM}


class TakeOutBody(BaseModel):
    """``until`` (RFC 3339 with an offset) brings it back by itself."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"reason": "New print head"}]})

    reason: Annotated[str, Field(min_length=1, max_length=MAX_REASON)]
    until: str | None = None


@router.post(
    "/devices/{site}/{device}/out-of-service",
    summary="Take a device out of service: recorded, and nobody is called; again: another reason or end",
    response_model=Serviced,
    responses=SERVICE_RESPONSES,
)
async def take_out(request: Request, site: SiteName, device: DeviceId, body: TakeOutBody) -> Serviced:
    until_ms = _moment("until", body.until) if body.until else None
    return await _serve(request, site, device, TakeOut(reason=body.reason, until_ms=until_ms))


@router.post(
    "/devices/{site}/{device}/in-service",
    summary="Bring a device back: what is still broken calls again",
    response_model=Serviced,
    responses=SERVICE_RESPONSES,
)
async def bring_back(request: Request, site: SiteName, device: DeviceId) -> Serviced:
    return await _serve(request, site, device, BringBack())


async def _serve(request: Request, site: str, device: str, order: Order) -> Serviced:
    outcome = await act.serve(parts_of(request), actor_of(request), site, device, order)
    problem = act.refusal_of_service(outcome)
    if problem is not None:
        raise problem
    return Serviced.of(outcome)


@router.get("/gateways", summary="All gateways, and which are silent", response_model=Gateways)
async def gateways(request: Request, site: Site = None) -> Gateways:
    sites = scope_of(actor_of(request))
    found = await parts_of(request).store.read_soon(
        lambda connection: gateway_store.gateways(connection, sites, site or None)
    )
    return Gateways(items=[Gateway.of(view) for view in found])


@router.get(
    "/downtime",
    summary="Time in which devices had an active stop, and time of which nobody knows",
    response_model=Downtime,
    responses={404: PROBLEM, 422: PROBLEM},
)
async def downtime(
    request: Request,
    site: Annotated[str, Query(max_length=64, examples=["leipzig"], json_schema_extra=NUL_FREE)],
    from_: Annotated[Moment, Query(alias="from")],
    to: Moment,
    by: By = By.DEVICE,
) -> Response:
    if not actor_of(request).may_see(site):
        raise not_found("there is no such site, or it is not yours")
    from_ms, to_ms = _moment("from", from_), _moment("to", to)
    parts = parts_of(request)
    now_ms = parts.now_ms()
    if to_ms - from_ms > MAX_WINDOW_MS:
        raise Problem(422, "to: a window has at most 366 days", reason="validation")
    try:
        found = await parts.report_soon(
            lambda connection: report.downtime(connection, site, from_ms, to_ms, by, now_ms)
        )
    except ValueError as error:
        raise Problem(422, f"from, to: {error}", reason="validation") from error
    # Many thousand stops: others are served meanwhile.
    text = await asyncio.to_thread(lambda: Downtime.of(found).model_dump_json(by_alias=True))
    return Response(text, media_type="application/json")


def _moment(name: str, text: str) -> int:
    try:
        return parse(text)
    except ValueError as error:
        raise Problem(422, f"{name}: {error}", reason="validation") from error
