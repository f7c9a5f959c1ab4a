"""TLS with the site's own authority: a credential goes to the right collector, or nowhere."""

from pathlib import Path

import trustme
from rigs.collector_program import collector_program
from rigs.warehouse import SITE, Agent, People, serial_printer

from device_profiles.simulators.serving import Pty
from device_profiles.simulators.zebra_zpl import ZebraPrinter


def certificates(folder: Path) -> tuple[trustme.CA, list[str]]:
    """An authority, and the collector's flags for a certificate of it."""
    authority = trustme.CA()
    made = authority.issue_cert("127.0.0.1", "localhost")
    made.private_key_pem.write_to_path(folder / "key.pem")
    with (folder / "cert.pem").open("wb") as chain:
        for part in made.cert_chain_pems:
            chain.write(part.bytes())
    return authority, ["--tls-cert", str(folder / "cert.pem"), "--tls-key", str(folder / "key.pem")]


async def test_an_agent_speaks_only_to_a_collector_that_its_authority_vouches_for(tmp_path: Path) -> None:
    authority, flags = certificates(tmp_path)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    printer = ZebraPrinter(Pty(tmp_path / "printer"))
    await printer.start()
    printer.set("paper_out")
    with collector_program(tmp_path / "collector", *flags) as collector:
        assert collector.url.startswith("https://")
        printed = collector.command("gateway", "add", SITE, "gw-1")
        token = next(word for word in printed.split() if word.startswith("enr_"))
        agent = Agent(tmp_path / "gw-1", "gw-1")

        for trusted, why in (
            ([], "(ca_file names a private authority); nothing is lost"),
            (["--ca-file", str(tmp_path / "other.pem")], "other.pem does not vouch for it; nothing is lost"),
        ):
            refused = agent.command(
                "enroll", collector.url, token, "--data-dir", str(agent.data_dir), *trusted
            )
            assert refused.returncode == 2
            assert why in refused.stderr
        agent.enroll(collector.url, token, "--ca-file", str(tmp_path / "ca.pem"))

        agent.configure(serial_printer(tmp_path / "printer"), f'ca_file = "{tmp_path / "ca.pem"}"')
        agent.start()
        people = People(collector, "read", ca_file=tmp_path / "ca.pem")
        try:
            await people.ticket("printer-1", "paper-out", condition="active")
        finally:
            await people.close()
            agent.stop()
    await printer.stop()
