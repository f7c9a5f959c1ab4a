"""The JSON of the people's API: what is promised to clients, with examples. Fields are added, never
renamed."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from collector.moments import rfc3339, rfc3339_or_none
from collector.out_of_service import Outcome
from collector.report import Interval, Item, Report
from collector.store import out_of_service
from collector.store.devices import DeviceView
from collector.store.gateways import GatewayView
from collector.store.tickets import EntryView, OccurrenceView, Page, TicketDetail, TicketView
from collector.tickets import Actor

Severity = Literal["notice", "degraded", "stop"]
# Refused before it is read: PostgreSQL keeps none in text.
NUL_FREE = {"pattern": "^[^\\x00]*$"}
# What may be left out; in a query or a header there is no null.
Absent = SkipJsonSchema[None]

TICKET: dict[str, Any] = {
    "id": "5f0c1b6a9d2e4f7781c3a5b7d9e1f204",
    "number": 412,
    "site": "leipzig",
    "device": "printer-07",
    "place": "outbound/line-2/pack-4",
    "component": "media",
    "fault": "paper-out",
    "title": "Labels are used up",
    "severity": "stop",
    "condition": "active",
    "ack": "unacked",
    "hidden": [],
    "comes_and_goes": False,
    "work": "new",
    "version": 1767600015000,
    "occurred_at": "2026-11-22T05:12:01.250Z",
    "received_at": "2026-11-22T05:12:02.010Z",
}


FULL_TICKET: dict[str, Any] = TICKET | {
    "word": "Unacknowledged",
    "advice": "Put in a new roll, close the cover, press Feed once.",
    "detected_late_ms": 760,
    "error_ms": 12,
    "ended_at": None,
    "acked_by": None,
    "acked_at": None,
    "assignee": None,
    "resolved_by": None,
    "resolved_at": None,
    "closed_at": None,
    "returns": 0,
    "count": 1,
    "recurs_of": None,
    "merged_into": None,
    "explained_by": None,
    "explains": [],
    "gateways": ["gw-dock-1"],
    "occurrences": [
        {
            "uid": TICKET["id"],
            "gateway": "gw-dock-1",
            "open": True,
            "unknown": False,
            "estimated": False,
            "reason": "",
            "severity": "stop",
            "count": 1,
            "started_at": TICKET["occurred_at"],
            "raised_at": "2026-11-22T05:12:01.750Z",
            "ended_at": None,
            "error_ms": 12,
            "received_at": TICKET["received_at"],
            "pauses": [],
            "evidence": {"samples": [{"signal": "paper_out", "value": True, "quality": "good", "age_ms": 0}]},
            "recorded": {
                "before": {
                    "from_ms": -60000,
                    "to_ms": 0,
                    "signals": [{"signal": "paper_out", "points": [[-60000, False], [-1750, True]]}],
                    "readings": [{"read": "status", "at_ms": -1750, "frames": ["030,1,0,1245"]}],
                },
                "after": None,
            },
        }
    ],
    "history": [
        {
            "at": TICKET["received_at"],
            "reason": "opened",
            "sentence": "The fault began.",
            "actor": "",
            "text": "",
        }
    ],
}


OUT_OF_SERVICE: dict[str, Any] = {
    "since": "2026-11-22T05:00:00.000Z",
    "until": "2026-11-22T07:00:00.000Z",
    "reason": "New print head",
    "by": "alice",
}


class Shape(BaseModel):
    model_config = ConfigDict(populate_by_name=True)


def examples() -> dict[str, list[Any]]:
    """By the name of the shape, complete: FastAPI leaves nulls out of those that it publishes."""
    found: dict[str, list[Any]] = {}
    waiting = [Shape]
    while waiting:
        shape = waiting.pop()
        waiting += shape.__subclasses__()
        extra = shape.model_config.get("json_schema_extra")
        if isinstance(extra, dict) and isinstance(given := extra.get("examples"), list):
            found[shape.__name__] = given
    return found


class Ticket(Shape):
    """One ticket in a list. ``id`` is for programs, ``number`` (unique in its site) for people.
    ``comes_and_goes``: its fault chatters, it is open all the time.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [TICKET]})

    id: str
    number: int
    site: str
    device: str
    place: str
    component: str
    fault: str
    title: str
    severity: str
    condition: str
    ack: str
    hidden: list[str]
    comes_and_goes: bool
    work: str
    version: int
    occurred_at: str
    received_at: str

    @classmethod
    def of(cls, view: TicketView) -> Ticket:
        return cls(**_ticket(view))


