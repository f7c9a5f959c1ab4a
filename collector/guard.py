"""Stands before the application: finds the rule of a request, proves who asks, and refuses before
anything is parsed.

What it learned is in ``request.state``: ``actor`` and ``session`` for people, ``gateway`` and ``caller`` (the
public half of its credential) for gateways, ``form`` for a form that was posted. Unsafe requests that are
proved by a cookie must carry the CSRF token as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import parse_qsl

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from collector import admission, auth
from collector.admission import Account, Lane, Step
from collector.auth import Rule, Table, Who
from collector.exchange import GatewayIdentity
from collector.problems import CSRF, TOO_LARGE, Problem, busy, not_found, throttled, unauthorized
from collector.store import DATABASE_AWAY
from collector.tickets import Actor
from edge_agent import wire

log = structlog.get_logger()

MAX_FORM_BYTES = 64 << 10
# The longest here has a dozen; to read 30,000 of them takes 20 ms of the only loop.
MAX_FORM_FIELDS = 64
MAX_COOKIE_BYTES = 256
OUR_COOKIES = re.compile(
    rb"(?:^|;)[ \t]*(%s)=([^;]{1,%d})(?![^;])" % ("|".join(auth.COOKIES).encode(), MAX_COOKIE_BYTES)
)
# PostgreSQL keeps none in text.
NO_NUL = "no name or text here has a NUL in it"
ENDED_EARLY = "the request ended early"
TOO_MANY_BYTES = f"a request has at most {wire.MAX_WIRE_BYTES} bytes"
# More than 4,300 of them Python refuses to read.
MAX_LENGTH_DIGITS = 20
FORM_TYPE = "application/x-www-form-urlencoded"
BUSY_RETRY_AFTER_S = 5
EVIDENCE_RETRY_AFTER_S = 10.0
# An agent has one under way; the other is the one that it gave up and that is still being worked on.
SYNCS_OF_ONE = 2
# What a sync costs until it is known.
SHORT_COST_S, LONG_COST_S = 0.005, 0.1
# The line is far shorter in time, unless everything stands still. Agents give up after 20 s.
LONGEST_LINE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A person who is logged in; ``cookie`` is the secret in the browser, the store knows its hash."""

    cookie: str
    actor: Actor

    @property
    def csrf(self) -> str:
        return auth.csrf_of(self.cookie)


