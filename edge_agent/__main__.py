"""The command line of the edge agent. `run` is parsed here alone: it loads no help texts and no tables."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

DEFAULT_CONFIG = Path("/etc/andon/agent.toml")
LOGS = ("auto", "text", "json")


def main() -> None:
    if sys.argv[1:2] == ["run"]:
        sys.exit(run(sys.argv[2:]))
    from edge_agent.cli import app

    app(prog_name="edge-agent")


def run(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="edge-agent run", description="Watch the equipment until stopped.")
    parser.add_argument(
        "--config", type=Path, default=DEFAULT_CONFIG, help="agent.toml (default: %(default)s)"
    )
    parser.add_argument("--log", choices=LOGS, default="auto", help="auto: text on a terminal, else JSON")
    options = parser.parse_args(arguments)

    import uvloop

    from edge_agent import agent, config, log
    from edge_agent.journal import JournalError

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


if __name__ == "__main__":
    main()
