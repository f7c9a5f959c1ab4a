"""A disk of a few MiB that can be filled up and emptied again; needs root, as in CI, or a namespace."""

from __future__ import annotations

import errno
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHUNK = 4096


class SmallDisk:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._other = folder / "another-program"

    def free(self) -> int:
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def fill(self, leave: int = 0) -> None:
        """Another program takes what is left, but for so many bytes."""
        with self._other.open("ab", buffering=0) as file:
            while not leave or self.free() - CHUNK >= leave:
                try:
                    file.write(bytes(CHUNK))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    return

    def empty(self) -> None:
        self._other.unlink()


@contextmanager
def small_disk(folder: Path, mib: int, *, owner: str | None = None) -> Iterator[SmallDisk]:
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(folder)], check=True)
    try:
        if owner is not None:
            shutil.chown(folder, owner)
            folder.chmod(0o700)
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def with_a_disk_of(mib: int) -> Callable[[Callable[[SmallDisk], None]], Callable[[Path, Any], None]]:
    """The test is given a ``SmallDisk``. Who may not mount runs it once more where everybody may: in a
    namespace of its own.
    """

    def decorate(test: Callable[[SmallDisk], None]) -> Callable[[Path, Any], None]:
        @functools.wraps(test)
        def run(tmp_path: Path, request: Any) -> None:
            if os.geteuid() == 0:
                with small_disk(tmp_path / "disk", mib) as disk:
                    test(disk)
                return
            again = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-m", "pytest"]
            again += ["-q", "-p", "no:cacheprovider", request.node.nodeid]
            done = subprocess.run(again, cwd=request.config.rootpath, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout

        del run.__wrapped__  # type: ignore[attr-defined]  # pytest would ask it for its arguments
        return run

    return decorate
