"""The commands about profiles: new, check, try, list, schema."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from math import inf
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.table import Table

from edge_agent import config, profile, profile_draft, proof
from edge_agent.config import ConfigError, ProfileFolders
from edge_agent.profile import Finding, Profile, ProfileError
from edge_agent.terminal import console, refuse, say
from edge_agent.wire import ID_PATTERN

app = typer.Typer(
    no_args_is_help=True, help="Device profiles: begin, check and try one, list all, write the schema."
)

FileArgument = Annotated[Path, typer.Argument(help="a profile's YAML file")]
Drafted = StrEnum("Drafted", list(profile_draft.TRANSPORTS))  # type: ignore[misc]  # typer wants an enum


@app.command("new")
def new(
    name: Annotated[str, typer.Argument(help="of the profile; the file is NAME.yaml")],
    transport: Annotated[Drafted, typer.Option(help="what the device speaks over")],
    folder: Annotated[Path, typer.Option(help="where the file is written")] = Path(),
) -> None:
    """Write a starting file for a new device: valid, commented, a TODO wherever the manual has to speak."""
    if not re.fullmatch(ID_PATTERN, name) or not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
        refuse(f"{name!r}: a name is small letters, digits and hyphens, for example acme-conveyor")
    file = folder / f"{name}.yaml"
    try:
        with file.open("x", encoding="utf-8") as new_file:
            new_file.write(profile_draft.draft(name, transport.value))
    except FileExistsError:
        refuse(f"{file} is there already")
    except OSError as error:
        refuse(f"{file}: cannot be written: {error.strerror or error}")
    say(f"wrote {file}")
    say(f"Fill in what is marked TODO, then: edge-agent profile check {file}")


@app.command("check")
def check(file: FileArgument) -> None:
    """Say whether a profile is valid, whole and its examples are true; if not: FILE:LINE:COLUMN and what was
    expected.
    """
    text, found = _read(file)
    problems = [*proof.problems(text, name=file.stem), *profile_draft.placeholders(text)]
    if problems:
        _refuse(file, problems)
    say(f"{file}: {len(found.conditions)} conditions, {len(found.examples)} examples, no fault found.")


@app.command("list")
def list_all(
    profiles_dir: Annotated[Path | None, typer.Option(help="a site's own profiles")] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="the device table of docs/profiles.md")
    ] = False,
) -> None:
    """List the profiles that a device may name."""
    try:
        folders = ProfileFolders.of(profiles_dir)
        found = [folders.load(name) for name in folders.names()]
    except (ConfigError, ProfileError) as error:
        refuse(str(error))
    if markdown:
        typer.echo(profile.device_table(found))
        return
    table = Table("profile", "device", "transports", "conditions", "evidence")
    for one in found:
        table.add_row(one.name, one.title, ", ".join(one.transports), str(len(one.conditions)), one.evidence)
    console.print(table)


@app.command("schema")
def schema(
    check_it: Annotated[
        bool, typer.Option("--check", help="only say whether the file is up to date")
    ] = False,
) -> None:
    """Write the JSON Schema of profiles, for editors, beside the shipped ones."""
    file = config.shipped_profiles() / "profile.schema.json"
    wanted = profile.json_schema()
    if check_it:
        if not file.exists() or file.read_text(encoding="utf-8") != wanted:
            refuse(f"{file} is not what the models say; run: edge-agent profile schema")
        return
    file.write_text(wanted, encoding="utf-8")
    say(f"wrote {file}")


def _read(file: Path) -> tuple[str, Profile]:
    try:
        text = file.read_text(encoding="utf-8")
        return text, profile.parse(text, name=file.stem)
    except (OSError, UnicodeDecodeError) as error:
        refuse(f"{file}: cannot be read: {error}")
    except ProfileError as error:
        _refuse(file, error.findings)


def _refuse(file: Path, findings: Sequence[Finding]) -> NoReturn:
    """As compilers do, so that an editor leads to the place."""
    by_place = sorted(findings, key=lambda one: one.place or (inf, inf))
    refuse("\n".join(f"{file}:{_at(one)} {one.text}" for one in by_place))


def _at(finding: Finding) -> str:
    return f"{finding.place.line}:{finding.place.column}:" if finding.place else ""
