"""Downtime of a site in a window: what the store says, folded by ``downtime``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from sqlalchemy import Connection

from collector.dating import PAUSED
from collector.downtime import Account, Span, account, clip, common, stop_spans, union
from collector.minted import RETURNED, SILENT_MS
from collector.store import downtimes as stored
from collector.store import out_of_service
from collector.store.downtimes import Blind, Contact, Told, Watch
from edge_agent.wire import AGENT_COMPONENT, NOT_RUNNING, SILENT, UNREACHABLE, Severity

# The least severity of a fault that is there.
AT_ALL = PAUSED + 1


class By(StrEnum):
    DEVICE = "device"
    FAULT = "fault"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    from_ms: int
    to_ms: int
    # down, unknown or planned.
    kind: str
    # It goes on now; `to_ms` is now or the end of the window.
    open: bool
    # Ids of a ticket that explains it.
    ticket: str | None
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """observed_ms + unknown_ms = window_ms; down_ms and planned_ms are parts of observed_ms."""

    # The device's id or the fault's name; empty in the total.
    key: str
    place: str
    down_ms: int
    unknown_ms: int
    # In which it was out of service.
    planned_ms: int
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
    return downtimes(connection, site, from_ms, to_ms, now_ms)[by]


def downtimes(connection: Connection, site: str, from_ms: int, to_ms: int, now_ms: int) -> dict[By, Report]:
    """As ``downtime``, in every grouping, of what was read once."""
    to_ms = min(to_ms, now_ms)
    if from_ms >= to_ms:
        raise ValueError("the window is empty, or begins after now")
    told = stored.touching(connection, site, from_ms, to_ms)
    stops = _stops(told, now_ms)
    blind = _by_watch(
        [
            *_blind(told, stored.contacts(connection, site), now_ms),
            *_doubted(told, now_ms),
            *stored.gaps(connection, site, from_ms, to_ms),
            *stored.absences(connection, site, from_ms, to_ms),
        ]
    )
    named, first_told = stored.watches(connection, site), stored.first_told(connection, site)
    unnamed = stored.told(
        connection, site, first_told.keys() - {(one.device, one.gateway_id) for one in named}
    )
    watches = _watches([*named, *unnamed], first_told, Span(from_ms=from_ms, to_ms=to_ms))
    planned = out_of_service.spans(connection, site, from_ms, to_ms, now_ms)
    by_device: dict[str, list[_Line]] = {}
    by_fault: dict[str, list[_Line]] = {}
    for device, own in watches.items():
        unknown = _unknown(own, blind, from_ms, to_ms)
        faults = stops.get(device, {})
        spans = [span for found in faults.values() for span in found]
        out = planned.get(device, [])
        sums = account(spans, unknown, from_ms, to_ms, out)
        line = _Line(device=device, place=own[0].place, sums=sums)
        by_device[device] = [line]
        for fault, spans in faults.items():
            sums = account(spans, unknown, from_ms, to_ms, out)
            by_fault.setdefault(fault, []).append(replace(line, sums=sums))
    everything = Report(
        site=site,
        by=By.DEVICE,
        from_ms=from_ms,
        to_ms=to_ms,
        timezone="UTC",
        as_of_ms=now_ms,
        items=_items(by_device),
        total=replace(_item("", [line for (line,) in by_device.values()]), intervals=(), place=""),
    )
    return {By.DEVICE: everything, By.FAULT: replace(everything, by=By.FAULT, items=_items(by_fault))}


def _items(lines: Mapping[str, Sequence[_Line]]) -> tuple[Item, ...]:
    """The worst first."""
    found = [_item(key, own) for key, own in lines.items()]
    return tuple(sorted(found, key=lambda item: (-item.down_ms, item.place, item.key)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    device: str
    place: str
    sums: Account


def _watches(
    told: Sequence[Watch], first_told: Mapping[tuple[str, str], int], window: Span
) -> dict[str, list[Watch]]:
    """device -> who watches it. Who tells of a device watches it, also before its inventory comes, and if
    that never names it: such a device is listed for as long as it is told of.
    """
    found: dict[str, list[Watch]] = {}
    for one in told:
        since_ms = min(one.first_ms, first_told.get((one.device, one.gateway_id), one.first_ms))
        if since_ms >= window.to_ms or (one.left_ms is not None and one.left_ms <= window.from_ms):
            continue
        found.setdefault(one.device, []).append(replace(one, first_ms=since_ms))
    return found


def _stops(told: Sequence[Told], now_ms: int) -> dict[str, dict[str, list[Span]]]:
    """device -> fault -> the times in which it stopped the device."""
    found: dict[str, dict[str, list[Span]]] = {}
    for one in told:
        if one.component == AGENT_COMPONENT or one.fault == UNREACHABLE:
            continue
        known_ms = _known_until(one, now_ms)
        goes_on = one.end_ms is None and not one.unknown
        spans = stop_spans(one.severities, known_ms, Severity.STOP, cause=one.ticket_id, goes_on=goes_on)
        if spans:
            found.setdefault(one.device, {}).setdefault(one.fault, []).extend(spans)
    return found


def _known_until(one: Told, now_ms: int) -> int:
    """What is unknown has been so since its gateway fell silent, whether or not that is back."""
    if one.end_ms is not None:
        return one.end_ms
    if not one.unknown:
        return now_ms
    # A collector of an earlier version, beside this one for as long as an upgrade takes, says no moment.
    return one.start_ms if one.unknown_ms is None else one.unknown_ms


def _doubted(told: Sequence[Told], now_ms: int) -> Iterator[Blind]:
    """A stop that may go on or not: nobody knows whether its device stands."""
    for one in told:
        if one.end_ms is None and one.unknown and one.severities[-1][1] >= Severity.STOP:
            span = Span(from_ms=_known_until(one, now_ms), to_ms=now_ms, cause=one.ticket_id, open=True)
            yield Blind(gateway_id=one.gateway_id, device=one.device, span=span)


def _blind(told: Sequence[Told], contacts: Mapping[str, Contact], now_ms: int) -> Iterator[Blind]:
    """When gateways saw nothing, or have not told yet what they saw.

    A gateway that comes back on the same journal has observed all through its silence, and has told what it
    saw once it has caught up. What it did not see it says itself (not-running, unreachable).
    """
    for one in told:
        if one.fault == SILENT and one.minted:
            seen = one.end_ms is not None and one.reason == RETURNED
            if seen and contacts[one.gateway_id].caught_up_ms >= (one.end_ms or 0):
                continue
            device = ""
        elif one.component == AGENT_COMPONENT and one.fault == NOT_RUNNING:
            device = ""
        elif one.fault == UNREACHABLE:
            device = one.device
        else:
            continue
        end_ms, goes_on = (now_ms, True) if one.end_ms is None else (one.end_ms, False)
        for span in stop_spans(one.severities, end_ms, AT_ALL, cause=one.ticket_id, goes_on=goes_on):
            yield Blind(gateway_id=one.gateway_id, device=device, span=span)
    for gateway_id, contact in contacts.items():
        if contact.last_ms - contact.caught_up_ms > SILENT_MS:
            span = Span(from_ms=contact.caught_up_ms, to_ms=now_ms, open=True)
            yield Blind(gateway_id=gateway_id, device="", span=span)


def _by_watch(blind: Iterable[Blind]) -> dict[tuple[str, str], list[Span]]:
    found: dict[tuple[str, str], list[Span]] = {}
    for one in blind:
        found.setdefault((one.gateway_id, one.device), []).append(one.span)
    return found


def _unknown(
    own: Sequence[Watch], blind: Mapping[tuple[str, str], list[Span]], from_ms: int, to_ms: int
) -> list[Span]:
    """When no gateway observed this device."""
    each = []
    for watch in own:
        spans = [*blind.get((watch.gateway_id, ""), ()), *blind.get((watch.gateway_id, watch.device), ())]
        spans.append(Span(from_ms=from_ms, to_ms=watch.first_ms))
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
        planned_ms=sum(line.sums.planned_ms for line in lines),
        observed_ms=sum(line.sums.observed_ms for line in lines),
        window_ms=sum(line.sums.window_ms for line in lines),
        stops=sum(line.sums.stops for line in lines),
        open=any(line.sums.open for line in lines),
        intervals=tuple(interval for line in lines for interval in _intervals(line)),
    )


def _intervals(line: _Line) -> list[Interval]:
    kinds = (("down", line.sums.down), ("unknown", line.sums.unknown), ("planned", line.sums.planned))
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
