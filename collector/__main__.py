"""The command line of the collector. On a gateway, where the collector's packages are missing, it says so."""

from __future__ import annotations

import sys


def main() -> None:
    try:
        from collector.cli import app
    except ModuleNotFoundError as error:
        sys.exit(
            f"{error.name} is not installed: the collector needs pip install 'warehouse-andon[collector]'"
        )
    app(prog_name="collector")


if __name__ == "__main__":
    main()
