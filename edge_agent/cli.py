"""The commands an installer types: check, ports, enroll, journal, profile.

`run` is in run.py, `record` and `replay` in cli_trace.py, `profile` in cli_profile.py.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn

from edge_agent import cli_profile, cli_trace, config, credential, journal_view, plan, ports, roots
from edge_agent.config import ConfigError, Settings
from edge_agent.journal_caps import MIB
from edge_agent.journal_disk import ballast_at_most
from edge_agent.journal_file import JournalError
from edge_agent.provision import discover
from edge_agent.provision import enroll as enrolment
from edge_agent.terminal import console, say
from edge_agent.terminal import refuse as _refuse

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    # Local variables hold secrets.
    pretty_exceptions_enable=False,
    help="Watches warehouse equipment and reports faults.",
)
app.add_typer(cli_profile.app, name="profile")
app.command()(cli_trace.record)
app.command()(cli_trace.replay)

ConfigOption = Annotated[Path, typer.Option("--config", help="agent.toml")]


@app.command(
    add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_extra_args": True}
)
def run(context: typer.Context) -> None:
    """Watch the equipment until stopped."""
    from edge_agent.run import run as run_agent

    raise typer.Exit(run_agent(context.args))


@app.command()
def check(config_file: ConfigOption = config.DEFAULT_FILE) -> None:
    """Validate agent.toml and print what will be read from each bus, and how fast."""
    try:
        settings = config.load(config_file)
        config.check_ca_file(config_file, settings.collector)
        _check_as_the_agent(settings)
        enrolled = _enrolled(settings)
    except ConfigError as error:
        _refuse(str(error))
    for bus in settings.buses:
        devices = settings.on_bus(bus.name)
        console.print(
            f"[bold]{bus.name}[/] ({bus.transport}): {len(devices)} device(s)",
            highlight=False,
            soft_wrap=True,
        )
        for line in plan.plan(bus, devices).lines():
            console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
        for hint in bus.hints():
            console.print(f"  hint: {hint}", highlight=False, markup=False, soft_wrap=True)
    for line in roots.in_words(settings.tree(settings.agent.gateway or "")):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print(enrolled, highlight=False, markup=False, soft_wrap=True)
    console.print(
        f"{config_file}: {len(settings.buses)} buses, {len(settings.devices)} devices, no fault found.",
        highlight=False,
        soft_wrap=True,
    )


@app.command("ports")
def list_ports() -> None:
    """List the serial ports of this machine, each by the name to write in agent.toml."""
    found = ports.found()
    if not found:
        _refuse("no serial port is there; plug the adapter in, and see `dmesg` if that changes nothing")
    for port in found:
        words = f", {port.words}" if port.words else ""
        name = f'port = "{port.lasting}"' if port.lasting else "has no name that stays: is udev running?"
        console.print(f"{name}  # now {port.node}{words}", highlight=False, markup=False, soft_wrap=True)


@app.command()
def enroll(
    words: Annotated[
        list[str], typer.Argument(metavar="[URL] TOKEN", help="the collector's address and the one-off token")
    ],
    discover_it: Annotated[bool, typer.Option("--discover", help="find the collector by zeroconf")] = False,
    data_dir: Annotated[
        Path | None, typer.Option(help="where the credential is kept; as agent.toml says")
    ] = None,
    config_file: ConfigOption = config.DEFAULT_FILE,
    ca_file: Annotated[Path | None, typer.Option(help="PEM file of a private CA")] = None,
    allow_plain_http: Annotated[
        bool, typer.Option("--allow-plain-http", help="http off loopback; for tests alone")
    ] = False,
) -> None:
    """Exchange a one-off token for this gateway's own credential. May be repeated after a lost reply."""
    if len(words) != (1 if discover_it else 2):
        _refuse("expected: edge-agent enroll URL TOKEN, or: edge-agent enroll --discover TOKEN")
    try:
        collector, said = config.own_tables(config_file)
    except ConfigError as error:
        _refuse(str(error))
    kept_in = data_dir or said.data_dir
    url = _discover() if discover_it else words[0]
    try:
        made = enrolment.enroll(
            url=url,
            token=words[-1],
            data_dir=kept_in,
            site=said.site,
            gateway=said.gateway,
            ca_file=ca_file,
            allow_plain_http=allow_plain_http,
        )
    except enrolment.EnrollError as error:
        _refuse(str(error))
    console.print(
        f"Enrolled as {made.site}/{made.gateway} at {made.url}; "
        f"the credential is in {kept_in / credential.FILE}.",
        highlight=False,
        soft_wrap=True,
    )
    if ca_file is not None and collector.ca_file is None:
        say(
            f"The agent does not know this authority yet. In {config_file}, under [collector], write: "
            f"ca_file = {json.dumps(str(ca_file.absolute()))}"
        )


