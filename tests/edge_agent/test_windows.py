from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge_agent import windows
from edge_agent.windows import Counter, Gaps, Newest, Recent, Standing

S = 1_000_000_000
SPAN = 10 * S

# (seconds since the one before, value); None is a sample of bad quality.
Samples = list[tuple[int, float | None]]


def test_the_newest_samples_are_counted_and_the_oldest_forgotten() -> None:
    window = Newest(True, 3)
    hits = []
    for hit in (True, True, False, False, False, True):
        window.put(hit, 0)
        hits.append(window.hits)
    assert hits == [1, 2, 2, 1, 0, 1]
    assert window.count(0) == 3


# --- the last while
# ----------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 6), st.sampled_from([True, False, 1, "x"])), max_size=40))
@settings(max_examples=300, deadline=None)
def test_samples_of_the_last_while_are_those_that_are_younger(samples: list[tuple[int, object]]) -> None:
    window, seen, now = Recent(True, SPAN, 0), [], 0
    for after, value in samples:
        now += after * S
        window.put(value, now)  # type: ignore[arg-type]  # of any kind
        seen.append((now, value is True))
        young = [hit for at, hit in seen if now - at < SPAN]
        assert (window.count(now), window.hits) == (len(young), sum(young))
    # Time alone: at each moment that it tells, and only then, one is gone.
    while seen and (due := window.due_ns(now)) is not None:
        before = window.count(due - 1)
        now = due
        seen = [(at, hit) for at, hit in seen if now - at < SPAN]
        assert (window.count(now), window.hits) == (len(seen), sum(hit for _, hit in seen))
        assert before > len(seen) or due == SPAN


def test_of_a_flood_only_the_newest_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "MAX_RECENT", 3)
    window = Recent(True, SPAN, 0)
    for hit in (True, True, False, False):
        window.put(hit, 0)
    assert (window.count(0), window.hits) == (3, 1)


# --- counters
# ----------------------------------------------------------------------------------------------------


def counted_by_hand(samples: Samples, modulus: float | None) -> float | None:
    """Per second, over the shortest stretch of SPAN or more up to the newest good sample, all over again."""
    at, points, last = 0, [], None
    for after, value in samples:
        at += after
        if value is not None:
            points.append((at, value, last))
        last = value
    until = points[-1][0]
    enough = [n for n, (ns, *_) in enumerate(points) if ns <= until - SPAN // S]
    if not enough or last is None:
        return None
    counted, known = 0.0, 0
    for (before, *_), (after, value, previous) in itertools.pairwise(points[enough[-1] :]):
        if previous is None:
            continue
        step = value - previous
        if step < 0 and modulus is not None and step + modulus <= modulus / 8:
            step += modulus
        if step >= 0:
            counted, known = counted + step, known + after - before
    return counted / known if 2 * known >= SPAN // S else None


def counted(samples: Samples, modulus: float | None) -> float | None:
    counter, now = Counter(SPAN, modulus), 0
    for after, value in samples:
        now += after * S
        if value is None:
            counter.missed()
        else:
            counter.put(value, now)
    if samples[-1][1] is None:
        return None
    found = counter.counted_per_ns(now, 0)
    return None if found is None else found * S


SAMPLES = st.lists(
    st.tuples(st.integers(1, 4), st.one_of(st.none(), st.integers(0, 255), st.integers(0, 255))),
    min_size=1,
    max_size=30,
).filter(lambda samples: any(value is not None for _, value in samples))


@given(SAMPLES, st.sampled_from([None, 256]))
@example([(1, 240), (4, 250), (4, 4), (4, 10)], 256)
@settings(max_examples=500, deadline=None)
def test_a_counter_is_worth_what_was_counted_by_hand(samples: Samples, modulus: float | None) -> None:
    found, expected = counted(samples, modulus), counted_by_hand(samples, modulus)
    assert (found is None) == (expected is None)
    assert found == pytest.approx(expected)
    assert found is None or found >= 0


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 20)), min_size=15, max_size=60),
    st.integers(0, 255),
)
@settings(max_examples=200, deadline=None)
def test_a_counter_that_turns_over_counts_as_one_that_does_not(
    steps: list[tuple[int, int]], begins_at: int
) -> None:
    totals = list(itertools.accumulate((step for _, step in steps), initial=begins_at))[1:]
    afters = [after for after, _ in steps]
    turning = [(after, total % 256) for after, total in zip(afters, totals, strict=True)]
    straight = list(zip(afters, totals, strict=True))
    assert counted(turning, 256) == counted(straight, None)


