"""What tells an answer from a late one, on a line and on a connection."""

import struct
from dataclasses import replace
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.bus import modbus_frames
from edge_agent.bus.modbus_frames import Mbap, Rtu
from edge_agent.poll import Block

LONG = Block(device="d", unit=5, function=3, address=0, count=4, every_s=1.0, timeout_s=1.0, parts=())
SHORT = replace(LONG, count=1)
OTHER = replace(LONG, unit=6)


def crc(frame: bytes) -> bytes:
    """Modbus over serial line 1.02, 6.2.2, bit by bit."""
    value = 0xFFFF
    for byte in frame:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
    return struct.pack("<H", value)


def rtu(block: Block, *, refused: int = 0) -> bytes:
    head = bytes([block.unit, block.function | (0x80 if refused else 0)])
    frame = head + (bytes([refused]) if refused else bytes([block.answer_bytes]) + bytes(block.answer_bytes))
    return frame + crc(frame)


@given(
    noise=st.binary(max_size=40),
    blocks=st.lists(st.sampled_from([LONG, SHORT, OTHER]), min_size=1, max_size=3),
    size=st.integers(min_value=1, max_value=300),
)
def test_frames_are_found_behind_noise_and_behind_each_other_however_they_come(
    noise: bytes, blocks: list[Block], size: int
) -> None:
    said = noise + b"".join(rtu(block) for block in blocks)
    frames, found = Rtu(), []
    for start in range(0, len(said), size):
        found += frames.feed(said[start : start + size])
    wanted = [(block.unit, block.answer_bytes) for block in blocks]
    assert [(frame.unit, len(frame.pdu) - 2) for frame in found][-len(wanted) :] == wanted
    assert frames.unread == 0


def test_a_frame_with_a_flipped_bit_is_none() -> None:
    frame = bytearray(rtu(LONG))
    frame[4] ^= 1
    assert Rtu().feed(bytes(frame)) == []


@given(noise=st.binary(min_size=20, max_size=300) | st.sampled_from([b"\x03" * 300, b"\x03\x03\x00" * 100]))
def test_however_the_bytes_come_each_place_is_looked_at_once(noise: bytes) -> None:
    sums: list[bytes] = []
    with patch.object(modbus_frames, "_is_good", side_effect=lambda frame: sums.append(frame)):
        frames = Rtu()
        for byte in noise:
            assert frames.feed(bytes([byte])) == []
    assert len(sums) <= len(noise)


def test_the_late_answer_of_another_unit_is_told_by_its_unit() -> None:
    frames = Rtu()
    frames.owe(LONG, 0.0)
    frames.request(OTHER)
    late, mine = frames.feed(rtu(LONG) + rtu(OTHER))
    assert not frames.answers(late, OTHER)
    debt = frames.late(late)
    assert debt is not None
    assert debt.block is LONG
    assert frames.answers(mine, OTHER)
    assert frames.late(late) is None


def test_the_late_answer_of_the_same_unit_is_told_by_its_length() -> None:
    frames = Rtu()
    frames.owe(LONG, 0.0)
    frames.request(SHORT)
    late, mine = frames.feed(rtu(LONG) + rtu(SHORT))
    assert not frames.answers(late, SHORT)
    assert frames.answers(mine, SHORT)


def test_what_would_look_the_same_is_known_until_the_unit_answers_something_else() -> None:
    frames = Rtu()
    frames.owe(LONG, 10.0)
    elsewhere = replace(LONG, address=100)
    assert frames.owes_like(elsewhere)
    assert frames.wait_until_s(elsewhere) == 12.0
    for other in (SHORT, OTHER):
        assert not frames.owes_like(other)
        assert frames.wait_until_s(other) == 0.0
    frames.answered(SHORT, 11.0)
    assert not frames.owes_like(elsewhere)


def test_an_answer_to_one_of_two_questions_that_look_the_same_may_be_to_the_first() -> None:
    frames = Rtu()
    frames.owe(LONG, 0.0)
    frames.owe(SHORT, 1.0)
    # It was asked again, and something came: what was asked before the first is settled, the second is not.
    frames.answered(SHORT, 2.0)
    assert not frames.owes_like(LONG)
    assert frames.owes_like(SHORT)
    (late,) = frames.feed(rtu(SHORT))
    assert not frames.answers(late, LONG)
    assert frames.late(late) is not None
    assert not frames.owes_like(SHORT)


