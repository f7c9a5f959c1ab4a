"""Downtime of a site in a window: what the store says, folded by ``downtime``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from sqlalchemy import Connection

from collector.downtime import Account, Span, account, clip, common, stop_spans, union
from collector.minted import RETURNED
from collector.store import downtimes
from collector.store.downtimes import Told, Watch
from edge_agent.wire import AGENT_COMPONENT, NOT_RUNNING, SILENT, UNREACHABLE, Severity


class By(StrEnum):
    DEVICE = "device"
    FAULT = "fault"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    from_ms: int
    to_ms: int
    # down or unknown.
    kind: str
    # It goes on now; `to_ms` is now or the end of the window.
    open: bool
    # Ids of a ticket that explains it.
    ticket: str | None
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """observed_ms + unknown_ms = window_ms; down_ms is a part of observed_ms."""

    # The device's id or the fault's name; empty in the total.
    key: str
    place: str
    down_ms: int
    unknown_ms: int
    observed_ms: int
    window_ms: int
    stops: int
    # Down at the end of the window, still counting.
    open: bool
    intervals: tuple[Interval, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    site: str
    by: By
    from_ms: int
    # Not after now.
    to_ms: int
    timezone: str
    as_of_ms: int
    items: tuple[Item, ...]
    total: Item


def downtime(connection: Connection, site: str, from_ms: int, to_ms: int, by: By, now_ms: int) -> Report:
    """Raises ValueError when the window is empty or begins after now."""
    to_ms = min(to_ms, now_ms)
    if from_ms >= to_ms:
        raise ValueError("the window is empty, or begins after now")
    told = downtimes.touching(connection, site, from_ms, to_ms)
    caught_up = downtimes.caught_up(connection, site)
    first = downtimes.first_told(connection, site)
    watches: dict[str, list[Watch]] = {}
    for watch in downtimes.watches(connection, site):
        watches.setdefault(watch.device, []).append(watch)

    stops = _stops(told, now_ms)
    blind = _blind(told, caught_up, now_ms)
    for gateway_id, gap_from_ms, gap_to_ms in downtimes.gaps(connection, site, from_ms, to_ms):
        span = Span(from_ms=gap_from_ms, to_ms=min(gap_to_ms, now_ms))
        blind.setdefault((gateway_id, ""), []).append(span)
    items: dict[str, list[_Line]] = {}
    total: list[_Line] = []
    for device, own in watches.items():
        unknown = _unknown(own, blind, first, from_ms, to_ms)
        faults = stops.get(device, {})
        everything = [span for spans in faults.values() for span in spans]
        line = _Line(device=device, place=own[0].place, sums=account(everything, unknown, from_ms, to_ms))
        total.append(line)
        if by is By.DEVICE:
            items[device] = [line]
            continue
        for fault, spans in faults.items():
            sums = account(spans, unknown, from_ms, to_ms)
            items.setdefault(fault, []).append(replace(line, sums=sums))
    listed = [_item(key, lines) for key, lines in items.items()]
    return Report(
        site=site,
        by=by,
        from_ms=from_ms,
        to_ms=to_ms,
        timezone="UTC",
        as_of_ms=now_ms,
        items=tuple(sorted(listed, key=lambda item: (-item.down_ms, item.place, item.key))),
        total=replace(_item("", total), intervals=(), place=""),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    device: str
    place: str
    sums: Account


def _stops(told: Sequence[Told], now_ms: int) -> dict[str, dict[str, list[Span]]]:
    """device -> fault -> the times in which it stopped the device."""
    found: dict[str, dict[str, list[Span]]] = {}
    for one in told:
        if one.component == AGENT_COMPONENT or one.fault == UNREACHABLE:
            continue
        spans = stop_spans(
            one.severities,
            now_ms if one.end_ms is None else one.end_ms,
            Severity.STOP,
            cause=one.ticket_id,
            goes_on=one.end_ms is None,
        )
        if spans:
            found.setdefault(one.device, {}).setdefault(one.fault, []).extend(spans)
    return found


def _blind(
    told: Sequence[Told], caught_up: Mapping[str, int], now_ms: int
) -> dict[tuple[str, str], list[Span]]:
    """(gateway, device) -> when it saw nothing of it; the device is empty for all of its devices.

    A gateway that comes back on the same journal has observed all through its silence, and has told what it
    saw once it has caught up. What it did not see it says itself (not-running, unreachable).
    """
    found: dict[tuple[str, str], list[Span]] = {}
    for one in told:
        if one.fault == SILENT and one.minted:
            seen = one.end_ms is not None and one.reason == RETURNED
            if seen and caught_up.get(one.gateway_id, 0) >= (one.end_ms or 0):
                continue
            device = ""
        elif one.component == AGENT_COMPONENT and one.fault == NOT_RUNNING:
            device = ""
        elif one.fault == UNREACHABLE:
            device = one.device
        else:
            continue
        end_ms = now_ms if one.end_ms is None else one.end_ms
        span = Span(from_ms=one.start_ms, to_ms=end_ms, cause=one.ticket_id, open=one.end_ms is None)
        found.setdefault((one.gateway_id, device), []).append(span)
    return found


def _unknown(
    own: Sequence[Watch],
    blind: Mapping[tuple[str, str], list[Span]],
    first: Mapping[tuple[str, str], int],
    from_ms: int,
    to_ms: int,
) -> list[Span]:
    """When no gateway observed this device."""
    each = []
    for watch in own:
        spans = [*blind.get((watch.gateway_id, ""), ()), *blind.get((watch.gateway_id, watch.device), ())]
        since_ms = min(watch.first_ms, first.get((watch.device, watch.gateway_id), watch.first_ms))
        spans.append(Span(from_ms=from_ms, to_ms=since_ms))
        if watch.gone_ms is not None:
            spans.append(Span(from_ms=watch.gone_ms, to_ms=to_ms, open=True))
        each.append(union(clip(spans, from_ms, to_ms)))
    return common(each)


def _item(key: str, lines: Sequence[_Line]) -> Item:
    """Sums over sums."""
    return Item(
        key=key,
        place=lines[0].place if len(lines) == 1 else "",
        down_ms=sum(line.sums.down_ms for line in lines),
        unknown_ms=sum(line.sums.unknown_ms for line in lines),
        observed_ms=sum(line.sums.observed_ms for line in lines),
        window_ms=sum(line.sums.window_ms for line in lines),
        stops=sum(line.sums.stops for line in lines),
        open=any(line.sums.open for line in lines),
        intervals=tuple(interval for line in lines for interval in _intervals(line)),
    )


def _intervals(line: _Line) -> list[Interval]:
    kinds = (("down", line.sums.down), ("unknown", line.sums.unknown))
    found = [
        Interval(
            from_ms=span.from_ms,
            to_ms=span.to_ms,
            kind=kind,
            open=span.open,
            ticket=span.cause,
            device=line.device,
        )
        for kind, spans in kinds
        for span in spans
    ]
    return sorted(found, key=lambda interval: (interval.from_ms, interval.kind))