class Identities(Protocol):
    """Finds out whom a secret belongs to; ``None`` when nobody."""

    async def session(self, cookie: str, *, touch: bool) -> Session | None: ...

    async def token(self, bearer: auth.Bearer) -> Actor | None: ...

    async def gateway(self, bearer: auth.Bearer) -> GatewayIdentity | None:
        """Whose credential it is, or was when this was asked before: the transaction that takes what it says
        has to look once more, and whoever finds that it is void says ``forget``.
        """

    def forget(self, credential_id: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Room:
    lane: Lane
    places: asyncio.Semaphore


class SyncGate:
    """Lets syncs in as ``admission`` decides, and sends the rest away before they cost anything.

    ``shed`` is told the reason of each that is sent away.
    """

    def __init__(
        self, limit: int, *, rows_per_s: float, now_s: Callable[[], float], shed: Callable[[str], None]
    ) -> None:
        short, long = admission.rooms(limit)
        self._short = _room(Lane(room=short, cost_s=SHORT_COST_S, line_s=admission.LINE_S))
        self._long = _room(Lane(room=long, cost_s=LONG_COST_S))
        self._evidence = _room(Lane(room=long, cost_s=LONG_COST_S))
        self._rows_per_s = rows_per_s
        self._now_s = now_s
        self._shed = shed
        self._of: Counter[str] = Counter()
        self._accounts: dict[str, Account] = {}
        self._deaf = False
        # Whose credential was right, and when.
        self._heard: dict[str, float] = {}

    @property
    def inside(self) -> int:
        return self._short.lane.inside + self._long.lane.inside + self._evidence.lane.inside

    @property
    def waiting(self) -> int:
        return self._short.lane.waiting + self._long.lane.waiting

    def was_deaf(self) -> bool:
        """Whether heartbeats have been sent away since this was asked last: who was not let in was not
        silent."""
        deaf, self._deaf = self._deaf, False
        return deaf

    @contextlib.asynccontextmanager
    async def enter(self, who: str, *, short: bool) -> AsyncIterator[None]:
        """``who`` as it says itself, nothing is proven yet. Raises Problem 503."""
        room = self._short if short else self._long
        lane = room.lane
        heard = self._now_s() - self._heard.get(who, -math.inf) <= admission.HEARD_S
        step = lane.arrive(who, heard=heard)
        if step is Step.AWAY:
            raise self._busy(room, who)
        if not room.places.locked():
            await room.places.acquire()
        else:
            lane.waiting += step is Step.WAIT
            try:
                async with asyncio.timeout(LONGEST_LINE_S):
                    await room.places.acquire()
            except TimeoutError:
                raise self._busy(room, who) from None
            finally:
                lane.waiting -= step is Step.WAIT
        visit = lane.entered(self._now_s())
        try:
            yield
        finally:
            lane.left(visit, self._now_s())
            room.places.release()

    @contextlib.asynccontextmanager
    async def enter_last(self, who: str) -> AsyncIterator[None]:
        """Evidence: while nobody else has to wait, and never in a line. Raises Problem 503."""
        room = self._evidence
        room.lane.arrive(who)
        if self.waiting or self._long.places.locked() or room.places.locked():
            raise self._busy(room, who)
        await room.places.acquire()
        visit = room.lane.entered(self._now_s())
        try:
            yield
        finally:
            room.lane.left(visit, self._now_s())
            room.places.release()

    @contextlib.contextmanager
    def enter_as(self, gateway_id: str, who: str) -> Iterator[None]:
        """One gateway cannot take the room of all. Raises Problem 429."""
        self._heard[who] = self._now_s()
        if self._of[gateway_id] >= SYNCS_OF_ONE:
            self._shed("parallel")
            raise throttled("this gateway has other syncs under way", retry_after_s=BUSY_RETRY_AFTER_S)
        debt_s = self._account(gateway_id).debt_s(self._now_s(), self._rows_per_s)
        if debt_s > 0:
            self._shed("quota")
            raise throttled(
                f"this gateway sends more than {self._rows_per_s:.0f} rows/s",
                retry_after_s=admission.retry_after(debt_s),
            )
        self.charge(gateway_id, admission.ROWS_OF_A_SYNC)
        self._of[gateway_id] += 1
        try:
            yield
        finally:
            self._of[gateway_id] -= 1
            if not self._of[gateway_id]:
                del self._of[gateway_id]

    def charge(self, gateway_id: str, rows: int) -> None:
        now_s = self._now_s()
        self._accounts[gateway_id] = self._account(gateway_id).charged(rows, now_s, self._rows_per_s)

    def history_ms(self, gateway_id: str, who: str) -> int:
        """How long a gateway that has more to tell should wait, so that all get their turn."""
        now_s = self._now_s()
        debt_s = self._account(gateway_id).debt_s(now_s, self._rows_per_s)
        return round(1000 * max(debt_s, self._long.lane.turn_s(who, now_s)))

    def _account(self, gateway_id: str) -> Account:
        return self._accounts.get(gateway_id) or Account.opened(self._now_s(), self._rows_per_s)

    def _busy(self, room: _Room, who: str) -> Problem:
        self._shed("line" if room is self._short else "history" if room is self._long else wire.EVIDENCE_LANE)
        self._deaf |= room is self._short
        after_s = room.lane.turn_s(who, self._now_s())
        if room is self._evidence:
            after_s = max(EVIDENCE_RETRY_AFTER_S, after_s)
        return busy("too many syncs at once", retry_after_s=admission.retry_after(after_s))


def no_gateway() -> Problem:
    return unauthorized("this needs the credential of an enrolled gateway")


def is_evidence(request: Request) -> bool:
    """As the gateway says before its message: that decides its place, and it may tell nothing else."""
    return request.headers.get(wire.LANE_HEADER) == wire.EVIDENCE_LANE


def evidence_of(gateway_id: str) -> str:
    """Its evidence has a quota and places of its own: it takes nothing from its rows."""
    return f"{gateway_id} {wire.EVIDENCE_LANE}"


def _room(lane: Lane) -> _Room:
    return _Room(lane=lane, places=asyncio.Semaphore(lane.room))


DATABASE_RETRY_S = 10

Refuse = Callable[[Request, Problem, bool], Response]


class Guard:
    """ASGI middleware, directly around the routes."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        table: Table,
        identities: Identities,
        syncs: SyncGate,
        refuse: Refuse,
        origin: str,
    ) -> None:
        self._app = app
        self._table = table
        self._identities = identities
        self._syncs = syncs
        self._refuse = refuse
        # What browsers call this collector when something stands in front of it; "" = what they ask for.
        self._origin = origin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            try:
                await self._http(scope, receive, send)
            except DATABASE_AWAY:
                # Only from here: what the application meets it answers itself.
                request = Request(scope, receive)
                answer = self._refuse(request, database_away(), wants_page(request))
                await answer(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope = {**scope, "headers": own_cookies(scope["headers"])}
        request = Request(scope, receive)
        if "\0" in scope["path"] or b"%00" in scope["query_string"]:
            problem = Problem(400, NO_NUL, reason="request")
            await self._refuse(request, problem, False)(scope, receive, send)
            return
        declared = request.headers.get("content-length")
        if declared and declared.isdecimal() and int(declared[:MAX_LENGTH_DIGITS]) > wire.MAX_WIRE_BYTES:
            problem = Problem(413, TOO_MANY_BYTES, reason=TOO_LARGE)
            await self._refuse(request, problem, wants_page(request))(scope, receive, send)
            return
        door = self._table.find(scope["method"], scope["path"])
        rule = door.rule
        if rule is None:
            problem = _no_door(scope, door.allowed)
            await self._refuse(request, problem, wants_page(request))(scope, receive, send)
            return
        # Behind this a HEAD is a GET; the server leaves the body out.
        scope["method"] = rule.method
        if rule.who is Who.GATEWAY:
            await self._gateway(request, declared, send)
        else:
            await self._person(request, rule, send)

    async def _gateway(self, request: Request, declared: str | None, send: Send) -> None:
        bearer = auth.read_bearer(request.headers.get("authorization"), auth.GATEWAY_PREFIX)
        who = bearer.id if bearer else ""
        last = is_evidence(request)
        short = admission.is_short(declared)
        entered = self._syncs.enter_last(who) if last else self._syncs.enter(who, short=short)
        try:
            async with entered:
                gateway = await self._identities.gateway(bearer) if bearer else None
                if bearer is None or gateway is None:
                    raise no_gateway()
                with self._syncs.enter_as(evidence_of(gateway.id) if last else gateway.id, bearer.id):
                    request.state.gateway = gateway
                    request.state.caller = bearer.id
                    await self._app(request.scope, request.receive, send)
        except Problem as problem:
            await self._refuse(request, problem, False)(request.scope, request.receive, send)

    async def _person(self, request: Request, rule: Rule, send: Send) -> None:
        receive: Receive = _bounded(request.receive)
        try:
            session, actor = await self._who(request, rule)
            if actor is None and rule.who is not Who.ANYONE:
                raise _stranger(rule)
            # Where nobody has to be logged in a session adds nothing that a forger could use. The log-in form
            # has a proof of its own, and still works when another tab has logged in meanwhile.
            proved_by = session if rule.who is not Who.ANYONE else None
            if rule.method not in auth.SAFE_METHODS and (proved_by is not None or rule.page):
                receive = await self._check_csrf(request, receive, proved_by)
            if actor is not None and isinstance(rule.who, frozenset) and actor.role not in rule.who:
                raise _wrong_role(actor, rule)
        except Problem as problem:
            await self._refuse(request, problem, rule.page)(request.scope, receive, send)
            return
        request.state.session = session
        request.state.actor = actor
        await self._app(request.scope, receive, send)

    async def _who(self, request: Request, rule: Rule) -> tuple[Session | None, Actor | None]:
        header = request.headers.get("authorization")
        if rule.takes_tokens and header is not None:
            bearer = auth.read_bearer(header, auth.TOKEN_PREFIX)
            return None, await self._identities.token(bearer) if bearer else None
        cookie = request.cookies.get(auth.SESSION_COOKIE, "")
        if not cookie:
            return None, None
        # What a page fetches by itself is no sign of a person.
        touch = "x-live" not in request.headers and rule.path != "/live"
        session = await self._identities.session(cookie, touch=touch)
        return session, session.actor if session else None

    async def _check_csrf(self, request: Request, receive: Receive, session: Session | None) -> Receive:
        """Raises Problem 403. Returns a ``receive`` that gives the body again."""
        refused = Problem(
            403, "this did not come from a page of this collector; load the page again", reason=CSRF
        )
        own = {self._origin} if self._origin else set()
        own.add(f"{request.url.scheme}://{request.headers.get('host', '')}")
        if (origin := request.headers.get("origin")) is not None and origin not in own:
            raise refused
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise refused
        token = request.headers.get(auth.CSRF_HEADER, "")
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() == FORM_TYPE:
            body = await _read(receive)
            request.state.form = read_form(body)
            receive = _replay(body, receive)
            token = token or request.state.form.get(auth.CSRF_FIELD, "")
        if session is not None:
            expected = session.csrf
        else:
            cookie = request.cookies.get(auth.FORM_COOKIE, "")
            expected = auth.csrf_of(cookie) if cookie else ""
        if not expected or not auth.same(token, expected):
            raise refused
        return receive


def own_cookies(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Headers without the cookies of others, and without ours where they are longer than ours can be.

    The framework undoes the quotes of all cookies of every request, which takes 2.7 s for the 64 KiB that a
    stranger may send (CVE-2024-7592, in the Python of Debian 12).
    """
    ours: dict[bytes, bytes] = {}
    there = False
    for name, value in headers:
        if name == b"cookie":
            ours.update(OUR_COOKIES.findall(value))
            there = True
    if not there:
        return headers
    kept = [pair for pair in headers if pair[0] != b"cookie"]
    if ours:
        kept.append((b"cookie", b"; ".join(name + b"=" + value for name, value in ours.items())))
    return kept


def read_form(body: bytes) -> dict[str, str]:
    """Raises Problem 400."""
    if b"%00" in body or b"\0" in body:
        raise Problem(400, NO_NUL, reason="request")
    text = body.decode("utf-8", "replace")
    try:
        told = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS)
        # A browser ends the lines of what was typed as networks do.
        return {name: value.replace("\r\n", "\n") for name, value in told}
    except ValueError:
        raise Problem(400, f"a form has at most {MAX_FORM_FIELDS} fields", reason="request") from None


