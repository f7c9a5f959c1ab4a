"""The installer: from a box to a verified gateway, and clear words when something is wrong."""

import shutil
from pathlib import Path

from rigs.collector_program import collector_program
from rigs.ports import wait_until
from rigs.warehouse import SITE, Agent, People, serial_printer, warehouse

from device_profiles.simulators.serving import Pty
from device_profiles.simulators.zebra_zpl import ZebraPrinter


async def test_check_enroll_run_and_the_gateway_is_seen(tmp_path: Path) -> None:
    printer = ZebraPrinter(Pty(tmp_path / "printer"))
    await printer.start()
    async with warehouse(tmp_path) as site:
        agent = Agent(tmp_path / "gw-1", "gw-1")
        site.agents.append(agent)
        agent.configure(serial_printer(tmp_path / "printer"))

        checked = agent.command("check", "--config", str(agent.config))
        assert checked.returncode == 0, checked.stderr
        assert "printer-1: asks (status)" in checked.stdout

        token = site.gateway_token("gw-1")
        agent.enroll(site.collector.url, token)
        # A lost reply burns nothing: the same command again is the same gateway.
        agent.enroll(site.collector.url, token)
        agent.start()

        async def seen() -> bool:
            gateways = (await site.reader.get("/api/v1/gateways"))["items"]
            devices = (await site.reader.get("/api/v1/devices"))["items"]
            return [g["name"] for g in gateways] == ["gw-1"] and [d["id"] for d in devices] == ["printer-1"]

        await site.reader.until(seen, "the gateway and its printer are listed")
    await printer.stop()


async def test_a_gateway_that_was_revoked_speaks_again_once_it_is_enrolled_without_a_restart(
    tmp_path: Path,
) -> None:
    async with warehouse(tmp_path) as site:
        agent = Agent(tmp_path / "gw-1", "gw-1")
        site.agents.append(agent)
        agent.configure(serial_printer(tmp_path / "printer"))
        agent.enroll(site.collector.url, site.gateway_token("gw-1"))
        agent.start()

        async def speaks() -> bool:
            return [one["state"] for one in (await site.reader.get("/api/v1/gateways"))["items"]] == ["ok"]

        async def is_refused() -> bool:
            return "enrol the gateway anew" in agent.said()

        await site.reader.until(speaks, "the gateway is there")
        site.collector.command("gateway", "revoke", SITE, "gw-1")
        await site.reader.until(is_refused, "the agent knows that it is refused")
        agent.enroll(site.collector.url, site.gateway_token("gw-1"))
        await site.reader.until(speaks, "the gateway is back")


async def test_a_gateway_that_was_enrolled_over_plain_http_as_told_speaks(tmp_path: Path) -> None:
    with collector_program(
        tmp_path / "collector", "--listen", "127.0.0.2:0", "--allow-plain-http"
    ) as collector:
        agent = Agent(tmp_path / "gw-1", "gw-1")
        agent.configure(serial_printer(tmp_path / "printer"))
        token = _token(collector.command("gateway", "add", SITE, "gw-1"))
        agent.enroll(collector.url, token, "--allow-plain-http")
        agent.start()
        people = People(collector, "read")
        try:
            await people.until(lambda: _speak(people, "gw-1"), "the gateway is there")
        finally:
            await people.close()
            agent.stop()


async def test_a_token_of_another_gateway_is_refused_and_ends_no_watch(tmp_path: Path) -> None:
    printer = ZebraPrinter(Pty(tmp_path / "printer"))
    await printer.start()
    async with warehouse(tmp_path) as site:
        agent, other = Agent(tmp_path / "gw-1", "gw-1"), Agent(tmp_path / "gw-2", "gw-2")
        site.agents.append(agent)
        agent.configure(serial_printer(tmp_path / "printer"))
        token = site.gateway_token("gw-2")
        refused = agent.command("enroll", site.collector.url, token, "--config", str(agent.config))
        assert refused.returncode == 2
        assert "agent.gateway is 'gw-1', but the credential is for 'gw-2'" in refused.stderr
        assert not (agent.data_dir / "credential.json").exists()

        # As when agent.toml was mended after it was enrolled, or the folder of another box was copied.
        other.enroll(site.collector.url, site.gateway_token("gw-2"))
        shutil.copy(other.data_dir / "credential.json", agent.data_dir)
        refused = agent.command("check", "--config", str(agent.config))
        assert refused.returncode == 2
        assert f"{agent.config}: agent.gateway is 'gw-1', but the credential is for 'gw-2'" in refused.stderr
        agent.start()
        printer.set("paper_out")
        await wait_until(lambda: "paper-out" in agent.said(), what="the fault is seen")
        assert "cannot forward: everything is kept here" in agent.said()
        agent.enroll(site.collector.url, site.gateway_token("gw-1"))
        await site.reader.ticket("printer-1", "paper-out", condition="active")
        assert await _speak(site.reader, "gw-1")
        assert "Enrolled as north/gw-1" in agent.command("check", "--config", str(agent.config)).stdout
    await printer.stop()


async def test_a_token_that_another_box_redeemed_is_refused(tmp_path: Path) -> None:
    async with warehouse(tmp_path) as site:
        token = site.gateway_token("gw-1")
        first, second = Agent(tmp_path / "gw-1", "gw-1"), Agent(tmp_path / "thief", "gw-1")
        first.enroll(site.collector.url, token)
        refused = second.command("enroll", site.collector.url, token, "--data-dir", str(second.data_dir))
        assert refused.returncode == 2
        assert "redeemed by another box" in refused.stderr
        assert not (second.data_dir / "credential.json").exists()


async def test_an_unknown_profile_is_refused_by_name_before_anything_runs(tmp_path: Path) -> None:
    agent = Agent(tmp_path / "gw-1", "gw-1")
    agent.configure(serial_printer(tmp_path / "printer").replace("zebra-zpl", "zebra-zlp"))
    for command in ("check", "run"):
        refused = agent.command(command, "--config", str(agent.config))
        assert refused.returncode == 2
        assert "device[0] (printer-1).profile: unknown profile 'zebra-zlp'" in refused.stderr


async def test_a_collector_that_advertises_itself_is_found_with_a_token_alone(tmp_path: Path) -> None:
    with collector_program(tmp_path / "collector", "--advertise") as collector:
        token = _token(collector.command("gateway", "add", SITE, "gw-1"))
        agent = Agent(tmp_path / "gw-1", "gw-1")
        done = agent.command("enroll", "--discover", token, "--data-dir", str(agent.data_dir))
        assert done.returncode == 0, done.stderr
        assert f"found {collector.url}" in done.stdout
        assert f"Enrolled as {SITE}/gw-1 at {collector.url}" in done.stdout


def _token(printed: str) -> str:
    return next(word for word in printed.split() if word.startswith("enr_"))


async def _speak(people: People, gateway: str) -> bool:
    gateways = (await people.get("/api/v1/gateways"))["items"]
    return [one["state"] for one in gateways if one["name"] == gateway] == ["ok"]
