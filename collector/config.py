"""The collector's settings: what the command line and ``COLLECTOR_*`` decide, checked once and then frozen.

Every field here is described in docs/collector.md; a test compares the two.
"""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import tzlocal
from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

ENVIRONMENT_PREFIX = "COLLECTOR_"
# StateDirectory= of systemd/collector.service.
UNIT_DATA_DIR = Path("/var/lib/andon-collector")
DATABASE_NAME = "collector.sqlite3"
LOCK_NAME = "collector.lock"
SOCKET_NAME = "collector.sock"
# Of the flags that every command has.
DATA_DIR_HELP = "Where the database, lock and socket lie."
DATABASE_URL_HELP = "postgresql://... instead of SQLite in the data directory."
# libpq's own names for it.
POSTGRESQL = ("postgresql://", "postgres://")
# By which browsers leave the port out.
USUAL_PORTS = {"https": 443, "http": 80}


class ConfigError(Exception):
    """A person must act; the text says which setting, and what was expected."""


def default_data_dir() -> Path:
    """systemd's state directory: what it tells the service, and for commands typed beside it the one of our
    unit. The user's own where there is neither.
    """
    given = os.environ.get("STATE_DIRECTORY")
    if given:
        return Path(given)
    return UNIT_DATA_DIR if UNIT_DATA_DIR.is_dir() else Path.home() / ".local" / "share" / "andon-collector"


def machine_zone() -> str:
    """The time zone that this machine is set to; UTC where it has none with a name."""
    try:
        name = ZoneInfo(tzlocal.get_localzone_name() or "UTC").key
    except (ZoneInfoNotFoundError, ValueError):
        return "UTC"
    # Debian's name for it, which says no more.
    return "UTC" if name == "Etc/UTC" else name


class Settings(BaseSettings):
    """Units are in the names. Flags of ``collector serve`` win over the environment, that over the
    defaults."""

    model_config = SettingsConfigDict(env_prefix=ENVIRONMENT_PREFIX, frozen=True, extra="ignore")

    data_dir: Path = Field(default_factory=default_data_dir)
    database_url: str = ""
    listen: str = "127.0.0.1:8420"
    tls_cert: Path | None = None
    tls_key: Path | None = None
    allow_plain_http: bool = False
    public_url: str = ""
    advertise: bool = False
    trusted_proxies: str = ""
    timezone: str = Field(default_factory=machine_zone)
    log: Literal["auto", "json", "text"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    session_idle_minutes: Annotated[int, Field(ge=1, le=7 * 24 * 60)] = 600
    session_max_hours: Annotated[int, Field(ge=1, le=31 * 24)] = 24
    login_tries: Annotated[int, Field(ge=1, le=1000)] = 5
    login_window_s: Annotated[int, Field(ge=1, le=86_400)] = 300
    enrolment_hours: Annotated[int, Field(ge=1, le=24)] = 24

    clock_skew_s: Annotated[int, Field(ge=1, le=86_400)] = 30

    max_syncs: Annotated[int, Field(ge=1, le=100_000)] = 64
    gateway_rows_per_s: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    evidence_mib: Annotated[int, Field(ge=1, le=16_777_216)] = 2048
    max_live: Annotated[int, Field(ge=1, le=100_000)] = 500

    @field_validator("database_url")
    @classmethod
    def _database_url_is_of_a_postgresql(cls, given: str) -> str:
        """The lock that keeps SQLite to one writer belongs to the data directory, so its file lies there."""
        if given and not given.startswith(POSTGRESQL):
            raise ValueError("expected postgresql://user@host/name; without it SQLite lies in data_dir")
        return given

    @field_validator("listen")
    @classmethod
    def _listen_is_host_and_port(cls, given: str) -> str:
        host, colon, port = given.rpartition(":")
        if not colon or not host or not port.isdecimal() or int(port) > 65_535:
            raise ValueError("expected HOST:PORT, for example 127.0.0.1:8420 or [::]:8420")
        return given

    @field_validator("public_url")
    @classmethod
    def _public_url_is_an_origin(cls, given: str) -> str:
        return _origin(given) if given else given

    @field_validator("tls_cert", "tls_key")
    @classmethod
    def _file_is_there(cls, given: Path | None) -> Path | None:
        try:
            if given is not None and not given.is_file():
                raise ValueError(f"{given}: no such file")
        except OSError as error:
            raise ValueError(f"{given} cannot be read: {error.strerror}") from error
        return given

    @field_validator("trusted_proxies")
    @classmethod
    def _proxies_are_addresses(cls, given: str) -> str:
        """As networks: of one that is not written by its first address uvicorn would take no notice."""
        parts = [part.strip() for part in given.split(",")] if given.strip() else []
        return ",".join(str(_network(part)) for part in parts)

    @field_validator("timezone")
    @classmethod
    def _timezone_is_known(cls, given: str) -> str:
        try:
            ZoneInfo(given)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"{given!r} is not a time zone here, such as Europe/Berlin") from error
        return given

    @model_validator(mode="after")
    def _transport_is_safe(self) -> Settings:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key: give both or neither")
        if not self.tls and not self.on_loopback and not self.allow_plain_http:
            raise ValueError(
                f"listen: {self.host} is not loopback and there is no certificate; "
                "give --tls-cert and --tls-key, or --allow-plain-http when a proxy in front speaks TLS"
            )
        return self

    @property
    def host(self) -> str:
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.listen.rpartition(":")[2])

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    @property
    def tls(self) -> bool:
        return self.tls_cert is not None

    @property
    def https(self) -> bool:
        """Whether browsers reach this collector by https, here or at what stands in front of it."""
        return self.tls or self.public_url.startswith("https://")

    @property
    def on_loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def database_file(self) -> Path:
        """Where SQLite's lies, or would."""
        return self.data_dir.absolute() / DATABASE_NAME

    @property
    def database(self) -> str:
        return self.database_url or f"sqlite:///{self.database_file}"

    @property
    def database_name(self) -> str:
        """Which setting leads to it, without the password that may be in it."""
        return "database_url" if self.database_url else f"data_dir: {self.data_dir}"

    @property
    def one_writer(self) -> bool:
        """SQLite has exactly one writing process; the lock in the data directory says which."""
        return not self.database_url


