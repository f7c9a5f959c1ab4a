from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx
import pytest
from rigs.web import PASSWORD, PASSWORD_HASH, ROOT, House, csrf_in, house

from collector import admin, auth, browsers, passwords
from collector.guard import MAX_COOKIE_BYTES
from collector.pages.login import safe_path
from collector.passwords import Passwords, TooManyTriesError
from collector.store import Store, people, tables
from collector.tickets import Role


@pytest.fixture
async def home(tmp_path: Path, store: Store) -> AsyncIterator[House]:
    async with house(tmp_path, store, session_idle_minutes=30, session_max_hours=2) as made:
        made.add_cast()
        yield made


async def attempt(client: httpx.AsyncClient, name: str, password: str, **fields: str) -> httpx.Response:
    form = await client.get("/login")
    return await client.post(
        "/login", data={"csrf": csrf_in(form.text), "name": name, "password": password} | fields
    )


async def test_a_person_logs_in_works_and_logs_out(home: House) -> None:
    client = home.client()
    assert (await client.get("/m")).headers["location"] == "/login?next=%2Fm"
    answer = await attempt(client, "bob", PASSWORD, next="/m")
    assert (answer.status_code, answer.headers["location"]) == (303, "/m")
    cookie = next(line for line in answer.headers.get_list("set-cookie") if auth.SESSION_COOKIE in line)
    assert all(word in cookie for word in ("HttpOnly", "SameSite=lax", "Path=/"))
    browser = next(line for line in answer.headers.get_list("set-cookie") if auth.BROWSER_COOKIE in line)
    assert all(word in browser for word in ("HttpOnly", "SameSite=strict", "Path=/login"))
    page = await client.get("/m")
    assert page.status_code == 200
    kept = client.cookies[auth.SESSION_COOKIE]
    assert (await client.post("/logout", data={"csrf": csrf_in(page.text)})).headers["location"] == "/login"
    client.cookies.set(auth.SESSION_COOKIE, kept)
    assert (await client.get("/m")).status_code == 303, (
        "the session is gone at the server, not only in the browser"
    )


async def test_the_store_knows_sessions_and_passwords_only_as_hashes(home: House) -> None:
    client = await home.log_in("bob")
    cookie = client.cookies[auth.SESSION_COOKIE]

    def everything(connection: object) -> str:
        found = [connection.execute(table.select()).all() for table in tables.metadata.sorted_tables]  # type: ignore[attr-defined]
        return repr(found)

    stored = home.store.read(everything)
    assert auth.sha256(cookie) in stored
    assert cookie not in stored
    assert PASSWORD not in stored


@pytest.mark.parametrize(
    ("name", "password"), [("bob", "wrong"), ("nobody", PASSWORD), ("", ""), ("bob", "")]
)
async def test_a_wrong_name_and_a_wrong_password_look_the_same(home: House, name: str, password: str) -> None:
    answer = await attempt(home.client(), name, password)
    assert answer.status_code == 403
    assert "Name or password is wrong." in answer.text


async def test_a_form_of_thousands_of_fields_is_refused_before_it_is_read(home: House) -> None:
    answer = await attempt(home.client(), "bob", PASSWORD, **{f"x{number}": "" for number in range(64)})
    assert answer.status_code == 400
    assert "A form has at most 64 fields." in answer.text


async def test_a_form_that_lay_overnight_takes_the_password_of_the_morning(home: House) -> None:
    client = home.client()
    form = await client.get("/login")
    assert "max-age" not in form.headers["set-cookie"].lower(), "the browser keeps it while it is open"
    home.clock.forward(minutes=12 * 60)
    data = {"csrf": csrf_in(form.text), "name": "bob", "password": PASSWORD}
    assert (await client.post("/login", data=data)).status_code == 303


async def test_a_second_tab_with_the_form_logs_in_as_well(home: House) -> None:
    client = home.client()
    token = csrf_in((await client.get("/login")).text)
    cookie = client.cookies[auth.FORM_COOKIE]
    data = {"csrf": token, "name": "bob", "password": PASSWORD}
    assert (await client.post("/login", data=data)).status_code == 303
    client.cookies.set(auth.FORM_COOKIE, cookie)
    assert (await client.post("/login", data=data | {"name": "alice"})).status_code == 303
    assert (await client.get("/api/v1/me")).json()["name"] == "alice"


