"""Cuts the power of a recorded journal many times, and says what the real journal makes of each image."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from powercut import writer
from powercut.disk import Disk, Folder, Image, Kept
from powercut.recording import Recorder, Said, Step, Sync, Write
from rigs.journals import at_ledger, opening
from rigs.moments import HandClock

from edge_agent.journal import FILE, Journal, JournalError
from edge_agent.ledger import BOUNDARIES_KEPT, Ledger
from edge_agent.wire import ORIGIN

# How the sessions of one recording end.
ENDINGS = ("killed", "closed", "killed", "closed")
SHORT = ("killed", "closed")


def record(
    folder: Path,
    *,
    seed: int,
    transitions: int,
    way: str = writer.AS_BUILT,
    endings: Sequence[str] = ENDINGS,
    program: str = writer.__file__,
    database: str = FILE,
) -> list[Step]:
    """Some sessions of a writer on one fresh folder."""
    watched = folder / "data"
    watched.mkdir(parents=True)
    recorder = Recorder(folder=watched, said=folder / "said", wal=f"{database}-wal")
    for number, ending in enumerate(endings):
        recorder.record(
            program,
            str(watched),
            str(recorder.said),
            str(seed * len(ENDINGS) + number + 1),
            str(transitions // len(endings)),
            way,
            ending,
        )
    return recorder.steps


# What the program had said up to the cut.
Sayings = Sequence[Sequence[str]]


@dataclass(slots=True)
class Promised:
    """What the journal had confirmed up to the cut."""

    rows: dict[str, tuple[int, int, str]] = field(default_factory=dict)
    stream: str = ""
    boundary: tuple[int, str] = ORIGIN
    cursor: int = 0

    @classmethod
    def of(cls, said: Sayings) -> Promised:
        promised = cls()
        for what, *words in said:
            if what == "row":
                promised.rows[words[0]] = (int(words[1]), int(words[2]), words[3])
            elif what == "stream":
                promised.stream = words[0]
            elif what == "boundary":
                promised.boundary = (int(words[0]), words[1])
            else:
                assert what == "cursor"
                promised.cursor = int(words[0])
        return promised


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What the real journal finds in an image."""

    rows: dict[str, tuple[int, int, str]]
    stream: str
    head_seq: int
    cursor: int
    pruned_through: int
    boundaries: tuple[tuple[int, str], ...]
    damaged_rows: int
    verdict: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    lost: tuple[str, ...] = ()
    corrupt: tuple[str, ...] = ()

    @property
    def well(self) -> bool:
        return not self.lost and not self.corrupt


def lay_out(folder: Path, image: Image) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in image.items():
        (folder / name).write_bytes(content)


def was_set_aside(folder: Path) -> bool:
    return any(folder.glob(f"{FILE}.broken-*"))


# What becomes of a folder after what was said.
Judge = Callable[[Path, Sayings], Awaitable[Outcome]]


async def of_journal(folder: Path, said: Sayings) -> Outcome:
    promised = Promised.of(said)
    try:
        held = await _held(folder)
    except (JournalError, sqlite3.Error) as error:
        return Outcome(corrupt=(f"cannot be used: {error}",))
    corrupt = []
    if was_set_aside(folder):
        corrupt.append("set aside as broken")
    if held.damaged_rows:
        corrupt.append(f"{held.damaged_rows} rows whose checksum does not fit")
    if held.verdict != "ok":
        corrupt.append(f"integrity_check: {held.verdict}")
    return Outcome(lost=tuple(_lost(promised, held)), corrupt=tuple(corrupt))


def _lost(promised: Promised, held: Held) -> Iterable[str]:
    for uid, (rev, mod_seq, state) in promised.rows.items():
        found = held.rows.get(uid)
        if found is None and not (state == "closed" and mod_seq <= held.pruned_through):
            yield f"row {uid} rev {rev}"
        elif found is not None and found[0] < rev:
            yield f"row {uid} is at rev {found[0]}, not {rev}"
    newest = max((mod_seq for _, mod_seq, _ in promised.rows.values()), default=0)
    if held.head_seq < newest:
        yield f"position {newest}, the newest is {held.head_seq}"
    if promised.stream and held.stream != promised.stream:
        yield f"stream {promised.stream}"
    if held.cursor < promised.cursor:
        yield f"cursor {promised.cursor}, it is {held.cursor}"
    if promised.boundary != ORIGIN and promised.boundary not in held.boundaries:
        yield f"boundary {promised.boundary}"


