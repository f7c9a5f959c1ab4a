"""How a refusal looks: a problem document for programs, the log-in or a short page for people."""

from __future__ import annotations

from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from collector.pages.render import renderer_of
from collector.problems import Problem, respond

TITLES = {
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
        asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        following = f"?{urlencode({'next': asked})}" if request.method == "GET" and asked != "/" else ""
        return RedirectResponse(f"/login{following}", 303)
    text = renderer_of(request).text(
        "refused.html",
        {
            "title": TITLES.get(problem.status, problem.title),
            "detail": problem.detail[:1].upper() + problem.detail[1:],
            "back": "/m" if request.url.path.startswith("/m") else "/",
        },
    )
    return HTMLResponse(text, status_code=problem.status, headers=problem.headers)
