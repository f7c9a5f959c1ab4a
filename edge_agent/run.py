"""`edge-agent run`: settings, log and event loop for the agent, and its exit code."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from edge_agent import agent, config, log
from edge_agent.journal import JournalError

LOGS = ("auto", "text", "json")


def run(arguments: Sequence[str]) -> int:
    """The exit code: 0 told to stop, 1 the journal cannot be written, 2 a person must act."""
    parser = argparse.ArgumentParser(
        prog="edge-agent run", description="Watch the equipment until stopped.", allow_abbrev=False
    )
    parser.add_argument(
        "--config", type=Path, default=config.DEFAULT_FILE, help="agent.toml (default: %(default)s)"
    )
    parser.add_argument("--log", choices=LOGS, default="auto", help="auto: text on a terminal, else JSON")
    options = parser.parse_args(arguments)
    log.configure(json=None if options.log == "auto" else options.log == "json")
    status = 0
    try:
        settings = config.load(options.config)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(agent.run(settings))
    except* config.ConfigError as errors:
        print(*errors.exceptions, sep="\n", file=sys.stderr)
        status = 2
    except* JournalError as errors:
        print(*errors.exceptions, sep="\n", file=sys.stderr)
        status = 1
    return status
