"""How the commands of an installer speak; what needs a person goes to stderr, with exit code 2."""

from __future__ import annotations

from typing import NoReturn

import typer
from rich.console import Console

from edge_agent.decode import escaped

console = Console()


def say(text: str) -> None:
    """One line as it is, however long."""
    console.print(_plain(text), highlight=False, markup=False, soft_wrap=True)


def refuse(text: str) -> NoReturn:
    typer.echo(_plain(text), err=True)
    raise typer.Exit(2)


def _plain(text: str) -> str:
    """Without what a terminal would obey: a trace or a profile may come from anywhere."""
    return "".join(
        one if one.isprintable() or one == "\n" else escaped(one.encode("utf-8", "replace")) for one in text
    )
