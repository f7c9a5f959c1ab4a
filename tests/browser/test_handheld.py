"""A technician with a handheld, in a real browser, against the real program: with scripts and without."""

from __future__ import annotations

import re
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, expect
from rigs.browser import chromium
from rigs.collector_program import PASSWORD, CollectorProgram, SpeakingGateway, collector_program, run
from rigs.ports import free_port

from collector.config import DATABASE_NAME

# Generous: other tests share the machine. Nothing waits longer than it has to.
PATIENCE_MS = 45_000
HANDHELD: ViewportSize = {"width": 390, "height": 844}
NARROW: ViewportSize = {"width": 360, "height": 740}
DESK: ViewportSize = {"width": 1440, "height": 900}
SMALL_DESK: ViewportSize = {"width": 1280, "height": 800}
LEAST_TARGET_PX = 48
# Of the pages that are made for a desk, on a handheld.
LEAST_DESK_TARGET_PX = 44
NOT_SENT = "Not sent: no connection. Tap again."
HOSTILE = '<img src=x onerror="document.title=1"><script>document.title=2</script>\u202egnp'

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


def add_person(data_dir: Path, name: str, role: str) -> None:
    run(data_dir, "user", "add", name, "--role", role, "--site", "*", "--password-stdin", text=PASSWORD)


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[CollectorProgram]:
    data_dir = tmp_path / "data"
    for name, role in (("bob", "technician"), ("lea", "lead")):
        add_person(data_dir, name, role)
    with collector_program(data_dir) as started:
        yield started


@pytest.fixture
def gateway(collector: CollectorProgram) -> Iterator[SpeakingGateway]:
    speaking = SpeakingGateway(collector)
    speaking.voice.watches("printer-7", place="outbound/line-2/pack-4")
    speaking.sync()
    yield speaking
    speaking.close()


@pytest.fixture
def page(browser: Browser, collector: CollectorProgram) -> Iterator[Page]:
    """Closed before the collector is: a stream that breaks off is not a complaint."""
    yield from opened(browser.new_context(viewport=HANDHELD))


@pytest.fixture
def plain_page(browser: Browser, collector: CollectorProgram) -> Iterator[Page]:
    """A browser that runs no scripts."""
    yield from opened(browser.new_context(viewport=HANDHELD, java_script_enabled=False))


def opened(context: BrowserContext, *, but_for: str = "status of 409") -> Iterator[Page]:
    """``but_for``: what the browser notes of a command that is refused, which is a page like others."""
    context.set_default_timeout(PATIENCE_MS)
    made = context.new_page()
    complaints: list[str] = []
    made.on(
        "console",
        lambda message: (
            complaints.append(message.text)
            if message.type == "error" and but_for not in message.text
            else None
        ),
    )
    made.on("pageerror", lambda error: complaints.append(str(error)))
    yield made
    context.close()
    assert not complaints, "no script failed, and the content policy had nothing to block"


def log_in(page: Page, collector: CollectorProgram, path: str, name: str = "bob") -> None:
    page.goto(collector.url + path)
    log_in_again(page, name)


def log_in_again(page: Page, name: str = "bob") -> None:
    """On the form that the page has become."""
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()


def test_a_ticket_appears_is_acknowledged_in_one_tap_and_resolves_by_itself(
    page: Page, collector: CollectorProgram, gateway: SpeakingGateway
) -> None:
    log_in(page, collector, "/m")
    expect(page.get_by_text("Nothing is broken")).to_be_visible()
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    page.evaluate("window.sameDocument = true")

    ticket = gateway.voice.raises(gateway.minute, "printer-7", title="Labels are used up")
    gateway.sync()
    card = page.locator(f"[data-ticket='{ticket}']")
    expect(card).to_contain_text("Labels are used up")
    expect(card).to_contain_text("Stop")
    expect(card).to_contain_text("printer-7")
    assert page.evaluate("window.sameDocument"), "it came without a reload"

    card.get_by_role("button", name="Acknowledge").click()
    expect(page.get_by_text("Acknowledged.")).to_be_visible()
    expect(card).to_contain_text("bob has seen it")
    expect(card.get_by_role("button", name="Acknowledge")).to_have_count(0)

    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    page.evaluate("window.sameDocument = true")
    gateway.voice.clears(ticket, gateway.minute)
    gateway.sync()
    expect(card).to_contain_text("Resolved")
    expect(page.get_by_role("heading", name="Just ended")).to_be_visible()
    assert page.evaluate("window.sameDocument")


def test_the_same_without_scripts(
    plain_page: Page, collector: CollectorProgram, gateway: SpeakingGateway
) -> None:
    page = plain_page
    log_in(page, collector, "/m")
    expect(page.get_by_text("Nothing is broken")).to_be_visible()
    assert page.locator("noscript meta[http-equiv=refresh], meta[http-equiv=refresh]").count() == 1

    ticket = gateway.voice.raises(gateway.minute, "printer-7", title="Labels are used up")
    gateway.sync()
    page.reload()
    card = page.locator(f"[data-ticket='{ticket}']")
    card.get_by_role("button", name="Acknowledge").click()
    expect(card).to_contain_text("bob has seen it")

    card.get_by_role("link").click()
    page.get_by_role("button", name="I am at it").click()
    page.get_by_label("Note for those who come after").fill("New roll, head cleaned.")
    page.get_by_role("button", name="Add note").click()
    expect(page.get_by_text("New roll, head cleaned.")).to_be_visible()

    gateway.voice.clears(ticket, gateway.minute)
    gateway.sync()
    page.reload()
    page.get_by_role("button", name="Fixed: resolve").click()
    expect(page.locator("#state")).to_contain_text("Resolved")
    page.get_by_role("link", name="Back to the list").click()
    expect(card).to_contain_text("Resolved")


def test_what_is_being_typed_survives_live_news(
    page: Page, collector: CollectorProgram, gateway: SpeakingGateway
) -> None:
    ticket = gateway.voice.raises(gateway.minute, "printer-7", title="Labels are used up")
    gateway.sync()
    log_in(page, collector, f"/m/t/{ticket}")
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    page.get_by_label("Note for those who come after").fill("Half a sent")
    gateway.voice.clears(ticket, gateway.minute)
    gateway.sync()
    expect(page.locator("#state")).to_contain_text("Resolved")
    expect(page.get_by_label("Note for those who come after")).to_have_value("Half a sent")


