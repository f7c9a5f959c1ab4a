"""A trace: what was said becomes lines and the same again, whatever becomes of the file."""

from __future__ import annotations

import errno
import gzip
import json
import random
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rigs.moments import HandClock
from rigs.small_disk import SmallDisk, with_a_disk_of
from rigs.traces import Tape, header, jammed

from edge_agent import decode, trace, trace_file
from edge_agent.config import shipped_profiles
from edge_agent.device import Device
from edge_agent.grammar import to_bytes, to_text
from edge_agent.profile import parse
from edge_agent.proof import Trial, steps
from edge_agent.sample import Quality, Reading, Trouble
from edge_agent.trace import Missing, Trace, TraceError
from edge_agent.trace_file import TraceFile

PROFILES = {file.stem: file.read_text("utf-8") for file in shipped_profiles().glob("*.yaml")}


def said(found: Trace) -> list[Reading]:
    return [one for one in found.happened() if isinstance(one, Reading)]


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_the_same_after_their_way_through_text(raw: bytes) -> None:
    assert to_bytes(to_text(raw)) == raw
    assert to_text(raw).isprintable()


@settings(deadline=None)
@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=3),
    st.none() | st.sampled_from(Trouble),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.booleans(),
)
def test_a_reading_is_the_same_after_its_way_through_a_trace(
    frames: list[bytes], trouble: Trouble | None, detail: str, retained: bool
) -> None:
    tape = Tape().go(1.25)
    tape.says("status", *frames, trouble=trouble, detail=detail, retained=retained)
    (found,) = said(tape.trace())
    assert found.payload == tuple(frames)
    assert (found.trouble, found.detail, found.retained) == (trouble, detail, retained)
    assert found.at.mono_ns - trace.START_NS == 1_250_000_000
    assert found.at.wall_ms == tape.header.wall_ms + 1250


def test_numbers_stay_numbers() -> None:
    (found,) = said(Tape().says("status", 0, None, 65_535).trace())
    assert found.payload == (0, None, 65_535)


def test_a_trace_can_be_read_by_a_person_with_zcat(tmp_path: Path) -> None:
    file = jammed().written(tmp_path / "jam.gz")
    text = subprocess.run(["zcat", file], capture_output=True, text=True, check=True).stdout
    first, second, *_ = text.splitlines()
    assert json.loads(first)["device"][0]["id"] == "belt-1"
    assert second == '{"t":0.0,"device":"belt-1","read":"status","frames":["0,1.0"]}'


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    assert jammed().written(tmp_path / "jam.gz").stat().st_mode & 0o077 == 0


def test_what_was_recorded_is_not_overwritten(tmp_path: Path) -> None:
    jammed().written(tmp_path / "jam.gz")
    with pytest.raises(FileExistsError):
        jammed().written(tmp_path / "jam.gz")


def test_cut_off_anywhere_it_holds_what_was_flushed_before(tmp_path: Path) -> None:
    tape = jammed()
    packed = tape.written(tmp_path / "jam.gz").read_bytes()
    whole = said(tape.trace())
    counts = []
    for size in range(_header_size(tape, tmp_path), len(packed)):
        file = tmp_path / "cut.gz"
        file.write_bytes(packed[:size])
        found = trace_file.opened(file)
        readings = said(found)
        assert readings == whole[: len(readings)]
        assert found.cut_off
        counts.append(len(readings))
    assert sorted(counts) == counts
    assert counts[-1] == len(whole)


def _header_size(tape: Tape, folder: Path) -> int:
    file = TraceFile(folder / "header.gz")
    file.write(tape.lines[0])
    return file.size


def taken_by(file: TraceFile, line: Callable[[], bytes]) -> Iterator[bytes]:
    """Lines that it takes until its disk is full."""
    while True:
        lines = line()
        try:
            file.write(lines)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                return
            raise
        yield lines


@with_a_disk_of(1)
def test_on_a_full_disk_a_trace_is_whole_and_goes_on_when_there_is_room(disk: SmallDisk) -> None:
    dice = random.Random(7)

    def line() -> bytes:
        return dice.randbytes(dice.randrange(1, 400)).hex().encode() + b"\n"

    path = disk.folder / "trace.gz"
    for _ in range(60):
        file = TraceFile(path)
        file.write(b"".join(line() for _ in range(5)))
        disk.fill()
        written = [gzip.decompress(path.read_bytes())]
        written += taken_by(file, line)
        assert gzip.decompress(path.read_bytes()) == b"".join(written)
        disk.empty()
        file.write(b"there is room again\n")
        file.close()
        assert gzip.decompress(path.read_bytes()) == b"".join(written) + b"there is room again\n"
        assert path.stat().st_size == file.size
        path.unlink()


