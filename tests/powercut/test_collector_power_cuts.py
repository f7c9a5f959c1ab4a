"""What the collector has answered is on its disk: its SQLite file is recorded and cut as the journal is."""

from pathlib import Path

from powercut import collector_cuts, writer
from powercut.disk import without_folder_sync_of_new_wal

IMAGES = 30
EXCHANGES = 120


async def test_what_the_collector_has_answered_survives_a_power_cut(tmp_path: Path) -> None:
    steps = collector_cuts.record(tmp_path / "recorded", seed=1, exchanges=EXCHANGES)
    figures = await collector_cuts.cut(steps, tmp_path, images=IMAGES, seed=1)
    assert (figures.lossy, figures.corrupt) == (0, 0), figures.bad
    assert figures.confirmed > 100


async def test_nor_where_sqlite_does_not_sync_the_folder_by_itself(tmp_path: Path) -> None:
    """Its log is gone after each end in order, and made anew at the next start."""
    steps = collector_cuts.record(
        tmp_path / "recorded", seed=1, exchanges=EXCHANGES, endings=("closed", "closed", "killed")
    )
    steps = without_folder_sync_of_new_wal(steps)
    figures = await collector_cuts.cut(steps, tmp_path, images=2 * IMAGES, seed=2)
    assert (figures.lossy, figures.corrupt) == (0, 0), figures.bad


async def test_a_collector_that_does_not_sync_each_commit_would_lose(tmp_path: Path) -> None:
    steps = collector_cuts.record(tmp_path / "recorded", seed=1, exchanges=EXCHANGES // 4, way=writer.NORMAL)
    figures = await collector_cuts.cut(steps, tmp_path, images=IMAGES // 2, seed=1)
    assert figures.lossy > 0, figures
