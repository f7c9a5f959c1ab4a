"""What a list shows of a ticket, and in which order: who is needed first comes first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from collector.pages.texts import counted, ordinal, severity
from collector.store.tickets import TicketView
from collector.tickets import WORK, Ack, Condition, Trigger, Work

# Of those that have just ended; the desk list has them all.
ENDED_SHOWN = 8
# A date that may be off by more is shown with how far.
ROUGH_MS = 60_000
SEVERITY_ORDER = {"stop": 0, "degraded": 1, "notice": 2}


class Group(StrEnum):
    """The sections of the handheld list, in this order; the value is the heading."""

    NEEDED = "Needs somebody"
    UNKNOWN = "Nobody knows: the gateway is silent or the device is not reached"
    TAKEN = "Somebody has it"
    CONFIRM = "Ended, to be confirmed"
    OVERRIDDEN = "Resolved, still reported"
    ENDED = "Just ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One ticket as a list shows it. ``shape`` is the name of its picture, ``side`` the word below that."""

    view: TicketView
    shape: str
    side: str
    group: Group

    @property
    def word(self) -> str:
        return self.view.word

    @property
    def taken(self) -> bool:
        return self.group is not Group.NEEDED

    @property
    def loud(self) -> bool:
        return self.group is Group.NEEDED and self.view.severity == "stop"

    @property
    def can_acknowledge(self) -> bool:
        return self.view.ack is Ack.UNACKED and self.view.work not in (Work.RESOLVED, Work.CLOSED)

    @property
    def can_start(self) -> bool:
        # Somebody who is at it has begun.
        return (self.view.work, Trigger.START) in WORK and self.view.work is not Work.IN_PROGRESS

    @property
    def can_resolve(self) -> bool:
        return self.view.condition is Condition.CLEARED and self.view.work not in (Work.RESOLVED, Work.CLOSED)

    @property
    def can_override(self) -> bool:
        return self.view.condition is not Condition.CLEARED and self.view.work not in (
            Work.RESOLVED,
            Work.CLOSED,
        )

    @property
    def can_reopen(self) -> bool:
        return self.view.work is Work.RESOLVED

    @property
    def held_by(self) -> str:
        """Who has it, in words; empty when nobody."""
        view = self.view
        if view.work in (Work.RESOLVED, Work.CLOSED):
            return ""
        if view.assignee and view.work is Work.IN_PROGRESS:
            return f"{view.assignee} is at it"
        if view.assignee:
            return f"{view.assignee} has it"
        return f"{view.acked_by} has seen it" if view.ack is Ack.ACKED and view.acked_by else ""

    @property
    def course(self) -> str:
        """That it comes and goes or came back, in words; empty when it is there all the time, or over."""
        if self.view.comes_and_goes:
            return f"comes and goes, {counted(self.view.count, 'time')} so far"
        if self.view.returns and self.view.condition is not Condition.CLEARED:
            return f"came back, {ordinal(self.view.returns + 1)} time"
        return ""

    @property
    def since_ms(self) -> int:
        """From when it is as it is: over, back, or there."""
        if self.shape == "cleared" and self.view.ended_ms:
            return self.view.ended_ms
        return self.view.period_ms if self.view.returns else self.view.occurred_ms

    @property
    def late(self) -> bool:
        """Known here so much later than it began that people should know."""
        return self.view.detection_delay_ms >= 60_000

    @property
    def rough(self) -> bool:
        """Its dates are estimates, so far off that people should know."""
        return self.view.error_ms > ROUGH_MS


def card(view: TicketView) -> Card:
    if view.condition is Condition.CLEARED and not view.not_fixed:
        shape, side = "cleared", "Ended"
    elif view.out is not None:
        shape, side = "out", "Out of service"
    elif view.condition is Condition.UNKNOWN or view.hidden:
        shape, side = "unknown", "Unknown"
    else:
        shape, side = view.severity, severity(view.severity)
    return Card(view=view, shape=shape, side=side, group=_group(view))


def explained(views: Iterable[TicketView]) -> list[Card]:
    """What a fault explains, one card for each device and fault: what goes on first."""
    newest: dict[tuple[str, str, str], Card] = {}
    for view in views:
        newest.setdefault((view.device, view.component, view.fault), card(view))
    return sorted(newest.values(), key=lambda one: one.view.condition is Condition.CLEARED)


def cards(views: Iterable[TicketView]) -> list[Card]:
    return [card(view) for view in views]


def grouped(views: Iterable[TicketView]) -> list[tuple[Group, Sequence[Card]]]:
    """Only groups that have a card; inside, stops first and then what has waited longest; ended: newest
    first."""
    found: dict[Group, list[Card]] = {group: [] for group in Group}
    for one in cards(views):
        found[one.group].append(one)
    for group, members in found.items():
        if group is Group.ENDED:
            members.sort(key=lambda one: -(one.view.ended_ms or one.view.received_ms))
        else:
            members.sort(key=lambda one: (SEVERITY_ORDER.get(one.view.severity, 3), one.since_ms))
    return [(group, members) for group, members in found.items() if members]


def shapes(numbers: Mapping[tuple[Condition, str], int]) -> Counter[str]:
    """How many there are of each: by condition and severity, nothing of it hidden."""
    found: Counter[str] = Counter()
    for (condition, band), number in numbers.items():
        found["unknown" if condition is Condition.UNKNOWN else band] += number
    return found


def counts(numbers: Counter[str]) -> list[tuple[str, str, int]]:
    """(shape, word, number) of what is active or unknown now."""
    words = (("stop", "stopped"), ("degraded", "degraded"), ("notice", "to notice"), ("unknown", "unknown"))
    return [(shape, word, numbers[shape]) for shape, word in words if numbers[shape]]


def _group(view: TicketView) -> Group:
    is_over = view.condition is Condition.CLEARED
    if view.work in (Work.RESOLVED, Work.CLOSED):
        return Group.ENDED if is_over else Group.OVERRIDDEN
    if is_over and not view.not_fixed:
        return Group.CONFIRM
    if view.condition is Condition.UNKNOWN:
        return Group.UNKNOWN
    return Group.NEEDED if view.ack is Ack.UNACKED else Group.TAKEN
