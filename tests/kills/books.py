"""What stands in the books of both sides, read past the programs: the journal, the collector's database."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import NullPool, create_engine, select

from collector.store.tables import occurrence, quarantine, ticket
from edge_agent.journal import FILE


@dataclass(frozen=True, slots=True)
class Entry:
    """One occurrence; the same on both sides."""

    rev: int
    open: bool
    # Device, component, fault.
    key: str


Book = dict[str, Entry]


def of_journal(data_dir: Path) -> Book:
    """Of an agent that does not run. Its files are read as a copy: nothing of them is touched."""
    with tempfile.TemporaryDirectory() as copy:
        for file in data_dir.glob(f"{FILE}*"):
            if not file.name.endswith("-shm"):
                shutil.copy(file, copy)
        assert not list(data_dir.glob(f"{FILE}.broken-*")), "the journal was set aside as broken"
        connection = sqlite3.connect(Path(copy) / FILE)
        try:
            if connection.execute("PRAGMA user_version").fetchone() == (0,):
                return {}
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            rows = connection.execute("SELECT uid, body ->> 'rev', open, key FROM occurrence").fetchall()
            return {uid: Entry(int(rev), bool(is_open), key) for uid, rev, is_open, key in rows}
        finally:
            connection.close()


class CollectorBooks:
    """Of a collector that may run or not."""

    def __init__(self, url: str) -> None:
        driver = url.replace("postgresql://", "postgresql+psycopg://")
        # Its server may be killed between two looks.
        self._engine = create_engine(driver, poolclass=NullPool)

    def close(self) -> None:
        self._engine.dispose()

    def occurrences(self, uids: Iterable[str] | None = None) -> Book:
        columns = (occurrence.c.uid, occurrence.c.rev, occurrence.c.open, occurrence.c.device)
        query = select(*columns, occurrence.c.component, occurrence.c.fault).where(~occurrence.c.minted)
        found: Book = {}
        with self._engine.connect() as connection:
            if uids is None:
                rows = connection.execute(query).all()
            else:
                wanted = sorted(uids)
                rows = [
                    row
                    for start in range(0, len(wanted), 500)
                    for row in connection.execute(
                        query.where(occurrence.c.uid.in_(wanted[start : start + 500]))
                    )
                ]
        for row in rows:
            found[row.uid] = Entry(row.rev, row.open, f"{row.device}|{row.component}|{row.fault}")
        return found

    def broken_promises(self) -> list[str]:
        """One open ticket at most for a fault, each occurrence on one that fits it, nothing put aside."""
        with self._engine.connect() as connection:
            tickets = {row.id: row for row in connection.execute(select(ticket))}
            columns = (occurrence.c.uid, occurrence.c.ticket_id, occurrence.c.open, occurrence.c.count)
            occurrences = connection.execute(select(*columns)).all()
            aside = connection.execute(select(quarantine.c.error)).all()
        broken = [f"put aside: {row.error}" for row in aside]
        open_keys = Counter(row.dedupe_key for row in tickets.values() if row.closed_ms is None)
        broken += [f"{count} open tickets of {key}" for key, count in open_keys.items() if count > 1]
        open_here = {row.ticket_id for row in occurrences if row.open}
        raises = Counter[str]()
        for row in occurrences:
            raises[row.ticket_id] += row.count
        for one in tickets.values():
            if (one.condition == "cleared") == (one.id in open_here):
                broken.append(f"ticket {one.id} is {one.condition}, open occurrences: {one.id in open_here}")
            if one.closed_ms is not None and one.id in open_here:
                broken.append(f"ticket {one.id} is closed with an open occurrence")
            if one.merged_into is None and one.count != raises[one.id]:
                broken.append(f"ticket {one.id} counts {one.count} raises, its occurrences {raises[one.id]}")
        return broken


def lost(promised: Book, found: Book) -> list[str]:
    """What was promised and is not there, or is there in an older form."""
    return [
        f"{uid} {entry}, found {found.get(uid)}"
        for uid, entry in promised.items()
        if uid not in found or found[uid].rev < entry.rev
    ]