def load(**given: object) -> Settings:
    """Settings from flags (``None`` = not given), environment and defaults. Raises ConfigError."""
    _refuse_unknown_names()
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        text = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{where}: {text}" if where else text) from error
    except UnicodeEncodeError as error:
        raise ConfigError(f"{ENVIRONMENT_PREFIX}... in the environment: a value is not UTF-8") from error


def _refuse_unknown_names() -> None:
    """A misspelt one would be a setting that somebody believes in."""
    for name in os.environ:
        meant = name.upper().removeprefix(ENVIRONMENT_PREFIX)
        if meant == name.upper() or meant.lower() in Settings.model_fields:
            continue
        from difflib import SequenceMatcher

        known = [setting.upper() for setting in Settings.model_fields]
        known.sort(key=lambda one: SequenceMatcher(None, meant, one).ratio(), reverse=True)
        expected = f"after {ENVIRONMENT_PREFIX} expected {', '.join(known)}"
        raise ConfigError(f"{name} in the environment: no such setting; {expected}")


def _network(given: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Raises ValueError. What no address is equal to would make everybody one address, unnoticed."""
    try:
        return ipaddress.ip_network(given, strict=False)
    except ValueError as error:
        raise ValueError(
            f"{given!r} is neither an address nor a network; "
            "expected such as 10.0.0.1 or 10.0.0.0/24, with commas between them"
        ) from error


def _origin(given: str) -> str:
    """As browsers write where a page is from: small letters, no usual port. Raises ValueError."""
    expected = "expected an address that starts with https:// (or http://), then HOST or HOST:PORT"
    try:
        parts = urlsplit(given)
        port = parts.port
        host = parts.hostname or ""
        if ":" in host:
            host = f"[{ipaddress.IPv6Address(host).compressed}]"
    except ValueError as error:
        raise ValueError(f"{expected}: {error}") from error
    if parts.scheme not in USUAL_PORTS or not re.fullmatch(r"[a-z0-9._-]+|\[.+\]", host):
        raise ValueError(f"{expected}; a name with other letters as xn--...")
    if parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError(f"{expected} and nothing else: no user, no path, no query")
    shown = "" if port in (None, USUAL_PORTS[parts.scheme]) else f":{port}"
    return f"{parts.scheme}://{host}{shown}"