class Tickets(Shape):
    """``next`` is the ``after`` of the next page; null at the end."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"items": [TICKET], "next": None}]})

    items: list[Ticket]
    next: str | None

    @classmethod
    def of(cls, page: Page) -> Tickets:
        return cls(items=[Ticket.of(view) for view in page.items], next=page.next)


class Pause(Shape):
    """The fault was not there; ``to`` is null while it is not there now."""

    from_: str = Field(alias="from")
    to: str | None


class Occurrence(Shape):
    """One episode of the fault, as one gateway saw it, but for its ``pauses``. ``evidence`` is what the
    equipment said when it was raised; ``recorded`` what was recorded ``before`` and ``after`` that, by part
    (null: given up), of the newest twenty of a ticket.
    """

    uid: str
    gateway: str
    open: bool
    unknown: bool
    estimated: bool
    reason: str
    severity: str
    count: int
    started_at: str
    raised_at: str
    ended_at: str | None
    error_ms: int
    received_at: str
    pauses: list[Pause]
    evidence: dict[str, Any] | None
    recorded: dict[str, dict[str, Any] | None]

    @classmethod
    def of(cls, view: OccurrenceView) -> Occurrence:
        return cls(
            uid=view.uid,
            gateway=view.gateway,
            open=view.open,
            unknown=view.unknown,
            estimated=view.estimated,
            reason=view.reason,
            severity=view.severity,
            count=view.count,
            started_at=rfc3339(view.start_ms),
            raised_at=rfc3339(view.raised_ms),
            ended_at=rfc3339_or_none(view.end_ms),
            error_ms=view.error_ms,
            received_at=rfc3339(view.received_ms),
            pauses=[
                Pause.model_validate({"from": rfc3339(gone_ms), "to": rfc3339_or_none(back_ms)})
                for gone_ms, back_ms in view.pauses
            ],
            evidence=None if view.evidence is None else dict(view.evidence),
            recorded={
                one.part: None if one.evidence is None else dict(one.evidence) for one in view.recorded
            },
        )


class Entry(Shape):
    """One line of the history; ``actor`` is empty when nobody did it."""

    at: str
    reason: str
    sentence: str
    actor: str
    text: str

    @classmethod
    def of(cls, view: EntryView) -> Entry:
        return cls(
            at=rfc3339(view.at_ms),
            reason=view.reason,
            sentence=view.sentence,
            actor=view.actor,
            text=view.text,
        )


class Explained(Shape):
    """A ticket that another one explains; ``hidden`` as long as that goes on."""

    id: str
    number: int
    device: str
    title: str
    condition: str
    work: str

    @classmethod
    def of(cls, view: TicketView) -> Explained:
        return cls(
            id=view.id,
            number=view.number,
            device=view.device,
            title=view.title,
            condition=view.condition.value,
            work=view.work.value,
        )


class FullTicket(Ticket):
    """A ticket with all that is known of it. ``word`` is what screens show; ``explained_by`` is the ticket of
    what explains it, ``explains`` are those that it explains."""

    model_config = ConfigDict(json_schema_extra={"examples": [FULL_TICKET]})

    word: str
    advice: str
    detected_late_ms: int
    error_ms: int
    ended_at: str | None
    acked_by: str | None
    acked_at: str | None
    assignee: str | None
    resolved_by: str | None
    resolved_at: str | None
    closed_at: str | None
    returns: int
    count: int
    recurs_of: str | None
    merged_into: str | None
    explained_by: Explained | None
    explains: list[Explained]
    gateways: list[str]
    occurrences: list[Occurrence]
    history: list[Entry]

    @classmethod
    def of_detail(cls, found: TicketDetail) -> FullTicket:
        view = found.ticket
        return cls(
            **_ticket(view),
            word=view.word,
            advice=view.advice,
            detected_late_ms=view.detection_delay_ms,
            error_ms=view.error_ms,
            ended_at=rfc3339_or_none(view.ended_ms),
            acked_by=view.acked_by,
            acked_at=rfc3339_or_none(view.acked_ms),
            assignee=view.assignee,
            resolved_by=view.resolved_by,
            resolved_at=rfc3339_or_none(view.resolved_ms),
            closed_at=rfc3339_or_none(view.closed_ms),
            returns=view.returns,
            count=view.count,
            recurs_of=view.recurs_of,
            merged_into=view.merged_into,
            explained_by=None if found.cause is None else Explained.of(found.cause),
            explains=[Explained.of(one) for one in found.explains],
            gateways=list(found.gateways),
            occurrences=[Occurrence.of(occurrence) for occurrence in found.occurrences],
            history=[Entry.of(entry) for entry in found.history],
        )


class Commanded(Shape):
    """``result`` is ``applied``, or ``merged`` when the ticket had moved on and the command was kept
    nevertheless."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "result": "applied",
                    "reason": "acknowledged",
                    "sentence": "Acknowledged.",
                    "ticket": TICKET | {"ack": "acked", "version": 1767600016000},
                }
            ]
        }
    )

    result: str
    reason: str
    sentence: str
    ticket: Ticket


