"""socat: a null-modem cable between two pseudo-terminals, and a serial device server in front of one."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rigs.ports import free_port, listens, wait_until_now


@contextmanager
def cable(one: Path, other: Path) -> Iterator[None]:
    """What is said at one end is heard at the other."""
    with _running(f"pty,raw,echo=0,link={one}", f"pty,raw,echo=0,link={other}") as program:
        wait_until_now(lambda: _lives(program) and one.exists() and other.exists(), what="socat")
        yield


@contextmanager
def device_server(line: Path) -> Iterator[int]:
    """Its TCP port: whoever connects speaks to the line, one at a time."""
    port = free_port()
    listener = f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork,max-children=1"
    with _running(listener, f"OPEN:{line},raw,echo=0") as program:
        wait_until_now(lambda: _lives(program) and listens(port), what="socat")
        yield port


@contextmanager
def _running(one: str, other: str) -> Iterator[subprocess.Popen[bytes]]:
    found = shutil.which("socat")
    assert found, "socat is not installed: make peers"
    program = subprocess.Popen([found, one, other])
    try:
        yield program
    finally:
        program.terminate()
        program.wait(30)


def _lives(program: subprocess.Popen[bytes]) -> bool:
    assert program.poll() is None, f"socat ended with {program.returncode}"
    return True