def database_away() -> Problem:
    """Nothing was stored, nothing is acknowledged."""
    return busy("the database does not take this now", retry_after_s=DATABASE_RETRY_S)


def _no_door(scope: Scope, allowed: tuple[str, ...]) -> Problem:
    if not allowed:
        return not_found("there is nothing at this address")
    return Problem(
        405,
        f"{scope['method']} is not possible here; {', '.join(allowed)} is",
        reason="method",
        headers={"Allow": ", ".join(allowed)},
    )


def wants_page(request: Request) -> bool:
    """Whether a person is looking: not for the API, and only where a browser asks for a page."""
    return not request.url.path.startswith("/api/") and "text/html" in request.headers.get("accept", "")


def _stranger(rule: Rule) -> Problem:
    if rule.takes_tokens:
        return unauthorized("this needs an API token (Authorization: Bearer atk_...) or a logged-in session")
    return unauthorized("log in first")


def _wrong_role(actor: Actor, rule: Rule) -> Problem:
    roles = sorted(role.value for role in rule.who) if isinstance(rule.who, frozenset) else []
    return Problem(
        403,
        f"the role {actor.role} may not do this; it is for {', '.join(roles)}",
        reason="role",
        more={"roles": roles},
    )


async def _read(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Problem(400, ENDED_EARLY, reason="request")
        body += message.get("body", b"")
        if len(body) > MAX_FORM_BYTES:
            raise Problem(413, f"a form has at most {MAX_FORM_BYTES} bytes", reason=TOO_LARGE)
        if not message.get("more_body"):
            return bytes(body)


def _bounded(receive: Receive) -> Receive:
    """Raises HTTPException, which the framework lets through when it reads a body; Problem it would not."""
    taken = 0

    async def counted() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > wire.MAX_WIRE_BYTES:
            raise HTTPException(413, TOO_MANY_BYTES)
        return message

    return counted


def _replay(body: bytes, receive: Receive) -> Callable[[], Awaitable[Message]]:
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
