"""Strangers, guessers, and names that lead elsewhere."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
from rigs.web import PASSWORD, House, csrf_in, house
from starlette import requests

from collector import auth, passwords
from collector import log as collector_log
from collector.guard import MAX_COOKIE_BYTES
from edge_agent import log as agent_log
from edge_agent.config import ConfigError, ProfileFolders, check_ca_file, load


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as made:
        made.add_cast()
        yield made


ELSEWHERE = [
    "../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/etc/passwd",
    "....//....//etc/passwd",
    "/etc/passwd",
    "andon.css/../../auth.py",
    "..\\..\\auth.py",
    "andon.css%00.svg",
    "%c0%ae%c0%ae/auth.py",
    ".",
    "",
]


@pytest.mark.parametrize("path", ELSEWHERE)
async def test_a_static_path_leads_nowhere_but_to_the_files_that_are_shipped(home: House, path: str) -> None:
    answer = await home.client().get(f"/static/{path}")
    assert answer.status_code in (400, 404)
    assert "root:" not in answer.text
    assert "def " not in answer.text


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "a/b", "..", "", "a\0b", "a.yaml", "A", "-x/../y"]
)
def test_a_profile_name_leads_out_of_no_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    (tmp_path / "secret.yaml").write_text("schema: 1\n")
    (folder / "a.b.yaml").write_text("schema: 1\n")
    with pytest.raises(ConfigError, match="unknown profile"):
        ProfileFolders.of(folder).load(name)


def test_a_file_name_with_a_nul_in_agent_toml_is_refused_in_words(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    for table in ('[collector]\nca_file = "a\\u0000b"\n', '[agent]\nprofiles_dir = "a\\u0000b"\n'):
        file.write_text(table)
        with pytest.raises(ConfigError, match="a\0b"):
            check_ca_file(file, load(file).collector)


async def test_guesses_leave_the_collector_awake_and_are_hashed_twenty_times_at_most(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []
    real = passwords._verify
    monkeypatch.setattr(
        passwords, "_verify", lambda stored, given: (hashed.append(given), real(stored, given))[1]
    )
    client, other = home.client(), home.client()
    token = csrf_in((await client.get("/login")).text)
    guesses = [
        asyncio.create_task(
            client.post("/login", data={"csrf": token, "name": f"person-{number % 30}", "password": "guess"})
        )
        for number in range(60)
    ]
    awake = 0
    while not all(guess.done() for guess in guesses):
        assert (await other.get("/healthz")).status_code == 200
        awake += 1
        await asyncio.sleep(0.01)
    statuses = [guess.result().status_code for guess in guesses]
    assert set(statuses) == {403, 429}
    assert len(hashed) == statuses.count(403) <= 20
    assert awake > 1, "others were answered meanwhile"


async def test_a_cookie_of_64_kib_costs_no_more_than_its_length(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Undoing its quotes takes 2.7 s (CVE-2024-7592): what reaches that is short."""
    undone: list[int] = []
    real = requests.cookie_parser
    monkeypatch.setattr(requests, "cookie_parser", lambda text: undone.append(len(text)) or real(text))
    quoted = '"' + '\\"' * 32_000 + '"'
    for cookie in (f"a={quoted}", f"{auth.SESSION_COOKIE}={quoted}", f"{auth.FORM_COOKIE}={quoted}; b=1"):
        client = home.client(Cookie=cookie)
        for path in ("/healthz", "/m", "/login", "/api/v1/me"):
            assert (await client.get(path)).status_code in (200, 303, 401)
        answer = await client.post("/login", data={"name": "bob", "password": PASSWORD, "csrf": "0"})
        assert answer.status_code == 403
    assert max(undone, default=0) <= 2 * MAX_COOKIE_BYTES
    assert (await (await home.log_in("bob")).get("/m")).status_code == 200


async def test_a_length_of_5000_digits_is_too_large_and_no_crash(home: House) -> None:
    said: list[int] = []

    async def send(message: dict[str, object]) -> None:
        if message["type"] == "http.response.start":
            said.append(int(str(message["status"])))

    async def receive() -> dict[str, object]:
        return {"type": "http.disconnect"}

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/login",
        "query_string": b"",
        "scheme": "http",
        "headers": [(b"content-length", b"9" * 5000)],
    }
    await home.app(scope, receive, send)  # type: ignore[arg-type]
    assert said == [413]


INJECTED = [
    "bob\r\n2026-01-05 [info] logged in name=admin",
    "bob\n{}",
    "\x1b]0;owned\x07\x1b[2J",
    "\u202egnp.exe",
    "\u2028next",
    "\x85next",
    "a\0b",
    '"},{"level":"info',
    "%0d%0aSet-Cookie: x=y",
]


@pytest.mark.parametrize("words", INJECTED)
@pytest.mark.parametrize("style", ["json", "text"])
@pytest.mark.parametrize("of", ["collector", "agent"])
def test_words_of_strangers_stay_in_their_line_of_the_log(
    of: str, style: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.StringIO()
    monkeypatch.setattr("sys.stderr", written)
    handlers, kept = logging.root.handlers[:], structlog.get_config()
    try:
        if of == "collector":
            collector_log.configure(style=style, level="info")
        else:
            agent_log.configure(json=style == "json")
        structlog.get_logger().info("too many tries to log in", name=words, detail=f"x {words}")
    finally:
        structlog.configure(**kept)
        logging.root.handlers[:] = handlers
    line = written.getvalue()
    assert line.endswith("\n")
    assert line[:-1].isprintable(), repr(line)
    if style == "json":
        assert json.loads(line)["name"] == words


@pytest.mark.parametrize("words", [words for words in INJECTED if "\0" not in words])
async def test_words_of_strangers_make_no_header_and_no_line_of_a_metric(home: House, words: str) -> None:
    client = home.client()
    form = await client.get("/login", params={"next": f"/m?x={words}"})
    data = {"csrf": csrf_in(form.text), "name": words, "password": words, "next": f"/m/{words}"}
    answers = [form, await client.get("/login"), await client.get("/m", params={"site": words})]
    answers += [await client.post("/login", data=data), await client.get("/metrics")]
    for answer in answers:
        assert "set-cookie: x=y" not in str(answer.headers).lower()
        for value in answer.headers.values():
            assert "\r" not in value
            assert "\n" not in value
    assert "owned" not in answers[-1].text


async def test_nobody_listens_to_live_news_without_a_session_of_a_person(home: House) -> None:
    token = home.add_token()
    for client in (home.client(), home.client(Authorization=f"Bearer {token}")):
        assert (await client.get("/live")).status_code == 401
