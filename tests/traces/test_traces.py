"""Every trace in this folder comes to the occurrences that are expected of it: a field report is a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_agent import replay, replay_view, trace_case, trace_file

FOLDERS = sorted(file.parent for file in Path(__file__).parent.glob(f"*/{trace_case.EXPECTED}"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
async def test_a_trace_comes_to_what_is_expected_of_it(folder: Path) -> None:
    file = folder / trace_case.TRACE
    rules = trace_file.opened(file).header
    found = replay_view.expected(await replay.play(trace_file.opened(file), rules))
    expected = json.loads((folder / trace_case.EXPECTED).read_text(encoding="utf-8"))
    assert found == expected, f"edge-agent replay {file} --expect {folder / trace_case.EXPECTED}"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_it_says_what_happened(folder: Path) -> None:
    assert len((folder / trace_case.README).read_text(encoding="utf-8").split()) > 20


def test_there_are_some() -> None:
    assert len(FOLDERS) >= 4
