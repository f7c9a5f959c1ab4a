"""`collector serve`: flags, settings and log of the server, and its exit code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from collector import log
from collector.config import DATA_DIR_HELP, DATABASE_URL_HELP, ConfigError, load
from collector.server import serve as run


def serve(arguments: Sequence[str]) -> int:
    """The exit code: 0 told to stop, 1 it cannot run as it is set."""
    parser = _parser()
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.error(_unknown(unknown, [f"--{name.replace('_', '-')}" for name in vars(options)]))
    try:
        settings = load(**vars(options))
        log.configure(style=settings.log, level=settings.log_level)
        run(settings, say=lambda line: print(line, flush=True))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _unknown(words: Sequence[str], options: Sequence[str]) -> str:
    """Without values: one of them may be the password of a database."""
    from difflib import get_close_matches

    for word in words:
        if word.startswith("--"):
            name = word.partition("=")[0]
            near = get_close_matches(name, options, 1)
            return f"no such option: {name}" + (f" (did you mean {near[0]}?)" if near else "")
    return "serve takes nothing but options"


def _parser() -> argparse.ArgumentParser:
    """What is not given is None: the environment or the default decides."""
    parser = argparse.ArgumentParser(
        prog="collector serve", description="Run the collector until SIGTERM or Ctrl-C.", allow_abbrev=False
    )
    add = parser.add_argument
    add("--data-dir", type=Path, metavar="PATH", help=DATA_DIR_HELP)
    add("--database-url", metavar="URL", help=DATABASE_URL_HELP)
    add("--listen", metavar="HOST:PORT", help="Port 0 takes a free one.")
    add("--tls-cert", type=Path, metavar="PATH", help="Certificate chain, PEM.")
    add("--tls-key", type=Path, metavar="PATH", help="Its key, PEM.")
    add("--allow-plain-http", action="store_const", const=True, help="When a proxy in front speaks TLS.")
    add("--public-url", metavar="URL", help="What people and gateways type, when that is not HOST:PORT.")
    add("--advertise", action="store_const", const=True, help="Let agents find it by --discover.")
    add("--log", metavar="STYLE", help="auto, json or text.")
    return parser
