"""One gateway and the real ingest of a collector, joined by a network that loses what a test tells it to."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from rigs.moments import HandClock
from sqlalchemy import func, insert, select

from collector import evidence, ingest
from collector.exchange import GatewayIdentity
from collector.store import Store, tables
from edge_agent import wire
from edge_agent.forward import Aside, CollectorAwayError, Forwarder, Reply
from edge_agent.inventory import inventory
from edge_agent.journal import Journal
from edge_agent.watch import Watch
from edge_agent.wire import Health

GATEWAY = GatewayIdentity(id="g1", site="north", name="gw-1")


class Site:
    """The collector; ``post`` is what the forwarder is given."""

    def __init__(self, folder: Path, clock: HandClock) -> None:
        self.clock = clock
        self.folder = folder
        # Lost before the collector has it, and lost after.
        self.loses_request: Callable[[], bool] = lambda: False
        self.loses_reply: Callable[[], bool] = lambda: False
        self.answers: list[wire.SyncAnswer] = []
        self.messages: list[wire.SyncRequest] = []
        self._generation = 0
        self.store = Store.open(f"sqlite:///{folder}/collector-0.db")
        self.store.write(
            lambda c: c.execute(
                insert(tables.gateway).values(
                    id=GATEWAY.id, site=GATEWAY.site, name=GATEWAY.name, created_ms=clock.wall_ms
                )
            )
        )

    async def post(self, body: bytes) -> Reply:
        if self.loses_request():
            raise CollectorAwayError("the request was lost")
        message = wire.decode_sync(body)
        self.messages.append(message)
        applied = self.store.write(lambda c: ingest.apply(c, GATEWAY, message, self.clock.wall_ms))
        assert applied.quarantined == 0
        self.answers.append(applied.answer)
        if self.loses_reply():
            raise CollectorAwayError("the reply was lost")
        return Reply(status=200, body=wire.encode(applied.answer))

    async def post_evidence(self, body: bytes) -> Reply:
        if self.loses_request():
            raise CollectorAwayError("the request was lost")
        message = wire.decode_message(body)
        assert isinstance(message, wire.EvidenceRequest)
        parts = evidence.read(message)
        taken = self.store.write(lambda c: evidence.take(c, GATEWAY, parts, self.clock.wall_ms))
        assert taken.refused == taken.foreign == 0
        if self.loses_reply():
            raise CollectorAwayError("the reply was lost")
        return Reply(status=200, body=wire.encode(taken.answer))

    def evidence(self) -> set[tuple[str, str]]:
        """(dedupe key of the occurrence, part) of what is kept here."""
        kept = tables.evidence
        found = self.store.read(
            lambda c: c.execute(
                select(tables.occurrence.c.dedupe_key, kept.c.part).where(
                    kept.c.uid == tables.occurrence.c.uid, kept.c.body.is_not(None)
                )
            ).all()
        )
        return {(key, part) for key, part in found}

    def backup(self) -> Path:
        self.store.close()
        files = sorted(self.folder.glob(f"collector-{self._generation}.db*"))
        kept = self.folder / f"backup-{len(self.answers)}"
        kept.mkdir(exist_ok=True)
        for file in files:
            (kept / file.name.replace(f"-{self._generation}.", "-X.")).write_bytes(file.read_bytes())
        self._open()
        return kept

    def restore(self, backup: Path) -> None:
        self.store.close()
        self._generation += 1
        for file in backup.iterdir():
            (self.folder / file.name.replace("-X.", f"-{self._generation}.")).write_bytes(file.read_bytes())
        self._open()

    def open_uids(self) -> dict[str, str]:
        """Uid -> dedupe key of what is open here, without what the collector made itself."""
        table = tables.occurrence
        found = self.store.read(
            lambda c: c.execute(
                select(table.c.uid, table.c.dedupe_key).where(table.c.open, ~table.c.minted)
            ).all()
        )
        return {str(uid): str(key) for uid, key in found}

    def ended(self, uid: str) -> str:
        """Why it is closed here; empty while it is open."""
        statement = select(tables.occurrence.c.reason).where(tables.occurrence.c.uid == uid)
        return str(self.store.read(lambda c: c.execute(statement).scalar_one()))

    def tickets(self, key: str) -> int:
        """Open and closed ones of a dedupe key."""
        statement = select(func.count()).select_from(tables.ticket).where(tables.ticket.c.dedupe_key == key)
        return int(self.store.read(lambda c: c.execute(statement).scalar_one()))

    def open_tickets(self) -> list[str]:
        """Dedupe keys of the tickets whose condition is active."""
        found = self.store.read(
            lambda c: c.execute(
                select(tables.ticket.c.dedupe_key).where(tables.ticket.c.condition == "active")
            ).all()
        )
        return sorted(key for (key,) in found)

    def _open(self) -> None:
        self.store = Store.open(f"sqlite:///{self.folder}/collector-{self._generation}.db")


def forwarder(
    journal: Journal, watch: Watch, site: Site, rng: random.Random, aside: Aside | None = None
) -> Forwarder:
    devices = [watched.device for watched in watch._watched.values()]
    return Forwarder(
        journal,
        site.post,
        inventory=inventory(devices),
        unsettled=watch.unsettled,
        health=Health,
        on_closed_here=watch.close_here,
        stamp=site.clock.stamp,
        random=rng,
        aside=aside,
    )
