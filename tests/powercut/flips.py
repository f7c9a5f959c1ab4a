"""Flips single bits of a journal's file at random, and says what the real journal makes of each."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from powercut.cuts import lay_out, was_set_aside
from rigs.journals import at_ledger, closing, opened, opening
from rigs.moments import HandClock

from edge_agent.journal import FILE, Journal, JournalError
from edge_agent.ledger import Ledger
from edge_agent.wire import ORIGIN, Stamp

DEVICES = 40
PER_TRANSACTION = 100


class Found(StrEnum):
    # SQLite's own check, at the opening: the file is set aside.
    BY_SQLITE = "by SQLite's check"
    # The checksum of a row.
    BY_CHECKSUM = "by a row's checksum"
    # Everything that is read is as it was written.
    HARMLESS = "harmless, or mended"
    # Something else is read than was written, and nobody says so.
    SILENT = "silent and wrong"


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """All that an agent reads of its journal, in the way that it does."""

    rows: dict[str, str]
    open: tuple[str, ...]
    state: tuple[object, ...]
    # What could not be raised again because it is open, by condition.
    held: tuple[str, ...]
    damaged_rows: int


async def make(folder: Path, rows: int) -> bytes:
    """The file of a journal with so many rows, closed in order."""
    clock, dice = HandClock(), random.Random(1)
    lay_out(folder, {})
    is_open = dict.fromkeys(range(DEVICES), False)
    async with opened(folder, clock, lambda: f"{dice.getrandbits(128):032x}") as journal:
        written = 0
        while written < rows:
            changes = []
            for _ in range(PER_TRANSACTION):
                clock.go(dice.random())
                number = dice.randrange(DEVICES)
                if is_open[number]:
                    changes.append(closing(clock, f"belt-{number}"))
                else:
                    text = "".join(dice.choices("abcdef", k=dice.randrange(200)))
                    changes.append(opening(clock, f"belt-{number}", evidence={"text": text}))
                    written += 1
                is_open[number] = not is_open[number]
            await journal.commit(changes)
        batch = await journal.batch(max_rows=1, max_bytes=1)
        assert batch.to[0] > 0
    assert not (folder / f"{FILE}-wal").exists()
    return (folder / FILE).read_bytes()


async def read(folder: Path) -> Read | None:
    """None: the file was set aside or refused."""
    clock, dice = HandClock(), random.Random(2)
    try:
        journal = await Journal.open(
            folder, new_id=lambda: f"{dice.getrandbits(128):032x}", stamp=clock.stamp
        )
    except JournalError:
        return None
    try:
        batch = await journal.batch(max_rows=1_000_000, max_bytes=1 << 40)
        open_rows = await journal.open_occurrences()
        state = await at_ledger(journal, lambda ledger: (*ledger._stream(), ledger.anchor()))
        again = await journal.commit([opening(clock, f"belt-{number}") for number in range(DEVICES)])
        opened_now = {row.device for row in again}
        return Read(
            rows={_uid(body): json.dumps(body, sort_keys=True) for body in batch.rows},
            open=tuple(sorted(f"{row.device} {row.uid}" for row in open_rows)),
            state=(*state, batch.lineage, batch.open_uids),
            held=tuple(sorted({f"belt-{n}" for n in range(DEVICES)} - opened_now)),
            damaged_rows=await at_ledger(journal, _damaged),
        )
    finally:
        await journal.close()


async def flip(folder: Path, whole: bytes, bit: int, truth: Read) -> tuple[Found, str]:
    """What becomes of that bit; and, should it be silent, what is wrong."""
    spoilt = bytearray(whole)
    spoilt[bit // 8] ^= 1 << bit % 8
    lay_out(folder, {FILE: bytes(spoilt)})
    found = await read(folder)
    if found is None or was_set_aside(folder):
        return Found.BY_SQLITE, ""
    if found == truth:
        return Found.HARMLESS, ""
    wrong = [uid for uid, body in found.rows.items() if truth.rows.get(uid) != body]
    if found.damaged_rows and not wrong and _is_sound(found, truth):
        return Found.BY_CHECKSUM, ""
    differs = [
        f"{name}: {_shortened(getattr(found, name))} instead of {_shortened(getattr(truth, name))}"
        for name in ("open", "state", "held", "damaged_rows")
        if getattr(found, name) != getattr(truth, name)
    ]
    missing = truth.rows.keys() - found.rows.keys()
    return (
        Found.SILENT,
        f"byte {bit // 8} of {len(whole)}: {len(wrong)} wrong, {len(missing)} missing; {differs}",
    )


async def flips(
    folder: Path,
    *,
    rows: int,
    bits: int,
    seed: int,
    only: Callable[[bytes, Read], list[range]] = lambda whole, truth: [range(len(whole))],
    progress: Callable[[Counter[Found]], None] = lambda figures: None,
) -> tuple[Counter[Found], list[str]]:
    """How many were found by what, and what was silent. ``only``: the bytes that may be hit."""
    whole = await make(folder / "made", rows)
    lay_out(folder / "truth", {FILE: whole})
    truth = await read(folder / "truth")
    assert truth is not None
    assert len(truth.rows) >= rows
    dice, figures, silent = random.Random(seed), Counter[Found](), []
    places = [place for part in only(whole, truth) for place in part]
    for _ in range(bits):
        bit = dice.choice(places) * 8 + dice.randrange(8)
        found, why = await flip(folder / "flipped", whole, bit, truth)
        figures[found] += 1
        if found is Found.SILENT:
            silent.append(why)
        progress(figures)
    return figures, silent


def of_the_state(whole: bytes, truth: Read) -> list[range]:
    """Where the rows of the stream, of its boundary and of the anchor lie; each begins with a text."""
    anchor, lineage = truth.state[4], truth.state[5]
    assert isinstance(anchor, Stamp)
    assert isinstance(lineage, list)
    texts = [str(truth.state[0]), lineage[1][1], anchor.boot]
    starts = [whole.index(text.encode()) for text in texts]
    return [range(start, start + 32) for start in starts] + [range(starts[0] + 32, starts[0] + 70)]


def _is_sound(found: Read, truth: Read) -> bool:
    """The state is as it was, or begun anew; a row that is missing is declared."""
    stream, head_seq, cursor, pruned_through, anchor, *_ = found.state
    assert isinstance(pruned_through, int)
    if (len(found.rows) < len(truth.rows)) != (pruned_through > 0):
        return False
    # To declare what is missing takes a position, if it was found at the opening.
    true_head = truth.state[1]
    assert isinstance(head_seq, int)
    assert isinstance(true_head, int)
    if head_seq - true_head not in (0, 1):
        return False
    renewed = stream != truth.state[0] and cursor == ORIGIN
    return (renewed or (stream, cursor) == (truth.state[0], truth.state[2])) and anchor in (
        None,
        truth.state[4],
    )


def _damaged(ledger: Ledger) -> int:
    return ledger.damaged_rows


def _uid(body: object) -> str:
    assert isinstance(body, dict)
    return str(body["uid"])


def _shortened(value: object) -> str:
    text = str(value)
    return text if len(text) < 200 else f"{text[:200]}..."
