"""The test of the device table comes last: it looks at what all others have proven."""

from __future__ import annotations

import os

import pytest
from rigs.proven import IS_PART

# Where no other zone is set, pages show times in that of the machine.
os.environ["TZ"] = "UTC"

LAST = "test_device_table.py"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name == LAST)
    config.stash[IS_PART] = any("::" in argument for argument in config.args)


def pytest_deselected(items: list[pytest.Item]) -> None:
    if items:
        items[0].config.stash[IS_PART] = True
