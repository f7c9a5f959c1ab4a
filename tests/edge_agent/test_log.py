"""What becomes of a line of log that nobody takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("program", "configured"),
    [
        ("edge_agent", "json=True"),
        ("edge_agent", "json=False"),
        ("collector", "style='json', level='info'"),
        ("collector", "style='text', level='info'"),
    ],
)
def test_a_log_on_a_full_disk_stops_nobody(program: str, configured: str) -> None:
    code = (
        f"from {program} import log\n"
        "import logging, structlog\n"
        f"log.configure({configured})\n"
        "for _ in range(5_000):\n"
        "    structlog.get_logger().error('raised', condition='belt-1|belt|jam')\n"
        "    logging.getLogger('of a library').warning('what it says')\n"
        "print('goes on', flush=True)\n"
    )
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=full, text=True, timeout=60
        )
    assert done.stdout == "goes on\n"
