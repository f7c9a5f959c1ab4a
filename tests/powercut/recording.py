"""Turns what ``strace`` saw of a program into the steps that its disk went through, in their order.

strace is used because it needs no compiler and sees the SQLite that ships with Python as it is. A call that
changes a watched file in a way that is not understood here ends the recording: nothing is left out silently.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

# "?": not every architecture has every call.
CALLS = (
    "pwrite64,write,?pwritev,?pwritev2,writev,fdatasync,fsync,ftruncate,?truncate,fallocate,?lseek,"
    "?unlink,unlinkat,?rename,?renameat,?renameat2,?link,linkat,?open,openat,?copy_file_range,?sendfile"
)
# Rebuilt by whoever opens the database first; it holds nothing that has to last.
REBUILT = "-shm"


@dataclass(frozen=True, slots=True)
class Write:
    file: int
    at: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    file: int
    size: int


@dataclass(frozen=True, slots=True)
class Sync:
    file: int


@dataclass(frozen=True, slots=True)
class Names:
    """Changes of the folder that happen together: a name and the file it stands for now, or None."""

    now: tuple[tuple[str, int | None], ...]


@dataclass(frozen=True, slots=True)
class SyncFolder:
    # It follows the first sync of a new write-ahead log.
    of_new_wal: bool = False


@dataclass(frozen=True, slots=True)
class Said:
    words: tuple[str, ...]


Step = Write | Truncate | Sync | Names | SyncFolder | Said

_LINE = re.compile(r"^(\d+) +(.*)$")
_CALL = re.compile(r"^(\w+)\((.*)\) += +(-?\d+|\?)(.*)$")
_RESUMED = re.compile(r"^<\.\.\. (\w+) resumed>(.*)$")
_UNFINISHED = " <unfinished ...>"
_FD = re.compile(r"^(\d+)<([^>]*)>")
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')
# At its entry a write may have reached the disk; a sync has reached it only at its return.
WHOLE = 1 << 30
_AT_RETURN = {"fdatasync", "fsync", "openat", "open"}


@dataclass(slots=True, kw_only=True)
class Recorder:
    """``steps`` of any number of programs, one after the other, in one folder."""

    folder: Path
    said: Path
    # The name of the write-ahead log.
    wal: str
    steps: list[Step] = field(default_factory=list)
    # What is in the folder: files are numbered as they are made.
    names: dict[str, int] = field(default_factory=dict)
    files: int = 0

    def record(self, *program: str) -> None:
        """Run a Python program under strace to its end."""
        trace = self.said.with_suffix(".strace")
        command = ["strace", "--seccomp-bpf", "-f", "-y", "-q", "-s", "1000000", "-e", f"trace={CALLS}"]
        # Its signals are of no interest.
        command += ["-e", "signal=none", "-o", str(trace), sys.executable, *program]
        roots = os.pathsep.join(map(str, Path(__file__).parents[1:3]))
        environment = {**os.environ, "PYTHONPATH": roots}
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
        assert done.returncode == 0, done.stderr
        self._read(trace)
        trace.unlink()

    def _read(self, trace: Path) -> None:
        open_files: dict[int, tuple[str, int]] = {}
        places: dict[int, int] = {}
        with trace.open(encoding="latin-1") as lines:
            for call, arguments, result, rest in _calls(lines):
                self._take(call, arguments, result, rest, open_files, places)

    def _take(
        self,
        call: str,
        arguments: str,
        result: int,
        rest: str,
        open_files: dict[int, tuple[str, int]],
        places: dict[int, int],
    ) -> None:
        if result < 0:
            return
        if call in ("openat", "open"):
            self._opened(arguments, result, rest, open_files)
            places[result] = 0
        elif call in ("unlink", "unlinkat", "rename", "renameat", "renameat2"):
            self._renamed(call, [self._name(_bytes(text).decode()) for text in _TEXT.findall(arguments)])
        elif call in ("link", "linkat", "truncate"):
            assert str(self.folder) not in arguments, f"not understood: {call}({arguments})"
        elif (found := _FD.match(arguments)) is not None:
            self._on_descriptor(call, arguments, result, int(found[1]), found[2], open_files, places)

    def _on_descriptor(
        self,
        call: str,
        arguments: str,
        result: int,
        descriptor: int,
        path: str,
        open_files: dict[int, tuple[str, int]],
        places: dict[int, int],
    ) -> None:
        if path == str(self.folder):
            assert call in ("fsync", "fdatasync"), call
            before = self.steps[-1]
            wal = self.names.get(self.wal)
            fresh = before == Sync(wal or 0) and self.steps.count(before) == 1
            self.steps.append(SyncFolder(of_new_wal=fresh))
            return
        if path == str(self.said):
            assert call == "write", call
            self.steps.append(Said(words=tuple(_data(arguments).decode().split())))
            return
        if not path.startswith(f"{self.folder}/") or descriptor not in open_files:
            return
        name, file = open_files[descriptor]
        if name.endswith(REBUILT):
            return
        numbers = [int(word) for word in re.findall(r", (\d+)", _TEXT.sub("", arguments))]
        if call == "pwrite64":
            self._written(file, numbers[-1], _data(arguments), result)
        elif call == "write":
            self._written(file, places[descriptor], _data(arguments), result)
            places[descriptor] += result
        elif call == "lseek":
            places[descriptor] = result
        elif call == "ftruncate":
            self.steps.append(Truncate(file, numbers[-1]))
        else:
            assert call in ("fdatasync", "fsync"), f"not understood: {call}({arguments[:200]})"
            self.steps.append(Sync(file))

    def _written(self, file: int, at: int, data: bytes, result: int) -> None:
        self.steps.append(Write(file, at, data[:result]))

    def _opened(
        self, arguments: str, descriptor: int, rest: str, open_files: dict[int, tuple[str, int]]
    ) -> None:
        open_files.pop(descriptor, None)
        path = rest.strip().removeprefix("<").removesuffix(">")
        name = self._name(path)
        if not name:
            return
        if name not in self.names:
            assert "O_CREAT" in arguments, f"{name} was not there before"
            self.files += 1
            self.names[name] = self.files
            if not name.endswith(REBUILT):
                self.steps.append(Names(now=((name, self.files),)))
        elif "O_TRUNC" in arguments:
            self.steps.append(Truncate(self.names[name], 0))
        open_files[descriptor] = (name, self.names[name])

    def _renamed(self, call: str, names: list[str]) -> None:
        if not any(names):
            return
        assert all(names), f"not understood: {call} {names}"
        file = self.names.pop(names[0])
        now: list[tuple[str, int | None]] = [(names[0], None)]
        if len(names) == 2:
            self.names[names[1]] = file
            now.append((names[1], file))
        if not names[0].endswith(REBUILT):
            self.steps.append(Names(now=tuple(now)))

    def _name(self, path: str) -> str:
        """In the folder, or nothing."""
        whole = Path(path)
        return whole.name if whole.parent == self.folder else ""


def _calls(lines: Iterator[str]) -> Iterator[tuple[str, str, int, str]]:
    """(call, arguments, result, what follows), each where it took effect."""
    waiting: dict[str, str] = {}
    for line in lines:
        found = _LINE.match(line.rstrip("\n"))
        assert found is not None, line[:200]
        thread, text = found[1], found[2]
        if text.endswith(_UNFINISHED):
            begun = text.removesuffix(_UNFINISHED)
            call = begun.split("(", 1)[0]
            if call in _AT_RETURN:
                waiting[thread] = begun
            else:
                waiting[thread] = ""
                yield _parsed(f"{begun}) = {WHOLE}")
            continue
        resumed = _RESUMED.match(text)
        if resumed is not None:
            begun = waiting.pop(thread)
            if not begun:
                # Counted in full when it began.
                assert "ENOSPC" not in resumed[2]
                continue
            text = begun + resumed[2]
        if text.startswith(("+++", "---")):
            continue
        yield _parsed(text)


def _parsed(text: str) -> tuple[str, str, int, str]:
    found = _CALL.match(text)
    assert found is not None, text[:200]
    return found[1], found[2], -1 if found[3] == "?" else int(found[3]), found[4]


def _data(arguments: str) -> bytes:
    found = _TEXT.search(arguments)
    assert found is not None
    assert not arguments[found.end() :].startswith("..."), "strace has shortened it"
    return _bytes(found[1])


def _bytes(text: str) -> bytes:
    """What strace has written as a C string."""
    written: bytes = ast.literal_eval(f'b"{text}"')
    return written
