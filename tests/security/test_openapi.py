"""The document of the API is the truth for every role: generated requests, real application, real database.

No answer is a fault of the collector, none has a status, a type or a shape that the document does not name,
and no door opens to a role that the table of routes does not let in. ``make fuzz`` runs more of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from rigs.web import CAST, House, house
from schemathesis import openapi
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks as documented

from collector import auth
from collector.app import OPENAPI_PATH
from collector.auth import Table, Who
from collector.tickets import Role

EXAMPLES = int(os.environ.get("API_EXAMPLES", "6"))
WHO = [*CAST, "read token", "gateway", "nobody"]
CHECKS = [
    schemathesis.checks.not_a_server_error,
    documented.status_code_conformance,
    documented.content_type_conformance,
    documented.response_headers_conformance,
    documented.response_schema_conformance,
]
BEFORE_ANY_DOOR = {400, 405, 413}
AT_THE_DOOR = {401, 403}


@dataclass
class Stage:
    """A collector with the cast and a ticket at each site, and what each of them sends along."""

    home: House
    tickets: list[str]
    headers: dict[str, dict[str, str]]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with asyncio.Runner() as runner:
        made = house(tmp_path)
        home = runner.run(made.__aenter__())
        runner.run(_open(home))
        yield Stage(home=home, tickets=runner.run(_tickets(home)), headers=runner.run(_headers(home)))
        runner.run(made.__aexit__(None, None, None))


async def _open(home: House) -> None:
    home.add_cast()


async def _tickets(home: House) -> list[str]:
    return [await home.ticket(site="north"), await home.ticket(site="south")]


async def _headers(home: House) -> dict[str, dict[str, str]]:
    found = {"nobody": {}, "read token": {"Authorization": f"Bearer {home.add_token()}"}}
    found["gateway"] = {"Authorization": (await home.enrol("north", "gw-a")).headers["Authorization"]}
    for name in CAST:
        cookie = (await home.log_in(name)).cookies[auth.SESSION_COOKIE]
        found[name] = {"Cookie": f"{auth.SESSION_COOKIE}={cookie}", "X-CSRF-Token": auth.csrf_of(cookie)}
    return found


def let_in(name: str, method: str, path: str) -> bool:
    rule = Table().find(method, path).rule
    assert rule is not None
    if rule.who is Who.ANYONE:
        return True
    if rule.who is Who.GATEWAY:
        return name == "gateway"
    role = Role.READ if name == "read token" else CAST[name][0] if name in CAST else None
    return role in rule.who


def answered(stage: Stage, name: str, operation: Any, mode: GenerationMode) -> None:
    inside = let_in(name, operation.method.upper(), operation.path)

    @seed(1)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        case=operation.as_strategy(generation_mode=mode), ticket=st.none() | st.sampled_from(stage.tickets)
    )
    def each(case: Any, ticket: str | None) -> None:
        if ticket is not None and "ticket" in (case.path_parameters or {}):
            case.path_parameters["ticket"] = ticket
        said = case.call(headers=stage.headers[name])
        case.validate_response(said, checks=CHECKS)
        assert inside or said.status_code in AT_THE_DOOR | BEFORE_ANY_DOOR, (case, said.status_code)

    each()


@pytest.mark.parametrize("name", WHO)
def test_every_operation_answers_as_the_document_says(stage: Stage, name: str) -> None:
    schema = openapi.from_asgi(OPENAPI_PATH, stage.home.app)
    for found in schema.get_all_operations():
        operation = found.ok()
        answered(stage, name, operation, GenerationMode.POSITIVE)
        # What has no parameter has no wrong one.
        with contextlib.suppress(Unsatisfiable):
            answered(stage, name, operation, GenerationMode.NEGATIVE)
    assert b"andon_crashes_total 0.0" in stage.home.parts.metrics.text()
