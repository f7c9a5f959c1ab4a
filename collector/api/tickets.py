"""``/api/v1/tickets``: read them, and command them with an idempotency key and the version that was seen."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from starlette.responses import JSONResponse, Response

from collector import act
from collector.api.shapes import (
    NUL_FREE,
    PROBLEM,
    Absent,
    Commanded,
    FullTicket,
    Severity,
    Ticket,
    Tickets,
)
from collector.auth import PERSON_NAME, scope_of
from collector.moments import parse
from collector.parts import actor_of, parts_of
from collector.problems import Problem, not_found
from collector.store import tickets as ticket_store
from collector.store.tickets import CURSOR_PATTERN, State, TicketFilter
from collector.tickets import Acknowledge, Assign, Command, Note, Reopen, Resolve, Start

router = APIRouter(prefix="/api/v1/tickets", tags=["tickets"])

NO_TICKET = "there is no such ticket, or it is at a site that is not yours"
VERSION = re.compile(r'^"([0-9]{1,15})"$')

TicketId = Annotated[str, Path(pattern="^[0-9a-f]{32}$", examples=["5f0c1b6a9d2e4f7781c3a5b7d9e1f204"])]
Key = Annotated[
    str | Absent,
    Header(
        alias="Idempotency-Key",
        min_length=8,
        max_length=128,
        description="The same key again has no further effect.",
    ),
]
IfMatch = Annotated[
    str | Absent,
    Header(
        alias="If-Match",
        examples=['"1767600015000"'],
        description='The version that was seen, in quotes: `"1767600015000"`.',
        json_schema_extra={"pattern": VERSION.pattern},
    ),
]
CURSOR: dict[str, JsonValue] = {"pattern": f"^({CURSOR_PATTERN})?$"}
Words = Annotated[str | Absent, Query(max_length=200, json_schema_extra=NUL_FREE)]
Name = Annotated[str | Absent, Query(max_length=64, json_schema_extra=NUL_FREE)]


class AcknowledgeBody(BaseModel):
    """All optional; ``given_at`` dates an acknowledgement that was given offline: without a version it covers
    what was known here then.
    """

    model_config = ConfigDict(extra="forbid")

    given_at: str | None = None


class NoteBody(BaseModel):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"text": "New roll, head cleaned."}]}
    )

    text: Annotated[str, Field(min_length=1, max_length=4000)]


class ResolveBody(BaseModel):
    """``override`` (leads, with a note) resolves although the fault is still reported."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"note": "Belt replaced."}]})

    note: Annotated[str, Field(max_length=4000)] = ""
    override: bool = False


class AssignBody(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"assignee": "bob"}]})

    assignee: Annotated[str, Field(pattern=PERSON_NAME)]


class ReopenBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    note: Annotated[str, Field(max_length=4000)] = ""


