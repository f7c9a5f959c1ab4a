"""The program itself: it starts, takes orders while it runs, keeps SQLite to one writer, and stops at
once."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import sqlite3
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import trustme
from rigs import postgres
from rigs.collector_program import PASSWORD, CollectorProgram, SpeakingGateway, collector_program, run
from rigs.edge_voice import MINUTE_MS, MONDAY_MS
from rigs.wall_clock import WallClock
from rigs.web import csrf_in
from sqlalchemy import create_engine, text

from collector.config import DATABASE_NAME, LOCK_NAME, SOCKET_NAME
from collector.store.migrate import known_versions, migrate

ROOT = Path(__file__).parents[2]


def test_orders_work_before_the_server_runs_and_while_it_runs(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    added = run(
        data_dir,
        "user",
        "add",
        "alice",
        "--role",
        "lead",
        "--site",
        "north",
        "--password-stdin",
        text=PASSWORD,
    )
    assert added == "alice (lead, north) added.\n"
    with collector_program(data_dir) as collector:
        printed = collector.command("gateway", "add", "north", "gw1")
        token = next(word for word in printed.split() if word.startswith("enr_"))
        assert f"edge-agent enroll {collector.url} {token}" in printed
        atk = collector.command("token", "add", "--role", "read", "--site", "*", "--label", "x").strip()
        answer = httpx.get(f"{collector.url}/api/v1/me", headers={"Authorization": f"Bearer {atk}"})
        assert answer.json() == {"name": "token x", "role": "read", "sites": ["*"]}
        listed = collector.command("token", "list").split("\t")
        assert listed[:4] == [atk.removeprefix("atk_").partition(".")[0], "x", "read", "*"]
        assert collector.command("token", "revoke", "x") == f"{listed[0]} (x) is revoked.\n"
        answer = httpx.get(f"{collector.url}/api/v1/me", headers={"Authorization": f"Bearer {atk}"})
        assert answer.status_code == 401
        assert "\trevoked 20" in collector.command("token", "list")
        assert collector.command("user", "disable", "alice") == "alice is disabled.\n"
        assert collector.command("user", "list") == "alice\tlead\tnorth  (disabled)\n"
        assert collector.command("user", "enable", "alice") == "alice is enabled.\n"
        gateway = SpeakingGateway(collector)
        gateway.sync()
        gateway.close()
        assert collector.command("gateway", "list").startswith("north/gw1\tok\t0 devices\t")
        collector.command("gateway", "revoke", "north", "gw1")
        with pytest.raises(subprocess.CalledProcessError) as refused:
            collector.command("gateway", "revoke", "north", "gw1")
        assert "no gateway north/gw1" in refused.value.stderr
        assert collector.command("user", "list") == "alice\tlead\tnorth\n"
    assert run(data_dir, "user", "list") == "alice\tlead\tnorth\n"
    log = [json.loads(line) for line in (tmp_path / "data.log").read_text().splitlines()]
    assert {entry["event"] for entry in log} >= {"the collector listens", "the collector has stopped"}
    assert token not in str(log)
    assert atk not in str(log)


def test_nobody_else_on_the_machine_can_give_orders_or_read(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with collector_program(data_dir):
        assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
        assert stat.S_IMODE((data_dir / SOCKET_NAME).stat().st_mode) == 0o600
        assert stat.S_IMODE((data_dir / LOCK_NAME).stat().st_mode) == 0o600


def test_the_database_is_its_owners_alone_in_a_directory_that_all_may_read(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o755)
    with collector_program(data_dir):
        found = {file.name: stat.S_IMODE(file.stat().st_mode) for file in data_dir.iterdir()}
    assert {DATABASE_NAME, f"{DATABASE_NAME}-wal"} <= found.keys()
    assert set(found.values()) == {0o600}


def test_how_long_a_token_is_good_is_decided_by_the_collector_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLLECTOR_ENROLMENT_HOURS", "1")
    with collector_program(tmp_path / "data") as collector:
        # A shell does not know what systemd told the collector.
        monkeypatch.delenv("COLLECTOR_ENROLMENT_HOURS")
        before = time.time()
        until = collector.command("gateway", "add", "north", "gw1").partition("until ")[2].partition(":\n")[0]
    left_s = datetime.fromisoformat(until).timestamp() - before
    assert 3_500 < left_s < 3_700


def test_a_second_collector_on_the_same_directory_is_refused(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with collector_program(data_dir):
        second = subprocess.run(
            [
                sys.executable,
                "-m",
                "collector",
                "serve",
                "--data-dir",
                str(data_dir),
                "--listen",
                "127.0.0.1:0",
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert second.returncode == 1
        assert "another collector runs" in second.stderr


def test_a_socket_that_a_killed_collector_left_behind_is_no_hindrance(tmp_path: Path) -> None:
    data_dir = tmp_path / ("a-long-name-" * 12)
    command = [
        sys.executable,
        "-m",
        "collector",
        "serve",
        "--data-dir",
        str(data_dir),
        "--listen",
        "127.0.0.1:0",
    ]
    killed = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert killed.stdout is not None
    assert killed.stdout.readline()
    killed.kill()
    killed.wait()
    killed.stdout.close()
    assert (data_dir / SOCKET_NAME).exists()
    with collector_program(data_dir) as collector:
        assert collector.command("user", "list") == ""


def test_an_open_page_does_not_delay_the_end(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    run(
        data_dir,
        "user",
        "add",
        "bob",
        "--role",
        "technician",
        "--site",
        "*",
        "--password-stdin",
        text=PASSWORD,
    )
    with collector_program(data_dir) as collector, httpx.Client(base_url=collector.url, timeout=60) as client:
        form = client.get("/login").text
        client.post("/login", data={"csrf": csrf_in(form), "name": "bob", "password": PASSWORD})
        opened, ended = threading.Event(), threading.Event()

        def listen() -> None:
            with client.stream("GET", "/live") as stream:
                for line in stream.iter_lines():
                    if line.startswith(": listening"):
                        opened.set()
            ended.set()

        page = threading.Thread(target=listen)
        page.start()
        assert opened.wait(60)
        collector.process.send_signal(signal.SIGTERM)
        assert ended.wait(60), "the stream was ended by the server, in order"
        page.join()
        assert collector.process.wait(60) == 0


def test_a_head_is_answered_as_a_get_without_its_body_on_a_connection_that_goes_on(tmp_path: Path) -> None:
    """As monitors and load balancers ask."""
    with collector_program(tmp_path / "data") as collector:
        address = urlsplit(collector.url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
        seen: dict[tuple[str, str], tuple[int, bytes, str | None]] = {}
        for path in ("/healthz", "/readyz", "/metrics", "/api/v1/openapi.json", "/login", "/m", "/nothing"):
            for method in ("HEAD", "GET"):
                connection.request(method, path)
                answer = connection.getresponse()
                seen[method, path] = (answer.status, answer.read(), answer.getheader("Content-Type"))
            (status, body, kind), got = seen["HEAD", path], seen["GET", path]
            assert (status, body, kind) == (got[0], b"", got[2]), path
        assert [seen["HEAD", path][0] for path in ("/healthz", "/readyz", "/m")] == [200, 200, 303]
        connection.close()


def test_without_people_it_says_how_to_add_the_first(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    command = [
        sys.executable,
        "-m",
        "collector",
        "serve",
        "--data-dir",
        str(data_dir),
        "--listen",
        "127.0.0.1:0",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]
        process.terminate()
    assert f"collector user add NAME --role lead --site '*' --data-dir {data_dir}\n" in lines[1]
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("words", "text", "says"),
    [
        (
            ("user", "add", "bob", "--role", "technician", "--site", "*", "--password-stdin"),
            "short",
            "at least 10",
        ),
        (
            ("user", "add", "Bob!", "--role", "technician", "--site", "*", "--password-stdin"),
            PASSWORD,
            "name",
        ),
        (
            ("user", "add", "bob", "--role", "technician", "--site", "NORTH", "--password-stdin"),
            PASSWORD,
            "sites",
        ),
        (
            ("user", "add", "bob", "--role", "read", "--site", "*", "--password-stdin"),
            PASSWORD,
            "for API tokens",
        ),
        (("gateway", "add", "north", "gw 1"), "", "name"),
        (("gateway", "add", "north", "gw1"), "", "there is no database at "),
        (("gateway", "revoke", "north", "gw1"), "", "name it with --data-dir or --database-url"),
        (("user", "list"), "", "there is no database at "),
        (("serve", "--listen", "0.0.0.0:1"), "", "not loopback"),
    ],
)
def test_an_order_that_cannot_be_is_refused_in_one_line(
    tmp_path: Path, words: tuple[str, ...], text: str, says: str
) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        run(tmp_path / "data", *words, text=text)
    assert says in refused.value.stderr
    assert refused.value.stderr.count("\n") == 1
    assert not (tmp_path / "data").exists(), "what was refused makes nothing"


def test_a_person_of_a_site_that_no_gateway_is_of_is_added_with_a_hint(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"

    def hint(*sites: str) -> str:
        words = [word for site in sites for word in ("--site", site)]
        command = [sys.executable, "-m", "collector", "user", "add", "bob", "--role", "lead", *words]
        command += ["--password-stdin", "--data-dir", str(data_dir)]
        done = subprocess.run(command, input=PASSWORD, capture_output=True, text=True, check=True, timeout=60)
        return done.stderr

    assert "No gateway of" not in hint("*")
    with collector_program(data_dir) as collector:
        SpeakingGateway(collector, site="north").close()
        assert "No gateway of" not in hint("*", "north")
        said = "No gateway of nort, south has enrolled yet: is the name right?\n"
        assert said in hint("south", "north", "nort")


def test_an_order_finds_the_data_of_the_unit_and_says_where_it_went(tmp_path: Path) -> None:
    """As typed in a shell, which knows neither what the unit says nor what collector.env does."""
    environment = {"HOME": str(tmp_path / "home"), "PATH": os.environ["PATH"]}
    code = """
