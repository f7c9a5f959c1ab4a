"""The commands of the collector: orders for people, gateways and tokens, backup and restore.

`serve` is in serve.py.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from pydantic import ValidationError

from collector import admin, auth, clock, passwords, place
from collector.config import DATA_DIR_HELP, DATABASE_URL_HELP, ConfigError, Settings, load
from collector.local import DataDirectory, UnreachableError
from collector.moments import rfc3339
from collector.tickets import Role

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
user = typer.Typer(no_args_is_help=True, help="People who may log in.")
gateway = typer.Typer(no_args_is_help=True, help="Gateways that may send.")
token = typer.Typer(no_args_is_help=True, help="API tokens for programs.")
app.add_typer(user, name="user")
app.add_typer(gateway, name="gateway")
app.add_typer(token, name="token")

DataDir = Annotated[Path | None, typer.Option("--data-dir", help=DATA_DIR_HELP)]
DatabaseUrl = Annotated[
    str | None,
    typer.Option("--database-url", help=DATABASE_URL_HELP),
]
# Where neither a collector that runs nor a setting says how gateways reach it. Not what it listens on by
# default: a shell does not know what systemd told the collector.
UNKNOWN_URL = "https://THE-COLLECTOR:8443"
SiteList = Annotated[list[str], typer.Option("--site", help="A site; repeat for several; '*' is all.")]


@app.callback()
def main_options() -> None:
    """Andon collector: folds what edge agents report into tickets."""


@app.command(
    add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_extra_args": True}
)
def serve(context: typer.Context) -> None:
    """Run the collector until SIGTERM or Ctrl-C."""
    from collector.serve import serve as run

    raise typer.Exit(run(context.args))


@user.command("add")
def user_add(
    name: str,
    role: Annotated[Role, typer.Option()],
    site: SiteList,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read it from standard input.")
    ] = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Add a person, or give a known one a new password, role and sites."""
    if password_stdin:
        password = sys.stdin.readline().rstrip("\n")
    else:
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    if (why := passwords.weakness(password)) is not None:
        _fail(why)
    password_hash = passwords.hash_password(password)
    order = _order(
        {"do": "add-person", "name": name, "role": role, "sites": site, "password_hash": password_hash}
    )
    answer = _carry_out(order, data_dir, database_url, makes=True)
    done = "added" if answer["new"] else "changed; open sessions have ended"
    if answer["disabled"]:
        done += f"; still disabled, until: collector user enable {name}"
    print(f"{name} ({role}, {', '.join(site)}) {done}.")
    if (unheard := answer["unheard"]) and isinstance(unheard, list):
        print(f"No gateway of {', '.join(unheard)} has enrolled yet: is the name right?", file=sys.stderr)


