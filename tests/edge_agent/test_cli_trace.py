"""`edge-agent replay` as it is typed: what it prints, its exit codes, and how it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rigs.commands import typed, typed_here
from rigs.traces import Tape, jammed


@pytest.fixture
def jam(tmp_path: Path) -> Path:
    return jammed().written(tmp_path / "jam.gz")


def test_a_replay_is_a_table_and_a_timeline(jam: Path) -> None:
    shown = typed_here("replay", jam, code=0)
    assert "from 2026-01-05 06:00:00 UTC, 29 s, 13 readings of 1 device" in shown
    (row,) = [line for line in shown.splitlines() if "belt/jam" in line and "stop" in line]
    assert row.split() == [
        *("0:00:02.0", "0:00:02.0", "0:00:10.0", "8", "s"),
        *("stop", "belt-1", "belt/jam", "Jam"),
    ]
    (bar,) = [line for line in shown.splitlines() if line.startswith("belt-1 motor/overload  ")]
    assert bar.endswith("█")
    assert "·░" in bar
    assert "░█" in bar


def test_what_a_change_would_have_changed_is_shown_and_is_exit_code_1(jam: Path) -> None:
    shown = typed_here(
        "replay", jam, "--set", "belt/jam.on_delay=9s", "--set", "overload.on_delay=2s", code=1
    )
    assert "What the change of the rules changes: 2" in shown
    assert "gone     0:00:02.0 belt-1 belt/jam" in shown
    assert "earlier  0:00:22.0 belt-1 motor/overload by 3 s" in shown


def test_a_change_that_changes_nothing_is_exit_code_0(jam: Path) -> None:
    assert "changes: nothing" in typed_here("replay", jam, "--set", "belt/jam.on_delay_s=0", code=0)


def test_another_text_of_a_profile_is_named_by_its_file(jam: Path, tmp_path: Path) -> None:
    file = tmp_path / "conveyor.yaml"
    file.write_text(jammed().header.profiles["conveyor"].replace("limit: 10", "limit: 20"))
    assert "gone     0:00:25.0 belt-1 motor/overload" in typed_here("replay", jam, "--profile", file, code=1)
    lift = tmp_path / "lift.yaml"
    lift.write_text(file.read_text())
    assert "there are: conveyor" in typed_here("replay", jam, "--profile", lift, code=2)


def test_json_is_for_scripts(jam: Path) -> None:
    found = json.loads(typed_here("replay", jam, "--json", "--set", "on_delay=9s", code=1))
    assert found["readings"] == 13
    assert [(one["fault"], one["raised_s"]) for one in found["occurrences"]] == [("overload", 29.0)]
    assert [(one["what"], one["by_s"]) for one in found["differences"]] == [("gone", 0.0), ("later", 4.0)]


def test_a_field_report_becomes_a_test_case(jam: Path, tmp_path: Path) -> None:
    case = tmp_path / "cases" / "jam-in-hall-2"
    assert "wrote" in typed_here("replay", jam, "--case", case, code=0)
    assert sorted(file.name for file in case.iterdir()) == ["README.md", "expected.json", "trace.gz"]
    expected = json.loads((case / "expected.json").read_text())
    assert [one["fault"] for one in expected["occurrences"]] == ["jam", "overload"]
    typed_here("replay", case / "trace.gz", "--expect", case / "expected.json", code=0)
    (case / "README.md").write_text("A parcel lay across.\n")
    typed_here("replay", case / "trace.gz", "--case", case, code=0)
    assert (case / "README.md").read_text() == "A parcel lay across.\n"


def test_what_is_not_expected_is_shown_and_is_exit_code_1(jam: Path, tmp_path: Path) -> None:
    typed_here("replay", jam, "--case", tmp_path / "case", "--set", "belt/jam.on_delay=9s", code=1)
    shown = typed_here("replay", jam, "--expect", tmp_path / "case" / "expected.json", code=1)
    assert "new      0:00:02.0 belt-1 belt/jam" in shown


def test_what_is_to_be_known_before_it_is_believed_is_said(tmp_path: Path) -> None:
    tape = Tape().status().missing(12).says("weight", b"1").status()
    file = tape.written(tmp_path / "short.gz")
    file.write_bytes(file.read_bytes()[:-14])
    shown = typed_here("replay", file, code=0)
    assert "12 readings are missing" in shown
    assert "1 readings are of a read that these profiles do not have" in shown
    assert "The trace is cut off" in shown
    assert "No occurrence." in shown


def test_a_terminal_obeys_nothing_that_stands_in_a_trace(tmp_path: Path) -> None:
    tape = Tape().status()
    tape.lines[0] = tape.lines[0].replace(b'"agent":"0.1.0"', b'"agent":"\\u001b[2J\\u001b]0;owned"')
    shown = typed_here("replay", tape.written(tmp_path / "evil.gz"), code=0)
    assert "edge-agent \\x1b[2J\\x1b]0;owned" in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing.gz"], "nothing.gz: cannot be read: No such file or directory"),
        (["jam.gz", "--set", "belt/jamm.on_delay=5s"], "there is no 'belt/jamm.on_delay'"),
        (["jam.gz", "--set", "belt/jam.on_delay_x=5"], "unknown key; expected one of fault, component"),
        (["jam.gz", "--expect", "nothing.json"], "nothing.json: cannot be read"),
        (["jam.gz", "--expect", "jam.gz"], "the occurrences of a replay are expected"),
        (["jam.gz", "--profile", "nothing.yaml"], "nothing.yaml: cannot be read"),
        (["jam.gz", "--case", "jam.gz"], "jam.gz: cannot be written: File exists"),
    ],
)
def test_what_cannot_be_is_refused_in_words(
    jam: Path, words: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(jam.parent)
    assert said in typed_here("replay", *words, code=2)


async def test_the_program_itself_says_the_same_and_ends_with_the_same_code(jam: Path) -> None:
    assert "No occurrence" not in await typed("replay", jam)
    assert "gone" in await typed("replay", jam, "--set", "on_delay=9s", code=1)
    assert "cannot be read" in await typed("replay", jam.parent / "nothing.gz", code=2)