import sys
from pathlib import Path
from collector import config
from collector.__main__ import main
config.UNIT_DATA_DIR = Path(sys.argv.pop(1))
main()
"""

    def typed(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, str(tmp_path / "data"), *words]
        return subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
        )

    nowhere = typed("gateway", "add", "north", "gw1")
    file = tmp_path / "home" / ".local" / "share" / "andon-collector" / DATABASE_NAME
    assert (nowhere.returncode, nowhere.stdout) == (1, "")
    assert f"there is no database at {file}" in nowhere.stderr
    assert not (tmp_path / "home").exists()
    with collector_program(tmp_path / "data") as collector:
        added = typed("gateway", "add", "north", "gw1")
        assert f"edge-agent enroll {collector.url} enr_" in added.stdout
        assert added.stderr == f"In the collector that runs on {tmp_path}/data.\n"
        refused = typed("gateway", "revoke", "north", "gw2")
        assert f"(in the collector that runs on {tmp_path}/data)" in refused.stderr
    listed = typed("gateway", "list")
    assert listed.stderr == f"In the database {tmp_path}/data/{DATABASE_NAME}.\n"


def test_a_collector_on_a_postgresql_takes_orders_through_its_data_directory(
    tmp_path: Path, postgres_url: str
) -> None:
    url = postgres.new_database(postgres_url)
    with collector_program(tmp_path / "data", "--database-url", url) as collector:
        collector.command("gateway", "add", "north", "gw1")
        assert not (tmp_path / "data" / DATABASE_NAME).exists()
    with pytest.raises(subprocess.CalledProcessError) as refused:
        run(tmp_path / "data", "gateway", "add", "north", "gw2")
    assert f"keeps its data in {url}" in refused.value.stderr
    assert not (tmp_path / "data" / DATABASE_NAME).exists()


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


def test_a_sqlite_that_was_left_behind_is_not_taken_for_the_postgresql_of_the_collector(
    tmp_path: Path, postgres_url: str
) -> None:
    """As after a move: commands without ``--database-url``, which the collector alone was told."""
    data_dir, old, new = tmp_path / "data", tmp_path / "old.sqlite3", tmp_path / "new.sqlite3"
    add = ("user", "add", "alice", "--role", "lead", "--site", "*", "--password-stdin")
    run(data_dir, *add, text=PASSWORD)
    run(data_dir, "backup", str(old))
    url = postgres.new_database(postgres_url).replace("andon@", "andon:a-password@")
    shown = url.replace("a-password", "***")

    def refused(*words: str) -> str:
        with pytest.raises(subprocess.CalledProcessError) as refusal:
            run(data_dir, *words, text=PASSWORD)
        assert refusal.value.output == ""
        assert refusal.value.stderr.count("\n") == 1
        return str(refusal.value.stderr)

    dumped = f"the database is a PostgreSQL ({shown}): pg_dump or pg_basebackup is its backup"
    with collector_program(data_dir, "--database-url", url) as running:
        running.command("token", "add", "--role", "read", "--site", "*", "--label", "x")
        assert dumped in refused("backup", str(new))
        assert dumped in refused("restore", str(old))
    assert "a-password" not in (data_dir / LOCK_NAME).read_text()
    before = files(data_dir)
    for words in (("backup", str(new)), ("restore", str(old))):
        assert dumped in refused(*words)
    for words in (add, ("user", "list"), ("token", "add", "--role", "read", "--site", "*", "--label", "y")):
        assert f"{shown}: give --database-url, or start it first" in refused(*words)
    assert files(data_dir) == before
    assert not new.exists()
    assert run(data_dir, "token", "list", "--database-url", url).split("\t")[1] == "x"
    # Back to SQLite.
    with collector_program(data_dir) as running:
        assert running.command("user", "list") == "alice\tlead\t*\n"
    run(data_dir, "user", "disable", "alice")
    run(data_dir, "backup", str(new))
    run(data_dir, "restore", str(old))
    assert run(data_dir, "user", "list") == "alice\tlead\t*\n"


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--data-dir", "/proc/nowhere"), "data_dir: /proc/nowhere cannot be used"),
        (("--database-url", "nonsense:a-password"), "database_url: expected postgresql://user@host/name"),
        (("--database-url", "postgresql://u:a-password@127.0.0.1:1/x"), "database_url: this database cannot"),
        (("--tls-cert", __file__, "--tls-key", __file__), "tls_cert, tls_key:"),
    ],
)
def test_what_it_cannot_start_with_is_said_in_one_line(
    tmp_path: Path, flags: tuple[str, ...], says: str
) -> None:
    command = [sys.executable, "-m", "collector", "serve", "--listen", "127.0.0.1:0"]
    data_dir = () if "--data-dir" in flags else ("--data-dir", str(tmp_path / "data"))
    done = subprocess.run(
        [*command, *data_dir, *flags], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert "a-password" not in done.stderr


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A folder with files, to which nobody has access."""
    folder = tmp_path / "closed"
    folder.mkdir()
    for name in ("there.pem", DATABASE_NAME):
        (folder / name).touch()
    folder.chmod(0)
    yield folder
    folder.chmod(0o700)


