"""A real collector for a benchmark: gateways that are enrolled already, and no quota for one of them."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch
from urllib.parse import urlsplit

from bench.load import Load
from bench.rows import Voice
from rigs import postgres
from rigs.collector_program import CollectorProgram, collector_program
from sqlalchemy import insert

from collector import auth
from collector.config import DATABASE_NAME
from collector.store import Store, tables

SITE = "north"
# Of every gateway here.
SECRET = "s" * 43
KINDS = ("sqlite", "postgresql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    url: str
    host: str
    port: int
    pid: int
    database_url: str

    def load(self, voices: Sequence[Voice], *, packed: bool = False) -> Load:
        names = [f"agw_{_credential(voice.name)}.{SECRET}" for voice in voices]
        return Load(host=self.host, port=self.port, voices=voices, credentials=names, packed=packed)

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_mb(self) -> float:
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextlib.contextmanager
def database(kind: str) -> Iterator[str]:
    """The URL of an empty one, gone in the end."""
    with tempfile.TemporaryDirectory(prefix="andon-bench-") as folder:
        if kind == "sqlite":
            data_dir = Path(folder) / "data"
            data_dir.mkdir(mode=0o700)
            yield f"sqlite:///{data_dir / DATABASE_NAME}"
        else:
            with postgres.running(Path(folder) / "postgres") as cluster:
                yield postgres.new_database(cluster)


def enrol(store: Store, names: Sequence[str]) -> None:
    rows = [
        {
            "id": f"id-{name}",
            "site": SITE,
            "name": name,
            "credential_id": f"agw_{_credential(name)}",
            "secret_sha256": auth.sha256(SECRET),
            "created_ms": 1_767_600_000_000,
        }
        for name in names
    ]
    store.write(lambda connection: connection.execute(insert(tables.gateway), rows))


@contextlib.contextmanager
def serving(database_url: str) -> Iterator[Serving]:
    """``collector serve`` as it comes, but for the quota: there are fewer gateways here than rows want."""
    with (
        tempfile.TemporaryDirectory(prefix="andon-bench-") as folder,
        patch.dict(os.environ, COLLECTOR_GATEWAY_ROWS_PER_S="1000000"),
        _program(database_url, Path(folder) / "data") as program,
    ):
        address = urlsplit(program.url)
        assert address.hostname is not None
        assert address.port is not None
        yield Serving(
            url=program.url,
            host=address.hostname,
            port=address.port,
            pid=program.process.pid,
            database_url=database_url,
        )


def _program(database_url: str, data_dir: Path) -> AbstractContextManager[CollectorProgram]:
    """SQLite's file lies in the data directory under its usual name."""
    if database_url.startswith("sqlite:///"):
        return collector_program(Path(database_url.removeprefix("sqlite:///")).parent)
    return collector_program(data_dir, "--database-url", database_url)


def _credential(name: str) -> str:
    return f"{name.replace('-', ''):0>16}"
