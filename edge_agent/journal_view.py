"""Reads what a journal and the file of evidence beside it hold, for people: while their agent runs or not,
without its lock, writing nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from edge_agent import evidence_file
from edge_agent.evidence_file import Figures
from edge_agent.journal import FILE
from edge_agent.journal_caps import Caps, Given
from edge_agent.journal_disk import FILE as BALLAST_FILE
from edge_agent.journal_file import JournalError
from edge_agent.journal_salvage import UNREADABLE, set_aside_files

_ROWS = """
    SELECT open, mod_seq > (SELECT cursor_seq FROM stream), count(*), sum(count) FROM occurrence
    GROUP BY 1, 2"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """A roll-up is one row of many occurrences."""

    rows: int = 0
    occurrences: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """As of one moment; sizes in bytes."""

    file: Path
    # By (is open, waits for the collector).
    rows: dict[tuple[bool, bool], Rows]
    stream: str
    head_seq: int
    # The collector holds all up to here, and the oldest rows may be gone up to there.
    cursor_seq: int
    pruned_through: int
    ran_until: str
    file_bytes: int
    log_bytes: int
    evidence_bytes: int
    given_up: dict[str, int]
    ballast_bytes: int
    set_aside: dict[str, int]
    # Of the file of evidence; or why there are none.
    recorded: Figures | str


def read(data_dir: Path) -> View:
    """Raises JournalError."""
    file = data_dir / FILE
    try:
        if not file.exists():
            raise JournalError(f"{file}: there is no journal; the agent makes it at its first start")
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as sql:
            sql.execute("BEGIN")
            return _view(file, sql)
    except PermissionError as error:
        raise JournalError(f"{file}: may not be read; run this as root or as the agent's user") from error
    except UNREADABLE as error:
        raise JournalError(
            f"{file}: cannot be read: {error}; the agent puts right what it can when it starts"
        ) from error


def lines(view: View, caps: Caps, ballast_bytes: int, recorded_bytes: int) -> Iterator[str]:
    """``caps`` and what the ballast and the file of evidence have at most: as configured."""
    yield f"{view.file}"
    for words, is_open, waits in (
        ("open, not sent", True, True),
        ("open, sent", True, False),
        ("closed, waiting", False, True),
        ("closed, sent", False, False),
    ):
        found = view.rows.get((is_open, waits), Rows())
        many = f" ({found.occurrences} occurrences)" if found.occurrences != found.rows else ""
        yield f"  {words:<18}{found.rows} rows{many}"
    where = f"newest {view.head_seq}, collector holds {view.cursor_seq}, pruned through {view.pruned_through}"
    yield f"  {'positions':<18}{where}"
    yield f"  {'stream':<18}{view.stream}"
    yield f"  {'ran until':<18}{view.ran_until}"
    yield f"  {'file':<18}{_of(view.file_bytes, caps.journal_bytes)}, its log {_mib(view.log_bytes)}"
    yield f"  {'evidence':<18}{_of(view.evidence_bytes, caps.evidence_bytes)}"
    yield f"  {'ballast':<18}{_of(view.ballast_bytes, ballast_bytes)}"
    yield f"  {evidence_file.FILE:<18}{_recorded_words(view.recorded, recorded_bytes)}"
    for name, count in view.given_up.items():
        yield f"  {name.replace('_', ' '):<22}{count}"
    for name, size in view.set_aside.items():
        yield f"  set aside: {name} ({_mib(size)})"


def _view(file: Path, sql: sqlite3.Connection) -> View:
    stream, head_seq, cursor_seq, pruned_through, evidence_bytes = sql.execute(
        "SELECT id, head_seq, cursor_seq, pruned_through, evidence_bytes FROM stream"
    ).fetchone() or ("none yet", 0, 0, 0, 0)
    anchor = sql.execute("SELECT wall_ms FROM anchor").fetchone()
    counted = dict(sql.execute("SELECT name, count FROM counter"))
    return View(
        file=file,
        rows={
            (bool(is_open), bool(waits)): Rows(rows=rows, occurrences=occurrences)
            for is_open, waits, rows, occurrences in sql.execute(_ROWS)
        },
        stream=stream,
        head_seq=head_seq,
        cursor_seq=cursor_seq,
        pruned_through=pruned_through,
        ran_until=_moment(anchor[0]) if anchor else "never",
        file_bytes=file.stat().st_size,
        log_bytes=_size(file.with_name(f"{file.name}-wal")),
        evidence_bytes=evidence_bytes,
        given_up={what.value: counted.get(what.value, 0) for what in Given},
        ballast_bytes=_size(file.with_name(BALLAST_FILE)),
        set_aside={one.name: _size(one) for one in set_aside_files(file)},
        recorded=_recorded(file.with_name(evidence_file.FILE)),
    )


def _moment(wall_ms: int) -> str:
    try:
        return datetime.fromtimestamp(wall_ms / 1000, UTC).isoformat(" ", "seconds")
    except (ValueError, OverflowError):
        return "damaged; the agent forgets it when it starts"


def _recorded(file: Path) -> Figures | str:
    try:
        return evidence_file.read(file)
    except FileNotFoundError:
        return "not there; the agent makes it when it starts"
    except UNREADABLE as error:
        return f"cannot be read: {error}; the agent begins a new one"


def _recorded_words(found: Figures | str, at_most: int) -> str:
    if isinstance(found, str):
        return found
    return f"{_of(found.used_bytes, at_most)}, {found.waiting} parts waiting, {found.given_up} given up"


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _of(size: int, cap: int) -> str:
    return f"{_mib(size)} of {_mib(cap)}"


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"