def refused_like_anybody(*words: str, **environment: str) -> str:
    """What the command says as it fails; root is let into no closed folder here either."""
    mortal = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*mortal, sys.executable, "-m", "collector", *words],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ("serve", "--tls-cert", "{}/there.pem", "--tls-key", "{}/there.pem"),
            "tls_cert: {}/there.pem cannot be read: Permission denied",
        ),
        (("restore", "{}/there.pem"), "{}/there.pem cannot be read: Permission denied"),
        (("backup", "{}/new"), "{}/new cannot be written: Permission denied"),
        (("backup", "new", "--database-url", "sqlite"), "database_url: expected postgresql://"),
    ],
)
def test_a_file_in_a_closed_folder_is_named(
    tmp_path: Path, closed: Path, words: tuple[str, ...], says: str
) -> None:
    (tmp_path / DATABASE_NAME).touch()
    told = refused_like_anybody(*(word.format(closed) for word in words), "--data-dir", str(tmp_path))
    assert told.startswith(says.format(closed))


def test_of_a_closed_data_directory_its_owner_is_named(closed: Path) -> None:
    told = refused_like_anybody("gateway", "list", COLLECTOR_DATA_DIR=str(closed))
    denied = f"data_dir: {closed} cannot be used: Permission denied"
    assert told == f"{denied}; run this as its owner, {closed.owner()}\n"
    told = refused_like_anybody("backup", "new", COLLECTOR_DATA_DIR=str(closed))
    assert told == f"{denied}; run this as its owner, {closed.owner()}\n"


