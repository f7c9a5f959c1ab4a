from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from threading import Event, Semaphore
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from rigs.web import House, house
from sqlalchemy import Connection

from collector import auth
from collector.app import MAX_REPORTS
from collector.store import Store
from edge_agent import wire


@pytest.fixture
async def home(tmp_path: Path, store: Store) -> AsyncIterator[House]:
    async with house(tmp_path, store) as made:
        made.add_cast()
        yield made


@pytest.fixture
async def bob(home: House) -> httpx.AsyncClient:
    return await working(home, "bob")


async def working(home: House, name: str) -> httpx.AsyncClient:
    """Logged in, and able to command through the API."""
    client = await home.log_in(name)
    client.headers["X-CSRF-Token"] = auth.csrf_of(client.cookies[auth.SESSION_COOKIE])
    return client


async def numbers(client: httpx.AsyncClient, query: str) -> list[str]:
    answer = await client.get(f"/api/v1/tickets?{query}")
    assert answer.status_code == 200, answer.text
    return [item["fault"] for item in answer.json()["items"]]


async def test_a_ticket_in_the_list_has_exactly_the_promised_fields(
    home: House, bob: httpx.AsyncClient
) -> None:
    await home.ticket()
    found = (await bob.get("/api/v1/tickets")).json()
    assert set(found) == {"items", "next"}
    names = "id number site device place component fault title severity condition ack hidden work version"
    assert set(found["items"][0]) == {*names.split(), "occurred_at", "received_at", "comes_and_goes"}
    assert found["items"][0]["occurred_at"] == "2026-01-05T08:00:00.000Z"
    assert found["items"][0] | {"id": "", "version": 0} == {
        "id": "",
        "number": 1,
        "site": "north",
        "device": "printer-1",
        "place": "hall/line-1",
        "component": "media",
        "fault": "paper-out",
        "title": "paper-out at printer-1",
        "severity": "stop",
        "condition": "active",
        "ack": "unacked",
        "hidden": [],
        "comes_and_goes": False,
        "work": "new",
        "version": 0,
        "occurred_at": "2026-01-05T08:00:00.000Z",
        "received_at": "2026-01-05T08:00:00.000Z",
    }


async def test_the_list_is_narrowed_by_everything_that_is_asked(home: House, bob: httpx.AsyncClient) -> None:
    gateway = await home.enrol()
    gateway.voice.watches("printer-1")
    gateway.voice.watches("zone-9", place="hall/line-2/zone-9")
    gateway.voice.raises(0, "printer-1", "paper-out", severity=30)
    gateway.voice.raises(0, "zone-9", "jam", severity=20)
    over = gateway.voice.raises(0, "printer-1", "head-open", severity=10)
    await home.sync(gateway)
    gateway.voice.clears(over, 0.5)
    home.clock.forward(minutes=1)
    await home.sync(gateway)
    assert sorted(await numbers(bob, "")) == ["head-open", "jam", "paper-out"]
    assert sorted(await numbers(bob, "state=active")) == ["jam", "paper-out"]
    assert await numbers(bob, "state=resolved") == ["head-open"]
    assert await numbers(bob, "severity=degraded") == ["jam"]
    assert await numbers(bob, "device=zone-9") == ["jam"]
    assert await numbers(bob, "place=hall/line-2") == ["jam"]
    assert await numbers(bob, "q=JAM") == ["jam"]
    assert await numbers(bob, "site=south") == []
    assert await numbers(bob, "q=%25") == []


async def test_paging_shows_every_ticket_once(home: House, bob: httpx.AsyncClient) -> None:
    gateway = await home.enrol()
    for number in range(7):
        gateway.voice.raises(0, f"printer-{number}")
    await home.sync(gateway)
    seen: list[str] = []
    after = ""
    while True:
        page = (await bob.get(f"/api/v1/tickets?limit=3&after={after}")).json()
        seen += [item["device"] for item in page["items"]]
        if page["next"] is None:
            break
        after = page["next"]
    assert sorted(seen) == [f"printer-{number}" for number in range(7)]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=x", "limit"),
        ("state=broken", "state"),
        ("severity=30", "severity"),
        ("after=nonsense", "after"),
        ("q=" + "x" * 300, "q"),
    ],
)
async def test_a_question_that_cannot_be_is_refused_in_words(
    bob: httpx.AsyncClient, query: str, says: str
) -> None:
    answer = await bob.get(f"/api/v1/tickets?{query}")
    assert answer.status_code == 422
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "detail"} <= set(problem)
    assert says in problem["detail"]


