"""agent.toml and the environment become frozen settings; a mistake is named with file and key."""

from __future__ import annotations

import os
import re
import ssl
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from edge_agent import across, roots, transports
from edge_agent import profile as profiles
from edge_agent.across import Across, SiteCondition
from edge_agent.device import Device
from edge_agent.journal_caps import DAY_MS, MIB, Caps
from edge_agent.profile import Finding, Profile, ProfileError
from edge_agent.provision.address import AddressError, check_url
from edge_agent.roots import Tree
from edge_agent.transports import BusSettings
from edge_agent.wire import Id

ENVIRONMENT_PREFIX = "EDGE_AGENT_"
# No variable is named so.
NO_ENVIRONMENT = "="
DEFAULT_FILE = Path("/etc/andon/agent.toml")
DEFAULT_DATA_DIR = Path("/var/lib/edge-agent")
# What evidence may have of the whole disk: one part of so many.
EVIDENCE_PART = 8


class ConfigError(Exception):
    """A person must act; the text says where (file and key) and what was expected."""


class Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CollectorTable(Table):
    url: str = Field(default="", description="where the collector is, https://host:port; empty: as enrolled")
    ca_file: Path | None = Field(
        default=None, description="PEM file of the private CA that signed the collector"
    )
    allow_plain_http: bool = Field(default=False, description="http off loopback; for a trusted wire alone")


class AgentTable(Table):
    site: Id | None = Field(default=None, description="the site's id; missing: as enrolled")
    gateway: Id | None = Field(default=None, description="this gateway's id; missing: as enrolled")
    data_dir: Path = Field(default=DEFAULT_DATA_DIR, description="journal and credential; 0700")
    profiles_dir: Path | None = Field(
        default=None, description="a site's own profiles; a file here wins over the shipped one of that name"
    )
    unreachable_after_s: float = Field(
        default=30.0, ge=1, le=3600, description="a device that cannot be read for so long is `unreachable`"
    )


class JournalTable(Table):
    max_mib: int = Field(default=256, ge=1, le=65_536, description="the file at most, in MiB")
    evidence_mib: int | None = Field(
        default=None, ge=0, le=65_536, description="evidence in it at most, in MiB; missing: a quarter"
    )
    resend_days: int = Field(
        default=30, ge=1, le=3_650, description="days for which what was sent can be sent again"
    )

    ballast_mib: int = Field(
        default=16, ge=0, le=1_024, description="room on the disk that is kept for when it is full, in MiB"
    )

    def caps(self, disk_bytes: int) -> Caps:
        evidence_mib = self.max_mib / 4 if self.evidence_mib is None else self.evidence_mib
        return Caps(
            journal_bytes=self.max_mib * MIB,
            evidence_bytes=int(evidence_mib * MIB),
            horizon_ms=self.resend_days * DAY_MS,
        ).on_a_disk_of(disk_bytes)


