"""The command line of the collector. On a gateway, where the collector's packages are missing, it says so.

`serve` goes its own way: it loads neither the other commands nor the library that parses theirs, 2 MB.
"""

from __future__ import annotations

import sys

# structlog would load rich for tracebacks that show the values of variables, secrets among them: 3 MB.
# FastAPI would load the old Pydantic, to ask of each model whether it is one of that: 1.5 MB.
# None is Python's sign for "not to be had".
LEFT_OUT = dict.fromkeys(("rich", "pydantic.v1"))
# As a shell counts: 128 and the number of the signal.
INTERRUPTED = 130


def main() -> None:
    try:
        _main()
    except KeyboardInterrupt:
        # While it loads, a second or two, or waits for its database.
        sys.exit(INTERRUPTED)


def _main() -> None:
    sys.modules |= LEFT_OUT  # type: ignore[arg-type]
    serves = sys.argv[1:2] == ["serve"]
    try:
        if serves:
            from collector.serve import serve
        else:
            from collector.cli import app
    except ModuleNotFoundError as error:
        sys.exit(
            f"{error.name} is not installed: the collector needs pip install 'warehouse-andon[collector]'"
        )
    if serves:
        sys.exit(serve(sys.argv[2:]))
    # Help texts are drawn with it.
    del sys.modules["rich"]
    app(prog_name="collector")


if __name__ == "__main__":
    main()
