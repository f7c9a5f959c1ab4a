"""Promise 9: nobody reads or writes outside their gateway, site or role. Every route, every role, the
other site."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from rigs.web import CAST, House, csrf_in, house

from collector import admin, auth
from collector.app import UnruledRouteError, assemble, build, routes
from collector.auth import ROUTES, Rule, Table, Who
from collector.shield import HEADERS
from collector.store import Store, tables
from collector.tickets import Role

NOWHERE = "0" * 32
FORM = {"text": "looked at it", "version": "1", "back": "/m"}
BODIES = {"note": {"text": "x"}, "assign": {"assignee": "bob"}}


@dataclass
class Stage:
    """A collector with the cast and one ticket at each site."""

    home: House
    north: str
    south: str

    async def client(self, name: str) -> tuple[httpx.AsyncClient, str]:
        """A client of that name, and its CSRF token."""
        if name == "nobody":
            return self.home.client(), ""
        if name == "token":
            token = self.home.add_token()
            return self.home.client(Authorization=f"Bearer {token}"), ""
        client = await self.home.log_in(name)
        return client, auth.csrf_of(client.cookies[auth.SESSION_COOKIE])


@pytest.fixture
async def stage(tmp_path: Path, store: Store) -> AsyncIterator[Stage]:
    async with house(tmp_path, store) as home:
        home.add_cast()
        yield Stage(home=home, north=await home.ticket(site="north"), south=await home.ticket(site="south"))


def role_of(name: str) -> Role | None:
    if name == "token":
        return Role.READ
    return CAST[name][0] if name in CAST else None


async def knock(client: httpx.AsyncClient, rule: Rule, ticket: str, csrf: str) -> httpx.Response:
    path = rule.path.replace("{ticket}", ticket).replace("{path:path}", "andon.css")
    if rule.path == "/api/v1/downtime":
        path += "?site=north&from=2026-01-05T00:00:00Z&to=2026-01-05T01:00:00Z"
    if rule.method == "GET":
        return await client.get(path)
    if rule.page:
        return await client.post(path, data=FORM | {"csrf": csrf})
    return await client.post(
        path,
        json=BODIES.get(path.rpartition("/")[2], {}),
        headers={"X-CSRF-Token": csrf, "If-Match": '"1"'},
    )


# An open stream answers only when something happens; tests/browser listens to it.
WALKED = [rule for rule in ROUTES if rule.path != "/live" and rule.path not in ("/login", "/logout")]


@pytest.mark.parametrize("name", [*CAST, "token", "nobody"])
async def test_every_route_lets_in_the_roles_of_the_table_and_nobody_else(stage: Stage, name: str) -> None:
    client, csrf = await stage.client(name)
    role = role_of(name)
    for rule in WALKED:
        answer = await knock(client, rule, NOWHERE, csrf)
        let_in = rule.who is Who.ANYONE or (isinstance(rule.who, frozenset) and role in rule.who)
        if name == "token":
            let_in = let_in and (rule.takes_tokens or rule.who is Who.ANYONE)
        at_the_door = answer.status_code in (401, 403) or answer.headers.get("location", "").startswith(
            "/login"
        )
        if rule.path == "/api/v1/enroll":
            assert answer.status_code == 422, "its body is the proof, and there was none"
        else:
            assert at_the_door is not let_in, (
                f"{name} {rule.method} {rule.path}: {answer.status_code} {answer.text}"
            )


@pytest.mark.parametrize("name", ["alice", "bob", "dave", "token"])
async def test_the_other_site_is_not_there_for_those_who_do_not_have_it(stage: Stage, name: str) -> None:
    theirs = await stage.home.log_in("erin")
    before = (await theirs.get(f"/api/v1/tickets/{stage.south}")).json()
    client, csrf = await stage.client(name)
    for rule in WALKED:
        if "{ticket}" not in rule.path:
            continue
        answer = await knock(client, rule, stage.south, csrf)
        assert answer.status_code in (401, 403, 404) or answer.headers.get("location", "").startswith(
            "/login"
        )
        assert "printer-1" not in answer.text
    for path in ("/api/v1/tickets", "/api/v1/devices", "/api/v1/gateways"):
        for narrowed in (path, f"{path}?site=south"):
            assert "south" not in (await client.get(narrowed)).text
    window = "from=2026-01-05T00:00:00Z&to=2026-01-05T01:00:00Z"
    assert (await client.get(f"/api/v1/downtime?site=south&{window}")).status_code == 404
    if name != "token":
        for path in ("/", "/?site=south", "/m?site=south", "/devices", "/gateways"):
            assert (
                "gw-paper-out" not in (await client.get(path)).text
                or "south</td>" not in (await client.get(path)).text
            )
        assert (await client.get("/downtime?site=south")).status_code == 404
    kept = (await theirs.get(f"/api/v1/tickets/{stage.south}")).json()
    assert (kept["version"], kept["ack"], len(kept["history"])) == (before["version"], "unacked", 1)


async def test_a_technician_of_the_site_may_do_what_carol_of_the_other_may_not(stage: Stage) -> None:
    for name, status in (("carol", 404), ("bob", 200)):
        client, csrf = await stage.client(name)
        answer = await client.post(
            f"/api/v1/tickets/{stage.north}/acknowledge", headers={"X-CSRF-Token": csrf}
        )
        assert answer.status_code == status


async def test_every_unsafe_route_refuses_a_request_without_the_token_of_its_page(stage: Stage) -> None:
    client, csrf = await stage.client("alice")
    before = (await client.get(f"/api/v1/tickets/{stage.north}")).json()
    for rule in ROUTES:
        if rule.method == "GET" or not isinstance(rule.who, frozenset):
            continue
        for wrong in ("", "0" * 64, csrf[:-1]):
            answer = await knock(client, rule, stage.north, wrong)
            assert (answer.status_code, "csrf" in answer.text or rule.page) == (403, True), rule.path
    assert (await client.get(f"/api/v1/tickets/{stage.north}")).json()["version"] == before["version"]


async def test_a_request_from_a_page_of_another_origin_is_refused_even_with_the_token(stage: Stage) -> None:
    client, csrf = await stage.client("alice")
    path = f"/api/v1/tickets/{stage.north}/acknowledge"
    for headers in ({"Origin": "https://evil.test"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = await client.post(path, headers={"X-CSRF-Token": csrf} | headers)
        assert answer.status_code == 403
    own = {"X-CSRF-Token": csrf, "Origin": "http://collector.test", "Sec-Fetch-Site": "same-origin"}
    assert (await client.post(path, headers=own)).status_code == 200


async def test_a_token_needs_no_csrf_token_and_a_read_token_may_touch_nothing(stage: Stage) -> None:
    reader, _ = await stage.client("token")
    refused = await reader.post(f"/api/v1/tickets/{stage.north}/acknowledge")
    assert refused.status_code == 403
    assert refused.json()["reason"] == "role"
    worker = stage.home.client(Authorization=f"Bearer {stage.home.add_token(role=Role.TECHNICIAN)}")
    assert (await worker.post(f"/api/v1/tickets/{stage.north}/acknowledge")).status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer atk_",
        "Bearer atk_x",
        "Bearer atk_x.",
        "Basic YTpi",
        "Bearer atk_" + "x" * 300 + ".y",
    ],
)
async def test_half_a_token_is_no_token(stage: Stage, header: str) -> None:
    client = stage.home.client(Authorization=header)
    assert (await client.get("/api/v1/tickets")).status_code == 401


async def test_a_wrong_secret_of_a_known_token_is_refused(stage: Stage) -> None:
    public = stage.home.add_token().partition(".")[0]
    client = stage.home.client(Authorization=f"Bearer {public}.{auth.new_secret()}")
    assert (await client.get("/api/v1/me")).status_code == 401


def named(token_id: str, label: str) -> admin.AddToken:
    return admin.AddToken(id=token_id, secret_sha256="0" * 64, role=Role.READ, sites=["north"], label=label)


async def test_a_token_is_revoked_by_its_id_or_label_and_refused_at_once(stage: Stage) -> None:
    home = stage.home
    tokens = [home.add_token() for _ in range(3)]
    ids = [token.removeprefix("atk_").partition(".")[0] for token in tokens]
    clients = [home.client(Authorization=f"Bearer {token}") for token in tokens]
    home.order(admin.RevokeToken(name=ids[0]))
    home.order(admin.RevokeToken(name=f"test {ids[1]}"))
    assert [(await client.get("/api/v1/me")).status_code for client in clients] == [401, 401, 200]
    with pytest.raises(admin.OrderError, match="there is no token"):
        home.order(admin.RevokeToken(name=ids[0]))
    listed = home.order(admin.ListTokens())["tokens"]
    assert isinstance(listed, list)
    assert {token["id"]: token["revoked_ms"] for token in listed} == {
        ids[0]: home.clock.now_ms(),
        ids[1]: home.clock.now_ms(),
        ids[2]: None,
    }
    audit = home.store.read(lambda connection: connection.execute(tables.audit.select()).all())
    told = [(line.object, line.site) for line in audit if line.action == "API token revoked"]
    assert told == [(ids[0], "north"), (ids[1], "north")]


async def test_no_two_good_tokens_share_a_label(stage: Stage) -> None:
    """It is who they are, and where what they may repeat is remembered."""
    home = stage.home
    home.order(named("a" * 20, "cmms"))
    with pytest.raises(admin.OrderError, match="there is a token 'cmms'"):
        home.order(named("b" * 20, "cmms"))
    home.order(admin.RevokeToken(name="cmms"))
    home.order(named("c" * 20, "cmms"))


async def test_several_tokens_of_one_label_from_before_are_revoked_together(stage: Stage) -> None:
    home = stage.home
    home.order(named("a" * 20, "cmms"))
    home.store.write(
        lambda connection: connection.execute(
            tables.api_token.insert().values(
                id="b" * 20, secret_sha256="", role="read", sites=["north"], label="cmms", created_ms=1
            )
        )
    )
    revoked = home.order(admin.RevokeToken(name="cmms"))["tokens"]
    assert isinstance(revoked, list)
    assert [token["id"] for token in revoked] == ["b" * 20, "a" * 20]


async def test_every_answer_carries_the_security_headers(stage: Stage) -> None:
    client, csrf = await stage.client("alice")
    answers = [await knock(client, rule, stage.north, csrf) for rule in WALKED]
    answers += [await knock(stage.home.client(), rule, stage.north, "") for rule in WALKED]
    answers += [await client.get("/nothing"), await client.request("DELETE", "/m"), await client.get("/%00")]
    for answer in answers:
        for name, value in HEADERS:
            assert answer.headers.get_list(name.decode()) == [value.decode()], answer.request.url
        assert "strict-transport-security" not in answer.headers
        assert "cache-control" in answer.headers


async def test_strict_transport_and_secure_cookies_come_with_https(tmp_path: Path) -> None:
    async with house(tmp_path, public_url="https://andon.example") as home:
        answer = await home.client().get("/login")
        assert "max-age=" in answer.headers["strict-transport-security"]
        assert "; Secure" in answer.headers["set-cookie"]


async def test_an_application_with_a_route_that_the_table_does_not_know_does_not_start(
    tmp_path: Path,
) -> None:
    async with house(tmp_path) as home:
        narrower = Table(tuple(rule for rule in ROUTES if rule.path != "/metrics"))
        with pytest.raises(UnruledRouteError, match="GET /metrics"):
            assemble(home.parts, narrower)


async def test_the_table_names_no_route_that_the_application_does_not_have(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        assert {(rule.method, rule.path) for rule in ROUTES} == set(routes(build(home.parts)))


async def test_a_head_is_let_in_where_a_get_is_and_nowhere_else(stage: Stage) -> None:
    client, _ = await stage.client("alice")
    stranger = stage.home.client()
    gets = {rule.path: rule for rule in WALKED if rule.method == "GET"}
    for path in {rule.path for rule in WALKED}:
        asked = path.replace("{ticket}", stage.north).replace("{path:path}", "andon.css")
        for who in (client, stranger):
            head = await who.head(asked)
            if path not in gets:
                assert (head.status_code, "HEAD" in head.headers["allow"]) == (405, False), path
                continue
            got = await who.get(asked)
            assert head.status_code == got.status_code, path
            assert head.headers.get("location") == got.headers.get("location"), path
    # That answer has no end.
    refused = await client.head("/live")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET")
    assert (await client.delete("/m")).headers["allow"] == "GET, HEAD"


async def test_the_form_of_a_page_carries_the_token_of_its_session(stage: Stage) -> None:
    client, csrf = await stage.client("bob")
    assert csrf_in((await client.get("/m")).text) == csrf
