"""The real journal is written under load and recorded; then its power is cut at random points."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from powercut import cuts, witness, writer
from powercut.disk import SECTOR, Disk, Folder, Kept, without_folder_sync_of_new_wal
from powercut.recording import Names, Said, Step, Sync, SyncFolder, Truncate, Write

IMAGES = 150
IMAGES_OF_A_WRONG_WAY = 60
WAL_HEAD = 32


@pytest.fixture(scope="module")
def as_built(tmp_path_factory: pytest.TempPathFactory) -> list[Step]:
    return cuts.record(tmp_path_factory.mktemp("as-built"), seed=1, transitions=1_600)


def test_the_recording_shows_all_that_can_go_wrong(as_built: Sequence[Step]) -> None:
    kinds = {type(step) for step in as_built}
    assert kinds == {Write, Truncate, Sync, Names, SyncFolder, Said}
    heads = [
        step for step in as_built if isinstance(step, Write) and (step.at, len(step.data)) == (0, WAL_HEAD)
    ]
    assert len(heads) > len(cuts.ENDINGS), "no write-ahead log was begun anew after a checkpoint"


async def test_nothing_confirmed_is_lost_by_a_power_cut(as_built: Sequence[Step], tmp_path: Path) -> None:
    figures = await cuts.cut(as_built, tmp_path, images=IMAGES, seed=2)
    assert (figures.lossy, figures.corrupt) == (0, 0), figures.bad
    assert figures.confirmed > 500


async def test_nor_where_sqlite_does_not_sync_the_folder_by_itself(
    as_built: Sequence[Step], tmp_path: Path
) -> None:
    steps = without_folder_sync_of_new_wal(as_built)
    assert len(steps) < len(as_built)
    figures = await cuts.cut(steps, tmp_path, images=IMAGES_OF_A_WRONG_WAY, seed=3)
    assert (figures.lossy, figures.corrupt) == (0, 0), figures.bad


async def test_a_journal_that_does_not_sync_each_commit_would_lose(tmp_path: Path) -> None:
    steps = cuts.record(tmp_path / "recorded", seed=1, transitions=200, way=writer.NORMAL, endings=cuts.SHORT)
    figures = await cuts.cut(steps, tmp_path, images=IMAGES_OF_A_WRONG_WAY, seed=2)
    assert figures.lossy > IMAGES_OF_A_WRONG_WAY / 10, figures


async def test_a_journal_that_is_not_created_under_extra_would_lose(tmp_path: Path) -> None:
    """Were it not for SQLite's file layer on Linux, which syncs the folder with a new write-ahead log."""
    steps = cuts.record(
        tmp_path / "recorded", seed=1, transitions=200, way=writer.NOT_CREATED_SAFELY, endings=cuts.SHORT
    )
    without = without_folder_sync_of_new_wal(steps)
    figures = await cuts.cut(without, tmp_path, images=IMAGES_OF_A_WRONG_WAY, seed=2)
    assert figures.lossy > 0, figures


async def test_a_second_witness_says_the_same(tmp_path: Path) -> None:
    """Another SQLite, whose own file layer tells what it does."""
    steps = witness.record(tmp_path / "recorded", seed=1, transitions=400)
    assert {type(step) for step in steps} == {Write, Truncate, Sync, Names, SyncFolder, Said}
    figures = await cuts.cut(steps, tmp_path, images=IMAGES_OF_A_WRONG_WAY, seed=2)
    assert (figures.lossy, figures.corrupt) == (0, 0), figures.bad
    assert figures.confirmed > 100


@pytest.mark.parametrize("way", [writer.NORMAL, writer.NOT_CREATED_SAFELY])
async def test_and_the_same_of_what_would_lose(tmp_path: Path, way: str) -> None:
    steps = witness.record(tmp_path / "recorded", seed=1, transitions=200, way=way, endings=cuts.SHORT)
    figures = await cuts.cut(steps, tmp_path, images=IMAGES_OF_A_WRONG_WAY, seed=2)
    assert figures.lossy > 0, figures


# --- the disk of an enemy
# -------------------------------------------------------------------------------------------------


def left(steps: Sequence[Step], kept: Kept, folder: Folder, tries: int = 200) -> list[dict[str, bytes]]:
    """The different images of so many power cuts after the last step."""
    disk, dice, found = Disk(), random.Random(1), []
    for step in steps:
        disk.take(step)
    for _ in range(tries):
        image = disk.image(kept, folder, dice)
        if image not in found:
            found.append(image)
    return found


MADE = [Names(now=(("a", 1),)), SyncFolder()]


def test_what_was_synced_is_there_whatever_the_enemy_wants() -> None:
    steps = [*MADE, Write(1, 0, b"one"), Sync(1)]
    assert {repr(left(steps, kept, folder)) for kept in Kept for folder in Folder} == {"[{'a': b'one'}]"}


def test_what_was_not_synced_is_there_in_any_part_and_order() -> None:
    steps = [*MADE, Write(1, 0, b"one"), Write(1, 3, b"two"), Truncate(1, 5)]
    contents = {kept: {image["a"] for image in left(steps, kept, Folder.DONE)} for kept in Kept}
    assert contents[Kept.NOTHING] == {b""}
    assert contents[Kept.EVERYTHING] == {b"onetw"}
    assert contents[Kept.PREFIX] == {b"", b"one", b"onetwo", b"onetw"}
    assert contents[Kept.SUBSET] > contents[Kept.PREFIX]
    assert b"\0\0\0two" in contents[Kept.SUBSET]


def test_a_write_is_torn_where_its_sectors_meet() -> None:
    steps = [*MADE, Write(1, 100, b"x" * SECTOR)]
    contents = {image["a"] for image in left(steps, Kept.TORN, Folder.DONE)}
    first, second = b"\0" * 100 + b"x" * 412, b"\0" * SECTOR + b"x" * 100
    assert contents == {b"", first, second, first + b"x" * 100}


def test_a_name_is_not_gone_before_its_folder_was_synced() -> None:
    steps = [*MADE, Write(1, 0, b"one"), Sync(1), Names(now=(("a", None),)), Names(now=(("b", 2),))]
    names = {folder: {tuple(image) for image in left(steps, Kept.NOTHING, folder)} for folder in Folder}
    assert names[Folder.UNDONE] == {("a",)}
    assert names[Folder.DONE] == {("b",)}
    assert names[Folder.EACH_FOR_ITSELF] == {("a",), ("b",), ("a", "b"), ()}
    assert [tuple(image) for image in left([*steps, SyncFolder()], Kept.NOTHING, Folder.UNDONE)] == [("b",)]


def test_a_renamed_file_has_one_of_its_names() -> None:
    steps = [*MADE, Names(now=(("a", None), ("b", 1)))]
    assert {tuple(image) for image in left(steps, Kept.NOTHING, Folder.EACH_FOR_ITSELF)} == {("a",), ("b",)}
