"""A private PostgreSQL on a free port of this machine, as a user that is not root; gone with the session."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

# initdb and postgres refuse to run as root; every distribution has this user.
NOBODY = "nobody"


def binaries() -> Path:
    """Where initdb lies: on the path, or where Debian puts it."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    assert debian, "PostgreSQL's server programs are needed: apt install postgresql"
    return debian[-1].parent


@contextmanager
def running(directory: Path, **settings: str) -> Iterator[str]:
    """The URL of an empty cluster, without a database name."""
    cluster = directory / "cluster"
    cluster.mkdir(parents=True)
    user = None
    if os.geteuid() == 0:
        user = NOBODY
        shutil.chown(cluster, user)
        # pytest's directories are for their owner alone; the server has to pass through.
        for above in directory, *directory.parents:
            if above.owner() == "root" and not above.stat().st_mode & 0o001:
                above.chmod(above.stat().st_mode | 0o011)
    programs = binaries()
    subprocess.run(
        [programs / "initdb", "-D", cluster, "-U", "andon", "-A", "trust", "-E", "UTF8", "--no-sync"],
        check=True,
        capture_output=True,
        cwd="/",
        user=user,
    )
    port = _free_port()
    options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "port": str(port)} | settings
    flags = [flag for name, value in options.items() for flag in ("-c", f"{name}={value}")]
    with (directory / "postgres.log").open("wb") as log:
        server = subprocess.Popen(
            [programs / "postgres", "-D", cluster, *flags], stdout=log, stderr=log, cwd="/", user=user
        )
    try:
        url = f"postgresql://andon@127.0.0.1:{port}"
        _wait_until_ready(url, server)
        yield url
    finally:
        # Immediate shutdown: nobody needs what is in it.
        server.send_signal(signal.SIGQUIT)
        server.wait(60)


def new_database(url: str) -> str:
    """The URL of a fresh database in that cluster."""
    name = f"andon_{uuid.uuid4().hex}"
    _execute(url, f"CREATE DATABASE {name}")
    return f"{url}/{name}"


def _wait_until_ready(url: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert server.poll() is None, "PostgreSQL ended at once; see postgres.log"
        try:
            _execute(url, "SELECT 1")
        except OperationalError:
            # Not yet: it refuses while it starts.
            time.sleep(0.05)
        else:
            return
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


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