async def test_one_ticket_shows_its_history_and_what_the_equipment_said(
    home: House, bob: httpx.AsyncClient
) -> None:
    gateway = await home.enrol()
    evidence = {"samples": [{"signal": "paper_out", "value": True, "quality": "good", "age_ms": 0}]}
    ticket = gateway.voice.raises(0, evidence=evidence)
    await home.sync(gateway)
    answer = await bob.get(f"/api/v1/tickets/{ticket}")
    found = answer.json()
    assert answer.headers["etag"] == f'"{found["version"]}"'
    assert found["word"] == "Unacknowledged"
    assert found["advice"] == "Look."
    assert found["gateways"] == ["gw1"]
    assert found["occurrences"][0]["evidence"] == evidence
    assert [entry["reason"] for entry in found["history"]] == ["opened"]


async def test_acknowledge_note_start_resolve_in_their_order(home: House, bob: httpx.AsyncClient) -> None:
    gateway = await home.enrol()
    ticket = gateway.voice.raises(0)
    await home.sync(gateway)
    root = f"/api/v1/tickets/{ticket}"
    done = (await bob.post(f"{root}/acknowledge", headers={"Idempotency-Key": "tap-00001"})).json()
    assert (done["result"], done["reason"], done["ticket"]["ack"]) == ("applied", "acknowledged", "acked")
    await bob.post(f"{root}/note", json={"text": "New roll is on its way."})
    assert (await bob.post(f"{root}/start")).json()["ticket"]["work"] == "in_progress"
    version = (await bob.get(root)).headers["etag"]
    active = await bob.post(f"{root}/resolve", headers={"If-Match": version})
    assert (active.status_code, active.json()["reason"]) == (409, "still_active")
    gateway.voice.clears(ticket, 1)
    home.clock.forward(minutes=2)
    await home.sync(gateway)
    stale = await bob.post(f"{root}/resolve", headers={"If-Match": version})
    assert (stale.status_code, stale.json()["reason"]) == (409, "changed")
    assert stale.json()["ticket"]["condition"] == "cleared", "the current ticket comes along"
    version = f'"{stale.json()["ticket"]["version"]}"'
    assert (await bob.post(f"{root}/resolve")).status_code == 428
    resolved = await bob.post(
        f"{root}/resolve", headers={"If-Match": version}, json={"note": "Roll changed."}
    )
    assert resolved.json()["ticket"]["work"] == "resolved"
    history = (await bob.get(root)).json()["history"]
    assert [(entry["reason"], entry["actor"]) for entry in history if entry["actor"]] == [
        ("acknowledged", "bob"),
        ("noted", "bob"),
        ("started", "bob"),
        ("resolved", "bob"),
    ]


async def test_an_acknowledgement_from_before_the_fault_returned_does_not_cover_the_return(
    home: House, bob: httpx.AsyncClient
) -> None:
    gateway = await home.enrol()
    ticket = gateway.voice.raises(0)
    await home.sync(gateway)
    home.clock.forward(minutes=5)
    gateway.voice.clears(ticket, 5)
    await home.sync(gateway)
    home.clock.forward(minutes=5)
    gateway.voice.raises(10)
    await home.sync(gateway)
    home.clock.forward(minutes=5)
    path = f"/api/v1/tickets/{ticket}/acknowledge"
    for given_at in ("1970-01-02T00:00:00Z", "2026-01-05T08:02:00Z"):
        told = (await bob.post(path, json={"given_at": given_at})).json()
        assert (told["result"], told["reason"], told["ticket"]["ack"]) == ("merged", "seen_less", "unacked")
    told = (await bob.post(path, json={"given_at": "2026-01-05T08:11:00Z"})).json()
    assert (told["result"], told["ticket"]["ack"]) == ("applied", "acked")
    found = (await bob.get(f"/api/v1/tickets/{ticket}")).json()
    assert (found["acked_by"], found["acked_at"]) == ("bob", "2026-01-05T08:11:00.000Z")


