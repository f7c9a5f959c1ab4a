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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--list", "127.0.0.1:0"), "no such option: --list (did you mean --listen?)"),
        (("--databse-url", "postgresql://andon:a-password@db/andon"), "(did you mean --database-url?)"),
        (("--databse-url=postgresql://andon:a-password@db/andon",), "(did you mean --database-url?)"),
        (("--frob",), "no such option: --frob"),
        (("postgresql://andon:a-password@db/andon",), "serve takes nothing but options"),
        (("--listen", "--advertise"), "argument --listen: expected one argument"),
    ],
)
def test_a_mistake_in_a_flag_of_serve_is_named_without_its_value(words: tuple[str, ...], said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "collector", "serve", *words], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith(said)
    assert "a-password" not in done.stderr


def test_help_names_every_command_and_each_way_to_serve_is_the_same() -> None:
    helped = subprocess.run([sys.executable, "-m", "collector", "--help"], capture_output=True, text=True)
    for command in ("serve", "backup", "restore", "user", "gateway", "token"):
        assert re.search(rf"\b{command}\b", helped.stdout)
    said = [
        subprocess.run(
            [sys.executable, "-m", "collector", *words, "--listen", "nowhere"], capture_output=True, text=True
        )
        for words in (("serve",), ("--", "serve"))
    ]
    assert [one.returncode for one in said] == [1, 1]
    assert said[0].stderr == said[1].stderr
    assert said[0].stderr.startswith("listen: ")


@pytest.mark.parametrize("words", [("collector", "serve"), ("edge_agent", "run")])
def test_ctrl_c_while_a_program_loads_ends_it_without_a_traceback(words: tuple[str, ...]) -> None:
    package, word = words
    # Sent when the module that loads all others is begun to be looked for.
    interrupted = (
        "import os, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == '{package}.{word}': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        f"sys.argv = ['{package}', '{word}']\n"
        f"from {package}.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", interrupted], capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stderr == ""
