"""A journal under load with its file of evidence beside it, as an agent has them; says what it wrote.

Usage: python evidence_writer.py FOLDER SAID SEED TRANSITIONS WAY HOW_IT_ENDS, as the journal's writer. The
wrong way opens the file of evidence without any sync; the journal is as built.
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from powercut import writer
from powercut.writer import AS_BUILT, Spoilt

from edge_agent.evidence_file import FILE, EvidenceFile, NewPart

NEVER_SYNCED = "never-synced"
# Small, so that it is thinned, moved and cut off all the time.
MAX_BYTES = 512 << 10
MOST_BYTES = 64 << 10
SIZES = (0, 60, 900, 4_000, 15_000)


def content(uid: str, part: str) -> dict[str, str]:
    """Always the same, and not to be packed."""
    dice = random.Random(f"{uid} {part}")
    return {"uid": uid, "part": part, "noise": dice.randbytes(dice.choice(SIZES)).hex()}


class Beside:
    """Writes what belongs to each row once the journal has confirmed it."""

    def __init__(self, file: EvidenceFile, dice: random.Random, say: Callable[..., None]) -> None:
        self._file, self._dice, self._say = file, dice, say

    def hear(self, *words: object) -> None:
        self._say(*words)
        if words[0] == "row":
            uid, is_open = str(words[1]), words[4] == "open"
            self._write(uid, "before" if is_open else "after", closed=not is_open)
        elif words[0] == "cursor":
            told = self._file.waiting(max_bytes=MOST_BYTES, at_most=self._dice.randrange(1, 40))
            self._file.sent([one.seq for one in told])
        if self._dice.random() < 0.01:
            self._dice.choice((self._file.make_room_on_the_disk, self._file.send_again))()

    def _write(self, uid: str, part: str, *, closed: bool) -> None:
        no_room = self._dice.random() < 0.02
        new = NewPart(uid=uid, part=part, evidence=None if no_room else content(uid, part))
        self._file.write([new], [uid] if closed else [])
        self._say("part", uid, part)


async def main(arguments: Sequence[str]) -> None:
    folder, said, seed, transitions, way, ending = arguments
    if way != AS_BUILT:
        Spoilt.instead = {"PRAGMAsynchronous=NORMAL": "PRAGMA synchronous = OFF"}
        real = sqlite3.connect
        sqlite3.connect = lambda *given, **more: real(*given, **more, factory=Spoilt)  # type: ignore[assignment]
    descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def say(*words: object) -> None:
        os.write(descriptor, (" ".join(map(str, words)) + "\n").encode())

    file = EvidenceFile(Path(folder) / FILE, max_bytes=MAX_BYTES)
    beside = Beside(file, random.Random(seed), say)
    await writer.live(folder, seed, transitions, beside.hear, ending)
    if ending == "killed":
        os._exit(0)
    file.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
