"""What a replay came to as text for people: a table, a timeline, differences; and as JSON for scripts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from edge_agent.replay import Replayed
from edge_agent.trace import Header, t_s
from edge_agent.what_if import Difference, Shown, What, shown

NARROWEST_BAR = 20
ACTIVE, PENDING, QUIET = "█", "░", "·"
COLUMNS = ("first bad", "raised", "cleared", "lasted", "severity", "condition", "title")


def head(name: str, header: Header, replayed: Replayed) -> list[str]:
    """Of which trace, how long, how much, and what is to be known before it is believed."""
    began = datetime.fromtimestamp(header.wall_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    began = "at an unknown time (the clock was never set)" if header.source == "none" else f"from {began}"
    devices = "1 device" if len(header.device) == 1 else f"{len(header.device)} devices"
    lines = [
        f"{name}: {began}, {duration(t_s(replayed.end))}, {replayed.readings} readings of "
        f"{devices}, recorded by edge-agent {header.agent}"
    ]
    if replayed.cut_off:
        lines.append("The trace is cut off: what came after its last whole line is not there.")
    if replayed.missing:
        lines.append(f"{replayed.missing} readings are missing: whoever recorded them was too slow.")
    if replayed.changed:
        lines.append(
            f"In {replayed.changed} readings the redaction of a profile hides what a condition looks at: "
            "there the agent may have decided otherwise."
        )
    if replayed.strange:
        lines.append(f"{replayed.strange} readings are of a read that these profiles do not have.")
    return lines


def table(occurrences: Iterable[Shown], end_s: float) -> list[str]:
    """A line for each, aligned; times are since the start of the trace."""
    rows = [COLUMNS, *(_row(one, end_s) for one in occurrences)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def timeline(occurrences: Sequence[Shown], end_s: float, width: int) -> list[str]:
    """A line for each condition that was raised: since its first bad sample, and while it was active."""
    names = list(dict.fromkeys(one.words for one in occurrences))
    label = max(map(len, names), default=0)
    bar = max(NARROWEST_BAR, width - label - 2)
    lines = [
        f"{name:<{label}}  {_bar([o for o in occurrences if o.words == name], end_s, bar)}" for name in names
    ]
    if names:
        axis = f"{offset(0)}{offset(end_s):>{bar - len(offset(0))}}"
        lines.append(f"{'':<{label}}  {axis}")
        lines.append(f"{'':<{label}}  {ACTIVE} raised  {PENDING} bad already  {QUIET} not raised")
    return lines


def difference_lines(found: Iterable[Difference]) -> list[str]:
    return [_difference(one) for one in found]


def document(name: str, header: Header, replayed: Replayed) -> dict[str, Any]:
    """For scripts; see docs/traces.md."""
    return {
        "trace": name,
        "recorded_by": header.agent,
        "began_ms": header.wall_ms,
        "missing": replayed.missing,
        "changed_by_redaction": replayed.changed,
        "strange": replayed.strange,
        "cut_off": replayed.cut_off,
        **expected(replayed),
    }


def expected(replayed: Replayed) -> dict[str, Any]:
    """What a trace has to come to each time; times in seconds since its start."""
    return {
        "seconds": t_s(replayed.end),
        "readings": replayed.readings,
        "occurrences": [_entry(one) for one in shown(replayed.rows)],
        "never_known": list(replayed.unsettled),
    }


def difference_entries(found: Iterable[Difference]) -> list[dict[str, Any]]:
    return [
        {
            "what": str(one.what),
            "by_s": round(one.by_s, 6),
            "before": None if one.before is None else _entry(one.before),
            "after": None if one.after is None else _entry(one.after),
        }
        for one in found
    ]


def read_back(entries: Iterable[Mapping[str, Any]]) -> tuple[Shown, ...]:
    """``occurrences`` of an expectation. Raises TypeError or KeyError where they are none."""
    return tuple(Shown(**{"title": "", **entry}) for entry in entries)


def offset(seconds: float) -> str:
    """1:02:03.4 since the start."""
    minutes, tenths = divmod(int(round(seconds * 10, 6)), 600)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{tenths / 10:04.1f}"


def duration(seconds: float) -> str:
    """As a person would say it: 1.2 s, 12 min, 3.5 h."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7_200 else f"{seconds / 3600:.3g} h"


def _row(one: Shown, end_s: float) -> tuple[str, ...]:
    return (
        offset(one.first_bad_s),
        offset(one.raised_s),
        "open" if one.cleared_s is None else offset(one.cleared_s),
        duration((end_s if one.cleared_s is None else one.cleared_s) - one.first_bad_s),
        one.severity,
        one.words,
        f"{one.title}, because of {one.because}" if one.because else one.title,
    )


def _entry(one: Shown) -> dict[str, Any]:
    # A title is prose; to mend it changes nothing that a trace proves.
    said = asdict(one)
    del said["title"]
    if not one.because:
        del said["because"]
    return said


def _bar(occurrences: Iterable[Shown], end_s: float, width: int) -> str:
    cells = [QUIET] * width
    for one in occurrences:
        first, raised = _cell(one.first_bad_s, end_s, width), _cell(one.raised_s, end_s, width)
        last = _cell(end_s if one.cleared_s is None else one.cleared_s, end_s, width)
        cells[first:raised] = [PENDING] * (raised - first)
        # However short, it is seen.
        cells[raised : last + 1] = [ACTIVE] * (last + 1 - raised)
    return "".join(cells)


def _cell(at_s: float, end_s: float, width: int) -> int:
    return min(width - 1, int(at_s / end_s * width)) if end_s > 0 else 0


def _difference(one: Difference) -> str:
    return " ".join(_difference_words(one))


def _difference_words(one: Difference) -> Iterator[str]:
    occurrence = one.after or one.before
    assert occurrence is not None
    yield f"{one.what:<8} {offset(occurrence.raised_s)} {occurrence.words}"
    if one.what in (What.EARLIER, What.LATER, What.LONGER, What.SHORTER):
        yield f"by {duration(one.by_s)}"
    if one.what is What.SEVERITY and one.before and one.after:
        yield f"{one.before.severity} -> {one.after.severity}"
