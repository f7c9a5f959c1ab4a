"""What the edges durably committed, seen from outside; nobody in the simulated world can look into it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from simulation import net, skew
from simulation.hub import EPOCH_MS

from edge_agent.wire import THINNED

if TYPE_CHECKING:
    from simulation.box import Box


@dataclass(slots=True, kw_only=True)
class Told:
    """One occurrence and all forms that any disk ever had of it, in the order in which they were written."""

    box: Box
    uid: str
    forms: list[dict[str, Any]] = field(default_factory=list)
    # When each was written, in ms of the world.
    written: list[int] = field(default_factory=list)

    def place(self, held: dict[str, Any]) -> int | None:
        """Of that form among those that were written; evidence may have been given up since."""
        wanted = skew.form(held)
        for place, one in enumerate(self.forms):
            if one == wanted:
                return place
            given_up = wanted.get("evidence") == THINNED or "evidence" not in wanted
            if given_up and one | {"evidence": None} == wanted | {"evidence": None}:
                return place
        return None

    @property
    def first(self) -> dict[str, Any]:
        return self.forms[0]

    def since_s(self) -> float:
        """When its first bad sample was, in seconds of the world."""
        return (self.box.truth_ms(self.first["first_bad"]) - EPOCH_MS) / 1000


@dataclass(slots=True, kw_only=True)
class Truth:
    rng: random.Random
    poison: float
    told: dict[str, Told] = field(default_factory=dict)
    # (uid, rev) that travel spoilt, and how.
    spoilt: dict[tuple[str, int], int] = field(default_factory=dict)

    # Uids whose first row is garbled once, on its way, beyond recognition.
    garbled: set[str] = field(default_factory=set)
    were_garbled: set[str] = field(default_factory=set)

    def write(self, box: Box, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            told = self.told.setdefault(row["uid"], Told(box=box, uid=row["uid"]))
            form = skew.form(row)
            if form in told.forms:
                continue
            told.forms.append(form)
            told.written.append(box.world.now_ms - EPOCH_MS)
            if self.rng.random() < self.poison:
                if row["state"] == "open" and self.rng.random() < 0.3:
                    self.garbled.add(row["uid"])
                else:
                    self.spoilt[row["uid"], row["rev"]] = self.rng.randrange(4)

    def spoil(self, box: Box, body: bytes) -> bytes:
        if not self.spoilt and not self.garbled:
            return body

        def change(row: dict[str, Any]) -> dict[str, Any]:
            if row["uid"] in self.garbled and row["state"] == "open":
                self.garbled.discard(row["uid"])
                self.were_garbled.add(row["uid"])
                return {"garbled": row["mod_seq"]}
            how = self.spoilt.get((row["uid"], row["rev"]))
            return row if how is None else net.spoilt(row, how)

        return net.with_rows(body, change)