async def test_the_same_key_again_has_no_further_effect(home: House, bob: httpx.AsyncClient) -> None:
    ticket = await home.ticket()
    path, headers = f"/api/v1/tickets/{ticket}/note", {"Idempotency-Key": "note-0001"}
    first = await bob.post(path, json={"text": "Seen."}, headers=headers)
    again = await bob.post(path, json={"text": "Seen."}, headers=headers)
    assert first.json() == again.json()
    reused = await bob.post(path, json={"text": "Something else."}, headers=headers)
    assert (reused.status_code, reused.json()["reason"]) == (422, "key_reused")
    history = (await bob.get(f"/api/v1/tickets/{ticket}")).json()["history"]
    assert [entry["text"] for entry in history].count("Seen.") == 1


async def test_a_lead_assigns_overrides_and_reopens_and_a_technician_does_not(
    home: House, bob: httpx.AsyncClient
) -> None:
    ticket = await home.ticket()
    root, alice = f"/api/v1/tickets/{ticket}", await working(home, "alice")

    async def command(client: httpx.AsyncClient, name: str, body: dict[str, Any]) -> httpx.Response:
        version = (await client.get(root)).headers["etag"]
        return await client.post(f"{root}/{name}", json=body, headers={"If-Match": version})

    assert (await command(bob, "assign", {"assignee": "bob"})).status_code == 403
    assert (await command(alice, "assign", {"assignee": "bob"})).json()["ticket"]["work"] == "assigned"
    override = {"override": True, "note": "Sensor is wrong, printer prints."}
    assert (await command(bob, "resolve", override)).status_code in (403, 409)
    assert (await command(alice, "resolve", {"override": True})).status_code == 422, "a reason is needed"
    assert (await command(alice, "resolve", override)).json()["ticket"]["work"] == "resolved"
    assert (await command(alice, "reopen", {})).status_code == 200


@pytest.mark.parametrize("if_match", ["3", "*", '"x"', '"1", "2"', 'W/"1"', '"' + "9" * 16 + '"'])
async def test_a_version_is_one_number_in_quotes(bob: httpx.AsyncClient, if_match: str) -> None:
    path = "/api/v1/tickets/" + "0" * 32 + "/start"
    assert (await bob.post(path, headers={"If-Match": if_match})).status_code == 400


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/nothing", 404),
        ("GET", "/api/v1/tickets/" + "0" * 32, 404),
        ("GET", "/api/v1/tickets/' or 1=1", 422),
        ("DELETE", "/api/v1/tickets", 405),
        ("PUT", "/api/v1/sync", 405),
        ("GET", "/api/v1/downtime", 422),
        ("GET", "/api/v1/downtime?site=north&from=2026-01-05&to=2026-01-06", 422),
        ("GET", "/api/v1/downtime?site=north&from=2026-01-05T00:00:00&to=2026-01-05T01:00:00Z", 422),
        ("GET", "/api/v1/downtime?site=north&from=2026-01-05T01:00:00Z&to=2026-01-05T00:00:00Z", 422),
        ("GET", "/api/v1/downtime?site=north&from=2020-01-05T01:00:00Z&to=2026-01-05T00:00:00Z", 422),
        ("GET", "/api/v1/downtime?site=north&from=0001-01-01T00:00:00%2B14:00&to=0001-01-01T01:00:00Z", 422),
        ("GET", "/api/v1/downtime?site=south&from=2026-01-05T00:00:00Z&to=2026-01-05T01:00:00Z", 404),
        ("GET", "/api/v1/tickets?q=%00", 400),
    ],
)
async def test_every_refusal_is_a_problem_document(
    bob: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    answer = await bob.request(method, path)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["type"]) == (status, "about:blank")
    assert problem["detail"]
    if status == 405:
        assert answer.headers["allow"]


