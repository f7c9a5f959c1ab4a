"""The command line of the edge agent. `run` goes its own way: it loads no help texts and no tables."""

from __future__ import annotations

import sys

# structlog loads what it would draw tracebacks with, the values of variables and secrets among them; httpx a
# command line of its own: 6 MB for as long as the agent runs. None is Python's sign for "not to be had".
LEFT_OUT = dict.fromkeys(("rich", "pygments", "click"))
# As a shell counts: 128 and the number of the signal.
INTERRUPTED = 130


def main() -> None:
    try:
        _main()
    except KeyboardInterrupt:
        # While it loads, a second or two.
        sys.exit(INTERRUPTED)


def _main() -> None:
    if sys.argv[1:2] == ["run"]:
        sys.modules |= LEFT_OUT  # type: ignore[arg-type]
        from edge_agent.run import run

        sys.exit(run(sys.argv[2:]))
    from edge_agent.cli import app

    app(prog_name="edge-agent")


if __name__ == "__main__":
    main()
