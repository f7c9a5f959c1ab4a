"""A trace as a test case: a folder with a trace, what it has to come to, and what it shows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from edge_agent import replay_view
from edge_agent.replay import Replayed
from edge_agent.what_if import Shown

TRACE, EXPECTED, README = "trace.gz", "expected.json", "README.md"


class CaseError(ValueError):
    """The text says which file, and what was expected."""


def write(folder: Path, trace: Path, replayed: Replayed) -> None:
    """Make or renew ``folder``; a README that is there stays. Raises CaseError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if trace.resolve() != (folder / TRACE).resolve():
            shutil.copyfile(trace, folder / TRACE)
        (folder / EXPECTED).write_text(dumped(replay_view.expected(replayed)), encoding="utf-8")
        readme = folder / README
        if not readme.exists():
            readme.write_text(
                f"# {folder.name}\n\nWhat happened, on which equipment, and what was wrong.\n",
                encoding="utf-8",
            )
    except OSError as error:
        raise CaseError(f"{folder}: cannot be written: {error.strerror or error}") from error


def expectation(file: Path) -> tuple[Shown, ...]:
    """Raises CaseError."""
    try:
        return replay_view.read_back(json.loads(file.read_text(encoding="utf-8"))["occurrences"])
    except OSError as error:
        raise CaseError(f"{file}: cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CaseError(
            f"{file}: the occurrences of a replay are expected, as --json or --case writes them"
        ) from error


def dumped(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
