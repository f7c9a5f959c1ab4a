"""The commands about traces: record, replay."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from edge_agent import config, log, replay_view, trace_case, trace_file, what_if
from edge_agent import record as recording
from edge_agent import replay as replaying
from edge_agent.config import ConfigError, Settings
from edge_agent.record import Ended, Progress, RecordError
from edge_agent.replay import Replayed
from edge_agent.terminal import console, refuse, say
from edge_agent.trace import Header, TraceError, t_s
from edge_agent.trace_case import CaseError
from edge_agent.what_if import ChangeError, Difference, Shown
from edge_agent.wire import Stamp

# Readings between two signs of life on the terminal.
TELL_EVERY = 1_000
TIMELINE_AT_MOST = 160


def record(
    file: Annotated[Path, typer.Argument(metavar="TRACE", help="the file to write, for example jam.gz")],
    config_file: Annotated[Path, typer.Option("--config", help="agent.toml")] = config.DEFAULT_FILE,
    devices: Annotated[
        list[str] | None, typer.Option("--device", metavar="ID", help="only this device; may be repeated")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=1, help="stop after so many; without it, with Ctrl-C")
    ] = None,
    max_mib: Annotated[int, typer.Option(min=1, max=65_536, help="stop when the file has so many MiB")] = 64,
) -> None:
    """Record what devices say, until Ctrl-C. Hears the agent that runs, or opens the buses when none does.

    Exit code 1: the agent stopped or the disk is full; the file has what came until then.
    """
    log.configure(json=False, level=logging.WARNING)
    try:
        settings = config.load(config_file)
        done = asyncio.run(_record(settings, file, devices or [], seconds, max_mib))
    except (ConfigError, RecordError) as error:
        refuse(str(error))
    except FileExistsError:
        refuse(f"{file} is there already; give another name")
    except OSError as error:
        refuse(f"{file}: cannot be written: {error.strerror or error}")
    say(f"{file}: {done.ended}; {_progress(done)}")
    if silent := [device for device, count in done.readings.items() if not count]:
        say(f"Nothing came of {', '.join(silent)}.")
    if done.missing:
        say(f"{done.missing} readings are missing: this disk was too slow for them.")
    say(f"To see what it would raise: edge-agent replay {file}")
    if done.ended in (Ended.AGENT_GONE, Ended.DISK_SHORT, Ended.DISK_FULL):
        raise typer.Exit(1)


async def _record(
    settings: Settings, file: Path, devices: Sequence[str], seconds: float | None, max_mib: int
) -> Progress:
    told = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    with Console(stderr=True).status("recording ...") as status:
        said = False

        def tell(progress: Progress) -> None:
            nonlocal said
            if not said:
                say(
                    "The agent that runs is heard; it is not disturbed. Ctrl-C ends the recording."
                    if progress.live
                    else "No agent runs here: the buses are opened. Nothing is detected meanwhile. "
                    "Ctrl-C ends the recording."
                )
            said = True
            status.update(_progress(progress))

        return await recording.record(
            settings,
            file,
            devices=devices,
            seconds=seconds,
            max_bytes=max_mib << 20,
            told=told,
            tell=tell,
        )


def _progress(progress: Progress) -> str:
    kib = -(-progress.packed_bytes // 1024)
    number = len(progress.readings)
    devices = "1 device" if number == 1 else f"{number} devices"
    return f"{progress.readings.total()} readings of {devices}, {kib} KiB"


def replay(
    file: Annotated[Path, typer.Argument(metavar="TRACE", help="what `edge-agent record` wrote")],
    profiles: Annotated[
        list[Path] | None,
        typer.Option(
            "--profile", metavar="FILE", help="another text of a profile; its devices are read by it"
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="[DEVICE:]KEY=VALUE",
            help="another value: belt/jam.on_delay_s=5, on_delay=5s for all, or any key of device.set",
        ),
    ] = None,
    expect: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="the occurrences that are to come of it (expected.json)"),
    ] = None,
    case: Annotated[
        Path | None,
        typer.Option("--case", metavar="FOLDER", help="make a test case: trace, expected.json, README.md"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="for scripts")] = False,
) -> None:
    """Show the occurrences that a trace would have raised, and what other rules would change.

    Exit code 0: done, nothing differs. 1: --profile, --set or --expect make a difference.
    """
    log.configure(json=False, level=logging.ERROR)
    try:
        rules = trace_file.opened(file).header
        first = _played(file, rules)
        before = what_if.shown(first.rows)
        other = _other_rules(rules, profiles or [], changes or [])
        second = first if other is rules else _played(file, other)
        after = what_if.shown(second.rows)
        end_s = t_s(first.end)
        changed = [] if other is rules else what_if.differences(before, after, end_s=end_s)
        unexpected = (
            [] if expect is None else what_if.differences(trace_case.expectation(expect), after, end_s=end_s)
        )
        if case is not None:
            trace_case.write(case, file, second)
    except (TraceError, ConfigError, ChangeError, CaseError) as error:
        refuse(str(error))
    if as_json:
        found = replay_view.document(str(file), rules, second)
        if other is not rules:
            found["differences"] = replay_view.difference_entries(changed)
        if expect is not None:
            found["unexpected"] = replay_view.difference_entries(unexpected)
        typer.echo(trace_case.dumped(found), nl=False)
    else:
        _show(file, rules, second, after)
        if other is not rules:
            _show_differences("What the change of the rules changes", changed)
        if expect is not None:
            _show_differences(f"What {expect} does not expect", unexpected)
        if case is not None:
            say(
                f"wrote {case / trace_case.TRACE}, {trace_case.EXPECTED} and {trace_case.README}; "
                "say in the last one what happened"
            )
    if changed or unexpected:
        raise typer.Exit(1)


def _played(file: Path, rules: Header) -> Replayed:
    trace = trace_file.opened(file)
    with Console(stderr=True).status(f"replaying {file} ...") as status:
        return asyncio.run(replaying.play(trace, rules, tell=_sign_of_life(file, status.update)))


def _sign_of_life(file: Path, update: Callable[[str], None]) -> Callable[[Stamp], None]:
    heard = 0

    def tell(at: Stamp) -> None:
        nonlocal heard
        heard += 1
        if heard % TELL_EVERY == 0:
            update(f"replaying {file}: {replay_view.offset(t_s(at))}, {heard} readings ...")

    return tell


def _other_rules(rules: Header, files: Sequence[Path], changes: Sequence[str]) -> Header:
    for file in files:
        try:
            rules = what_if.with_profile(rules, file.stem, file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise ChangeError(f"{file}: cannot be read: {error}") from error
    for typed in changes:
        rules = what_if.with_change(rules, typed)
    return rules


def _show(file: Path, rules: Header, replayed: Replayed, occurrences: Sequence[Shown]) -> None:
    for line in replay_view.head(str(file), rules, replayed):
        say(line)
    end_s = t_s(replayed.end)
    if not occurrences:
        say("No occurrence.")
        return
    for line in replay_view.table(occurrences, end_s):
        say(line)
    say("")
    for line in replay_view.timeline(occurrences, end_s, min(console.width, TIMELINE_AT_MOST)):
        say(line)


def _show_differences(title: str, found: Sequence[Difference]) -> None:
    say(f"{title}: {'nothing' if not found else len(found)}")
    for line in replay_view.difference_lines(found):
        say(f"  {line}")
