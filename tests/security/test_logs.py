"""A log for people shows where something failed, not what was in the variables."""

from __future__ import annotations

import subprocess
import sys

import pytest

FAILS = """
import structlog
def enrol(secret):
    raise RuntimeError("the collector is away")
try:
    enrol("-".join(["barrel", "ember"]))
except RuntimeError:
    structlog.get_logger().exception("enrolment failed")
"""


@pytest.mark.parametrize(
    "configure",
    [
        "from edge_agent import log; log.configure(json=False)",
        "from edge_agent import log; log.configure(json=True)",
        "from collector import log; log.configure(style='text', level='info')",
        "from collector import log; log.configure(style='json', level='info')",
    ],
)
def test_a_traceback_in_the_log_gives_no_secret_away(configure: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", configure + FAILS], capture_output=True, text=True, check=True
    )
    assert "RuntimeError: the collector is away" in ran.stderr
    assert "enrolment failed" in ran.stderr
    assert "barrel-ember" not in ran.stderr
