"""`kill -9` of the real collector at random moments, while gateways sync as fast as they are answered."""

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from kills import books, figures
from kills.books import Book, CollectorBooks, Entry
from kills.figures import Figures
from rigs import collector_program, postgres
from rigs.collector_server import CollectorServer
from rigs.edge_voice import MINUTE_MS, MONDAY_MS, EdgeVoice
from rigs.ports import wait_until_now

from collector import auth
from collector.exchange import GatewayIdentity
from collector.ingest import Applied
from edge_agent import wire

SITE = "north"
GATEWAYS = 4
DEVICES = 6
# How long it lives once it listens; one in ten is killed before that.
LIVES_S = 0.8
STARTS_S = 1.5
# Of the collector's kills, one has its PostgreSQL killed before.
DATABASE_KILLED_EVERY = 20
# Of a gateway that was not answered.
AGAIN_S = 0.02


@dataclass
class Gateway:
    """Raises, clears and syncs without end; what was answered is promised."""

    number: int
    voice: EdgeVoice
    client: httpx.Client
    # As it has them and as the collector has said that it holds them.
    told: Book = field(default_factory=Book)
    promised: Book = field(default_factory=Book)
    # Promised since the last look.
    fresh: Book = field(default_factory=Book)
    hwm: wire.Boundary = wire.ORIGIN
    syncs: int = 0
    refused: dict[int, int] = field(default_factory=dict)
    failure: Exception | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    # Its message, until that is answered.
    sent: wire.SyncRequest | None = None

    def run(self, is_over: Callable[[], bool]) -> None:
        dice = random.Random(self.number)
        try:
            while not is_over():
                self._live(dice)
                self.sync()
        except Exception as failure:  # noqa: BLE001  # told to the test, which fails
            self.failure = failure

    def calm(self) -> None:
        for uid, row in list(self.voice.rows.items()):
            if row["state"] == "open":
                self._cleared(uid)

    def sync(self) -> bool:
        """Whether it was answered."""
        if self.sent is None:
            self.sent = self.voice.message(self._minute())
        try:
            answer = self.client.post(wire.SYNC_PATH, content=wire.encode(self.sent))
        except httpx.TransportError:
            time.sleep(AGAIN_S)
            return False
        if answer.status_code != 200:
            # Busy, or its database is away; never anything else.
            assert answer.status_code in (429, 503), answer.text
            self.refused[answer.status_code] = self.refused.get(answer.status_code, 0) + 1
            time.sleep(AGAIN_S)
            return False
        self._hear(wire.decode_answer(answer.content), self.sent)
        self.sent = None
        return True

    def _live(self, dice: random.Random) -> None:
        if self.sent is not None:
            return
        for _ in range(dice.choice((0, 1, 1, 2, 5, 60))):
            device = f"belt-{self.number}-{dice.randrange(DEVICES)}"
            known = [
                uid
                for uid, row in self.voice.rows.items()
                if (row["device"], row["state"]) == (device, "open")
            ]
            if known:
                self._cleared(known[0])
            else:
                uid = self.voice.raises(self._minute(), device, "jam", component="belt")
                self.told[uid] = Entry(1, True, f"{device}|belt|jam")

    def _cleared(self, uid: str) -> None:
        self.voice.clears(uid, self._minute())
        self.told[uid] = Entry(2, False, self.told[uid].key)

    def _hear(self, answer: wire.SyncAnswer, sent: wire.SyncRequest) -> None:
        assert answer.verdict in (wire.Verdict.OK, wire.Verdict.OLD), answer
        assert answer.hwm[0] >= self.hwm[0], f"the collector has forgotten: {answer.hwm} after {self.hwm}"
        assert answer.hwm == sent.to
        self.hwm = answer.hwm
        self.voice.hear(Applied(answer=answer, changed=()))
        held: Book = {}
        for row in sent.rows:
            assert isinstance(row, dict)
            key = f"{row['device']}|{row['component']}|{row['fault']}"
            held[row["uid"]] = Entry(row["rev"], row["state"] == "open", key)
            now = self.voice.rows.get(row["uid"])
            if now is not None and now["state"] == "closed" and now["mod_seq"] <= answer.hwm[0]:
                del self.voice.rows[row["uid"]]
        with self.lock:
            self.promised |= held
            self.fresh |= held
        self.syncs += 1

    def _minute(self) -> float:
        return (time.time() * 1000 - MONDAY_MS) / MINUTE_MS