def test_a_counter_that_was_reset_says_nothing_about_that_step_alone() -> None:
    # 2/s, reset between the 6th and the 7th second, 2/s again.
    before = [(1, float(2 * n)) for n in range(7)]
    after = [(1, float(2 * n)) for n in range(6)]
    assert counted(before + after, None) == 2
    # Not near its end: no turn.
    assert counted(before + after, 65_536) == 2


def test_a_counter_that_is_hardly_known_is_unknown() -> None:
    resets: Samples = [(1, float(n % 2)) for n in range(20)]
    assert counted(resets, None) == 1
    mostly: Samples = [(1, float(n % 2)) if n % 5 < 2 else (1, None) for n in range(21)]
    assert counted(mostly, None) is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "12", None])
def test_what_is_no_number_is_a_step_that_nobody_knows(value: object) -> None:
    counter = Counter(SPAN, None)
    for second in range(12):
        counter.put(second * 3, second * S)
    counter.put(value, 12 * S)  # type: ignore[arg-type]  # as a device may say
    for second in range(13, 20):
        counter.put(10**9 + second * 3, second * S)
    assert counter.counted_per_ns(19 * S, 0) == pytest.approx(3 / S)


def test_a_counter_keeps_no_more_points_than_it_needs() -> None:
    counter = Counter(3_600 * S, None)
    for tenth in range(40_000):
        counter.put(tenth, tenth * S // 10)
    assert len(counter._points) <= windows.POINTS + 2
    assert counter.counted_per_ns(39_999 * S // 10, 0) == pytest.approx(10 / S)


def test_a_counter_that_nobody_reads_any_more_is_unknown_when_its_window_is_over() -> None:
    counter = Counter(SPAN, None)
    for second in range(12):
        counter.put(second, second * S)
    assert counter.due_ns(11 * S) == 21 * S
    assert counter.counted_per_ns(21 * S - 1, 0) == pytest.approx(1 / S)
    assert counter.counted_per_ns(21 * S, 0) is None


# --- silences
# ----------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 1_000), min_size=1, max_size=1_300), st.integers(0, 1_299))
@settings(max_examples=100, deadline=None)
def test_the_usual_silence_is_as_long_as_ninety_nine_of_a_hundred_at_most(
    gaps: list[int], broken_at: int
) -> None:
    learned, now, counted = Gaps(), 0, []
    learned.heard(now, 0)
    since = 0
    for number, gap in enumerate(gaps):
        now += gap
        if number == broken_at:
            # The link was away in that gap.
            since = now - gap // 2
        else:
            counted.append(gap)
        learned.heard(now, since)
        learned.heard(now, since)
    newest = sorted(counted[-windows.GAPS :])
    if len(newest) < windows.LEARNED_FROM:
        assert learned.usual_ns() is None
    else:
        usual = learned.usual_ns()
        assert usual in newest
        longer = sum(gap > usual for gap in newest)  # type: ignore[operator]  # it is known
        as_long = sum(gap >= usual for gap in newest)  # type: ignore[operator]
        assert longer * 100 <= len(newest) < (as_long * 100) + 1


# --- what stands
# -------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(1, 4), st.sampled_from([0, 0, 0.4, 0.9, 3, True, "x"])), min_size=1),
    st.sampled_from([0, 0.5]),
)
@settings(max_examples=300, deadline=None)
def test_a_value_stands_since_it_was_last_elsewhere(
    samples: list[tuple[int, object]], deadband: float
) -> None:
    standing, now = Standing(SPAN, deadband), 0
    where: object = None
    since = moved = None
    for after, value in samples:
        now += after * S
        standing.put(value, now)  # type: ignore[arg-type]  # of any kind
        numbers = all(type(one) in (int, float) for one in (value, where))
        near = abs(value - where) <= deadband if numbers else value is where  # type: ignore[operator]
        if since is None or not near:
            moved, since, where = since is not None, now, value
        assert (standing.since_ns, standing.moved) == (since, moved)


def test_what_is_not_read_for_so_long_does_not_stand() -> None:
    standing = Standing(SPAN, 0)
    standing.put(5, 0)
    standing.put(6, S)
    assert (standing.since_ns, standing.moved) == (S, True)
    standing.put(6, 11 * S)
    assert (standing.since_ns, standing.moved) == (11 * S, False)
