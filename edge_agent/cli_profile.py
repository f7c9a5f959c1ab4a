"""The commands about profiles: new, check, try, list, schema."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Sequence
from enum import StrEnum
from math import inf
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from edge_agent import (
    config,
    device_table,
    log,
    profile,
    profile_draft,
    proof,
    rehearsal,
    visit,
    visit_view,
    what_if,
)
from edge_agent.config import ConfigError, ProfileFolders
from edge_agent.profile import Finding, Profile, ProfileError
from edge_agent.replay import Texts
from edge_agent.stand_in import StandInError
from edge_agent.terminal import console, refuse, say
from edge_agent.wire import ID_PATTERN

app = typer.Typer(
    no_args_is_help=True, help="Device profiles: begin, check and try one, list all, write the schema."
)

FileArgument = Annotated[Path, typer.Argument(help="a profile's YAML file")]
Drafted = StrEnum("Drafted", list(profile_draft.SPOKEN))  # type: ignore[misc]  # typer wants an enum


@app.command("new")
def new(
    name: Annotated[str, typer.Argument(help="of the profile; the file is NAME.yaml")],
    transport: Annotated[Drafted, typer.Option(help="what the device speaks; sparkplug: over mqtt")],
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


@app.command("try")
def try_it(
    file: FileArgument,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="no device: each example is said by a stand-in on this machine")
    ] = False,
    transport: Annotated[str | None, typer.Option(help="one of those of the profile")] = None,
    port: Annotated[str, typer.Option(help="path of the serial port; or, with --host, the TCP port")] = "",
    host: Annotated[str, typer.Option(help="name or address of the device or the broker")] = "",
    more: Annotated[
        list[str] | None,
        typer.Option("--bus", metavar="KEY=VALUE", help="another key of the [[bus]], such as baud=19200"),
    ] = None,
    unit: Annotated[int, typer.Option(min=0, max=255, help="Modbus unit id")] = 1,
    topic: Annotated[str, typer.Option(help="mqtt: what {topic} stands for")] = "",
    preset: Annotated[str | None, typer.Option(help="one of the profile's presets")] = None,
    seconds: Annotated[float, typer.Option(min=1, help="for how long a real device is read")] = 10,
    broker: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="with --simulate: a broker instead of our own")
    ] = None,
) -> None:
    """Run a profile: --simulate plays its examples over a real line; else a real device is read and nothing
    is changed on it.

    Exit code 1: an example does not come true, or the device does not answer.
    """
    log.configure(json=False, level=logging.ERROR)
    text, found = _read(file)
    try:
        if simulate:
            well = asyncio.run(_rehearse(text, found, transport, broker))
        else:
            _refuse_a_draft(file, text)
            table = _bus_table(found, transport, port, host, more or [])
            well = _visit(file, text, table, unit=unit, topic=topic, preset=preset, seconds=seconds)
    except (StandInError, ConfigError) as error:
        refuse(str(error))
    if not well:
        raise typer.Exit(1)


async def _rehearse(text: str, found: Profile, transport: str | None, broker: str | None) -> bool:
    chosen = rehearsal.choose(found, transport)
    say(f"{found.name}: {len(found.examples)} examples over {chosen}, said by a stand-in on this machine")
    problems = 0
    with Console(stderr=True).status("...") as status:
        async for one in rehearsal.rehearse(text, found.name, transport=chosen, broker=broker):
            problems += bool(one.problem)
            words = f"examples[{one.number}] {one.example.condition}"
            say(f"  {words}: {one.problem or 'not raised, raised, cleared'}")
            if one.problem:
                for line in visit_view.raw(one.device, one.came):
                    say(f"      {line}")
            status.update(f"after {words} ...")
    say(f"{found.name}: {problems or 'no'} problem{'' if problems == 1 else 's'}.")
    return not problems


def _refuse_a_draft(file: Path, text: str) -> None:
    """A question that nobody has found in a manual is not put to a device."""
    left = profile_draft.placeholders(text)
    if left:
        say(f"{file} is a draft; nothing is asked of a device before it is filled in (or try --simulate):")
        _refuse(file, left)


def _bus_table(
    found: Profile, transport: str | None, port: str, host: str, more: Sequence[str]
) -> dict[str, object]:
    """The ``[[bus]]`` of what was typed. Raises ConfigError."""
    if not (port or host or more):
        raise ConfigError(
            "expected: --simulate, or the device: --port /dev/..., --host NAME, or --bus KEY=VALUE"
        )
    chosen = transport or _spoken(found, over_a_net=bool(host))
    table: dict[str, object] = {"name": "try", "transport": chosen}
    if host:
        table["host"] = host
    if port:
        table["port"] = int(port) if port.isdigit() else port
        if chosen == "modbus" and not port.isdigit():
            table["mode"] = "rtu"
    for typed in more:
        key, equals, value = typed.partition("=")
        if not equals:
            raise ConfigError(f"--bus {typed}: KEY=VALUE is expected")
        table[key.strip()] = what_if.value(value)
    return table


def _spoken(found: Profile, *, over_a_net: bool) -> str:
    """What is meant when nobody says the transport."""
    serial = [one for one in found.transports if one == "serial"]
    others = [one for one in found.transports if one != "serial"]
    return [*others, *serial][0] if over_a_net else [*serial, *others][0]


def _visit(
    file: Path,
    text: str,
    table: dict[str, object],
    *,
    unit: int,
    topic: str,
    preset: str | None,
    seconds: float,
) -> bool:
    written = {"id": "device", "bus": "try", "profile": file.stem, "unit": unit, "topic": topic}
    if preset is not None:
        written["preset"] = preset
    tables = {"bus": [table], "device": [written]}
    settings = config.of_tables(file, tables, Texts({file.stem: text}))
    (bus,), (device,) = settings.buses, settings.devices
    say(f"reading {bus.line.words} for {seconds:g} s; nothing is changed on the device")
    with Console(stderr=True).status("...") as status:
        seen = asyncio.run(
            visit.visit(
                bus,
                device,
                seconds=seconds,
                tell=lambda now: status.update(f"{now.readings.total()} readings, {len(now.raised)} raised"),
            )
        )
    for line in visit_view.lines(seen):
        say(line)
    return seen.answered


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
        typer.echo(device_table.table(found, _proven()))
        return
    table = Table("profile", "device", "transports", "conditions", "evidence")
    for one in found:
        table.add_row(one.name, one.title, ", ".join(one.transports), str(len(one.conditions)), one.evidence)
    console.print(table)


def _proven() -> device_table.Record:
    file = config.shipped_profiles() / device_table.RECORD
    try:
        return device_table.read(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        refuse(f"{file} cannot be read: {error}")


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
    try:
        file.write_text(wanted, encoding="utf-8")
    except OSError as error:
        refuse(f"{file}: cannot be written: {error.strerror}; it belongs to whoever installed the agent")
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
