"""`collector serve` on one port; killed and started again on the same database. Its clock may be wrong."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from rigs.ports import free_port

# The real program, on a machine whose clock is off by so many seconds.
OFF = """
import sys, time
real, off_ns = time.time_ns, int(sys.argv.pop(1)) * 10**9
time.time_ns = lambda: real() + off_ns
from collector.__main__ import main
main()
"""


# Each of the few gateways of a test is louder than any real one.
NO_QUOTA = {"COLLECTOR_GATEWAY_ROWS_PER_S": "1000000"}


class CollectorServer:
    def __init__(self, data_dir: Path, database_url: str, *, clock_off_s: int = 0) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = data_dir.with_suffix(".log")
        program = ["-c", OFF, str(clock_off_s)] if clock_off_s else ["-m", "collector"]
        self._command = [sys.executable, *program, "serve", "--data-dir", str(data_dir)]
        self._command += ["--listen", self.url.removeprefix("http://")]
        self._command += ["--database-url", database_url] if database_url else []
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                self._command, stdout=subprocess.PIPE, stderr=log, text=True, env=os.environ | NO_QUOTA
            )

    def until_it_listens(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert re.search(r"https?://\S+ \(desk\)", line), f"{line!r}: {self.log.read_text()}"

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None
