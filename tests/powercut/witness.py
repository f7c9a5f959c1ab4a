"""A second witness beside strace: the same journal and the same load on another SQLite (APSW brings its own),
whose file layer tells each write, sync, truncation and name by itself.

It tells no sync of the folder but those that are asked for: what SQLite's file layer on Linux does beyond
that is left out, as ``disk.without_folder_sync_of_new_wal`` does.

Usage: python witness.py FOLDER TAPE SEED TRANSITIONS WAY HOW_IT_ENDS, as the journal's writer; TAPE is
carried on from session to session.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
from powercut import cuts, writer
from powercut.recording import REBUILT, Names, Said, Step, Sync, SyncFolder, Truncate, Write

from edge_agent import journal_file


def record(
    folder: Path,
    *,
    seed: int,
    transitions: int,
    way: str = writer.AS_BUILT,
    endings: Sequence[str] = cuts.ENDINGS,
) -> list[Step]:
    """As ``cuts.record``."""
    watched, tape = folder / "data", folder / "tape"
    watched.mkdir(parents=True)
    roots = os.pathsep.join(map(str, Path(__file__).parents[1:3]))
    for number, ending in enumerate(endings):
        words = (
            watched,
            tape,
            seed * len(cuts.ENDINGS) + number + 1,
            transitions // len(endings),
            way,
            ending,
        )
        done = subprocess.run(
            [sys.executable, __file__, *map(str, words)],
            capture_output=True,
            text=True,
            timeout=600,
            env={**os.environ, "PYTHONPATH": roots},
        )
        assert done.returncode == 0, done.stderr
    return Tape.load(tape).steps


@dataclass(slots=True)
class Tape:
    steps: list[Step] = field(default_factory=list)
    # Files are numbered as they are made.
    names: dict[str, int] = field(default_factory=dict)
    files: int = 0

    @classmethod
    def load(cls, path: Path) -> Tape:
        if not path.exists():
            return cls()
        found = pickle.loads(path.read_bytes())
        assert isinstance(found, cls)
        return found

    def save(self, path: Path) -> None:
        path.write_bytes(pickle.dumps(self))

    def number(self, name: str) -> int:
        if name not in self.names:
            self.files += 1
            self.names[name] = self.files
            self.steps.append(Names(now=((name, self.files),)))
        return self.names[name]

    def gone(self, name: str) -> None:
        del self.names[name]
        self.steps.append(Names(now=((name, None),)))


class Layer(apsw.VFS):  # type: ignore[misc, unused-ignore]
    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        super().__init__("told", "unix")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802  SQLite's
        if name is None:
            # Temporary: nothing of it has to last.
            return apsw.VFSFile("unix", name, flags)
        return File(self._tape, name, flags)

    def xDelete(self, name: str, syncdir: bool) -> None:  # noqa: N802
        super().xDelete(name, syncdir)
        self._tape.gone(Path(name).name)
        if syncdir:
            self._tape.steps.append(SyncFolder())


class File(apsw.VFSFile):  # type: ignore[misc, unused-ignore]
    """The order of the calls is the order of the steps: a write may be on the disk from its beginning on,
    what is synced is there at its end.
    """

    def __init__(self, tape: Tape, name: Any, flags: list[int]) -> None:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        super().__init__("unix", name, flags)
        self._tape = tape
        self._number = 0 if path.endswith(REBUILT) else tape.number(Path(path).name)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._tape.steps.append(Write(self._number, offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        self._tape.steps.append(Truncate(self._number, newsize))
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802
        super().xSync(flags)
        self._tape.steps.append(Sync(self._number))


class Rows:
    """What a statement returned."""

    def __init__(self, rows: list[Any]) -> None:
        self._rows = iter(rows)

    def fetchone(self) -> Any:
        return next(self._rows, None)

    def fetchall(self) -> list[Any]:
        return list(self._rows)

    def __iter__(self) -> Iterator[Any]:
        return self._rows


class Connection:
    """As much of the standard library's as the journal uses, over APSW."""

    instead: Mapping[str, str] = {}
    text_factory: Any = None

    def __init__(self, path: Path, **_: Any) -> None:
        self._apsw = apsw.Connection(str(path), vfs="told")

    def execute(self, sql: str, values: Sequence[Any] = ()) -> Rows:
        return self._run(lambda: list(self._apsw.execute(self._meant(sql), tuple(values))))

    def executemany(self, sql: str, values: Sequence[Any]) -> Rows:
        return self._run(lambda: list(self._apsw.executemany(sql, values)))

    def executescript(self, script: str) -> Rows:
        return self._run(lambda: list(self._apsw.execute(script)))

    def close(self) -> None:
        self._apsw.close()

    def _meant(self, sql: str) -> str:
        return self.instead.get(sql.replace(" ", ""), sql)

    def _run(self, act: Callable[[], list[Any]]) -> Rows:
        try:
            return Rows(act())
        except apsw.ConstraintError as error:
            raise sqlite3.IntegrityError(str(error)) from error
        except apsw.Error as error:
            raise sqlite3.OperationalError(str(error)) from error


async def main(arguments: Sequence[str]) -> None:
    folder, tape_path, seed, transitions, way, ending = arguments
    tape = Tape.load(Path(tape_path))
    layer = Layer(tape)
    Connection.instead = writer.instead_of(way)
    sqlite3.connect = Connection  # type: ignore[assignment, misc]
    sync_folder = journal_file._sync_folder

    def told_sync_folder(path: Path) -> None:
        sync_folder(path)
        tape.steps.append(SyncFolder())

    journal_file._sync_folder = told_sync_folder if way != writer.NOT_CREATED_SAFELY else lambda path: None
    await writer.live(
        folder,
        seed,
        transitions,
        lambda *words: tape.steps.append(Said(words=tuple(map(str, words)))),
        ending,
    )
    tape.save(Path(tape_path))
    if ending == "killed":
        os._exit(0)
    del layer


if __name__ == "__main__":
    # What is pickled here is read by those who import it.
    from powercut import witness

    asyncio.run(witness.main(sys.argv[1:]))
