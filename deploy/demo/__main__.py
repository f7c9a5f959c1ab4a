"""`make run`: a simulated warehouse, an edge agent that watches it and a collector, until Ctrl-C.

One supervisor, four programs of its own: the broker, the floor (simulated equipment over real protocols),
the collector and the agent. A program that dies is started again, as systemd would; a supervisor that dies
takes them all along.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from deploy.demo.programs import DemoError, Program, Supervisor
from deploy.demo.site import Site


def main() -> None:
    folder = Path(os.environ.get("ANDON_DEMO_DIR", ".andon")).resolve()
    try:
        asyncio.run(_run(folder))
    except DemoError as error:
        print(error, file=sys.stderr)
        sys.exit(1)


async def _run(folder: Path) -> None:
    site = Site.prepare(folder)
    supervisor = Supervisor()
    async with supervisor:
        await _start(supervisor, site)
        await supervisor.until_told()


async def _start(supervisor: Supervisor, site: Site) -> None:
    await supervisor.start(Program("broker", site.broker_command()))
    await supervisor.start(Program("floor", site.floor_command()))
    await site.first_run(supervisor)
    await supervisor.start(Program("collector", site.collector_command(), site.environment))
    await site.wait_for_collector(supervisor)
    await site.enroll(supervisor)
    await supervisor.start(Program("agent", site.agent_command(), site.environment))
    supervisor.say(site.welcome())


if __name__ == "__main__":
    main()
