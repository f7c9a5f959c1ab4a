"""With a full disk the collector refuses, loses nothing that it answered, is read, and goes on by itself."""

import tempfile
from pathlib import Path

import httpx
from rigs import postgres
from rigs.collector_program import CollectorProgram, SpeakingGateway, collector_program
from rigs.small_disk import SmallDisk, small_disk
from rigs.warehouse import SITE, People
from sqlalchemy import create_engine, text

TRIES_ON_THE_FULL_DISK = 40
EVIDENCE = {"frames": ["x" * 6_000]}


async def test_a_collector_on_a_full_disk_refuses_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    with (
        small_disk(tmp_path / "disk", 6) as disk,
        collector_program(tmp_path / "disk") as collector,
    ):
        said = await _is_filled_and_emptied(collector, disk)
    assert "database or disk is full" in said


async def test_so_does_one_whose_postgresql_has_no_room(tmp_path: Path) -> None:
    with (
        # Not below pytest's folders: they are for their owner alone.
        tempfile.TemporaryDirectory(prefix="andon-disk-", ignore_cleanup_errors=True) as outside,
        postgres.running(tmp_path / "cluster") as url,
        small_disk(_reachable(outside) / "disk", 24, owner=postgres.NOBODY) as disk,
    ):
        engine = create_engine(
            url.replace("postgresql://", "postgresql+psycopg://") + "/postgres", isolation_level="AUTOCOMMIT"
        )
        with engine.connect() as connection:
            connection.execute(text(f"CREATE TABLESPACE small LOCATION '{disk.folder}'"))
            connection.execute(text("CREATE DATABASE andon TABLESPACE small"))
        engine.dispose()
        with collector_program(tmp_path / "collector", "--database-url", f"{url}/andon") as collector:
            said = await _is_filled_and_emptied(collector, disk)
    assert "No space left on device" in said


async def _is_filled_and_emptied(collector: CollectorProgram, disk: SmallDisk) -> str:
    """What the collector said about it, once."""
    gateway = SpeakingGateway(collector, site=SITE, name="gw-1")
    people = People(collector, "read")
    for number in range(5):
        assert _reports(gateway, number).status_code == 200
    held = set(gateway.voice.rows)
    disk.fill()
    refused = 0
    for number in range(5, 5 + TRIES_ON_THE_FULL_DISK):
        answer = _reports(gateway, number)
        if answer.status_code == 200:
            held = set(gateway.voice.rows)
            continue
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.json()["reason"] == "busy"
        refused += 1
        # What was answered is there, and can be read.
        assert {one["id"] for one in await people.tickets(limit="100")} == held
    assert refused > TRIES_ON_THE_FULL_DISK // 2

    disk.empty()
    gateway.sync()
    everything = {one["id"] for one in await people.tickets(limit="100")}
    assert everything == set(gateway.voice.rows)
    await people.close()
    gateway.close()
    (said,) = [line for line in collector.log().splitlines() if "the database takes nothing" in line]
    return said


def _reports(gateway: SpeakingGateway, number: int) -> httpx.Response:
    gateway.voice.raises(gateway.minute, device=f"printer-{number}", evidence=EVIDENCE)
    return gateway.try_to_sync()


def _reachable(folder: str) -> Path:
    """For PostgreSQL, which runs as somebody else."""
    path = Path(folder)
    path.chmod(0o711)
    return path
