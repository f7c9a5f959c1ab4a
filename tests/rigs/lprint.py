"""LPrint, a print server for label printers, with one ZPL printer behind a TCP port: how others read it.

It is spoken to by its port alone: as root all of them share one socket in /run, and `lprint add` that finds
no server behind it becomes one. LPrint 1.1 listens on every address, whatever ``listen-hostname`` says; what
it serves for these seconds is the state of a simulated printer.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rigs.ports import free_port, listens, wait_until_now

QUEUE = "printer"
DRIVER = "zpl_4inch-203dpi-tt"


class LPrint:
    """It asks the printer anew when somebody wants to know, but not more often than each second or two."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._log = folder / "log"
        self._home = {"HOME": str(folder), "TMPDIR": str(folder)}

    def reasons(self) -> frozenset[str]:
        """``printer-state-reasons``; "none" when all is well, empty when it was too busy to say."""
        return frozenset(self._attribute("printer-state-reasons").split(","))

    def label(self) -> str:
        """``media-ready``, whose length LPrint takes from the printer's ~HS."""
        return self._attribute("media-ready")

    def complaints(self) -> list[str]:
        """What it called the errors of the printer so far, in words, again at each asking."""
        return re.findall(r"^E .*\[Printer \S+\] (.*)", self._log.read_text("utf-8", "replace"), re.M)

    def start(self) -> subprocess.Popen[bytes]:
        options = (
            "listen-hostname=127.0.0.1",
            f"server-port={self.port}",
            f"log-file={self._log}",
            "log-level=error",
            "server-options=no-tls,no-web-interface",
        )
        program = subprocess.Popen(
            [_found("lprint"), "server", *(part for one in options for part in ("-o", one))],
            env=os.environ | self._home,
            stderr=subprocess.DEVNULL,
        )
        wait_until_now(lambda: listens(self.port), what="LPrint")
        return program

    def add(self, port: int) -> None:
        system = f"ipp://127.0.0.1:{self.port}/ipp/system"
        device = f"socket://127.0.0.1:{port}"
        self._say("lprint", "add", "-u", system, "-d", QUEUE, "-m", DRIVER, "-v", device)

    def _attribute(self, name: str) -> str:
        where = f"ipp://127.0.0.1:{self.port}/ipp/print/{QUEUE}"
        said = self._say("ipptool", "-T", "10", "-tv", where, "get-printer-attributes.test")
        found = re.search(rf"^\s*{name} \([^)]*\) = (\S+)", said, re.MULTILINE)
        return found[1] if found else ""

    def _say(self, *words: str) -> str:
        return subprocess.run(
            [_found(words[0]), *words[1:]], env=os.environ | self._home, capture_output=True, text=True
        ).stdout


@contextmanager
def lprint(folder: Path, port: int) -> Iterator[LPrint]:
    """With the printer on that port of this machine; all files are in the folder."""
    server = LPrint(folder)
    program = server.start()
    try:
        server.add(port)
        yield server
    finally:
        program.kill()
        program.wait()


def _found(name: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} is not installed: make peers"
    return found
