"""What each command of the collector loads, and what is said where that is missing."""

import re
import subprocess
import sys

import pytest

HIDE = "import sys; sys.modules['sqlalchemy'] = None; sys.argv = ['collector', '{}', '--help']; "


@pytest.mark.parametrize("word", ["user", "serve"])
def test_a_gateway_without_the_collectors_packages_is_told_how_to_get_them(word: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HIDE.format(word) + "from collector.__main__ import main; main()"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "sqlalchemy is not installed: the collector needs pip install 'warehouse-andon[collector]'"
    )


def test_the_collector_that_runs_for_months_has_not_loaded_the_other_commands() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "collector", "serve", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--public-url URL" in done.stdout
    assert re.search(r"\| +collector.server\n", done.stderr)
    assert not re.search(r"\| +(rich\.|typer|collector\.cli)", done.stderr)


def test_a_flag_that_serve_does_not_know_is_named_and_a_shortened_one_is_not_guessed() -> None:
    for flag in ("--listn", "--data"):
        done = subprocess.run(
            [sys.executable, "-m", "collector", "serve", flag, "x"], capture_output=True, text=True
        )
        assert done.returncode == 2
        assert flag in done.stderr.splitlines()[-1]
