"""The command line of the collector. On a gateway, where the collector's packages are missing, it says so."""

from __future__ import annotations

import sys


def main() -> None:
    # structlog would load it for tracebacks that show the values of variables, secrets among them: 3 MB.
    sys.modules["rich"] = None  # type: ignore[assignment]  # Python's sign for "not to be had"
    try:
        from collector.cli import app
    except ModuleNotFoundError as error:
        sys.exit(
            f"{error.name} is not installed: the collector needs pip install 'warehouse-andon[collector]'"
        )
    # Help texts are drawn with it.
    del sys.modules["rich"]
    app(prog_name="collector")


if __name__ == "__main__":
    main()