class EvidenceTable(Table):
    max_mib: int = Field(
        default=64, ge=1, le=65_536, description="the file at most, in MiB; an eighth of the disk in any case"
    )
    memory_mib: int = Field(
        default=8, ge=1, le=1_024, description="what devices said last, in memory, all together, in MiB"
    )
    before_s: float = Field(default=60.0, ge=1, le=3_600, description="seconds kept from before a raise")
    after_s: float = Field(default=10.0, ge=1, le=600, description="seconds kept from after it")

    def max_bytes(self, disk_bytes: int) -> int:
        return min(self.max_mib * MIB, disk_bytes // EVIDENCE_PART)


class DeviceTable(Table):
    id: Id = Field(description="unique in the site; does not depend on the gateway")
    bus: Id = Field(description="name of the [[bus]] that it hangs on")
    profile: str = Field(description="file name, without .yaml, of its profile")
    place: str = Field(
        default="",
        pattern=r"^$|^[^/\s][^/]*(/[^/\s][^/]*){0,2}$",
        max_length=200,
        description="area/line/station inside the site",
    )
    unit: int = Field(default=1, ge=0, le=255, description="Modbus unit id")
    max_registers: int | None = Field(
        default=None, ge=1, le=125, description="modbus: it answers no more registers in one request"
    )
    topic: str = Field(default="", max_length=256, description="mqtt: what {topic} in the profile stands for")
    fed_by: list[Id] = Field(
        default=[],
        description="devices without which this one is silent: a power supply, an I/O module, a controller",
    )
    preset: Id | None = Field(default=None, description="one of the profile's presets")
    set: dict[str, Any] = Field(
        default_factory=dict, description="values laid over the profile's reads, signals and conditions"
    )


class File(BaseSettings):
    """agent.toml as written; EDGE_AGENT_<TABLE>__<KEY> in the environment wins."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter="__"
    )

    collector: CollectorTable = CollectorTable()
    agent: AgentTable = AgentTable()
    journal: JournalTable = JournalTable()
    evidence: EvidenceTable = EvidenceTable()
    bus: list[dict[str, Any]] = []
    device: list[DeviceTable] = []
    condition: list[SiteCondition] = []

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    path: Path
    collector: CollectorTable
    agent: AgentTable
    journal: JournalTable
    evidence: EvidenceTable
    buses: tuple[BusSettings, ...]
    devices: tuple[Device, ...]
    # Conditions over signals of several devices.
    across: tuple[Across, ...]
    # As they were written: what somebody else would need to have the same devices.
    bus_tables: tuple[Mapping[str, Any], ...]
    device_tables: tuple[DeviceTable, ...]
    condition_tables: tuple[SiteCondition, ...]

    def tree(self, gateway: str) -> Tree:
        """What hangs on what."""
        return roots.tree(
            gateway,
            self.devices,
            {bus.name: bus.adapter for bus in self.buses},
            unreachable_after_s=self.agent.unreachable_after_s,
        )

    def on_bus(self, name: str) -> tuple[Device, ...]:
        return tuple(device for device in self.devices if device.bus == name)


def load(path: Path) -> Settings:
    """Raises ConfigError."""
    file = _read(path)
    _check_collector(path, file.collector)
    try:
        folders = ProfileFolders.of(file.agent.profiles_dir)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return _settings(path, file, folders)


def check_ca_file(path: Path, collector: CollectorTable) -> None:
    """Raises ConfigError. No part of ``load``: to watch takes no authority."""
    try:
        ssl.create_default_context(cafile=collector.ca_file)
    except (OSError, ValueError) as error:  # an SSLError is an OSError; a NUL in the name is a ValueError
        raise ConfigError(
            f"{path}: collector.ca_file: {collector.ca_file} is not a PEM certificate file: {error}"
        ) from error


def own_tables(path: Path) -> tuple[CollectorTable, AgentTable]:
    """What ``path`` says of the collector and of the gateway itself, or the defaults without such a file; its
    buses and profiles are not looked at. Raises ConfigError.
    """
    if not os.access(path, os.F_OK):
        return CollectorTable(), AgentTable()
    file = _read(path)
    return file.collector, file.agent


def of_tables(path: Path, tables: Mapping[str, Any], profiles: Profiles, *, opened: bool = True) -> Settings:
    """What ``load`` would make of these tables in the file ``path``; the environment has no say.

    ``opened`` False: no bus will be, so that nothing has to be there. Raises ConfigError.
    """
    try:
        file = File(_env_prefix=NO_ENVIRONMENT, **tables)
    except ValidationError as error:
        raise ConfigError(_explain(path, "", error, File)) from error
    return _settings(path, file, profiles, opened=opened)


def _settings(path: Path, file: File, profiles: Profiles, *, opened: bool = True) -> Settings:
    buses, devices = _equipment(path, file.bus, file.device, profiles)
    if opened:
        _check_buses(path, buses, devices)
    for number, device in enumerate(devices):
        if device.id == file.agent.gateway:
            raise ConfigError(
                f"{path}: device[{number}].id: {device.id!r} is the gateway's own id; give another"
            )
    _check_feeders(path, devices)
    for number, problem in across.problems(file.condition, devices):
        raise ConfigError(f"{path}: condition[{number}] ({file.condition[number].key}): {problem}")
    return Settings(
        path=path,
        collector=file.collector,
        agent=file.agent,
        journal=file.journal,
        evidence=file.evidence,
        buses=buses,
        devices=devices,
        across=across.across(file.condition),
        bus_tables=tuple(file.bus),
        device_tables=tuple(file.device),
        condition_tables=tuple(file.condition),
    )


class Profiles(Protocol):
    """Where a device's profile comes from."""

    def load(
        self, name: str, *, preset: str | None = None, overlay: Mapping[str, object] | None = None
    ) -> Profile:
        """Raises ConfigError for an unknown name, ProfileError for what is wrong inside."""


def _equipment(
    path: Path,
    bus_tables: Sequence[Mapping[str, Any]],
    device_tables: Sequence[DeviceTable],
    profiles: Profiles,
) -> tuple[tuple[BusSettings, ...], tuple[Device, ...]]:
    buses = tuple(_bus(path, number, table) for number, table in enumerate(bus_tables))
    _refuse_doubles(path, "bus", "name", [bus.name for bus in buses])
    # What claims nothing stands for itself.
    _refuse_doubles(path, "bus", "port", [bus.claims or f"bus {bus.name}" for bus in buses])
    _refuse_doubles(path, "device", "id", [device.id for device in device_tables])
    by_name = {bus.name: bus for bus in buses}
    devices = tuple(
        _device(path, number, table, by_name, profiles) for number, table in enumerate(device_tables)
    )
    return buses, devices


def _check_buses(path: Path, buses: Sequence[BusSettings], devices: Sequence[Device]) -> None:
    for number, bus in enumerate(buses):
        try:
            bus.check([device for device in devices if device.bus == bus.name])
        except ValueError as error:
            raise ConfigError(f"{path}: bus[{number}] ({bus.name}): {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileFolders:
    """Where profiles are looked for, first match wins."""

    folders: tuple[Path, ...]

    @classmethod
    def of(cls, own: Path | None) -> ProfileFolders:
        try:
            may_be_read = own is None or (own.is_dir() and os.access(own, os.R_OK | os.X_OK))
        except PermissionError:  # of a folder above it
            may_be_read = False
        if not may_be_read:
            raise ConfigError(f"agent.profiles_dir: {own} is not a folder that may be read")
        return cls(folders=(*([own] if own else []), shipped_profiles()))

    def names(self) -> list[str]:
        return sorted({file.stem for folder in self.folders for file in folder.glob("*.yaml")})

    def load(
        self, name: str, *, preset: str | None = None, overlay: Mapping[str, object] | None = None
    ) -> Profile:
        """Raises ConfigError for an unknown name, ProfileError for what is wrong inside."""
        return profiles.parse(self.text(name), name=name, preset=preset, overlay=overlay)

    def text(self, name: str) -> str:
        """Raises ConfigError for an unknown name, ProfileError when it cannot be read."""
        for folder in self.folders:
            file = folder / f"{name}.yaml"
            if re.fullmatch(r"[a-z0-9][a-z0-9-]*", name) and file.is_file():
                return _text(file)
        raise ConfigError(f"unknown profile {name!r}; there are: {', '.join(self.names())}")


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileError(Finding(text=f"{file} cannot be read: {error}")) from error


def shipped_profiles() -> Path:
    spec = find_spec("device_profiles")
    if spec is None or spec.origin is None:
        raise ConfigError("the folder device_profiles is not installed beside edge_agent")
    return Path(spec.origin).parent


def _read(path: Path) -> File:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: there is no such file; name yours with --config") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    except (ValueError, RecursionError) as error:
        # A number of 5,000 digits, or 1,000 brackets one in another.
        raise ConfigError(f"{path}: not TOML: a number too long, or nested too deep") from error
    for name in os.environ:
        head = name.removeprefix(ENVIRONMENT_PREFIX).split("__")[0].lower()
        if name.startswith(ENVIRONMENT_PREFIX) and head not in File.model_fields:
            raise ConfigError(
                f"{name} in the environment: no such setting; expected {_choices(File.model_fields)}"
            )
    try:
        return File(**table)
    except ValidationError as error:
        raise ConfigError(_explain(path, "", error, File)) from error
    except (SettingsError, RecursionError, UnicodeEncodeError) as error:
        # What stands in the environment for a table is JSON, and all of it is UTF-8.
        raise ConfigError(f"{ENVIRONMENT_PREFIX}... in the environment: {error}") from error


def _check_collector(path: Path, collector: CollectorTable) -> None:
    try:
        if collector.url:
            check_url(collector.url, allow_plain_http=collector.allow_plain_http)
    except AddressError as error:
        raise ConfigError(f"{path}: collector.url: {error}") from error


def _bus(path: Path, number: int, table: Mapping[str, Any]) -> BusSettings:
    where = f"bus[{number}]"
    name = table.get("transport")
    module = transports.load(name) if isinstance(name, str) else None
    if module is None:
        raise ConfigError(
            f"{path}: {where}.transport: {name!r} is not a transport; expected {_choices(transports.names())}"
        )
    try:
        settings: BusSettings = module.Settings.model_validate(table)
    except ValidationError as error:
        raise ConfigError(_explain(path, where, error, module.Settings)) from error
    return settings


def _device(
    path: Path, number: int, table: DeviceTable, buses: Mapping[str, BusSettings], folders: Profiles
) -> Device:
    where = f"device[{number}] ({table.id})"
    bus = buses.get(table.bus)
    if bus is None:
        raise ConfigError(
            f"{path}: {where}.bus: no [[bus]] is named {table.bus!r}; there are: {_choices(buses)}"
        )
    try:
        profile = folders.load(table.profile, preset=table.preset, overlay=table.set)
    except ConfigError as error:
        raise ConfigError(f"{path}: {where}.profile: {error}") from error
    except ProfileError as error:
        raise ConfigError(f"{path}: {where}: profile {table.profile}: {error}") from error
    if not bus.carries(profile):
        raise ConfigError(
            f"{path}: {where}.bus: {table.bus!r} is {bus.transport}, but profile {profile.name} speaks "
            f"{_choices(profile.transports)}"
        )
    wants_topic = any("{topic}" in getattr(read, "topic", "") for read in profile.reads.values())
    if wants_topic and not table.topic:
        raise ConfigError(
            f"{path}: {where}.topic: missing; profile {profile.name} reads topics with {{topic}}"
        )
    return Device(
        id=table.id,
        place=table.place,
        bus=table.bus,
        profile=profile,
        fed_by=tuple(dict.fromkeys(table.fed_by)),
        unit=table.unit,
        max_registers=table.max_registers,
        topic=table.topic,
    )


def _check_feeders(path: Path, devices: Sequence[Device]) -> None:
    known = {device.id for device in devices}
    for number, device in enumerate(devices):
        for feeder in device.fed_by:
            if feeder not in known:
                raise ConfigError(
                    f"{path}: device[{number}] ({device.id}).fed_by: no [[device]] has the id {feeder!r}"
                )
    found = roots.ring({device.id: device.fed_by for device in devices})
    if found:
        raise ConfigError(f"{path}: device.fed_by: {' is fed by '.join(found)}: nothing may feed itself")


def _refuse_doubles(path: Path, table: str, key: str, values: list[str]) -> None:
    for number, value in enumerate(values):
        first = values.index(value)
        if first != number:
            raise ConfigError(f"{path}: {table}[{number}].{key}: {value!r} is taken by {table}[{first}]")


def _explain(path: Path, where: str, error: ValidationError, model: type[BaseModel]) -> str:
    lines = []
    for found in error.errors(include_url=False):
        keys = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in found["loc"]]
        key = (where + "".join(keys)).lstrip(".")
        if found["type"] == "extra_forbidden":
            known = _choices(_siblings(model, found["loc"]))
            lines.append(f"{path}: {key}: unknown key; expected one of {known}")
        elif found["type"] == "missing":
            lines.append(f"{path}: {key}: missing")
        else:
            lines.append(f"{path}: {key}: {found['msg']}, not {found['input']!r}")
    return "\n".join(lines)


def _siblings(model: type[BaseModel], loc: tuple[int | str, ...]) -> Iterable[str]:
    """The keys that stand beside ``loc`` in ``model``."""
    inner: Any = model
    for part in loc[:-1]:
        if isinstance(part, str):
            field = inner.model_fields.get(part)
            if field is None:
                return ()
            arguments = [field.annotation, *getattr(field.annotation, "__args__", ())]
            models = [a for a in arguments if isinstance(a, type) and issubclass(a, BaseModel)]
            inner = models[0] if models else inner
    return sorted(inner.model_fields)


def _choices(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
