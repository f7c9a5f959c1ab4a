"""SQLite before 3.51.3 corrupts a file that two connections write or checkpoint at the wrong moment
(sqlite.org/wal.html, "The WAL Reset Bug"). Here exactly one does, on either side: read from the system calls.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

# Descriptors are compared, so none may be used again: nothing is closed before the end.
JOURNAL = """
import asyncio, os, sys
from pathlib import Path
from rigs.journals import closing, opening
from rigs.moments import HandClock, ids
from edge_agent.journal import Journal

async def main(folder):
    clock = HandClock()
    journal = await Journal.open(folder, new_id=ids(), stamp=clock.stamp)
    async def live(device):
        for _ in range(150):
            await journal.commit([opening(clock, device, evidence={"text": "x" * 4000})])
            await journal.commit([closing(clock, device)])
            await journal.batch(max_rows=10, max_bytes=10_000)
            await journal.open_occurrences()
    await asyncio.gather(*(live(f"belt-{n}") for n in range(4)))
    os._exit(0)

asyncio.run(main(Path(sys.argv[1])))
"""
COLLECTOR = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from rigs.edge_voice import EdgeVoice, enrol
from collector.store import Store, figures
from collector.store.backup import back_up

folder = Path(sys.argv[1])
store = Store.open(f"sqlite:///{folder}/collector.sqlite3")
def live(name):
    voice = EdgeVoice(enrol(store, name), seed=hash(name))
    for minute in range(60):
        voice.raises(minute, f"{name}-{minute}", evidence={"text": "x" * 6000})
        voice.sync(store, minute)
        store.read(figures.figures)
with ThreadPoolExecutor(6) as threads:
    list(threads.map(live, [f"gw-{n}" for n in range(6)]))
back_up(folder / "collector.sqlite3", folder / "copy")
os._exit(0)
"""
_CHANGES = re.compile(r"^\d+ +(pwrite64|write|ftruncate|fdatasync|fsync)\((\d+)<([^>]*)>")
_OPENED = re.compile(r'^\d+ +openat\(.*"[^"]*", ([A-Z_|]+)(?:, 0\d+)?\) += +(\d+)<([^>]*)>')


@pytest.mark.parametrize(
    ("program", "database", "others_read"),
    [(JOURNAL, "journal.db", False), (COLLECTOR, "collector.sqlite3", True)],
    ids=["journal", "collector"],
)
def test_one_connection_writes_and_checkpoints(
    tmp_path: Path, program: str, database: str, others_read: bool
) -> None:
    folder, trace = tmp_path / "data", tmp_path / "trace"
    folder.mkdir()
    calls = "pwrite64,write,ftruncate,fdatasync,fsync,openat"
    command = ["strace", "--seccomp-bpf", "-f", "-y", "-q", "-e", f"trace={calls}", "-e", "signal=none"]
    roots = os.pathsep.join(map(str, Path(__file__).parents[1:3]))
    done = subprocess.run(
        [*command, "-o", str(trace), sys.executable, "-c", program, str(folder)],
        capture_output=True,
        text=True,
        timeout=110,
        env={**os.environ, "PYTHONPATH": roots},
    )
    assert done.returncode == 0, done.stderr
    changed_by, opened = defaultdict[str, set[int]](set), defaultdict[str, set[str]](set)
    with trace.open(errors="replace") as lines:
        for line in lines:
            if found := _CHANGES.match(line):
                changed_by[found[3]].add(int(found[2]))
            elif found := _OPENED.match(line):
                opened[found[3]].add(found[1].partition("|")[0])
    for end in ("", "-wal"):
        file = f"{folder}/{database}{end}"
        assert len(changed_by[file]) == 1, f"{file} is changed by several: {changed_by[file]}"
    # There was something to checkpoint, and where somebody else reads, it was opened for reading alone.
    assert (folder / database).stat().st_size > 500_000
    assert ("O_RDONLY" in opened[f"{folder}/{database}"]) == others_read