def test_a_page_goes_on_after_a_command_that_was_refused_and_what_is_sent_next_says_what_was_seen(
    page: Page, collector: CollectorProgram, gateway: SpeakingGateway
) -> None:
    ticket = gateway.voice.raises(gateway.minute, "printer-7", title="Labels are used up")
    gateway.sync()
    log_in(page, collector, f"/t/{ticket}", "lea")
    page.get_by_label("Give it to").fill("bob")
    page.evaluate("document.querySelector('form[action$=assign] [name=version]').value = '1'")
    with page.expect_response(lambda answer: answer.status == 409):
        page.get_by_role("button", name="Assign").click()
    expect(page.get_by_text("This is how it is now.")).to_be_visible()
    expect(page).to_have_url(f"{collector.url}/t/{ticket}")
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    expect(page.get_by_label("Give it to")).to_have_value("bob")
    gateway.voice.worsens(ticket, gateway.minute, 40)
    gateway.sync()
    expect(page.locator("#history")).to_contain_text("The fault became more severe.")
    page.get_by_role("button", name="Assign").click()
    expect(page.locator("#state")).to_contain_text("bob")


def test_a_link_that_died_without_a_word_is_noticed(
    page: Page, collector: CollectorProgram, gateway: SpeakingGateway
) -> None:
    page.clock.install()
    log_in(page, collector, "/m")
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    page.evaluate(COUNT_STREAMS)
    page.clock.fast_forward(30_000)
    assert page.evaluate("window.streams") == 0
    page.clock.fast_forward(30_000)
    assert page.evaluate("window.streams") == 1
    expect(page.get_by_text("Live", exact=True)).to_be_visible()


def test_a_page_that_nobody_sees_gives_its_connection_back_and_is_right_when_it_is_seen_again(
    page: Page, collector: CollectorProgram, gateway: SpeakingGateway
) -> None:
    log_in(page, collector, "/m")
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    assert listening(collector, 1)
    page.evaluate(SEEN, False)
    assert listening(collector, 0)
    gateway.voice.raises(gateway.minute, "printer-7", title="Labels are used up")
    gateway.sync()
    page.evaluate(SEEN, True)
    expect(page.locator("article")).to_contain_text("Labels are used up")
    assert listening(collector, 1)


@pytest.mark.parametrize("button", ["right", "left"])
def test_a_press_whose_release_is_never_told_does_not_stop_a_page_for_good(
    page: Page, collector: CollectorProgram, gateway: SpeakingGateway, button: Literal["right", "left"]
) -> None:
    """A menu of the browser takes the release of the right button; other things that of a finger."""
    ticket = gateway.voice.raises(gateway.minute, "printer-7", title="Labels are used up")
    gateway.sync()
    log_in(page, collector, "/m")
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    expect(page.locator("[data-was]").first).to_be_visible()
    page.locator("article h3").hover()
    page.mouse.down(button=button)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if request.url.endswith("/m") else None)
    gateway.voice.clears(ticket, gateway.minute)
    gateway.sync()
    expect(page.locator(f"[data-ticket='{ticket}']")).to_contain_text("Resolved")
    assert len(asked) <= 2


def test_what_changed_under_a_thumb_is_shown_when_it_is_lifted_and_is_not_asked_for_before(
    page: Page, collector: CollectorProgram, gateway: SpeakingGateway
) -> None:
    ticket = gateway.voice.raises(gateway.minute, "printer-7", title="Labels are used up")
    gateway.sync()
    page.clock.install()
    log_in(page, collector, "/m")
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    expect(page.locator("[data-was]").first).to_be_visible()
    page.mouse.move(HANDHELD["width"] / 2, HANDHELD["height"] - 5)
    page.clock.pause_at(page.evaluate("Date.now() / 1000 + 1"))
    page.evaluate(COUNT_NEWS)
    page.mouse.down()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if request.url.endswith("/m") else None)
    gateway.voice.clears(ticket, gateway.minute)
    gateway.sync()
    page.wait_for_function("window.news > 0", polling=100)
    page.clock.run_for(4000)
    assert asked == []
    page.mouse.up()
    page.clock.run_for(1000)
    expect(page.locator(f"[data-ticket='{ticket}']")).to_contain_text("Resolved")
    assert len(asked) == 1


def test_each_form_that_was_sent_waits_for_its_own_answer(
    page: Page, collector: CollectorProgram, gateway: SpeakingGateway
) -> None:
    first = gateway.voice.raises(gateway.minute, "printer-7", title="Labels are used up")
    second = gateway.voice.raises(gateway.minute, "printer-8", title="Head is open")
    gateway.sync()
    page.clock.install()
    log_in(page, collector, "/m")
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    # None of them gets an answer.
    page.route("**/acknowledge", lambda _: None)
    buttons = {
        ticket: page.locator(f"[data-ticket='{ticket}'] form[action$=acknowledge] button")
        for ticket in (first, second)
    }
    buttons[first].click()
    page.clock.run_for(15_000)
    buttons[second].click()
    page.clock.run_for(6_000)
    expect(buttons[first]).to_be_enabled()
    gateway.voice.worsens(second, gateway.minute, 40)
    gateway.sync()
    page.clock.run_for(5_000)
    expect(buttons[second]).to_have_text("Sending ...")
    expect(buttons[second]).to_be_disabled()
    page.clock.run_for(10_000)
    expect(buttons[second]).to_be_enabled()
    expect(page.get_by_text(NOT_SENT)).to_have_count(2)


def test_what_is_sent_without_a_connection_stays_on_the_page_until_it_is_sent_again(
    browser: Browser, tmp_path: Path
) -> None:
    listen = ("--listen", f"127.0.0.1:{free_port()}")
    add_person(tmp_path / "data", "bob", "technician")
    context = browser.new_context(viewport=HANDHELD)
    context.set_default_timeout(PATIENCE_MS)
    listed, opened = context.new_page(), context.new_page()
    with collector_program(tmp_path / "data", *listen) as collector:
        gateway = SpeakingGateway(collector)
        ticket = gateway.voice.raises(gateway.minute, "printer-7", title="Labels are used up")
        gateway.sync()
        gateway.close()
        log_in(listed, collector, "/m")
        expect(listed.get_by_text("Live", exact=True)).to_be_visible()
        opened.goto(f"{collector.url}/m/t/{ticket}")
        opened.get_by_label("Note for those who come after").fill("New roll,\nhead cleaned.")
    listed.get_by_role("button", name="Acknowledge").click()
    expect(listed.get_by_text(NOT_SENT)).to_be_visible()
    opened.get_by_role("button", name="Add note").click()
    expect(opened.get_by_text(NOT_SENT)).to_be_visible()
    expect(opened.get_by_label("Note for those who come after")).to_have_value("New roll,\nhead cleaned.")
    with collector_program(tmp_path / "data", *listen):
        expect(listed.get_by_text("Live", exact=True)).to_be_visible()
        listed.get_by_role("button", name="Acknowledge").click()
        expect(listed.locator("article")).to_contain_text("bob has seen it")
        opened.get_by_role("button", name="Add note").click()
        expect(opened.locator("#history .note")).to_have_text("New roll,\nhead cleaned.")
        expect(opened.get_by_label("Note for those who come after")).to_have_value("")
        for page in (listed, opened):
            expect(page.get_by_text(NOT_SENT)).to_have_count(0)
        context.close()


