from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from rigs.small_disk import small_disk
from structlog.testing import capture_logs

from edge_agent.evidence_file import PAGE_BYTES, EvidenceFile, NewPart

MIB = 1 << 20
NOISE = random.Random(3)


def noise(size: int = 3_000) -> dict[str, Any]:
    """So much of it cannot be packed."""
    return {"x": NOISE.randbytes(size).hex()}


def part(uid: str, name: str = "before", evidence: dict[str, Any] | None = None) -> NewPart:
    return NewPart(uid=uid, part=name, evidence={"said": uid} if evidence is None else evidence)


def waiting(file: EvidenceFile) -> list[tuple[str, str, bool]]:
    found = file.waiting(max_bytes=64 * MIB, at_most=100_000)
    return [(one.uid, one.part, one.evidence is not None) for one in found]


@pytest.fixture
def file(tmp_path: Path) -> Iterator[EvidenceFile]:
    made = EvidenceFile(tmp_path / "evidence.db", max_bytes=MIB)
    yield made
    made.close()


def test_what_was_written_waits_until_it_was_sent_and_is_there_after_a_restart(
    file: EvidenceFile, tmp_path: Path
) -> None:
    file.write([part("a"), part("b"), part("a", "after")])
    first, second, _ = file.waiting(max_bytes=MIB, at_most=9)
    assert (first.uid, first.part, first.evidence) == ("a", "before", {"said": "a"})
    file.sent([first.seq])
    file.close()
    again = EvidenceFile(tmp_path / "evidence.db", max_bytes=MIB)
    assert waiting(again) == [("b", "before", True), ("a", "after", True)]
    again.sent([second.seq])
    again.send_again()
    assert len(waiting(again)) == 3
    again.close()


def test_a_part_is_written_once(file: EvidenceFile) -> None:
    file.write([part("a")])
    file.write([part("a", evidence={"other": 1}), part("b")])
    assert [one.evidence for one in file.waiting(max_bytes=MIB, at_most=9)] == [{"said": "a"}, {"said": "b"}]


def test_a_message_has_as_much_as_was_asked_for_and_one_part_at_least(file: EvidenceFile) -> None:
    file.write([part(str(number), evidence=noise()) for number in range(9)])
    assert len(file.waiting(max_bytes=20_000, at_most=50)) == 3
    assert len(file.waiting(max_bytes=1, at_most=50)) == 1
    assert len(file.waiting(max_bytes=MIB, at_most=2)) == 2
    without = [one.seq for one in file.waiting(max_bytes=MIB, at_most=2)]
    assert [one.uid for one in file.waiting(max_bytes=MIB, at_most=2, without=without)] == ["2", "3"]


def test_it_never_is_larger_than_its_cap_and_counts_what_it_gives_up(
    file: EvidenceFile, tmp_path: Path
) -> None:
    for number in range(500):
        file.write([part(f"{number}", name, noise()) for name in ("before", "after")])
        assert (tmp_path / "evidence.db").stat().st_size <= MIB
    kept = [uid for uid, _, is_there in waiting(file) if is_there]
    assert len(kept) > 150
    assert "499" in kept
    figures = file.figures()
    assert (figures.waiting, figures.given_up) == (len(kept), 1_000 - len(kept))


def test_what_is_given_up_goes_in_order(file: EvidenceFile) -> None:
    """What the collector has; closed: after, then before; open: after, then before; the oldest first."""
    told: dict[tuple[str, str], tuple[bool, bool, bool, int]] = {}
    for number in range(60):
        uid, sent, closed = f"{number:02}", number % 3 == 0, number % 2 == 0
        file.write([part(uid, name, noise(2_000)) for name in ("before", "after")], [uid] if closed else [])
        if sent:
            file.sent([one.seq for one in file.waiting(max_bytes=MIB, at_most=99) if one.uid == uid])
        for place, name in enumerate(("before", "after")):
            told[uid, name] = (not sent, not closed, name == "before", 2 * number + place)
    order = sorted(told, key=lambda one: told[one])
    unsent = [one for one in order if told[one][0]]
    left = len(order)
    while left:
        file.make_room_on_the_disk()
        marks = {(uid, name) for uid, name, is_there in waiting(file) if not is_there}
        assert marks == set(unsent[: len(marks)])
        file.send_again()
        now = {(uid, name) for uid, name, is_there in waiting(file) if is_there}
        assert now == set(order[len(order) - len(now) :])
        file.sent(
            [one.seq for one in file.waiting(max_bytes=MIB, at_most=999) if not told[one.uid, one.part][0]]
        )
        assert len(now) < left or not now
        left = len(now)


