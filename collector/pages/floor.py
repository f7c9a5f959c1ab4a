"""Devices and gateways on pages: who is silent, and what is unknown because of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request
from markupsafe import escape
from sqlalchemy import Connection
from starlette.responses import HTMLResponse, RedirectResponse, Response

from collector import act
from collector.auth import MAY_TAKE_OUT, scope_of
from collector.out_of_service import BringBack, Order, TakeOut
from collector.pages.cards import cards
from collector.pages.render import Said, page, parts_and_actor, with_said
from collector.pages.texts import counted, severity
from collector.parts import form_of, parts_of
from collector.problems import not_found
from collector.store import devices as device_store
from collector.store import gateways as gateway_store
from collector.store import out_of_service as out_store
from collector.store import tickets as ticket_store
from collector.store.devices import DeviceView
from collector.store.gateways import GatewayView
from collector.store.tickets import State, TicketFilter, TicketView

router = APIRouter(include_in_schema=False)

DEVICE_WORDS = {"ok": "No fault", "unknown": "Unknown"}
# Those that need somebody first.
DEVICE_ORDER = ("stop", "degraded", "unknown", "notice", "out", "ok")
GATEWAY_SHAPES = {
    "ok": ("cleared", "Speaking"),
    "silent": ("unknown", "Silent"),
    "never": ("notice", "Not heard yet"),
}
REVOKED = ("unknown", "Revoked")
# A bus that keeps less of its reads is behind (edge_agent/schedule.py); so many of them are named.
KEPT_SHARE, BUSES_SHOWN = 0.9, 3
NO_DEVICE = "There is no such device, or it is at a site that is not yours."
HOUR_MS = 3_600_000
# For how long a page offers to take a device out; for good is another choice.
HOURS = (1, 2, 4, 8, 24, 72)
# Of a moment in ms, until the year 33658.
MAX_DIGITS = 15
TICKETS_SHOWN = 20
OUT_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceLine:
    view: DeviceView
    shape: str
    word: str

    @property
    def state(self) -> str:
        """As in DEVICE_ORDER."""
        return "ok" if self.shape == "cleared" else self.shape

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
    asked = request.query_params.get("state", "")
    state = asked if asked in DEVICE_ORDER else ""
    shown = [line for line in lines if state in ("", line.state)]
    return page(
        request,
        "devices.html",
        here="/devices",
        devices=sorted(shown, key=_ends) if state == "out" else shown,
        counts=device_counts(lines),
        state=state,
    )


def device_counts(lines: Sequence[DeviceLine]) -> list[tuple[str, str, str, int]]:
    """(state, shape, word, number), without those that there are none of."""
    first = {line.state: line for line in reversed(lines)}
    numbers = Counter(line.state for line in lines)
    return [
        (state, first[state].shape, first[state].word.lower(), numbers[state])
        for state in DEVICE_ORDER
        if state in first
    ]


def _ends(line: DeviceLine) -> float:
    """When it is back by itself: the next one first, the ones that somebody has to bring back last."""
    out = line.view.out
    return out.until_ms if out and out.until_ms else math.inf


@router.get("/devices/{site}/{device}")
async def device(request: Request, site: str, device: str) -> HTMLResponse:
    return await _one(request, site, device)


@router.post("/devices/{site}/{device}/out-of-service")
async def take_out(request: Request, site: str, device: str) -> Response:
    form = form_of(request)
    until_ms = until(form.get("hours", ""), parts_of(request).now_ms())
    order = TakeOut(reason=form.get("text", ""), until_ms=until_ms, seen=form.get("seen"))
    return await _serve(request, site, device, order)


def until(asked: str, now_ms: int) -> int | None:
    """Hours from now, or the moment that was said before; anything else is until somebody says so."""
    if not (asked.isascii() and asked.isdecimal() and len(asked) <= MAX_DIGITS):
        return None
    number = int(asked)
    return now_ms + number * HOUR_MS if number in HOURS else number


@router.post("/devices/{site}/{device}/in-service")
async def bring_back(request: Request, site: str, device: str) -> Response:
    return await _serve(request, site, device, BringBack(seen=form_of(request).get("seen")))


async def _serve(request: Request, site: str, device: str, order: Order) -> Response:
    parts, actor = parts_and_actor(request)
    outcome = await act.serve(parts, actor, site, device, order)
    problem = act.refusal_of_service(outcome)
    if problem is None:
        shown = await parts.store.read_soon(
            lambda connection: device_store.is_shown(connection, site, device)
        )
        path = f"/devices/{quote(site)}/{quote(device)}" if shown else "/devices"
        return RedirectResponse(with_said(path, outcome.reason), 303)
    if problem.status in (403, 404):
        raise problem
    said = Said(text=problem.detail, tone="bad")
    typed = form_of(request) if isinstance(order, TakeOut) else None
    return await _one(request, site, device, said=said, status=problem.status, typed=typed)


async def _one(
    request: Request,
    site: str,
    device: str,
    *,
    said: Said | None = None,
    status: int = 200,
    typed: Mapping[str, str] | None = None,
) -> HTMLResponse:
    """``typed``: the form of an order that was refused."""
    parts, actor = parts_and_actor(request)

    def read(
        connection: Connection,
    ) -> tuple[DeviceView | None, list[TicketView], list[Mapping[str, Any]]]:
        wanted = TicketFilter(sites=scope_of(actor), site=site, device=device)
        return (
            device_store.one(connection, site, device),
            ticket_store.find(connection, wanted, None, TICKETS_SHOWN).items,
            out_store.all_of(connection, site, device, OUT_SHOWN),
        )

    if not actor.may_see(site) or "\0" in site + device:
        raise not_found(NO_DEVICE)
    view, tickets, out = await parts.store.read_soon(read)
    if view is None:
        raise not_found(NO_DEVICE)
    reason = typed.get("text", "") if typed else view.out.reason if view.out else ""
    return page(
        request,
        "device.html",
        here="/devices",
        address=f"/devices/{quote(site)}/{quote(device)}",
        status=status,
        said=said,
        device=device_line(view),
        cards=cards(tickets),
        earlier=[one for one in out if one["ended_ms"] is not None],
        # As it was, not as texts of devices are shown: it is sent again.
        reason=escape(reason),
        chosen=typed.get("hours") if typed else None,
        hours=HOURS,
        may_take_out=actor.role in MAY_TAKE_OUT,
    )


@router.get("/gateways")
async def gateways(request: Request) -> HTMLResponse:
    parts, actor = parts_and_actor(request)
    found = await parts.store.read_soon(
        lambda connection: gateway_store.gateways(connection, scope_of(actor))
    )
    return page(request, "gateways.html", here="/gateways", gateways=[gateway_line(view) for view in found])


def device_line(view: DeviceView) -> DeviceLine:
    if view.out is not None:
        return DeviceLine(view=view, shape="out", word="Out of service")
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
    given_up = health.get("evidence_given_up")
    remarks = [
        "two boxes speak as this one" if view.cloned else "",
        "its clock is wrong" if view.clock_wrong else "",
        f"{counted(unreachable, 'device')} not reached"
        if isinstance(unreachable, int) and unreachable
        else "",
        f"{counted(view.quarantined, 'row')} could not be read" if view.quarantined else "",
        _gaps(view),
        f"{counted(given_up, 'part')} of evidence given up" if isinstance(given_up, int) and given_up else "",
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
