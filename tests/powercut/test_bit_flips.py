"""Flash forgets single bits. What is read wrong is found: by SQLite's check or by the checksum of a row."""

from pathlib import Path

from powercut import flips
from powercut.flips import Found

ROWS = 300
FLIPS = 100


async def test_no_flipped_bit_is_read_as_something_else(tmp_path: Path) -> None:
    figures, silent = await flips.flips(tmp_path, rows=ROWS, bits=FLIPS, seed=1)
    assert silent == []
    assert figures.total() == FLIPS
    # Enough of them hit what is read.
    assert figures[Found.BY_CHECKSUM] > FLIPS / 4


async def test_nor_one_of_what_says_where_the_journal_stands(tmp_path: Path) -> None:
    """The few rows that a random bit hardly ever hits: name and cursor, boundaries, the last anchor."""
    figures, silent = await flips.flips(tmp_path, rows=100, bits=60, seed=1, only=flips.of_the_state)
    assert silent == []
    assert figures[Found.BY_CHECKSUM] > 30
