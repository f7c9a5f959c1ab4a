"""The command line of the edge agent. `run` goes its own way: it loads no help texts and no tables."""

from __future__ import annotations

import sys


def main() -> None:
    if sys.argv[1:2] == ["run"]:
        from edge_agent.run import run

        sys.exit(run(sys.argv[2:]))
    from edge_agent.cli import app

    app(prog_name="edge-agent")


if __name__ == "__main__":
    main()
