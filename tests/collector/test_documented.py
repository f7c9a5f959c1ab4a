"""docs/collector.md names every setting, route, command and metric: what is not written down is not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from collector.auth import COMMANDS, ROUTES
from collector.config import Settings
from collector.metrics import Metrics
from collector.tickets import ALLOWED, Acknowledge, Assign, Reopen, Role, Start

PAGE = (Path(__file__).parents[2] / "docs" / "collector.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("setting", sorted(Settings.model_fields))
def test_every_setting_is_documented(setting: str) -> None:
    assert f"`{setting}`" in PAGE


@pytest.mark.parametrize("route", sorted({f"{rule.method} {rule.path}" for rule in ROUTES}))
def test_every_route_is_documented(route: str) -> None:
    prefix, _, last = route.rpartition("/")
    if last in COMMANDS:
        assert f"`{last}`" in PAGE or f"/{last}`" in PAGE
        assert f"`{prefix}/" in PAGE
    else:
        assert f"`{route}`" in PAGE


def test_every_metric_is_documented_and_every_documented_one_exists() -> None:
    families = re.findall(r"^# TYPE (andon_\w+) (\w+)", Metrics().text().decode(), re.MULTILINE)
    real = {name for name, _ in families if not name.endswith("_created")}
    assert set(re.findall(r"`(andon_\w+)", PAGE)) == real


def test_the_page_says_of_each_role_which_commands_it_may_give() -> None:
    said = {role: line for role in Role for line in PAGE.splitlines() if line.startswith(f"| `{role}` |")}
    words = {Acknowledge: "acknowledge", Start: "start", Assign: "assign", Reopen: "reopen"}
    for role, line in said.items():
        # A lead's line begins with what a technician may.
        told = said[Role.TECHNICIAN] + line if "the same" in line else line
        for command, word in words.items():
            assert (word in told) is (role in ALLOWED[command]), (role, word)
    assert said.keys() == set(Role)