def test_who_could_not_be_logged_out_is_told_so_and_can_be_later(browser: Browser, tmp_path: Path) -> None:
    listen = ("--listen", f"127.0.0.1:{free_port()}")
    add_person(tmp_path / "data", "bob", "technician")
    context = browser.new_context(viewport=NARROW)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    with collector_program(tmp_path / "data", *listen) as collector:
        log_in(page, collector, "/m")
        expect(page.get_by_text("Live", exact=True)).to_be_visible()
    page.get_by_role("button", name="Log out").click()
    told = page.get_by_text("bob may still be logged in: no connection. Tap again.")
    expect(told).to_be_in_viewport()
    page.get_by_role("button", name="Log out").click()
    expect(told).to_have_count(1)
    with collector_program(tmp_path / "data", *listen):
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_label("Password")).to_be_visible()
        page.goto(f"{collector.url}/m")
        expect(page.get_by_label("Password")).to_be_visible()
        # Whose session has ended meanwhile is logged out.
        log_in_again(page)
        context.clear_cookies()
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_label("Password")).to_be_visible()
        context.close()


REFUSED = "status of 403"
# What is sent waits until the test says whether it arrives. Chromium lets no test hold what may outlive its
# page.
HOLD = """
  const send = window.fetch;
  window.held = {};
  window.fetch = (address, options) => options?.method !== "POST" ? send(address, options)
    : new Promise((tell) => { held[String(address).split("/").pop()] = tell; })
      .then((arrives) => arrives ? send(address, options) : Promise.reject(new TypeError("lost")));
"""


def test_a_log_out_that_is_refused_shows_why_and_nobody_is_logged_out(
    browser: Browser, collector: CollectorProgram
) -> None:
    for page in opened(browser.new_context(viewport=HANDHELD), but_for=REFUSED):
        log_in(page, collector, "/m")
        spoil(page, "/logout")
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_role("heading", name="This page was no longer good")).to_be_visible()
        page.get_by_role("link", name="Go on").click()
        expect(page.get_by_role("button", name="Log out")).to_be_visible()


def test_of_two_commands_under_way_each_says_what_became_of_it(
    browser: Browser, collector: CollectorProgram, gateway: SpeakingGateway
) -> None:
    ticket = gateway.voice.raises(gateway.minute, "printer-7", title="Labels are used up")
    gateway.sync()
    for page in opened(browser.new_context(viewport=HANDHELD), but_for=REFUSED):
        page.add_init_script(HOLD)
        log_in(page, collector, f"/m/t/{ticket}")
        note = page.get_by_label("Note for those who come after")
        add, acknowledge = (page.get_by_role("button", name=name) for name in ("Add note", "Acknowledge"))
        # The note is taken, the other is lost: both can be sent again.
        note.fill("New roll is in")
        add.click()
        acknowledge.click()
        page.evaluate("held.note(true)")
        expect(add).to_be_enabled()
        page.evaluate("held.acknowledge(false)")
        expect(page.get_by_text(NOT_SENT)).to_be_visible()
        expect(acknowledge).to_be_enabled()
        # The other is refused, and the page that says so has no form that the note could be sent with.
        page.reload()
        expect(page.locator(".note")).to_contain_text("New roll is in")
        note.fill("The head is clean")
        spoil(page, "acknowledge")
        add.click()
        acknowledge.click()
        page.evaluate("held.acknowledge(true)")
        expect(page.get_by_role("heading", name="This page was no longer good")).to_be_visible()
        page.evaluate("held.note(false)")
        expect(page.get_by_text(NOT_SENT)).to_be_visible()


def spoil(page: Page, command: str) -> None:
    """As if the form were another's, which the collector refuses."""
    page.evaluate(
        "command => { document.querySelector(`form[action$='${command}'] input[name=csrf]`).value = 'no' }",
        command,
    )


