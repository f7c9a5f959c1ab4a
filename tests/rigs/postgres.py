"""A private PostgreSQL on a free port of this machine, as a user that is not root; gone with the session."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rigs.ports import free_port
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

# initdb and postgres refuse to run as root; every distribution has this user.
NOBODY = "nobody"
STARTS = 25


def binaries() -> Path:
    """Where initdb lies: on the path, or where Debian puts it."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    assert debian, "PostgreSQL's server programs are needed: apt install postgresql"
    return debian[-1].parent


class Server:
    """One cluster in a folder; may be stopped, killed and started again, on the same port or another."""

    def __init__(self, directory: Path, **settings: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._log = directory / "postgres.log"
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._user = NOBODY if os.geteuid() == 0 else None
        # Not below pytest's folders: they are for their owner alone, and every pytest that starts sees to it.
        self._cluster = Path(tempfile.mkdtemp(prefix="andon-postgres-"))
        atexit.register(shutil.rmtree, self._cluster, ignore_errors=True)
        if self._user is not None:
            shutil.chown(self._cluster, self._user)
        subprocess.run(
            [
                binaries() / "initdb",
                "-D",
                self._cluster,
                "-U",
                "andon",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--no-sync",
            ],
            check=True,
            capture_output=True,
            cwd="/",
            user=self._user,
        )
        self.port = free_port()

    @property
    def url(self) -> str:
        """Without a database name."""
        return f"postgresql://andon@127.0.0.1:{self.port}"

    def start(self) -> None:
        """Returns when it takes connections."""
        for left in reversed(range(STARTS)):
            self._spawn()
            assert self._process is not None
            if _is_ready(self.url, self._process):
                return
            # The last one's memory is not free yet, or some client just then has this port.
            assert left, f"PostgreSQL ended at once; see {self._log}"
            time.sleep(0.2)

    def _spawn(self) -> None:
        options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "port": str(self.port)}
        flags = [flag for item in (options | self._settings).items() for flag in ("-c", "=".join(item))]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [binaries() / "postgres", "-D", self._cluster, *flags],
                stdout=log,
                stderr=log,
                cwd="/",
                user=self._user,
            )

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """SIGQUIT: at once, nothing is put in order, as in a crash. SIGINT: connections are cut first."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(60)
            self._process = None


@contextmanager
def running(directory: Path, **settings: str) -> Iterator[str]:
    """The URL of an empty cluster, without a database name."""
    server = Server(directory, **settings)
    server.start()
    try:
        yield server.url
    finally:
        # Nobody needs what is in it.
        server.stop()


def new_database(url: str, copied_from: str = "template1") -> str:
    """The URL of a fresh database in that cluster."""
    name = f"andon_{uuid.uuid4().hex}"
    _execute(url, f"CREATE DATABASE {name} TEMPLATE {copied_from}")
    return f"{url}/{name}"


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def _is_ready(url: str, server: subprocess.Popen[bytes]) -> bool:
    """Once it is; false when it has ended."""
    for _ in range(600):
        if server.poll() is not None:
            return False
        try:
            _execute(url, "SELECT 1")
        except OperationalError:
            # Not yet: it refuses while it starts.
            time.sleep(0.05)
        else:
            return True
    raise AssertionError("PostgreSQL did not start within 30 s")


def _execute(url: str, statement: str) -> None:
    engine = create_engine(
        url.replace("postgresql://", "postgresql+psycopg://") + "/postgres", isolation_level="AUTOCOMMIT"
    )
    try:
        with engine.connect() as connection:
            connection.execute(text(statement))
    finally:
        engine.dispose()
