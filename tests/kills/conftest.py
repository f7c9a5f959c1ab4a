"""Prints the figures of all kills as one table at the end."""

from __future__ import annotations

import pytest
from kills import figures


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if figures.EVERYTHING:
        terminalreporter.section("kills")
        terminalreporter.write_line(figures.table(figures.EVERYTHING))
