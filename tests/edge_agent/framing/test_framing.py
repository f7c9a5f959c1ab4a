"""Every framer gives the same frames however the bytes are cut, and takes any bytes."""

from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import edge_agent.framing

NAMES = sorted(file.stem for file in Path(edge_agent.framing.__path__[0]).glob("[a-z]*.py"))


def ssi(opcode: int, status: int, data: bytes = b"") -> bytes:
    """A packet of a decoder as it is on the line."""
    counted = bytes([4 + len(data), opcode, 0, status]) + data
    return counted + (-sum(counted) & 0xFFFF).to_bytes(2, "big")


# Delimiters and packets often enough that frames appear.
LINE_NOISE = st.lists(
    st.sampled_from([b"\r", b"\n", b"\x02", b"\x03", ssi(0xF6, 0, b"\x03"), ssi(0xF3, 2, b"\x01ab")])
    | st.binary(max_size=9)
).map(b"".join)


def framer(name: str, max_frame: int = 4096):
    return import_module(f"edge_agent.framing.{name}").Framer(max_frame)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted(place % (len(data) + 1) for place in places)
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


@pytest.mark.parametrize("name", NAMES)
@given(data=LINE_NOISE, places=st.lists(st.integers(min_value=0, max_value=10_000)))
def test_however_the_bytes_are_cut_the_frames_are_the_same(name: str, data: bytes, places: list[int]) -> None:
    whole, pieces, single = framer(name, 6), framer(name, 6), framer(name, 6)
    expected = whole.feed(data)
    assert [frame for chunk in cut(data, places) for frame in pieces.feed(chunk)] == expected
    assert [frame for byte in data for frame in single.feed(bytes([byte]))] == expected
    assert whole.dropped == pieces.dropped == single.dropped


@pytest.mark.parametrize("name", NAMES)
@given(chunks=st.lists(st.binary(max_size=64)))
def test_any_bytes_are_taken_and_no_frame_is_longer_than_allowed(name: str, chunks: list[bytes]) -> None:
    one = framer(name, 8)
    assert all(len(frame) <= 8 for chunk in chunks for frame in one.feed(chunk))


# The beginning of a frame, then a whole one and what is in it.
HALF_AND_WHOLE = {
    "line": (b"left over", b"new\r", [b"new"]),
    "stx_etx": (b"\x02left over", b"\x02new\x03", [b"new"]),
    "byte": (b"", b"\x00", [b"\x00"]),
    "ssi": (ssi(0xF3, 2, b"left over")[:-1], ssi(0xF6, 0, b"\x03"), [b"\xf6\x00\x00\x03"]),
}


@pytest.mark.parametrize("name", NAMES)
def test_after_a_reset_the_half_frame_before_is_forgotten(name: str) -> None:
    half, whole, frames = HALF_AND_WHOLE[name]
    one = framer(name)
    one.feed(half)
    one.reset()
    assert one.feed(whole) == frames


@pytest.mark.parametrize(
    ("data", "frames"),
    [
        (b"", []),
        (b"4006381333931\r", [b"4006381333931"]),
        (b"one\r\ntwo\nthree\r", [b"one", b"two", b"three"]),
        (b"\r\n\r\n", []),
        (b"unfinished", []),
        (b"a\x00\xff\r", [b"a\x00\xff"]),
    ],
)
def test_a_line_ends_with_cr_lf_or_both(data: bytes, frames: list[bytes]) -> None:
    assert framer("line").feed(data) == frames


@pytest.mark.parametrize(
    ("data", "frames", "dropped"),
    [
        (b"\x02030,0,0\x03\r\n\x020,0\x03\r\n", [b"030,0,0", b"0,0"], 0),
        (b"noise\x02x\x03noise\x03", [b"x"], 0),
        (b"\x02cut o\x02whole\x03", [b"whole"], 1),
        (b"\x02\x03", [b""], 0),
        (b"\x02a\r\nb\x03", [b"a\r\nb"], 0),
    ],
)
def test_stx_opens_a_frame_and_etx_closes_it(data: bytes, frames: list[bytes], dropped: int) -> None:
    one = framer("stx_etx")
    assert (one.feed(data), one.dropped) == (frames, dropped)


def test_a_line_without_end_is_dropped_counted_and_costs_only_itself() -> None:
    one = framer("line", 10)
    assert one.feed(b"x" * 1_000_000 + b"\rnext\r") == [b"next"]
    assert one.dropped == 1


def test_a_frame_without_end_is_dropped_counted_and_costs_only_itself() -> None:
    one = framer("stx_etx", 10)
    assert one.feed(b"\x02" + b"x" * 1_000_000 + b"\x03\x02next\x03") == [b"next"]
    assert one.dropped == 1


def test_each_byte_is_a_frame_of_its_own() -> None:
    assert framer("byte").feed(b"\x00\r") == [b"\x00", b"\r"]


# Computed by hand or quoted from other people's tests of the protocol: 0x10000 minus the sum of all before.
@pytest.mark.parametrize(
    ("packet", "message"),
    [
        ("05 F6 00 00 03 FF 02", "F6 00 00 03"),
        ("04 A3 04 00 FF 55", "A3 04 00"),
        ("04 D0 04 00 FF 28", "D0 04 00"),
        ("0A C6 00 00 FF F4 F0 3E 04 FF FB 0C", "C6 00 00 FF F4 F0 3E 04 FF"),
    ],
)
def test_a_packet_of_ssi_is_known_by_its_length_and_checksum(packet: str, message: str) -> None:
    assert framer("ssi").feed(bytes.fromhex(packet)) == [bytes.fromhex(message)]


def test_a_packet_of_ssi_with_a_wrong_checksum_is_dropped_and_costs_only_itself() -> None:
    one = framer("ssi")
    wrong = ssi(0xF3, 0, b"\x0b4006381333931")[:-1] + b"\x00"
    assert one.feed(wrong + ssi(0xF6, 0, b"\x03")) == [b"\xf6\x00\x00\x03"]
    assert one.dropped >= 1


def test_a_message_of_ssi_in_several_packets_is_one_frame() -> None:
    one = framer("ssi")
    assert one.feed(ssi(0xF3, 2, b"\x0b400638") + ssi(0xF3, 2, b"1333")) == []
    assert one.feed(ssi(0xF3, 0, b"931")) == [b"\xf3\x00\x02\x0b4006381333931"]
    assert one.dropped == 0


def test_a_message_of_ssi_whose_end_never_came_is_not_put_before_the_next() -> None:
    one = framer("ssi")
    one.feed(ssi(0xF3, 2, b"\x0b400638"))
    assert one.feed(ssi(0xF6, 0, b"\x03")) == [b"\xf6\x00\x00\x03"]
    assert one.dropped == 1


def test_a_message_of_ssi_that_is_too_long_is_dropped_counted_and_costs_only_itself() -> None:
    one = framer("ssi", 10)
    assert one.feed(ssi(0xF3, 2, b"x" * 200) * 50 + ssi(0xF3, 0, b"x")) == []
    assert one.feed(ssi(0xF6, 0, b"\x03")) == [b"\xf6\x00\x00\x03"]
    assert one.dropped == 1
