"""Decides how long a device was down, and for how long nobody knows.

Downtime is the measure of the union of a device's ``stop`` intervals in a window. Time in which people had it
out of service is *planned*, whatever it told or did not tell then. Time in which no gateway observed the
device is *unknown*, kept apart and never counted as down; the rest of the window is observed, planned time
included, so that observed and unknown together are the window to the millisecond. Figures of several devices
are sums over sums.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """From ``from_ms`` up to, not including, ``to_ms``."""

    from_ms: int
    to_ms: int
    # What explains it; a union keeps that of its earliest part.
    cause: str | None = None
    # It goes on at the end of what is known.
    open: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One device, or one fault of one device, in one window."""

    window_ms: int
    unknown_ms: int
    down_ms: int
    planned_ms: int
    # Stops that touch the window.
    stops: int
    open: bool
    down: tuple[Span, ...]
    unknown: tuple[Span, ...]
    planned: tuple[Span, ...]

    @property
    def observed_ms(self) -> int:
        return self.window_ms - self.unknown_ms


def union(spans: Iterable[Span]) -> list[Span]:
    """Sorted, without overlaps, touching ones joined; empty ones vanish."""
    joined: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.from_ms, span.to_ms, span.cause or "")):
        if span.to_ms <= span.from_ms:
            continue
        if joined and span.from_ms <= joined[-1].to_ms:
            last = joined[-1]
            reach_ms = max(last.to_ms, span.to_ms)
            goes_on = (last.open and last.to_ms == reach_ms) or (span.open and span.to_ms == reach_ms)
            joined[-1] = Span(from_ms=last.from_ms, to_ms=reach_ms, cause=last.cause, open=goes_on)
        else:
            joined.append(span)
    return joined


def clip(spans: Iterable[Span], from_ms: int, to_ms: int) -> list[Span]:
    """What lies in the window; a span that goes on goes on only if it reaches the window's end."""
    return [
        Span(
            from_ms=max(span.from_ms, from_ms),
            to_ms=min(span.to_ms, to_ms),
            cause=span.cause,
            open=span.open and span.to_ms >= to_ms,
        )
        for span in spans
        if span.from_ms < to_ms and span.to_ms > from_ms
    ]


def without(spans: Sequence[Span], holes: Sequence[Span]) -> list[Span]:
    """``spans`` minus ``holes``; both are unions."""
    left: list[Span] = []
    for span in spans:
        from_ms = span.from_ms
        for hole in _overlapping(holes, span):
            if hole.from_ms > from_ms:
                left.append(Span(from_ms=from_ms, to_ms=hole.from_ms, cause=span.cause))
            from_ms = hole.to_ms
        if from_ms < span.to_ms:
            left.append(Span(from_ms=from_ms, to_ms=span.to_ms, cause=span.cause, open=span.open))
    return left


def common(unions: Sequence[Sequence[Span]]) -> list[Span]:
    """What lies in all of them: a device is unknown only while every gateway that watches it is blind."""
    if not unions:
        return []
    found = list(unions[0])
    for other in unions[1:]:
        found = [
            Span(
                from_ms=max(one.from_ms, two.from_ms),
                to_ms=min(one.to_ms, two.to_ms),
                cause=one.cause or two.cause,
                open=one.open and two.open,
            )
            for one in found
            for two in _overlapping(other, one)
        ]
    return found


def _overlapping(spans: Sequence[Span], one: Span) -> Sequence[Span]:
    """Those of a union that have a part in common with ``one``: found, for there may be many thousands."""
    first = bisect_right(spans, one.from_ms, key=attrgetter("to_ms"))
    return spans[first : bisect_left(spans, one.to_ms, first, key=attrgetter("from_ms"))]


def account(
    stops: Iterable[Span], unknown: Iterable[Span], from_ms: int, to_ms: int, planned: Iterable[Span] = ()
) -> Account:
    """Stops, unknown and planned time may come in any order and overlap as they like."""
    out = union(clip(planned, from_ms, to_ms))
    blind = without(union(clip(unknown, from_ms, to_ms)), out)
    stopped = union(clip(stops, from_ms, to_ms))
    down = without(without(stopped, out), blind)
    return Account(
        window_ms=to_ms - from_ms,
        unknown_ms=length(blind),
        down_ms=length(down),
        planned_ms=length(out),
        # One stop that is cut in two by unknown time is one stop; one that is all unknown is none.
        stops=sum(bool(_overlapping(down, whole)) for whole in stopped),
        open=any(span.open for span in down),
        down=tuple(down),
        unknown=tuple(blind),
        planned=tuple(out),
    )


def length(spans: Iterable[Span]) -> int:
    return sum(span.to_ms - span.from_ms for span in spans)


def stop_spans(
    severities: Sequence[Sequence[int]], end_ms: int, stop: int, *, cause: str | None, goes_on: bool
) -> list[Span]:
    """The parts of one occurrence in which its severity was at least ``stop``. ``severities``: (from,
    severity), in order.
    """
    found = []
    for place, (at_ms, severity) in enumerate(severities):
        last = place + 1 == len(severities)
        until_ms = end_ms if last else min(severities[place + 1][0], end_ms)
        if severity >= stop and until_ms > at_ms:
            found.append(Span(from_ms=at_ms, to_ms=until_ms, cause=cause, open=goes_on and last))
    return found
