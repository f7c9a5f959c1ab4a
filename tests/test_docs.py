"""The documentation says what is there: settings and commands are explained, links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from edge_agent import transports
from edge_agent.config import AgentTable, CollectorTable, DeviceTable, JournalTable

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")])
TRANSPORTS = ("serial", "tcp", "modbus", "mqtt", "ipp", "replay")


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("table", [CollectorTable, AgentTable, JournalTable, DeviceTable])
def test_every_key_of_agent_toml_is_explained(table: type[BaseModel]) -> None:
    missing = [key for key in table.model_fields if f"| `{key}` |" not in page("edge-agent.md")]
    assert not missing


@pytest.mark.parametrize("name", TRANSPORTS)
def test_every_key_of_a_bus_is_explained(name: str) -> None:
    module = transports.load(name)
    assert module is not None
    text = page("edge-agent.md")
    rows = text[text.index(f"| `{name}` |") :].split("\n")
    # A transport's rows go on until the next one is named.
    own = [rows[0], *_while_empty_head(rows[1:])]
    keys = set(module.Settings.model_fields) - {"name", "transport"}
    assert not [key for key in keys if not any(f"`{key}`" in row for row in own)]


def test_every_transport_is_explained() -> None:
    folder = Path(transports.__file__).parent
    found = {file.stem for file in folder.glob("[a-z]*.py") if "class Transport" in file.read_text()}
    assert found == set(TRANSPORTS)


def test_every_command_of_the_agent_is_explained() -> None:
    helped = subprocess.run(
        [sys.executable, "-m", "edge_agent", "--help"], capture_output=True, text=True, check=True
    ).stdout
    commands = re.findall(r"^│ (\w+) ", helped, re.MULTILINE)
    assert {"run", "check", "enroll", "profile"} <= set(commands)
    assert not [name for name in commands if f"`edge-agent {name}" not in page("edge-agent.md")]


@pytest.mark.parametrize("file", PAGES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_link_leads_somewhere(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = (file.parent / path).resolve() if path else file
        assert found.exists(), target
        if anchor:
            assert anchor in _anchors(found.read_text(encoding="utf-8")), target


def test_the_readme_shows_the_two_commands_and_make_knows_them() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command in ("run", "test"):
        assert f"make {command}" in readme
        assert re.search(rf"^{command}:", makefile, re.MULTILINE)


def test_the_profile_in_the_readme_is_the_shipped_one() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.search(r"```yaml\n(.*?)```", readme, re.DOTALL)
    assert shown
    assert shown[1] == (ROOT / "device_profiles" / "mqtt-presence.yaml").read_text(encoding="utf-8")


def _while_empty_head(rows: list[str]) -> list[str]:
    taken = []
    for row in rows:
        if not row.startswith("| |"):
            break
        taken.append(row)
    return taken


def _anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_every_program_of_others_that_checks_us_is_named() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    missing = [
        file.name for file in (ROOT / "tests" / "peers").glob("test_*.py") if f"`{file.name}`" not in text
    ]
    assert missing == []
