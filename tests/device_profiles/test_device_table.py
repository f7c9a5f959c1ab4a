"""The device table says what the suite has proven, no more and no less. Runs last, see tests/conftest.py."""

from __future__ import annotations

import os

import pytest
from rigs import proven
from rigs.proven import IS_PART

from edge_agent import device_table
from edge_agent.config import ProfileFolders
from edge_agent.device_table import Proven
from edge_agent.profile import Profile

HOW = "not as device_profiles/proven.json says; run: make device-table"


def recorded() -> device_table.Record:
    return device_table.read(proven.RECORD.read_text(encoding="utf-8"))


def is_whole(request: pytest.FixtureRequest) -> bool:
    """Whether all tests that prove something have run, and well."""
    ran = {item.path for item in request.session.items}
    wanted = {file for folder in proven.FOLDERS for file in (proven.ROOT / folder).glob("test_*.py")}
    return wanted <= ran and not request.config.stash[IS_PART] and not request.session.testsfailed


def test_the_record_is_what_this_run_has_proven(request: pytest.FixtureRequest) -> None:
    found = proven.of_this_run()
    if os.environ.get("PROVEN") == "write":
        # Of a part of the tests it is known what they prove, not what the others do not any more.
        proven.write(found if is_whole(request) else proven.together(recorded(), found))
    assert proven.without(recorded(), found) == "", HOW
    if is_whole(request):
        assert proven.without(found, recorded()) == "", HOW


def profiles() -> list[Profile]:
    folders = ProfileFolders.of(None)
    return [folders.load(name) for name in folders.names()]


def test_every_shipped_profile_is_in_the_record_and_over_each_of_its_transports() -> None:
    for profile in profiles():
        over = {who.partition(" ")[0] for who in recorded()[profile.name].simulated}
        assert over == set(profile.transports), profile.name


def test_the_record_has_only_conditions_that_there_are() -> None:
    known = {profile.name: {condition.key for condition in profile.conditions} for profile in profiles()}
    assert recorded().keys() == known.keys()
    for name, one in recorded().items():
        for conditions in (*one.simulated.values(), *one.by.values()):
            # Unreachable is the agent's own.
            assert set(conditions) <= known[name] | {"link/unreachable"}, name


def test_a_bar_in_a_name_makes_no_column() -> None:
    odd = profiles()[0].model_copy(update={"maker": "A|B"})
    assert "| A\\|B |" in device_table.table([odd], {})


def test_a_profile_of_a_sites_own_is_not_in_the_suite() -> None:
    one, other = profiles()[:2]
    record = {
        other.name: Proven(simulated={"tcp": ("a/b", "a/c"), "serial": ("a/b",)}, by={"LPrint": ("a/b",)})
    }
    rows = device_table.table([other, one], record).splitlines()[2:]
    assert [row.split(" | ")[-3:-1] for row in rows] == [
        ["not in the suite", ""],
        ["serial 1, tcp 2", "LPrint 1"],
    ]
