"""What gateways recorded around the raise of an occurrence: kept packed, by occurrence and part."""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select, update

from collector.store.bulk import among
from collector.store.streams import insert_for
from collector.store.tables import document, evidence, occurrence
from edge_agent.wire import Part

# Of one occurrence; agents send two.
MAX_OF_ONE = 4
LEVEL = 6

_OWN = select(occurrence.c.uid, occurrence.c.gateway_id, occurrence.c.ticket_id).where(
    among(occurrence.c.uid, "uids"), occurrence.c.minted.is_(False)
)
_PARTS = select(evidence.c.uid, evidence.c.part, evidence.c.body).where(among(evidence.c.uid, "uids"))
_NAMES = select(evidence.c.uid, evidence.c.part).where(among(evidence.c.uid, "uids"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """``evidence`` is None when it was given up."""

    part: str
    evidence: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Of an occurrence: who told it, and where it belongs."""

    gateway_id: str
    ticket_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """As it is stored."""

    uid: str
    part: str
    body: bytes | None


def owners(connection: Connection, uids: Collection[str]) -> dict[str, Owner]:
    """Of each that an edge has told."""
    found = connection.execute(_OWN, {"uids": uids})
    return {row.uid: Owner(gateway_id=row.gateway_id, ticket_id=row.ticket_id) for row in found}


def names_of(connection: Connection, uids: Collection[str]) -> set[tuple[str, str]]:
    return {(uid, part) for uid, part in connection.execute(_NAMES, {"uids": uids})}


def parts_of(connection: Connection, uids: Collection[str]) -> dict[str, tuple[Kept, ...]]:
    """By occurrence; by name of the part."""
    found: dict[str, list[Kept]] = {}
    for uid, part, body in connection.execute(_PARTS, {"uids": uids}):
        found.setdefault(uid, []).append(Kept(part=part, evidence=None if body is None else _read(body)))
    return {uid: tuple(sorted(parts, key=lambda one: one.part)) for uid, parts in found.items()}


def packed(part: Part) -> Packed:
    """Takes its time: not for the thread that writes."""
    told = None if part.evidence is None else zlib.compress(document(part.evidence).encode(), LEVEL)
    return Packed(uid=part.uid, part=part.part, body=told)


def save(connection: Connection, gateway_id: str, parts: Iterable[Packed], now_ms: int) -> None:
    """What is held already stays; but a part that was given up stands back for one that was not."""
    insert = insert_for(connection)(evidence)
    statement = insert.on_conflict_do_update(
        index_elements=["uid", "part"],
        set_={name: insert.excluded[name] for name in ("received_ms", "bytes", "body")},
        where=evidence.c.body.is_(None) & insert.excluded.body.is_not(None),
    )
    told = [
        {
            "uid": part.uid,
            "part": part.part,
            "gateway_id": gateway_id,
            "received_ms": now_ms,
            "bytes": len(part.body or b""),
            "body": part.body,
        }
        for part in parts
    ]
    if told:
        connection.execute(statement, told)


def bytes_by_gateway(connection: Connection) -> dict[str, int]:
    found = connection.execute(
        select(evidence.c.gateway_id, func.sum(evidence.c.bytes))
        .where(evidence.c.bytes > 0)
        .group_by(evidence.c.gateway_id)
    )
    return {gateway_id: int(total) for gateway_id, total in found}


def give_up(connection: Connection, gateway_id: str, wanted_bytes: int, *, at_most: int) -> int:
    """Of the oldest parts of one gateway; of how many bytes."""
    found = connection.execute(
        select(evidence.c.uid, evidence.c.part, evidence.c.bytes)
        .where(evidence.c.gateway_id == gateway_id, evidence.c.bytes > 0)
        .order_by(evidence.c.received_ms, evidence.c.uid, evidence.c.part)
        .limit(at_most)
    ).all()
    given = 0
    for uid, part, size in found:
        if given >= wanted_bytes:
            break
        connection.execute(
            update(evidence).where(evidence.c.uid == uid, evidence.c.part == part).values(bytes=0, body=None)
        )
        given += int(size)
    return given


def _read(body: bytes) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(zlib.decompress(body))
    return found
