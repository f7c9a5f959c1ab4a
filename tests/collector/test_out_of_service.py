"""A device that people took out of service: recorded, hidden, planned; and what calls when it is back."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path

import httpx
import pytest
from rigs.edge_voice import MINUTE_MS, MONDAY_MS, EdgeVoice, enrol
from rigs.web import House, csrf_in, fields_in, house
from sqlalchemy import insert, select

from collector import command
from collector.moments import LAST_MS, rfc3339
from collector.out_of_service import BringBack, TakeOut, carry_out
from collector.report import By, Item, downtime
from collector.store import Store, devices, figures, tables
from collector.store import tickets as ticket_store
from collector.store.tickets import TicketFilter, TicketView
from collector.sweep import sweep
from collector.tickets import Ack, Acknowledge, Actor, Command, Reason, Resolve, Role, Start

ALICE = Actor(name="alice", role=Role.LEAD, sites=frozenset({"north"}))


def at(minute: float) -> int:
    return MONDAY_MS + int(minute * MINUTE_MS)


def takes_out(
    store: Store, minute: float, *, until: float | None = None, actor: Actor = ALICE, reason: str = "New head"
) -> Reason:
    order = TakeOut(reason=reason, until_ms=None if until is None else at(until))
    return store.write(lambda c: carry_out(c, actor, "north", "printer-1", order, at(minute))).reason


def brings_back(store: Store, minute: float, actor: Actor = ALICE) -> Reason:
    return store.write(lambda c: carry_out(c, actor, "north", "printer-1", BringBack(), at(minute))).reason


def in_hand(store: Store) -> list[str]:
    shown, _ = store.read(lambda c: ticket_store.at_hand(c, None, None, limit=99, ended=99))
    return [one.fault for one in shown]


def tickets(store: Store) -> dict[str, TicketView]:
    found = store.read(lambda c: ticket_store.find(c, TicketFilter(sites=None), None, 99)).items
    return {one.fault: one for one in found}


def told(store: Store, minute: float) -> Item:
    report = store.read(lambda c: downtime(c, "north", at(0), at(minute), By.DEVICE, at(minute)))
    (item,) = report.items
    return item


@pytest.fixture
def edge(store: Store) -> EdgeVoice:
    edge = EdgeVoice(enrol(store))
    edge.watches("printer-1")
    edge.sync(store, 0)
    return edge


def test_what_a_device_tells_while_it_is_out_is_recorded_and_calls_nobody(
    store: Store, edge: EdgeVoice
) -> None:
    before = edge.raises(1, fault="head-open")
    edge.sync(store, 1.1)
    assert takes_out(store, 2, until=60) is Reason.OUT_OF_SERVICE
    edge.raises(3)
    edge.sync(store, 3.1)
    assert in_hand(store) == []
    found = tickets(store)
    assert {one.hidden for one in found.values()} == {("out_of_service",)}
    assert {one.word for one in found.values()} == {"Out of service"}
    (view,) = store.read(lambda c: devices.devices(c, None))
    assert view.out is not None
    assert (view.out.reason, view.out.by, view.out.until_ms) == ("New head", "alice", at(60))
    assert (view.state, view.open_tickets) == ("stop", 0)
    assert not sum(store.read(figures.figures).open_tickets.values())
    edge.clears(before, 5)
    edge.sync(store, 5.1)
    assert brings_back(store, 10) is Reason.BACK_IN_SERVICE
    # What was mended is over, what is still broken calls.
    assert in_hand(store) == ["paper-out", "head-open"]
    assert tickets(store)["paper-out"].word == "Unacknowledged"
    detail = store.read(lambda c: ticket_store.detail(c, found["paper-out"].id))
    assert detail is not None
    assert [(entry.reason, entry.actor) for entry in detail.history] == [
        ("opened", ""),
        ("back_in_service", "alice"),
    ]


def test_the_time_is_planned_and_neither_down_nor_unknown(store: Store, edge: EdgeVoice) -> None:
    edge.raises(10)
    edge.sync(store, 10.1)
    takes_out(store, 20)
    # It is unplugged for a while, too.
    edge.clears(edge.raises(25, fault="unreachable", component="link", severity=20), 35)
    edge.sync(store, 35.1)
    brings_back(store, 40)
    for minute in range(36, 51):
        edge.sync(store, minute)
    item = told(store, 50)
    assert item.planned_ms == 20 * MINUTE_MS
    assert item.down_ms == 20 * MINUTE_MS
    assert item.unknown_ms == 0
    assert item.observed_ms == item.window_ms == 50 * MINUTE_MS
    assert (item.stops, item.open) == (1, True)
    assert [(one.kind, one.from_ms, one.to_ms) for one in item.intervals] == [
        ("down", at(10), at(20)),
        ("planned", at(20), at(40)),
        ("down", at(40), at(50)),
    ]


def test_its_end_brings_it_back_by_itself_and_dates_it(store: Store, edge: EdgeVoice) -> None:
    uid = edge.raises(1)
    edge.sync(store, 1.1)
    takes_out(store, 2, until=30)
    edge.sync(store, 29)
    store.write(lambda c: sweep(c, at(29)))
    assert in_hand(store) == []
    edge.sync(store, 30.9)
    # Nobody looked for a while.
    changed = store.write(lambda c: sweep(c, at(31)))
    assert uid in {change.ticket_id for change in changed}
    assert in_hand(store) == ["paper-out"]
    assert told(store, 31).planned_ms == 28 * MINUTE_MS


def test_who_extends_it_in_time_is_heard(store: Store, edge: EdgeVoice) -> None:
    edge.raises(1)
    edge.sync(store, 1.1)
    takes_out(store, 2, until=30)
    takes_out(store, 20, until=90, reason="Part is missing")
    edge.sync(store, 31)
    store.write(lambda c: sweep(c, at(31)))
    assert in_hand(store) == []
    (view,) = store.read(lambda c: devices.devices(c, None))
    assert view.out is not None
    assert (view.out.reason, view.out.from_ms, view.out.until_ms) == ("Part is missing", at(2), at(90))
    actions = store.read(lambda c: c.execute(select(tables.audit.c.action, tables.audit.c.detail)).all())
    assert [(action, detail["reason"]) for action, detail in actions] == [
        ("device.out_of_service", "New head"),
        ("device.out_of_service", "Part is missing"),
    ]


@pytest.mark.parametrize("until", [None, 60.0])
def test_what_is_still_broken_calls_again_when_it_is_back_whoever_had_acknowledged_it(
    store: Store, edge: EdgeVoice, until: float | None
) -> None:
    uids = {
        fault: edge.raises(1, fault=fault)
        for fault in ("paper-out", "head-open", "jam", "ribbon-out", "dirty")
    }
    edge.sync(store, 1.1)
    takes_out(store, 2, until=until)

    def bids(fault: str, wanted: Command, minute: float = 3) -> None:
        seen = tickets(store)[fault].version
        outcome = store.write(
            lambda c: command.carry_out(
                c, ALICE, uids[fault], wanted, idempotency_key=None, if_match=seen, now_ms=at(minute)
            )
        )
        assert outcome.result is command.Result.APPLIED

    for fault in ("paper-out", "dirty"):
        bids(fault, Acknowledge())
    bids("jam", Start())
    bids("ribbon-out", Resolve(override=True, note="It will be mended"))
    edge.clears(uids["dirty"], 40)
    edge.sync(store, 41)
    seen = tickets(store)
    edge.sync(store, 59.9)
    if until is None:
        brings_back(store, 60)
    else:
        store.write(lambda c: sweep(c, at(60)))
    now = tickets(store)
    assert {fault: (one.ack, one.word) for fault, one in now.items()} == {
        "paper-out": (Ack.UNACKED, "Unacknowledged"),
        "head-open": (Ack.UNACKED, "Unacknowledged"),
        # Somebody is at it.
        "jam": (Ack.ACKED, "In progress"),
        "ribbon-out": (Ack.UNACKED, "Unacknowledged"),
        "dirty": (Ack.ACKED, "Resolved"),
    }
    assert (now["ribbon-out"].resolved_ms, now["ribbon-out"].resolved_by) == (None, None)
    assert now["dirty"].version == seen["dirty"].version
    # What was on a screen before covers nothing of it.
    late = store.write(
        lambda c: command.carry_out(
            c,
            ALICE,
            uids["paper-out"],
            Acknowledge(),
            idempotency_key=None,
            if_match=seen["paper-out"].version,
            now_ms=at(61),
        )
    )
    assert late.reason is Reason.SEEN_LESS
    detail = store.read(lambda c: ticket_store.detail(c, uids["paper-out"]))
    assert detail is not None
    assert [entry.reason for entry in detail.history][-2:] == ["back_in_service", "acknowledged"]


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        (TakeOut(reason="  "), Reason.REASON_NEEDED),
        (TakeOut(reason="x", until_ms=at(2)), Reason.END_IS_PAST),
        (TakeOut(reason="x", until_ms=LAST_MS + 1), Reason.END_IS_PAST),
    ],
)
def test_an_order_without_a_reason_or_with_an_end_that_is_past_is_refused(
    store: Store, edge: EdgeVoice, order: TakeOut, reason: Reason
) -> None:
    outcome = store.write(lambda c: carry_out(c, ALICE, "north", "printer-1", order, at(2)))
    assert (outcome.applied, outcome.reason) == (False, reason)
    assert store.read(lambda c: devices.devices(c, None))[0].out is None


def test_a_device_that_is_not_there_or_elsewhere_is_not_found(store: Store, edge: EdgeVoice) -> None:
    stranger = Actor(name="carol", role=Role.LEAD, sites=frozenset({"south"}))
    assert takes_out(store, 2, actor=stranger) is Reason.NO_SUCH_DEVICE
    nothing = store.write(lambda c: carry_out(c, ALICE, "north", "nobody", TakeOut(reason="x"), at(2)))
    assert nothing.reason is Reason.NO_SUCH_DEVICE


def test_bringing_back_what_is_in_service_changes_nothing(store: Store, edge: EdgeVoice) -> None:
    assert brings_back(store, 2) is Reason.IN_SERVICE
    assert not store.read(lambda c: c.execute(select(tables.audit)).all())


# --- over HTTP ----------------------------------------------------------------------------------------------


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as made:
        made.add_cast()
        yield made


OUT, BACK = "/api/v1/devices/north/printer-1/out-of-service", "/api/v1/devices/north/printer-1/in-service"


@pytest.mark.parametrize(
    ("role", "status"),
    [
        (Role.LEAD, 200),
        (Role.INSTALLER, 200),
        (Role.TECHNICIAN, 403),
        (Role.ADMIN, 403),
        (Role.READ, 403),
    ],
)
async def test_only_a_lead_or_an_installer_takes_it_out(home: House, role: Role, status: int) -> None:
    await home.ticket()
    client = home.client(Authorization=f"Bearer {home.add_token(role=role)}")
    until = rfc3339(home.clock.now_ms() + 60 * MINUTE_MS)
    answer = await client.post(OUT, json={"reason": "New head", "until": until})
    assert answer.status_code == status, answer.text
    reader = home.client(Authorization=f"Bearer {home.add_token()}")
    (device,) = (await reader.get("/api/v1/devices")).json()["items"]
    visible = (await reader.get("/api/v1/tickets", params={"hidden": "false"})).json()["items"]
    if status != 200:
        assert device["out_of_service"] is None
        assert len(visible) == 1
        return
    assert device["out_of_service"]["until"] == until
    assert visible == []
    assert answer.json()["out_of_service"] == device["out_of_service"]
    assert (await client.post(BACK)).json()["reason"] == "back_in_service"
    assert len((await reader.get("/api/v1/tickets", params={"hidden": "false"})).json()["items"]) == 1


async def test_a_form_from_before_somebody_else_acted_changes_nothing_and_says_so(home: House) -> None:
    await home.ticket()
    alice, dave = await home.log_in("alice"), await home.log_in("dave")
    path = "/devices/north/printer-1"
    out, back = f"{path}/out-of-service", f"{path}/in-service"
    fresh = fields_in((await dave.get(path)).text, out)

    async def does(client: httpx.AsyncClient, action: str, **fields: str) -> None:
        form = fields_in((await client.get(path)).text, action)
        assert (await client.post(action, data=form | fields)).status_code == 303

    await does(alice, out, text="New head", hours="4")
    refused = await dave.post(out, data=fresh | {"text": "New belt", "hours": ""})
    assert refused.status_code == 409
    assert "since you looked" in refused.text
    assert "New head" in refused.text
    shown = (await dave.get(path)).text
    await does(alice, back)
    refused = await dave.post(out, data=fields_in(shown, out) | {"text": "New belt", "hours": "24"})
    assert refused.status_code == 409
    assert "Back in service" not in refused.text
    # It is as he wanted it.
    answer = await dave.post(back, data=fields_in(shown, back))
    assert answer.headers["location"] == f"{path}?said=in_service"
    await does(alice, out, text="New motor", hours="")
    assert (await dave.post(back, data=fields_in(shown, back))).status_code == 409
    (view,) = home.store.read(lambda c: devices.devices(c, None))
    assert view.out is not None
    assert (view.out.reason, view.out.by) == ("New motor", "alice")
    # Once more the same is the same.
    again = fields_in((await alice.get(path)).text, out)
    for _ in range(2):
        answer = await alice.post(out, data=again | {"text": "New motor, new belt", "hours": ""})
        assert answer.status_code == 303


async def test_what_was_typed_and_chosen_is_there_again_when_it_was_refused(home: House) -> None:
    await home.ticket()
    alice, dave = await home.log_in("alice"), await home.log_in("dave")
    path = "/devices/north/printer-1"
    out = f"{path}/out-of-service"
    seen = {
        name: fields_in((await one.get(path)).text, out) for name, one in (("alice", alice), ("dave", dave))
    }

    async def refused(fields: dict[str, str]) -> tuple[str, list[str]]:
        """What is typed and chosen then."""
        page = await dave.post(out, data=fields)
        assert page.status_code in (409, 422)
        typed = re.search(r"<textarea[^>]*>(.*?)</textarea>", page.text, re.DOTALL)
        assert typed is not None
        return unescape(typed[1]), re.findall(r'<option value="([^"]*)" selected', page.text)

    assert (await alice.post(out, data=seen["alice"] | {"text": "New head", "hours": "4"})).status_code == 303
    longer = "New belt & <b>\u200d"
    typed, chosen = await refused(seen["dave"] | {"text": longer, "hours": "24"})
    assert (typed, chosen[-1]) == (longer, "24")
    typed, chosen = await refused(seen["dave"] | {"text": longer, "hours": ""})
    assert (typed, chosen[-1]) == (longer, "")
    # The end that it had comes while he types.
    before = fields_in((await dave.get(path)).text, out)
    end_ms = home.clock.now_ms() + 4 * 60 * MINUTE_MS
    home.clock.forward(minutes=241)
    home.store.write(lambda c: sweep(c, home.clock.now_ms()))
    assert await refused(before | {"text": longer, "hours": str(end_ms)}) == (longer, [])


async def test_what_is_out_is_a_list_by_when_it_is_back(home: House) -> None:
    gateway = await home.enrol()
    gateway.voice.watches(*(f"belt-{number}" for number in range(6)))
    await home.sync(gateway)
    alice = await home.log_in("alice")
    for number, hours in ((0, ""), (1, "8"), (3, "1"), (4, "4")):
        action = f"/devices/north/belt-{number}/out-of-service"
        form = fields_in((await alice.get(f"/devices/north/belt-{number}")).text, action)
        assert (await alice.post(action, data=form | {"text": "x", "hours": hours})).status_code == 303
    home.clock.forward(minutes=20)

    async def listed(query: str) -> list[str]:
        page = (await alice.get(f"/devices{query}")).text
        assert 'href="/devices?state=out"' in page
        return re.findall(r'href="/devices/north/(belt-\d)"', page)

    assert await listed("") == [f"belt-{number}" for number in range(6)]
    assert await listed("?state=nonsense") == await listed("")
    assert await listed("?state=ok") == ["belt-2", "belt-5"]
    assert await listed("?state=stop") == []
    assert await listed("?state=out") == ["belt-3", "belt-4", "belt-1", "belt-0"]
    shown = (await alice.get("/devices?state=out")).text
    assert re.findall(r", (back in [^:<]+|until somebody[^<]+)", shown) == [
        "back in 40 min",
        "back in 3 h 40 min",
        "back in 7 h 40 min",
        "until somebody brings it back",
    ]


async def test_a_gateway_is_no_device_so_nobody_can_hide_that_it_is_silent(home: House) -> None:
    gateway = await home.enrol()
    gateway.voice.watches("printer-1")
    gateway.voice.raises(0, "gw1", component="bus-1", fault="down")
    await home.sync(gateway)
    home.clock.forward(minutes=5)
    home.store.write(lambda c: sweep(c, home.clock.now_ms()))
    dave = home.client(Authorization=f"Bearer {home.add_token(role=Role.INSTALLER)}")
    answer = await dave.post("/api/v1/devices/north/gw1/out-of-service", json={"reason": "x"})
    assert (answer.status_code, answer.json()["reason"]) == (404, "no_such_device")
    # As an earlier version let it be taken out.
    home.store.write(
        lambda c: c.execute(
            insert(tables.out_of_service).values(
                id="0" * 32, site="north", device="gw1", from_ms=at(1), reason="x", by="dave", ended_by=""
            )
        )
    )
    assert "silent" in in_hand(home.store)
    assert tickets(home.store)["silent"].hidden == ()
    alice = await home.log_in("alice")
    assert "Gateway gw1 is silent" in (await alice.get("/m")).text
    # It is shown, and can be undone.
    assert 'href="/devices/north/gw1"' in (await alice.get("/devices")).text
    shown = await alice.get("/devices/north/gw1")
    assert shown.status_code == 200
    answer = await alice.post(
        "/devices/north/gw1/in-service", data=fields_in(shown.text, "/devices/north/gw1/in-service")
    )
    assert answer.headers["location"] == "/devices?said=back_in_service"
    assert (await alice.get("/devices/north/gw1")).status_code == 404


async def test_a_device_that_nobody_watches_any_more_is_shown_until_it_is_back_in_service(
    home: House,
) -> None:
    gateway = await home.enrol()
    gateway.voice.watches("printer-1", place="hall/line-9")
    gateway.voice.raises(0)
    await home.sync(gateway)
    lead = home.client(Authorization=f"Bearer {home.add_token(role=Role.LEAD)}")
    assert (await lead.post(OUT, json={"reason": "New head"})).status_code == 200
    gateway.voice.watches("printer-2")
    home.clock.forward(minutes=1)
    await home.sync(gateway)
    listed = {one["id"]: one for one in (await lead.get("/api/v1/devices")).json()["items"]}
    assert listed["printer-1"]["gateways"] == []
    assert (listed["printer-1"]["place"], listed["printer-1"]["state"]) == ("hall/line-9", "unknown")
    assert listed["printer-1"]["out_of_service"]["reason"] == "New head"
    bob = await home.log_in("bob")
    page = await bob.get("/devices/north/printer-1")
    assert page.status_code == 200
    assert "nobody any more" in page.text
    (ticket,) = tickets(home.store).values()
    assert 'href="/devices/north/printer-1"' in (await bob.get(f"/t/{ticket.id}")).text
    assert (await bob.get("/api/v1/devices?site=south")).json()["items"] == []
    carol = await home.log_in("carol")
    assert (await carol.get("/devices/north/printer-1")).status_code == 404
    assert "printer-1" not in (await carol.get("/devices")).text
    assert (await lead.post(BACK)).json()["reason"] == "back_in_service"
    listed = {one["id"]: one for one in (await lead.get("/api/v1/devices")).json()["items"]}
    assert set(listed) == {"printer-2"}


async def test_the_tables_of_downtime_have_a_column_for_it_when_there_was_any(home: House) -> None:
    await home.ticket()
    home.clock.forward(minutes=5)
    alice = await home.log_in("alice")
    downtime = "/downtime?from=2026-01-05&to=2026-01-05"
    assert "Planned" not in (await alice.get(downtime)).text
    csrf = csrf_in((await alice.get("/devices/north/printer-1")).text)
    await alice.post(
        "/devices/north/printer-1/out-of-service", data={"csrf": csrf, "text": "New head", "hours": "4"}
    )
    home.clock.forward(minutes=30)
    shown = (await alice.get(downtime)).text
    window = {"site": "north", "from": "2026-01-05T00:00:00Z", "to": "2026-01-06T00:00:00Z"}
    for by, caption in (("device", "By device"), ("fault", "By fault")):
        (item,) = (await alice.get("/api/v1/downtime", params=window | {"by": by})).json()["items"]
        assert item["planned_ms"] == 30 * MINUTE_MS
        table = shown.split(f"<caption>{caption}</caption>")[1].split("</table>")[0]
        assert table.count("Planned</th>") == 1
        assert re.findall(r'data-label="Planned">([^<]*)<', table) == ["30 min 00 s"]


async def test_a_lead_takes_a_device_out_on_its_page_and_brings_it_back(home: House) -> None:
    ticket = await home.ticket()
    alice = await home.log_in("alice")
    path = "/devices/north/printer-1"
    shown = (await alice.get(path)).text
    form = {"csrf": csrf_in(shown), "text": "New head <b>", "hours": "4"}
    answer = await alice.post(f"{path}/out-of-service", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, f"{path}?said=out_of_service")
    shown = (await alice.get(path)).text
    assert "New head &lt;b&gt;" in shown
    assert "Back in service" in shown
    assert "New head &lt;b&gt;" in (await alice.get(f"/t/{ticket}")).text
    assert "Out of service" in (await alice.get("/devices")).text
    refused = await alice.post(f"{path}/out-of-service", data={"csrf": csrf_in(shown), "text": " "})
    assert refused.status_code == 422
    assert "A reason is needed." in refused.text
    # Another reason leaves the end as it is.
    (end,) = re.findall(r'<option value="(\d{13})">As it is', shown)
    await alice.post(
        f"{path}/out-of-service", data={"csrf": csrf_in(shown), "text": "Part is missing", "hours": end}
    )
    reader = home.client(Authorization=f"Bearer {home.add_token()}")
    (device,) = (await reader.get("/api/v1/devices")).json()["items"]
    assert device["out_of_service"]["reason"] == "Part is missing"
    assert device["out_of_service"]["until"] == rfc3339(home.clock.now_ms() + 4 * 60 * MINUTE_MS)
    # Others see it, and have no button.
    bob = await home.log_in("bob")
    seen = (await bob.get(path)).text
    assert "Part is missing" in seen
    assert "in-service" not in seen
    assert (await bob.post(f"{path}/in-service", data={"csrf": csrf_in(seen)})).status_code == 403
    carol = await home.log_in("carol")
    assert (await carol.get(path)).status_code == 404
    await alice.post(f"{path}/in-service", data={"csrf": csrf_in(shown)})
    assert "Out of service before" in (await alice.get(path)).text
