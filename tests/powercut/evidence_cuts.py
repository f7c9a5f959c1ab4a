"""Says what the real file of evidence, and the journal beside it, make of an image after a power cut.

Evidence may be lost. What is there is what was written, the file takes more, and the journal is what it was.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from powercut import cuts, evidence_writer
from powercut.cuts import Figures, Outcome, Sayings
from powercut.evidence_writer import MAX_BYTES, content
from powercut.recording import Step

from edge_agent import evidence_file, journal
from edge_agent.evidence_file import EvidenceFile, NewPart

ANOTHER = NewPart(uid="another", part="before", evidence={"said": "another"})
EVERYTHING = {"max_bytes": 1 << 30, "at_most": 1 << 20}


record = partial(cuts.record, program=evidence_writer.__file__, database=evidence_file.FILE)


@dataclass(slots=True)
class Seen:
    """Of all images together."""

    # There were parts before, and a new file had to be begun.
    begun_anew: int = 0
    # The newest parts that were written and are gone.
    most_lost: int = 0

    async def judge(self, folder: Path, said: Sayings) -> Outcome:
        beside = _bytes_of_journal(folder)
        try:
            wrong = list(self._of_evidence(folder / evidence_file.FILE, said))
        except Exception as error:  # noqa: BLE001  whatever it is, an agent would have met it
            wrong = [f"raised {error!r}"]
        if _bytes_of_journal(folder) != beside:
            wrong.append("the journal was touched")
        held = await cuts.of_journal(folder, [words for words in said if words[0] != "part"])
        return Outcome(lost=held.lost, corrupt=(*wrong, *held.corrupt))

    def _of_evidence(self, path: Path, said: Sayings) -> Iterator[str]:
        file = Watched(path, max_bytes=MAX_BYTES)
        file.figures()
        found = file.waiting(**EVERYTHING)
        written = [(words[1], words[2]) for words in said if words[0] == "part"]
        self.most_lost = max(self.most_lost, _lost_at_the_end(path, written))
        for one in found:
            if one.evidence is not None and one.evidence != content(one.uid, one.part):
                yield f"{one.uid} {one.part} is not what was written"
        # Damage may come to light with this; a new file has none.
        if not _takes(file) and not _takes(file):
            yield "it takes no more"
        before = file.begun_anew
        file.send_again()
        file.sent([one.seq for one in file.waiting(**EVERYTHING) if one.uid != ANOTHER.uid])
        file.close()
        self.begun_anew += bool(written) and file.begun_anew > 0
        again = Watched(path, max_bytes=MAX_BYTES)
        # Marks of what turned out to be damaged may be there, too.
        left = [(one.uid, one.evidence) for one in again.waiting(**EVERYTHING) if one.evidence is not None]
        if left != [(ANOTHER.uid, ANOTHER.evidence)] and file.begun_anew + again.begun_anew == before:
            yield f"what was written after it: {left}"
        again.make_room_on_the_disk()
        again.close()


class Watched(EvidenceFile):
    begun_anew = 0

    def _begin_anew(self, error: Exception) -> None:
        self.begun_anew += 1
        super()._begin_anew(error)


def _takes(file: EvidenceFile) -> bool:
    file.write([ANOTHER], [ANOTHER.uid])
    return any(one.evidence == ANOTHER.evidence for one in file.waiting(**EVERYTHING))


async def cut(
    steps: Sequence[Step],
    folder: Path,
    *,
    images: int,
    seed: int,
    progress: Callable[[Figures], None] = lambda figures: None,
) -> tuple[Figures, Seen]:
    seen = Seen()
    figures = await cuts.cut(
        steps,
        folder,
        images=images,
        seed=seed,
        database=evidence_file.FILE,
        judge=seen.judge,
        progress=progress,
    )
    return figures, seen


def _lost_at_the_end(path: Path, written: Sequence[tuple[str, str]]) -> int:
    """How many of the newest are neither there nor known to have been given up."""
    known: set[tuple[str, str]] = set()
    with closing(sqlite3.connect(path)) as sql, suppress(sqlite3.Error):
        known.update(sql.execute("SELECT uid, part FROM part UNION ALL SELECT uid, part FROM mark"))
    return next((number for number, one in enumerate(reversed(written)) if one in known), len(written))


def _bytes_of_journal(folder: Path) -> dict[str, bytes]:
    return {one.name: one.read_bytes() for one in folder.glob(f"{journal.FILE}*")}
