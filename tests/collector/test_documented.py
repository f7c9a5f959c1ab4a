"""docs/collector.md names every setting, route, command and metric: what is not written down is not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from collector.auth import COMMANDS, ROUTES
from collector.config import Settings
from collector.metrics import Metrics

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