@pytest.mark.parametrize("broken", ["not a database", "of a later version"])
def test_a_database_that_cannot_be_opened_is_said_in_one_line(tmp_path: Path, broken: str) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o700)
    if broken == "not a database":
        (data_dir / DATABASE_NAME).write_bytes(b"x" * 5000)
    else:
        with contextlib.closing(sqlite3.connect(data_dir / DATABASE_NAME)) as made:
            made.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
            made.execute("INSERT INTO alembic_version VALUES ('9999')")
            made.commit()
    for words in (("serve", "--listen", "127.0.0.1:0"), ("user", "list")):
        with pytest.raises(subprocess.CalledProcessError) as refused:
            run(data_dir, *words)
        assert "this database cannot be used" in refused.value.stderr
        assert refused.value.stderr.count("\n") == 1


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_start_of_the_collector_upgrades_a_database_and_no_order_does(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    """As long as it has not started, the older program can go on with it."""
    data_dir, older, newest = tmp_path / "data", *sorted(known_versions())[-2:]
    data_dir.mkdir(mode=0o700)
    address, flags = f"sqlite:///{data_dir / DATABASE_NAME}", ()
    if kind == "postgresql":
        url = postgres.new_database(request.getfixturevalue("postgres_url"))
        address, flags = url.replace("postgresql:", "postgresql+psycopg:"), ("--database-url", url)
    engine = create_engine(address)

    def version() -> str:
        with engine.connect() as connection:
            return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one())

    with engine.connect() as connection:
        migrate(connection, older)
    for words in (("user", "list"), ("token", "add", "--role", "read", "--site", "*", "--label", "x")):
        with pytest.raises(subprocess.CalledProcessError) as refused:
            run(data_dir, *words, *flags)
        said = f"it is of an older collector ({older}; this one's is {newest}): start the collector, which"
        assert said in refused.value.stderr
        assert refused.value.stderr.count("\n") == 1
        assert version() == older
    with collector_program(data_dir, *flags):
        assert version() == newest
    assert run(data_dir, "user", "list", *flags) == ""
    engine.dispose()


