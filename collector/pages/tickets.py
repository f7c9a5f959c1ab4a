"""Tickets on pages: the handheld list, the desk table, one ticket on either, and the forms that command
it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from markupsafe import escape
from sqlalchemy import Connection
from starlette.responses import HTMLResponse, RedirectResponse, Response

from collector import act
from collector.auth import COMMANDS, scope_of
from collector.pages import around, evidence
from collector.pages.cards import ENDED_SHOWN, card, cards, counts, explained, grouped, shapes
from collector.pages.login import safe_path
from collector.pages.render import Said, page, parts_and_actor, with_said
from collector.parts import form_of
from collector.problems import Problem, not_found
from collector.store import devices as device_store
from collector.store import figures
from collector.store import gateways as gateway_store
from collector.store import tickets as ticket_store
from collector.store.tickets import Page, State, TicketDetail, TicketFilter, TicketView
from collector.tickets import Acknowledge, Assign, Command, Condition, Note, Reopen, Resolve, Start

router = APIRouter(include_in_schema=False)

HANDHELD_LIMIT = 200
DESK_LIMIT = 50
# Of how many returns of the fault a page shows the readings; a page of all 500 would be megabytes.
EVIDENCE_SHOWN = 5
# How often a page without scripts looks again.
LOOK_AGAIN_S = 15
NO_TICKET = "There is no such ticket, or it is at a site that is not yours."
STATES = {
    State.OPEN: "Open",
    State.UNACKNOWLEDGED: "Unacknowledged",
    State.ACTIVE: "Active",
    State.UNKNOWN: "Unknown",
    State.RESOLVED: "Resolved",
    State.CLOSED: "Closed",
}
# In the place of a state: open, and something else explains it, or its device is out of service.
HIDDEN = "hidden"
FILTERS = ("q", "state", "severity", "site", "place", "device")


@router.get("/m")
async def handheld(request: Request) -> HTMLResponse:
    parts, actor = parts_and_actor(request)
    site = request.query_params.get("site") or None
    scope = scope_of(actor)

    def read(
        connection: Connection,
    ) -> tuple[list[TicketView], bool, dict[tuple[Condition, str], int], bool]:
        found, more = ticket_store.at_hand(connection, scope, site, limit=HANDHELD_LIMIT, ended=ENDED_SHOWN)
        wanted = TicketFilter(sites=scope, state=State.OPEN, site=site, hidden=False)
        numbers = ticket_store.count(connection, wanted)
        return found, more, numbers, bool(found) or gateway_store.is_heard(connection, scope, site)

    found, more, numbers, heard = await parts.store.read_soon(read)
    sites = await parts.store.read_soon(lambda connection: figures.sites(connection, scope))
    return page(
        request,
        "hand_list.html",
        groups=grouped(found),
        counts=counts(shapes(numbers)),
        more=more,
        limit=HANDHELD_LIMIT,
        commands=COMMANDS,
        sites=sites,
        site=site,
        heard=heard,
        deaf=deaf(scope, site),
        look_again_s=LOOK_AGAIN_S,
    )


def deaf(scope: frozenset[str] | None, site: str | None) -> str:
    """Why an empty list says nothing. Names what was asked for: it may be a name that no site has."""
    asked = [site] if site else sorted(scope or ())
    at = f" at {', '.join(asked)}" if asked else ""
    return f"No gateway reports{at}: what is broken does not appear here."


@router.get("/")
async def desk(request: Request) -> HTMLResponse:
    parts, actor = parts_and_actor(request)
    asked = {name: request.query_params.get(name, "").strip()[:200] for name in FILTERS}
    asked["state"] = asked["state"] if "state" in request.query_params else State.OPEN.value
    hidden = asked["state"] == HIDDEN
    state = State.OPEN if hidden else State(asked["state"]) if asked["state"] in set(State) else None
    wanted = TicketFilter(
        sites=scope_of(actor),
        state=state,
        hidden=None if state in (None, State.CLOSED) else hidden,
        site=asked["site"] or None,
        place=asked["place"] or None,
        device=asked["device"] or None,
        severity=asked["severity"] if asked["severity"] in ("stop", "degraded", "notice") else None,
        text=asked["q"] or None,
    )
    after = request.query_params.get("after") or None

    # Of all pages of the list, what is there now; what is hidden or closed is not.
    tells_now = after is None and not hidden and state is not State.CLOSED
    now = replace(wanted, state=state or State.OPEN, hidden=False)

    def read(connection: Connection) -> tuple[Page, dict[tuple[Condition, str], int], bool]:
        found = ticket_store.find(connection, wanted, after, DESK_LIMIT)
        numbers = ticket_store.count(connection, now) if tells_now else {}
        return found, numbers, bool(found.items) or gateway_store.is_heard(connection, wanted.sites)

    try:
        found, numbers, heard = await parts.store.read_soon(read)
    except ValueError as error:
        raise Problem(422, "This page of the list is not there any more.", reason="cursor") from error
    sites = await parts.store.read_soon(lambda connection: figures.sites(connection, scope_of(actor)))
    return page(
        request,
        "desk_list.html",
        here="/",
        cards=cards(found.items),
        counts=counts(shapes(numbers)),
        asked=asked,
        filtered=any(value for name, value in asked.items() if name != "state"),
        states={state.value: words for state, words in STATES.items()} | {HIDDEN: "Hidden"},
        sites=sites,
        heard=heard,
        deaf=deaf(wanted.sites, None),
        after=after,
        commands=COMMANDS,
        first=f"/?{urlencode(asked)}",
        next=f"/?{urlencode(asked | {'after': found.next})}" if found.next else None,
        look_again_s=LOOK_AGAIN_S if after is None else 0,
    )


@router.get("/t/{ticket}")
async def at_desk(request: Request, ticket: str) -> HTMLResponse:
    return await _one(request, ticket, "desk_ticket.html", "/t")


@router.get("/m/t/{ticket}")
async def in_hand(request: Request, ticket: str) -> HTMLResponse:
    return await _one(request, ticket, "hand_ticket.html", "/m/t")


async def _one(
    request: Request,
    ticket: str,
    template: str,
    prefix: str,
    *,
    said: Said | None = None,
    status: int = 200,
    typed: Mapping[str, str] | None = None,
) -> HTMLResponse:
    """``typed``, by command: the text of one that was refused."""
    found, device_has_page = await _load(request, ticket)
    shown = [
        (
            one,
            evidence.shown(one.evidence),
            around.recording(one.recorded, on_delay_ms=one.raised_ms - one.start_ms),
        )
        for one in found.occurrences[:EVIDENCE_SHOWN]
    ]
    return page(
        request,
        template,
        here="/" if prefix == "/t" else "",
        status=status,
        said=said,
        detail=found,
        card=card(found.ticket),
        explained=explained(found.explains),
        occurrences=shown,
        older=len(found.occurrences) - len(shown),
        prefix=prefix,
        address=f"{prefix}/{ticket}",
        device_has_page=device_has_page,
        typed=typed or {},
        commands=COMMANDS,
    )


async def _load(request: Request, ticket: str) -> tuple[TicketDetail, bool]:
    """And whether its device has a page."""
    parts, actor = parts_and_actor(request)

    def read(connection: Connection) -> tuple[TicketDetail | None, bool]:
        found = ticket_store.detail(connection, ticket)
        if found is None:
            return None, False
        return found, device_store.is_shown(connection, found.ticket.site, found.ticket.device)

    found, device_has_page = await parts.store.read_soon(read)
    if found is None or not actor.may_see(found.ticket.site):
        raise not_found(NO_TICKET)
    return found, device_has_page


def _read(kind: type[Command], form: dict[str, str]) -> Command:
    """The command that a form asks for. Raises Problem."""
    text = form.get("text", "").strip()[:4000]
    if kind is Note:
        if not text:
            raise Problem(422, "A note needs some words.", reason="validation")
        return Note(text=text)
    if kind is Resolve:
        return Resolve(note=text, override=form.get("override") == "1")
    if kind is Assign:
        if not text:
            raise Problem(422, "Say to whom.", reason="validation")
        return Assign(assignee=text[:64].lower())
    if kind is Reopen:
        return Reopen(note=text)
    return Start() if kind is Start else Acknowledge()


def _command_route(prefix: str, template: str, name: str) -> Callable[..., object]:
    async def command(request: Request, ticket: str) -> Response:
        parts, actor = parts_and_actor(request)
        form = form_of(request)
        # As it was, not as texts of devices are shown: it is sent again.
        typed = {name: escape(form.get("text", ""))}
        try:
            given = _read(COMMANDS[name], form)
        except Problem as wrong:
            said = Said(text=wrong.detail, tone="bad")
            return await _one(request, ticket, template, prefix, said=said, status=wrong.status, typed=typed)
        version = form.get("version", "")
        outcome = await act.carry_out(
            parts,
            actor,
            ticket,
            given,
            idempotency_key=form.get("key", "")[:128] or None,
            if_match=int(version) if version.isdecimal() and len(version) <= 15 else None,
        )
        problem = act.refusal(outcome, current=None)
        if problem is not None and outcome.ticket is None:
            raise not_found(NO_TICKET)
        if problem is not None:
            said = Said(text=f"{problem.detail} This is how it is now.", tone="bad")
            return await _one(
                request, ticket, template, prefix, said=said, status=problem.status, typed=typed
            )
        back = form.get("back", "")
        return RedirectResponse(
            with_said(safe_path(back) if back else f"{prefix}/{ticket}", outcome.reason), 303
        )

    return command


for _prefix, _template in (("/t", "desk_ticket.html"), ("/m/t", "hand_ticket.html")):
    for _name in COMMANDS:
        router.add_api_route(
            f"{_prefix}/{{ticket}}/{_name}", _command_route(_prefix, _template, _name), methods=["POST"]
        )