def test_rubbish_behind_a_pulled_plug_is_passed_over(tmp_path: Path) -> None:
    tape = jammed()
    file = tape.written(tmp_path / "jam.gz")
    packed = file.read_bytes()
    file.write_bytes(packed[:-40] + b"\0" * 4096)
    found = trace_file.opened(file)
    readings = said(found)
    assert readings == said(tape.trace())[: len(readings)]
    assert found.cut_off
    assert readings


def test_a_plain_text_is_a_trace_too(tmp_path: Path) -> None:
    file = tmp_path / "jam.jsonl"
    file.write_bytes(b"".join(jammed().lines))
    assert said(trace_file.opened(file)) == said(jammed().trace())


def test_a_line_in_the_middle_that_is_none_is_named() -> None:
    tape = jammed()
    tape.lines[3] = b"{broken\n"
    with pytest.raises(TraceError, match="tape: line 4: not a line of a trace"):
        said(tape.trace())
    tape.lines[3] = b'{"t": 1, "device": "belt-1"}\n'
    with pytest.raises(TraceError, match="tape: line 4: read: Field required"):
        said(tape.trace())


@pytest.mark.parametrize("line", [b"", b"[]\n", b"hello\n", b'{"t": 1}\n', b"[" * 100_000])
def test_what_is_no_trace_is_refused(line: bytes) -> None:
    with pytest.raises(TraceError, match="no trace: its first line is not the header of one"):
        Trace("holiday.jpg", iter([line]))


def test_a_trace_of_a_later_version_is_refused_in_words() -> None:
    found = json.loads(trace.dumped(header(HandClock()))) | {"andon_trace": 2}
    with pytest.raises(TraceError, match="a trace of version 2; this agent knows 1"):
        Trace("tape", iter([json.dumps(found).encode()]))


def test_what_a_later_agent_says_more_is_passed_over() -> None:
    found = json.loads(trace.dumped(header(HandClock()))) | {"weather": "rain"}
    lines = [json.dumps(found).encode() + b"\n", b'{"t":1.5,"device":"belt-1","read":"status","mood":"x"}\n']
    assert len(said(Trace("tape", iter(lines)))) == 1


def test_a_bomb_is_no_trace(tmp_path: Path) -> None:
    file = tmp_path / "bomb.gz"
    file.write_bytes(gzip.compress(b"x" * (64 << 20)))
    with pytest.raises(TraceError, match="a line of more than 8 MiB"):
        trace_file.opened(file)


def test_a_wall_clock_that_is_set_meanwhile_is_told() -> None:
    tape = Tape().status().go(1)
    tape.clock.jump(3600)
    tape.status().go(1).status()
    first, second, third = said(tape.trace())
    assert second.at.wall_ms - first.at.wall_ms == 3_601_000
    assert third.at.wall_ms - second.at.wall_ms == 1_000
    assert second.at.mono_ns - first.at.mono_ns == 1_000_000_000


def test_what_is_missing_is_said() -> None:
    found = list(Tape().status().missing(17).trace().happened())
    assert found[1] == Missing(count=17)


def test_what_a_profile_hides_is_not_written() -> None:
    tape = Tape().says("voice", b"4006381333931 for Mr. Jones")
    assert b"Jones" not in b"".join(tape.lines)
    (found,) = said(tape.trace())
    assert found.payload == (b"[redacted]",)


def test_it_is_said_when_what_is_hidden_changes_what_a_condition_sees() -> None:
    text = (
        header(HandClock())
        .profiles["conveyor"]
        .replace("heard: {read: voice, type: seen,", "heard: {read: voice, starts_with: OK,")
    ).replace("signal:\n  heard, s: 60", "signal: heard, s: 60")
    found = Tape(text=text).says("voice", b"OK 4711").says("voice", b"no").trace()
    assert len(said(found)) == 2
    assert found.changed == 1


@pytest.mark.parametrize("name", PROFILES)
def test_what_a_shipped_profile_hides_changes_nothing_that_its_conditions_see(name: str) -> None:
    for example in parse(PROFILES[name], name=name).examples:
        profile = parse(PROFILES[name], name=name, preset=example.preset, overlay=example.set)
        device = Device(id="device-1", place="", bus="bus", profile=profile)
        for step in (*steps(example.trips), *steps(example.clears)):
            for read, payload in step.reads.items():
                for reading in Trial(profile)._readings(read, payload):
                    reading = replace(reading, device="device-1")
                    assert _seen(device, decode.redacted(device, reading)) == _seen(device, reading)


def _seen(device: Device, reading: Reading) -> list[tuple[str, object, Quality]]:
    return [(one.signal, one.value, one.quality) for one in decode.samples(device, reading)]
