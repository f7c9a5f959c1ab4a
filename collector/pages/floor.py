"""Devices and gateways on pages: who is silent, and what is unknown because of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from collector.auth import scope_of
from collector.pages.render import page, parts_and_actor
from collector.pages.texts import counted, severity
from collector.store import devices as device_store
from collector.store import gateways as gateway_store
from collector.store.devices import DeviceView
from collector.store.gateways import GatewayView
from collector.store.tickets import State

router = APIRouter(include_in_schema=False)

DEVICE_WORDS = {"ok": "No fault", "unknown": "Unknown"}
# Those that need somebody first.
DEVICE_ORDER = ("stop", "degraded", "unknown", "notice", "ok")
GATEWAY_SHAPES = {
    "ok": ("cleared", "Speaking"),
    "silent": ("unknown", "Silent"),
    "never": ("notice", "Not heard yet"),
}
REVOKED = ("unknown", "Revoked")
# A bus that keeps less of its reads is behind (edge_agent/schedule.py); so many of them are named.
KEPT_SHARE, BUSES_SHOWN = 0.9, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceLine:
    view: DeviceView
    shape: str
    word: str

    @property
    def tickets(self) -> list[tuple[State, int, str]]:
        """(state, number, words): what is resolved is no fault any more, but its ticket is still open."""
        resolved = self.view.resolved_tickets
        counted = (
            (State.OPEN, self.view.open_tickets - resolved, "open"),
            (State.RESOLVED, resolved, "ended"),
        )
        return [one for one in counted if one[1]]


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayLine:
    view: GatewayView
    shape: str
    word: str
    waiting: str
    version: str
    remarks: tuple[str, ...]


@router.get("/devices")
async def devices(request: Request) -> HTMLResponse:
    parts, actor = parts_and_actor(request)
    found = await parts.store.read_soon(lambda connection: device_store.devices(connection, scope_of(actor)))
    lines = [device_line(view) for view in found]
    shapes = [line.shape for line in lines]
    words = {line.shape: line.word for line in lines}
    order = ["cleared" if state == "ok" else state for state in DEVICE_ORDER]
    return page(
        request,
        "devices.html",
        here="/devices",
        devices=lines,
        counts=[(shape, words[shape].lower(), shapes.count(shape)) for shape in order if shape in words],
    )


@router.get("/gateways")
async def gateways(request: Request) -> HTMLResponse:
    parts, actor = parts_and_actor(request)
    found = await parts.store.read_soon(
        lambda connection: gateway_store.gateways(connection, scope_of(actor))
    )
    return page(request, "gateways.html", here="/gateways", gateways=[gateway_line(view) for view in found])


def device_line(view: DeviceView) -> DeviceLine:
    shape = "cleared" if view.state == "ok" else view.state
    return DeviceLine(view=view, shape=shape, word=DEVICE_WORDS.get(view.state, severity(view.state)))


def _gaps(view: GatewayView) -> str:
    if not view.gaps:
        return ""
    said = f"{counted(view.gaps, 'gap')} in what it sent"
    return f"{said}, {counted(view.lost, 'fault')} lost" if view.lost else said


def _behind(buses: object) -> Iterator[str]:
    """Of the worst buses that carry less than is asked of them; the gateway tells the worst first."""
    for bus in buses[:BUSES_SHOWN] if isinstance(buses, list) else ():
        if bus["kept"] < KEPT_SHARE * bus["due"]:
            yield f"bus {bus['name']} keeps {100 * bus['kept'] // bus['due']} % of its reads"


def gateway_line(view: GatewayView) -> GatewayLine:
    shape, word = GATEWAY_SHAPES.get(view.state, REVOKED)
    health = view.health or {}
    unreachable = health.get("devices_unreachable")
    remarks = [
        "two boxes speak as this one" if view.cloned else "",
        "its clock is wrong" if view.clock_wrong else "",
        f"{counted(unreachable, 'device')} not reached"
        if isinstance(unreachable, int) and unreachable
        else "",
        f"{counted(view.quarantined, 'row')} could not be read" if view.quarantined else "",
        _gaps(view),
        *_behind(health.get("buses")),
    ]
    return GatewayLine(
        view=view,
        shape=shape,
        word=word,
        waiting=str(health.get("rows_waiting", "")),
        version=str(health.get("agent_version", "")),
        remarks=tuple(remark for remark in remarks if remark),
    )