@app.command()
def journal(config_file: ConfigOption = config.DEFAULT_FILE) -> None:
    """Print what journal and evidence hold, how full they are and what they gave up, whether the agent runs
    or not.
    """
    try:
        settings = config.load(config_file)
        data_dir = settings.agent.data_dir
        view = journal_view.read(data_dir)
        disk_bytes = shutil.disk_usage(data_dir).total
    except (ConfigError, JournalError) as error:
        _refuse(str(error))
    wanted = settings.journal
    ballast_bytes = ballast_at_most(wanted.ballast_mib * MIB, disk_bytes)
    recorded_bytes = settings.evidence.max_bytes(disk_bytes)
    for line in journal_view.lines(view, wanted.caps(disk_bytes), ballast_bytes, recorded_bytes):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _check_as_the_agent(settings: Settings) -> None:
    """What root may read the agent may not. It runs as whoever owns its data. Raises ConfigError."""
    data_dir = settings.agent.data_dir
    try:
        agent = pwd.getpwuid(data_dir.stat().st_uid)
    except (OSError, KeyError):
        return
    if os.geteuid() != 0 or agent.pw_uid == 0:
        return
    for key, file in (("", settings.path), ("collector.ca_file: ", settings.collector.ca_file)):
        if file is not None and not _may_read(agent, file):
            raise ConfigError(
                f"{settings.path}: {key}{file} may not be read by {agent.pw_name}, "
                f"as whom the agent runs: {data_dir} belongs to it"
            )


def _may_read(user: pwd.struct_passwd, file: Path) -> bool:
    groups = os.getgrouplist(user.pw_name, user.pw_gid)
    asked = subprocess.run(  # noqa: S603
        ["/usr/bin/test", "-r", file], user=user.pw_uid, group=user.pw_gid, extra_groups=groups, check=False
    )
    return asked.returncode == 0


def _enrolled(settings: Settings) -> str:
    """How this gateway is enrolled, in words. Raises ConfigError when agent.toml says something else."""
    agent = settings.agent
    try:
        enrolled = credential.load(agent.data_dir)
    except PermissionError as error:
        return f"{error.filename}: not looked at: {error.strerror}"
    except (OSError, ValueError) as error:
        raise ConfigError(str(error)) from error
    if enrolled is None:
        return "Not enrolled yet: edge-agent enroll URL TOKEN"
    if wrong := credential.contradiction(enrolled, site=agent.site, gateway=agent.gateway):
        raise ConfigError(f"{settings.path}: {wrong}")
    return f"Enrolled as {enrolled.site}/{enrolled.gateway} at {enrolled.url}."


def _discover() -> str:
    with Progress(
        SpinnerColumn(), TextColumn("looking for a collector on this network ..."), transient=True
    ) as progress:
        progress.add_task("discover")
        try:
            found = discover.collectors()
        except discover.DiscoverError as error:
            _refuse(f"{error}; give the collector's URL")
    if not found:
        _refuse("no collector answered on this network; start it with --advertise, or give its URL")
    if len(found) > 1:
        _refuse(f"more than one collector answered: {', '.join(found)}; give the URL of the right one")
    console.print(f"found {found[0]}", highlight=False, soft_wrap=True)
    return found[0]
