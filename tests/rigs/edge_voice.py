"""An edge that exists only as messages: it keeps rows, positions and a clock as an agent does, and sends what
it is told.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, insert

from collector.exchange import GatewayIdentity
from collector.ingest import Applied, apply
from collector.merge import BEGINNING
from collector.store import Store, tables
from edge_agent.wire import Boundary, Row, SyncRequest, condition_key

# 2026-01-05 08:00 UTC
MONDAY_MS = 1_767_600_000_000
MINUTE_MS = 60_000
SITE = "north"


def enrol(store: Store, name: str = "gw1", site: str = SITE) -> GatewayIdentity:
    def unit(connection: Connection) -> None:
        connection.execute(
            insert(tables.gateway).values(
                id=f"id-{site}-{name}", site=site, name=name, created_ms=MONDAY_MS - MINUTE_MS
            )
        )

    store.write(unit)
    return GatewayIdentity(id=f"id-{site}-{name}", site=site, name=name)


@dataclass
class EdgeVoice:
    """One journal of one gateway. Times are minutes after MONDAY_MS unless they end in ``_ms``."""

    gateway: GatewayIdentity
    seed: int = 1
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    seq: int = 0
    unsettled: list[str] = field(default_factory=list)
    inventory: dict[str, Any] | None = None
    inventory_hash: str = "none"
    pruned_through: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.stream = self.new_id()
        self.boot = self.new_id()
        self.cursor: Boundary = BEGINNING
        self.boundaries: list[Boundary] = [BEGINNING]

    def new_id(self) -> str:
        return f"{self.random.getrandbits(128):032x}"

    def stamp(self, minute: float) -> dict[str, Any]:
        ms = int(minute * MINUTE_MS)
        # This boot began ten days before Monday; its wall clock is never set.
        return {
            "boot": self.boot,
            "mono_ns": (ms + 864_000_000) * 1_000_000,
            "wall_ms": max(0, ms),
            "source": "none",
        }

    def clock(self, minute: float) -> dict[str, Any]:
        """By the time it speaks somebody has set it."""
        return self.stamp(minute) | {"wall_ms": MONDAY_MS + int(minute * MINUTE_MS), "source": "ntp"}

    def raises(
        self,
        minute: float,
        device: str = "printer-1",
        fault: str = "paper-out",
        *,
        severity: int = 30,
        component: str = "media",
        **more: Any,
    ) -> str:
        uid = self.new_id()
        self.rows[uid] = {
            "uid": uid,
            "device": device,
            "component": component,
            "fault": fault,
            "rev": 1,
            "state": "open",
            "severity": severity,
            "severities": [{"severity": severity, "at": self.stamp(minute)}],
            "first_bad": self.stamp(minute),
            "raised": self.stamp(minute),
            "count": 1,
            "reason": "",
            "title": f"{fault} at {device}",
            "advice": "Look.",
            "mod_seq": self._next(),
            **more,
        }
        return uid

    def clears(self, uid: str, minute: float, reason: str = "cleared") -> None:
        row = self.rows[uid]
        self.rows[uid] = row | {
            "rev": row["rev"] + 1,
            "state": "closed",
            "cleared": self.stamp(minute),
            "reason": reason,
            "mod_seq": self._next(),
        }

    def comes_and_goes(self, uid: str, *minutes: float) -> None:
        """Gone, there again, gone ... at these minutes."""
        row = self.rows[uid]
        first_ns = row["first_bad"]["mono_ns"]
        ms = [(self.stamp(minute)["mono_ns"] - first_ns) // 1_000_000 for minute in minutes]
        pauses = [[gone, back] for gone, back in zip(ms[::2], [*ms[1::2], None], strict=False)]
        self.rows[uid] = row | {
            "rev": row["rev"] + len(minutes),
            "count": row["count"] + len(minutes) // 2,
            "pauses": pauses,
            "mod_seq": self._next(),
        }

    def worsens(self, uid: str, minute: float, severity: int) -> None:
        row = self.rows[uid]
        self.rows[uid] = row | {
            "rev": row["rev"] + 1,
            "severity": severity,
            "severities": [*row["severities"], {"severity": severity, "at": self.stamp(minute)}],
            "mod_seq": self._next(),
        }

    def explains(self, uid: str, because: str | None, *, waits: bool = False) -> None:
        """``because``: the uid of what explains it from now on; None: nothing does."""
        row = self.rows[uid]
        told = {"because": because, "waits": self.stamp(10_000) if waits else None}
        self.rows[uid] = row | {"rev": row["rev"] + 1, "mod_seq": self._next(), **told}

    def rolls_up(self, *uids: str) -> dict[str, Any]:
        """What a full journal does: one row in the place of several that have ended."""
        rows = [self.rows.pop(uid) for uid in uids]
        members = [
            {name: row[name] for name in ("uid", "rev", "severity", "reason")}
            | {name: _moment(row[name]) for name in ("first_bad", "raised", "cleared")}
            for row in rows
        ]
        rolled = rows[-1] | {
            "uid": self.new_id(),
            "rev": 1,
            "severity": max(row["severity"] for row in rows),
            "severities": [],
            "first_bad": rows[0]["first_bad"],
            "raised": rows[0]["raised"],
            "reason": "rolled_up",
            "count": len(members),
            "members": members,
        }
        rolled.pop("evidence", None)
        self.rows[rolled["uid"]] = rolled
        return rolled

    def watches(self, *devices: str, place: str = "hall/line-1") -> None:
        self.inventory_hash = self.new_id()
        self.inventory = {
            "hash": self.inventory_hash,
            "devices": [
                {"id": one, "place": place, "profile": "zebra-zpl", "bus": "b", "conditions": []}
                for one in devices
            ],
        }

    def message(self, now: float, *, limit: int = 500, head: bool = True) -> SyncRequest:
        waiting = sorted(
            (row for row in self.rows.values() if row["mod_seq"] > self.cursor[0]),
            key=lambda row: row["mod_seq"],
        )[:limit]
        to = self.cursor
        if waiting:
            to = (waiting[-1]["mod_seq"], self.new_id())
            self.boundaries.append(to)
        at_head = head and (not self.rows or to[0] == self.seq)
        place = self.boundaries.index(self.cursor)
        body = {
            "v": 1,
            "stream": self.stream,
            "from": list(self.cursor),
            "to": list(to),
            "lineage": [list(boundary) for boundary in self.boundaries[place:]][-60:],
            "rows": waiting,
            "pruned_through": self.pruned_through,
            "clock": self.clock(now),
            "head": {
                "seq": self.seq,
                "open": [uid for uid, row in self.rows.items() if row["state"] == "open"],
                "unsettled": self.unsettled,
                "inventory_hash": self.inventory_hash,
            }
            if at_head
            else None,
            "inventory": self.inventory,
        }
        return SyncRequest.model_validate(body)

    def ahead(self, now: float, **changed: Any) -> SyncRequest:
        """What is open and not yet told, ahead of the history (C10)."""
        is_open = [row for row in self.rows.values() if row["state"] == "open"]
        body = {
            "v": 1,
            "lane": "present",
            "stream": self.stream,
            "from": list(self.cursor),
            "to": list(self.cursor),
            "lineage": [list(self.cursor)],
            "rows": [row for row in is_open if row["mod_seq"] > self.cursor[0]],
            "pruned_through": self.pruned_through,
            "clock": self.clock(now),
            "head": {
                "seq": self.seq,
                "open": [row["uid"] for row in is_open],
                "unsettled": self.unsettled,
                "inventory_hash": self.inventory_hash,
            },
        }
        return SyncRequest.model_validate(body | changed)

    def hear(self, applied: Applied) -> None:
        """The rules of the edge: E4 and E9."""
        answer = applied.answer
        if answer.verdict in ("fork", "superseded"):
            self.begin_again()
            return
        hwm = tuple(answer.hwm)
        if hwm in self.boundaries or hwm[0] <= self.cursor[0]:
            self.cursor = (hwm[0], hwm[1])
            if self.cursor not in self.boundaries:
                self.boundaries.append(self.cursor)
        else:
            self.begin_again()
            return
        for uid in answer.want:
            self.rows[uid] = self.rows[uid] | {"mod_seq": self._next()}

    def begin_again(self) -> None:
        self.stream = self.new_id()
        self.cursor = BEGINNING
        self.boundaries = [BEGINNING]

    def sync(self, store: Store, now: float, **how: Any) -> Applied:
        applied = send(store, self.gateway, self.message(now, **how), now)
        self.hear(applied)
        return applied

    def _next(self) -> int:
        self.seq += 1
        return self.seq


def send(store: Store, gateway: GatewayIdentity, message: SyncRequest, now: float) -> Applied:
    """``now`` in minutes after Monday."""
    at_ms = MONDAY_MS + int(now * MINUTE_MS)
    return store.write(lambda connection: apply(connection, gateway, message, at_ms))


def _moment(stamp: dict[str, Any]) -> list[Any]:
    return [stamp["mono_ns"], stamp["wall_ms"], stamp["source"]]


def key(row: dict[str, Any]) -> str:
    return condition_key(row["device"], row["component"], row["fault"])


def rows_of(message: SyncRequest) -> Sequence[Row]:
    return [Row.model_validate(row) for row in message.rows]