def test_what_a_collector_without_its_database_did_not_take_is_not_called_a_lost_connection(
    browser: Browser, collector: CollectorProgram, gateway: SpeakingGateway, tmp_path: Path
) -> None:
    gateway.voice.raises(gateway.minute, "printer-7", title="Labels are used up")
    gateway.sync()
    context = browser.new_context(viewport=HANDHELD)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    log_in(page, collector, "/m")
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    # Another program holds on to the file.
    with closing(sqlite3.connect(tmp_path / "data" / DATABASE_NAME, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        page.get_by_role("button", name="Acknowledge").click()
        expect(page.get_by_text("Not sent: the collector is not ready. Tap again.")).to_be_visible()
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_text("bob may still be logged in: the collector is not ready.")).to_be_visible()
    page.get_by_role("button", name="Acknowledge").click()
    expect(page.locator("article")).to_contain_text("bob has seen it")
    context.close()


def test_a_collector_that_hangs_is_noticed_by_who_sends_something_and_what_is_sent_again_is_done_once(
    page: Page, collector: CollectorProgram, gateway: SpeakingGateway
) -> None:
    ticket = gateway.voice.raises(gateway.minute, "printer-7", title="Labels are used up")
    gateway.sync()
    page.clock.install()
    log_in(page, collector, f"/m/t/{ticket}")
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    page.get_by_label("Note for those who come after").fill("New roll.")
    collector.process.send_signal(signal.SIGSTOP)
    try:
        page.get_by_role("button", name="Add note").click()
        expect(page.get_by_text("Sending ...")).to_be_visible()
        page.clock.fast_forward(20_000)
        expect(page.get_by_text(NOT_SENT)).to_be_visible()
        expect(page.get_by_text("Live", exact=True)).to_have_count(0)
    finally:
        collector.process.send_signal(signal.SIGCONT)
    page.get_by_role("button", name="Add note").click()
    expect(page.locator("#history .note")).to_have_text("New roll.")
    expect(page.get_by_label("Note for those who come after")).to_have_value("")
    page.reload()
    expect(page.locator("#history .note")).to_have_count(1)


@pytest.mark.parametrize("wrong_s", [-7200, 7200], ids=["slow", "fast"])
def test_ages_are_right_on_a_handheld_whose_clock_is_wrong(
    page: Page, collector: CollectorProgram, gateway: SpeakingGateway, wrong_s: int
) -> None:
    gateway.voice.raises(gateway.minute - 5, "printer-7", title="Labels are used up")
    gateway.sync()
    page.clock.install(time=time.time() + wrong_s)
    log_in(page, collector, "/m")
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    expect(page.locator("article .when time")).to_have_text("5 min ago")
    # Somebody sets it right.
    page.clock.set_system_time(time.time())
    gateway.voice.raises(gateway.minute - 5, "printer-8", "head-open")
    gateway.sync()
    expect(page.locator("article .when time")).to_have_text(["5 min ago", "5 min ago"])


def test_a_page_belongs_to_who_is_logged_in_also_when_another_tab_changed_who_that_is(
    browser: Browser, collector: CollectorProgram, gateway: SpeakingGateway
) -> None:
    gateway.voice.raises(gateway.minute, "printer-7", title="Labels are used up")
    gateway.sync()
    for page in opened(browser.new_context(viewport=HANDHELD)):
        log_in(page, collector, "/m", "lea")
        expect(page.locator(".who")).to_have_text("lea")
        of_lea = page.context.cookies()
    for page in opened(browser.new_context(viewport=HANDHELD)):
        log_in(page, collector, "/m")
        expect(page.get_by_text("Live", exact=True)).to_be_visible()
        # As after a log-out and a log-in in another tab; this one's stream goes on for a while.
        page.context.add_cookies(
            [{"name": one["name"], "value": one["value"], "url": collector.url} for one in of_lea]
        )
        gateway.voice.raises(gateway.minute, "printer-8", "head-open", title="Head is open")
        gateway.sync()
        expect(page.locator("article", has_text="Head is open")).to_be_visible()
        expect(page.locator(".who")).to_have_text("lea")


@pytest.mark.parametrize("ends", ["while it is typed", "before it is sent"])
def test_a_note_outlives_the_session_in_which_it_was_typed(
    page: Page, collector: CollectorProgram, gateway: SpeakingGateway, ends: str
) -> None:
    ticket = gateway.voice.raises(gateway.minute, "printer-7", title="Labels are used up")
    gateway.sync()
    log_in(page, collector, f"/m/t/{ticket}")
    expect(page.locator("#history[data-was]")).to_be_visible()
    note = page.get_by_label("Note for those who come after")
    note.press_sequentially("New roll.")
    page.context.clear_cookies()
    if ends == "while it is typed":
        gateway.voice.clears(ticket, gateway.minute)
        gateway.sync()
    else:
        page.get_by_role("button", name="Add note").click()
    log_in_again(page)
    expect(page).to_have_url(f"{collector.url}/m/t/{ticket}")
    expect(note).to_have_value("New roll.")
    page.get_by_role("button", name="Add note").click()
    expect(page.locator("#history .note")).to_have_text("New roll.")
    expect(note).to_have_value("")
    page.reload()
    expect(page.locator("#history[data-was]")).to_be_visible()
    expect(note).to_have_value("")


def test_nobody_finds_what_somebody_else_typed(
    page: Page, collector: CollectorProgram, gateway: SpeakingGateway
) -> None:
    ticket = gateway.voice.raises(gateway.minute, "printer-7", title="Labels are used up")
    gateway.sync()
    log_in(page, collector, f"/m/t/{ticket}")
    note = page.get_by_label("Note for those who come after")
    note.press_sequentially("New roll.")
    for name in ("lea", "bob"):
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_label("Password")).to_be_visible()
        log_in(page, collector, f"/m/t/{ticket}", name)
        expect(page.locator("#history[data-was]")).to_be_visible()
        expect(note).to_have_value("")


def test_a_device_is_taken_out_as_it_was_said_after_logging_in_again(
    page: Page, collector: CollectorProgram, gateway: SpeakingGateway
) -> None:
    log_in(page, collector, "/devices/north/printer-7", "lea")
    expect(page.locator("#state[data-was]")).to_be_visible()
    page.get_by_label("Take it out of service: why").press_sequentially("New print head")
    page.get_by_label("For how long").select_option("4 hours")
    page.context.clear_cookies()
    page.get_by_role("button", name="Out of service").click()
    log_in_again(page, "lea")
    expect(page).to_have_url(f"{collector.url}/devices/north/printer-7")
    expect(page.get_by_label("Take it out of service: why")).to_have_value("New print head")
    expect(page.get_by_label("For how long")).to_have_value("4")
    page.get_by_role("button", name="Out of service").click()
    expect(page.locator("#state")).to_contain_text("New print head (lea)")


def test_a_list_stays_where_it_was_after_a_tap_and_is_found_again_as_it_was_left(
    page: Page, collector: CollectorProgram, gateway: SpeakingGateway
) -> None:
    for number in range(12):
        gateway.voice.raises(gateway.minute - number, f"printer-{number}", title="Labels are used up")
    gateway.sync()
    sites = [f"south-{number:02}" for number in range(5)]
    for site in sites:
        other = SpeakingGateway(collector, site=site, name=f"gw-{site}")
        other.sync()
        other.close()
    log_in(page, collector, "/m?site=north")
    expect(page.locator("#list[data-was]")).to_be_visible()
    page.get_by_role("button", name="Acknowledge").nth(6).scroll_into_view_if_needed()
    before_px = page.evaluate("scrollY")
    assert before_px > 300
    page.get_by_role("button", name="Acknowledge").nth(6).click()
    expect(page.get_by_text("Acknowledged.")).to_be_attached()
    expect(page.get_by_text("bob has seen it")).to_be_attached()
    assert abs(page.evaluate("scrollY") - before_px) < 100
    page.locator("article h3 a").nth(5).click()
    page.get_by_role("link", name="Back to the list").click()
    expect(page).to_have_url(f"{collector.url}/m?site=north")

    page.goto(f"{collector.url}/m?site={sites[-1]}")
    expect(page.get_by_role("link", name=sites[-1])).to_be_in_viewport(ratio=1)
    page.goto(f"{collector.url}/?state=&device=printer-3")
    page.get_by_role("link", name="Labels are used up").click()
    page.get_by_role("link", name="All tickets").click()
    expect(page).to_have_url(f"{collector.url}/?state=&device=printer-3")