def test_what_came_late_settles_what_was_asked_before_and_not_what_was_asked_after() -> None:
    frames = Rtu()
    for block in (SHORT, LONG, SHORT):
        frames.owe(block, 0.0)
    (late,) = frames.feed(rtu(LONG))
    assert frames.late(late) is not None
    assert not frames.owes_like(LONG)
    assert frames.owes_like(SHORT)


def test_what_is_written_off_is_not_owed_any_more() -> None:
    frames = Rtu()
    frames.owe(LONG, 0.0)
    frames.owe(SHORT, 0.0)
    frames.write_off(LONG)
    assert not frames.owes_like(LONG)
    assert frames.owes_like(SHORT)


def test_a_refusal_by_a_unit_that_owes_an_answer_may_be_that_answer() -> None:
    frames = Rtu()
    assert frames.refused(LONG, 0.0)
    assert not frames.owes_like(LONG)
    frames.owe(LONG, 0.0)
    assert not frames.refused(SHORT, 1.0)
    assert frames.owes_like(SHORT)
    assert frames.refused(OTHER, 1.0)


def test_the_late_refusal_of_another_unit_is_dropped() -> None:
    frames = Rtu()
    frames.owe(LONG, 0.0)
    (late,) = frames.feed(rtu(LONG, refused=6))
    assert not frames.answers(late, OTHER)
    debt = frames.late(late)
    assert debt is not None
    assert debt.block is LONG


def mbap(transaction: int, block: Block) -> bytes:
    pdu = bytes([block.function, block.answer_bytes]) + bytes(block.answer_bytes)
    return struct.pack(">HHHB", transaction, 0, len(pdu) + 1, block.unit) + pdu


def test_on_tcp_the_transaction_tells_also_when_the_numbers_begin_again() -> None:
    frames = Mbap()
    sent = struct.unpack(">H", frames.request(LONG)[:2])[0]
    while sent != 0xFFFF:
        sent = struct.unpack(">H", frames.request(LONG)[:2])[0]
    frames.owe(LONG, 0.0)
    following = struct.unpack(">H", frames.request(LONG)[:2])[0]
    late, mine = frames.feed(mbap(sent, LONG) + mbap(following, LONG))
    assert not frames.answers(late, LONG)
    assert frames.late(late) is not None
    assert frames.answers(mine, LONG)


def test_a_gateway_that_still_waits_for_one_unit_keeps_the_next_one_waiting() -> None:
    frames = Mbap()
    frames.request(LONG)
    frames.owe(LONG, 10.0)
    assert frames.busy_until_s(OTHER) == 11.0
    assert frames.busy_until_s(SHORT) == 0.0
    assert Rtu().busy_until_s(OTHER) == 0.0


def test_what_is_long_past_is_forgotten() -> None:
    frames = Mbap()
    for n in range(1000):
        frames.request(LONG)
        frames.owe(LONG, float(n))
    assert len(frames._owed) <= 4


def test_of_a_unit_that_never_answers_only_so_much_is_remembered() -> None:
    frames = Rtu()
    for n in range(1000):
        frames.owe(LONG, float(n))
    assert len(frames._owed[LONG.unit]) == 16


@given(st.data())
def test_whatever_a_unit_that_answers_in_order_leaves_out_no_answer_is_taken_for_another(
    data: st.DataObject,
) -> None:
    """The agent's rule against a unit with a queue of its own: each block has two places, a probe has one."""
    frames = Rtu()
    blocks, probe = (LONG, replace(LONG, address=100)), SHORT
    queue: list[Block] = []
    for now in range(30):
        wanted = data.draw(st.sampled_from(blocks))
        asked = probe if frames.owes_like(wanted) else wanted
        frames.request(asked)
        queue.append(asked)
        answered = False
        for _ in range(data.draw(st.integers(min_value=0, max_value=len(queue)))):
            said = queue.pop(0)
            if data.draw(st.integers(min_value=0, max_value=9)) == 0:
                continue  # lost
            (frame,) = frames.feed(rtu(said))
            if answered or not frames.answers(frame, asked):
                frames.late(frame)
                continue
            assert len(frame.pdu) - 2 == asked.answer_bytes
            # A probe has no values, so it may be that of an earlier one.
            assert said is asked
            frames.answered(asked, float(now))
            answered = True
        if not answered:
            frames.owe(asked, float(now))
