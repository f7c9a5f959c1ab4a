"""Who may do what: one table of role x route, and how a request proves who it is.

The table is the law. A request for a path that is not in it is answered 404 before the application sees
it, and an application that has a route without a line here refuses to start. Sites are checked where
data is read or changed: a role opens a door, the actor's sites say what is behind it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from starlette.routing import compile_path

from collector.tickets import (
    ALLOWED,
    EVERY_SITE,
    Acknowledge,
    Actor,
    Assign,
    Command,
    Note,
    Reopen,
    Resolve,
    Role,
    Start,
)

SECRET_BYTES = 32
# As typed on the handheld: no spaces, no upper case to get wrong.
PERSON_NAME = r"^[a-z0-9][a-z0-9._@-]{0,63}$"
GATEWAY_PREFIX = "agw_"
TOKEN_PREFIX = "atk_"  # noqa: S105  the public start of every token
SESSION_COOKIE = "andon_session"
# Given with the login form, so that the form itself cannot be forged.
FORM_COOKIE = "andon_form"
# Whose passwords were right in this browser before.
BROWSER_COOKIE = "andon_browser"
COOKIES = (SESSION_COOKIE, FORM_COOKIE, BROWSER_COOKIE)
CSRF_FIELD = "csrf"
CSRF_HEADER = "x-csrf-token"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Who(StrEnum):
    """Who stands before a route when it is not a person's role that decides."""

    ANYONE = "anyone"
    GATEWAY = "gateway"