async def _held(folder: Path) -> Held:
    """And the journal can go on: it takes another change."""
    clock, dice = HandClock(), random.Random(0)
    clock.go(writer.DAY_S * 100_000)
    journal = await Journal.open(folder, new_id=lambda: f"{dice.getrandbits(128):032x}", stamp=clock.stamp)
    try:
        held = await at_ledger(journal, _read)
        (row,) = await journal.commit([opening(clock, "another")])
        assert row.mod_seq == held.head_seq + 1
        return held
    finally:
        await journal.close()


def _read(ledger: Ledger) -> Held:
    ask = ledger._sql.execute
    rows = {}
    for stored in ask("SELECT uid, key, open, mod_seq, body, crc FROM occurrence").fetchall():
        body = ledger._checked(stored)
        if body is not None:
            rows[stored[0]] = (int(str(body["rev"])), int(stored[3]), str(body["state"]))
    stream, head_seq, cursor, pruned_through = ledger._stream()
    boundaries = ask("SELECT seq, nonce FROM boundary").fetchall()
    assert len(boundaries) <= BOUNDARIES_KEPT
    return Held(
        rows=rows,
        stream=stream,
        head_seq=head_seq,
        cursor=cursor[0],
        pruned_through=pruned_through,
        boundaries=tuple(boundaries),
        damaged_rows=ledger.damaged_rows,
        verdict=ask("PRAGMA integrity_check(1)").fetchone()[0],
    )


@dataclass(slots=True)
class Figures:
    images: int = 0
    lossy: int = 0
    corrupt: int = 0
    most_lost: int = 0
    confirmed: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    # The first few that were not well, to look into.
    bad: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.images} images: {self.lossy} lose something confirmed (at most {self.most_lost} things), "
            f"{self.corrupt} are corrupt; up to {self.confirmed} rows confirmed before the cut"
        )


async def cut(
    steps: Sequence[Step],
    folder: Path,
    *,
    images: int,
    seed: int,
    database: str = FILE,
    judge: Judge = of_journal,
    progress: Callable[[Figures], None] = lambda figures: None,
    figures: Figures | None = None,
) -> Figures:
    """Power cuts at random points, and at those where the files change in a rarer way. ``figures``: those of
    other recordings, to which these are added.
    """
    dice, disk = random.Random(seed), Disk()
    figures = Figures() if figures is None else figures
    points = sorted(_point(steps, dice) for _ in range(images))
    place = iter(points)
    point = next(place, None)
    for number, step in enumerate(steps, 1):
        disk.take(step)
        while point == number:
            kept, names = dice.choice(list(Kept)), dice.choice(list(Folder))
            image = disk.image(kept, names, dice)
            if dice.random() < 0.3:
                # Whatever was left of what is rebuilt anyway.
                image[f"{database}-shm"] = dice.randbytes(32_768)
            lay_out(folder / "image", image)
            found = await judge(folder / "image", disk.said)
            figures.images += 1
            figures.lossy += bool(found.lost)
            figures.corrupt += bool(found.corrupt)
            figures.most_lost = max(figures.most_lost, len(found.lost))
            rows = {words[1] for words in disk.said if words[0] == "row"}
            figures.confirmed = max(figures.confirmed, len(rows))
            figures.kinds[f"{kept}, names {names}"] += 1
            if not found.well and len(figures.bad) < 5:
                why = json.dumps([*found.corrupt, *found.lost[:3]])
                figures.bad.append(f"after step {number} of {len(steps)}, kept {kept}, names {names}: {why}")
            progress(figures)
            point = next(place, None)
    return figures


def _point(steps: Sequence[Step], dice: random.Random) -> int:
    """Half of them anywhere, half where files come and go, are synced for the first time, checkpointed."""
    rare = [number for number, step in enumerate(steps, 1) if _is_rare(step)]
    if dice.random() < 0.5 or not rare:
        return dice.randrange(1, len(steps) + 1)
    return min(len(steps), max(1, dice.choice(rare) + dice.randrange(-3, 12)))


def _is_rare(step: Step) -> bool:
    match step:
        case Write():
            # The database itself, a rollback journal, the head of a write-ahead log.
            return step.at == 0
        case Said() | Sync():
            return False
    return True
