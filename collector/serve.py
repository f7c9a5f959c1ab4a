"""`collector serve`: flags, settings and log of the server, and its exit code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from collector import log
from collector.config import ConfigError, load
from collector.server import serve as run


def serve(arguments: Sequence[str]) -> int:
    """The exit code: 0 told to stop, 1 it cannot run as it is set, 130 Ctrl-C before it ran."""
    options = _parser().parse_args(arguments)
    try:
        settings = load(**vars(options))
        log.configure(style=settings.log, level=settings.log_level)
        run(settings, say=lambda line: print(line, flush=True))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        # Before the server listens to it.
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    """What is not given is None: the environment or the default decides."""
    parser = argparse.ArgumentParser(
        prog="collector serve", description="Run the collector until SIGTERM or Ctrl-C.", allow_abbrev=False
    )
    add = parser.add_argument
    add("--data-dir", type=Path, metavar="PATH", help="Where the database, lock and socket lie.")
    add("--database-url", metavar="URL", help="postgresql://... instead of SQLite in the data directory.")
    add("--listen", metavar="HOST:PORT", help="Port 0 takes a free one.")
    add("--tls-cert", type=Path, metavar="PATH", help="Certificate chain, PEM.")
    add("--tls-key", type=Path, metavar="PATH", help="Its key, PEM.")
    add("--allow-plain-http", action="store_const", const=True, help="When a proxy in front speaks TLS.")
    add("--public-url", metavar="URL", help="What people and gateways type, when that is not HOST:PORT.")
    add("--advertise", action="store_const", const=True, help="Let agents find it by --discover.")
    add("--log", metavar="STYLE", help="auto, json or text.")
    return parser
