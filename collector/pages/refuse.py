"""How a refusal looks: a problem document for programs, the log-in or a short page for people."""

from __future__ import annotations

from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from collector.pages import login
from collector.pages.render import renderer_of
from collector.parts import form_of
from collector.problems import CSRF, Problem, respond

STALE = "This page was no longer good"
TITLES = {
    400: "This cannot be read",
    403: "This is not for you",
    404: "There is nothing here",
    409: "Somebody was faster",
    413: "Too much at once",
    422: "Something is missing",
    429: "Too many tries",
    500: "Something broke here",
    503: "Not now",
}


def refuse(request: Request, problem: Problem, page: bool) -> Response:
    """``page``: whether a person is looking."""
    if not page:
        return respond(problem)
    if problem.status == 401:
        asked = _way_back(request)
        return RedirectResponse("/login" + (f"?{urlencode({'next': asked})}" if asked != "/" else ""), 303)
    if problem.reason == CSRF and request.url.path == "/login":
        given = form_of(request)
        return login.form(
            request,
            next_path=given.get("next", ""),
            name=given.get("name", ""),
            refusal=login.AGAIN,
            status=403,
        )
    text = renderer_of(request).text(
        "refused.html",
        {
            "title": STALE if problem.reason == CSRF else TITLES.get(problem.status, problem.title),
            "detail": problem.detail[:1].upper() + problem.detail[1:].rstrip(".") + ".",
            "back": _way_back(request) if problem.reason == CSRF else _list(request),
        },
    )
    return HTMLResponse(text, status_code=problem.status, headers=problem.headers)


def _way_back(request: Request) -> str:
    """Where a person who was turned away wanted to be: the page itself, or that of what a form is of."""
    if request.method == "GET":
        return request.url.path + (f"?{request.url.query}" if request.url.query else "")
    subject, _, _ = request.url.path.rpartition("/")
    return subject if subject.startswith(("/t/", "/m/t/", "/devices/")) else "/"


def _list(request: Request) -> str:
    return "/m" if request.url.path.startswith("/m") else "/"
