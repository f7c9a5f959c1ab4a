"""A journal and the evidence beside it are recorded; after a power cut the journal is what it was promised to
be, whatever became of the evidence.
"""

from pathlib import Path

from powercut import cuts, evidence_cuts, evidence_writer

IMAGES = 100
IMAGES_NEVER_SYNCED = 40


async def test_evidence_may_be_lost_by_a_power_cut_and_hurts_nothing(tmp_path: Path) -> None:
    steps = evidence_cuts.record(tmp_path / "recorded", seed=1, transitions=600)
    figures, seen = await evidence_cuts.cut(steps, tmp_path, images=IMAGES, seed=2)
    assert (figures.lossy, figures.corrupt) == (0, 0), figures.bad
    assert figures.confirmed > 100
    # The last parts alone.
    assert seen.most_lost < 100


async def test_not_even_where_nothing_of_it_was_ever_synced(tmp_path: Path) -> None:
    """Then many a file is beyond use, which this has to see."""
    steps = evidence_cuts.record(
        tmp_path / "recorded",
        seed=1,
        transitions=300,
        way=evidence_writer.NEVER_SYNCED,
        endings=cuts.SHORT,
    )
    figures, seen = await evidence_cuts.cut(steps, tmp_path, images=IMAGES_NEVER_SYNCED, seed=2)
    assert (figures.lossy, figures.corrupt) == (0, 0), figures.bad
    assert seen.begun_anew > IMAGES_NEVER_SYNCED / 10