class Device(Shape):
    """``state``: ok, notice, degraded, stop, or unknown when no gateway that watches it speaks or it is
    unreachable."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "site": "leipzig",
                    "id": "printer-07",
                    "place": "outbound/line-2/pack-4",
                    "profile": "zebra-zpl",
                    "gateways": ["gw-dock-1"],
                    "state": "stop",
                    "open_tickets": 1,
                    "out_of_service": None,
                    "known_since": "2026-10-01T08:00:00.000Z",
                }
            ]
        }
    )

    site: str
    id: str
    place: str
    profile: str
    gateways: list[str]
    state: str
    open_tickets: int
    out_of_service: OutOfService | None
    known_since: str

    @classmethod
    def of(cls, view: DeviceView) -> Device:
        return cls(
            site=view.site,
            id=view.id,
            place=view.place,
            profile=view.profile,
            gateways=list(view.gateways),
            state=view.state,
            open_tickets=view.open_tickets,
            out_of_service=None if view.out is None else OutOfService.of(view.out),
            known_since=rfc3339(view.first_ms),
        )


class OutOfService(Shape):
    """``until`` is when it comes back by itself; null: when somebody says so."""

    since: str
    until: str | None
    reason: str
    by: str

    @classmethod
    def of(cls, out: out_of_service.OutOfService) -> OutOfService:
        return cls(
            since=rfc3339(out.from_ms),
            until=rfc3339_or_none(out.until_ms),
            reason=out.reason,
            by=out.by,
        )


class Serviced(Shape):
    """What became of an order to take a device out of service or to bring it back."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "result": "applied",
                    "reason": "out_of_service",
                    "sentence": "The device was taken out of service. Nobody is called.",
                    "out_of_service": OUT_OF_SERVICE,
                }
            ]
        }
    )

    result: str
    reason: str
    sentence: str
    out_of_service: OutOfService | None

    @classmethod
    def of(cls, outcome: Outcome) -> Serviced:
        return cls(
            result="applied",
            reason=outcome.reason.value,
            sentence=outcome.reason.sentence,
            out_of_service=None if outcome.out is None else OutOfService.of(outcome.out),
        )


class Devices(Shape):
    items: list[Device]


