"""`edge-agent profile new` and `check`: from nothing to a profile, with messages that lead to the place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from rigs.commands import typed, typed_here

from edge_agent import profile_draft, proof
from edge_agent.plain_yaml import Place
from edge_agent.profile import parse

every_kind = pytest.mark.parametrize("kind", profile_draft.SPOKEN)
# What is laid down for every device of the kind.
STANDARDS = ("RFC 8011, ", "Sparkplug 3.0.0, ")
LAID_DOWN = {"sparkplug": ["Edge node has left the broker", "Device is gone, its node is there"]}


@every_kind
def test_a_draft_is_valid_and_its_examples_are_true(kind: str) -> None:
    text = profile_draft.draft("acme-belt", kind)
    found = parse(text, name="acme-belt")
    assert ("mqtt" if kind == "sparkplug" else kind) in found.transports
    assert proof.problems(text, name="acme-belt") == ()


@every_kind
def test_nothing_in_a_draft_claims_to_come_from_a_device(kind: str) -> None:
    """Each source, title and advice, and each line with an address, a query, a field or a limit is marked."""
    text = profile_draft.draft("acme-belt", kind)
    found = parse(text, name="acme-belt")
    said = [found.title, found.maker, *found.models, found.source]
    said += [signal.source for signal in found.signals.values()]
    said += [text for condition in found.conditions for text in (condition.title, condition.advice)]
    unmarked = [one for one in said if profile_draft.MARK not in one and not one.startswith(STANDARDS)]
    assert unmarked == LAID_DOWN.get(kind, [])
    assert found.evidence == "simulated"
    facts = re.compile(
        r"^ +\w+: \{(function|send|topic|attributes|read)|^    (each|trips):|^    when: \{above|^framing:"
    )
    laid_down = re.compile(r"(format: sparkplug|\"(RFC 8011|Sparkplug 3.0.0), .*\")\}$|\"offline\"\}'\}$")
    lines = [line for line in text.splitlines() if facts.match(line) and not laid_down.search(line)]
    assert len(lines) >= 5
    assert [line for line in lines if profile_draft.MARK not in line] == []


def test_what_is_left_is_named_with_its_place() -> None:
    text = (
        'maker: "TODO: who makes it"\nlimit: 3  # TODO: the limit\nlevel: 1 # TODO\n# MASTODONs are no mark\n'
    )
    found = profile_draft.placeholders(text)
    assert [(one.place, one.text) for one in found] == [
        (Place(1, 9), "still to be filled in: who makes it"),
        (Place(2, 13), "still to be filled in: the limit"),
        (Place(3, 12), "still to be filled in: what is marked TODO"),
    ]


@every_kind
def test_a_draft_is_refused_until_the_last_place_is_filled_in(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "acme-belt.yaml"
    said = typed_here("profile", "new", "acme-belt", "--transport", kind, "--folder", tmp_path)
    assert f"edge-agent profile check {file}" in said
    left = typed_here("profile", "check", file, code=2)
    assert re.search(rf"^{file}:5:9: still to be filled in: who makes it$", left, re.MULTILINE)
    text = file.read_text()
    assert len(left.splitlines()) == len(profile_draft.placeholders(text))
    file.write_text(
        re.sub(r"  # TODO.*", "", text)
        .replace("TODO:", "As the manual says:")
        .replace("# What is marked TODO", "#")
    )
    many = 4 if kind == "sparkplug" else 2
    assert f"{many} conditions, {many} examples, no fault found" in typed_here("profile", "check", file)


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "acme.yaml").write_text("precious")
    said = typed_here("profile", "new", "acme", "--transport", "tcp", "--folder", tmp_path, code=2)
    assert "is there already" in said
    assert (tmp_path / "acme.yaml").read_text() == "precious"


@pytest.mark.parametrize("name", ["Acme", "acme belt", "../acme", "acme.yaml", ""])
def test_a_name_that_no_device_could_say_is_refused(name: str, tmp_path: Path) -> None:
    said = typed_here("profile", "new", name, "--transport", "tcp", "--folder", tmp_path, code=2)
    assert "small letters, digits and hyphens" in said
    assert not (tmp_path / f"{name}.yaml").exists()


def test_a_transport_that_there_is_not_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    said = typed_here("profile", "new", "acme", "--transport", "smoke", "--folder", tmp_path, code=2)
    assert all(name in said for name in profile_draft.SPOKEN)


GOOD = re.sub(r"TODO:?", "as found:", profile_draft.draft("acme", "modbus"))


@pytest.mark.parametrize(
    ("was", "becomes", "marked", "said"),
    [
        # The | is where the message leads to.
        ("count: 2", "count: 1", "status, |register: 1", "signals.current.register: 1 (1 wide) is outside"),
        (
            "severity: stop",
            "severety: stop",
            "|severety",
            "conditions[0].severety: unknown key; expected one of",
        ),
        ("register: 0, bit: 1", "register: zero, bit: 1", "|register: zero", "a whole number is expected"),
        ("value: true}", "value: 7}", "faulted, |value: 7", "signal 'faulted' is true or false, never 7"),
        ("schema: 1", "schema: no", "schema: |no", "no means a boolean in YAML; quote it"),
        ("{0: 0x2}", "{0: 0x1}", "- |condition: device/faulted", "what trips it does not raise it"),
        (
            "- condition: motor/overload",
            "- condition: device/faulted",
            "- |fault: overload",
            "motor/overload has no example",
        ),
        ("reads:", "reads: [", "|signals:", "not YAML"),
    ],
)
def test_a_mistake_is_named_with_file_line_and_column(
    was: str, becomes: str, marked: str, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "acme.yaml"
    assert was in GOOD
    text = GOOD.replace(was, becomes, 1)
    file.write_text(text)
    told = typed_here("profile", "check", file, code=2)
    (found,) = [
        found for row in told.splitlines() if said in row and (found := re.match(r"(.*?):(\d+):(\d+): ", row))
    ]
    assert found[1] == str(file)
    line, column = text.splitlines()[int(found[2]) - 1], int(found[3]) - 1
    assert marked in f"{line[:column]}|{line[column:]}", told


async def test_the_program_itself_says_the_same(tmp_path: Path) -> None:
    await typed("profile", "new", "acme", "--transport", "serial", folder=tmp_path)
    assert "acme.yaml:5:9: still" in await typed("profile", "check", "acme.yaml", code=2, folder=tmp_path)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "acme.yaml"
    assert "cannot be read" in typed_here("profile", "check", file, code=2)
    file.write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in typed_here("profile", "check", file, code=2)
