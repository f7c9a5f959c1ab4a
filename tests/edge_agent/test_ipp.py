"""The question as RFC 8010 encodes it, and answers, sound and broken."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent import ipp

HEAD = struct.pack(">BBHI", 1, 1, 0, ipp.REQUEST_ID)


def attribute(tag: int, name: str, value: bytes) -> bytes:
    return struct.pack(">BH", tag, len(name)) + name.encode() + struct.pack(">H", len(value)) + value


def printer(*attributes: bytes, head: bytes = HEAD) -> bytes:
    operation = b"\x01" + attribute(0x47, "attributes-charset", b"utf-8") + attribute(0x21, "a", bytes(4))
    return head + operation + b"\x04" + b"".join(attributes) + b"\x03"


def test_the_question_is_get_printer_attributes_of_the_rfc_byte_for_byte() -> None:
    assert ipp.question("ipp://p/ipp/print", ["printer-state", "queued-job-count"]) == (
        b"\x01\x01\x00\x0b\x00\x00\x00\x01\x01"
        b"\x47\x00\x12attributes-charset\x00\x05utf-8"
        b"\x48\x00\x1battributes-natural-language\x00\x02en"
        b"\x45\x00\x0bprinter-uri\x00\x11ipp://p/ipp/print"
        b"\x44\x00\x14requested-attributes\x00\x0dprinter-state"
        b"\x44\x00\x00\x00\x10queued-job-count"
        b"\x03"
    )


@pytest.mark.parametrize(
    ("attributes", "values"),
    [
        ([attribute(0x23, "a", b"\0\0\0\5")], [5]),
        ([attribute(0x21, "a", b"\xff\xff\xff\xff")], [-1]),
        ([attribute(0x22, "a", b"\1")], [True]),
        ([attribute(0x22, "a", b"\0")], [False]),
        ([attribute(0x44, "a", b"none")], ["none"]),
        ([attribute(0x44, "a", b"x"), attribute(0x44, "", b"y"), attribute(0x44, "b", b"z")], ["x", "y"]),
        ([attribute(0x35, "a", b"\0\2en\0\3Out")], ["Out"]),
        ([attribute(0x33, "a", b"\0\0\0\1\0\0\0\7")], ["1-7"]),
        # Out of band: unknown; an octet string; an integer of two bytes.
        ([attribute(0x12, "a", b"")], [None]),
        ([attribute(0x30, "a", b"\x80")], [None]),
        ([attribute(0x21, "a", b"\0\5")], [None]),
        ([attribute(0x41, "a", b"\xff")], ["\ufffd"]),
        # A collection with one inside it, then the next value.
        (
            [
                attribute(0x34, "c", b""),
                attribute(0x4A, "", b"a"),
                attribute(0x34, "", b""),
                attribute(0x23, "", b"\0\0\0\7"),
                attribute(0x37, "", b""),
                attribute(0x37, "", b""),
                attribute(0x23, "a", b"\0\0\0\5"),
            ],
            [5],
        ),
    ],
)
def test_a_value_is_read_by_its_tag(attributes: list[bytes], values: list[object]) -> None:
    found = ipp.answered(printer(*attributes), {"a"})
    assert found == {"a": values}
    assert [type(one) for one in found["a"]] == [type(one) for one in values]


def test_what_is_inside_a_collection_is_no_value_of_its_own() -> None:
    inside = [attribute(0x4A, "", b"a"), attribute(0x23, "", b"\0\0\0\7"), attribute(0x37, "", b"")]
    assert ipp.answered(printer(attribute(0x34, "c", b""), *inside), {"c"}) == {"c": [None]}


def test_only_what_was_asked_for_is_taken() -> None:
    assert ipp.answered(printer(attribute(0x44, "b", b"x")), {"a"}) == {}


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"", "too short"),
        (b"HTTP/1.1 200 OK\r\n", "not our question|no answer of IPP"),
        (printer(head=struct.pack(">BBHI", 1, 1, 0, 7)), "to our question"),
        (printer(head=struct.pack(">BBHI", 1, 1, 0x0406, 1)), r"no printer of that path \(0x0406\)"),
        (printer(head=struct.pack(">BBHI", 1, 1, 0x0999, 1)), r"IPP status \(0x0999\)"),
        (printer()[:-1], "ends in the middle"),
        (printer(attribute(0x44, "a", b"none"))[:-3], "ends in the middle"),
        (printer(attribute(0x35, "a", b"\0\x09en")), "ends in the middle"),
        (printer(attribute(0x44, "a", bytes(60_000)), attribute(0x44, "", bytes(9_000))), "more than 64 KiB"),
    ],
)
def test_what_is_no_answer_is_refused_in_words(answer: bytes, says: str) -> None:
    with pytest.raises(ipp.IppError, match=says):
        ipp.answered(answer, {"a"})


def test_a_warning_of_the_printer_is_no_refusal() -> None:
    """0x0001: some attributes were ignored."""
    head = struct.pack(">BBHI", 2, 0, 0x0001, 1)
    assert ipp.answered(printer(attribute(0x44, "a", b"x"), head=head), {"a"}) == {"a": ["x"]}


@given(st.binary(max_size=200), st.integers(0, 80))
def test_any_bytes_end_as_attributes_or_in_words(tail: bytes, cut: int) -> None:
    for data in (tail, HEAD + tail, printer(attribute(0x34, "a", b""))[:cut] + tail):
        with suppress(ipp.IppError):
            assert ipp.answered(data, {"a"}).keys() <= {"a"}