async def test_a_form_that_is_no_longer_good_is_given_anew_with_what_was_typed(home: House) -> None:
    client = home.client()
    data = {"csrf": "0" * 64, "name": "bob", "password": PASSWORD, "next": "/m/t/5"}
    answer = await client.post("/login", data=data)
    assert (answer.status_code, "no longer good" in answer.text) == (403, True)
    assert 'value="bob"' in answer.text
    assert PASSWORD not in answer.text
    again = data | {"csrf": csrf_in(answer.text)}
    assert (await client.post("/login", data=again)).headers["location"] == "/m/t/5"


async def test_a_command_after_the_end_of_the_session_leads_back_to_its_ticket(home: House) -> None:
    ticket = await home.ticket()
    client = await home.log_in("bob")
    csrf = csrf_in((await client.get("/m")).text)
    home.clock.forward(minutes=31)
    answer = await client.post(f"/m/t/{ticket}/start", data={"csrf": csrf})
    assert answer.headers["location"] == f"/login?next=%2Fm%2Ft%2F{ticket}"


async def test_the_log_in_form_itself_cannot_be_forged(home: House) -> None:
    client = home.client()
    for data in (
        {"name": "bob", "password": PASSWORD},
        {"name": "bob", "password": PASSWORD, "csrf": "0" * 64},
    ):
        assert (await client.post("/login", data=data)).status_code == 403


async def test_a_session_ends_when_nobody_uses_it_and_at_its_last_hour(home: House) -> None:
    client = await home.log_in("bob")
    for _ in range(3):
        home.clock.forward(minutes=25)
        assert (await client.get("/m")).status_code == 200
    home.clock.forward(minutes=31)
    assert (await client.get("/m")).status_code == 303
    busy = await home.log_in("bob")
    for _ in range(4):
        home.clock.forward(minutes=29)
        assert (await busy.get("/m")).status_code == 200
    home.clock.forward(minutes=10)
    assert (await busy.get("/m")).status_code == 303


async def test_what_a_page_fetches_by_itself_keeps_no_session_alive(home: House) -> None:
    client = await home.log_in("bob")
    for _ in range(2):
        home.clock.forward(minutes=14)
        assert (await client.get("/m", headers={"X-Live": "1"})).status_code == 200
    home.clock.forward(minutes=14)
    assert (await client.get("/m", headers={"X-Live": "1"})).status_code == 303


async def test_a_new_password_ends_open_sessions_and_a_new_role_counts_at_once(home: House) -> None:
    client = await home.log_in("bob")
    order = admin.AddPerson(
        name="bob",
        role=Role.INSTALLER,
        sites=["south"],
        password_hash=passwords.hash_password("another password"),
    )
    home.order(order)
    assert (await client.get("/m")).status_code == 303
    assert (await attempt(home.client(), "bob", PASSWORD)).status_code == 403


async def test_who_is_disabled_is_out_at_once_until_somebody_enables_him(home: House) -> None:
    client = await home.log_in("bob")
    home.order(admin.DisablePerson(name="bob"))
    assert (await client.get("/m")).status_code == 303
    assert (await attempt(home.client(), "bob", PASSWORD)).status_code == 403
    known = home.order(
        admin.AddPerson(name="bob", role=Role.TECHNICIAN, sites=["north"], password_hash=PASSWORD_HASH)
    )
    assert (known["new"], known["disabled"]) == (False, True), "a new password lets nobody in"
    assert (await attempt(home.client(), "bob", PASSWORD)).status_code == 403
    home.order(admin.EnablePerson(name="bob"))
    assert (await client.get("/m")).status_code == 303, "what was open stays shut"
    assert (await attempt(home.client(), "bob", PASSWORD)).status_code == 303
    for order in (admin.EnablePerson(name="bob"), admin.DisablePerson(name="nobody")):
        with pytest.raises(admin.OrderError, match="there is no user"):
            home.order(order)
    audit = home.store.read(lambda connection: connection.execute(tables.audit.select()).all())
    told = [(line.action, line.object, line.site) for line in audit if line.actor == admin.OPERATOR]
    assert told[-3:] == [
        ("user disabled", "bob", "north"),
        ("user changed", "bob", "north"),
        ("user enabled", "bob", "north"),
    ]