@router.get("", summary="Newest first; filtered and paged", response_model=Tickets, responses={422: PROBLEM})
async def find(
    request: Request,
    state: Annotated[State | Absent, Query(description="Default: all, closed ones too.")] = None,
    site: Name = None,
    place: Annotated[Words, Query(description="area/line matches area/line/station.")] = None,
    device: Name = None,
    severity: Severity | Absent = None,
    hidden: Annotated[
        bool | Absent, Query(description="Whether something else explains it. Default: either.")
    ] = None,
    q: Annotated[Words, Query(description="In title, device, place, fault, or the number.")] = None,
    after: Annotated[
        str | Absent,
        Query(max_length=64, description="`next` of the page before.", json_schema_extra=CURSOR),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Tickets:
    wanted = TicketFilter(
        sites=scope_of(actor_of(request)),
        state=state,
        site=site or None,
        place=place or None,
        device=device or None,
        severity=severity,
        hidden=hidden,
        text=q or None,
    )
    try:
        page = await parts_of(request).store.read_soon(
            lambda connection: ticket_store.find(connection, wanted, after or None, limit)
        )
    except ValueError as error:
        raise Problem(422, str(error), reason="cursor") from error
    return Tickets.of(page)


@router.get(
    "/{ticket}",
    summary="One ticket with its history and what the equipment said",
    response_model=FullTicket,
    responses={404: PROBLEM},
)
async def read(request: Request, ticket: TicketId) -> Response:
    found = await parts_of(request).store.read_soon(
        lambda connection: ticket_store.detail(connection, ticket)
    )
    if found is None or not actor_of(request).may_see(found.ticket.site):
        raise not_found(NO_TICKET)
    shown = FullTicket.of_detail(found)
    return JSONResponse(shown.model_dump(mode="json"), headers={"ETag": f'"{shown.version}"'})


COMMAND_RESPONSES: dict[int | str, dict[str, object]] = {
    403: PROBLEM,
    404: PROBLEM,
    409: PROBLEM | {"description": "The ticket is not as it was seen; `ticket` is how it is now"},
    422: PROBLEM,
    428: PROBLEM,
}


@router.post("/{ticket}/acknowledge", response_model=Commanded, responses=COMMAND_RESPONSES)
async def acknowledge(
    request: Request,
    ticket: TicketId,
    body: AcknowledgeBody | None = None,
    key: Key = None,
    if_match: IfMatch = None,
) -> Response:
    """I have seen it. Closes nothing; covers what was seen, so that a fault that got worse meanwhile
    calls again."""
    given = body.given_at if body else None
    try:
        given_ms = parse(given) if given else None
    except ValueError as error:
        raise Problem(422, f"given_at: {error}", reason="validation") from error
    return await _command(request, ticket, Acknowledge(given_ms=given_ms), key, if_match)


@router.post("/{ticket}/note", response_model=Commanded, responses=COMMAND_RESPONSES)
async def note(
    request: Request, ticket: TicketId, body: NoteBody, key: Key = None, if_match: IfMatch = None
) -> Response:
    """Writes into the history."""
    return await _command(request, ticket, Note(text=body.text), key, if_match)


@router.post("/{ticket}/start", response_model=Commanded, responses=COMMAND_RESPONSES)
async def start(request: Request, ticket: TicketId, key: Key = None, if_match: IfMatch = None) -> Response:
    """I am at it. Needs the version that was seen to take it from somebody."""
    return await _command(request, ticket, Start(), key, if_match)


@router.post("/{ticket}/resolve", response_model=Commanded, responses=COMMAND_RESPONSES)
async def resolve(
    request: Request,
    ticket: TicketId,
    body: ResolveBody | None = None,
    key: Key = None,
    if_match: IfMatch = None,
) -> Response:
    """It is fixed. Needs the version that was seen."""
    asked = body or ResolveBody()
    return await _command(request, ticket, Resolve(note=asked.note, override=asked.override), key, if_match)


@router.post("/{ticket}/assign", response_model=Commanded, responses=COMMAND_RESPONSES)
async def assign(
    request: Request, ticket: TicketId, body: AssignBody, key: Key = None, if_match: IfMatch = None
) -> Response:
    """Gives it to somebody. Needs the version that was seen."""
    return await _command(request, ticket, Assign(assignee=body.assignee), key, if_match)


@router.post("/{ticket}/reopen", response_model=Commanded, responses=COMMAND_RESPONSES)
async def reopen(
    request: Request,
    ticket: TicketId,
    body: ReopenBody | None = None,
    key: Key = None,
    if_match: IfMatch = None,
) -> Response:
    """It was not fixed. Needs the version that was seen."""
    return await _command(request, ticket, Reopen(note=body.note if body else ""), key, if_match)


async def _command(
    request: Request, ticket: str, wanted: Command, key: str | None, if_match: str | None
) -> Response:
    outcome = await act.carry_out(
        parts_of(request), actor_of(request), ticket, wanted, idempotency_key=key, if_match=_version(if_match)
    )
    current = Ticket.of(outcome.ticket) if outcome.ticket else None
    problem = act.refusal(outcome, current=current.model_dump(mode="json") if current else None)
    if problem is not None or current is None:
        raise problem or not_found(NO_TICKET)
    answer = Commanded(
        result=outcome.result, reason=outcome.reason, sentence=outcome.sentence, ticket=current
    )
    return JSONResponse(answer.model_dump(mode="json"), headers={"ETag": f'"{current.version}"'})


def _version(if_match: str | None) -> int | None:
    if if_match is None:
        return None
    found = VERSION.match(if_match.strip())
    if found is None:
        expected = 'If-Match: expected one version in quotes, such as "1767600015000"'
        raise Problem(400, expected, reason="if-match")
    return int(found[1])
