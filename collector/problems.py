"""Refusals as RFC 9457 problem documents: one exception, one shape, for every part of the collector."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"
# The reason of a refusal that a fresh page mends.
CSRF = "csrf"
TOO_LARGE = "too-large"


class Problem(Exception):  # noqa: N818  it is an answer as much as an error
    """A refusal. ``reason`` is a stable word for programs, ``detail`` a sentence for people; ``more``
    joins the body."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        reason: str = "",
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.reason = reason
        self.headers = dict(headers or {})
        self.more = dict(more or {})

    @property
    def title(self) -> str:
        return HTTPStatus(self.status).phrase

    def body(self) -> dict[str, object]:
        found: dict[str, object] = {
            "type": "about:blank",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if self.reason:
            found["reason"] = self.reason
        return found | self.more


def unauthorized(detail: str) -> Problem:
    return Problem(401, detail, reason="unauthorized", headers={"WWW-Authenticate": "Bearer"})


def not_found(detail: str) -> Problem:
    return Problem(404, detail, reason="not-found")


def busy(detail: str, *, retry_after_s: int) -> Problem:
    return Problem(503, detail, reason="busy", headers={"Retry-After": str(retry_after_s)})


def throttled(detail: str, *, retry_after_s: int) -> Problem:
    """Not everybody: whoever gets it is alone too much."""
    return Problem(429, detail, reason="throttled", headers={"Retry-After": str(retry_after_s)})


def respond(problem: Problem) -> Response:
    return Response(
        json.dumps(problem.body(), separators=(",", ":")),
        status_code=problem.status,
        headers={"Cache-Control": "no-store", **problem.headers},
        media_type=MEDIA_TYPE,
    )
