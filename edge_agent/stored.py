"""Decides whether what the journal's file gives back is what was written to it.

SQLite has no checksums of its own. The body of a row has one (CRC-32) and holds all that its columns hold, so
that a body that is whole wins over a column and over an index.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass

from edge_agent.wire import THINNED, Row, condition_key

# What is read of a row: uid, key, open, mod_seq, body, crc.
Stored = tuple[str, str, int, int, str, int]
COLUMNS = "uid, key, open, mod_seq, body, crc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """What the columns of a row have to be, by its body."""

    uid: str
    key: str
    open: int
    mod_seq: int
    count: int
    evidence_bytes: int


def checksum(*columns: object) -> int:
    """Of a row of another table."""
    return zlib.crc32("|".join(map(str, columns)).encode("utf-8", "surrogateescape"))


def crc(text: str) -> int:
    """Of the body of a row."""
    return zlib.crc32(text.encode("utf-8", "surrogateescape"))


def body(text: str, expected: int) -> dict[str, object] | None:
    """None if it is not what was written."""
    if crc(text) != expected:
        return None
    found: dict[str, object] = json.loads(text)
    return found


def whole(stored: Stored) -> dict[str, object] | None:
    """The body of a row; None if body and columns are not what was written."""
    uid, key, is_open, mod_seq, text, expected = stored
    found = body(text, expected)
    if found is None:
        return None
    told = (found["uid"], _key(found), found["mod_seq"], found["state"] == "open")
    return found if told == (uid, key, mod_seq, bool(is_open)) else None


def row(stored: Stored) -> Row | None:
    found = whole(stored)
    return None if found is None else Row.model_validate(found)


def columns(found: dict[str, object]) -> Columns:
    """Raises KeyError, TypeError or ValueError for a body that no agent wrote."""
    return Columns(
        uid=str(found["uid"]),
        key=_key(found),
        open=int(found["state"] == "open"),
        mod_seq=int(str(found["mod_seq"])),
        count=len(members) if isinstance(members := found.get("members"), list) else 1,
        evidence_bytes=evidence_bytes(found.get("evidence")),
    )


def evidence_bytes(evidence: object) -> int:
    """How much could be given up: nothing of what was given up already."""
    if evidence is None or evidence == THINNED:
        return 0
    return len(json.dumps(evidence, separators=(",", ":"), ensure_ascii=False))


def _key(found: dict[str, object]) -> str:
    return condition_key(str(found["device"]), str(found["component"]), str(found["fault"]))
