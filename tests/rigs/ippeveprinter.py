"""A printer of another maker: CUPS' ippeveprinter, on a free port of this machine, with a D-Bus of its own.

It announces itself by Avahi and does not start without a system bus; it gets one that nobody else is on.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from urllib.request import urlopen

from rigs.ports import free_port, listens, wait_until_now

PROGRAM = shutil.which("ippeveprinter", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
IPPTOOL = shutil.which("ipptool", path="/usr/bin:/usr/local/bin")
DBUS = shutil.which("dbus-daemon", path="/usr/bin:/usr/local/bin")
BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><listen>unix:path={socket}</listen><auth>EXTERNAL</auth><policy context="default">
<allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>
"""
SHEETS = 250


class IppEvePrinter:
    """``labels``: how many there are in its trays; 0 is none."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self.port = free_port()
        self._running: list[subprocess.Popen[bytes]] = []

    @property
    def uri(self) -> str:
        return f"ipp://localhost:{self.port}/ipp/print"

    def start(self) -> IppEvePrinter:
        assert PROGRAM, "ippeveprinter is missing: deploy/test-prerequisites"
        assert DBUS, "dbus-daemon is missing: deploy/test-prerequisites"
        socket, config, spool = (self._folder / name for name in ("bus", "bus.conf", "spool"))
        config.write_text(BUS.format(socket=socket))
        spool.mkdir(exist_ok=True)
        with (self._folder / "log").open("wb") as log:
            bus = [DBUS, f"--config-file={config}", "--nofork", "--nopidfile"]
            self._running.append(subprocess.Popen(bus, stdout=log, stderr=log))
            wait_until_now(socket.exists, what="dbus-daemon")
            # By that name it has an address of both families, without which it does not start.
            place = ["-n", "localhost", "-p", str(self.port), "-r", "off", "-d", str(spool)]
            printer = [PROGRAM, "-v", *place, "-f", "text/plain", "-c", "/bin/true", "Labels"]
            environment = {"DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={socket}", "PATH": "/usr/bin:/bin"}
            self._running.append(subprocess.Popen(printer, stdout=log, stderr=log, env=environment))
        wait_until_now(self._ready, what=f"ippeveprinter: {self._folder / 'log'}")
        return self

    def load(self, sheets: int) -> None:
        """On its own web page, as a person at it would."""
        trays = "&".join(f"size{n}=na_letter_8.5x11in&type{n}=stationery&level{n}={sheets}" for n in (1, 3))
        with urlopen(f"http://localhost:{self.port}/media?{trays}", timeout=30) as page:
            page.read()

    def print_job(self) -> None:
        """As somebody else's computer would."""
        assert IPPTOOL, "ipptool is missing: deploy/test-prerequisites"
        file = self._folder / "label.txt"
        file.write_text("a label\n")
        command = [IPPTOOL, "-q", "-f", str(file), self.uri, "print-job.test"]
        subprocess.run(command, check=True, timeout=30)

    def stop(self) -> None:
        for one in reversed(self._running):
            one.terminate()
            one.wait(30)
        self._running.clear()

    def _ready(self) -> bool:
        assert self._running[-1].poll() is None, (self._folder / "log").read_text()
        return listens(self.port)
