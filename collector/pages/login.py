"""The door: log in with name and password, log out."""

from __future__ import annotations

import structlog
from fastapi import APIRouter, Request
from sqlalchemy import Connection
from starlette.responses import HTMLResponse, RedirectResponse, Response

from collector import auth, browsers
from collector.browsers import Browser
from collector.pages.render import renderer_of
from collector.pages.texts import duration
from collector.parts import Parts, form_of, parts_of, session_of
from collector.passwords import TooManyTriesError
from collector.store import audit, people
from collector.tickets import EVERY_SITE

router = APIRouter(include_in_schema=False)
log = structlog.get_logger()

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_S = 24 * 3600
AGAIN = "This form was no longer good. Please log in again."
WRONG = "Name or password is wrong."


@router.get("/login")
async def ask(request: Request) -> Response:
    if request.state.session is not None:
        return RedirectResponse(safe_path(request.query_params.get("next", "")), 303)
    return form(request, next_path=request.query_params.get("next", ""))


@router.post("/login")
async def log_in(request: Request) -> Response:
    parts = parts_of(request)
    given = form_of(request)
    name, password = given.get("name", "").strip().lower()[:64], given.get("password", "")
    next_path = given.get("next", "")
    address = request.client.host if request.client else ""
    known = await parts.store.read_soon(lambda connection: people.person(connection, name))
    stored = known.password_hash if known is not None and not known.disabled else None
    browser = browsers.read(request.cookies.get(auth.BROWSER_COOKIE, ""))
    try:
        right = await parts.passwords.verify(
            account=name,
            address=address,
            browser=browser.id if stored is not None and browser.knows(name, stored) else None,
            stored=stored,
            password=password,
        )
    except TooManyTriesError as error:
        parts.metrics.logins.labels(outcome="too-many").inc()
        log.warning("too many tries to log in", name=name, address=address)
        refusal = f"Too many tries. Wait {duration(error.retry_after_s * 1000)}, then try again."
        answer = form(request, next_path=next_path, name=name, refusal=refusal, status=429)
        answer.headers["Retry-After"] = str(error.retry_after_s)
        return answer
    parts.metrics.logins.labels(outcome="right" if right else "wrong").inc()
    if not right or stored is None:
        log.info("a log-in was refused", name=name, address=address)
        return form(request, next_path=next_path, name=name, refusal=WRONG, status=403)
    return await _welcome(request, parts, name, next_path, browser.met(name, stored))


@router.post("/logout")
async def log_out(request: Request) -> Response:
    parts = parts_of(request)
    session = session_of(request)
    await parts.store.write_soon(
        lambda connection: people.end_session(connection, auth.sha256(session.cookie))
    )
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(auth.SESSION_COOKIE, path="/")
    return answer


async def _welcome(request: Request, parts: Parts, name: str, next_path: str, browser: Browser) -> Response:
    """A new session each time: a cookie that was there before log-in is worth nothing after it."""
    cookie = auth.new_secret()
    now_ms = parts.now_ms()
    expires_ms = now_ms + parts.settings.session_max_hours * HOUR_MS
    old = request.cookies.get(auth.SESSION_COOKIE, "")

    def begin(connection: Connection) -> None:
        if old:
            people.end_session(connection, auth.sha256(old))
        people.add_session(
            connection,
            id_hash=auth.sha256(cookie),
            name=name,
            csrf=auth.csrf_of(cookie),
            now_ms=now_ms,
            expires_ms=expires_ms,
        )
        audit.write(connection, at_ms=now_ms, actor=name, action="logged in", subject=name, site=EVERY_SITE)

    await parts.store.write_soon(begin)
    answer = RedirectResponse(safe_path(next_path), 303)
    answer.set_cookie(
        auth.SESSION_COOKIE,
        cookie,
        max_age=parts.settings.session_max_hours * 3600,
        path="/",
        secure=parts.settings.https,
        httponly=True,
        samesite="lax",
    )
    answer.set_cookie(
        auth.BROWSER_COOKIE,
        browser.cookie,
        max_age=browsers.COOKIE_DAYS * DAY_S,
        path="/login",
        secure=parts.settings.https,
        httponly=True,
        samesite="strict",
    )
    answer.delete_cookie(auth.FORM_COOKIE, path="/login")
    return answer


def form(
    request: Request, *, next_path: str, name: str = "", refusal: str = "", status: int = 200
) -> HTMLResponse:
    """Its cookie lives as long as the browser: a handheld that lay overnight with the form on its screen
    must take the next morning's password."""
    cookie = request.cookies.get(auth.FORM_COOKIE, "") or auth.new_secret()
    text = renderer_of(request).text(
        "login.html",
        {"csrf": auth.csrf_of(cookie), "next": safe_path(next_path), "name": name, "refusal": refusal},
    )
    answer = HTMLResponse(text, status_code=status)
    answer.set_cookie(
        auth.FORM_COOKIE,
        cookie,
        path="/login",
        secure=parts_of(request).settings.https,
        httponly=True,
        samesite="strict",
    )
    return answer


def safe_path(path: str) -> str:
    """Only a path of this collector is followed; anything else leads to the desk."""
    if not path.startswith("/") or path.startswith(("//", "/\\", "/login", "/logout")) or len(path) > 500:
        return "/"
    return path if path.isprintable() and "\\" not in path else "/"
