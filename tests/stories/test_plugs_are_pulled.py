"""What the edge has committed arrives exactly once, whoever is killed; a restart invents nothing."""

from pathlib import Path

from rigs.collector_program import collector_program
from rigs.ports import wait_until
from rigs.warehouse import SITE, Agent, People, serial_printer, warehouse

from device_profiles.simulators.serving import Pty
from device_profiles.simulators.zebra_zpl import ZebraPrinter


async def test_an_agent_that_is_killed_neither_loses_nor_invents_a_fault(tmp_path: Path) -> None:
    printer = ZebraPrinter(Pty(tmp_path / "printer"))
    await printer.start()
    async with warehouse(tmp_path) as site:
        agent = site.agent(serial_printer(tmp_path / "printer"))
        printer.set("paper_out")
        printer.set("head_open")
        before = await site.reader.ticket("printer-1", "paper-out", condition="active")
        await site.reader.ticket("printer-1", "open", condition="active")

        agent.kill()
        # Mended while nobody watched; the other one is still there.
        printer.set("head_open", False)
        agent.start()

        await site.reader.ticket("printer-1", "open", condition="cleared")
        after = await site.reader.ticket("printer-1", "paper-out", condition="active")
        assert after["id"] == before["id"]
        not_running = await site.reader.ticket("gw-1", "not-running", condition="cleared")
        assert not_running["severity"] == "notice"
        detail = await site.reader.get(f"/api/v1/tickets/{after['id']}")
        assert len(detail["occurrences"]) == 1, "a restart is no new occurrence"
    await printer.stop()


async def test_a_collector_that_is_killed_has_what_it_answered_and_gets_the_rest(tmp_path: Path) -> None:
    printer = ZebraPrinter(Pty(tmp_path / "printer"))
    await printer.start()
    folder = tmp_path / "collector"
    agent = Agent(tmp_path / "gw-1", "gw-1")
    try:
        with collector_program(folder) as first:
            address = first.url.removeprefix("http://")
            printed = first.command("gateway", "add", SITE, "gw-1")
            agent.configure(serial_printer(tmp_path / "printer"))
            agent.enroll(first.url, next(word for word in printed.split() if word.startswith("enr_")))
            agent.start()
            people = People(first, "read")
            printer.set("paper_out")
            known = await people.ticket("printer-1", "paper-out", condition="active")
            first.process.kill()
            first.process.wait()
            # Comes and goes while there is no collector; another stays.
            printer.set("paper_out", False)
            printer.set("ribbon_out")
            with collector_program(folder, "--listen", address) as second:
                again = People(second, "read")
                after = await again.ticket("printer-1", "paper-out", condition="cleared")
                assert after["id"] == known["id"]
                await again.ticket("printer-1", "ribbon-out", condition="active")
                faults = [ticket["fault"] for ticket in await again.tickets()]
                assert sorted(faults) == ["paper-out", "ribbon-out"]
                agent.stop()
                await again.close()
            # The first one's own check of its exit code does not apply: it was killed.
            first.process.returncode = 0
            await people.close()
    finally:
        agent.stop()
        await printer.stop()


async def test_a_fault_that_came_and_went_while_offline_is_history(tmp_path: Path) -> None:
    printer = ZebraPrinter(Pty(tmp_path / "printer"))
    await printer.start()
    async with warehouse(tmp_path) as site:
        agent = Agent(tmp_path / "gw-1", "gw-1")
        site.agents.append(agent)
        agent.configure(serial_printer(tmp_path / "printer"))
        # It runs before it is enrolled: what it sees is kept.
        agent.start()
        printer.set("paper_out")
        await _until_said(agent, "raised", "paper-out")
        printer.set("paper_out", False)
        await _until_said(agent, "ended", "paper-out")
        agent.enroll(site.collector.url, site.gateway_token("gw-1"))

        ticket = await site.reader.ticket("printer-1", "paper-out", condition="cleared")
        assert ticket["work"] in ("resolved", "closed")
    await printer.stop()


async def _until_said(agent: Agent, *words: str) -> None:
    await wait_until(
        lambda: any(all(word in line for word in words) for line in agent.said().splitlines()),
        what=f"{words} in the agent's log",
    )
