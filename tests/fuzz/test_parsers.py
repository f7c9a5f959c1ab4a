"""Every parser of bytes from outside is total: any bytes end as a value or as its declared refusal.

Here with some dozen cases each; ``make fuzz`` guides many more by coverage. What it found is in ``found`` and
is replayed.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz.engine import FOUND, folder_of, run
from fuzz.parsers import PARSERS, ROOT, Parser, named
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

every_parser = pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name)


@st.composite
def spoilt(draw: st.DrawFn, parser: Parser) -> bytes:
    """A seed with some of its bytes replaced, doubled, cut out, or overwritten by a word of its language."""
    data = bytearray(draw(st.sampled_from(parser.seeds)))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 12)))
        new = st.binary(max_size=6) | st.just(bytes(data[start:end]) * 2)
        data[start:end] = draw(new | st.sampled_from(parser.words) if parser.words else new)
    return bytes(data)[: parser.longest]


@every_parser
def test_any_bytes_end_as_a_value_or_as_the_declared_refusal(parser: Parser) -> None:
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.binary(max_size=300) | spoilt(parser))
    def total(data: bytes) -> None:
        run(parser, data)

    total()


def test_every_framing_is_in_the_table() -> None:
    framings = {file.stem for file in (ROOT / "edge_agent" / "framing").glob("[a-z]*.py")}
    assert {f"{framing} framing" for framing in framings} <= {parser.name for parser in PARSERS}


@every_parser
def test_what_is_right_is_read(parser: Parser) -> None:
    outcomes = [run(parser, seed) for seed in parser.seeds]
    assert any(outcome.taken for outcome in outcomes), "else the fuzzer starts from garbage"


@every_parser
def test_no_case_is_larger_than_what_reaches_the_parser(parser: Parser) -> None:
    for seed in parser.seeds:
        run(parser, (seed * (parser.longest // max(1, len(seed)) + 1))[: parser.longest])
        run(parser, seed[:1] * parser.longest)


@pytest.mark.parametrize(
    "file", sorted(FOUND.glob("*/*")), ids=lambda file: f"{file.parent.name}/{file.name}"
)
def test_what_was_found_once_is_found_no_more(file: Path) -> None:
    parser = next(parser for parser in PARSERS if folder_of(parser) == file.parent)
    run(named(parser.name), file.read_bytes())