class Gateway(Shape):
    """``state``: never (not heard of yet), ok, silent or revoked. ``last_contact_at`` is exact to about
    5 s."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "site": "leipzig",
                    "name": "gw-dock-1",
                    "state": "ok",
                    "created_at": "2026-10-01T08:00:00.000Z",
                    "last_contact_at": "2026-11-22T05:12:00.000Z",
                    "silent_since": None,
                    "devices": 12,
                    "quarantined": 0,
                    "gaps": 0,
                    "lost": 0,
                    "health": {"agent_version": "0.1.0", "uptime_s": 86400},
                }
            ]
        }
    )

    site: str
    name: str
    state: str
    created_at: str
    last_contact_at: str | None
    silent_since: str | None
    devices: int
    quarantined: int
    gaps: int
    lost: int
    health: dict[str, Any] | None

    @classmethod
    def of(cls, view: GatewayView) -> Gateway:
        return cls(
            site=view.site,
            name=view.name,
            state=view.state,
            created_at=rfc3339(view.created_ms),
            last_contact_at=rfc3339_or_none(view.last_contact_ms),
            silent_since=rfc3339_or_none(view.silent_ms),
            devices=view.devices,
            quarantined=view.quarantined,
            gaps=view.gaps,
            lost=view.lost,
            health=None if view.health is None else dict(view.health),
        )


class Gateways(Shape):
    items: list[Gateway]


class DownInterval(Shape):
    """``kind`` is down, unknown or planned (out of service); ``open``: it goes on now, ``to`` is now or the
    end of the window.
    """

    from_: str = Field(alias="from")
    to: str
    kind: str
    open: bool
    ticket: str | None
    device: str

    @classmethod
    def of(cls, interval: Interval) -> DownInterval:
        return cls(
            from_=rfc3339(interval.from_ms),
            to=rfc3339(interval.to_ms),
            kind=interval.kind,
            open=interval.open,
            ticket=interval.ticket,
            device=interval.device,
        )


class DownItem(Shape):
    """``observed_ms + unknown_ms = window_ms``; ``down_ms`` and ``planned_ms`` (out of service) are parts of
    ``observed_ms``.
    """

    key: str
    place: str
    down_ms: int
    unknown_ms: int
    planned_ms: int
    observed_ms: int
    window_ms: int
    stops: int
    open: bool
    intervals: list[DownInterval]

    @classmethod
    def of(cls, item: Item) -> DownItem:
        return cls(
            key=item.key,
            place=item.place,
            down_ms=item.down_ms,
            unknown_ms=item.unknown_ms,
            planned_ms=item.planned_ms,
            observed_ms=item.observed_ms,
            window_ms=item.window_ms,
            stops=item.stops,
            open=item.open,
            intervals=[DownInterval.of(interval) for interval in item.intervals],
        )


class Downtime(Shape):
    """``to`` is never after now. The total is a sum over the items' sums."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "from": "2026-11-22T05:00:00.000Z",
                    "to": "2026-11-22T13:00:00.000Z",
                    "timezone": "UTC",
                    "as_of": "2026-11-22T13:00:04.000Z",
                    "items": [
                        {
                            "key": "printer-07",
                            "place": "outbound/line-2/pack-4",
                            "down_ms": 754_000,
                            "unknown_ms": 0,
                            "planned_ms": 0,
                            "observed_ms": 28_800_000,
                            "window_ms": 28_800_000,
                            "stops": 1,
                            "open": False,
                            "intervals": [
                                {
                                    "from": "2026-11-22T05:12:01.250Z",
                                    "to": "2026-11-22T05:24:35.250Z",
                                    "kind": "down",
                                    "open": False,
                                    "ticket": TICKET["id"],
                                    "device": "printer-07",
                                }
                            ],
                        }
                    ],
                    "total": {
                        "key": "",
                        "place": "",
                        "down_ms": 754_000,
                        "unknown_ms": 0,
                        "planned_ms": 0,
                        "observed_ms": 28_800_000,
                        "window_ms": 28_800_000,
                        "stops": 1,
                        "open": False,
                        "intervals": [],
                    },
                }
            ]
        }
    )

    from_: str = Field(alias="from")
    to: str
    timezone: str
    as_of: str
    items: list[DownItem]
    total: DownItem

    @classmethod
    def of(cls, report: Report) -> Downtime:
        return cls(
            from_=rfc3339(report.from_ms),
            to=rfc3339(report.to_ms),
            timezone=report.timezone,
            as_of=rfc3339(report.as_of_ms),
            items=[DownItem.of(item) for item in report.items],
            total=DownItem.of(report.total),
        )


class Me(Shape):
    """Who the credential stands for; ``sites`` with ``*`` is all."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "alice", "role": "lead", "sites": ["leipzig"]}]}
    )

    name: str
    role: str
    sites: list[str]

    @classmethod
    def of(cls, actor: Actor) -> Me:
        return cls(name=actor.name, role=actor.role, sites=sorted(actor.sites))


class Refusal(Shape):
    """RFC 9457 problem document. ``reason`` is a stable word for programs, ``detail`` a sentence for
    people."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": "about:blank",
                    "title": "Conflict",
                    "status": 409,
                    "detail": "The ticket has changed since you looked.",
                    "reason": "changed",
                }
            ]
        },
    )

    type: str
    title: str
    status: int
    detail: str
    reason: str = ""


# For `responses=`.
PROBLEM: dict[str, Any] = {"model": Refusal, "content": {"application/problem+json": {}}}


def _ticket(view: TicketView) -> dict[str, Any]:
    return {
        "id": view.id,
        "number": view.number,
        "site": view.site,
        "device": view.device,
        "place": view.place,
        "component": view.component,
        "fault": view.fault,
        "title": view.title,
        "severity": view.severity,
        "condition": view.condition.value,
        "ack": view.ack.value,
        "hidden": list(view.hidden),
        "comes_and_goes": view.comes_and_goes,
        "work": view.work.value,
        "version": view.version,
        "occurred_at": rfc3339(view.occurred_ms),
        "received_at": rfc3339(view.received_ms),
    }
