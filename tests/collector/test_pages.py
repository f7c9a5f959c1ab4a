from __future__ import annotations

import re
from collections.abc import AsyncIterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest
from rigs.web import House, csrf_in, fields_in, house

from collector import admin, auth
from collector.dating import HOUR_MS
from collector.pages import render
from collector.pages.cards import ENDED_SHOWN
from collector.store import Store
from collector.sweep import sweep
from edge_agent import wire

PAGES = ("/", "/m", "/downtime", "/devices", "/gateways", "/login")
PAYLOADS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'-alert(1)-'",
    "{{7*7}}",
    "javascript:alert(1)",
    "</title><svg onload=alert(1)>",
    "\u202egnp.exe",
    "a\u200bb\u2066c",
    "bell\x07 and escape \x1b[31m",
)


@pytest.fixture
async def home(tmp_path: Path, store: Store) -> AsyncIterator[House]:
    async with house(tmp_path, store) as made:
        made.add_cast()
        yield made


class Reader(HTMLParser):
    """What a browser would run or style inline, and the texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.bad: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        names = dict(attributes)
        if tag == "style" or (tag == "script" and "src" not in names):
            self.bad.append(f"inline {tag}")
        for name, value in attributes:
            if name == "style" or name.startswith("on"):
                self.bad.append(f"{tag} {name}")
            if name in ("src", "href", "action") and not (value or "").startswith(("/", "#")):
                self.bad.append(f"{tag} {name}={value}")

    def handle_data(self, data: str) -> None:
        self.text += data


async def read(client: httpx.AsyncClient, path: str) -> Reader:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    reader = Reader(answer.text)
    assert not reader.bad, (path, reader.bad)
    return reader


def words(page: str) -> str:
    return " ".join(re.sub("<[^>]*>", "", page).split())


async def test_no_page_has_an_inline_script_or_style_or_a_foreign_address(home: House) -> None:
    ticket = await home.ticket()
    client = await home.log_in("alice")
    for path in (*PAGES[:-1], f"/t/{ticket}", f"/m/t/{ticket}", "/downtime?site=north&from=2026-01-01"):
        await read(client, path)
    await read(home.client(), "/login")


async def test_empty_pages_say_that_nothing_is_broken(home: House) -> None:
    client = await home.log_in("alice")
    assert "No gateway yet" in (await read(client, "/gateways")).text
    assert "No device yet" in (await read(client, "/devices")).text
    assert "add a gateway first" in (await read(client, "/downtime")).text
    await home.sync(await home.enrol())
    for path in ("/m", "/m?site=north", "/"):
        page = (await client.get(path)).text
        assert "Nothing is broken" in page, path
        assert 'class="shape is-cleared' in page, path
    assert "No ticket fits" in (await read(client, "/?q=nothing")).text


async def test_where_no_gateway_speaks_no_list_says_that_nothing_is_broken(home: House) -> None:
    """It was never added, never spoke, or was revoked; the site of another does not speak for it."""
    await home.sync(await home.enrol("south", "gw-south"))
    bob, erin = await home.log_in("bob"), await home.log_in("erin")

    async def knows(client: httpx.AsyncClient, path: str) -> bool:
        page = (await client.get(path)).text
        knows = "Nothing is broken" in page
        assert ('class="shape is-cleared' in page, 'class="shape is-unknown' in page) == (knows, not knows)
        assert knows or "No gateway reports" in page
        return knows

    async def told() -> list[bool]:
        return [
            await knows(client, path) for client, path in ((bob, "/m"), (bob, "/"), (erin, "/m?site=north"))
        ]

    assert await told() == [False] * 3
    assert "No gateway reports at north" in (await read(bob, "/m")).text
    gateway = await home.enrol()
    assert await told() == [False] * 3
    await home.sync(gateway)
    assert await told() == [True] * 3
    home.order(admin.RevokeGateway(site="north", name="gw1"))
    assert await told() == [False] * 3
    assert await knows(erin, "/m")
    assert await knows(erin, "/")


async def test_a_date_that_may_be_off_by_over_a_minute_says_so_wherever_it_is_shown(home: House) -> None:
    gateway = await home.enrol()
    gateway.voice.watches("printer-1")
    exact = gateway.voice.raises(0, fault="paper-out")
    dark = {"boot": "d" * 32, "mono_ns": 60 * 10**9, "wall_ms": home.clock.ms, "source": "rtc"}
    rough = gateway.voice.raises(
        0, fault="head-open", first_bad=dark, raised=dark, severities=[{"severity": 30, "at": dark}]
    )
    await home.sync(gateway)
    client = await home.log_in("alice")
    told = {one: (await client.get(f"/api/v1/tickets/{one}")).json()["error_ms"] for one in (exact, rough)}
    assert told == {exact: 1_360, rough: HOUR_MS}
    for path in ("/", "/m"):
        assert (await read(client, path)).text.count("±") == 1, path
    for prefix in ("/t", "/m/t"):
        shown = (await read(client, f"{prefix}/{rough}")).text
        assert "When it began is an estimate, ± 1 h: its gateway was not in contact" in shown
        assert "an estimate" not in (await read(client, f"{prefix}/{exact}")).text


async def test_the_history_says_when_the_fault_began_and_when_that_was_reported(home: House) -> None:
    gateway = await home.enrol()
    home.clock.forward(minutes=48)
    late = gateway.voice.raises(home.clock.minute - 40, "printer-1")
    soon = gateway.voice.raises(home.clock.minute, "printer-2")
    await home.sync(gateway)
    home.clock.forward(minutes=2)
    client = await home.log_in("alice")
    told = {one: words((await read(client, f"/t/{one}")).text) for one in (late, soon)}
    assert "The fault began. 42 min ago, reported here 2 min ago" in told[late]
    assert "The fault began. 2 min ago" in told[soon]
    assert "reported here" not in told[soon]


async def test_a_ticket_says_what_was_learned_that_made_it_one(home: House) -> None:
    gateway = await home.enrol()
    why = "scan: silent for 14 min; usually for at most 3 min <b>"
    uid = gateway.voice.raises(0, "scanner-1", evidence={"why": [why], "samples": [], "readings": []})
    await home.sync(gateway)
    client = await home.log_in("alice")
    shown = (await client.get(f"/t/{uid}")).text
    assert "Scan: silent for 14 min; usually for at most 3 min &lt;b&gt;." in shown


async def test_a_cause_that_is_over_says_what_it_explained_and_no_more_that_nobody_knows(home: House) -> None:
    gateway = await home.enrol()
    evidence = {"why": ["the broker: is the network down?"], "devices": ["beacon-1"]}
    cause = gateway.voice.raises(0, "gw-01", fault="unreachable", evidence=evidence)
    gone = gateway.voice.raises(1, "beacon-1", because=cause)
    await home.sync(gateway)
    client = await home.log_in("alice")
    told = words((await read(client, f"/t/{cause}")).text)
    assert "The broker: is the network down? Not heard: beacon-1." in told
    assert "Nobody knows how these are" in told
    gateway.voice.clears(gone, 2)
    gateway.voice.clears(cause, 2)
    await home.sync(gateway)
    told = words((await read(client, f"/t/{cause}")).text)
    assert "heard again" in told
    assert "Nobody knows how these are" not in told


async def test_what_comes_and_goes_says_so_and_whether_it_is_there(home: House) -> None:
    gateway = await home.enrol()
    uid = gateway.voice.raises(0, "printer-1")
    gateway.voice.comes_and_goes(uid, 1, 2, 3)
    home.clock.forward(minutes=4)
    await home.sync(gateway)
    client = await home.log_in("alice")
    told = words((await read(client, f"/t/{uid}")).text)
    assert "Raised2 timesComes and goesnot there since 5 Jan 2026, 08:03:00 UTC" in told
    (seen,) = (await client.get(f"/api/v1/tickets/{uid}")).json()["occurrences"]
    assert (seen["count"], [pause["to"] is None for pause in seen["pauses"]]) == (2, [False, True])
    gateway.voice.comes_and_goes(uid, 1, 2, 3, 4)
    await home.sync(gateway)
    for prefix in ("/t", "/m/t"):
        assert "Comes and goesthere again since" in words((await read(client, f"{prefix}/{uid}")).text)
    gateway.voice.clears(uid, 5)
    home.clock.forward(minutes=2)
    await home.sync(gateway)
    assert "Comes and goes" not in words((await read(client, f"/t/{uid}")).text)


async def test_lists_mark_what_comes_and_goes_as_long_as_it_does(home: House) -> None:
    gateway = await home.enrol()
    jam = gateway.voice.raises(0, "zone-4", fault="jam")
    steady = gateway.voice.raises(0, "printer-1")
    client = await home.log_in("alice")

    async def marked() -> dict[str, bool]:
        await home.sync(gateway)
        items = (await client.get("/api/v1/tickets")).json()["items"]
        told = {one["id"]: one["comes_and_goes"] for one in items}
        for path in ("/", "/m"):
            shown = words((await read(client, path)).text).lower()
            assert shown.count("comes and goes") == sum(told.values()), path
        return told

    assert await marked() == {jam: False, steady: False}
    gateway.voice.comes_and_goes(jam, 1)
    assert await marked() == {jam: True, steady: False}
    gateway.voice.comes_and_goes(jam, 1, 2, 3, 4)
    assert await marked() == {jam: True, steady: False}
    assert "comes and goes, 3 times so far" in words((await read(client, "/")).text)
    # It calls as before: nothing hides it.
    (seen,) = [one for one in (await client.get("/api/v1/tickets")).json()["items"] if one["id"] == jam]
    assert (seen["hidden"], seen["condition"], seen["ack"]) == ([], "active", "unacked")
    gateway.voice.clears(jam, 5)
    home.clock.forward(minutes=6)
    assert await marked() == {jam: False, steady: False}


async def test_what_a_device_says_is_text_and_nothing_else(home: House) -> None:
    gateway = await home.enrol()
    gateway.voice.watches("printer-1", place="<b>hall</b>/line-1")
    tickets = []
    for number, payload in enumerate(PAYLOADS):
        evidence = {
            "samples": [{"signal": payload, "value": payload, "quality": payload, "detail": payload}],
            "readings": [{"read": payload, "frames": [payload, 5, None]}, {"trouble": payload}, 7, "x"],
            payload: payload,
        }
        tickets.append(
            gateway.voice.raises(0, fault=f"fault-{number}", title=payload, advice=payload, evidence=evidence)
        )
    await home.sync(gateway)
    client = await home.log_in("alice")
    form = csrf_in((await client.get("/m")).text)
    for ticket, payload in zip(tickets, PAYLOADS, strict=True):
        await client.post(f"/t/{ticket}/note", data={"csrf": form, "text": payload})
        for path in ("/", "/m", f"/t/{ticket}", f"/m/t/{ticket}", "/devices", "/downtime"):
            page = await read(client, path)
            assert not {"img", "b"} & (set(page.tags) - {"b"}), path
            assert "49" not in page.text or "{{7*7}}" in page.text
            assert not re.search("[\u200b-\u200f\u202a-\u202e\u2066-\u2069\x07\x1b]", page.text), path
    shown = (await client.get(f"/t/{tickets[6]}")).text
    assert "\\u202egnp.exe" in shown


async def test_the_technician_acknowledges_with_one_tap_and_sees_who_has_it(home: House) -> None:
    ticket = await home.ticket()
    bob = await home.log_in("bob")
    page = (await bob.get("/m")).text
    assert "Needs somebody" in page
    fields = fields_in(page, f"/m/t/{ticket}/acknowledge")
    answer = await bob.post(f"/m/t/{ticket}/acknowledge", data=fields)
    assert (answer.status_code, answer.headers["location"]) == (303, "/m?said=acknowledged")
    after = (await bob.get(answer.headers["location"])).text
    assert "Acknowledged." in after
    assert "bob has seen it" in after
    assert "Needs somebody" not in after
    twice = await bob.post(f"/m/t/{ticket}/acknowledge", data=fields)
    assert twice.status_code == 303, "a second send of the same form does nothing and is no error"


async def test_a_tap_in_a_list_leads_back_to_the_list_as_it_was_narrowed(home: House) -> None:
    ticket = await home.ticket()
    alice = await home.log_in("alice")
    for path, root in (("/?state=active&q=paper&said=noted", "/t"), ("/m?site=north", "/m/t")):
        fields = fields_in((await alice.get(path)).text, f"{root}/{ticket}/acknowledge")
        fields = {name: value.replace("&amp;", "&") for name, value in fields.items()}
        answer = await alice.post(f"{root}/{ticket}/acknowledge", data=fields)
        assert answer.headers["location"] == path.replace("&said=noted", "") + "&said=acknowledged"
        home.clock.forward(minutes=1)
        await home.ticket(fault=f"other-{len(root)}")
        ticket = (await alice.get("/api/v1/tickets")).json()["items"][0]["id"]
    for foreign in ("https://evil.test", "//evil.test", "/login"):
        csrf = {"csrf": csrf_in((await alice.get("/m")).text)}
        answer = await alice.post(f"/t/{ticket}/note", data=csrf | {"back": foreign, "text": "x"})
        assert answer.headers["location"] == "/?said=noted"


async def test_stops_that_nobody_has_seen_come_first(home: House) -> None:
    gateway = await home.enrol()
    home.clock.forward(minutes=10)
    for number, severity in enumerate((10, 20, 30, 30)):
        gateway.voice.raises(number, f"printer-{number}", severity=severity)
    await home.sync(gateway)
    bob = await home.log_in("bob")
    page = (await bob.get("/m")).text
    assert re.findall(r"<b>(printer-\d)</b>", page) == ["printer-2", "printer-3", "printer-1", "printer-0"]
    taken = re.findall(r'action="(/m/t/\w+/acknowledge)"', page)[0]
    await bob.post(taken, data=fields_in(page, taken))
    page = (await bob.get("/m")).text
    assert re.findall(r"<b>(printer-\d)</b>", page) == ["printer-3", "printer-1", "printer-0", "printer-2"]


async def test_work_from_the_handheld_until_it_is_resolved(home: House) -> None:
    gateway = await home.enrol()
    ticket = gateway.voice.raises(0)
    await home.sync(gateway)
    bob = await home.log_in("bob")
    root = f"/m/t/{ticket}"

    async def tap(name: str, **more: str) -> str:
        page = (await bob.get(root)).text
        answer = await bob.post(f"{root}/{name}", data=fields_in(page, f"{root}/{name}") | more)
        assert answer.status_code == 303, answer.text
        return (await bob.get(answer.headers["location"])).text

    assert "bob is at it" in await tap("start")
    assert "New roll &amp; cleaned" in await tap("note", text="New roll & cleaned")
    assert f'action="{root}/resolve"' not in (await bob.get(root)).text, "not while it is reported"
    gateway.voice.clears(ticket, 3)
    home.clock.forward(minutes=4)
    await home.sync(gateway)
    page = (await bob.get("/m")).text
    assert "Ended, to be confirmed" in page
    assert "Resolved." in await tap("resolve")


async def test_what_is_resolved_and_still_reported_has_a_place_of_its_own_and_takes_none_from_what_ended(
    home: House,
) -> None:
    gateway = await home.enrol()
    over = [gateway.voice.raises(number, f"belt-{number:02}") for number in range(ENDED_SHOWN + 1)]
    reported = gateway.voice.raises(20, "printer-1")
    for number, uid in enumerate(over):
        gateway.voice.clears(uid, 30 - number)
    home.clock.forward(minutes=31)
    await home.sync(gateway)
    alice, root = await home.log_in("alice"), f"/t/{reported}"
    form = fields_in((await alice.get(root)).text, f"{root}/resolve") | {"text": "It prints."}
    assert (await alice.post(f"{root}/resolve", data=form)).status_code == 303
    page = (await alice.get("/m")).text
    sections = {text.partition("<")[0]: text for text in page.split('<h2 class="group">')[1:]}
    shown = {
        heading: re.findall(r"<b>((?:belt|printer)-\d+)</b>", text) for heading, text in sections.items()
    }
    assert shown == {
        "Resolved, still reported": ["printer-1"],
        "Just ended": [f"belt-{number:02}" for number in range(ENDED_SHOWN)],
    }


async def test_who_says_i_am_at_it_on_an_old_page_is_told_who_is(home: House) -> None:
    ticket = await home.ticket()
    alice, bob, root = await home.log_in("alice"), await home.log_in("bob"), f"/m/t/{ticket}"
    old = fields_in((await alice.get(root)).text, f"{root}/start")
    home.clock.forward(minutes=1)
    first = await bob.post(f"{root}/start", data=fields_in((await bob.get(root)).text, f"{root}/start"))
    assert first.status_code == 303
    refused = await alice.post(f"{root}/start", data=old)
    assert refused.status_code == 409
    shown = words(refused.text)
    assert "The ticket has changed since you looked. This is how it is now." in shown
    assert "bob is at it" in shown


async def test_what_a_lead_reopened_needs_somebody_who_is_at_it_and_says_that_it_is_fixed(
    home: House,
) -> None:
    gateway = await home.enrol()
    ticket = gateway.voice.raises(0)
    gateway.voice.clears(ticket, 1)
    home.clock.forward(minutes=2)
    await home.sync(gateway)
    alice, bob, root = await home.log_in("alice"), await home.log_in("bob"), f"/m/t/{ticket}"

    async def tap(client: httpx.AsyncClient, name: str) -> str:
        """And the list after it."""
        page = (await client.get(root)).text
        answer = await client.post(f"{root}/{name}", data=fields_in(page, f"{root}/{name}"))
        assert answer.status_code == 303, answer.text
        return words((await bob.get("/m")).text)

    shown = await tap(alice, "reopen")
    assert "Needs somebody" in shown
    assert "Reopened" in shown
    shown = await tap(bob, "acknowledge")
    assert "Somebody has it" in shown
    assert "bob has seen it" in shown
    shown = await tap(bob, "start")
    assert "Ended, to be confirmed" in shown
    assert "bob is at it" in shown
    assert "Just ended" in await tap(bob, "resolve")


async def test_a_form_that_saw_an_older_ticket_is_shown_what_it_is_now(home: House) -> None:
    gateway = await home.enrol()
    ticket = gateway.voice.raises(0)
    await home.sync(gateway)
    bob, alice = await home.log_in("bob"), await home.log_in("alice")
    root = f"/m/t/{ticket}"
    await bob.post(f"{root}/start", data=fields_in((await bob.get(root)).text, f"{root}/start"))
    gateway.voice.clears(ticket, 1)
    home.clock.forward(minutes=2)
    await home.sync(gateway)
    stale = fields_in((await bob.get(root)).text, f"{root}/resolve")
    seen = (await alice.get(f"/t/{ticket}")).text
    await alice.post(f"/t/{ticket}/assign", data=fields_in(seen, f"/t/{ticket}/assign") | {"text": "alice"})
    answer = await bob.post(f"{root}/resolve", data=stale)
    assert answer.status_code == 409
    assert "has changed since you looked. This is how it is now." in answer.text
    assert "alice is at it" in answer.text


async def test_what_was_typed_is_there_again_when_it_was_refused(home: House) -> None:
    gateway = await home.enrol()
    ticket = gateway.voice.raises(0)
    await home.sync(gateway)
    alice, root = await home.log_in("alice"), f"/t/{ticket}"
    first, stale = (await alice.get(root)).text, (await alice.get(root)).text
    assert f'data-address="{root}"' in stale
    await alice.post(f"{root}/assign", data=fields_in(first, f"{root}/assign") | {"text": "alice"})
    for name, typed in (("assign", "mallory"), ("resolve", "A scratch & no more,\r\nsays \u200dbob")):
        answer = await alice.post(f"{root}/{name}", data=fields_in(stale, f"{root}/{name}") | {"text": typed})
        assert answer.status_code == 409
        assert typed.replace("&", "&amp;").replace("\r\n", "\n") in answer.text
        assert f'data-address="{root}"' in answer.text, "not that of the command: nobody can get it"


async def test_a_note_of_spaces_is_refused_on_its_ticket(home: House) -> None:
    ticket = await home.ticket()
    bob = await home.log_in("bob")
    for root in (f"/t/{ticket}", f"/m/t/{ticket}"):
        form = fields_in((await bob.get(root)).text, f"{root}/note")
        answer = await bob.post(f"{root}/note", data=form | {"text": "  \n "})
        assert answer.status_code == 422
        assert "A note needs some words." in answer.text
        assert f'data-address="{root}"' in answer.text
        assert f'action="{root}/note"' in answer.text
    gone = await bob.post(f"/t/{'0' * 32}/note", data=form | {"text": " "})
    assert gone.status_code == 404


async def test_only_what_is_watched_has_a_page_to_go_to(home: House) -> None:
    gateway = await home.enrol()
    tickets = [
        gateway.voice.raises(0, "belt-1"),
        gateway.voice.raises(0, "gw1", component="agent", fault="disk"),
    ]
    gateway.voice.watches("belt-1")
    await home.sync(gateway)
    alice = await home.log_in("alice")
    pages = [(await alice.get(f"/t/{ticket}")).text for ticket in tickets]
    links = [re.findall(r'href="(/devices/[^"]+)"', page) for page in pages]
    assert links == [["/devices/north/belt-1"], []]
    assert (await alice.get(links[0][0])).status_code == 200


async def test_people_see_words_and_never_the_values_of_the_code(home: House) -> None:
    ticket = await home.ticket()
    client = await home.log_in("bob")
    root = f"/m/t/{ticket}"
    await client.post(f"{root}/start", data=fields_in((await client.get(root)).text, f"{root}/start"))
    for path in ("/", "/m", f"/t/{ticket}", root, "/devices", "/gateways"):
        text = (await read(client, path)).text
        for raw in ("in_progress", "unacked", "not_allowed", "on_hold", "Condition.", "Work."):
            assert raw not in text, path


async def test_the_desk_list_keeps_what_it_was_narrowed_to_over_its_pages(home: House) -> None:
    gateway = await home.enrol()
    for number in range(60):
        gateway.voice.raises(0, f"printer-{number}", severity=20)
    await home.sync(gateway)
    client = await home.log_in("bob")
    first = (await client.get("/?state=open&severity=degraded")).text
    older = re.search(r'href="(/\?[^"]*after=[^"]*)">Older', first)
    assert older is not None
    second = (await client.get(older[1].replace("&amp;", "&"))).text
    assert len(re.findall("data-ticket=", first)) == 50
    assert len(re.findall("data-ticket=", second)) == 10
    assert '<option value="degraded" selected>' in second


async def test_the_downtime_page_says_the_same_in_its_picture_and_its_tables(home: House) -> None:
    gateway = await home.enrol()
    gateway.voice.watches("printer-1")
    uid = gateway.voice.raises(0)
    for _ in range(12):
        await home.sync(gateway)
        home.clock.forward(minutes=0.5)
    gateway.voice.clears(uid, 5)
    await home.sync(gateway)
    client = await home.log_in("bob")
    page = (await client.get("/downtime?site=north&from=2026-01-05&to=2026-01-05")).text
    assert 'fill="url(#hatch)"' in page, "what nobody saw before eight o'clock"
    assert "5 min 00 s" in page
    assert page.count(f'href="/t/{uid}"') == 2, "the bar and the line of the table lead to the ticket"
    wrong = (await client.get("/downtime?site=north&from=2026-01-09&to=2026-01-05")).text
    assert "The first day comes after the last one" in wrong
    assert (await client.get("/downtime?site=north&from=nonsense&to=0000-00-00")).status_code == 200


async def test_of_very_many_stops_the_page_lists_the_longest_and_says_that_there_are_more(
    home: House,
) -> None:
    gateway = await home.enrol()
    gateway.voice.watches("printer-1")
    await home.sync(gateway)
    home.clock.forward(minutes=120)
    for number in range(520):
        gateway.voice.clears(gateway.voice.raises(0.2 * number), 0.2 * number + (0.1 if number % 2 else 0.05))
    for _ in range(3):
        await home.sync(gateway)
    client = await home.log_in("bob")
    page = (await client.get("/downtime?hours=2")).text
    assert "520 stops" in page
    table = page.split('<caption class="unseen">The same as')[1].split("</table>")[0]
    assert table.count('<th scope="row">printer-1</th>') == 500
    assert table.count(">3 s</td>") == 240, "of 260"
    assert "The 500 longest stops and gaps" in page
    assert "20 shorter ones are not listed" in page
    bars = re.findall(r'<rect class="t-down" x="[^"]+"', page)
    assert 100 < len(bars) <= 400


async def test_evidence_that_was_given_up_is_a_sentence(home: House) -> None:
    gateway = await home.enrol()
    ticket = gateway.voice.raises(0, evidence={"thinned": True})
    await home.sync(gateway)
    bob = await home.log_in("bob")
    for path in (f"/t/{ticket}", f"/m/t/{ticket}"):
        text = unescape((await bob.get(path)).text)
        assert "What the device said was given up when the gateway's journal was full." in text
        assert "thinned" not in text
        assert "carried no readings" not in text


async def test_recordings_of_several_times_are_a_page_that_can_be_read(home: House) -> None:
    """The newest whole, of the ones before it what is near the raise; what was given up is a sentence."""
    gateway = await home.enrol()
    readings = [
        {"read": "status", "at_ms": at_ms, "frames": ["x" * 200]} for at_ms in range(-100_000, 1, 1_000)
    ]
    points = [[at_ms, str(at_ms)] for at_ms in range(-60_000, 1, 500)]
    said = {"from_ms": -60_000, "to_ms": 0, "signals": [{"signal": "current", "points": points}]}
    uids = []
    for number in range(6):
        uids.append(gateway.voice.raises(number, evidence={"samples": []}))
        gateway.voice.clears(uids[-1], number + 0.1)
    home.clock.forward(minutes=7)
    await home.sync(gateway)
    parts = [{"uid": uid, "part": "before", "evidence": said | {"readings": readings}} for uid in uids]
    parts.append({"uid": uids[-1], "part": "after", "given_up": True})
    for part in parts:
        body = {"v": 1, "lane": "evidence", "parts": [part]}
        answer = await home.client().post(wire.SYNC_PATH, json=body, headers=gateway.headers)
        assert answer.json()["outcomes"] == ["held"]
    client = await home.log_in("bob")
    for path in (f"/t/{uids[0]}", f"/m/t/{uids[0]}"):
        page = (await client.get(path)).text
        assert page.count('class="r-line"') == 5
        assert page.count("95 earlier readings") == 1
        assert page.count("What was recorded after the raise was given up") == 1
        assert "style=" not in page
        assert len(page) < 200_000
    first, *_ = (await client.get(f"/api/v1/tickets/{uids[0]}")).json()["occurrences"]
    assert first["recorded"] == {"before": said | {"readings": readings}, "after": None}


async def test_a_fault_that_came_five_hundred_times_is_a_page_that_can_be_read(home: House) -> None:
    gateway = await home.enrol()
    evidence = {"readings": [{"read": "status", "frames": ["x" * 1000]}]}
    for number in range(400):
        uid = gateway.voice.raises(number / 2, evidence=evidence)
        gateway.voice.clears(uid, number / 2 + 0.1)
    home.clock.forward(minutes=201)
    await home.sync(gateway)
    client = await home.log_in("bob")
    ticket = (await client.get("/api/v1/tickets")).json()["items"][0]["id"]
    page = (await client.get(f"/m/t/{ticket}")).text
    assert len(page) < 100_000
    assert "Readings of 395 earlier times are kept" in page
    assert len((await client.get(f"/api/v1/tickets/{ticket}")).json()["occurrences"]) == 400


async def test_a_device_without_a_fault_has_no_open_ticket_on_its_line(home: House) -> None:
    gateway = await home.enrol()
    gateway.voice.watches("printer-1", "printer-2")
    gateway.voice.raises(0)
    gateway.voice.clears(gateway.voice.raises(0, "printer-2"), 1)
    home.clock.forward(minutes=2)
    await home.sync(gateway)
    page = (await (await home.log_in("bob")).get("/devices")).text.replace("&amp;", "&")
    assert 'href="/?state=open&site=north&device=printer-1">1 open<' in page
    assert 'href="/?state=resolved&site=north&device=printer-2">1 ended<' in page
    assert "device=printer-2" not in page.replace("/?state=resolved&site=north&device=printer-2", "")


async def test_the_last_hour_is_one_tap_away(home: House) -> None:
    gateway = await home.enrol()
    gateway.voice.watches("printer-1")
    uid = gateway.voice.raises(0)
    await home.sync(gateway)
    home.clock.forward(minutes=1)
    client = await home.log_in("bob")
    today = (await client.get("/downtime")).text
    assert 'aria-current="true">Today' in today
    link = re.search(r'href="([^"]*)">Last hour', today)
    assert link is not None
    hour = (await client.get(link[1].replace("&amp;", "&"))).text
    assert 'aria-current="true">Last hour' in hour
    assert "07:10" in hour
    assert f'href="/t/{uid}"' in hour
    for odd in ("0", "-1", "73", "9" * 30, "x", "\u0663"):
        assert 'aria-current="true">Today' in (await client.get(f"/downtime?hours={odd}")).text


async def test_the_first_moment_of_a_day_is_no_crash(home: House) -> None:
    await home.enrol()
    home.clock.ms -= home.clock.ms % 86_400_000
    client = await home.log_in("bob")
    answer = await client.get("/downtime")
    assert (answer.status_code, "has not begun" in answer.text) == (200, True)


async def test_an_unknown_page_and_a_foreign_role_get_a_short_page_with_a_way_out(home: House) -> None:
    client = await home.log_in("dave")
    gone = await client.get("/nothing", headers={"Accept": "text/html"})
    assert (gone.status_code, "There is nothing here" in gone.text) == (404, True)
    ticket = await home.ticket()
    refused = await client.post(
        f"/m/t/{ticket}/resolve", data={"csrf": csrf_in((await client.get("/m")).text)}
    )
    assert (refused.status_code, "This is not for you" in refused.text) == (403, True)
    assert 'href="/m"' in refused.text


async def test_static_files_are_kept_for_ever_under_an_address_that_follows_their_content(
    home: House,
) -> None:
    client = home.client()
    for name, asset in render.load_assets().items():
        exact = await client.get(f"/static/{name}?v={asset.tag}")
        assert (exact.status_code, exact.content) == (200, asset.content)
        assert "immutable" in exact.headers["cache-control"]
        loose = await client.get(f"/static/{name}", headers={"If-None-Match": f'"{asset.tag}"'})
        assert (loose.status_code, loose.headers["cache-control"]) == (304, "no-cache")
    for path in ("../app.py", "%2e%2e/app.py", "/etc/passwd", "", "andon.css/"):
        assert (await client.get(f"/static/{path}")).status_code == 404


async def test_the_session_cookie_is_not_in_any_page(home: House) -> None:
    client = await home.log_in("bob")
    cookie = client.cookies[auth.SESSION_COOKIE]
    for path in PAGES[:-1]:
        assert cookie not in (await client.get(path)).text


async def test_the_handheld_counts_what_is_there_now_beyond_what_it_lists(home: House) -> None:
    silent, other = await home.enrol("north", "gw-silent"), await home.enrol("south", "gw-south")
    for gateway, device in ((silent, "scanner"), (other, "press")):
        gateway.voice.watches(*(f"{device}-{number}" for number in range(3)))
        for number in range(3):
            gateway.voice.raises(0, f"{device}-{number}", severity=20)
        await home.sync(gateway)
    home.clock.forward(minutes=10)
    storm = await home.enrol("north", "gw-storm")
    storm.voice.watches(*(f"belt-{number}" for number in range(261)))
    over = [storm.voice.raises(9, f"belt-{number}") for number in range(261)][-1]
    await home.sync(storm)
    storm.voice.clears(over, 9.5)
    await home.sync(storm)
    home.store.write(lambda connection: sweep(connection, home.clock.ms, started_ms=0))
    client = await home.log_in("bob")
    # And the gateway that fell silent.
    for path in ("/m", "/m?site=north"):
        page = (await client.get(path)).text
        assert counted(page) == {"stopped": 260 + 1, "unknown": 3}, path
        assert "The worst 200" in page
    assert counted((await client.get("/m?site=south")).text) == {}
    client = await home.log_in("carol")
    assert counted((await client.get("/m")).text) == {"stopped": 1, "unknown": 3}


async def test_the_desk_counts_all_that_fits_and_not_the_page_that_it_shows(home: House) -> None:
    gateway = await home.enrol()
    for number in range(90):
        gateway.voice.raises(0, f"belt-{number}", severity=30 if number < 70 else 20)
    over = gateway.voice.raises(0, "belt-x")
    gateway.voice.clears(over, 0.5)
    home.clock.forward(minutes=1)
    await home.sync(gateway)
    client = await home.log_in("bob")
    for query, told in {
        "": {"stopped": 70, "degraded": 20},
        "?severity=stop": {"stopped": 70},
        "?q=belt-8": {"degraded": 10, "stopped": 1},
        "?device=belt-80": {"degraded": 1},
        "?state=unknown": {},
        # All; ended and closed ones are not there now.
        "?state=": {"stopped": 70, "degraded": 20},
        "?state=closed": {},
        "?state=hidden": {},
    }.items():
        assert counted((await client.get(f"/{query}")).text) == told, query


async def test_what_came_back_says_so_and_its_age_is_that_of_the_return(home: House) -> None:
    gateway = await home.enrol()
    first = gateway.voice.raises(0)
    gateway.voice.clears(first, 20)
    home.clock.forward(minutes=21)
    await home.sync(gateway)
    client = await home.log_in("bob")
    assert "came back" not in words((await client.get("/m")).text).lower()
    gateway.voice.raises(25)
    home.clock.forward(minutes=8)
    await home.sync(gateway)
    for path in ("/m", f"/m/t/{first}", f"/t/{first}"):
        shown = words((await client.get(path)).text)
        assert "Unacknowledged4 min ago" in shown, path
        assert "Came back, 2nd time" in shown, path
    assert "came back, 2nd time" in words((await client.get("/")).text)


async def test_what_a_lead_reopened_looks_like_what_it_is_and_is_counted(home: House) -> None:
    gateway = await home.enrol()
    ticket = gateway.voice.raises(0)
    gateway.voice.clears(ticket, 1)
    home.clock.forward(minutes=2)
    await home.sync(gateway)
    alice, root = await home.log_in("alice"), f"/m/t/{ticket}"

    async def card() -> tuple[list[str], dict[str, int]]:
        page = (await alice.get("/m")).text
        return re.findall(r'<article class="card is-(\w+)', page), counted(page)

    async def tap(name: str) -> None:
        form = fields_in((await alice.get(root)).text, f"{root}/{name}")
        assert (await alice.post(f"{root}/{name}", data=form)).status_code == 303

    assert await card() == (["cleared"], {})
    await tap("reopen")
    assert await card() == (["stop"], {"stopped": 1})
    assert counted((await alice.get("/")).text) == {"stopped": 1}
    await tap("start")
    assert await card() == (["cleared"], {})


def counted(page: str) -> dict[str, int]:
    return {word: int(number) for number, word in re.findall(r"<b>(\d+)</b> ([a-z ]+)</span>", page)}
