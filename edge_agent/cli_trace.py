"""The commands about traces: replay."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from edge_agent import log, replay_view, trace_case, trace_file, what_if
from edge_agent import replay as replaying
from edge_agent.config import ConfigError
from edge_agent.replay import Replayed
from edge_agent.terminal import console, refuse, say
from edge_agent.trace import Header, TraceError, t_s
from edge_agent.trace_case import CaseError
from edge_agent.what_if import ChangeError, Difference, Shown
from edge_agent.wire import Stamp

# Readings between two signs of life on the terminal.
TELL_EVERY = 1_000
TIMELINE_AT_MOST = 160


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