def enrolled(server: CollectorServer, number: int) -> Gateway:
    name = f"gw-{number}"
    printed = collector_program.run(server.data_dir, "gateway", "add", SITE, name)
    token = next(word for word in printed.split() if word.startswith("enr_"))
    secret = auth.new_secret()
    client = httpx.Client(base_url=server.url, trust_env=False, timeout=30)
    answer = client.post(wire.ENROLL_PATH, json={"token": token, "secret_hash": auth.sha256(secret)})
    answer.raise_for_status()
    client.headers["Authorization"] = f"Bearer {answer.json()['credential']}.{secret}"
    identity = GatewayIdentity(id="", site=SITE, name=name)
    return Gateway(number=number, voice=EdgeVoice(gateway=identity, seed=number), client=client)


@contextlib.contextmanager
def busy(gateways: list[Gateway]) -> Iterator[None]:
    over = threading.Event()
    threads = [threading.Thread(target=gateway.run, args=(over.is_set,)) for gateway in gateways]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_what_the_collector_has_answered_survives_kill_9(database: str, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        database_url, cluster = "", None
        if database == "postgresql":
            cluster = postgres.Server(tmp_path / "pg")
            stack.callback(cluster.stop)
            cluster.start()
            database_url = postgres.new_database(cluster.url)
        server = CollectorServer(tmp_path / "collector", database_url)
        stack.callback(server.kill)
        file = f"sqlite:///file:{server.data_dir}/collector.sqlite3?mode=ro&uri=true"
        collector = CollectorBooks(database_url or file)
        stack.callback(collector.close)
        server.start()
        server.until_it_listens()
        gateways = [enrolled(server, number) for number in range(GATEWAYS)]
        for gateway in gateways:
            stack.callback(gateway.client.close)
        told = Figures(what=f"collector on {database}")
        with busy(gateways):
            _kill_again_and_again(server, cluster, gateways, collector, told)
        for gateway in gateways:
            assert gateway.failure is None, gateway.failure
            gateway.calm()
            wait_until_now(gateway.sync)
            wait_until_now(lambda gateway=gateway: gateway.sync() and gateway.hwm[0] == gateway.voice.seq)
        everything = {uid: entry for gateway in gateways for uid, entry in gateway.told.items()}
        found = collector.occurrences()
        told.lost += len(books.lost(everything, found))
        assert found == everything
        assert not any(entry.open for entry in everything.values())
        broken = collector.broken_promises()
        told.doubled += len(broken)
        assert broken == []
        assert sum(gateway.syncs for gateway in gateways) > told.kills, "there was no load"


def _kill_again_and_again(
    server: CollectorServer,
    cluster: postgres.Server | None,
    gateways: list[Gateway],
    collector: CollectorBooks,
    told: Figures,
) -> None:
    dice = random.Random(1)
    time.sleep(dice.random() * LIVES_S)
    for turn in range(figures.KILLS or figures.IN_THE_SUITE):
        if cluster is not None and turn % DATABASE_KILLED_EVERY == 1:
            _kill_database(cluster, gateways)
            told.database_kills += 1
        server.kill()
        told.killed()
        _look(gateways, collector, told)
        begun = time.monotonic()
        server.start()
        if dice.random() < 0.1:
            time.sleep(dice.random() * STARTS_S)
            told.while_starting += 1
            continue
        server.until_it_listens()
        told.start_s.append(time.monotonic() - begun)
        time.sleep(dice.random() * LIVES_S)
    server.kill()
    server.start()
    server.until_it_listens()


def _kill_database(cluster: postgres.Server, gateways: list[Gateway]) -> None:
    """Its backends are gone in the middle of what they do; the collector lives, and answers again."""
    cluster.stop()
    cluster.start()
    so_far = [gateway.syncs for gateway in gateways]
    wait_until_now(
        lambda: all(gateway.syncs > before for gateway, before in zip(gateways, so_far, strict=True)),
        what="every gateway is answered after PostgreSQL has come back",
    )


def _look(gateways: list[Gateway], collector: CollectorBooks, told: Figures) -> None:
    """While no collector runs: what was promised since the last look stands in its database."""
    fresh: Book = {}
    for gateway in gateways:
        assert gateway.failure is None, gateway.failure
        with gateway.lock:
            fresh |= gateway.fresh
            gateway.fresh = {}
    gone = books.lost(fresh, collector.occurrences(fresh))
    told.lost += len(gone)
    assert gone == []
    told.promised = sum(len(gateway.promised) for gateway in gateways)
