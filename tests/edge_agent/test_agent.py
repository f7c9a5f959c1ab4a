"""The agent as a whole, in the process of the test."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from rigs.ports import wait_until
from rigs.pty import Line
from rigs.readings import running
from structlog.testing import capture_logs

from edge_agent import agent, config

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
