"""Payloads of Sparkplug B, and what a node's messages mean one after another."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent import sparkplug_payload
from edge_agent.sparkplug import Birth, EdgeNode, Heard, Kind, Life
from edge_agent.sparkplug_payload import PayloadError, decoded, value_of


def varint(number: int) -> bytes:
    said = bytearray()
    while number > 0x7F:
        said.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*said, number])


def number(of: int, value: int) -> bytes:
    return varint(of << 3) + varint(value)


def text(of: int, value: bytes) -> bytes:
    return varint(of << 3 | 2) + varint(len(value)) + value


def metric(*, name: str = "", alias: int | None = None, datatype: int = 0, value: bytes = b"") -> bytes:
    said = text(1, name.encode()) if name else b""
    said += b"" if alias is None else number(2, alias)
    return said + (number(4, datatype) if datatype else b"") + value


def payload(*metrics: bytes, seq: int | None = None) -> bytes:
    return b"".join(text(2, one) for one in metrics) + (b"" if seq is None else number(3, seq))


def bd_seq(value: int) -> bytes:
    return metric(name="bdSeq", datatype=4, value=number(11, value))


def has(key: bytes, value: bytes) -> bytes:
    """A property."""
    return text(9, text(1, key) + text(2, value))


TRUE, FALSE = number(14, 1), number(14, 0)


# --- values -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("datatype", "value", "is_"),
    [
        (11, TRUE, True),
        (11, FALSE, False),
        (12, text(15, b"Out of paper"), "Out of paper"),
        (14, text(15, b"\xff"), "\ufffd"),
        (9, varint(12 << 3 | 5) + struct.pack("<f", 1.5), 1.5),
        (10, varint(13 << 3 | 1) + struct.pack("<d", -2.25), -2.25),
        (3, number(10, 7), 7),
        # Two's complement: as wide as the field, or as the type.
        (3, number(10, 2**32 - 5), -5),
        (1, number(10, 2**32 - 5), -5),
        (1, number(10, 2**8 - 5), -5),
        (2, number(10, 2**16 - 1), -1),
        (4, number(11, 2**64 - 1), -1),
        (5, number(10, 255), 255),
        (7, number(11, 2**32 - 1), 2**32 - 1),
        (8, number(11, 2**64 - 1), 2**64 - 1),
        (13, number(11, 1_700_000_000_000), 1_700_000_000_000),
        (5, number(10, 256), "why: a number that does not fit data type 5"),
        (1, number(10, 300), "why: a number that does not fit data type 1"),
        (9, varint(12 << 3 | 5) + struct.pack("<f", float("nan")), "why: not a finite number"),
        (10, varint(13 << 3 | 1) + struct.pack("<d", float("inf")), "why: not a finite number"),
        (9, text(12, b"\0\0\0"), "why: a floating-point number of 3 bytes, not 4"),
        (10, varint(13 << 3 | 5) + bytes(4), "why: a floating-point number of 4 bytes, not 8"),
        (12, text(15, b"x" * 1025), "why: a text of more than 1024 bytes"),
        (11, b"", "why: null"),
        (11, number(7, 1), "why: null"),
        # A data set, an array, a data type that does not fit its field or that there is not.
        (16, text(17, b""), "why: data type 16 in field 17 is not read"),
        (22, text(16, b"\1"), "why: data type 22 in field 16 is not read"),
        (11, number(10, 1), "why: data type 11 in field 10 is not read"),
        (99, number(10, 1), "why: data type 99 in field 10 is not read"),
        # Its sender says itself that it is worth nothing.
        (11, TRUE + has(b"Quality", number(1, 3) + number(3, 0)), "why: its sender says: bad"),
        (11, TRUE + has(b"Quality", number(3, 500)), "why: its sender says: stale"),
        (11, TRUE + has(b"Quality", number(3, 64)), "why: its sender says: quality 64"),
        (11, TRUE + has(b"Quality", number(3, 192)), True),
        (11, TRUE + has(b"engUnit", number(3, 0)), True),
        # No birth has said what it is.
        (0, TRUE, True),
        (0, number(10, 200), "why: its data type is not known: its birth was not seen"),
    ],
)  # fmt: skip
def test_a_value_is_what_its_data_type_says(datatype: int, value: bytes, is_: object) -> None:
    (one,) = decoded(payload(metric(name="m", datatype=datatype, value=value))).metrics
    found, why = value_of(one, None)
    said = f"why: {why}" if why else found
    assert (type(said), said) == (type(is_), is_)


def test_the_data_type_of_the_birth_is_that_of_the_data() -> None:
    (one,) = decoded(payload(metric(alias=1, value=number(10, 2**32 - 5)))).metrics
    assert value_of(one, 3) == (-5, "")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\x0b", "wire type 3"),
        (b"\x12\x05ab", "ends in the middle of a field"),
        (b"\x12", "ends in the middle of a number"),
        (b"\x18" + b"\xff" * 11, "a number is too long"),
        (b"\x0d\x00", "ends in the middle of a field"),
        (text(2, b"\x0b"), "wire type 3"),
        (text(2, b"") * 5_001, "more than 5000 metrics"),
        (bytes(sparkplug_payload.MAX_PAYLOAD_BYTES + 1), "more than 512 KiB"),
        # Each costs time, and no payload has so many.
        (number(1, 1) * 5_065, "more than 5064 fields in one place"),
        (text(2, number(1, 1) * 33), "more than 32 fields in one place"),
        (text(2, text(9, number(1, 1) * 65)), "more than 64 fields in one place"),
    ],
)
def test_what_is_no_payload_is_refused_in_words(data: bytes, says: str) -> None:
    with pytest.raises(PayloadError, match=says):
        decoded(data)


def test_fields_that_nobody_reads_are_passed_over() -> None:
    """A timestamp, a uuid, a body, metadata, and a field of a later version."""
    extra = number(1, 5) + text(4, b"uuid") + text(5, b"body") + varint(99 << 3 | 1) + bytes(8)
    (one,) = decoded(extra + payload(metric(name="m", value=TRUE) + text(8, b"\x0b"), seq=3)).metrics
    assert value_of(one, 11) == (True, "")


@given(st.binary(max_size=300))
def test_any_bytes_end_as_a_payload_or_in_words(data: bytes) -> None:
    for one in (data, text(2, data), text(2, TRUE + text(9, data))):
        try:
            found = decoded(one)
        except PayloadError:
            continue
        for each in found.metrics:
            value, why = value_of(each, 8)
            assert (value is None) is (why != "")


# --- one after another --------------------------------------------------------------------------------------

NODE_BIRTH = metric(name="Uptime", alias=9, datatype=8, value=number(11, 1))
JAM = metric(name="Jam", alias=1, datatype=11, value=FALSE)
OTHER = metric(name="Speed", alias=2, datatype=10, value=b"")


class Story:
    """A node and its device, told message by message."""

    def __init__(self) -> None:
        self.node = EdgeNode({"belt"})

    def say(
        self,
        kind: Kind,
        *metrics: bytes,
        seq: int | None = None,
        of: str | None = "belt",
        about: str | None = "belt",
    ) -> Heard | None:
        device = None if kind.is_of_node else of
        said = self.node.take(kind, device, payload(*metrics, seq=seq))
        return (
            None
            if said is None
            else self.node.heard(kind, said, of=device, device=about, wanted={"Jam", "Gone"})
        )

    def born(self, *, bd: int = 7) -> None:
        self.say(Kind.NBIRTH, bd_seq(bd), NODE_BIRTH, seq=0)
        self.say(Kind.DBIRTH, JAM, OTHER, seq=1)


def heard(one: Heard | None) -> Heard:
    assert one is not None
    return one


def test_a_birth_names_what_data_say_by_alias() -> None:
    life = Story()
    life.say(Kind.NBIRTH, bd_seq(7), NODE_BIRTH, seq=0)
    born = heard(life.say(Kind.DBIRTH, JAM, OTHER, seq=1))
    assert (born.metrics, born.bad) == ({"Jam": False}, {"Gone": "not in the birth"})
    data = heard(life.say(Kind.DDATA, metric(alias=1, value=TRUE), seq=2))
    assert (data.metrics, data.bad, data.birth, data.lost) == ({"Jam": True}, {}, Birth.SEEN, 0)


def test_an_alias_before_its_birth_was_seen_is_unknown_and_a_name_is_not() -> None:
    life = Story()
    by_alias = heard(life.say(Kind.DDATA, metric(alias=1, value=TRUE), seq=40))
    assert (by_alias.metrics, by_alias.birth, by_alias.node) == ({}, Birth.MISSING, Life.ONLINE)
    assert by_alias.bad == {"Jam": "its birth was not seen", "Gone": "its birth was not seen"}
    by_name = heard(life.say(Kind.DDATA, metric(name="Jam", value=TRUE), seq=41))
    assert (by_name.metrics, by_name.bad) == ({"Jam": True}, {"Gone": "its birth was not seen"})
    # What was said by name stays as it was until it is said again.
    assert heard(life.say(Kind.DDATA, metric(alias=5, value=TRUE), seq=42)).bad.keys() == {"Gone"}


def test_an_alias_that_the_birth_does_not_have_is_told_and_the_others_are_still_read() -> None:
    life = Story()
    life.born()
    data = heard(life.say(Kind.DDATA, metric(alias=77, value=TRUE), metric(alias=1, value=TRUE), seq=2))
    assert (data.birth, data.metrics, data.bad) == (Birth.OUTDATED, {"Jam": True}, {})
    assert heard(life.say(Kind.DBIRTH, JAM, seq=3)).birth is Birth.SEEN


@pytest.mark.parametrize("kind", [Kind.NDEATH, Kind.DDEATH])
def test_after_a_death_every_metric_is_stale_and_an_alias_means_nothing(kind: Kind) -> None:
    life = Story()
    life.born()
    dead = heard(life.say(kind, bd_seq(7), seq=2 if kind is Kind.DDEATH else None))
    who = "node" if kind is Kind.NDEATH else "device"
    assert dead.bad == dict.fromkeys(("Jam", "Gone"), f"stale: the {who} is offline")
    assert (dead.device, dead.node is Life.ONLINE) == (Life.OFFLINE, kind is Kind.DDEATH)
    again = heard(life.say(Kind.DDATA, metric(alias=1, value=TRUE), seq=3))
    assert (again.birth, again.metrics) == (Birth.MISSING, {})


def test_a_new_birth_of_the_node_makes_its_devices_unborn() -> None:
    life = Story()
    life.born()
    born = heard(life.say(Kind.NBIRTH, bd_seq(8), NODE_BIRTH, seq=0))
    assert (born.node, born.device) == (Life.ONLINE, Life.UNBORN)
    assert born.bad == dict.fromkeys(("Jam", "Gone"), "stale: the device is not born yet")


# 8: of a session whose birth did not reach us.
@pytest.mark.parametrize(
    ("bd", "is_dead"), [(7, True), (6, False), (8, True), (None, True), (134, True), (135, False)]
)
def test_a_will_counts_for_the_session_that_it_was_made_for(bd: int | None, is_dead: bool) -> None:
    life = Story()
    life.born(bd=7)
    said = life.say(Kind.NDEATH, *([] if bd is None else [bd_seq(bd)]))
    assert (said is not None) is is_dead
    data = heard(life.say(Kind.DDATA, metric(alias=1, value=TRUE), seq=2))
    assert data.metrics == ({} if is_dead else {"Jam": True})


def test_a_will_that_comes_before_any_birth_counts() -> None:
    assert heard(Story().say(Kind.NDEATH, bd_seq(3))).node is Life.OFFLINE


def test_the_counts_of_births_and_deaths_go_round() -> None:
    life = Story()
    life.born(bd=255)
    life.born(bd=0)
    assert life.say(Kind.NDEATH, bd_seq(255)) is None
    assert heard(life.say(Kind.NDEATH, bd_seq(0))).node is Life.OFFLINE


def test_a_node_whose_birth_was_lost_is_dead_when_it_dies_also_when_the_counts_go_round() -> None:
    life = Story()
    life.born(bd=255)
    # The birth of 0 does not reach us.
    life.say(Kind.DDATA, metric(alias=1, value=TRUE), seq=1)
    assert heard(life.say(Kind.NDEATH, bd_seq(0))).node is Life.OFFLINE


@pytest.mark.parametrize(
    "birth",
    [b"\x0b", payload(*[metric(name="Tag")] * 5_001, bd_seq(8), seq=0), bytes((512 << 10) + 1)],
    ids=["no payload", "too many metrics", "too long"],
)
def test_a_birth_that_cannot_be_read_ends_the_session_before_it(birth: bytes) -> None:
    life = Story()
    life.born(bd=7)
    with pytest.raises(PayloadError):
        life.node.take(Kind.NBIRTH, None, birth)
    data = heard(life.say(Kind.DDATA, metric(alias=1, value=TRUE), seq=2))
    assert (data.node, data.metrics, data.birth, data.lost) == (Life.ONLINE, {}, Birth.MISSING, 0)
    assert heard(life.say(Kind.NDEATH, bd_seq(8))).node is Life.OFFLINE


@pytest.mark.parametrize(
    ("numbers", "lost"),
    [
        ([2, 3, 4], 0),
        ([3], 1),
        ([5, 6, 9], 5),
        ([*range(2, 256), 0, 1, 2], 0),
        ([*range(2, 256), 1], 1),
        ([*range(2, 250), 3], 9),
        ([None, 2], 0),
    ],
)
def test_what_is_missing_between_two_numbers_was_lost(numbers: list[int | None], lost: int) -> None:
    life = Story()
    life.born()
    said = [heard(life.say(Kind.DDATA, metric(alias=1, value=TRUE), seq=seq)) for seq in numbers]
    assert said[-1].lost == lost
    life.born(bd=8)
    assert heard(life.say(Kind.DDATA, seq=2)).lost == 0


def test_the_numbers_go_on_over_all_devices_of_the_node_watched_or_not() -> None:
    life = Story()
    life.born()
    life.say(Kind.DBIRTH, JAM, seq=2, of="other")
    life.say(Kind.NDATA, metric(alias=9, value=number(11, 2)), seq=3)
    assert heard(life.say(Kind.DDATA, metric(alias=1, value=TRUE), seq=4)).lost == 0


def test_what_we_missed_while_our_own_connection_was_away_is_not_held_against_the_node() -> None:
    life = Story()
    life.born()
    life.node.missed_some()
    data = heard(life.say(Kind.DDATA, metric(alias=1, value=TRUE), seq=200))
    assert (data.lost, data.metrics) == (0, {"Jam": True})


def test_old_values_are_not_taken_for_new_ones() -> None:
    """is_historical: stored while the node was away."""
    life = Story()
    life.born()
    old = metric(alias=1, value=TRUE) + number(5, 1)
    assert heard(life.say(Kind.DDATA, old, seq=2)).metrics == {}


def test_another_devices_metric_of_the_same_name_is_not_ours() -> None:
    life = Story()
    life.born()
    life.say(Kind.DBIRTH, JAM, seq=2, of="other")
    data = heard(life.say(Kind.DDATA, metric(name="Jam", datatype=11, value=TRUE), seq=3, of="other"))
    assert (data.is_about, data.metrics, data.bad) == (False, {}, {})


@given(st.lists(st.tuples(st.sampled_from(Kind), st.binary(max_size=60), st.integers(0, 300)), max_size=12))
def test_any_order_of_messages_ends_as_something_that_is_known_or_not(
    said: list[tuple[Kind, bytes, int]],
) -> None:
    node = EdgeNode({"belt"})
    for kind, data, seq in said:
        device = None if kind.is_of_node else "belt"
        try:
            found = node.take(kind, device, text(2, data) + number(3, seq))
        except PayloadError:
            continue
        if found is not None:
            one = node.heard(kind, found, of=device, device="belt", wanted={"Jam"})
            assert not one.metrics.keys() & one.bad.keys()
