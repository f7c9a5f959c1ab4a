"""How the commands of an installer speak; what needs a person goes to stderr, with exit code 2."""

from __future__ import annotations

from typing import NoReturn

import typer
from rich.console import Console

console = Console()


def say(text: str) -> None:
    """One line as it is, however long."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def refuse(text: str) -> NoReturn:
    typer.echo(text, err=True)
    raise typer.Exit(2)
