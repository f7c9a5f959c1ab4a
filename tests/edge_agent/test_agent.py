"""The agent as a whole, in the process of the test."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
import trustme
from rigs.ports import wait_until
from rigs.pty import Line
from rigs.readings import running
from structlog.testing import capture_logs

from edge_agent import agent, config, credential
from edge_agent.credential import Credential

# More than the threads that Python has by itself, whatever the number of processors.
HANGING = 40


async def test_brokers_that_hang_keep_no_port_from_being_opened(tmp_path: Path) -> None:
    line = Line(tmp_path / "scanner").plug()
    with socket.create_server(("127.0.0.1", 0), backlog=2 * HANGING) as silent:
        port = silent.getsockname()[1]
        buses = "".join(
            f'[[bus]]\nname = "b{n}"\ntransport = "mqtt"\nhost = "127.0.0.1"\nport = {port}\ntls = {{}}\n'
            f'[[device]]\nid = "d{n}"\nbus = "b{n}"\nprofile = "mqtt-presence"\nplace = "hall"\n'
            f'topic = "t{n}"\n'
            for n in range(HANGING)
        )
        (tmp_path / "agent.toml").write_text(
            f'[collector]\nurl = "https://127.0.0.1:1"\n'
            f'[agent]\nsite = "hamburg"\ngateway = "gw-1"\ndata_dir = "{tmp_path / "data"}"\n'
            f'{buses}[[bus]]\nname = "line"\ntransport = "serial"\nport = "{line.path}"\n'
            '[[device]]\nid = "scanner"\nbus = "line"\nprofile = "line-scanner"\nplace = "hall"\n'
        )
        settings = config.load(tmp_path / "agent.toml")
        with capture_logs() as said:
            async with running(agent.run(settings)):
                await wait_until(lambda: any(one["event"] == "link is up" for one in said))
                await asyncio.sleep(0)
    # It did not wait until one of them had given up.
    assert [one["bus"] for one in said if one["event"] in ("link is up", "no link")] == ["line"]
    line.unplug()


async def test_whatever_becomes_of_its_credential_it_watches_on_and_says_once_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "LOOK_FOR_CREDENTIAL_S", 0.01)
    data_dir = tmp_path / "data"
    (tmp_path / "agent.toml").write_text(f'[agent]\ndata_dir = "{data_dir}"\n')
    data_dir.mkdir()
    credential.save(data_dir, enrolled_as("gw-1"))
    with capture_logs() as said:

        async def until_warned(event: str, why: str) -> None:
            await wait_until(lambda: (event, why) in [(one["event"], one.get("why")) for one in said])

        def times_forwarding() -> int:
            return [one["event"] for one in said].count("forwarding")

        settings = config.load(tmp_path / "agent.toml")
        async with running(agent.run(settings)) as watching:
            await wait_until(lambda: times_forwarding() == 1)
            credential.save(data_dir, enrolled_as("gw-2"))
            await until_warned(
                "forwarding as before",
                "enrolled as hamburg/gw-2, and watching as hamburg/gw-1: that takes a restart",
            )
            (data_dir / credential.FILE).write_text("{")
            await until_warned(
                "forwarding as before",
                f"{data_dir / credential.FILE}: not a credential; enrol this gateway again",
            )
            credential.save(data_dir, enrolled_as("gw-1", secret="n" * 64))
            await wait_until(lambda: times_forwarding() == 2)
            assert not watching.done()
    assert [one["event"] for one in said].count("forwarding as before") == 2


async def test_an_authority_that_cannot_be_used_ends_no_watch_and_once_mended_it_forwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "LOOK_FOR_CREDENTIAL_S", 0.01)
    authority, data_dir = tmp_path / "ca.pem", tmp_path / "data"
    (tmp_path / "agent.toml").write_text(
        f'[collector]\nca_file = "{authority}"\n[agent]\ndata_dir = "{data_dir}"\n'
    )
    data_dir.mkdir()
    credential.save(data_dir, enrolled_as("gw-1"))

    def said_of(event: str) -> list[str]:
        return [one.get("why", "") for one in said if one["event"] == event]

    with capture_logs() as said:
        async with running(agent.run(config.load(tmp_path / "agent.toml"))) as watching:
            await wait_until(lambda: bool(said_of("cannot forward: everything is kept here")))
            authority.write_text("no PEM")
            await wait_until(lambda: len(said_of("cannot forward: everything is kept here")) == 2)
            trustme.CA().cert_pem.write_to_path(str(authority))
            await wait_until(lambda: bool(said_of("forwarding")))
            assert not watching.done()
    missing, broken = said_of("cannot forward: everything is kept here")
    assert f"{tmp_path / 'agent.toml'}: collector.ca_file: {authority} is not" in missing
    assert "No such file" in missing
    assert "PEM" in broken


def enrolled_as(gateway: str, *, secret: str = "s" * 64) -> Credential:
    return Credential(
        url="https://127.0.0.1:1",
        site="hamburg",
        gateway=gateway,
        credential="agw_0123456789abcdef",
        secret=secret,
    )