@pytest.mark.parametrize("here", ["UTC", "Asia/Tokyo"])
def test_a_page_has_one_zone_and_names_it_where_it_is_another_than_the_browsers(
    browser: Browser, collector: CollectorProgram, gateway: SpeakingGateway, here: str
) -> None:
    for page in opened(browser.new_context(viewport=DESK, timezone_id=here, locale="en-GB")):
        log_in(page, collector, "/devices/north/printer-7", "lea")
        page.get_by_label("Take it out of service: why").fill("New print head")
        page.get_by_label("For how long").select_option("4 hours")
        page.get_by_role("button", name="Out of service").click()
        expect(page.locator("#state[data-was]")).to_contain_text("New print head (lea)")
        chosen = page.get_by_label("For how long").locator("option").first.inner_text()
        at = re.search(r"\d\d:\d\d:\d\d", chosen)
        assert at is not None
        shown = page.locator("#state time").nth(1)
        expect(shown).to_have_text(re.compile(rf"{at[0]}{'$' if here == 'UTC' else ' UTC$'}"))


COUNT_NEWS = """() => {
  window.news = 0;
  new EventSource("/live").addEventListener("change", () => { window.news += 1; });
}"""

COUNT_STREAMS = """() => {
  window.streams = 0;
  const before = window.EventSource;
  window.EventSource = class extends before {
    constructor(...given) { super(...given); window.streams += 1; }
  };
}"""

