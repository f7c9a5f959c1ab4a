"""Whoever follows docs/profiles.md word by word has a tested profile in the end, and saw what it says."""

from __future__ import annotations

import re
from pathlib import Path

from rigs.commands import typed

from device_profiles.simulators.modbus import DISCRETE_INPUTS, ILLEGAL_FUNCTION, ModbusServer, RefusedError
from device_profiles.simulators.serving import Tcp

GUIDE = (Path(__file__).parents[2] / "docs" / "profiles.md").read_text(encoding="utf-8")
SECTION = GUIDE[GUIDE.index("## From the manual page") : GUIDE.index("Rules that keep a profile honest:")]
BLOCK = re.compile(r"```(?P<kind>yaml|console|toml agent\.toml)\n(?P<text>.*?)```", re.DOTALL)
# Where the device of the guide is.
ADDRESS = "192.168.10.40"


class PressedChain:
    """DI-0 is open: somebody has pressed the button."""

    def read(self, function: int, address: int, count: int) -> list[int]:
        if function != DISCRETE_INPUTS:
            raise RefusedError(ILLEGAL_FUNCTION)
        return [0] * count


async def test_who_follows_the_guide_word_by_word_has_a_tested_profile(tmp_path: Path) -> None:
    outlet = Tcp()
    device = ModbusServer(outlet, {1: PressedChain()})
    await device.start()
    ran = []
    for block in BLOCK.finditer(SECTION):
        if block["kind"] == "yaml":
            (tmp_path / "estop-chain.yaml").write_text(block["text"])
        elif block["kind"] == "toml agent.toml":
            (tmp_path / "agent.toml").write_text(block["text"])
        else:
            for shown in re.split(r"^\$ edge-agent ", block["text"], flags=re.MULTILINE)[1:]:
                command, _, output = shown.partition("\n")
                ran.append(command)
                await follow(command, output, tmp_path, outlet.port)
    await device.stop()
    assert [command.split()[:2] for command in ran] == [
        ["profile", "new"],
        ["profile", "check"],
        ["profile", "check"],
        ["profile", "try"],
        ["profile", "try"],
        ["check", "--config"],
    ]


async def follow(command: str, output: str, folder: Path, port: int) -> None:
    """Type it, and see what the guide shows: all of it, or up to the dots."""
    words = (
        command.replace(ADDRESS, f"127.0.0.1 --port {port}").replace("--seconds 10", "--seconds 2").split()
    )
    unfinished = "..." in output
    said = await typed(*words, code=2 if unfinished and words[0] == "profile" else 0, folder=folder)
    said = said.replace(f"127.0.0.1:{port}", f"{ADDRESS}:502").replace("for 2 s", "for 10 s")
    shown = output.partition("...")[0].rstrip()
    assert said.startswith(shown) if unfinished else said.rstrip() == shown, f"{command}:\n{said}"