PEOPLE = frozenset({Role.TECHNICIAN, Role.LEAD, Role.INSTALLER, Role.ADMIN})
LOOK = PEOPLE | {Role.READ}
# Who may take a device out of service and bring it back.
MAY_TAKE_OUT = frozenset({Role.LEAD, Role.INSTALLER})
# Who may give a command is decided where commands are decided; here it only opens the door.
COMMANDS: dict[str, type[Command]] = {
    "acknowledge": Acknowledge,
    "note": Note,
    "start": Start,
    "resolve": Resolve,
    "assign": Assign,
    "reopen": Reopen,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One door. ``path`` is a template as the application writes it."""

    method: str
    path: str
    who: Who | frozenset[Role]
    # Pages answer strangers with the login form, the rest with a problem document.
    page: bool = False
    # Its answer does not end, so nobody may ask for its head alone.
    endless: bool = False

    @property
    def takes_tokens(self) -> bool:
        return self.path.startswith("/api/")


def _commands(prefix: str, *, page: bool) -> Iterable[Rule]:
    return (
        Rule(method="POST", path=f"{prefix}/{{ticket}}/{name}", who=ALLOWED[command], page=page)
        for name, command in COMMANDS.items()
    )


def _service(prefix: str, *, page: bool) -> Iterable[Rule]:
    return (
        Rule(method="POST", path=f"{prefix}/{{site}}/{{device}}/{name}", who=MAY_TAKE_OUT, page=page)
        for name in ("out-of-service", "in-service")
    )


ROUTES: tuple[Rule, ...] = (
    Rule(method="GET", path="/healthz", who=Who.ANYONE),
    Rule(method="GET", path="/readyz", who=Who.ANYONE),
    # Totals only: no names of sites, devices or people.
    Rule(method="GET", path="/metrics", who=Who.ANYONE),
    Rule(method="GET", path="/static/{path:path}", who=Who.ANYONE),
    Rule(method="GET", path="/api/v1/openapi.json", who=Who.ANYONE),
    Rule(method="POST", path="/api/v1/sync", who=Who.GATEWAY),
    # The one-off token in the body is the proof.
    Rule(method="POST", path="/api/v1/enroll", who=Who.ANYONE),
    Rule(method="GET", path="/api/v1/me", who=LOOK),
    Rule(method="GET", path="/api/v1/tickets", who=LOOK),
    Rule(method="GET", path="/api/v1/tickets/{ticket}", who=LOOK),
    *_commands("/api/v1/tickets", page=False),
    Rule(method="GET", path="/api/v1/devices", who=LOOK),
    *_service("/api/v1/devices", page=False),
    Rule(method="GET", path="/api/v1/gateways", who=LOOK),
    Rule(method="GET", path="/api/v1/downtime", who=LOOK),
    Rule(method="GET", path="/login", who=Who.ANYONE, page=True),
    Rule(method="POST", path="/login", who=Who.ANYONE, page=True),
    Rule(method="POST", path="/logout", who=PEOPLE, page=True),
    Rule(method="GET", path="/live", who=PEOPLE, endless=True),
    Rule(method="GET", path="/m", who=PEOPLE, page=True),
    Rule(method="GET", path="/m/t/{ticket}", who=PEOPLE, page=True),
    *_commands("/m/t", page=True),
    Rule(method="GET", path="/", who=PEOPLE, page=True),
    Rule(method="GET", path="/t/{ticket}", who=PEOPLE, page=True),
    *_commands("/t", page=True),
    Rule(method="GET", path="/downtime", who=PEOPLE, page=True),
    Rule(method="GET", path="/gateways", who=PEOPLE, page=True),
    Rule(method="GET", path="/devices", who=PEOPLE, page=True),
    Rule(method="GET", path="/devices/{site}/{device}", who=PEOPLE, page=True),
    *_service("/devices", page=True),
)


@dataclass(frozen=True, slots=True)
class Door:
    """What the table says of one request: a rule, or the methods that the path would take (none: no such
    path)."""

    rule: Rule | None
    allowed: tuple[str, ...] = ()


@dataclass(slots=True)
class Table:
    """Finds the rule of a request; of a HEAD that of the GET."""

    rules: tuple[Rule, ...] = ROUTES
    _fixed: dict[str, dict[str, Rule]] = field(init=False, default_factory=dict)
    _shaped: list[tuple[re.Pattern[str], dict[str, Rule]]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        by_path: dict[str, dict[str, Rule]] = {}
        for rule in self.rules:
            methods = by_path.setdefault(rule.path, {})
            methods[rule.method] = rule
            if rule.method == "GET" and not rule.endless:
                methods["HEAD"] = rule
        for path, methods in by_path.items():
            if "{" in path:
                self._shaped.append((compile_path(path)[0], methods))
            else:
                self._fixed[path] = methods

    def find(self, method: str, path: str) -> Door:
        methods = self._fixed.get(path)
        if methods is None:
            methods = next((found for pattern, found in self._shaped if pattern.match(path)), None)
        if methods is None:
            return Door(None)
        return Door(methods.get(method), tuple(sorted(methods)))

    def missing(self, routes: Iterable[tuple[str, str]]) -> list[str]:
        """Those of ``(method, path template)`` that have no line in the table."""
        known = {(rule.method, rule.path) for rule in self.rules}
        return sorted(f"{method} {path}" for method, path in routes if (method, path) not in known)


# --- secrets: made here, stored only as SHA-256, compared in constant time


def new_secret() -> str:
    """256 random bits, URL-safe."""
    return secrets.token_urlsafe(SECRET_BYTES)


def new_id() -> str:
    """The public half of a credential: lower-case letters and digits."""
    return secrets.token_hex(8)


def sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def csrf_of(cookie: str) -> str:
    """The token that a form must carry; follows from the secret cookie, so that nothing more is stored."""
    return hmac.new(cookie.encode(), b"andon csrf", hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True)
class Bearer:
    """``<prefix><id>.<secret>`` as it arrives."""

    id: str
    secret: str


def read_bearer(header: str | None, prefix: str) -> Bearer | None:
    """``None`` when it is not a bearer token of that kind."""
    scheme, _, token = (header or "").partition(" ")
    if scheme.lower() != "bearer" or not token.startswith(prefix):
        return None
    public, dot, secret = token.strip().partition(".")
    if not dot or not secret or len(token) > 256 or not token.isascii():
        return None
    return Bearer(public.removeprefix(prefix), secret)


def scope_of(actor: Actor) -> frozenset[str] | None:
    """The sites that the store is asked for; ``None`` is all."""
    return None if EVERY_SITE in actor.sites else actor.sites
