"""Rows that could not be taken: kept as they came, within bounds."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence

from sqlalchemy import Connection, delete, func, select, update

from collector.store import moment
from collector.store.streams import clean, insert_for
from collector.store.tables import quarantine
from edge_agent.wire import HEX128_PATTERN

# No more of a row is kept than this; a row that can be read is far smaller.
MAX_RAW_CHARS = 64 << 10
# Of each gateway so many are kept whole, of older ones what they are about; and so many in all.
WHOLE = 1_000
MOST = 50_000
# What a row is about takes no more than this.
BRIEF_CHARS = 512
ABOUT = ("uid", "device", "component", "fault")
MAX_NAME = 64
# Rows that are shortened or let go of in one transaction, or asked for in one question.
AT_ONCE = 500


def put(
    connection: Connection, gateway_id: str, stream_id: str, bad: Sequence[tuple[object, str]], now_ms: int
) -> None:
    """Each with why. The same row again is not kept twice."""
    if not bad:
        return
    rows = [
        {
            "gateway_id": gateway_id,
            "stream": stream_id,
            "uid": legible_uid(raw),
            "received_ms": now_ms,
            "error": clean(error),
            "digest": _digest(raw),
            "raw": json.dumps(raw)[:MAX_RAW_CHARS],
        }
        for raw, error in bad
    ]
    connection.execute(insert_for(connection)(quarantine).on_conflict_do_nothing(), rows)


def were_put(connection: Connection, gateway_id: str, raws: Iterable[object]) -> bool:
    """All of these, before now."""
    digests = {_digest(raw) for raw in raws}
    found = connection.execute(
        select(quarantine.c.digest).where(
            quarantine.c.gateway_id == gateway_id, quarantine.c.digest.in_(digests)
        )
    )
    return set(found.scalars()) == digests


def legible_uid(raw: object) -> str | None:
    uid = raw.get("uid") if isinstance(raw, dict) else None
    return uid if isinstance(uid, str) and re.fullmatch(HEX128_PATTERN, uid) else None


def about(connection: Connection, gateway_id: str, uids: Collection[str]) -> Iterator[dict[str, object]]:
    """What those of these that were put aside are ABOUT, as far as that can be read; of one uid in the order
    in which they came.
    """
    wanted = sorted(uids)
    for first in range(0, len(wanted), AT_ONCE):
        some = wanted[first : first + AT_ONCE]
        found = connection.execute(
            select(quarantine.c.uid, quarantine.c.raw)
            .where(quarantine.c.gateway_id == gateway_id, quarantine.c.uid.in_(some))
            .order_by(quarantine.c.received_ms)
        )
        for uid, raw in found:
            yield {**_brief(raw), "uid": uid}


def thin(connection: Connection) -> int:
    """Keep what is held of each gateway within WHOLE and MOST: the oldest is shortened, and let go of. Of how
    many; to be called again while there are any.
    """
    if not moment.claim_timers(connection):
        return 0
    held = connection.execute(
        select(quarantine.c.gateway_id)
        .group_by(quarantine.c.gateway_id)
        .having(func.count() > WHOLE)
        .order_by(quarantine.c.gateway_id)
    )
    return sum(_thin(connection, gateway_id) for gateway_id in held.scalars().all())


def _thin(connection: Connection, gateway_id: str) -> int:
    own = quarantine.c.gateway_id == gateway_id
    newest_first = select(quarantine.c.id).where(own).order_by(quarantine.c.id.desc()).limit(1)
    too_many = connection.execute(newest_first.offset(MOST)).scalar()
    gone = 0
    if too_many is not None:
        oldest = select(quarantine.c.id).where(own, quarantine.c.id <= too_many).order_by(quarantine.c.id)
        gone = connection.execute(
            delete(quarantine).where(quarantine.c.id.in_(oldest.limit(AT_ONCE)))
        ).rowcount
    last = connection.execute(newest_first.offset(WHOLE)).scalar()
    long = (
        select(quarantine.c.id, quarantine.c.raw)
        .where(own, quarantine.c.id <= last, func.length(quarantine.c.raw) > BRIEF_CHARS)
        .limit(AT_ONCE)
    )
    shortened = connection.execute(long).all()
    for row_id, raw in shortened:
        brief = json.dumps(_brief(raw))
        connection.execute(update(quarantine).where(quarantine.c.id == row_id).values(raw=brief))
    return gone + len(shortened)


def _brief(raw: str) -> dict[str, object]:
    """What a row is about; nothing of one that was cut off."""
    told = json.loads(raw) if len(raw) < MAX_RAW_CHARS else None
    if not isinstance(told, dict):
        return {}
    short = {name: told.get(name) for name in ABOUT}
    return {name: said for name, said in short.items() if isinstance(said, str) and len(said) <= MAX_NAME}


def _digest(raw: object) -> str:
    """Sent again at a new position it is the same row."""
    told = {**raw, "mod_seq": None} if isinstance(raw, dict) else raw
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