@user.command("list")
def user_list(data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Everybody who may log in."""
    for person in _rows(_carry_out(admin.ListPeople(), data_dir, database_url), "people"):
        ends = "  (disabled)" if person["disabled"] else ""
        print(f"{person['name']}\t{person['role']}\t{_sites_of(person)}{ends}")


@user.command("disable")
def user_disable(name: str, data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Let a person in no longer; open sessions end at once."""
    _carry_out(_order({"do": "disable-person", "name": name}), data_dir, database_url)
    print(f"{name} is disabled.")


@user.command("enable")
def user_enable(name: str, data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Let a person in again who was disabled."""
    _carry_out(_order({"do": "enable-person", "name": name}), data_dir, database_url)
    print(f"{name} is enabled.")


@gateway.command("add")
def gateway_add(
    site: str,
    name: str,
    url: Annotated[str | None, typer.Option(help="The collector as the gateway reaches it.")] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Print a one-off token for a new gateway, or for one whose box is replaced."""
    settings = _settings(data_dir=data_dir, database_url=database_url)
    one_off = f"enr_{auth.new_secret()}"
    order = _order({"do": "add-gateway", "site": site, "name": name, "token_hash": auth.sha256(one_off)})
    answer = _carry_out(order, data_dir, database_url)
    expires_ms = answer["expires_ms"]
    assert isinstance(expires_ms, int)
    print(f"Enrolment token for {site}/{name}, good once, until {rfc3339(expires_ms)}:")
    print(f"  {one_off}")
    print("On the gateway:")
    root = url or answer.get("url") or settings.public_url or UNKNOWN_URL
    print(f"  edge-agent enroll {root} {one_off}")
    if root == UNKNOWN_URL:
        print("No collector runs that could say its address: put in the name that is in its certificate.")
    if str(root).startswith("https:"):
        print("Where its certificate is of a private authority, add --ca-file and the authority's PEM file.")


@gateway.command("list")
def gateway_list(data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Every gateway, and when it last spoke."""
    for found in _rows(_carry_out(admin.ListGateways(), data_dir, database_url), "gateways"):
        heard = found["last_contact_ms"]
        shown = rfc3339(heard) if isinstance(heard, int) else "not heard yet"
        print(f"{found['site']}/{found['name']}\t{found['state']}\t{found['devices']} devices\t{shown}")


@gateway.command("revoke")
def gateway_revoke(site: str, name: str, data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Refuse a gateway and its unused tokens from now on, for a box that was stolen or copied."""
    order = _order({"do": "revoke-gateway", "site": site, "name": name})
    answer = _carry_out(order, data_dir, database_url)
    if answer["gateway"]:
        print(f"{site}/{name} is revoked.")
    if answer["tokens"]:
        print(f"Enrolment tokens for {site}/{name} that are good no longer: {answer['tokens']}.")


@token.command("add")
def token_add(
    role: Annotated[Role, typer.Option()],
    site: SiteList,
    label: Annotated[str, typer.Option(help="What it is for.")],
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Print an API token, once."""
    token_id, secret = auth.new_id(), auth.new_secret()
    order = _order(
        {
            "do": "add-token",
            "id": token_id,
            "secret_sha256": auth.sha256(secret),
            "role": role,
            "sites": site,
            "label": label,
        }
    )
    _carry_out(order, data_dir, database_url)
    print(f"{auth.TOKEN_PREFIX}{token_id}.{secret}")


@token.command("list")
def token_list(data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Every API token, by its label; never its secret."""
    for found in _rows(_carry_out(admin.ListTokens(), data_dir, database_url), "tokens"):
        made, revoked = found["created_ms"], found["revoked_ms"]
        assert isinstance(made, int)
        ends = f"\trevoked {rfc3339(revoked)}" if isinstance(revoked, int) else ""
        shown = f"{found['id']}\t{found['label']}\t{found['role']}\t{_sites_of(found)}"
        print(f"{shown}\tmade {rfc3339(made)}{ends}")


@token.command("revoke")
def token_revoke(
    name: Annotated[str, typer.Argument(metavar="ID|LABEL")],
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Refuse an API token from now on."""
    answer = _carry_out(_order({"do": "revoke-token", "name": name}), data_dir, database_url)
    for found in _rows(answer, "tokens"):
        print(f"{found['id']} ({found['label']}) is revoked.")


@app.command("backup")
def back_up(target: Path, data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Copy the database to TARGET, also while the collector runs; checked when it is done."""
    from collector.store import backup

    settings = _settings(data_dir=data_dir, database_url=database_url)
    database = _file_of(settings)
    _demand(database, "database")
    try:
        with _progress(f"copying {database}") as progress:
            copied = backup.back_up(database, target, progress)
    except backup.BackupError as error:
        _fail(str(error))
    print(f"{target}: {copied}; checked.")


@app.command()
def restore(source: Path, data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Put a backup in the place of the database; the collector must not run."""
    from collector.store import backup

    settings = _settings(data_dir=data_dir, database_url=database_url)
    database = _file_of(settings)
    _demand(source, "backup")
    try:
        directory = DataDirectory(settings.data_dir)
    except OSError as error:
        _fail(place.unusable(settings.data_dir, error))
    try:
        if not directory.holder:
            _fail(f"data_dir: a collector runs on {settings.data_dir}; stop it first")
        with _progress(f"copying {source}") as progress:
            stamp = rfc3339(clock.now_ms()).replace(":", "").replace("-", "")
            copied, kept = backup.restore(source, database, stamp, progress)
    except backup.BackupError as error:
        _fail(str(error))
    finally:
        directory.close()
    print(f"{database}: {copied}.")
    if kept is not None:
        print(f"What was there before is kept as {kept}.")
    print("Start the collector; agents send again what is missing.")
    print("What was revoked after the backup is good again: revoke it again.")


def _demand(file: Path, what: str) -> None:
    try:
        if file.is_file():
            return
    except OSError as error:
        _fail(f"{file} cannot be read: {error.strerror}")
    _fail(f"there is no {what} at {file}")


def _file_of(settings: Settings) -> Path:
    try:
        elsewhere = place.postgresql(settings)
    except OSError as error:
        _fail(place.unusable(settings.data_dir, error))
    if elsewhere:
        dumped = "pg_dump or pg_basebackup is its backup (docs/operations.md)"
        _fail(f"the database is a PostgreSQL ({elsewhere}): {dumped}")
    return settings.database_file


@contextlib.contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, elsewhere a line every tenth."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if console.is_terminal:
        with Progress(console=console) as bar:
            task = bar.add_task(what)
            yield lambda done, total: bar.update(task, completed=done, total=total)
        return
    tenths = 0

    def tell(done: int, total: int) -> None:
        nonlocal tenths
        if total and 10 * done // total > tenths:
            tenths = 10 * done // total
            print(f"{what}: {10 * tenths} %", file=sys.stderr, flush=True)

    yield tell


def _carry_out(
    order: admin.AnyOrder, data_dir: Path | None, database_url: str | None, *, makes: bool = False
) -> admin.Answer:
    """Says where, beside what the command prints."""
    settings = _settings(data_dir=data_dir, database_url=database_url)
    try:
        with place.found(settings, makes=makes) as found:
            try:
                answer = found.perform(order)
            except admin.OrderError as error:
                _fail(f"{error} (in {found.name})")
    except (UnreachableError, ConfigError) as error:
        _fail(str(error))
    except OSError as error:
        _fail(place.unusable(settings.data_dir, error))
    print(f"In {found.name}.", file=sys.stderr)
    return answer


def _order(fields: dict[str, object]) -> admin.AnyOrder:
    try:
        return admin.ORDER.validate_python(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or "order"
        _fail(f"{where}: {first['msg'].removeprefix('Value error, ')}")


def _rows(answer: admin.Answer, name: str) -> list[dict[str, object]]:
    found = answer[name]
    assert isinstance(found, list)
    return found


def _sites_of(row: dict[str, object]) -> str:
    sites = row["sites"]
    assert isinstance(sites, list)
    return ", ".join(sites)


def _settings(**given: object) -> Settings:
    try:
        return load(**given)
    except ConfigError as error:
        _fail(str(error))


def _fail(text: str) -> NoReturn:
    print(text, file=sys.stderr)
    raise typer.Exit(1)
