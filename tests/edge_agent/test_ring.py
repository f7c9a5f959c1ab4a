from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.ring import Ring


def said(ring: Ring) -> list[tuple[int, bytes, int, int, int]]:
    return [(one.key, one.body, one.times, one.first_ms, one.last_ms) for one in ring.entries()]


def test_what_is_said_again_only_lengthens_what_is_there() -> None:
    ring = Ring(1000)
    assert ring.put(1, 0, b"ready", 100)
    bytes_of_one = len(ring)
    for at_ms in (200, 300):
        assert not ring.put(1, 0, b"ready", at_ms)
    assert len(ring) == bytes_of_one
    assert said(ring) == [(1, b"ready", 3, 100, 300)]


def test_another_body_another_kind_and_another_voice_are_told_apart() -> None:
    ring = Ring(1000)
    ring.put(1, 0, b"ready", 100)
    ring.put(2, 0, b"ready", 110)
    ring.put(1, 5, b"ready", 120)
    ring.put(1, 5, b"read", 130)
    ring.put(2, 0, b"ready", 140)
    assert said(ring) == [
        (1, b"ready", 1, 100, 100),
        (2, b"ready", 2, 110, 140),
        (1, b"ready", 1, 120, 120),
        (1, b"read", 1, 130, 130),
    ]


def test_each_scan_is_an_entry_of_its_own_though_it_says_the_same() -> None:
    ring = Ring(1000)
    ring.put(1, 0, b"4711", 100, again=False)
    ring.put(1, 0, b"4711", 900, again=False)
    assert said(ring) == [(1, b"4711", 1, 100, 100), (1, b"4711", 1, 900, 900)]


def test_what_gave_way_is_told_anew_when_it_is_said_again() -> None:
    ring = Ring(120)
    ring.put(1, 0, b"steady", 0)
    for at_ms in range(1, 6):
        ring.put(2, 0, f"moving {at_ms}".encode(), at_ms)
    assert 1 not in {one.key for one in ring.entries()}
    assert ring.put(1, 0, b"steady", 10)
    assert said(ring)[-1] == (1, b"steady", 1, 10, 10)


@given(
    st.integers(80, 400),
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 2), st.binary(max_size=16), st.booleans()), max_size=200
    ),
)
def test_it_holds_the_newest_of_what_was_said_as_it_was_said_and_never_more_than_its_limit(
    limit: int, told: list[tuple[int, int, bytes, bool]]
) -> None:
    ring = Ring(limit)
    for at_ms, (key, kind, body, again) in enumerate(told):
        ring.put(key, kind, body, at_ms, again=again)
        assert len(ring) <= limit
        found = list(ring.entries())
        assert (key, kind, body, at_ms) in {(one.key, one.kind, one.body, one.last_ms) for one in found}
        for one in found:
            times = [ms for ms in range(one.first_ms, one.last_ms + 1) if told[ms][0] == one.key]
            assert [told[ms][:3] for ms in times] == [(one.key, one.kind, one.body)] * one.times