async def test_a_body_that_is_too_large_is_a_problem_declared_or_not(
    home: House, bob: httpx.AsyncClient
) -> None:
    async def undeclared() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b" " * (wire.MAX_WIRE_BYTES // 4)

    for path in (f"/api/v1/tickets/{'0' * 32}/note", wire.ENROLL_PATH):
        for content in (b" " * (wire.MAX_WIRE_BYTES + 1), undeclared()):
            answer = await bob.post(path, content=content, headers={"Content-Type": "application/json"})
            assert (answer.status_code, answer.json()["reason"]) == (413, "too-large"), path
            assert answer.headers["content-type"] == "application/problem+json"


async def test_a_crash_is_a_problem_without_its_traceback(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await home.log_in("bob")
    broken = "a fault with a secret in it"

    async def crash(_query: object) -> None:
        raise RuntimeError(broken)

    monkeypatch.setattr(type(home.store), "read_soon", crash)
    answer = await home.client(Authorization="Bearer atk_0123456789.x").get("/api/v1/me")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert broken not in answer.text
    assert "content-security-policy" in answer.headers
    await client.aclose()


async def test_downtime_takes_offsets_and_adds_up(home: House, bob: httpx.AsyncClient) -> None:
    gateway = await home.enrol()
    gateway.voice.watches("printer-1")
    await home.sync(gateway)
    uid = gateway.voice.raises(5)
    for _ in range(20):
        home.clock.forward(minutes=0.5)
        await home.sync(gateway)
    gateway.voice.clears(uid, 9)
    home.clock.forward(minutes=0.5)
    await home.sync(gateway)
    for written in ("2026-01-05T08:00:00Z", "2026-01-05T09:00:00%2B01:00", "2026-01-05T09:00:00+01:00"):
        answer = await bob.get(f"/api/v1/downtime?site=north&from={written}&to=2026-01-05T08:10:00Z")
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert found["from"] == "2026-01-05T08:00:00.000Z"
    assert set(found) == {"from", "to", "timezone", "as_of", "items", "total"}
    (item,) = found["items"]
    names = "key down_ms unknown_ms observed_ms window_ms stops open intervals"
    assert set(names.split()) <= set(item)
    assert item["observed_ms"] + item["unknown_ms"] == item["window_ms"] == 600_000
    assert (item["key"], item["down_ms"], item["stops"]) == ("printer-1", 240_000, 1)
    down = next(one for one in item["intervals"] if one["kind"] == "down")
    assert down | {"device": ""} == {
        "from": "2026-01-05T08:05:00.000Z",
        "to": "2026-01-05T08:09:00.000Z",
        "kind": "down",
        "open": False,
        "ticket": uid,
        "device": "",
    }
    by_fault = await bob.get(
        "/api/v1/downtime?site=north&from=2026-01-05T08:00:00Z&to=2026-01-05T08:10:00Z&by=fault"
    )
    assert [one["key"] for one in by_fault.json()["items"]] == ["paper-out"]


async def test_reports_that_take_long_wait_for_each_other_and_leave_readers_for_all_else(
    home: House, bob: httpx.AsyncClient
) -> None:
    begun, go_on = Semaphore(0), Event()

    def long(_: Connection) -> None:
        begun.release()
        go_on.wait()

    reports = [asyncio.create_task(home.parts.report_soon(long)) for _ in range(12)]
    try:
        for _ in range(MAX_REPORTS):
            await asyncio.to_thread(begun.acquire)
        assert (await bob.get("/api/v1/devices")).status_code == 200
        assert not begun.acquire(blocking=False)
    finally:
        go_on.set()
        await asyncio.gather(*reports)


async def test_devices_and_gateways_say_who_is_silent(home: House, bob: httpx.AsyncClient) -> None:
    await home.ticket()
    (device,) = (await bob.get("/api/v1/devices")).json()["items"]
    assert (device["id"], device["state"], device["open_tickets"]) == ("printer-1", "stop", 1)
    (gateway,) = (await bob.get("/api/v1/gateways")).json()["items"]
    assert (gateway["name"], gateway["state"]) == ("gw-paper-out", "ok")
    assert (await bob.get("/api/v1/me")).json() == {"name": "bob", "role": "technician", "sites": ["north"]}


async def test_every_operation_is_described_and_every_example_fits_its_schema(home: House) -> None:
    document = (await home.client().get("/api/v1/openapi.json")).json()
    assert document["components"]["securitySchemes"].keys() == {"token", "gateway"}
    operations = [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    assert {path for _, path, _ in operations} >= {
        "/api/v1/tickets",
        "/api/v1/sync",
        "/api/v1/enroll",
        "/metrics",
    }
    assert {method for method, _, _ in operations} == {"get", "post"}
    for method, path, operation in operations:
        assert operation.get("summary") or operation.get("description"), f"{method} {path}"
    with_examples = 0
    for name, schema in document["components"]["schemas"].items():
        for example in schema.get("examples", []):
            with_examples += 1
            whole = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
            Draft202012Validator(whole).validate(example)
    assert with_examples >= 8


async def test_metrics_count_without_naming_anybody(home: House) -> None:
    await home.ticket()
    text = (await home.client().get("/metrics")).text
    for line in (
        'andon_syncs_total{verdict="ok"} 1.0',
        "andon_rows_total 1.0",
        'andon_tickets_open{condition="active",work="new"} 1.0',
        "andon_gateways 1.0",
        "andon_gateways_silent 0.0",
        "andon_buses_behind 0.0",
        "andon_bus_cycle_over_plan 0.0",
        "andon_sync_seconds_count 1.0",
        "andon_build_info{version=",
    ):
        assert line in text
    for name in ("north", "printer-1", "paper-out", "bob", "gw-"):
        assert name not in text


async def test_health_and_readiness(home: House) -> None:
    client = home.client()
    assert (await client.get("/healthz")).text == "ok\n"
    assert (await client.get("/readyz")).text == "ready\n"
    home.parts.live.close()
    assert (await client.get("/readyz")).status_code == 503
    assert (await client.get("/healthz")).status_code == 200


async def test_a_clock_that_reads_the_year_287396_hides_no_ticket(
    home: House, bob: httpx.AsyncClient
) -> None:
    gateway = await home.enrol()
    far = {"boot": "f" * 32, "mono_ns": 5, "wall_ms": 1 << 53, "source": "ntp"}
    steps = [{"severity": 30, "at": far}]
    uid = gateway.voice.raises(0, first_bad=far, raised=far, severities=steps)
    gateway.voice.rows[uid] |= {"state": "closed", "cleared": far}
    await home.sync(gateway)
    assert await numbers(bob, "") == ["paper-out"]
    for path in (f"/api/v1/tickets/{uid}", f"/t/{uid}", f"/m/t/{uid}", "/", "/m"):
        assert (await bob.get(path)).status_code == 200, path


async def test_an_acknowledgement_that_was_given_before_1970_is_refused(
    home: House, bob: httpx.AsyncClient
) -> None:
    ticket = await home.ticket()
    body = {"given_at": "0001-01-01T00:00:00+14:00"}
    assert (await bob.post(f"/api/v1/tickets/{ticket}/acknowledge", json=body)).status_code == 422
    assert (await bob.get(f"/api/v1/tickets/{ticket}")).json()["ack"] == "unacked"


async def test_the_description_of_a_parameter_says_what_is_refused(home: House) -> None:
    document = (await home.client().get("/api/v1/openapi.json")).json()
    parameters = [
        parameter
        for methods in document["paths"].values()
        for operation in methods.values()
        for parameter in operation.get("parameters", [])
    ]
    for parameter in parameters:
        assert {"type": "null"} not in parameter["schema"].get("anyOf", []), parameter["name"]
    said = {parameter["name"]: parameter["schema"].get("pattern") for parameter in parameters}
    for name, good, bad in (("If-Match", '"3"', "3"), ("after", f"17-{'a' * 32}", "x"), ("q", "ö", "a\0")):
        assert re.search(said[name], good), name
        assert not re.search(said[name], bad), name
