"""Turns a template and facts into an answer: escaping, words, moments, the addresses of static files."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from collector.moments import rfc3339
from collector.pages import texts
from collector.parts import Parts, actor_of, parts_of, session_of
from collector.tickets import ALLOWED, Actor, Command, Reason

MEDIA_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
# The name of the query's field in which a redirect carries the outcome of a command.
SAID = "said"
# Reasons that a page shows after a command, and how; what is not here is good news.
TONES = {Reason.SEEN_LESS: "warn", Reason.OVERRIDDEN: "warn"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A static file, held in memory: nothing but these can be asked for. ``tag`` changes with the content."""

    content: bytes
    media_type: str
    tag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a page says of the command that led to it."""

    text: str
    tone: str = ""


def load_assets() -> dict[str, Asset]:
    """All of static/, by file name."""
    found = {}
    for entry in files("collector").joinpath("static").iterdir():
        content = entry.read_bytes()
        found[entry.name] = Asset(
            content=content,
            media_type=MEDIA_TYPES[entry.name.rpartition(".")[2]],
            tag=hashlib.sha256(content).hexdigest()[:16],
        )
    return found


class Renderer:
    """One per application."""

    def __init__(self, *, zone: ZoneInfo, now_ms: Callable[[], int]) -> None:
        self.assets = load_assets()
        self._environment = Environment(
            loader=PackageLoader("collector"),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=texts.finalize,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        filters: dict[str, Callable[..., str]] = {
            "rfc3339": rfc3339,
            "exact": lambda ms: texts.exact(ms, zone),
            "age": lambda ms: texts.age(ms, now_ms()),
            "ahead": lambda ms: texts.ahead(ms, now_ms()),
            "counted": texts.counted,
            "duration": texts.duration,
            "span": texts.span,
            "within": texts.within,
            "place": texts.place,
            "severity": texts.severity,
        }
        self._environment.filters.update(filters)
        self._environment.globals |= {
            "asset": self.asset,
            "one_off": lambda: secrets.token_urlsafe(16),
            "zone": zone.key,
        }

    def asset(self, name: str) -> str:
        """The address of a static file; it changes with the content, so browsers may keep it for ever."""
        return f"/static/{name}?v={self.assets[name].tag}"

    def text(self, template: str, context: Mapping[str, object]) -> str:
        return self._environment.get_template(template).render(context)


def page(
    request: Request,
    template: str,
    *,
    here: str = "",
    status: int = 200,
    said: Said | None = None,
    **context: object,
) -> HTMLResponse:
    """A page for somebody who is logged in."""
    actor = actor_of(request)
    given: dict[str, object] = {
        "actor": actor,
        "csrf": session_of(request).csrf,
        "here": here,
        "address": address_of(request),
        "said": said or said_by(request),
        "look_again_s": 0,
        "now_ms": parts_of(request).now_ms(),
        "may": lambda command: may(actor, command),
    }
    return HTMLResponse(renderer_of(request).text(template, given | context), status_code=status)


def may(actor: Actor, command: type[Command]) -> bool:
    """Whether a page offers the command at all; whether it is possible is decided when it is given."""
    return actor.role in ALLOWED[command]


def address_of(request: Request) -> str:
    """Path and query of this page, without what it says of a command."""
    query = request.query_params.multi_items()
    kept = urlencode([(name, value) for name, value in query if name != SAID])
    return request.url.path + (f"?{kept}" if kept else "")


def with_said(path: str, reason: Reason) -> str:
    """The page to come back to, which then tells the outcome."""
    return f"{path}{'&' if '?' in path else '?'}{urlencode({SAID: reason.value})}"


def said_by(request: Request) -> Said | None:
    """The outcome of a command, as the redirect to this page carries it."""
    try:
        reason = Reason(request.query_params.get(SAID, ""))
    except ValueError:
        return None
    return Said(text=reason.sentence, tone=TONES.get(reason, ""))


def renderer_of(request: Request) -> Renderer:
    renderer = request.app.state.renderer
    assert isinstance(renderer, Renderer)
    return renderer


def parts_and_actor(request: Request) -> tuple[Parts, Actor]:
    return parts_of(request), actor_of(request)