async def test_five_wrong_passwords_and_the_door_is_shut_for_that_account_and_address(home: House) -> None:
    client = home.client()
    for _ in range(5):
        assert (await attempt(client, "bob", "wrong")).status_code == 403
    shut = await attempt(client, "bob", PASSWORD)
    assert shut.status_code == 429
    assert int(shut.headers["retry-after"]) > 0
    assert (await attempt(home.client(), "alice", PASSWORD)).status_code == 303, (
        "another person at the same address"
    )
    home.clock.forward(minutes=6)
    assert (await attempt(client, "bob", PASSWORD)).status_code == 303


async def test_ten_thousand_guesses_cost_at_most_twenty_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    monkeypatch.setattr(passwords, "_verify", lambda _stored, password: bool(hashed.append(password)))
    door = Passwords(tries=5, window_s=300, monotonic_s=lambda: 0.0)
    refused = 0
    for number in range(10_000):
        try:
            await door.verify(
                account=f"person-{number % 50}", address="10.0.0.1", stored=None, password=str(number)
            )
        except TooManyTriesError:
            refused += 1
    assert len(hashed) <= 20
    assert refused == 10_000 - len(hashed)


@pytest.mark.parametrize(
    "address", ["2001:db8:0:{0:x}::1", "2001:db8:{0:x}::1", "10.1.{1}.{2}", "{0:x}.botnet"], ids=str
)
async def test_ten_thousand_guesses_at_one_account_from_as_many_networks_cost_at_most_twenty_hashes(
    address: str,
) -> None:
    door = Passwords(tries=5, window_s=300, monotonic_s=lambda: 0.0)
    addresses = [address.format(number, number // 256, number % 256) for number in range(10_000)]
    assert await tries_until_shut(door, ["bob"] * len(addresses), addresses) == 20


async def test_a_guesser_with_all_of_an_ipv6_site_has_four_times_what_one_network_has() -> None:
    door = Passwords(tries=5, window_s=300, monotonic_s=lambda: 0.0)
    addresses = [f"2001:db8:0:{number:x}::1" for number in range(1_000)]
    accounts = [f"person-{number}" for number in range(len(addresses))]
    assert await tries_until_shut(door, accounts, addresses) == 80


async def test_guesses_at_an_account_from_everywhere_do_not_shut_its_owner_out(home: House) -> None:
    owner = await home.log_in("bob")
    refused = await attempt(home.client(), "bob", "wrong")
    assert auth.BROWSER_COOKIE not in refused.cookies
    await guess_from_everywhere(home, "bob")
    assert (await attempt(home.client(), "bob", PASSWORD)).status_code == 429
    assert (await owner.get("/m")).status_code == 200, "who is logged in stays so"
    assert (await attempt(next_morning(owner), "bob", PASSWORD)).status_code == 303
    assert (await attempt(home.client(), "bob", "wrong")).status_code == 429, "that forgave no guess"
    home.clock.forward(minutes=6)
    assert (await attempt(home.client(), "bob", PASSWORD)).status_code == 303


async def test_a_browser_that_knows_a_person_has_five_tries_for_that_person_alone(home: House) -> None:
    handheld = next_morning(await home.log_in("bob"))
    for name in ("bob", "alice"):
        await guess_from_everywhere(home, name)
    assert (await attempt(handheld, "alice", PASSWORD)).status_code == 429
    for _ in range(5):
        assert (await attempt(handheld, "bob", "wrong")).status_code == 403
    assert (await attempt(handheld, "bob", PASSWORD)).status_code == 429


async def test_a_handheld_that_is_shared_knows_those_who_used_it(home: House) -> None:
    handheld = home.client()
    for name in ("alice", "bob", "dave"):
        assert (await attempt(handheld, name, PASSWORD)).status_code == 303
        next_morning(handheld)
    for name in ("alice", "bob", "dave", "carol"):
        await guess_from_everywhere(home, name)
        status = (await attempt(handheld, name, PASSWORD)).status_code
        assert status == (429 if name == "carol" else 303), name
        next_morning(handheld)


async def test_a_new_password_makes_every_browser_a_stranger(home: House) -> None:
    owner = await home.log_in("bob")
    changed = passwords.hash_password("another password")
    home.order(admin.AddPerson(name="bob", role=Role.TECHNICIAN, sites=["north"], password_hash=changed))
    await guess_from_everywhere(home, "bob")
    assert (await attempt(next_morning(owner), "bob", "another password")).status_code == 429


def test_a_browser_remembers_those_who_were_there_last_in_a_cookie_of_bounded_length() -> None:
    browser = browsers.read("")
    for number in range(100):
        browser = browsers.read(browser.met(f"person-{number}", "stored").cookie)
    assert [browser.knows(f"person-{number}", "stored") for number in (87, 88, 99)] == [False, True, True]
    assert not browser.knows("person-99", "another")
    assert len(browser.cookie) <= MAX_COOKIE_BYTES
    assert len(browser.met("person-90", "stored").cookie) == len(browser.cookie)


@pytest.mark.parametrize("cookie", ["", "x", "0" * 16 + ".", "0" * 16 + "." + "g" * 16, "é" * 16])
def test_a_cookie_that_nobody_gave_out_is_that_of_a_new_browser(cookie: str) -> None:
    assert browsers.read(cookie).id != browsers.read(cookie).id
    assert not browsers.read(cookie).knows("bob", "stored")


def next_morning(client: httpx.AsyncClient) -> httpx.AsyncClient:
    """The session is over, the browser the same."""
    if auth.SESSION_COOKIE in client.cookies:
        client.cookies.delete(auth.SESSION_COOKIE)
    return client


async def guess_from_everywhere(home: House, name: str) -> None:
    """Until nobody can guess any more, wherever from."""
    for number in range(100):
        transport = httpx.ASGITransport(home.app, client=(f"2001:db8:{number:x}::1", 40_000))
        async with httpx.AsyncClient(transport=transport, base_url=ROOT) as stranger:
            if (await attempt(stranger, name, "guess")).status_code == 429:
                return
    raise AssertionError("it never ended")


async def test_an_empty_name_first_does_not_lift_the_limit_of_the_address() -> None:
    door = Passwords(tries=5, window_s=300, monotonic_s=lambda: 0.0)
    assert await tries_until_shut(door, ["", *(f"person-{number}" for number in range(40))]) == 20


@pytest.mark.parametrize(
    ("addresses", "how_many"),
    [
        ([f"2001:db8:0:1::{number:x}" for number in range(40)], 20),
        ([f"2001:db8:0:{number:x}::1" for number in range(40)], 40),
        ([f"::ffff:10.0.0.{number % 2}" for number in range(60)], 40),
        ([f"10.0.0.1:{40_000 + number}" for number in range(60)], 20),
        ([f"[2001:db8:0:1::{number:x}]:{40_000 + number}" for number in range(60)], 20),
    ],
)
async def test_addresses_of_one_network_are_one_guesser(addresses: list[str], how_many: int) -> None:
    door = Passwords(tries=5, window_s=300, monotonic_s=lambda: 0.0)
    accounts = [f"person-{number}" for number in range(len(addresses))]
    assert await tries_until_shut(door, accounts, addresses) == how_many


async def tries_until_shut(
    door: Passwords, accounts: Sequence[str], addresses: Sequence[str] | None = None
) -> int:
    """How many of these were hashed."""
    done = 0
    for account, address in zip(accounts, addresses or ["10.0.0.1"] * len(accounts), strict=True):
        with contextlib.suppress(TooManyTriesError):
            await door.verify(account=account, address=address, stored=None, password="x")
            done += 1
    return done


async def test_a_name_with_a_nul_in_it_is_refused_before_the_database_sees_it(home: House) -> None:
    for content in ("name=%00&password=x", "name=\0&password=x"):
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = await home.client().post("/login", content=content, headers=headers)
        assert answer.status_code == 400


def test_only_a_path_of_this_collector_is_followed_after_log_in() -> None:
    assert safe_path("/m/t/5?x=1") == "/m/t/5?x=1"
    for path in (
        "",
        "https://evil.test",
        "//evil.test",
        "/\\evil.test",
        "/a\\b",
        "/login",
        "/\n/x",
        "/" + "a" * 600,
    ):
        assert safe_path(path) == "/"


async def test_logging_in_is_in_the_audit(home: House) -> None:
    await home.log_in("bob")
    rows = home.store.read(lambda connection: connection.execute(tables.audit.select()).all())
    assert ("bob", "logged in") in [(row.actor, row.action) for row in rows]
    assert home.store.read(lambda connection: people.person(connection, "bob")) is not None
