"""Two hundred strings that want to be markup or script, as what equipment and gateways say, in every page of
a real browser: none runs, none leaves, none is shown other than it is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, Request, Response
from rigs.browser import chromium
from rigs.collector_program import PASSWORD, CollectorProgram, SpeakingGateway, collector_program, run

from collector.shield import POLICY

PATIENCE_MS = 90_000
# Each would count itself in window.__ran; the rest is for templates, spreadsheets, terminals and eyes.
PAYLOADS: list[str] = json.loads((Path(__file__).parent / "payloads.json").read_text())
SHOWN_ESCAPED = ["\u202e", "\u2066", "\u200b", "\ufeff", "\u2028", "\x1b", "\x85", "\ue000"]
FOREIGN = (
    "iframe, object, embed, base, math, svg script, img:not([src^='/static/']), "
    "[onerror], [onload], [onfocus]"
)
# Evidence has at most 8 KiB a row.
A_TICKET = 10
# Of the payloads in what was recorded around one raise.
A_PART = 8


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[CollectorProgram]:
    run(
        tmp_path / "data",
        "user",
        "add",
        "lea",
        "--role",
        "lead",
        "--site",
        "*",
        "--password-stdin",
        text=PASSWORD,
    )
    with collector_program(tmp_path / "data") as started:
        yield started


def tell(gateway: SpeakingGateway) -> list[str]:
    """Every payload as title, advice, reason, place, signal, value and frame of something."""
    tickets = []
    for number, payload in enumerate(PAYLOADS):
        few = [PAYLOADS[(number + step) % len(PAYLOADS)] for step in range(A_TICKET)]
        gateway.voice.watches(f"device-{number}", place=payload[:190].replace("\0", ""))
        tickets.append(
            gateway.voice.raises(
                gateway.minute,
                f"device-{number}",
                title=payload[:200] or "x",
                advice=payload,
                reason=payload[:32],
                evidence={
                    "samples": [
                        {"signal": one, "value": one, "quality": one, "detail": one} for one in few[:3]
                    ],
                    "readings": [{"read": one, "frames": [one], "detail": one} for one in few],
                    payload: payload,
                },
            )
        )
        if number % 50 == 49:
            gateway.sync()
    gateway.sync()
    parts = [
        {"uid": ticket, "part": "before", "evidence": recorded(PAYLOADS[first : first + A_PART])}
        for ticket, first in zip(tickets, range(0, len(PAYLOADS), A_PART), strict=False)
    ]
    assert gateway.tell_evidence(*parts) == ["held"] * len(parts)
    return tickets


def recorded(few: Sequence[str]) -> dict[str, Any]:
    """Each as a signal, a value, a limit, a read, what was asked, a line, a trouble and a meaning."""
    return {
        "signals": [
            {"signal": one, "points": [[-5, one], [-1, True], [0, one]], "limits": [one]} for one in few
        ],
        "readings": [
            *({"read": one, "at_ms": -5, "frames": [one], "means": {one: one}} for one in few),
            *({"read": one, "at_ms": 1, "trouble": one, "detail": one} for one in few),
        ],
        "reads": {one: one for one in few},
    }


def test_nothing_that_equipment_says_runs_or_leaves_or_hides_in_a_page(
    browser: Browser, collector: CollectorProgram
) -> None:
    gateway = SpeakingGateway(collector)
    tickets = tell(gateway)
    context = browser.new_context()
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    complaints: list[str] = []
    elsewhere: list[str] = []
    bare: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))

    def asked(request: Request) -> None:
        if not request.url.startswith(collector.url + "/"):
            elsewhere.append(request.url)

    def answered(response: Response) -> None:
        if response.headers.get("content-security-policy") != POLICY:
            bare.append(response.url)

    page.on("request", asked)
    page.on("response", answered)
    page.goto(f"{collector.url}/login")
    page.get_by_label("Name").fill("lea")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/")
    shown = 0
    for path in paths(tickets):
        page.goto(collector.url + path)
        assert page.evaluate("window.__ran || 0") == 0, path
        content = page.content()
        assert not [one for one in SHOWN_ESCAPED if one in content], path
        assert page.locator(FOREIGN).count() == 0, path
        shown += content.count("window.__ran=")
    assert shown > len(PAYLOADS), "they were there"
    assert (complaints, elsewhere, bare) == ([], [], [])
    look_at_json(page, collector, tickets)
    context.close()
    gateway.close()


def paths(tickets: list[str]) -> list[str]:
    """The lists with all of them, and as many tickets as show each payload in the evidence."""
    few = tickets[::A_TICKET]
    lists = [
        "/",
        "/m",
        "/devices",
        "/gateways",
        "/downtime",
        "/?q=%3Cscript%3E",
        "/m?site=%22%3E%3Csvg%20onload=1%3E",
    ]
    return [*lists, *(f"/t/{ticket}" for ticket in few), *(f"/m/t/{ticket}" for ticket in few[::2])]


def look_at_json(page: Page, collector: CollectorProgram, tickets: list[str]) -> None:
    """What is no page is never taken for one."""
    cookies = {one["name"]: one["value"] for one in page.context.cookies()}
    with httpx.Client(base_url=collector.url, cookies=cookies, trust_env=False, timeout=60) as client:
        for path in (
            "/api/v1/tickets?limit=200",
            f"/api/v1/tickets/{tickets[0]}",
            "/api/v1/devices",
            "/api/v1/nothing",
        ):
            answer = client.get(path, headers={"Accept": "text/html"})
            assert answer.headers["content-type"] in ("application/json", "application/problem+json")
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["content-security-policy"] == POLICY
        with client.stream("GET", "/live") as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            assert stream.headers["content-security-policy"] == POLICY