def test_a_mark_is_told_once_and_then_forgotten(file: EvidenceFile) -> None:
    file.write([NewPart(uid="a", part="before", evidence=None)])
    (mark,) = file.waiting(max_bytes=MIB, at_most=9)
    assert mark.evidence is None
    file.sent([mark.seq])
    file.send_again()
    assert waiting(file) == []
    assert (file.figures().given_up, file.figures().waiting) == (1, 0)


@pytest.mark.parametrize("damage", ["x'ffffffffffffffff'", "CAST(x'31' AS TEXT)", "7", "x''"])
def test_a_part_that_was_damaged_is_given_up_alone(file: EvidenceFile, tmp_path: Path, damage: str) -> None:
    file.write([part("a"), part("b")])
    file.close()
    with sqlite3.connect(tmp_path / "evidence.db") as sql:
        sql.execute(f"UPDATE part SET body = {damage} WHERE uid = 'a'")
    sql.close()
    assert waiting(file) == [("b", "before", True)]
    assert waiting(file) == [("a", "before", False), ("b", "before", True)]
    assert file.figures().given_up == 1


def with_an_older_index(file: EvidenceFile, path: Path, index: str) -> None:
    """As after a power cut on a disk that keeps the pages of a table and not those of its index: it knows
    ``a`` and not ``b``.
    """
    file.write([part("a")])
    file.close()
    with closing(sqlite3.connect(path)) as sql:
        (page,) = sql.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (index,)).fetchone()
    begins = (page - 1) * PAGE_BYTES
    before = path.read_bytes()[begins : begins + PAGE_BYTES]
    file.write([part("b")])
    file.close()
    with path.open("r+b") as raw:
        raw.seek(begins)
        raw.write(before)


@pytest.mark.parametrize("index", ["part_waiting", "sqlite_autoindex_part_1"])
def test_an_index_that_has_parted_from_its_table_costs_nothing(
    file: EvidenceFile, tmp_path: Path, index: str
) -> None:
    with_an_older_index(file, tmp_path / "evidence.db", index)
    with capture_logs() as said:
        assert waiting(file) == [("a", "before", True), ("b", "before", True)]
    assert file.figures().given_up == 0
    (line,) = said
    assert "parted from an index" in line["event"]
    assert index in line["why"]
    file.write([part("b"), part("c")])
    assert waiting(file) == [(uid, "before", True) for uid in "abc"]


def test_parts_that_no_index_can_order_are_told_as_given_up(file: EvidenceFile, tmp_path: Path) -> None:
    with_an_older_index(file, tmp_path / "evidence.db", "sqlite_autoindex_part_1")
    with closing(sqlite3.connect(tmp_path / "evidence.db")) as sql, sql:
        sql.execute(
            "INSERT INTO part (uid, part, open, sent, body) SELECT uid, part, open, sent, body FROM part"
            " NOT INDEXED WHERE uid = 'b'"
        )
    with capture_logs() as said:
        assert waiting(file) == [("a", "before", False), ("b", "before", False), ("b", "before", False)]
    assert file.figures().given_up == 3
    (line,) = said
    assert "UNIQUE constraint failed" in line["why"]


@pytest.mark.parametrize("numbered", [1, None])
@pytest.mark.parametrize("damaged", [False, True])
def test_a_part_does_not_get_the_number_of_a_mark_that_a_power_cut_left(
    file: EvidenceFile, tmp_path: Path, numbered: int | None, damaged: bool
) -> None:
    """``damaged``: what was a part becomes a mark when it is read."""
    file.write([NewPart(uid=uid, part="before", evidence={} if damaged else None) for uid in "abc"])
    file.close()
    with closing(sqlite3.connect(tmp_path / "evidence.db")) as sql, sql:
        sql.execute("UPDATE part SET body = x'00'")
        # An older page of it.
        sql.execute("DELETE FROM sqlite_sequence")
        sql.executemany("INSERT INTO sqlite_sequence VALUES ('part', ?)", [(numbered,)] if numbered else [])
    assert len(waiting(file)) == (0 if damaged else 3)
    file.write([part("d")])
    told = file.waiting(max_bytes=MIB, at_most=9)
    assert [(one.uid, one.evidence is None) for one in told] == [
        *((uid, True) for uid in "abc"),
        ("d", False),
    ]
    file.sent([one.seq for one in told if one.evidence is None])
    assert waiting(file) == [("d", "before", True)]