# A browser without a screen hides no page by itself.
SEEN = """seen => {
  Object.defineProperty(document, "hidden", { value: !seen, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def listening(collector: CollectorProgram, pages: int) -> bool:
    """Waits until so many pages listen."""
    end_s = time.monotonic() + PATIENCE_MS / 1000
    while time.monotonic() < end_s:
        told = httpx.get(f"{collector.url}/metrics", trust_env=False, timeout=30).text
        if f"andon_live_pages {float(pages)}" in told:
            return True
        time.sleep(0.1)
    return False


def test_the_outcome_of_a_tap_is_said_once(
    page: Page, collector: CollectorProgram, gateway: SpeakingGateway
) -> None:
    gateway.voice.raises(gateway.minute, "printer-7", title="Labels are used up")
    gateway.sync()
    log_in(page, collector, "/m?site=north")
    page.get_by_role("button", name="Acknowledge").click()
    expect(page.get_by_text("Acknowledged.")).to_be_visible()
    expect(page).to_have_url(f"{collector.url}/m?site=north")
    page.reload()
    expect(page.get_by_text("bob has seen it")).to_be_visible()
    expect(page.get_by_text("Acknowledged.")).to_have_count(0)


def test_every_target_of_the_handheld_is_large_enough_for_a_glove(
    page: Page, collector: CollectorProgram, gateway: SpeakingGateway
) -> None:
    ticket = gateway.voice.raises(gateway.minute, "printer-7", title="Labels are used up")
    gateway.voice.raises(gateway.minute, "printer-7", "head-open", severity=20)
    gateway.sync()
    log_in(page, collector, "/m")
    for path in ("/m", f"/m/t/{ticket}"):
        page.goto(collector.url + path)
        small = page.evaluate(
            """least => [...document.querySelectorAll("button, input:not([type=hidden]), textarea, a")]
              .filter(one => one.closest("main") && one.getClientRects().length && !one.closest(".card h3"))
              .map(one => [one.textContent.trim(), one.getBoundingClientRect()])
              .filter(([, box]) => box.height < least || box.width < least).map(([words]) => words)""",
            LEAST_TARGET_PX,
        )
        assert small == [], path


@pytest.mark.parametrize("size", [NARROW, HANDHELD, SMALL_DESK, DESK], ids=lambda size: str(size["width"]))
def test_no_page_is_wider_than_its_screen(
    page: Page, collector: CollectorProgram, gateway: SpeakingGateway, size: ViewportSize
) -> None:
    longest = "a-device-with-a-name-of-the-longest-kind-that-is-allowed-anywher"
    gateway.voice.watches("printer-7", longest, place="Halle_4_Regalgasse_12_Foerderstrecke_Nordwest")
    gateway.voice.raises(gateway.minute, longest, longest)
    ticket = gateway.voice.raises(gateway.minute, "printer-7", title="W" * 120, advice="M" * 300)
    gateway.sync()
    log_in(page, collector, "/m")
    page.wait_for_url("**/m")
    page.set_viewport_size(size)
    paths = ["/m", f"/m/t/{ticket}", "/", f"/t/{ticket}", "/downtime", "/devices", "/gateways"]
    for path in (*paths, f"/devices/north/{longest}"):
        page.goto(collector.url + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], path
        assert page.evaluate(BEYOND, size["width"]) == [], path


# Buttons and links that a list pushes off the screen; a table in a box of its own is scrolled.
BEYOND = """width => [...document.querySelectorAll("main button, main a:not(.sites a, svg a, .table-wrap a)")]
  .filter(one => one.getClientRects().length && one.getBoundingClientRect().right > width)
  .map(one => one.textContent.trim())"""


@pytest.mark.parametrize("size", [NARROW, HANDHELD], ids=lambda size: str(size["width"]))
def test_every_target_of_the_desk_on_a_handheld_can_be_hit(
    page: Page, collector: CollectorProgram, gateway: SpeakingGateway, size: ViewportSize
) -> None:
    ticket = gateway.voice.raises(gateway.minute, "printer-7", title="Labels are used up")
    gateway.sync()
    log_in(page, collector, "/m", "lea")
    page.wait_for_url("**/m")
    page.set_viewport_size(size)
    for path in ("/", f"/t/{ticket}", "/downtime", "/devices", "/devices/north/printer-7"):
        page.goto(collector.url + path)
        small = page.evaluate(
            """least => [...document.querySelectorAll("button, a.press, a.row, a.part, .counts a, nav a")]
              .filter(one => one.getClientRects().length && one.getBoundingClientRect().height < least)
              .map(one => one.textContent.trim())""",
            LEAST_DESK_TARGET_PX,
        )
        assert small == [], path


def test_a_device_can_put_no_markup_and_no_script_into_a_page(
    page: Page, collector: CollectorProgram, gateway: SpeakingGateway
) -> None:
    ticket = gateway.voice.raises(
        gateway.minute,
        "printer-7",
        title=HOSTILE,
        advice=HOSTILE,
        evidence={"samples": [{"signal": HOSTILE, "value": HOSTILE}], "readings": [{"frames": [HOSTILE]}]},
    )
    gateway.sync()
    log_in(page, collector, "/m", "lea")
    page.wait_for_url("**/m")
    page.set_viewport_size(DESK)
    for path in ("/m", f"/m/t/{ticket}", "/", f"/t/{ticket}", "/downtime", "/devices"):
        page.goto(collector.url + path)
        assert page.locator("img").count() == 0
        assert page.title() not in ("1", "2")
        assert "\u202e" not in page.content()
    page.goto(f"{collector.url}/t/{ticket}")
    expect(page.locator("h1")).to_contain_text("<script>document.title=2</script>\\u202egnp")


def recorded(uid: str, part: str) -> dict[str, Any]:
    """A motor that draws too much: a chart with limits, words, gaps, and readings of each kind."""
    before = part == "before"
    times = range(-60_000, 1, 1_000) if before else range(1_000, 10_001, 1_000)
    current = [[at_ms, str(3 + max(0, at_ms + 8_000) / 1_000)] for at_ms in times]
    readings = [
        {"read": "status", "at_ms": at_ms, "frames": ["100: 0073 0190 0001 0000 01f3 0000 0000 ffff"]}
        for at_ms, _ in current
    ]
    readings[3] = {"read": "status", "at_ms": readings[3]["at_ms"], "trouble": "no answer"}
    readings[-1] |= {"frames": ["\\x02" * 60], "means": {"motor_current_of_the_second_drive": "11.9"}}
    if before:
        current[20][1] = None
    signals = [
        {"signal": "motor_current", "points": current, "limits": ["8.5"]},
        {
            "signal": "state_of_a_long_name",
            "points": [[times[0], "running"], [times[-2], "stopped by itself"]],
        },
        {"signal": "jam", "points": [[times[0], False], [times[-3], True]]},
    ]
    evidence = {"from_ms": times[0], "to_ms": times[-1], "signals": signals, "readings": readings}
    return {"uid": uid, "part": part, "evidence": evidence | {"reads": {"status": "function 3, 100 to 109"}}}


@pytest.mark.parametrize("scripts", [True, False])
@pytest.mark.parametrize("size", [HANDHELD, NARROW, DESK], ids=["handheld", "narrow", "desk"])
def test_a_ticket_shows_what_was_recorded_as_a_chart_and_a_list(
    browser: Browser, collector: CollectorProgram, gateway: SpeakingGateway, size: ViewportSize, scripts: bool
) -> None:
    ticket = gateway.voice.raises(gateway.minute, "drive-4", title="Motor draws too much")
    gateway.sync()
    gateway.tell_evidence(recorded(ticket, "before"), recorded(ticket, "after"))
    for page in opened(browser.new_context(viewport=size, java_script_enabled=scripts)):
        log_in(page, collector, "/m")
        for path in (f"/t/{ticket}", f"/m/t/{ticket}"):
            page.goto(collector.url + path)
            # With scripts it is exchanged once, soon after it was loaded.
            section = page.locator("#equipment[data-was]" if scripts else "#equipment")
            expect(section.locator(".r-track .r-line")).to_have_count(1)
            for plot in section.locator(".r-plot").all():
                box = plot.bounding_box()
                assert box is not None
                assert box["width"] > 200
                assert box["x"] + box["width"] <= size["width"]
            expect(section.locator(".r-here")).to_be_visible()
            expect(section.locator(".r-list").get_by_text("at the raise")).to_be_visible()
            expect(section.get_by_role("table")).to_be_hidden()
            section.get_by_text("The same as a table").click()
            expect(section.get_by_role("table")).to_be_visible()
            expect(section.get_by_role("row", name="−40.0 s motor_current not readable")).to_be_visible()
            section.get_by_text("earlier readings").click()
            expect(section.locator(".r-trouble").first).to_be_visible()
            if scripts:
                width = page.evaluate("document.documentElement.scrollWidth")
                assert width <= size["width"], path


def test_what_came_after_appears_on_an_open_page_and_what_was_opened_stays_open(
    page: Page, collector: CollectorProgram, gateway: SpeakingGateway
) -> None:
    ticket = gateway.voice.raises(gateway.minute, "drive-4", title="Motor draws too much")
    gateway.sync()
    gateway.tell_evidence(recorded(ticket, "before"))
    log_in(page, collector, "/m")
    page.wait_for_url("**/m")
    page.goto(f"{collector.url}/m/t/{ticket}")
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    expect(page.locator("#equipment[data-was]")).to_be_visible()
    page.get_by_text("The same as a table").click()
    expect(page.get_by_text("+1.0 s")).to_have_count(0)
    gateway.tell_evidence(recorded(ticket, "after"))
    expect(page.locator(".r-list").get_by_text("+1.0 s")).to_be_visible()
    expect(page.locator("#equipment").get_by_role("table")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_from_their_ground_in_light_and_in_dark(
    browser: Browser, collector: CollectorProgram, gateway: SpeakingGateway, scheme: str
) -> None:
    now = gateway.minute
    ticket = gateway.voice.raises(now - 5, "printer-7", title="Labels are used up")
    gateway.voice.raises(now - 4, "printer-7", "head-open", severity=20)
    gateway.voice.raises(now - 3, "printer-7", "head-wear", severity=10)
    over = gateway.voice.raises(now - 9, "printer-8", "jam", severity=20)
    gateway.sync()
    gateway.voice.clears(over, now - 8)
    gateway.sync()
    gateway.tell_evidence(recorded(ticket, "before"), recorded(ticket, "after"))
    context = browser.new_context(viewport=DESK, color_scheme="dark" if scheme == "dark" else "light")
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    log_in(page, collector, "/m", "lea")
    for path in ("/m", "/", f"/t/{ticket}", f"/m/t/{ticket}", "/devices", "/gateways", "/downtime"):
        page.goto(collector.url + path)
        assert page.evaluate(FAINT_TEXTS) == [], path
    context.close()


# WCAG 2, 1.4.3: 4.5:1, or 3:1 for large text. Grounds are found upwards; none here is half transparent.
FAINT_TEXTS = """() => {
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if (!/, 0\\)$|transparent/.test(colour)) return colour;
    }
    return getComputedStyle(document.body).backgroundColor;
  };
  const faint = [];
  for (const element of document.querySelectorAll("body *:not(svg, svg *, script, noscript, option)")) {
    const words = [...element.childNodes].filter((node) => node.nodeType === 3 && node.textContent.trim());
    if (!words.length || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const [bright, dark] = [light(style.color), light(ground(element))].sort((a, b) => b - a);
    const ratio = (bright + 0.05) / (dark + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) faint.push(`${ratio.toFixed(2)} ${words[0].textContent.trim()}`);
  }
  for (const field of document.querySelectorAll("[placeholder]")) {
    const style = getComputedStyle(field, "::placeholder");
    const [bright, dark] = [light(style.color), light(ground(field))].sort((a, b) => b - a);
    const ratio = (bright + 0.05) / (dark + 0.05);
    if (ratio < 4.5 || style.opacity < 1) faint.push(`${ratio.toFixed(2)} ${field.placeholder}`);
  }
  return faint;
}"""


def test_what_a_dark_desk_prints_is_dark_on_white(
    browser: Browser, collector: CollectorProgram, gateway: SpeakingGateway
) -> None:
    for page in opened(browser.new_context(viewport=DESK, color_scheme="dark")):
        log_in(page, collector, "/")
        expect(page.get_by_text("Nothing is broken")).to_be_visible()
        page.emulate_media(media="print")
        colours = page.evaluate(
            "['strong', '.empty'].map(one => getComputedStyle(document.querySelector(one)).color)"
        )
        assert colours == ["rgb(18, 22, 28)", "rgb(74, 83, 97)"]


# Of A4 between margins of a centimetre, in the 96th parts of an inch that CSS calls pixels.
@pytest.mark.parametrize("across", [718, 1046])
def test_a_printed_list_is_a_table_without_buttons_and_no_wider_than_the_sheet(
    browser: Browser, collector: CollectorProgram, gateway: SpeakingGateway, across: int
) -> None:
    gateway.voice.watches("printer-of-the-second-packing-line-7")
    gateway.voice.raises(gateway.minute, "printer-of-the-second-packing-line-7", title="Labels are used up")
    gateway.sync()
    for page in opened(browser.new_context(viewport={"width": across, "height": 1000})):
        for path in ("/", "/m"):
            log_in(page, collector, path) if path == "/" else page.goto(collector.url + path)
            expect(page.get_by_role("button", name="Acknowledge").first).to_be_visible()
            page.emulate_media(media="print")
            expect(page.get_by_role("link", name="Labels are used up")).to_be_visible()
            expect(page.get_by_role("button")).to_have_count(0)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            # What a sheet hides does not make the page wider.
            ends = page.evaluate(
                "[...document.querySelectorAll('table')].map(one => one.getBoundingClientRect().right)"
            )
            assert all(end < across for end in ends)
            # How long ago something was, paper cannot say.
            ages = page.evaluate(
                """[...document.querySelectorAll('time[data-show="age"]')].map(one => [
                    getComputedStyle(one).fontSize, getComputedStyle(one, '::after').content, one.title])"""
            )
            assert ages
            for size, printed, exact in ages:
                assert (size, printed) == ("0px", f'"{exact}"')
                assert re.search(r"\d:\d\d:\d\d", exact)
            if path == "/":
                for name in ("State", "No.", "Site", "Lasted"):
                    expect(page.get_by_role("columnheader", name=name, exact=True)).to_be_visible()
                assert page.evaluate(
                    "getComputedStyle(document.querySelector('table.rows tbody')).display"
                ) == ("table-row-group")
            page.emulate_media(media="screen")


def test_a_button_in_a_list_names_its_device_and_a_list_of_devices_keeps_the_focus(
    page: Page, collector: CollectorProgram, gateway: SpeakingGateway
) -> None:
    gateway.voice.watches("printer-7", "printer-8")
    for name in ("printer-7", "printer-8"):
        gateway.voice.raises(gateway.minute, name, title="Labels are used up")
    gateway.sync()
    log_in(page, collector, "/m")
    for path in ("/m", "/"):
        page.goto(collector.url + path)
        for name in ("printer-7", "printer-8"):
            button = page.get_by_role("button", name=f"Acknowledge Labels are used up, {name}", exact=True)
            expect(button).to_have_count(1)
    page.goto(f"{collector.url}/devices")
    expect(page.locator("#devices[data-was]")).to_be_visible()
    for link in ("printer-8", "1 open"):
        page.get_by_role("link", name=link).last.focus()
        gateway.voice.raises(gateway.minute, "printer-7", link.replace(" ", "-"))
        gateway.sync()
        expect(page.get_by_text(f"{2 if link == 'printer-8' else 3} open")).to_be_visible()
        expect(page.get_by_role("link", name=link).last).to_be_focused()


def test_the_days_of_a_week_do_not_run_into_each_other_on_a_handheld(
    page: Page, collector: CollectorProgram, gateway: SpeakingGateway
) -> None:
    log_in(page, collector, "/downtime")
    page.get_by_role("link", name="7 days").click()
    boxes = page.evaluate(
        """[...document.querySelectorAll(".axis text")].filter(one => one.getClientRects().length)
          .map(one => one.getBoundingClientRect()).map(box => [box.left, box.right])"""
    )
    assert len(boxes) > 2
    assert all(left[1] + 4 <= right[0] for left, right in pairwise(boxes))


def test_sums_of_downtime_show_names_whole_and_print_without_what_only_a_screen_can_use(
    browser: Browser, collector: CollectorProgram, gateway: SpeakingGateway
) -> None:
    gateway.voice.raises(gateway.minute, "printer-7", title="Labels are used up")
    gateway.sync()
    for page in opened(browser.new_context(viewport=SMALL_DESK)):
        log_in(page, collector, "/devices/north/printer-7", name="lea")
        page.get_by_label("Take it out of service: why").fill("New print head")
        page.get_by_role("button", name="Out of service").click()
        expect(page.locator("#state")).to_contain_text("New print head (lea)")
        # All the columns that there can be, beside each other and one below the other.
        page.goto(f"{collector.url}/downtime")
        for width in (1440, SMALL_DESK["width"], 1000, 800):
            page.set_viewport_size({"width": width, "height": 800})
            lines = page.evaluate(
                """[...document.querySelectorAll(".sums tbody th")].map((one) => {
                  const text = document.createRange();
                  text.selectNode(one.firstChild);
                  return text.getClientRects().length;
                })"""
            )
            assert lines == [1, 1], width
            hidden = page.evaluate(
                "[...document.querySelectorAll('.table-wrap')].some(one => one.scrollWidth > one.clientWidth)"
            )
            assert not hidden, width
        # As wide as a figure gets.
        page.evaluate(
            "document.querySelectorAll('.totals dd').forEach(one => one.firstChild.data = '23 h 59 min')"
        )
        for width in (SMALL_DESK["width"], 718, 360):
            page.set_viewport_size({"width": width, "height": 800})
            over = page.evaluate(
                "[...document.querySelectorAll('.totals dd')].some(one => one.scrollWidth > one.clientWidth)"
            )
            assert not over, width
        page.emulate_media(media="print")
        expect(page.get_by_role("link", name="Last hour")).to_be_hidden()
        expect(page.get_by_text(re.compile(r"^north, .* to ")).first).to_be_visible()


def test_a_text_that_is_read_from_the_right_ends_on_the_left(
    page: Page, collector: CollectorProgram, gateway: SpeakingGateway
) -> None:
    arabic = "\u0627\u0646\u062a\u0647\u0649 \u0627\u0644\u0648\u0631\u0642."
    ticket = gateway.voice.raises(gateway.minute, "printer-7", title=arabic, advice=arabic)
    gateway.sync()
    log_in(page, collector, f"/m/t/{ticket}")
    page.get_by_label("Note for those who come after").fill(arabic)
    page.get_by_role("button", name="Add note").click()
    expect(page.locator(".note")).to_be_visible()
    for path, what in ((f"/m/t/{ticket}", "h1, .advice, .note"), ("/m", "h3 a"), ("/", "a.row")):
        page.goto(collector.url + path)
        directions = page.evaluate(
            "what => [...document.querySelectorAll(what)].map(one => getComputedStyle(one).direction)", what
        )
        assert set(directions) == {"rtl"}, path


@pytest.mark.parametrize("size", [NARROW, DESK], ids=["phone", "desk"])
def test_an_unplugged_adapter_is_one_card_that_names_what_hangs_on_it(
    browser: Browser, collector: CollectorProgram, gateway: SpeakingGateway, size: ViewportSize
) -> None:
    scanners = [f"scanner-{number}" for number in range(1, 4)]
    gateway.voice.watches(*scanners, place="outbound/line-2/pack-4")
    lost = {"component": "link", "severity": 20, "title": "Device cannot be read"}
    bus = gateway.voice.raises(
        gateway.minute,
        "gw1",
        "unreachable",
        component="line-3",
        severity=20,
        title="Bus line-3 cannot be reached (3 devices)",
        evidence={"why": ["port /dev/ttyUSB0 is not there: unplugged?"], "devices": scanners},
    )
    for name in scanners:
        gateway.voice.raises(gateway.minute, name, "unreachable", because=bus, **lost)
    gateway.sync()
    on_phone = size is NARROW
    for page in opened(browser.new_context(viewport=size)):
        log_in(page, collector, "/m" if on_phone else "/")
        one = page.get_by_role("link", name="Bus line-3 cannot be reached (3 devices)")
        expect(one).to_be_visible()
        expect(page.get_by_text("Device cannot be read")).to_have_count(0)
        one.click()
        explained = page.locator("#explains")
        expect(explained.get_by_role("link")).to_have_count(3)
        heights = page.evaluate(
            "[...document.querySelectorAll('#explains a')].map(one => one.getBoundingClientRect().height)"
        )
        assert min(heights) >= LEAST_TARGET_PX
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        explained.get_by_role("link", name="scanner-2").click()
        expect(page.locator("#state")).to_contain_text("Explained")
        page.locator("#state").get_by_role("link", name="Bus line-3").click()
        expect(page.locator("h1")).to_contain_text("Bus line-3")


def test_an_open_page_of_a_device_says_what_it_is_now_and_keeps_what_is_typed(
    browser: Browser, page: Page, collector: CollectorProgram, gateway: SpeakingGateway
) -> None:
    """Another lead brings it back while this one types a longer reason."""
    log_in(page, collector, "/devices", name="lea")
    page.get_by_role("link", name="printer-7").click()
    page.get_by_label("Take it out of service: why").fill("New head")
    page.get_by_label("For how long").select_option("4 hours")
    page.get_by_role("button", name="Out of service").click()
    expect(page.get_by_text("Nobody is called.", exact=False).first).to_be_visible()
    expect(page.locator("#state[data-was]")).to_be_visible()
    expect(page.locator(".said")).to_contain_text("The device was taken out of service.")
    page.get_by_label("Another reason or end").fill("New head and new belt")
    page.get_by_label("For how long").select_option("8 hours")
    for other in opened(browser.new_context(viewport=HANDHELD)):
        log_in(other, collector, "/devices", name="lea")
        other.get_by_role("link", name="printer-7").click()
        other.get_by_role("button", name="Back in service").click()
        expect(other.get_by_text("The device is back in service.")).to_be_visible()
    expect(page.locator("#state")).to_contain_text("No fault")
    expect(page.get_by_text("Nobody is called")).to_have_count(0)
    expect(page.get_by_role("button", name="Back in service")).to_have_count(0)
    expect(page.locator("#earlier")).to_contain_text("New head")
    expect(page.get_by_label("Take it out of service: why")).to_have_value("New head and new belt")
    page.get_by_role("button", name="Out of service").click()
    expect(page.locator("#state")).to_contain_text("New head and new belt (lea)")


@pytest.mark.parametrize("size", [NARROW, DESK], ids=["phone", "desk"])
def test_a_lead_takes_a_printer_out_of_service_and_brings_it_back(
    browser: Browser, collector: CollectorProgram, gateway: SpeakingGateway, size: ViewportSize
) -> None:
    gateway.voice.raises(gateway.minute, "printer-7", title="Labels are used up")
    gateway.sync()
    for page in opened(browser.new_context(viewport=size)):
        log_in(page, collector, "/devices", name="lea")
        page.get_by_role("link", name="printer-7").click()
        expect(page.locator("#tickets")).to_contain_text("Labels are used up")
        page.get_by_label("Take it out of service: why").fill("New print head")
        page.get_by_label("For how long").select_option("4 hours")
        page.get_by_role("button", name="Out of service").click()
        expect(page.locator("#state")).to_contain_text("New print head (lea)")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        page.locator("#tickets").get_by_role("link").click()
        expect(page.locator("#state")).to_contain_text("Out of service since")
        page.goto(f"{collector.url}/m")
        expect(page.get_by_text("Nothing is broken")).to_be_visible()
        page.goto(f"{collector.url}/downtime?hours=1")
        page.goto(f"{collector.url}/devices")
        page.get_by_role("link", name="printer-7").click()
        page.get_by_role("button", name="Back in service").click()
        expect(page.get_by_text("The device is back in service.")).to_be_visible()
        page.goto(f"{collector.url}/m")
        expect(page.get_by_role("link", name="Labels are used up")).to_be_visible()