def test_the_way_back_from_an_upgrade_is_the_backup_from_before(tmp_path: Path) -> None:
    data_dir, copy = tmp_path / "data", tmp_path / "before.sqlite3"
    run(data_dir, "user", "add", "alice", "--role", "lead", "--site", "*", "--password-stdin", text=PASSWORD)
    run(data_dir, "backup", str(copy))
    with contextlib.closing(sqlite3.connect(data_dir / DATABASE_NAME)) as upgraded:
        upgraded.execute("UPDATE alembic_version SET version_num = '9999'")
        upgraded.commit()
    newest = max(known_versions())
    for words in (("serve", "--listen", "127.0.0.1:0"), ("user", "list")):
        with pytest.raises(subprocess.CalledProcessError) as refused:
            run(data_dir, *words)
        said = (
            f"a newer collector made it (9999; this one knows up to {newest}): install that one, or restore"
        )
        assert said in refused.value.stderr
        assert refused.value.stderr.count("\n") == 1
    run(data_dir, "restore", str(copy))
    assert run(data_dir, "user", "list") == "alice\tlead\t*\n"


def test_an_order_of_a_later_command_is_refused_in_one_line_by_the_collector_that_runs(
    tmp_path: Path,
) -> None:
    """Installed, and not restarted yet."""
    later = """
import sys
from typing import Literal
from pydantic import TypeAdapter
from collector import admin
from collector.__main__ import main

class ListVisitors(admin.ListPeople):
    do: Literal["list-visitors"] = "list-visitors"

admin.ListPeople = ListVisitors
admin.ORDER = TypeAdapter(ListVisitors)
main()
"""
    with collector_program(tmp_path / "data") as collector:
        command = [sys.executable, "-c", later, "user", "list", "--data-dir", str(collector.data_dir)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
        assert "does not know such an order: restart it (in the collector that runs on " in done.stderr


def test_what_runs_for_months_has_loaded_neither_what_upgrades_nor_what_draws_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alembic is 11 MB, rich 3: the first start, which has all tables to make, begins anew after that."""
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    with collector_program(tmp_path / "data") as collector:
        # Python names the first module once for each time that it begins.
        _, first, second = re.split(r"\| +_io\n", collector.log())
    assert re.search(r"\| +alembic\n", first)
    assert re.search(r"\| +collector.server\n", second)
    assert not re.search(r"\| +(alembic|rich\.|psycopg)", second)


def test_all_addresses_are_those_of_both_protocols(tmp_path: Path) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with collector_program(tmp_path / "data", "--listen", "[::]:0", "--allow-plain-http") as collector:
        port = urlsplit(collector.url).port
        for host in ("127.0.0.1", "[::1]"):
            assert httpx.get(f"http://{host}:{port}/healthz", trust_env=False).status_code == 200


def test_tls_with_a_certificate_of_the_sites_own_authority(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    flags = ("--tls-cert", str(cert), "--tls-key", str(key))
    with collector_program(tmp_path / "data", *flags) as collector:
        assert collector.url.startswith("https://127.0.0.1:")
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        answer = httpx.get(f"{collector.url}/login", verify=trusting)
        assert "strict-transport-security" in answer.headers
        assert "; Secure" in answer.headers["set-cookie"]
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{collector.url}/login")


DAYS = timedelta(days=1)


class Authority:
    """Of a site, with the files that a collector was given."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self.cert, self.key = folder / "cert.pem", folder / "key.pem"
        self.flags = ("--tls-cert", str(self.cert), "--tls-key", str(self.key))

    def issue(self, left: timedelta, *, kind: trustme.KeyType = trustme.KeyType.ECDSA) -> None:
        """One that is good for so long from now on."""
        ends = datetime.now(UTC) + left
        issued = self.ca.issue_cert(
            "127.0.0.1", "localhost", not_before=ends - 90 * DAYS, not_after=ends, key_type=kind
        )
        self.cert.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
        self.key.write_bytes(issued.private_key_pem.bytes())

    def served(self, url: str, *, named: bool) -> bytes:
        """The certificate as a peer sees it: one that names the server, or one that knows an address."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        # Whoever has both kinds serves the first that the peer can use.
        context.set_ciphers("ECDHE+aRSA:ECDHE+aECDSA")
        address = urlsplit(url)
        with (
            socket.create_connection((address.hostname, address.port), timeout=30) as link,
            context.wrap_socket(link, server_hostname="localhost" if named else None) as peer,
        ):
            return peer.getpeercert(binary_form=True) or b""

    def on_disk(self) -> bytes:
        return ssl.PEM_cert_to_DER_cert(
            self.cert.read_text().partition("-----END")[0] + "-----END CERTIFICATE-----"
        )


def said(collector: CollectorProgram, words: str, times: int = 1) -> dict[str, str]:
    """The last line of its log with these words, once there are so many."""
    ends = time.monotonic() + 30
    while time.monotonic() < ends:
        found = [json.loads(line) for line in collector.log().splitlines() if words in line]
        if len(found) >= times:
            line: dict[str, str] = found[-1]
            return line
        time.sleep(0.05)
    raise AssertionError(f"{words!r}: {collector.log()}")


@pytest.mark.parametrize("kind", trustme.KeyType)
def test_a_renewed_certificate_is_served_after_sighup_and_nobody_is_cut_off(
    tmp_path: Path, kind: trustme.KeyType
) -> None:
    site = Authority(tmp_path)
    site.issue(60 * DAYS, kind=trustme.KeyType.RSA)
    trusting = ssl.create_default_context()
    site.ca.configure_trust(trusting)
    with (
        collector_program(tmp_path / "data", *site.flags) as collector,
        httpx.Client(base_url=collector.url, verify=trusting, trust_env=False) as agent,
    ):
        agent.get("/healthz").raise_for_status()
        before = site.on_disk()
        site.issue(80 * DAYS, kind=kind)
        assert site.served(collector.url, named=True) == before
        collector.process.send_signal(signal.SIGHUP)
        said(collector, "the certificate was loaded again")
        assert site.on_disk() != before
        assert site.served(collector.url, named=True) == site.on_disk()
        assert site.served(collector.url, named=False) == site.on_disk()
        agent.get("/healthz").raise_for_status()
        assert httpx.get(f"{collector.url}/healthz", verify=trusting, trust_env=False).is_success
        assert "ends soon" not in collector.log()


def test_a_new_certificate_that_cannot_be_used_leaves_the_old_one_and_says_why(tmp_path: Path) -> None:
    site = Authority(tmp_path)
    site.issue(60 * DAYS)
    before, key = site.on_disk(), site.key.read_bytes()
    with collector_program(tmp_path / "data", *site.flags) as collector:
        site.issue(80 * DAYS)
        site.key.write_bytes(key)
        refused = "the new certificate cannot be used"
        for times, why in enumerate(("MISMATCH", "No such file", "PEM"), start=1):
            if why == "No such file":
                site.key.unlink()
            elif why == "PEM":
                site.key.write_text("-----BEGIN")
            collector.process.send_signal(signal.SIGHUP)
            line = said(collector, refused, times)
            assert why in line["why"], line
            assert (line["tls_cert"], line["tls_key"]) == (str(site.cert), str(site.key))
            for named in (True, False):
                assert site.served(collector.url, named=named) == before


@pytest.mark.parametrize(
    ("left", "words"), [(-1 * DAYS, "the certificate has ended"), (13 * DAYS, "the certificate ends soon")]
)
def test_a_certificate_that_has_ended_or_soon_will_is_named_at_the_start_and_when_it_comes(
    tmp_path: Path, left: timedelta, words: str
) -> None:
    site = Authority(tmp_path)
    site.issue(left)
    with collector_program(tmp_path / "data", *site.flags) as collector:
        line = said(collector, words)
        assert (line["level"], line["tls_cert"]) == ("warning", str(site.cert))
        assert abs(datetime.fromisoformat(line["ends"]) - datetime.now(UTC) - left) < timedelta(minutes=5)
        collector.process.send_signal(signal.SIGHUP)
        said(collector, words, times=2)


def test_sighup_without_a_certificate_ends_nothing(tmp_path: Path) -> None:
    with collector_program(tmp_path / "data") as collector:
        collector.process.send_signal(signal.SIGHUP)
        said(collector, "there is no certificate")
        assert httpx.get(f"{collector.url}/healthz").is_success


def test_what_operations_md_installs_prints_a_line_that_works_on_the_gateway(tmp_path: Path) -> None:
    """Its lines, with another folder and port."""
    site = Authority(tmp_path)
    site.issue(60 * DAYS)
    text = (ROOT / "docs" / "operations.md").read_text()
    lines = re.findall(r"^(?:install|printf) .*collector\.env.*$", text, re.MULTILINE)
    script = "\n".join(lines).replace("/etc/andon", str(tmp_path))
    subprocess.run(["sh", "-euc", f"umask 022\n{script}"], check=True)
    file = tmp_path / "collector.env"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    told = dict(line.split("=", 1) for line in file.read_text().splitlines())
    (typed,) = re.findall(r"^sudo -u andon (\S+/)?(edge-agent enroll \S+) enr_.*$", text, re.MULTILINE)
    with collector_program(tmp_path / "data", environment=told) as collector:
        printed = collector.command("gateway", "add", "north", "gw1")
        assert f"\n  {typed[1]} enr_" in printed
        assert "--ca-file" in printed


def test_a_collector_that_does_not_run_cannot_say_its_address(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with collector_program(data_dir):
        pass
    printed = run(data_dir, "gateway", "add", "north", "gw1")
    assert "\n  edge-agent enroll https://THE-COLLECTOR:8443 enr_" in printed
    assert "No collector runs" in printed
    assert "127.0.0.1" not in printed


CHUNKED = b"POST /api/v1/sync HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "begun",
    [
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: ",
        b"GET /healthz?",
        CHUNKED + b"1;",
        CHUNKED + b"0\r\nX-Long: ",
    ],
    ids=["header", "address", "chunk extension", "trailer"],
)
def test_what_has_no_end_is_cut_off(tmp_path: Path, begun: bytes) -> None:
    with collector_program(tmp_path / "data") as collector:
        address = urlsplit(collector.url)
        with socket.create_connection((address.hostname, address.port), timeout=60) as peer:
            peer.sendall(begun)
            # Far more than lies in the buffers of both sides.
            with pytest.raises(ConnectionError):
                peer.sendall(b"a" * (32 << 20))
        assert httpx.get(f"{collector.url}/healthz").status_code == 200


def test_an_answer_comes_in_one_piece(tmp_path: Path) -> None:
    """Each piece is a packet, and a call of the system here and there."""
    with collector_program(tmp_path / "data") as collector:
        address = urlsplit(collector.url)
        with socket.create_connection((address.hostname, address.port), timeout=60) as peer:
            for _ in range(100):
                peer.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                head, _, body = peer.recv(64 << 10).partition(b"\r\n\r\n")
                assert (head[:15], body) == (b"HTTP/1.1 200 OK", b"ok\n")
            # The last one, too, goes before the door is shut.
            peer.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert peer.recv(64 << 10).endswith(b"\r\n\r\nok\n")
            assert peer.recv(1) == b""


def test_a_clock_that_is_put_right_while_it_runs_puts_right_what_was_dated_by_it(tmp_path: Path) -> None:
    wall = WallClock(tmp_path)
    wall.is_off_by(-2_400)
    with collector_program(tmp_path / "data", environment=wall.environment) as collector:
        token = collector.command("token", "add", "--role", "read", "--site", "*", "--label", "x").strip()
        reader = httpx.Client(base_url=collector.url, headers={"Authorization": f"Bearer {token}"})

        def off_s() -> float:
            items = reader.get("/api/v1/tickets?site=north").raise_for_status().json()["items"]
            # The gateway's clock may have one too, until the collector has seen that its own was wrong.
            (ticket,) = (one for one in items if one["device"] == "printer-1")
            begun = datetime.fromisoformat(ticket["occurred_at"])
            return begun.timestamp() - (MONDAY_MS + raised * MINUTE_MS) / 1000

        gateway = SpeakingGateway(collector)
        raised = gateway.minute
        gateway.voice.raises(raised)
        gateway.sync()
        assert -2_401 < off_s() < -2_300
        wall.is_off_by(0)
        # It looks every second.
        ends = time.monotonic() + 30
        while abs(off_s()) > 2 and time.monotonic() < ends:
            time.sleep(0.5)
            gateway.sync()
        assert abs(off_s()) <= 2
        gateway.close()
        reader.close()


def test_systemd_is_told_when_it_is_ready_and_that_it_lives(tmp_path: Path) -> None:
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(address))
        systemd.settimeout(60)
        environment = os.environ | {"NOTIFY_SOCKET": str(address)}
        command = [sys.executable, "-m", "collector", "serve", "--data-dir", str(tmp_path / "data")]
        with subprocess.Popen(
            [*command, "--listen", "127.0.0.1:0"],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            heard: list[bytes] = []
            while not (any(b"READY=1" in line for line in heard) and b"WATCHDOG=1" in heard):
                heard.append(systemd.recv(1024))
            process.terminate()
            while b"STOPPING=1" not in heard:
                heard.append(systemd.recv(1024))
        assert process.returncode == 0