@pytest.mark.parametrize("broken", ["no database", "cut", "another version", "a folder", "nothing left"])
def test_a_file_that_cannot_be_used_costs_what_was_in_it_and_no_more(
    file: EvidenceFile, tmp_path: Path, broken: str
) -> None:
    path = tmp_path / "evidence.db"
    file.write([part(str(number), evidence=noise()) for number in range(20)])
    assert file.figures().waiting == 20
    if broken == "nothing left":
        # While it is in use.
        for one in tmp_path.iterdir():
            one.write_bytes(b"\xff" * 4096)
    else:
        file.close()
        if broken == "no database":
            path.write_bytes(b"hello" * 1_000)
        elif broken == "cut":
            os.truncate(path, path.stat().st_size // 2)
        elif broken == "another version":
            with sqlite3.connect(path) as sql:
                sql.execute("PRAGMA user_version = 99")
            sql.close()
        else:
            path.unlink()
            path.mkdir()
    file.write([part("new")])
    file.write([part("newer")])
    if broken == "a folder":
        assert waiting(file) == []
        assert file.figures().given_up == 22
        path.rmdir()
        file.write([part("newest")])
        assert waiting(file) == [("newest", "before", True)]
    else:
        assert ("newer", "before", True) in waiting(file)
        assert file.figures().given_up >= 20


def test_a_full_disk_takes_the_evidence_and_gives_its_room_to_others(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", mib=4) as disk:
        file = EvidenceFile(disk.folder / "evidence.db", max_bytes=2 * MIB)
        for number in range(400):
            file.write([part(str(number), evidence=noise())])
        disk.fill()
        file.write([part("late", evidence=noise())])
        for _ in range(20):
            file.make_room_on_the_disk()
        assert disk.free() > MIB
        assert file.figures().given_up > 100
        disk.empty()
        file.write([part("later", evidence=noise())])
        assert ("later", "before", True) in waiting(file)
        file.close()


def test_what_was_given_up_is_told_although_the_file_begins_anew_on_a_full_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", mib=2) as disk:
        file = EvidenceFile(disk.folder / "evidence.db", max_bytes=MIB)
        file.write([NewPart(uid=f"none-{number}", part="before", evidence=None) for number in range(300)])
        file.write([part(f"some-{number}", evidence=noise()) for number in range(60)])
        disk.fill()
        for _ in range(3):
            file.make_room_on_the_disk()
        told = waiting(file)
        assert len(told) == 360
        assert file.figures().given_up == sum(not is_there for _, _, is_there in told) >= 300
        file.close()


@pytest.mark.parametrize("broken", [False, True])
def test_a_late_answer_takes_nothing_else_for_told(file: EvidenceFile, tmp_path: Path, broken: bool) -> None:
    """The file has begun anew while parts of it were on their way."""
    file.write([part(f"old-{number}") for number in range(5)])
    on_their_way = [one.seq for one in file.waiting(max_bytes=MIB, at_most=9)]
    file.close()
    if broken:
        (tmp_path / "evidence.db").write_bytes(b"hello" * 1_000)
    else:
        (tmp_path / "evidence.db").unlink()
        file._begin_anew(sqlite3.DatabaseError("for want of room"))
    file.write([part(f"new-{number}") for number in range(5)])
    file.sent(on_their_way)
    assert [uid for uid, _, _ in waiting(file)] == [f"new-{number}" for number in range(5)]


def test_evidence_is_packed(file: EvidenceFile, tmp_path: Path) -> None:
    said = {"readings": [{"at_ms": -number, "frames": ["0,1.0"]} for number in range(500)]}
    file.write([part("a", evidence=said)])
    assert len(json.dumps(said)) > 15_000
    file.close()
    with sqlite3.connect(tmp_path / "evidence.db") as sql:
        (size,) = sql.execute("SELECT length(body) FROM part").fetchone()
    sql.close()
    assert size < 3_000


WRITER = """
import sys
from pathlib import Path
from edge_agent.evidence_file import EvidenceFile, NewPart
file = EvidenceFile(Path(sys.argv[1]), max_bytes=1 << 20)
first = int(sys.argv[2])
for number in range(first, first + 100_000):
    uid = str(number)
    file.write([NewPart(uid=uid, part="before", evidence={"x": uid * 900})], [str(number - 1)])
    if number % 7 == 0:
        file.sent([one.seq for one in file.waiting(max_bytes=20_000, at_most=3)])
    print(number, flush=True)
"""


def test_a_kill_at_any_moment_leaves_a_file_with_all_that_was_written(tmp_path: Path) -> None:
    """And thins it meanwhile. Twenty kills; a power cut may cost the last parts, a kill does not."""
    path, last, rng = tmp_path / "evidence.db", -1, random.Random(9)
    for _ in range(20):
        command = [sys.executable, "-c", WRITER, str(path), str(last + 1)]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        for _ in range(rng.randrange(1, 120)):
            last = int(writer.stdout.readline())
        writer.kill()
        last = max([last, *(int(line) for line in writer.stdout.read().split())])
        writer.wait()
        file = EvidenceFile(path, max_bytes=MIB)
        figures = file.figures()
        kept = [uid for uid, _, is_there in waiting(file) if is_there]
        assert str(last) in kept or last % 7 == 0
        assert figures.waiting == len(kept)
        file.close()
        with sqlite3.connect(path) as sql:
            assert sql.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        sql.close()
    assert last > 200
